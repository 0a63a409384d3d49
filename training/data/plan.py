"""Bags that are to become a dataset: what is in them, and whether something can be learnt from it."""

from __future__ import annotations

import importlib.util
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.errors import BagError, MessageError, MissingDependencyError, SettingsError, TransformError
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.settings import Settings
from depth_ros.types import Frame, LidarScan
from depth_ros_training.data.companions import find_partner
from depth_ros_training.data.dataset import SPLITS, matrix_entry
from depth_ros_training.data.poses import recorded_poses
from depth_ros_training.data.splits import SplitOptions, assign_splits

_NS = 1_000_000_000
POSES = ('auto', 'recorded', 'lidar', 'none')
_FRAMES = 100  # so many, evenly spread, stand for a recording before its images are read
CHUNK_NS = 5 * _NS  # what is lost at most when a preparation is interrupted


def check_every(every: int) -> None:
    """Refuse to take every n-th image of less than each.

    Raises:
        SettingsError: it is less than 1.
    """
    if every < 1:
        raise SettingsError(f'every is {every}, expected at least 1')


@dataclass(frozen=True)
class PrepareOptions:
    """What is prepared.

    Attributes:
        reach: sweeps up to this far from an image in time supervise it, s; 0 = the nearest alone.
        every: only every n-th image, counted anew in each part of a bag (5 s): parts do not know of each other.
        poses: ``auto`` (recorded ones, else lidar odometry), ``recorded``, ``lidar`` or ``none``.
        right: topic of the right camera; '' = the one that is named like it.
        overrides: topics that the user named.
    """

    reach: float = 0.5
    every: int = 1
    poses: str = 'auto'
    right: str = ''
    overrides: TopicOverrides = field(default_factory=TopicOverrides)

    def __post_init__(self) -> None:
        if not 0 <= self.reach <= 5:
            raise SettingsError(f'reach is {self.reach} s, expected 0 to 5')
        check_every(self.every)
        if self.poses not in POSES:
            raise SettingsError(f'poses are {self.poses!r}, expected one of {", ".join(POSES)}')


