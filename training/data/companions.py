"""What was recorded together with an image: the other image of a stereo pair, the true depth of a simulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_ros.bags.frames import TRUTH_TOPIC
from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides, select_topics
from depth_ros.bags.transforms import joined
from depth_ros.errors import BagError, CameraError, MessageError, ShapeError
from depth_ros.geometry.depth_image import to_metres
from depth_ros.messages.camera_info import decode_camera, is_rectified
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.image import read_rows
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame

_FLOAT = np.dtype(np.float32)
# Images of one pair that a driver stamps one after the other, ns.
_SAME_MOMENT = 5_000_000
_LEFT_AND_RIGHT = (
    ('left', 'right'), ('image_02', 'image_03'), ('image_00', 'image_01'), ('cam0', 'cam1'), ('infra1', 'infra2'),
    ('camera_0', 'camera_1'), ('camera0', 'camera1'), ('_l', '_r'),
)  # fmt: skip
_MIN_BASELINE = 0.005  # metres
# Stamps that fall by more than this begin anew, as those of a bag that was recorded of another one played in a loop.
_JUMP_NS = 1_000_000_000


class Companion:
    """Messages of a topic, asked for in the order of their stamps, which may begin anew. Close it when done."""

    def __init__(
        self, path: Any, topic: str, tolerance_ns: int = 0, start_ns: int | None = None, stop_ns: int | None = None
    ) -> None:
        """Open the bag.

        Args:
            path: the bag.
            topic: its messages have headers; a topic that is not there has no messages.
            tolerance_ns: how far the stamp of a message may be from that asked for.
            start_ns: only what was recorded at this time or later, ns.
            stop_ns: only what was recorded before this time, ns.
        """
        self._reader = BagReader(path)
        has = self._reader.has(topic)
        self._messages = self._reader.messages([topic], start_ns, stop_ns) if has else iter(())
        self._tolerance_ns = tolerance_ns
        self._ahead: list[tuple[int, Any]] = []
        self._next: tuple[int, Any] | None = None  # read, and of a round that was not asked for yet
        self._newest = self._asked = -(2**62)

    def at(self, stamp: int) -> Any | None:
        """The message of a stamp, None where there is none; of those asked for before nothing is kept."""
        begins_anew = stamp < self._asked - _JUMP_NS
        self._asked = stamp
        if begins_anew:
            self._ahead = []
        while begins_anew or not self._ahead or self._ahead[-1][0] <= stamp + self._tolerance_ns:
            item = self._next or self._read()
            self._next = None
            if item is None:
                break
            if item[0] < self._newest - _JUMP_NS:
                if not begins_anew:
                    self._next = item
                    break
                begins_anew = False
            self._newest = item[0]
            if not begins_anew:
                self._ahead.append(item)
        self._ahead = [item for item in self._ahead if item[0] >= stamp - self._tolerance_ns]
        near = min(self._ahead, key=lambda item: abs(item[0] - stamp), default=None)
        return near[1] if near is not None and abs(near[0] - stamp) <= self._tolerance_ns else None

    def _read(self) -> tuple[int, Any] | None:
        try:
            record = next(self._messages, None)
        except BagError:  # damaged from here on: whoever reads the images says so
            return None
        return None if record is None else (stamp_ns(record.message), record.message)

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()


class TrueDepth(Companion):
    """True depth images of a simulated recording."""

    def __init__(self, path: Any, start_ns: int | None = None, stop_ns: int | None = None) -> None:
        super().__init__(path, TRUTH_TOPIC, 0, start_ns, stop_ns)

    def depth_at(self, stamp: int) -> np.ndarray | None:
        """(H, W) float32 metres, NaN = unknown; None where the bag has none for this stamp."""
        message = self.at(stamp)
        return None if message is None else _decode_truth(message)


@dataclass(frozen=True, eq=False)
class StereoPartner:
    """The right camera of a pair.

    Attributes:
        topic: its images.
        info: its ``CameraInfo`` message.
        camera: its model.
        right_from_left: (4, 4) float64 metres, between the optical frames.
    """

    topic: str
    info: Any
    camera: Camera
    right_from_left: np.ndarray


class PartnerImages(Companion):
    """Images of the partner."""

    def __init__(
        self, path: Any, partner: StereoPartner, settings: Settings, start_ns: int | None, stop_ns: int | None
    ) -> None:
        super().__init__(path, partner.topic, _SAME_MOMENT, start_ns, stop_ns)
        self._decoder = FrameDecoder(partner.topic, settings, may_defer=True)
        self._decoder.add_info(partner.info)

    def frame_at(self, stamp: int) -> Frame | None:
        """The image of a stamp, None where there is none that can be decoded."""
        message = self.at(stamp)
        try:
            return None if message is None else self._decoder.decode(message)
        except (MessageError, CameraError, ShapeError):
            return None


def find_partner(
    recording: Recording, camera: Camera, settings: Settings, topic: str = ''
) -> tuple[StereoPartner | None, str]:
    """Find the right camera to the chosen one.

    Where both images are rectified, the offset is in the projection matrices of their ``CameraInfo``; else TF has to
    tell it.

    Args:
        recording: the bag.
        camera: the chosen camera.
        settings: group ``camera`` is read.
        topic: images of the partner; '' = the topic of the same name but for left and right.

    Returns:
        partner: None if there is none.
        reason: why not, '' if nothing looks like one.

    Raises:
        BagError: the topic that was named is not in the bag.
    """
    reader, chosen = recording.reader, recording.selection
    names = {item.name for item in reader.topics if item.count}
    if not topic:
        pairs = (chosen.image.replace(left, right) for left, right in _LEFT_AND_RIGHT if left in chosen.image)
        topic = next((name for name in pairs if name != chosen.image and name in names), '')
        if not topic:
            return None, ''
    info_topic = select_topics(reader, TopicOverrides(image=topic)).camera_info
    if not info_topic:
        return None, f'{topic} has no CameraInfo'
    left_info = next(reader.messages([chosen.camera_info])).message
    right_info = next(reader.messages([info_topic])).message
    rectified = [
        is_rectified(info, name, settings.camera.images)
        for info, name in ((left_info, chosen.image), (right_info, topic))
    ]
    try:
        right = decode_camera(right_info, rectified[1], right_info.header.frame_id.lstrip('/'))
    except CameraError as error:
        return None, f'{topic}: {error}'
    right_from_left = None
    if all(rectified):
        offset = _offset(right_info) - _offset(left_info)
        if np.linalg.norm(offset) >= _MIN_BASELINE:
            turned = np.eye(4)
            turned[:3, :3] = right.rotation.T @ camera.rotation
            turned[:3, 3] = right.rotation.T @ offset
            right_from_left = turned
    if right_from_left is None and right.frame_id != camera.frame_id:
        frames = right.frame_id, camera.frame_id
        if all(frames) and joined(recording.transforms, frames):
            right_from_left = recording.transforms.lookup(*frames)
    if right_from_left is None or np.linalg.norm(right_from_left[:3, 3]) < _MIN_BASELINE:
        return None, f'neither the CameraInfo of {topic} nor TF tells how far it is from {chosen.image}'
    return StereoPartner(topic, right_info, right, right_from_left), ''


def companions(
    recording: Recording, camera: Camera, settings: Settings, topic: str = ''
) -> Iterator[Frame | np.ndarray]:
    """Read all images of the partner, and all true depths, at one go.

    Args:
        recording: the bag.
        camera: the chosen camera.
        settings: group ``camera`` is read.
        topic: images of the partner; '' = as ``find_partner`` finds them.

    Yields:
        Images of the partner and (H, W) float32 metres of true depth, in the order of recording.

    Raises:
        BagError: the topic that was named is not in the bag, or the file is damaged.
    """
    partner, _ = find_partner(recording, camera, settings, topic)
    names = [TRUTH_TOPIC] if recording.reader.has(TRUTH_TOPIC) else []
    decoder = None
    if partner is not None:
        names.append(partner.topic)
        decoder = FrameDecoder(partner.topic, settings)
        decoder.add_info(partner.info)
    for record in recording.reader.messages(names) if names else ():
        with suppress(MessageError, CameraError, ShapeError):
            yield _decode_truth(record.message) if record.topic == TRUTH_TOPIC else decoder.decode(record.message)


def _decode_truth(message: Any) -> np.ndarray:
    return to_metres(read_rows(message, _FLOAT, 1), message.encoding)


def _offset(info: Any) -> np.ndarray:
    """(3,) metres, what the projection matrix adds to a point in rectified axes."""
    values = getattr(info, 'p', None)
    projection = np.asarray(info.P if values is None else values, np.float64).reshape(3, 4)
    if not projection.any():
        return np.zeros(3)
    return np.linalg.solve(projection[:, :3], projection[:, 3])
