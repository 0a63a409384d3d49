"""Choose the topics to use, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from depth_ros.bags.reader import BagReader, Topic
from depth_ros.errors import BagError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
POINTS_TYPE = 'sensor_msgs/msg/PointCloud2'
ODOMETRY_TYPE = 'nav_msgs/msg/Odometry'

# Words in the parts of a topic's name. Whole words, or parts of words joined by _, so that `mask` does not match
# `masked_cam`.
_TRUTH = {'truth', 'groundtruth', 'gt'}
_NO_CAMERA = {'depth', 'depths', 'mask', 'masks', 'label', 'labels', 'semantic', 'semantics', 'segmentation',
              'disparity', 'confidence', 'compresseddepth', 'theora', 'ffmpeg', 'overlay', 'debug', 'costmap'}
_POOR_CAMERA = {'infra', 'infra1', 'infra2', 'infrared', 'ir', 'thermal', 'fisheye', 'event', 'dvs'}
_FRONT, _REAR = {'front', 'forward', 'center', 'centre'}, {'rear', 'back', 'behind'}
_LIDAR = {'points', 'velodyne', 'ouster', 'lidar', 'livox', 'hesai', 'rslidar', 'pandar', 'laser', 'scan', 'os',
          'os0', 'os1', 'os2', 'vlp16', 'robosense', 'pointcloud', 'cloud'}
_NO_LIDAR = {'depth', 'camera', 'stereo', 'rgbd', 'realsense', 'zed', 'radar', 'sonar'}
_PROCESSED = {'map', 'ground', 'nonground', 'obstacle', 'obstacles', 'cluster', 'clusters', 'filtered', 'accumulated',
              'global', 'submap', 'voxel', 'downsampled', 'features', 'edge', 'planar'}


@dataclass(frozen=True)
class TopicOverrides:
    """Topics that the user named; '' = to be found."""

    image: str = ''
    camera_info: str = ''
    points: str = ''
    odometry: str = ''


@dataclass(frozen=True)
class Selection:
    """Topics to use.

    Attributes:
        image: camera images, '' if the bag has none.
        camera_info: their calibration, '' if none.
        points: lidar, '' if none.
        odometry: poses, '' if none.
        reasons: per role, why this one (or why none), one line.
        candidates: per role, all topics that could serve, the best first.
        missing: roles without a topic.
    """

    image: str
    camera_info: str
    points: str
    odometry: str
    reasons: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def select_topics(reader: BagReader, overrides: TopicOverrides = TopicOverrides()) -> Selection:
    """Choose camera, calibration, lidar and odometry.

    Cameras: those with a CameraInfo first, colour before grey, left and front before others, rectified before raw, raw
    before compressed. Depth images and masks are never chosen. Lidars: those that name themselves, with rings or point
    times, then the one with most points. Odometry: fused before raw, then the one with most messages. Topics that name
    themselves truth are taken only where the user names them.

    Args:
        reader: the bag.
        overrides: topics that are named win.

    Returns:
        The selection; roles that nothing can fill are in ``missing``.

    Raises:
        BagError: a topic that was named is not in the bag, is empty, or is of another type.
    """
    finder = _Finder(reader)
    reasons: dict[str, str] = {}
    chosen: dict[str, str] = {}
    candidates: dict[str, tuple[str, ...]] = {}
    plans: tuple[tuple[str, tuple[str, ...], Callable[[Topic], tuple[tuple[Any, ...], list[str]] | None]], ...] = (
        ('image', IMAGE_TYPES, finder.rate_image),
        ('camera_info', (CAMERA_INFO_TYPE,), lambda topic: finder.rate_info(topic, chosen['image'])),
        ('points', (POINTS_TYPE,), finder.rate_points),
        ('odometry', (ODOMETRY_TYPE,), finder.rate_odometry),
    )
    for role, types, rate in plans:
        of_type = [topic for topic in reader.topics if topic.type in types and topic.count]
        # What a simulator or a reference system knows is for judging, and is taken only where it is named.
        measured = [topic for topic in of_type if not _words(topic.name) & _TRUTH]
        rated = [(rating, topic) for topic in measured if (rating := rate(topic)) is not None]
        rated.sort(key=lambda item: (item[0][0], item[1].count), reverse=True)
        candidates[role] = tuple(topic.name for _, topic in rated)
        named = getattr(overrides, role)
        if named:
            topic = reader.topic(named)
            if not topic.count:
                raise BagError(f'topic {named!r} holds no message, expected some for {role}; was it published?')
            if topic.type not in types:
                raise BagError(f'topic {named!r} holds {topic.type}, expected {" or ".join(types)} for {role}')
            chosen[role], reasons[role] = named, 'named by the user'
        elif rated:
            (_, because), topic = rated[0]
            alone = ['the only one'] if len(rated) == 1 else [f'best of {len(rated)}']
            chosen[role], reasons[role] = topic.name, ', '.join(alone + because)
        else:
            what = ' or '.join(types)
            chosen[role] = ''
            reasons[role] = f'no topic of type {what}' if not of_type else (
                f'none of {len(of_type)} topics of type {what} fits: {", ".join(topic.name for topic in of_type)}'
            )
    missing = tuple(role for role, topic in chosen.items() if not topic)
    return Selection(**chosen, reasons=reasons, candidates=candidates, missing=missing)


class _Finder:
    """Rates topics by their names and by their first message. A rating sorts; None = unfit."""

    def __init__(self, reader: BagReader) -> None:
        self._reader = reader
        self._first: dict[str, Any] = {}
        self._infos = [topic for topic in reader.topics if topic.type == CAMERA_INFO_TYPE and topic.count]

    def first(self, name: str) -> Any:
        """First message of a topic, None if none can be read."""
        if name not in self._first:
            found = self._reader.first(name)
            self._first[name] = None if found is None else found.message
        return self._first[name]

    def rate_image(self, topic: Topic) -> tuple[tuple[Any, ...], list[str]] | None:
        words = _words(topic.name)
        message = self.first(topic.name)
        if message is None or words & _NO_CAMERA:
            return None
        compressed = topic.type.endswith('CompressedImage')
        encoding = message.format if compressed else message.encoding
        if 'compressedDepth' in encoding or encoding in ('32FC1', '64FC1', '32SC1') or \
                (encoding == '16UC1' and not words & _POOR_CAMERA):
            return None
        rating = max((self._info_rating(info, topic.name) for info in self._infos), default=(0,))
        calibrated = rating[0] > 0
        colour = any(word in encoding for word in ('rgb', 'bgr', 'bayer', 'yuv', 'yuyv', 'uyvy', '8UC3', '8UC4')) or (
            not ('mono' in encoding or words & {'gray', 'grey', 'mono'})
        )
        # In front beats left (of a ring of cameras), left beats right (of a pair).
        side = 2 * bool(words & _FRONT) + ('left' in words) - ('right' in words) - 3 * bool(words & _REAR)
        rectified = any('rect' in word for word in words)
        because = ['has a CameraInfo'] if calibrated else ['no CameraInfo fits']
        because += ['colour'] if colour else ['grey']
        because += ['rectified'] if rectified else []
        because += ['compressed'] if compressed else []
        many = topic.count * 2 > max(item.count for item in self._reader.topics if item.type in IMAGE_TYPES)
        suited = not words & _POOR_CAMERA
        return (calibrated, many, suited, colour, side, rectified, not compressed, -_number(topic.name)), because

    def rate_info(self, topic: Topic, image: str) -> tuple[tuple[Any, ...], list[str]] | None:
        if not image:
            return None
        rating = self._info_rating(topic, image)
        if rating[0] == 0:
            return None
        same_namespace, same_frame = rating[1], rating[2]
        because = ['in the namespace of the image'] if same_namespace else []
        because += ['in its frame'] if same_frame else []
        return rating, because or ['of its size']

    def rate_points(self, topic: Topic) -> tuple[tuple[Any, ...], list[str]] | None:
        words = _words(topic.name)
        message = self.first(topic.name)
        if message is None:
            return None
        fields = {item.name for item in message.fields}
        if not {'x', 'y', 'z'} <= fields:
            return None
        lidar_like = bool(words & _LIDAR)
        by_camera = bool({'rgb', 'rgba'} & fields) or bool(words & _NO_LIDAR)
        driver = bool(fields & {'ring', 'channel', 'line', 'laser_id', 't', 'time', 'timestamp', 'offset_time'})
        points = message.width * message.height
        because = [f'{points} points in its first sweep']
        because += ['rings or point times'] if driver else []
        because += ['coloured, as from a camera'] if by_camera else []
        return (not by_camera, driver, not words & _PROCESSED, lidar_like, points * topic.count), because

    def rate_odometry(self, topic: Topic) -> tuple[tuple[Any, ...], list[str]] | None:
        message = self.first(topic.name)
        if message is None or not message.child_frame_id:
            return None
        words = _words(topic.name)
        fused = bool(words & {'filtered', 'fused', 'ekf', 'local'})
        poor = bool(words & {'gps', 'wheel', 'raw'})
        because = [f'{message.header.frame_id} to {message.child_frame_id}', f'{topic.count} messages']
        return (fused, not poor), because

    def _info_rating(self, info: Topic, image: str) -> tuple[int, bool, bool, int, int]:
        """How well a CameraInfo fits an image topic; starts with 0 if not at all."""
        mine, theirs = self.first(info.name), self.first(image)
        if mine is None or theirs is None:
            return (0, False, False, 0, 0)
        same_size = not hasattr(theirs, 'width') or (mine.width, mine.height) == (theirs.width, theirs.height) or bool(
            mine.binning_x > 1 or mine.roi.width)
        namespace = info.name.rsplit('/', 1)[0]
        stem = image.removesuffix('/compressed')
        same_namespace = stem.rsplit('/', 1)[0] == namespace or stem == namespace
        same_frame = bool(mine.header.frame_id) and mine.header.frame_id == theirs.header.frame_id
        shared = 0
        for one, other in zip(namespace.split('/'), stem.split('/'), strict=False):
            if one != other:
                break
            shared += 1
        cameras = {topic.name.removesuffix('/compressed') for topic in self._reader.topics if topic.type in IMAGE_TYPES}
        alone = len(self._infos) == 1 and len(cameras) == 1
        fits = same_namespace or same_frame or alone
        counts = -abs(info.count - self._reader.topic(image).count)
        return (int(fits) + int(fits and same_size), same_namespace, same_frame, shared, counts)


def _words(name: str) -> set[str]:
    return {word for part in name.lower().split('/') for word in (part, *part.split('_')) if word}


def _number(name: str) -> int:
    """First number in a name: of cameras that differ by number alone the first is the main one."""
    digits = ''.join(character if character.isdigit() else ' ' for character in name).split()
    return int(digits[0]) if digits else 0
