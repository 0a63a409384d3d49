"""What was recorded together with an image: the other image of a stereo pair, the true depth of a simulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_ros.bags.companion import TRUTH_TOPIC, Companion, decode_truth
from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides, select_topics
from depth_ros.bags.transforms import joined
from depth_ros.errors import CameraError, MessageError, ShapeError
from depth_ros.messages.camera_info import decode_camera, is_rectified
from depth_ros.messages.frame import FrameDecoder
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame

# Images of one pair that a driver stamps one after the other, ns.
_SAME_MOMENT = 5_000_000
_LEFT_AND_RIGHT = (
    ('left', 'right'), ('image_02', 'image_03'), ('image_00', 'image_01'), ('cam0', 'cam1'), ('infra1', 'infra2'),
    ('camera_0', 'camera_1'), ('camera0', 'camera1'), ('_l', '_r'),
)  # fmt: skip
_MIN_BASELINE = 0.005  # metres


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
            yield decode_truth(record.message) if record.topic == TRUTH_TOPIC else decoder.decode(record.message)


def _offset(info: Any) -> np.ndarray:
    """(3,) metres, what the projection matrix adds to a point in rectified axes."""
    values = getattr(info, 'p', None)
    projection = np.asarray(info.P if values is None else values, np.float64).reshape(3, 4)
    if not projection.any():
        return np.zeros(3)
    return np.linalg.solve(projection[:, :3], projection[:, 3])
