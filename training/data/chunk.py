"""A stretch of a bag as frames of a dataset, in parts of some seconds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np

from depth_ros.bags.companion import TRUTH_TOPIC, TrueDepth
from depth_ros.bags.recording import Item, Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.errors import BagError, FrameRefused, MessageError
from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.geometry.projection import ProjectedPoints, concatenate, nearest_per_pixel, visible
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings
from depth_ros.types import Frame, LidarScan, Pose
from depth_ros_training.data.accumulation import JUMP_NS, Accumulated, SweepWindow, draw
from depth_ros_training.data.agreement import EdgeAgreement
from depth_ros_training.data.companions import PartnerImages, find_partner
from depth_ros_training.data.dataset import (
    NO_OVERLAP,
    camera_entry,
    encode_truth,
    matrix_entry,
    write_depth,
    write_image,
    write_points,
)
from depth_ros_training.data.plan import BagPlan, PrepareOptions
from depth_ros_training.data.poses import LIDAR_ODOMETRY_FILE, read_trajectory
from depth_ros_training.data.sample import empty_points, rings_of
from depth_ros_training.data.sweep_kernels import compare

_NS = 1_000_000_000
_FRAMES_PER_CHUNK = 10_000
# What is recorded this much before and after a chunk may belong to it: messages are late, and stamps are not log times.
_SLACK_NS = 1_500_000_000
# Images whose edges are compared with those of the lidar: of the first ones of a bag every 4th, then every 20th.
_COMPARED = 4, 40, 20
# A point is right if the true depth around its pixel is as near as this.
_RIGHT_SHARE, _RIGHT = 0.03, 0.1  # of the depth; metres


@dataclass(frozen=True, eq=False)
class _Projected:
    """An image, and the sweeps that the robot would have projected into it."""

    frame: Frame
    sweeps: list[tuple[LidarScan, ProjectedPoints]]


class _ProjectingPipeline(DepthPipeline):
    """The pipeline up to the point where a robot would estimate; ``newest`` is the image that it answered last."""

    newest: Frame

    def process(self, frame: Frame) -> _Projected:  # type: ignore[override]
        """Project; an image without lidar is an answer too."""
        self.newest = frame
        try:
            return _Projected(frame, self.project(frame))
        except FrameRefused as refusal:
            if refusal.reason != 'no_lidar':
                raise
            return _Projected(frame, [])


class _Part:
    """What the index will say of one chunk."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.num_images = self.num_left = 0  # read so far; of those taken, not yet answered
        self.frames: list[dict[str, Any]] = []
        self.cameras: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.agreement = EdgeAgreement()
        self.note = ''

    def camera_number(self, frame: Frame) -> int:
        entry = camera_entry(frame.camera)
        if entry not in self.cameras:
            self.cameras.append(entry)
        return self.cameras.index(entry)

    def content(self) -> dict[str, Any]:
        return {
            'frames': self.frames,
            'cameras': self.cameras,
            'counts': dict(self.counts),
            'edges': [self.agreement.sums.tolist(), self.agreement.num_edges, self.agreement.width],
            'note': self.note,
        }


