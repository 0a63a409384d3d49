"""Which transforms of ``/tf`` are poses of the robot: one rule for recordings and for live nodes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from depth_ros.errors import TransformError
from depth_ros.geometry.rigid import TransformTree

SAME = 1e-6
"""Drivers that publish calibration on /tf repeat it exactly; what moves more than rounding is a joint or the robot."""
_MAX_HELD = 100


def joined(tree: TransformTree, frames: Iterable[str]) -> bool:
    """Whether a chain of transforms joins all of these frames."""
    first, *others = frames
    try:
        for other in others:
            tree.lookup(first, other)
    except TransformError:
        return False
    return True


def tells_pose(parent: str, child: str, tree: TransformTree, sensor_frame: str, others: Iterable[str] = ()) -> bool:
    """Whether a transform goes from outside the robot to a frame that carries the sensor (``odom`` to ``base_link``).

    Args:
        parent: frame.
        child: frame.
        tree: static transforms.
        sensor_frame: a frame on the robot.
        others: further frames on the robot: what moves between them and the sensor is a joint.
    """
    on_robot = (sensor_frame, *others)
    return joined(tree, (sensor_frame, child)) and not any(joined(tree, (frame, parent)) for frame in on_robot)


@dataclass(eq=False)
class _Seen:
    """What is known of one transform: how it was at first, whether it moves, whether it tells poses, the newest."""

    first: tuple[float, ...]
    moves: bool = False
    tells: bool = False
    held: deque[Any] = field(default_factory=lambda: deque(maxlen=_MAX_HELD))


class LivePoses:
    """Passes on those transforms of a running ``/tf`` that are poses of the robot; costs little for all others.

    Where ``/tf_static`` does not join camera and lidar, calibration is on ``/tf`` too. A recording is then searched to
    its end for what moves; here a transform is taken for calibration until it has moved once. What cannot be judged
    yet is held, and passed on when it turns out to be a pose.
    """

    def __init__(self, take: Callable[[Any], None]) -> None:
        """Begin without frames; until those of both sensors are known nothing is passed on.

        Args:
            take: called with each ``TransformStamped`` that is a pose of the robot; they are not decoded yet.
        """
        self._take = take
        self._camera_frame: str | None = None
        self._lidar_frame: str | None = None
        self._static: set[tuple[str, str]] = set()
        self._seen: dict[tuple[str, str], _Seen] = {}

    def set_camera(self, frame_id: str) -> None:
        """Say which frame the camera has; '' = it does not name any."""
        if frame_id != self._camera_frame:
            self._camera_frame = frame_id
            self._judge()

    def set_lidar(self, frame_id: str) -> None:
        """Say which frame the lidar has."""
        if frame_id != self._lidar_frame:
            self._lidar_frame = frame_id
            self._judge()

    def add_static(self, parent: str, child: str) -> None:
        """Take in that two frames are joined for good."""
        if (parent, child) not in self._static:
            self._static.add((parent, child))
            self._judge()

    def add(self, transform: Any) -> None:
        """Take in a ``TransformStamped`` of ``/tf``; one that is not finite is passed over."""
        pair = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
        seen = self._seen.get(pair)
        if seen is not None and seen.tells:
            self._take(transform)
            return
        if seen is not None and seen.moves:
            seen.held.append(transform)
            return
        values = _numbers(transform.transform)
        if not math.isfinite(sum(values)):
            return
        is_new = seen is None
        if is_new:
            seen = self._seen[pair] = _Seen(values)
        seen.held.append(transform)
        seen.moves = any(abs(value - known) > SAME for value, known in zip(values, seen.first, strict=True))
        if is_new or seen.moves:
            self._judge()

    def _judge(self) -> None:
        if self._camera_frame is None or self._lidar_frame is None:
            return
        tree = _tree(self._static)
        complete = joined(tree, (self._camera_frame or self._lidar_frame, self._lidar_frame))
        if not complete:
            tree = _tree([*self._static, *(pair for pair, seen in self._seen.items() if not seen.moves)])
        cameras = [self._camera_frame] if self._camera_frame else []
        for pair, seen in self._seen.items():
            seen.tells = (complete or seen.moves) and tells_pose(*pair, tree, self._lidar_frame, cameras)
            while seen.tells and seen.held:
                self._take(seen.held.popleft())


def _tree(pairs: Iterable[tuple[str, str]]) -> TransformTree:
    tree = TransformTree()
    for parent, child in pairs:
        tree.add(parent, child, np.eye(4))  # who is joined with whom is all that counts
    return tree


def _numbers(transform: Any) -> tuple[float, ...]:
    moved, turned = transform.translation, transform.rotation
    return moved.x, moved.y, moved.z, turned.x, turned.y, turned.z, turned.w
