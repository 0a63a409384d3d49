"""Frames of a bag: transforms that never change as a tree, the one that carries the robot as poses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from depth_ros.bags.reader import BagReader, until_damage
from depth_ros.errors import MessageError, TransformError
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.odometry import decode_transform
from depth_ros.types import Pose

_TF_TYPES = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
# Drivers that publish calibration on /tf repeat it exactly; what moves more than rounding is a joint or the robot.
_SAME = 1e-6


def transform_topics(reader: BagReader) -> tuple[list[str], list[str]]:
    """Names of the topics with static and with other transforms, () where the bag has none."""
    topics = [topic.name for topic in reader.topics if topic.type in _TF_TYPES and topic.count]
    static = [name for name in topics if name.endswith('tf_static')]
    return static, [name for name in topics if name not in static]


def read_transforms(reader: BagReader, frames: Iterable[str] = ()) -> TransformTree:
    """Read what never changes.

    Args:
        reader: the bag.
        frames: where ``/tf_static`` joins these already, the rest of the bag is not searched; () = always search
            ``/tf`` too.

    Returns:
        ``/tf_static``, and those transforms of ``/tf`` that are the same throughout the bag. Transforms that cannot be
        decoded, or lie behind damage, are left out.
    """
    static, dynamic = transform_topics(reader)
    tree = TransformTree()
    for parent, child, matrix in _transforms(reader, static):
        tree.add(parent, child, matrix)
    frames = tuple(frames)
    if frames and joined(tree, frames):
        return tree
    first: dict[tuple[str, str], np.ndarray] = {}
    moving = set()
    for parent, child, matrix in _transforms(reader, dynamic):
        known = first.setdefault((parent, child), matrix)
        if not np.allclose(known, matrix, rtol=0, atol=_SAME):
            moving.add((parent, child))
    for (parent, child), matrix in first.items():
        if (parent, child) not in moving:
            tree.add(parent, child, matrix)
    return tree


def joined(tree: TransformTree, frames: Iterable[str]) -> bool:
    """Whether a chain of transforms joins all of these frames."""
    first, *others = frames
    try:
        for other in others:
            tree.lookup(first, other)
    except TransformError:
        return False
    return True


def poses(message: Any, tree: TransformTree, sensor_frame: str) -> Iterator[Pose]:
    """Poses that a ``/tf`` message holds: transforms from outside the tree to a frame that carries the sensor.

    Args:
        message: ``tf2_msgs/TFMessage``.
        tree: static transforms.
        sensor_frame: a frame on the robot.

    Yields:
        One pose per such transform (``odom`` to ``base_link``).
    """
    for item in message.transforms:
        try:
            parent, child, matrix = decode_transform(item)
        except MessageError:
            continue
        if joined(tree, (sensor_frame, child)) and not joined(tree, (sensor_frame, parent)):
            yield Pose(stamp_ns(item), matrix, parent, child)


def _transforms(reader: BagReader, topics: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    if not topics:
        return
    # Whoever reads the images comes to the damage too, and says so.
    for item in until_damage(reader.messages(topics), lambda damage: None):
        for transform in item.message.transforms:
            with suppress(MessageError):
                yield decode_transform(transform)
