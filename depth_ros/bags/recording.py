"""A bag as the pipeline takes it: frames, sweeps and poses in the order in which they were recorded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from depth_ros.bags.reader import BagReader
from depth_ros.bags.recorded_transforms import RecordedTransforms
from depth_ros.bags.select import TopicOverrides, select_topics
from depth_ros.bags.transforms import RobotPoses, body_frame, joined, read_transforms, transform_topics
from depth_ros.errors import BagError, CameraError, MessageError, ShapeError
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.odometry import decode_odometry
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.settings import Settings
from depth_ros.types import Frame, LidarScan, Pose

Item = Frame | LidarScan | Pose


class Recording:
    """Camera, lidar and odometry of one bag. Use it as a context manager.

    Attributes:
        reader: the bag.
        selection: topics in use, and why.
        transforms: static transforms of the bag, with those of the settings on top; of what moves on ``/tf`` that which
            ``events`` has come to.
        num_frames: number of images.
        refused: messages that could not be decoded, by reason (numbers in the text are #).
    """

    def __init__(
        self,
        path: Path | str,
        overrides: TopicOverrides = TopicOverrides(),  # noqa: B008 (frozen)
        settings: Settings = Settings(),  # noqa: B008 (frozen)
    ) -> None:
        """Open a bag, choose topics and read transforms.

        A bag without lidar or odometry is taken; ``selection.missing`` says so.

        Args:
            path: the bag.
            overrides: topics that the user named.
            settings: groups ``camera`` and ``transforms`` are read.

        Raises:
            BagError: the bag cannot be read, or holds no camera with calibration.
            SettingsError: a transform in the settings has another form.
        """
        self._settings = settings
        self.refused: Counter[str] = Counter()
        self.reader = BagReader(path)
        try:
            self.selection = select_topics(self.reader, overrides)
            for role in ('image', 'camera_info'):
                if role in self.selection.missing:
                    raise BagError(
                        f'bag {str(path)!r} has no {role} to use ({self.selection.reasons[role]}); '
                        'depth needs camera images and their CameraInfo'
                    )
            self.num_frames = self.reader.topic(self.selection.image).count
            self._sensor_frames = self._frames()
            self.transforms = self._read_transforms()
        except BaseException:
            self.reader.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag."""
        self.reader.close()

    def events(
        self,
        start_ns: int | None = None,
        stop_ns: int | None = None,
        images: tuple[int, int] | None = None,
        may_defer: bool = False,
    ) -> Iterator[tuple[int, Item]]:
        """Yield everything in the order of recording, decoded as a live node decodes it.

        An image is joined with the CameraInfo of its stamp or, where none comes, with the newest one that fits it.
        Images before the first CameraInfo take the first.

        Args:
            start_ns: only what was recorded at this time or later, ns.
            stop_ns: only what was recorded before this time, ns.
            images: only images that were recorded from the one time on and before the other, ns; None = all.
            may_defer: whether frames may be decoded when their pixels are asked for, see ``EncodedFrame``.

        Yields:
            log_ns: when the item could be known to a node, ns.
            item: Frame, LidarScan or Pose; arrays may be views of a message.

        Raises:
            DamagedBagError: the file is damaged from here on.
        """
        chosen = self.selection
        topics = [name for name in (chosen.image, chosen.camera_info, chosen.points, chosen.odometry) if name]
        posed_by_tf = bool(self._sensor_frames) and not chosen.odometry
        given = self._settings.transforms.static
        poses = RobotPoses(self.transforms, self._sensor_frames, given) if posed_by_tf else None
        moving = transform_topics(self.reader)[1] if posed_by_tf or self.transforms.moves else []
        self.transforms.rewind()
        cameras = FrameDecoder(chosen.image, self._settings, may_defer)
        first = self.reader.first(chosen.camera_info)
        if first is not None:  # else none of them can be read
            cameras.add_info(first.message)
        held: Any = None  # an image whose CameraInfo may still come
        may_come = 2 * self.reader.topic(chosen.camera_info).count > self.num_frames
        for record in self.reader.messages([*topics, *moving], start_ns, stop_ns):
            log_ns, message = record.log_ns, record.message
            if record.topic == chosen.image:
                if held is not None:
                    yield from self._decoded(log_ns, 'image', cameras.decode, held)
                held = None
                if images is not None and not images[0] <= log_ns < images[1]:
                    continue
                if not may_come or cameras.info is None or _fits(cameras.info, message):
                    yield from self._decoded(log_ns, 'image', cameras.decode, message)
                else:
                    held = message
            elif record.topic == chosen.camera_info:
                cameras.add_info(message)
                if held is not None and _fits(message, held):
                    yield from self._decoded(log_ns, 'image', cameras.decode, held)
                    held = None
            elif record.topic == chosen.points:
                yield from self._decoded(log_ns, 'points', self._scan, message)
            elif record.topic == chosen.odometry:
                yield from self._decoded(log_ns, 'odometry', decode_odometry, message)
            else:
                self.transforms.play(message)
                for pose in poses.take(message) if poses is not None else ():
                    yield log_ns, pose
        if held is not None:
            yield from self._decoded(self.reader.end_ns, 'image', cameras.decode, held)

    def _decoded(
        self, log_ns: int, role: str, decode: Callable[[Any], Item], message: Any
    ) -> Iterator[tuple[int, Item]]:
        try:
            yield log_ns, decode(message)
        except (MessageError, CameraError, ShapeError) as error:
            self.refused[f'{role}: {re.sub(r"-?[0-9]+([.][0-9]+)?", "#", str(error))}'] += 1

    def _scan(self, message: Any) -> LidarScan:
        return decode_cloud(message, self._settings.transforms.lidar_frame)

    def _frames(self) -> tuple[str, ...]:
        """Frames of camera and lidar, as the first messages and the settings say; the lidar's last."""
        settings, chosen = self._settings.transforms, self.selection
        frames = []
        for topic, override in ((chosen.image, settings.camera_frame), (chosen.points, settings.lidar_frame)):
            if override or topic:
                first = None if override else self.reader.first(topic)
                frames.append(override or ('' if first is None else first.message.header.frame_id.lstrip('/')))
        return tuple(frame for frame in frames if frame)

    def _read_transforms(self) -> RecordedTransforms:
        given = TransformTree()
        for line in self._settings.transforms.static:
            given.add_text(line)
        enough = bool(self._sensor_frames) and joined(given, self._sensor_frames)
        body = body_frame(self.reader, self.selection.odometry)
        frames = tuple(frame for frame in (*self._sensor_frames, body) if frame)
        tree = read_transforms(self.reader, frames[:1] if enough else frames)
        tree.max_age_ns = int(self._settings.transforms.max_age * 1e9)
        for line in self._settings.transforms.static:
            tree.add_text(line)
        return tree


def _fits(info: Any, image: Any) -> bool:
    """Whether a CameraInfo certainly belongs to an image: same stamp, or same frame and size."""
    if stamp_ns(info) == stamp_ns(image):
        return True
    same_size = not hasattr(image, 'width') or (image.width, image.height) == (info.width, info.height)
    return same_size and image.header.frame_id in ('', info.header.frame_id)
