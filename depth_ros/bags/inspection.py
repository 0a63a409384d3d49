"""What is in a bag, which of it would be used, and what is missing."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.bags.reader import BagReader, Topic, until_damage
from depth_ros.bags.recorded_transforms import RecordedTransforms
from depth_ros.bags.select import Selection, TopicOverrides, select_topics
from depth_ros.bags.transforms import RobotPoses, body_frame, read_transforms, transform_topics
from depth_ros.errors import CameraError, MessageError, ShapeError, TransformError
from depth_ros.geometry.rigid import TransformTree
from depth_ros.geometry.rings import infer_rings
from depth_ros.messages.camera_info import is_rectified
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.settings import Settings
from depth_ros.types import Camera, LidarScan

_NS, _MS = 1e9, 1e6
_OTHER_CLOCK_S = 5.0
_MORE_TRANSFORMS = 200  # messages after the first pose in which what moves above it may show


@dataclass(frozen=True)
class ImageFacts:
    """First image: how it is encoded, and the camera that goes with it."""

    encoding: str
    rectified: bool
    camera: Camera


@dataclass(frozen=True)
class LidarFacts:
    """Sweeps: medians over the bag; rings and times of the first.

    Attributes:
        frame_id: frame of the points.
        num_points: points per sweep, median.
        num_rings: beams, 0 = not known.
        rings_from: ``field``, or how they were inferred.
        time_span_ms: of the points of a sweep; None = no times.
        notes: of the decoder.
    """

    frame_id: str
    num_points: int
    num_rings: int
    rings_from: str
    time_span_ms: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PairingFacts:
    """How far the nearest sweep is from each image in time."""

    num_images: int
    num_with_lidar: int
    median_ms: float
    worst_ms: float


@dataclass(frozen=True)
class Inspection:
    """All that was found.

    Attributes:
        path: the bag.
        duration_s: from the first to the last record.
        notes: of the reader.
        topics: all topics.
        selection: what would be used, and why.
        transforms: static transforms, of bag and settings.
        fixed: those of them that a node without TF is to take for good: what comes on ``/tf`` and only rested in the
            bag is no part of it, unless camera, lidar and body are joined by it.
        chain: frames from the camera to the lidar, () if nothing joins them for good.
        joints: the moving transforms that join them otherwise, '' if none do.
        image: None if no image can be decoded.
        lidar: None if no sweep can be decoded.
        latency_ms: topic -> (median, worst) time from stamp to record, for the topics that would be used.
        rate_hz: topic -> mean rate; for topics that would not be used, over the whole bag.
        pairing: None without images or sweeps.
        poses_from_tf: frames of the moving transform that serves as odometry, '' if none.
        problems: what is missing or wrong and what to do, one line each.
    """

    path: Path
    duration_s: float
    notes: tuple[str, ...]
    topics: tuple[Topic, ...]
    selection: Selection
    transforms: RecordedTransforms
    fixed: TransformTree
    chain: tuple[str, ...]
    joints: str
    image: ImageFacts | None
    lidar: LidarFacts | None
    latency_ms: dict[str, tuple[float, float]]
    rate_hz: dict[str, float]
    pairing: PairingFacts | None
    poses_from_tf: str
    problems: tuple[str, ...]


def inspect_bag(path: Path | str, overrides: TopicOverrides, settings: Settings) -> Inspection:
    """Read a bag once and say what is in it.

    Args:
        path: the bag.
        overrides: topics that the user named.
        settings: groups ``camera``, ``transforms`` and ``pairing`` are read.

    Raises:
        BagError: the bag cannot be read, or lacks a topic that was named.
        SettingsError: a transform in the settings has another form.
    """
    with BagReader(path) as reader:
        return _Inspector(reader, overrides, settings).inspect()


class _Inspector:
    def __init__(self, reader: BagReader, overrides: TopicOverrides, settings: Settings) -> None:
        self.reader, self.settings = reader, settings
        self.selection = select_topics(reader, overrides)
        self.transforms = read_transforms(reader)
        for line in settings.transforms.static:
            self.transforms.add_text(line)
        self.problems: list[str] = []
        self.refused: Counter[str] = Counter()

    def inspect(self) -> Inspection:
        chosen = self.selection
        image, stamps, mids, sizes, first_scan = None, [], [], [], None
        latencies: dict[str, list[int]] = {}
        recorded: dict[str, list[int]] = {}
        cameras = FrameDecoder(chosen.image, self.settings)
        if chosen.camera_info:
            first = self.reader.first(chosen.camera_info)
            if first is not None:  # else none of them can be read
                cameras.add_info(first.message)
        topics = [name for name in (chosen.image, chosen.points, chosen.odometry) if name]
        for record in until_damage(self.reader.messages(topics), self.problems.append):
            stamp = stamp_ns(record.message)
            latencies.setdefault(record.topic, []).append(record.log_ns - stamp)
            recorded.setdefault(record.topic, []).append(record.log_ns)
            if record.topic == chosen.image:
                stamps.append(stamp)
                image = image or self._image(cameras, record.message)
            elif record.topic == chosen.points:
                scan = self._scan(record.message)
                if scan is not None:
                    first_scan = first_scan or scan
                    mids.append(scan.mid_ns)
                    sizes.append(len(scan))
        lidar = None if first_scan is None else self._lidar(first_scan, int(np.median(sizes)))
        chain, joints = self._chain(image, lidar)
        pairing = self._pairing(np.array(stamps), np.array(sorted(mids)))
        latency_ms = {topic: (float(np.median(values)) / _MS, float(max(values, key=abs)) / _MS)
                      for topic, values in latencies.items()}
        from_tf = '' if chosen.odometry or lidar is None else self._poses_from_tf(lidar.frame_id)
        self._say_what_is_missing(image, lidar, from_tf, latency_ms)
        return Inspection(
            path=self.reader.path, duration_s=(self.reader.end_ns - self.reader.start_ns) / _NS,
            notes=self.reader.notes, topics=self.reader.topics, selection=chosen, transforms=self.transforms,
            fixed=self._fixed(chain), chain=chain, joints=joints, image=image, lidar=lidar,
            latency_ms=latency_ms, rate_hz=self._rates(recorded), pairing=pairing, poses_from_tf=from_tf,
            problems=tuple(self.problems),
        )

    def _rates(self, recorded: dict[str, list[int]]) -> dict[str, float]:
        rates = {}
        for topic in self.reader.topics:
            log_ns = recorded.get(topic.name, [self.reader.start_ns, self.reader.end_ns])
            if topic.count > 1 and log_ns[-1] > log_ns[0]:
                rates[topic.name] = (topic.count - 1) * _NS / (log_ns[-1] - log_ns[0])
        return rates

    def _image(self, cameras: FrameDecoder, message: Any) -> ImageFacts | None:
        try:
            frame = cameras.decode(message)
        except (MessageError, CameraError, ShapeError) as error:
            self.refused[f'an image cannot be used: {error}'] += 1
            return None
        encoding = message.format if hasattr(message, 'format') else message.encoding
        rectified = is_rectified(cameras.info, self.selection.image, self.settings.camera.images)
        return ImageFacts(encoding, rectified, frame.camera)

    def _scan(self, message: Any) -> LidarScan | None:
        try:
            return decode_cloud(message, self.settings.transforms.lidar_frame)
        except (MessageError, ShapeError) as error:
            self.refused[f'a sweep cannot be used: {error}'] += 1
            return None

    def _lidar(self, scan: LidarScan, num_points: int) -> LidarFacts:
        rings, source = scan.ring, 'field'
        if rings is None:
            found = infer_rings(scan.points)
            rings, source = found if found is not None else (np.zeros(0), '')
        first, last = scan.time_span_ns
        span = None if scan.time_offset_ns is None else (last - first) / _MS
        return LidarFacts(scan.frame_id, num_points, len(np.unique(rings)), source, span, scan.notes)

    def _chain(self, image: ImageFacts | None, lidar: LidarFacts | None) -> tuple[tuple[str, ...], str]:
        if image is None or lidar is None:
            return (), ''
        frames = image.camera.frame_id, lidar.frame_id
        try:
            return self.transforms.chain(*frames), ''
        except TransformError as error:
            joints = self.transforms.joints(*frames)
            if joints:
                return (), joints
            self.problems.append(
                f"{error}; give it as 'parent child x y z qx qy qz qw' in transforms.static of a parameter file "
                '(--params)'
            )
            return (), ''

    def _fixed(self, chain: tuple[str, ...]) -> TransformTree:
        steps = set(pairwise(chain))
        body = body_frame(self.reader, self.selection.odometry)
        if chain and body:
            with suppress(TransformError):
                steps |= set(pairwise(self.transforms.chain(chain[-1], body)))
        tree = TransformTree()
        for pair in self.transforms.pairs:
            if pair not in self.transforms.resting or pair in steps or pair[::-1] in steps:
                tree.add(*pair, self.transforms.lookup(*pair))
        return tree

    def _pairing(self, stamps: np.ndarray, mids: np.ndarray) -> PairingFacts | None:
        if not len(stamps) or not len(mids):
            return None
        right = np.clip(np.searchsorted(mids, stamps), 0, len(mids) - 1)
        left = np.maximum(right - 1, 0)
        apart = np.minimum(abs(mids[right] - stamps), abs(mids[left] - stamps)) / _MS
        near = int((apart <= self.settings.pairing.max_age * 1e3).sum())
        if near < len(stamps):
            self.problems.append(
                f'{len(stamps) - near} of {len(stamps)} images have no sweep within {self.settings.pairing.max_age} s '
                '(pairing.max_age) and get depth from the image alone, by classical none'
            )
        return PairingFacts(len(stamps), near, float(np.median(apart)), float(apart.max()))

    def _poses_from_tf(self, lidar_frame: str) -> str:
        topics = transform_topics(self.reader)[1]
        if not topics:
            return ''
        poses = RobotPoses(self.transforms, [lidar_frame], self.settings.transforms.static)
        found, more = '', _MORE_TRANSFORMS
        for record in until_damage(self.reader.messages(topics), lambda damage: None):
            for pose in poses.take(record.message):
                found = f'{pose.frame_id} to {pose.child_frame_id}'
            more -= bool(found)
            if not more:
                break
        return found

    def _say_what_is_missing(self, image: ImageFacts | None, lidar: LidarFacts | None, from_tf: str,
                             latency_ms: dict[str, tuple[float, float]]) -> None:
        todo = {
            'image': 'no camera: record sensor_msgs/Image or CompressedImage, or name the topic (--image)',
            'camera_info': 'no calibration: record the CameraInfo of the camera, or name the topic (--camera-info)',
            'points': 'no lidar: record sensor_msgs/PointCloud2, or name the topic (--points); without it depth comes '
                      'from the image alone, by classical none, and nothing tells how good it is',
            'odometry': 'no odometry: points are not moved between their time and that of the image; record '
                        'nav_msgs/Odometry, or /tf with the frame that carries the robot',
        }
        for role in self.selection.missing:
            if role != 'odometry' or not from_tf:
                self.problems.append(f'{todo[role]} ({self.selection.reasons[role]})')
        self.problems += [f'{text} ({count} times)' for text, count in self.refused.most_common(5)]
        if lidar is not None and not lidar.num_rings:
            self.problems.append(
                'the cloud has no ring field and rings cannot be inferred: evaluate with --input-fraction or '
                '--ring-step'
            )
        if lidar is not None and lidar.time_span_ms is None:
            self.problems.append('the points have no times: a sweep is moved as a whole')
        for topic, (median, _) in latency_ms.items():
            if abs(median) > _OTHER_CLOCK_S * 1e3:
                late = f'{median / 1e3:+.1f} s'
                self.problems.append(f'{topic} is recorded {late} after its stamps: another clock, or no stamps')
        if self.reader.num_damaged:
            self.problems.append(f'{self.reader.num_damaged} messages cannot be deserialised')
