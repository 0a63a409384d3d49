"""An image message and its ``CameraInfo`` to a ``Frame``: the one place where live nodes and bags do so."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from depth_ros.errors import CameraError
from depth_ros.messages.camera_info import decode_camera, is_rectified
from depth_ros.messages.header import body, stamp_ns
from depth_ros.messages.image import decode_compressed, decode_file, decode_image, probe_file
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame


class EncodedFrame(Frame):
    """A frame that came as a file, which is decoded when its pixels are asked for, if they ever are."""

    def __init__(self, stamp_ns: int, encoding: str, camera: Camera, encoded: np.ndarray) -> None:
        """Make a frame of a file that ``probe_file`` knows; attributes as those of ``Frame``."""
        # Not as Frame does, which looks at the pixels.
        vars(self).update(stamp_ns=stamp_ns, encoding=encoding, camera=camera, encoded=encoded)

    @cached_property
    def image(self) -> np.ndarray:  # type: ignore[override]
        """As that of ``Frame``.

        Raises:
            MessageError: it cannot be decoded after all.
        """
        return decode_file(self.encoded)[0]


class FrameDecoder:
    """Joins images with the newest ``CameraInfo``, which is decoded again only when it changes."""

    def __init__(self, topic: str, settings: Settings, may_defer: bool = False) -> None:
        """Make a decoder without a camera.

        Args:
            topic: topic of the images; its name may tell whether they are rectified.
            settings: groups ``camera`` and ``transforms`` are read.
            may_defer: whether frames may be ``EncodedFrame``, for whoever wants the pixels of few of them.
        """
        self._topic = topic
        self._settings = settings
        self._may_defer = may_defer
        self._info: Any = None
        self._key: tuple[Any, ...] = ()
        self._camera: Camera | None = None

    @property
    def info(self) -> Any:
        """Newest ``CameraInfo``, None before the first."""
        return self._info

    def add_info(self, message: Any) -> None:
        """Take in a ``CameraInfo``."""
        self._info = message

    def camera(self, frame_id: str) -> Camera:
        """Camera of images in a frame.

        Args:
            frame_id: frame that the image names; '' = as the ``CameraInfo`` says.

        Returns:
            The camera; the same object as long as the ``CameraInfo`` says the same.

        Raises:
            CameraError: no ``CameraInfo`` has come, or it holds no usable calibration.
        """
        if self._info is None:
            raise CameraError(f'no CameraInfo has come for {self._topic!r}; publish it with the images')
        frame_id = (
            self._settings.transforms.camera_frame or frame_id.lstrip('/') or self._info.header.frame_id.lstrip('/')
        )
        key = (frame_id, *_content(self._info))
        if key != self._key or self._camera is None:
            rectified = is_rectified(self._info, self._topic, self._settings.camera.images)
            self._camera, self._key = decode_camera(self._info, rectified, frame_id), key
        return self._camera

    def decode(self, message: Any) -> Frame:
        """Read an image.

        Args:
            message: ``sensor_msgs/Image`` or ``CompressedImage``.

        Returns:
            The frame; its image may be a view of the message.

        Raises:
            MessageError: the image cannot be decoded.
            CameraError: there is no usable camera, or it is of another size than the image.
        """
        camera = self.camera(message.header.frame_id)
        if not hasattr(message, 'format'):
            image, encoding = decode_image(message)
            _check_size(image.shape[:2], camera)
            return Frame(stamp_ns(message), image, encoding, camera)
        encoded = body(message.data)
        if self._may_defer and (probed := probe_file(encoded, message.format)):
            shape, encoding = probed
            _check_size(shape, camera)
            return EncodedFrame(stamp_ns(message), encoding, camera, encoded)
        image, encoding = decode_compressed(message)
        _check_size(image.shape[:2], camera)
        return Frame(stamp_ns(message), image, encoding, camera, encoded)


def _check_size(shape: tuple[int, ...], camera: Camera) -> None:
    if shape != camera.shape:
        raise CameraError(
            f'CameraInfo is of a {camera.width}x{camera.height} camera, the image is {shape[1]}x{shape[0]}; does it '
            'belong to this image?'
        )


def _content(info: Any) -> tuple[Any, ...]:
    upper = not hasattr(info, 'k')  # ROS 1 names
    arrays = (bytes(memoryview(getattr(info, name.upper() if upper else name))) for name in 'dkrp')
    roi = info.roi
    return (
        *arrays,
        info.width,
        info.height,
        info.distortion_model,
        info.binning_x,
        info.binning_y,
        roi.x_offset,
        roi.y_offset,
        roi.width,
        roi.height,
    )
