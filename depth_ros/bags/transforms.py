"""Frames of a bag: transforms that never change as a tree, the one that carries the robot as poses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from depth_ros.bags.reader import BagReader, until_damage
from depth_ros.bags.recorded_transforms import RecordedTransforms
from depth_ros.errors import MessageError
from depth_ros.geometry.rigid import TransformTree, parse_transform
from depth_ros.messages.odometry import decode_transform
from depth_ros.messages.tf_poses import SAME, TfPoses, joined
from depth_ros.types import Pose

_TF_TYPES = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')


def transform_topics(reader: BagReader) -> tuple[list[str], list[str]]:
    """Names of the topics with static and with other transforms, () where the bag has none."""
    topics = [topic.name for topic in reader.topics if topic.type in _TF_TYPES and topic.count]
    static = [name for name in topics if name.endswith('tf_static')]
    return static, [name for name in topics if name not in static]


def read_transforms(reader: BagReader, frames: Iterable[str] = ()) -> RecordedTransforms:
    """Read what never changes, and find out what moves.

    Args:
        reader: the bag.
        frames: where ``/tf_static`` joins these already, the rest of the bag is not searched; () = always search
            ``/tf`` too.

    Returns:
        ``/tf_static``, and those transforms of ``/tf`` that are the same throughout the bag; of the others, where
        ``/tf`` is searched, the names. Transforms that cannot be decoded, or lie behind damage, are left out.
    """
    static, dynamic = transform_topics(reader)
    tree = RecordedTransforms()
    for parent, child, matrix in _transforms(reader, static):
        tree.add(parent, child, matrix)
    frames = tuple(frames)
    if frames and joined(tree, frames):
        return tree
    first: dict[tuple[str, str], np.ndarray] = {}
    moving = set()
    for parent, child, matrix in _transforms(reader, dynamic):
        known = first.setdefault((parent, child), matrix)
        if not np.allclose(known, matrix, rtol=0, atol=SAME):
            moving.add((parent, child))
    for (parent, child), matrix in first.items():
        if (parent, child) not in moving:
            tree.add(parent, child, matrix)
            tree.resting.add((parent, child))
    tree.add_moving(moving)
    return tree


def body_frame(reader: BagReader, odometry: str) -> str:
    """Frame whose motion a topic of odometry tells, as its first message says; '' if there is none."""
    first = reader.first(odometry) if odometry else None
    return '' if first is None else first.message.child_frame_id.lstrip('/')


class RobotPoses:
    """Finds the poses of the robot in the ``/tf`` messages of a bag, as a live node finds them."""

    def __init__(self, tree: TransformTree, sensor_frames: Sequence[str], given: Sequence[str] = ()) -> None:
        """Begin before the first message.

        Args:
            tree: what never changes.
            sensor_frames: frames of camera and lidar, the lidar's last; or of one of them.
            given: transforms of the settings, as text; of the frames that they place ``/tf`` has no say.
        """
        self._found: list[Pose] = []
        self._given = {parse_transform(line)[1] for line in given}
        self._poses = TfPoses(self._found.append)
        for parent, child in tree.pairs:
            self._poses.add_static(parent, child, tree.lookup(parent, child))
        *cameras, last = sensor_frames
        self._poses.set_camera(''.join(cameras))
        self._poses.set_lidar(last)

    def take(self, message: Any) -> list[Pose]:
        """Take in the next message.

        Args:
            message: ``tf2_msgs/TFMessage``.

        Returns:
            The poses that are known by it, such as those of ``base_link`` in ``odom``.
        """
        for item in message.transforms:
            if item.child_frame_id.lstrip('/') not in self._given:
                self._poses.add(item)
        found = self._found.copy()
        self._found.clear()
        return found


def _transforms(reader: BagReader, topics: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    if not topics:
        return
    # Whoever reads the images comes to the damage too, and says so.
    for item in until_damage(reader.messages(topics), lambda damage: None):
        for transform in item.message.transforms:
            with suppress(MessageError):
                yield decode_transform(transform)
