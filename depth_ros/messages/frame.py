"""An image message and its ``CameraInfo`` to a ``Frame``: the one place where live nodes and bags do so."""

from __future__ import annotations

from typing import Any

from depth_ros.errors import CameraError
from depth_ros.messages.camera_info import decode_camera, is_rectified
from depth_ros.messages.header import body, stamp_ns
from depth_ros.messages.image import decode_compressed, decode_image
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame


class FrameDecoder:
    """Joins images with the newest ``CameraInfo``, which is decoded again only when it changes."""

    def __init__(self, topic: str, settings: Settings) -> None:
        """Make a decoder without a camera.

        Args:
            topic: topic of the images; its name may tell whether they are rectified.
            settings: groups ``camera`` and ``transforms`` are read.
        """
        self._topic = topic
        self._settings = settings
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
        compressed = hasattr(message, 'format')
        image, encoding = decode_compressed(message) if compressed else decode_image(message)
        if image.shape[:2] != camera.shape:
            raise CameraError(
                f'CameraInfo is of a {camera.width}x{camera.height} camera, the image is '
                f'{image.shape[1]}x{image.shape[0]}; '
                'does it belong to this image?'
            )
        return Frame(stamp_ns(message), image, encoding, camera, body(message.data) if compressed else None)


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
