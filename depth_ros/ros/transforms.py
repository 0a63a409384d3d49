"""Where frames are: first what the parameters say, then TF."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import numpy as np
import yaml
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from depth_ros.errors import MessageError, OldTransformError, TransformError
from depth_ros.geometry.rigid import TransformTree, parse_transform
from depth_ros.geometry.transform_buffer import TransformBuffer
from depth_ros.messages.header import stamp_ns as stamp_of
from depth_ros.messages.odometry import decode_transform, fill_transform
from depth_ros.messages.tf_poses import TfPoses
from depth_ros.ros.tf_message import tf_message_type
from depth_ros.settings import TransformSettings
from depth_ros.types import Pose

_NS = 1_000_000_000
_JUMP_NS = 2 * _NS
_SET_PARAMETER = (
    "set the parameter transforms.static ('parent child x y z qx qy qz qw'; "
    '`depth_ros inspect BAG --node-params FILE` writes it)'
)


class NodeTransforms:
    """Transforms for a pipeline; a missing one is an error each time it is asked for, and works from when it arrives.

    Attributes:
        source: where transforms come from, for the diagnostics.
        poses: finds the poses of the robot among the transforms of ``/tf``.
    """

    def __init__(
        self, node: Node, settings: Callable[[], TransformSettings], take_pose: Callable[[Pose], None]
    ) -> None:
        """Listen to TF.

        Args:
            node: node that listens.
            settings: returns the settings that hold now; the static transforms come before TF.
            take_pose: called, where the node is spun, with each pose of the robot that ``/tf`` tells.

        Raises:
            SettingsError: a static transform has another form.
        """
        self._settings = settings
        self._tree = TransformTree()
        self.poses = TfPoses(take_pose)
        static = [parse_transform(line) for line in settings().static]
        for transform in static:
            self._tree.add(*transform)
            self.poses.add_static(*transform)
        self._tf, self.source, hint = _listen(node, frozenset(child for _, child, _ in static), self.poses)
        self._hint = f'{hint}{_SET_PARAMETER}'
        if self._tf is not None:
            for transform in static:  # so that they can be one part of a chain, and TF the other
                self._tf.set_static(*transform)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """(4, 4) target_from_source at a time.

        Raises:
            TransformError: neither the parameters nor TF join the frames at that time.
        """
        with suppress(TransformError):
            return self._tree.lookup(target, source)
        if self._tf is None:
            raise TransformError(target, source, self._tree.frames, self._hint)
        try:
            return self._tf.lookup(target, source, stamp_ns, int(self._settings().max_age * _NS))
        except OldTransformError:
            raise
        except TransformError:
            raise TransformError(target, source, self._tf.frames, self._hint) from None

    def close(self) -> None:
        """Stop listening."""
        if self._tf is not None:
            self._tf.close()


class _Tf(Protocol):
    frames: tuple[str, ...]

    def set_static(self, parent: str, child: str, parent_from_child: np.ndarray) -> None: ...

    def lookup(self, target: str, source: str, stamp_ns: int, max_age_ns: int) -> np.ndarray: ...

    def close(self) -> None: ...


def _listen(node: Node, given: frozenset[str], poses: TfPoses) -> tuple[_Tf | None, str, str]:
    """TF, what it is to be called, and the beginning of what to do where a transform is missing.

    Where a frame is that the parameters place (``given``), TF has no say: also not in a chain of which both are parts.
    """
    publish = 'publish it on /tf_static, or '
    try:
        import tf2_ros
    except ImportError:
        pass
    else:
        return _Tf2(node, tf2_ros, given, poses), 'transforms.static, then TF (tf2_ros)', publish
    kind = tf_message_type()
    if kind is None:
        return None, 'transforms.static only (tf2_ros is not installed)', 'tf2_ros is not installed, so '
    return _OwnTf(node, kind, given, poses), 'transforms.static, then TF', publish


class _Tf2:
    """TF as tf2_ros keeps it."""

    def __init__(self, node: Node, tf2_ros: Any, given: frozenset[str], poses: TfPoses) -> None:
        self._tf2_ros = tf2_ros
        self._given = given
        self._poses = poses
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self, node)

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames."""
        known = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        return tuple({*known, *(item['parent'] for item in known.values())})

    def set_transform(self, message: TransformStamped, authority: str) -> None:
        """Called by the listener in place of the method of the buffer."""
        if message.child_frame_id.lstrip('/') not in self._given:
            self._buffer.set_transform(message, authority)
            self._poses.add(message)

    def set_transform_static(self, message: TransformStamped, authority: str) -> None:
        """Called by the listener in place of the method of the buffer."""
        if message.child_frame_id.lstrip('/') not in self._given:
            self._buffer.set_transform_static(message, authority)
            with suppress(MessageError):
                self._poses.add_static(*decode_transform(message))

    def set_static(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Set where a frame is for good."""
        message = fill_transform(TransformStamped(), parent, child, parent_from_child, 0)
        self._buffer.set_transform_static(message, 'transforms.static')

    def lookup(self, target: str, source: str, stamp_ns: int, max_age_ns: int) -> np.ndarray:
        """See ``TransformBuffer.lookup``."""
        try:
            try:
                return decode_transform(self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns)))[2]
            except self._tf2_ros.ExtrapolationException:
                newest = self._buffer.lookup_transform(target, source, Time())
        except self._tf2_ros.TransformException as error:
            raise TransformError(target, source) from error
        age_ns = stamp_ns - stamp_of(newest)
        if age_ns < -_JUMP_NS:
            # Time went back, as when a bag starts again; tf2 would take nothing in until it has caught up. What is
            # static stays.
            self._buffer.clear()
        if abs(age_ns) > max_age_ns:
            raise OldTransformError(target, source, age_ns, max_age_ns)
        return decode_transform(newest)[2]

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


class _OwnTf(TransformBuffer):
    """TF for places without tf2_ros, such as an installation from PyPI."""

    def __init__(self, node: Node, kind: type, given: frozenset[str], poses: TfPoses) -> None:
        from rosbags.typesys import Stores, get_typestore

        super().__init__()
        self._node = node
        self._given = given
        self._poses = poses
        self._types = get_typestore(Stores.ROS2_JAZZY)
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(kind, topic, partial(self._take, topic), profile, raw=True)
            for topic, profile in (('/tf', QoSProfile(depth=100)), ('/tf_static', latched))
        ]

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _take(self, topic: str, data: bytes) -> None:
        for item in self._types.deserialize_cdr(data, 'tf2_msgs/msg/TFMessage').transforms:
            try:
                parent, child, matrix = decode_transform(item)
            except MessageError as error:
                self._node.get_logger().warning(f'{topic}: {error}', throttle_duration_sec=5.0)
                continue
            if child in self._given:
                continue
            if topic == '/tf_static':
                self.set_static(parent, child, matrix)
                self._poses.add_static(parent, child, matrix)
            else:
                self._poses.add(item)
                self.add(Pose(stamp_of(item), matrix, parent, child))
