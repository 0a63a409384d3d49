"""Some seconds of a bag as frames of a dataset."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_ros.bags.recording import Item, Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.errors import BagError, FrameRefused
from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.geometry.projection import ProjectedPoints, concatenate, nearest_per_pixel, visible
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings
from depth_ros.types import Frame, LidarScan, Pose
from depth_ros_training.data.accumulation import Accumulated, SweepWindow, depth_image
from depth_ros_training.data.agreement import EdgeAgreement
from depth_ros_training.data.bags import rings_of
from depth_ros_training.data.companions import PartnerImages, TrueDepth, find_partner
from depth_ros_training.data.dataset import (
    NO_OVERLAP,
    camera_entry,
    matrix_entry,
    write_depth,
    write_image,
    write_points,
)
from depth_ros_training.data.plan import CHUNK_NS, BagPlan, PrepareOptions
from depth_ros_training.data.poses import LIDAR_ODOMETRY_FILE, read_trajectory
from depth_ros_training.data.sample import empty_points

_NS = 1_000_000_000
_FRAMES_PER_CHUNK = 10_000
# What is recorded this much before and after a chunk may belong to it: messages are late, and stamps are not log times.
_SLACK_NS = 1_500_000_000
# Images whose edges are compared with those of the lidar: of the first ones every 4th, then every 20th.
_COMPARED = 4, 40, 20
# A point is right if the true depth around its pixel is as near as this.
_RIGHT_SHARE, _RIGHT = 0.03, 0.1  # of the depth; metres


@dataclass(frozen=True, eq=False)
class _Projected:
    """An image, and the sweeps that the robot would have projected into it."""

    frame: Frame
    sweeps: list[tuple[LidarScan, ProjectedPoints]]


class _ProjectingPipeline(DepthPipeline):
    """The pipeline up to the point where a robot would estimate."""

    def process(self, frame: Frame) -> _Projected:  # type: ignore[override]
        """Project; an image without lidar is an answer too."""
        try:
            return _Projected(frame, self.project(frame))
        except FrameRefused as refusal:
            if refusal.reason != 'no_lidar':
                raise
            return _Projected(frame, [])


class Chunk:
    """Images that were recorded within some seconds, and all that goes with them."""

    def __init__(self, plan: BagPlan, number: int, out: Path, options: PrepareOptions, settings: Settings) -> None:
        """Open the bag; ``number`` says which chunk of it."""
        self._plan, self._number, self._out, self._options, self._settings = plan, number, out, options, settings
        self._start = plan.start_ns + number * CHUNK_NS
        self._stop = min(self._start + CHUNK_NS, plan.end_ns + 1)
        self._reach_ns = round(options.reach * _NS)
        wait_ns = round(max(settings.pairing.max_age, settings.pairing.wait) * _NS) + 2 * self._reach_ns + _SLACK_NS
        self._span = self._start - wait_ns, self._stop + wait_ns
        self._recording = Recording(plan.path, TopicOverrides(**plan.facts['topics']), settings)
        transforms = self._recording.transforms
        trajectory = read_trajectory(out / plan.name / LIDAR_ODOMETRY_FILE) if plan.poses == 'lidar odometry' else None
        self._window = SweepWindow(settings, transforms, self._reach_ns, trajectory)
        self._pipeline = _ProjectingPipeline(settings, transforms, NearestEstimator())
        self._truth = TrueDepth(plan.path, *self._span)
        self._partner: PartnerImages | None = None
        self._agreement = EdgeAgreement()
        self._counts: Counter[str] = Counter()
        self._frames: list[dict[str, Any]] = []
        self._cameras: list[dict[str, Any]] = []
        self._stop_note = ''

    def close(self) -> None:
        """Close the bag."""
        self._recording.close()
        self._truth.close()
        if self._partner is not None:
            self._partner.close()

    def prepare(self, count: Callable[[int], None]) -> dict[str, Any]:
        """Write all files of the frames.

        Returns:
            Part of the index.
        """
        events = self._recording.events(*self._span, (self._start, self._stop))
        waiting: deque[tuple[int, _Projected]] = deque()
        for index, answer in enumerate(
            replay(self._watched(events), self._pipeline, ReplayCounts(), self._options.every)
        ):
            if isinstance(answer, FrameRefused):
                self._counts[f'image refused: {answer.reason}'] += 1
                count(1)
                continue
            waiting.append((index, answer))
            self._window.forget_before(waiting[0][1].frame.stamp_ns)
            while waiting and self._is_covered(waiting[0][1].frame):
                self._add(*waiting.popleft())
                count(1)
        for item in waiting:
            self._add(*item)
            count(1)
        return {
            'frames': self._frames,
            'cameras': self._cameras,
            'counts': dict(self._counts),
            'edges': [self._agreement.sums.tolist(), self._agreement.num_edges, self._agreement.width],
            'note': self._stop_note,
        }

    def _watched(self, events: Iterator[tuple[int, Item]]) -> Iterator[tuple[int, Item]]:
        """Pass everything on, keep sweeps and poses, and count what is damaged within the chunk."""
        before: Counter[str] | None = Counter() if self._number == 0 else None
        after: Counter[str] | None = None
        try:
            for log_ns, item in events:
                if before is None and log_ns >= self._start:
                    before = self._damage()
                if after is None and log_ns >= self._stop:
                    after = self._damage()
                if isinstance(item, LidarScan):
                    self._window.add_scan(item)
                elif isinstance(item, Pose):
                    self._window.add_pose(item)
                yield log_ns, item
        except BagError as error:
            self._stop_note = str(error)
        self._counts += (self._damage() if after is None else after) - (before or Counter())

    def _damage(self) -> Counter[str]:
        damaged = Counter({'damaged messages': self._recording.reader.num_damaged})
        return damaged + self._recording.refused

    def _is_covered(self, frame: Frame) -> bool:
        newest = self._window.newest_ns
        return newest is not None and newest > frame.stamp_ns + 2 * self._reach_ns

    def _add(self, index: int, projected: _Projected) -> None:
        frame, sweeps = projected.frame, projected.sweeps
        name = f'{self._number * _FRAMES_PER_CHUNK + index:010d}'
        folder, shape = self._out / self._plan.name, frame.camera.shape
        image = write_image(folder / 'image_02' / 'data' / name, frame)
        pose = self._window.camera_pose(frame)
        entry: dict[str, Any] = {
            'recording': self._plan.name,
            'frame': name,
            'stamp_ns': frame.stamp_ns,
            'camera': self._camera_number(frame),
            'image': self._relative(image),
            'pose': None if pose is None else matrix_entry(pose),
        }
        points, ring = empty_points(), np.zeros(0, np.int16)
        if sweeps:
            points = concatenate([part for _, part in sweeps])
            ring = np.concatenate([rings_of(scan, part) for scan, part in sweeps])
        accumulated = self._window.accumulate(frame) if len(points) else None
        if len(points):
            self._add_depth(entry, folder, name, points, ring, accumulated, shape)
        elif sweeps:
            self._counts[NO_OVERLAP] += 1
        else:
            self._counts['no lidar near in time'] += 1
        self._add_right(entry, folder, name, frame)
        truth = self._truth.depth_at(frame.stamp_ns)
        if truth is not None and truth.shape == shape:
            path = folder / 'truth' / 'image_02' / f'{name}.png'
            write_depth(path, truth)
            entry['truth'] = self._relative(path)
            if accumulated is not None:
                entry['filter'] = _judge(accumulated, truth)
        often, first, seldom = _COMPARED
        if len(points) and index % (often if index < first else seldom) == 0:
            self._agreement.add(frame.gray(), points, ring)
        self._frames.append(entry)

    def _add_depth(
        self,
        entry: dict[str, Any],
        folder: Path,
        name: str,
        points: ProjectedPoints,
        ring: np.ndarray,
        accumulated: Accumulated | None,
        shape: tuple[int, int],
    ) -> None:
        front = points.take(nearest_per_pixel(points, shape))
        raw = depth_image(front, shape)
        if accumulated is not None:
            dense = accumulated.depth_image(shape)
        else:
            margin = self._settings.projection.hidden_margin
            dense = depth_image(front.take(visible(front, front, shape, margin)), shape)
        paths = {
            'points': folder / 'points' / f'{name}.npz',
            'velodyne_raw': folder / 'proj_depth' / 'velodyne_raw' / 'image_02' / f'{name}.png',
            'groundtruth': folder / 'proj_depth' / 'groundtruth' / 'image_02' / f'{name}.png',
        }
        write_points(paths['points'], points, ring)
        write_depth(paths['velodyne_raw'], raw)
        write_depth(paths['groundtruth'], dense)
        entry |= {key: self._relative(path) for key, path in paths.items()}
        depths = np.percentile(points.depth, (1, 50, 99))
        entry |= {
            'num_points': len(points),
            'num_rings': len(np.unique(ring[ring >= 0])),
            'num_sweeps': 1 if accumulated is None else accumulated.num_sweeps,
            'depth': [round(float(value), 3) for value in depths],
            'density': [round(float(np.isfinite(values).mean()), 5) for values in (raw, dense)],
        }

    def _add_right(self, entry: dict[str, Any], folder: Path, name: str, frame: Frame) -> None:
        if not self._plan.partner:
            return
        if self._partner is None:
            partner, _ = find_partner(self._recording, frame.camera, self._settings, self._plan.partner)
            if partner is None:
                return
            self._partner = PartnerImages(self._plan.path, partner, self._settings, *self._span)
        right = self._partner.frame_at(frame.stamp_ns)
        if right is None:
            self._counts['no right image of the moment'] += 1
            return
        path = write_image(folder / 'image_03' / 'data' / name, right)
        entry['right'] = {
            'image': self._relative(path),
            'camera': self._camera_number(right),
            'right_from_left': self._plan.facts['right_from_left'],
        }

    def _camera_number(self, frame: Frame) -> int:
        entry = camera_entry(frame.camera)
        if entry not in self._cameras:
            self._cameras.append(entry)
        return self._cameras.index(entry)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()


def _judge(accumulated: Accumulated, truth: np.ndarray) -> list[list[int]]:
    """Compare the points of other sweeps with the truth.

    Returns:
        Numbers of points that are right, too near and too far: of those removed, of those kept, and of those kept of
        the sweep of the moment.
    """
    points = accumulated.points
    # Sky is farther than anything. At an edge the pixels beside it are as good.
    known = np.where(np.isfinite(truth), truth, np.float32(1e9))
    kernel = np.ones((3, 3), np.uint8)
    row, column = (np.floor(values + np.float32(0.5)).astype(np.int64) for values in (points.v, points.u))
    nearest, farthest = cv2.erode(known, kernel)[row, column], cv2.dilate(known, kernel)[row, column]
    tolerance = _RIGHT + _RIGHT_SHARE * points.depth
    state = np.where(points.depth < nearest - tolerance, 1, np.where(points.depth > farthest + tolerance, 2, 0))
    other = np.arange(len(points)) >= accumulated.num_own
    parts = other & ~accumulated.kept, other & accumulated.kept, ~other & accumulated.kept
    return [np.bincount(state[part], minlength=3).tolist() for part in parts]
