"""Cameras: ``sensor_msgs/CameraInfo`` to ``Camera`` and back.

The names of ROS 1 (D, K, R, P) and of ROS 2 (d, k, r, p) are read alike.
"""

from __future__ import annotations

import array
import re
from typing import Any

import numpy as np

from depth_ros.errors import CameraError
from depth_ros.messages.header import set_stamp
from depth_ros.types import Camera

_MODELS = {
    '': 'none',
    'none': 'none',
    'plumb_bob': 'plumb_bob',
    'radtan': 'plumb_bob',
    'rational_polynomial': 'rational_polynomial',
    'equidistant': 'equidistant',
    'fisheye': 'equidistant',
    'kannala_brandt4': 'equidistant',
}
_RECTIFIED = re.compile(r'(?<![a-z])rect')


def decode_camera(message: Any, rectified: bool, frame_id: str = '') -> Camera:
    """Read a ``CameraInfo`` for a raw or a rectified image.

    Args:
        message: ``sensor_msgs/CameraInfo``.
        rectified: True: the image follows ``p`` after the rotation ``r``; False: it follows ``k`` and ``d``.
        frame_id: optical frame in place of the message's; '' = the message's.

    Returns:
        The camera at the resolution of the images: binning and region of interest are applied, as REP 104 says.

    Raises:
        CameraError: no usable calibration.
    """
    k, d, r, p = (_field(message, name) for name in 'kdrp')
    frame_id = frame_id or message.header.frame_id.lstrip('/')
    if rectified:
        # Some drivers leave p or r empty for images that need no rectification.
        matrix = p.reshape(3, 4)[:, :3] if p.any() else k.reshape(3, 3)
        rotation = r.reshape(3, 3) if r.any() else np.eye(3)
        model, distortion = 'none', np.zeros(0)
    else:
        matrix, rotation = k.reshape(3, 3), np.eye(3)
        if message.distortion_model not in _MODELS:
            raise CameraError(
                f'distortion model is {message.distortion_model!r}, expected one of '
                f'{", ".join(m for m in _MODELS if m)}'
            )
        if not message.distortion_model and d.any():
            raise CameraError(
                f'distortion coefficients {d.tolist()} came without a distortion model, expected one of '
                f'{", ".join(m for m in _MODELS if m)}; fix the CameraInfo'
            )
        model = _MODELS[message.distortion_model]
        if model == 'equidistant':
            distortion = d if d.size else np.zeros(4)  # without coefficients still a fisheye: r = f theta
        else:
            distortion = d if model != 'none' and d.any() else np.zeros(0)
        if not distortion.size:
            model = 'none'
        elif model == 'plumb_bob' and distortion.size > 5:
            model = 'rational_polynomial'  # OpenCV's calibration writes more coefficients under the older name
    if abs(matrix[0, 1]) > 1e-6 * abs(matrix[0, 0]):
        raise CameraError(f'camera matrix has skew {matrix[0, 1]}, expected 0')
    x_bin, y_bin = max(message.binning_x, 1), max(message.binning_y, 1)
    roi = message.roi
    width, height = (roi.width, roi.height) if roi.width and roi.height else (message.width, message.height)
    return Camera(
        width=width // x_bin,
        height=height // y_bin,
        fx=float(matrix[0, 0]) / x_bin,
        fy=float(matrix[1, 1]) / y_bin,
        cx=(float(matrix[0, 2]) - roi.x_offset) / x_bin,
        cy=(float(matrix[1, 2]) - roi.y_offset) / y_bin,
        frame_id=frame_id,
        model=model,
        distortion=distortion,
        rotation=rotation,
    )


def is_rectified(message: Any, topic: str, setting: str) -> bool:
    """Decide how a camera's images are to be read.

    Args:
        message: ``CameraInfo``.
        topic: topic of the images; a word that starts with ``rect`` in one of its last two parts (``image_raw`` and
            ``compressed`` do not count) tells.
        setting: ``camera.images``: auto, raw or rectified.

    Returns:
        True if the images follow ``p`` and ``r``.
    """
    if setting != 'auto':
        return setting == 'rectified'
    names = [part for part in topic.split('/') if part not in ('compressed', 'image_raw')]
    # Not within a word: a camera may be named "direct", and its image "unrectified".
    bends = _field(message, 'd').any() or _MODELS.get(message.distortion_model) == 'equidistant'
    return any(_RECTIFIED.search(name) for name in names[-2:]) or not bends


def fill_camera_info(message: Any, camera: Camera, time_ns: int) -> Any:
    """Fill a ``CameraInfo``.

    Args:
        message: ``sensor_msgs/CameraInfo`` of any client library.
        camera: the camera.
        time_ns: stamp, ns.

    Returns:
        The message.
    """
    set_stamp(message.header.stamp, time_ns)
    message.header.frame_id = camera.frame_id
    message.width, message.height = camera.width, camera.height
    message.distortion_model = 'plumb_bob' if camera.model == 'none' else camera.model
    values = {
        'd': camera.distortion if camera.distortion.size else np.zeros(5),
        'k': camera.matrix.ravel(),
        'r': camera.rotation.ravel(),
        'p': np.hstack([camera.matrix, np.zeros((3, 1))]).ravel(),
    }
    for name, value in values.items():
        attribute = name if hasattr(message, name) else name.upper()
        values_of_kind = np.ascontiguousarray(value, dtype=np.float64)
        if isinstance(getattr(message, attribute), array.array):  # before Jazzy rclpy takes no NumPy array for it
            values_of_kind = array.array('d', value.tolist())
        setattr(message, attribute, values_of_kind)
    return message


def _field(message: Any, name: str) -> np.ndarray:
    value = getattr(message, name, None)
    return np.asarray(getattr(message, name.upper()) if value is None else value, dtype=np.float64)
