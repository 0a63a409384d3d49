"""Poses: ``nav_msgs/Odometry`` and transforms, to matrices and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from depth_ros.errors import MessageError, ShapeError
from depth_ros.geometry.rigid import rigid, rotation_to_quaternion
from depth_ros.messages.header import set_stamp, stamp_ns
from depth_ros.types import Pose


def decode_odometry(message: Any) -> Pose:
    """Read an ``Odometry``.

    Raises:
        MessageError: the pose is not finite, its quaternion has no direction, ``child_frame_id`` is empty, or the stamp
            is 0.
    """
    if stamp_ns(message) == 0:
        # Among poses with a stamp it would be time that jumps back, at which everything is forgotten.
        raise MessageError('odometry is stamped 0, expected the time of the pose; fix its publisher')
    pose = message.pose.pose
    child = message.child_frame_id.lstrip('/')
    if not child:
        raise MessageError('odometry has an empty child_frame_id, expected the frame of the moving body (base_link)')
    return Pose(
        stamp_ns(message),
        _matrix(pose.position, pose.orientation, 'odometry'),
        message.header.frame_id.lstrip('/'),
        child,
    )


def decode_transform(message: Any) -> tuple[str, str, np.ndarray]:
    """Read a ``TransformStamped``.

    Returns:
        parent: frame.
        child: frame.
        parent_from_child: (4, 4) float64, metres.

    Raises:
        MessageError: the transform is not finite or its quaternion has no direction.
    """
    transform = message.transform
    matrix = _matrix(transform.translation, transform.rotation, 'transform')
    return message.header.frame_id.lstrip('/'), message.child_frame_id.lstrip('/'), matrix


def fill_odometry(message: Any, pose: Pose) -> Any:
    """Write a pose into an ``Odometry``; returns the message."""
    set_stamp(message.header.stamp, pose.stamp_ns)
    message.header.frame_id, message.child_frame_id = pose.frame_id, pose.child_frame_id
    _fill_rigid(message.pose.pose.position, message.pose.pose.orientation, pose.matrix)
    return message


def fill_transform(message: Any, parent: str, child: str, parent_from_child: np.ndarray, time_ns: int) -> Any:
    """Write a transform into a ``TransformStamped``.

    Args:
        message: the message.
        parent: frame.
        child: frame.
        parent_from_child: (4, 4) rigid transform, metres.
        time_ns: stamp.

    Returns:
        The message.
    """
    set_stamp(message.header.stamp, time_ns)
    message.header.frame_id, message.child_frame_id = parent, child
    _fill_rigid(message.transform.translation, message.transform.rotation, parent_from_child)
    return message


def _matrix(translation: Any, rotation: Any, what: str) -> np.ndarray:
    try:
        return rigid((translation.x, translation.y, translation.z), (rotation.x, rotation.y, rotation.z, rotation.w))
    except ShapeError as error:
        raise MessageError(f'{what}: {error}') from error


def _fill_rigid(position: Any, orientation: Any, matrix: np.ndarray) -> None:
    position.x, position.y, position.z = map(float, matrix[:3, 3])
    quaternion = rotation_to_quaternion(matrix[:3, :3])
    orientation.x, orientation.y, orientation.z, orientation.w = map(float, quaternion)