@dataclass(frozen=True)
class BagPlan:
    """One bag, and what is to be made of it.

    Attributes:
        path: the bag.
        name: of the recording in the dataset.
        start_ns: first log time.
        end_ns: last log time.
        chunk_ns: time that one part of the index is about.
        num_frames: images in the bag.
        poses: ``odometry``, ``tf``, ``lidar odometry`` or ``none``.
        points: topic of the lidar, '' if there is none.
        partner: topic of the right images, '' if there is none.
        facts: for the index.
        notes: what the user should know.
    """

    path: Path
    name: str
    start_ns: int
    end_ns: int
    chunk_ns: int
    num_frames: int
    poses: str
    points: str
    partner: str
    facts: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def num_chunks(self) -> int:
        """Parts in which the frames are written down."""
        return self.chunk_at(self.end_ns) + 1

    def chunk_at(self, log_ns: int) -> int:
        """The chunk of what was recorded at a time."""
        return (log_ns - self.start_ns) // self.chunk_ns

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Time at which a chunk begins, and that before which another one ends, ns."""
        end_ns = self.start_ns + (last + 1) * self.chunk_ns
        return self.start_ns + first * self.chunk_ns, min(end_ns, self.end_ns + 1)


def make_plans(bags: list[Path], options: PrepareOptions, settings: Settings) -> list[BagPlan]:
    """Look at all bags.

    Args:
        bags: the bags.
        options: what is prepared.
        settings: of the pipeline.

    Returns:
        A plan for each.

    Raises:
        BagError: a bag cannot be read, or nothing can be learnt from it.
        MissingDependencyError: lidar odometry is needed and not installed.
        SettingsError: two bags have one name.
    """
    paths = [Path(bag) for bag in bags]
    return [_plan(path, name, options, settings) for path, name in zip(paths, recording_names(paths), strict=True)]


def recording_names(paths: Sequence[Path]) -> list[str]:
    """Name for each bag by which its recording goes.

    Raises:
        SettingsError: a bag is named twice, or two bags have one name.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise SettingsError('a bag is named twice')
    stems = [Path(os.path.abspath(path)).stem for path in paths]  # the folder that the user is in has no other name
    names = [
        stem if stems.count(stem) == 1 else f'{path.resolve().parent.name}_{stem}'
        for path, stem in zip(paths, stems, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SettingsError(f'two bags are both named {twice[0]!r}; rename one, recordings go by the names of bags')
    return names


def check_split(spans: Mapping[str, tuple[int, int]], split: SplitOptions) -> None:
    """Refuse, before the work, a split that is impossible whatever the images show.

    Args:
        spans: first and last time of each recording, ns.
        split: how frames are to be divided.

    Raises:
        SettingsError: there are too few recordings, or the gap is no number or longer than all of them.
    """
    if not math.isfinite(split.gap):
        raise SettingsError(f'gap is {split.gap} s, expected a number of seconds, or less than 0 for the default')
    if split.by == 'recording' or (split.by == 'auto' and len(spans) >= len(SPLITS)):
        hopeless = len(spans) < sum(share > 0 for share in split.shares)
    else:
        hopeless = split.gap * _NS > max(end - start for start, end in spans.values())
    if hopeless:
        assign_splits({
            name: [{'stamp_ns': start + (end - start) * number // _FRAMES} for number in range(_FRAMES + 1)]
            for name, (start, end) in spans.items()
        }, split)  # fmt: skip


def _plan(path: Path, name: str, options: PrepareOptions, settings: Settings) -> BagPlan:
    """Look at a bag: is there something to be learnt from it?"""
    notes = []
    with Recording(path, options.overrides, settings) as recording:
        chosen, reader = recording.selection, recording.reader
        frame = next((item for _, item in recording.events() if isinstance(item, Frame)), None)
        if frame is None:
            reasons = '; '.join(recording.refused) or 'there is none'
            raise BagError(f'no image of bag {str(path)!r} can be decoded: {reasons}')
        partner, why_not = find_partner(recording, frame.camera, settings, options.right)
        if why_not:
            notes.append(f'{name}: no stereo partner: {why_not}')
        poses = _pose_source(recording, frame.camera.frame_id, options)
        if not chosen.points:
            if partner is None and poses == 'none':
                raise BagError(
                    f'bag {str(path)!r} has no lidar ({chosen.reasons["points"]}), no second camera and no poses: '
                    'nothing can be learnt from it; record sensor_msgs/PointCloud2, or name the topic (--points)'
                )
            notes.append(f'{name}: no lidar ({chosen.reasons["points"]}): its frames teach by comparing images only')
        facts = {
            'bag': path.name,
            'bytes': _size(path),
            'start_ns': reader.start_ns,
            'end_ns': reader.end_ns,
            'topics': {role: getattr(chosen, role) for role in ('image', 'camera_info', 'points', 'odometry')},
            'poses': poses,
            'right_from_left': None if partner is None else matrix_entry(partner.right_from_left),
            'camera_from_lidar': _camera_from_lidar(recording, frame.camera.frame_id, settings),
        }
        notes += [f'{name}: {note}' for note in reader.notes]
        if poses == 'none':
            notes.append(f'{name}: no poses: one sweep alone supervises, and there are no neighbours in time')
        return BagPlan(
            path,
            name,
            reader.start_ns,
            reader.end_ns,
            CHUNK_NS,
            -(-recording.num_frames // options.every),
            poses,
            chosen.points,
            '' if partner is None else partner.topic,
            facts,
            tuple(notes),
        )


def _pose_source(recording: Recording, camera_frame: str, options: PrepareOptions) -> str:
    if options.poses == 'none':
        return 'none'
    recorded = '' if options.poses == 'lidar' else recorded_poses(recording, camera_frame)
    if recorded:
        return recorded
    if options.poses == 'recorded' or not recording.selection.points:
        return 'none'
    if importlib.util.find_spec('kiss_icp') is None:
        raise MissingDependencyError(
            f'bag {str(recording.reader.path)!r} has no odometry, and lidar odometry needs KISS-ICP: pip install '
            'kiss-icp; or do without poses (--poses none)'
        )
    return 'lidar odometry'


def _camera_from_lidar(recording: Recording, camera_frame: str, settings: Settings) -> list[float] | None:
    if not recording.selection.points:
        return None
    path = str(recording.reader.path)
    scan = next(sweeps(recording, settings), None)
    if scan is None:
        raise BagError(f'no sweep of bag {path!r} can be decoded')
    try:
        return matrix_entry(recording.transforms.lookup(camera_frame, scan.frame_id))
    except TransformError as error:
        raise BagError(
            f"bag {path!r}: {error}; give it as 'parent child x y z qx qy qz qw' in transforms.static of a "
            'parameter file (--params)'
        ) from error


def sweeps(recording: Recording, settings: Settings) -> Iterator[LidarScan]:
    """Sweeps of a bag, in order, without those that cannot be decoded.

    Raises:
        BagError: the file is damaged from here on.
    """
    for record in recording.reader.messages([recording.selection.points]):
        with suppress(MessageError):
            yield decode_cloud(record.message, settings.transforms.lidar_frame)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [item for item in path.iterdir() if item.is_file()]
    return sum(item.stat().st_size for item in files)