class Chunks:
    """Images that were recorded within consecutive chunks, and all that goes with them."""

    def __init__(self, plan: BagPlan, run: range, out: Path, options: PrepareOptions, settings: Settings) -> None:
        """Open the bag; ``run`` says which chunks of it."""
        self._plan, self._run, self._out, self._options, self._settings = plan, run, out, options, settings
        self._start, self._stop = plan.span(run[0], run[-1])
        self._reach_ns = round(options.reach * _NS)
        wait_ns = round(max(settings.pairing.max_age, settings.pairing.wait) * _NS) + 2 * self._reach_ns + _SLACK_NS
        self._span = self._start - wait_ns, self._stop + wait_ns
        self._recording = Recording(plan.path, TopicOverrides(**plan.facts['topics']), settings)
        transforms = self._recording.transforms
        trajectory = read_trajectory(out / plan.name / LIDAR_ODOMETRY_FILE) if plan.poses == 'lidar odometry' else None
        self._window = SweepWindow(settings, transforms, self._reach_ns, trajectory)
        self._pipeline = _ProjectingPipeline(settings, transforms, NearestEstimator())
        self._truth = TrueDepth(plan.path, *self._span) if self._recording.reader.has(TRUTH_TOPIC) else None
        self._partner: PartnerImages | None = None
        self._parts = {number: _Part(number) for number in run}
        self._reached = run[0]
        # Part of each image on its way, the place within it, and how often time had jumped back before it.
        self._places: WeakKeyDictionary[Frame, tuple[_Part, int, int]] = WeakKeyDictionary()
        self._waiting: deque[_Projected] = deque()  # for sweeps that come after them
        self._newest: dict[type, int] = {}  # stamp of each kind of item
        self._num_jumps = 0

    def close(self) -> None:
        """Close the bag."""
        self._recording.close()
        if self._truth is not None:
            self._truth.close()
        if self._partner is not None:
            self._partner.close()

    def prepare(self, count: Callable[[int], None]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Write all files of the frames.

        Args:
            count: called with 1 for every image that is done.

        Yields:
            number: of a chunk all of whose frames are written.
            part: what the index will say of it.
        """
        events = self._recording.events(*self._span, (self._start, self._stop), may_defer=True)
        waiting = self._waiting
        for answer in replay(self._watched(events, count), self._pipeline, ReplayCounts(), bounded=False):
            if isinstance(answer, FrameRefused):
                part, *_ = self._places[self._pipeline.newest]
                part.counts[f'image refused: {answer.reason}'] += 1
                part.num_left -= 1
                count(1)
            else:
                waiting.append(answer)
            yield from self._finished()
        while waiting:
            self._add(waiting.popleft())
            count(1)
            yield from self._finished()
        for number, part in self._parts.items():
            yield number, part.content()

    def _finished(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Hand over the parts to which nothing is added any more; the last one may get images until the end."""
        for number in [*self._parts][:-1]:
            if number < self._reached and self._parts[number].num_left == 0:
                yield number, self._parts.pop(number).content()

    def _watched(self, events: Iterator[tuple[int, Item]], count: Callable[[int], None]) -> Iterator[tuple[int, Item]]:
        """Pass on what is to be prepared, keep sweeps and poses, and count what is damaged within each chunk."""
        before: Counter[str] | None = Counter() if self._run[0] == 0 else None
        try:
            for log_ns, item in events:
                if before is None and log_ns >= self._start:
                    before = self._damage()
                reached = min(self._plan.chunk_at(log_ns), self._run.stop)
                if reached > self._reached:
                    after = self._damage()
                    self._parts[self._reached].counts += after - (before or Counter())
                    before, self._reached = after, reached
                if self._jumps_back(item):
                    # No sweep after them will come for those that wait, and the window is about to forget those before.
                    while self._waiting:
                        self._add(self._waiting.popleft())
                        count(1)
                if isinstance(item, LidarScan):
                    self._window.add_scan(item)
                    self._catch_up(item, count)
                elif isinstance(item, Pose):
                    self._window.add_pose(item)
                elif not self._takes(item):
                    continue
                yield log_ns, item
        except BagError as error:
            if self._reached in self._parts:
                self._parts[self._reached].note = str(error)
        if self._reached in self._parts:
            self._parts[self._reached].counts += self._damage() - (before or Counter())
        self._reached = self._run.stop

    def _catch_up(self, newest: LidarScan, count: Callable[[int], None]) -> None:
        """Add the images that have all their sweeps with the newest one, and let go of sweeps that none needs."""
        while self._waiting and self._is_covered(self._waiting[0].frame):
            self._add(self._waiting.popleft())
            count(1)
        if self._waiting:
            self._window.forget_before(self._waiting[0].frame.stamp_ns)
        elif not any(part.num_left for part in self._parts.values()):
            # No image is on its way, perhaps for hours: one to come is no older than this.
            self._window.forget_before(newest.mid_ns - _SLACK_NS)

    def _jumps_back(self, item: Item) -> bool:
        """Whether the recording starts again with this item, as that of a simulation does."""
        # Each kind by itself: cameras may be stamped by another clock than lidars.
        newest = self._newest.get(type(item), item.stamp_ns)
        jumps = item.stamp_ns < newest - JUMP_NS
        if jumps:
            self._newest.clear()
            self._num_jumps += 1
        self._newest[type(item)] = item.stamp_ns if jumps else max(newest, item.stamp_ns)
        return jumps

    def _takes(self, frame: Frame) -> bool:
        """Give an image its place, if it is not one of those left out."""
        part = self._parts[min(self._reached, self._run[-1])]
        place, rest = divmod(part.num_images, self._options.every)
        part.num_images += 1
        if rest:
            return False
        part.num_left += 1
        self._places[frame] = part, place, self._num_jumps
        return True

    def _damage(self) -> Counter[str]:
        damaged = Counter({'damaged messages': self._recording.reader.num_damaged})
        return damaged + self._recording.refused

    def _is_covered(self, frame: Frame) -> bool:
        if self._places[frame][2] < self._num_jumps:
            return True
        newest = self._window.newest_ns
        return newest is not None and newest > frame.stamp_ns + 2 * self._reach_ns

    def _add(self, projected: _Projected) -> None:
        frame, sweeps = projected.frame, projected.sweeps
        part, index, _ = self._places[frame]
        name = f'{part.number * _FRAMES_PER_CHUNK + index:010d}'
        folder, shape = self._out / self._plan.name, frame.camera.shape
        often, first, seldom = _COMPARED
        compared = bool(sweeps) and index % (often if part.number == 0 and index < first else seldom) == 0
        try:
            gray = frame.gray() if compared else None
        except MessageError as error:
            part.counts[f'image: {error}'] += 1
            part.num_left -= 1
            return
        image = write_image(folder / 'image_02' / 'data' / name, frame)
        pose = self._window.camera_pose(frame)
        entry: dict[str, Any] = {
            'recording': self._plan.name,
            'frame': name,
            'stamp_ns': frame.stamp_ns,
            'camera': part.camera_number(frame),
            'image': self._relative(image),
            'pose': None if pose is None else matrix_entry(pose),
        }
        points, ring = empty_points(), np.zeros(0, np.int16)
        if sweeps:
            points = concatenate([projected for _, projected in sweeps])
            ring = np.concatenate([rings_of(scan, projected) for scan, projected in sweeps])
        accumulated = self._window.accumulate(frame) if len(points) else None
        if len(points):
            self._add_depth(entry, folder, name, points, ring, accumulated, shape)
        elif sweeps:
            part.counts[NO_OVERLAP] += 1
        else:
            part.counts['no lidar near in time'] += 1
        self._add_right(part, entry, folder, name, frame)
        truth = None if self._truth is None else self._truth.depth_at(frame.stamp_ns, frame.camera.frame_id)
        if truth is not None and truth.shape == shape:
            path = folder / 'truth' / 'image_02' / f'{name}.png'
            write_depth(path, encode_truth(truth))
            entry['truth'] = self._relative(path)
            if accumulated is not None:
                entry['filter'] = _judge(accumulated, truth)
        if gray is not None and len(points):
            part.agreement.add(gray, points, ring)
        part.frames.append(entry)
        part.num_left -= 1

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
        raw = draw(points, shape)
        if accumulated is not None:
            dense = draw(accumulated.points, shape, accumulated.kept)
        else:
            front = points.take(nearest_per_pixel(points, shape))
            dense = draw(front, shape, visible(front, front, shape, self._settings.projection.hidden_margin))
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
            'num_rings': int(np.count_nonzero(np.bincount(ring[ring >= 0]))),
            'num_sweeps': 1 if accumulated is None else accumulated.num_sweeps,
            'depth': [round(float(value), 3) for value in depths],
            'density': [round(np.count_nonzero(steps) / steps.size, 5) for steps in (raw, dense)],
        }

    def _add_right(self, part: _Part, entry: dict[str, Any], folder: Path, name: str, frame: Frame) -> None:
        if not self._plan.partner:
            return
        if self._partner is None:
            partner, _ = find_partner(self._recording, frame.camera, self._settings, self._plan.partner)
            if partner is None:
                return
            self._partner = PartnerImages(self._plan.path, partner, self._settings, *self._span)
        right = self._partner.frame_at(frame.stamp_ns)
        if right is None:
            part.counts['no right image of the moment'] += 1
            return
        path = write_image(folder / 'image_03' / 'data' / name, right)
        entry['right'] = {
            'image': self._relative(path),
            'camera': part.camera_number(right),
            'right_from_left': self._plan.facts['right_from_left'],
        }

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
    nearest, farthest = cv2.erode(known, kernel), cv2.dilate(known, kernel)
    state = compare(points.u, points.v, points.depth, nearest, farthest, _RIGHT, _RIGHT_SHARE)
    other = np.arange(len(points)) >= accumulated.num_own
    parts = other & ~accumulated.kept, other & accumulated.kept, ~other & accumulated.kept
    return [np.bincount(state[part], minlength=3).tolist() for part in parts]
