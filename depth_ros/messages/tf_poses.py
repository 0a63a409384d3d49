"""Which transforms of ``/tf`` are poses of the robot: one rule for recordings and for live nodes."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from depth_ros.errors import MessageError, OldTransformError, TransformError
from depth_ros.geometry.rigid import TransformTree, rigid
from depth_ros.geometry.transform_buffer import TransformBuffer
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.odometry import decode_transform
from depth_ros.types import Pose

SAME = 1e-6
"""Drivers that publish calibration on /tf repeat it exactly; what moves more than rounding is a joint or the robot."""
_MAX_HELD = 100
_MAX_PAIRS = 1000  # trackers broadcast ever new frames
_MAX_WAIT_NS = 1_000_000_000
_ODOMETRY = 'odom'  # in the name of a frame: motion in it is continuous


def joined(tree: TransformTree, frames: Iterable[str]) -> bool:
    """Whether a chain of transforms joins all of these frames."""
    first, *others = frames
    try:
        for other in others:
            tree.lookup(first, other)
    except TransformError:
        return False
    return True


@dataclass(eq=False)
class _Seen:
    """What is known of one transform: how it was at first, whether it moves, what it is good for, the newest.

    Attributes:
        first: translation and quaternion of the first.
        moves: whether it has been another since.
        root: where it tells poses, the frame that they are told in; else ''.
        is_above: whether poses are composed with it.
        held: the newest, while it is good for nothing.
        heard: the how-manieth of all transforms the newest was.
    """

    first: tuple[float, ...]
    moves: bool = False
    root: str = ''
    is_above: bool = False
    held: deque[Any] = field(default_factory=lambda: deque(maxlen=_MAX_HELD))
    heard: int = 0


class TfPoses:
    """Finds the poses of the robot among the transforms of ``/tf``, as they come; costs little for all others.

    Where ``/tf_static`` does not join camera and lidar, calibration is on ``/tf`` too; there a transform is taken for
    calibration until it has moved once. What cannot be judged yet is held, and passed on when it turns out to be a
    pose.

    Where more than one transform moves above the sensors (``odom`` to ``base_footprint`` to the body of a legged robot,
    a body to its turning head), they are composed, up to the first frame with ``odom`` in its name: what is above that
    jumps when the robot finds out where it is (REP 105). Without such a frame the lowest stands alone. A composed pose
    has the stamp of the lowest transform, and is passed on once all others reach that stamp.
    """

    def __init__(self, take: Callable[[Pose], None]) -> None:
        """Begin without frames; until those of both sensors are known nothing is passed on.

        Args:
            take: called with each pose of the robot.
        """
        self._take = take
        self._camera_frame: str | None = None
        self._lidar_frame: str | None = None
        self._static: dict[tuple[str, str], np.ndarray] = {}
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._num_heard = 0
        self._above = TransformBuffer()
        self._waiting: deque[tuple[str, Pose]] = deque(maxlen=_MAX_HELD)  # frame to tell the pose in, pose

    def set_camera(self, frame_id: str) -> None:
        """Say which frame the camera has; '' = it does not name any."""
        if frame_id != self._camera_frame:
            self._camera_frame = frame_id
            self._judge()

    def set_lidar(self, frame_id: str) -> None:
        """Say which frame the lidar has; without a lidar, the camera."""
        if frame_id != self._lidar_frame:
            self._lidar_frame = frame_id
            self._judge()

    def add_static(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Take in how two frames are joined for good."""
        known = self._static.get((parent, child))
        if known is None or not np.array_equal(known, parent_from_child):
            self._static[parent, child] = parent_from_child
            self._judge()

    def add(self, transform: Any) -> None:
        """Take in a ``TransformStamped`` of ``/tf``; one that is not finite is passed over."""
        pair = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
        seen = self._seen.get(pair)
        self._num_heard += 1
        if seen is not None:
            seen.heard = self._num_heard
            if seen.root or seen.is_above:
                self._use(seen, transform)
                return
            if seen.moves:
                seen.held.append(transform)
                return
        values = _numbers(transform.transform)
        if not math.isfinite(sum(values)) or not any(values[3:]):
            return
        is_new = seen is None
        if is_new:
            if len(self._seen) >= _MAX_PAIRS:
                self._forget_half()
            seen = self._seen[pair] = _Seen(values, heard=self._num_heard)
        seen.held.append(transform)
        seen.moves = any(abs(value - known) > SAME for value, known in zip(values, seen.first, strict=True))
        if is_new or seen.moves:
            self._judge()

    def _forget_half(self) -> None:
        """Forget those transforms that were not heard for the longest."""
        newest = sorted(self._seen, key=lambda pair: self._seen[pair].heard)[len(self._seen) // 2 :]
        self._seen = {pair: self._seen[pair] for pair in newest}

    def _judge(self) -> None:
        if self._camera_frame is None or self._lidar_frame is None:
            return
        lidar, camera = self._lidar_frame, self._camera_frame or self._lidar_frame
        fixed = _Joined(self._static)
        complete = camera in fixed.to(lidar)
        if not complete:
            fixed = _Joined([*self._static, *(pair for pair, seen in self._seen.items() if not seen.moves)])
        carried, on_robot = fixed.to(lidar), fixed.to(lidar) | fixed.to(camera)
        # From outside the robot to a frame that carries the sensor; between camera and lidar it is a joint.
        telling = [
            pair for pair, seen in self._seen.items()
            if (complete or seen.moves) and pair[1] in carried and pair[0] not in on_robot
        ]  # fmt: skip
        for seen in self._seen.values():
            seen.root, seen.is_above = '', False
        for pair in telling:
            self._seen[pair].root = pair[0]
            chain = list(self._ancestors(pair[0]))
            if chain and _ODOMETRY not in chain[-1][0].lower():
                continue  # what is above may be where the robot believes itself to be, which jumps
            for above in chain:
                if above in self._seen and self._seen[above].moves:
                    self._seen[above].is_above = True
                    self._seen[pair].root = above[0]
                elif above in self._seen:
                    self._above.set_static(*above, _matrix(self._seen[above].first))
                else:
                    self._above.set_static(*above, self._static[above])
        for seen in self._seen.values():
            while seen.held and (seen.root or seen.is_above):
                self._use(seen, seen.held.popleft())

    def _ancestors(self, frame: str) -> Iterator[tuple[str, str]]:
        """Transforms, parent and child, above a frame, as far as motion is without jumps."""
        parents = {child: parent for parent, child in (*self._seen, *self._static)}
        passed = {frame}
        while _ODOMETRY not in frame.lower() and parents.get(frame, frame) not in passed:
            yield parents[frame], frame
            frame = parents[frame]
            passed.add(frame)

    def _use(self, seen: _Seen, transform: Any) -> None:
        try:
            parent, child, matrix = decode_transform(transform)
        except MessageError:
            return
        pose = Pose(stamp_ns(transform), matrix, parent, child)
        if seen.is_above:
            self._above.add(pose)
        elif seen.root == parent:
            self._take(pose)
            return
        else:
            if self._waiting and abs(pose.stamp_ns - self._waiting[-1][1].stamp_ns) > _MAX_WAIT_NS:
                self._waiting.clear()  # time jumped, or this robot did not move for long
            self._waiting.append((seen.root, pose))
        self._compose()

    def _compose(self) -> None:
        while self._waiting:
            root, pose = self._waiting[0]
            try:
                above = self._above.lookup(root, pose.frame_id, pose.stamp_ns, 0)
            except OldTransformError as error:
                if error.age_ns > 0:
                    return  # what is above this pose is still to come
            except TransformError:
                return
            else:
                self._take(Pose(pose.stamp_ns, above @ pose.matrix, root, pose.child_frame_id))
            self._waiting.popleft()


class _Joined:
    """Which frames are joined with which."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._neighbours: defaultdict[str, set[str]] = defaultdict(set)
        for one, other in pairs:
            self._neighbours[one].add(other)
            self._neighbours[other].add(one)

    def to(self, frame: str) -> set[str]:
        found, waiting = {frame}, [frame]
        while waiting:
            new = self._neighbours.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found


def _numbers(transform: Any) -> tuple[float, ...]:
    moved, turned = transform.translation, transform.rotation
    return moved.x, moved.y, moved.z, turned.x, turned.y, turned.z, turned.w


def _matrix(numbers: tuple[float, ...]) -> np.ndarray:
    return rigid(numbers[:3], numbers[3:])
