"""The method: pair, move, project, estimate.

The live node, the replay of a bag and the preparation of training data all call this and nothing else, so the same
messages give the same pixels everywhere.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from depth_ros.errors import CameraError, DepthRosError, FrameRefused, OldTransformError, TransformError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.downscale import estimate_downscaled
from depth_ros.estimators.parts import threads_here
from depth_ros.geometry.motion import PointMotion, Trajectory, point_motion
from depth_ros.geometry.projection import ProjectedPoints, concatenate, nearest_per_pixel, project, visible
from depth_ros.settings import Settings
from depth_ros.types import Basis, DepthEstimate, Frame, LidarScan, Pose, SparseDepth

Holdout = Callable[[LidarScan], np.ndarray]
"""Chooses the points of a scan to withhold: (N,) bool, True = kept from the estimator; depends on the scan alone."""

_NS = 1_000_000_000
_MAX_SCANS = 64
# Messages may be out of order by this much: an image may come as late, and what goes back farther starts time anew.
_DISORDER_NS = 2 * _NS


class Transforms(Protocol):
    """Where frames are, relative to each other; ``geometry.rigid.TransformTree`` is one."""

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """(4, 4) target_from_source at a time; raises ``TransformError``."""
        ...


class DepthPipeline:
    """Turns camera frames into depth, with whatever lidar and odometry came before them."""

    def __init__(
        self, settings: Settings, transforms: Transforms, estimator: Estimator, holdout: Holdout | None = None
    ) -> None:
        """Set the pipeline up.

        ``num_resets`` counts how often time jumped back; ``odometry_unused`` says why the last frame did without
        odometry that was there, '' if it did not.

        Args:
            settings: may be replaced at any time through the attribute of the same name; it then holds from the next
                frame.
            transforms: joins camera, lidar and body frames.
            estimator: the method.
            holdout: chooses points to withhold from the estimator and to return for scoring; None = none.
        """
        self.settings = settings
        self.estimator = estimator
        self._transforms = transforms
        self._holdout = holdout
        self._scans: deque[LidarScan] = deque(maxlen=_MAX_SCANS)
        self._trajectory = Trajectory()
        self.num_resets = 0
        self.odometry_unused = ''

    def add_scan(self, scan: LidarScan) -> None:
        """Take in a lidar sweep."""
        self._forget_if_time_jumped_back(scan.stamp_ns, self._scans[-1].stamp_ns if self._scans else None)
        self._scans.append(scan)
        # A sweep is a view of its whole message: those that no image can need any more would fill the memory.
        settings = self.settings.pairing
        oldest_ns = scan.mid_ns - int((settings.max_age + settings.wait) * _NS) - _DISORDER_NS
        while len(self._scans) > max(settings.scans, 2) and self._scans[0].mid_ns < oldest_ns:
            self._scans.popleft()

    def add_pose(self, pose: Pose) -> None:
        """Take in a pose of the robot."""
        self._forget_if_time_jumped_back(pose.stamp_ns, self._trajectory.last_stamp_ns)
        if (pose.frame_id, pose.child_frame_id) != (self._trajectory.parent, self._trajectory.frame_id):
            self._trajectory.clear()  # between the poses of two frames there is no motion
        self._trajectory.add(pose)

    def hopes_for_scan(self, stamp_ns: int) -> bool:
        """Whether a sweep that has not come yet should be nearer to this time than those that have."""
        if len(self._scans) < 2:
            return True
        newest, before = self._scans[-1].mid_ns, self._scans[-2].mid_ns
        period = newest - before
        return abs(newest + period - stamp_ns) < abs(newest - stamp_ns)

    def process(self, frame: Frame) -> DepthEstimate:
        """Estimate depth for one image.

        With lidar within ``pairing.max_age`` the nearest sweep is used (``pairing.scans`` of them where odometry covers
        their times). Where odometry does not cover the times, or its frame is not joined with the lidar's, the sweep is
        taken as it is and its standard deviation grows with its age. Without lidar, or without a point of it in the
        image, estimators that do not need it answer from the image alone, and the basis of the estimate says so; for
        the others the frame is refused, by name.

        Args:
            frame: the image.

        Returns:
            Depth, standard deviation, and what they rest on.

        Raises:
            FrameRefused: ``zero_stamp``; of an estimator that needs lidar ``no_lidar``, ``no_overlap`` or
                ``all_withheld``; of one with weights ``not_finite``, ``out_of_memory`` or ``engine_failed``.
            TransformError: lidar and camera are not joined.
        """
        settings, started = self.settings, time.perf_counter_ns()
        self.odometry_unused = ''
        moved, without_lidar = self._moved_or_why_not(frame)
        paired = time.perf_counter_ns()
        inputs, input_std, withheld = [], [], []
        for scan, motion in moved:
            points = self._projected(scan, motion, frame)
            std = self._measurement_std(scan, motion, frame)
            if self._holdout is not None:
                mask = self._holdout(scan)[points.index]
                withheld.append(points.take(mask))
                points = points.take(~mask)
            inputs.append(points)
            input_std.append(np.full(len(points), std, np.float32))
        sparse, measured = self._measurements(inputs, input_std, frame)
        scored = self._scored(withheld, measured, frame) if withheld else None
        if moved and len(sparse) == 0:
            without_lidar = self._nothing_in_the_image(moved, sum(map(len, withheld)))
        projected = time.perf_counter_ns()
        depth, std = estimate_depth(self.estimator, frame, sparse, settings)
        estimated = time.perf_counter_ns()
        age_ns, motion_kind = (frame.stamp_ns - moved[0][0].mid_ns, moved[0][1].kind) if moved else (0, 'no_lidar')
        basis = Basis(len(moved), len(sparse), age_ns, motion_kind, without_lidar)
        stages = {'pair': paired - started, 'project': projected - paired, 'estimate': estimated - projected}
        return DepthEstimate(frame, depth, std, sparse, scored, basis, stages)

    def project(self, frame: Frame) -> list[tuple[LidarScan, ProjectedPoints]]:
        """Pair, move and project, and no more: what training makes its samples of.

        Args:
            frame: the image.

        Returns:
            Each sweep that belongs to the image, with its points that fall into the image, those that others hide too.

        Raises:
            FrameRefused: ``zero_stamp`` or ``no_lidar``.
            TransformError: lidar and camera are not joined.
        """
        return [(scan, self._projected(scan, motion, frame)) for scan, motion in self._moved(frame)]

    def _moved_or_why_not(self, frame: Frame) -> tuple[list[tuple[LidarScan, PointMotion]], str]:
        try:
            return self._moved(frame), ''
        except FrameRefused as refusal:
            if refusal.reason != 'no_lidar' or self.estimator.needs_lidar:
                raise
            return [], str(refusal)

    def _nothing_in_the_image(self, moved: list[tuple[LidarScan, PointMotion]], num_withheld: int) -> str:
        """Why an image has no measurement, though there is a sweep; refuses where the estimator needs one."""
        limits = self.settings.projection
        if num_withheld:
            reason, text = 'all_withheld', f'all {num_withheld} lidar points in the image were withheld'
        else:
            reason, text = 'no_overlap', (
                f'none of {sum(len(scan) for scan, _ in moved)} lidar points falls into the image at a depth of '
                f'{limits.min_depth:g} to {limits.max_depth:g} m (projection.min_depth, max_depth); check the '
                'transform between lidar and camera, and the intrinsics'
            )
        if self.estimator.needs_lidar:
            raise FrameRefused(reason, text)
        return text

    def _moved(self, frame: Frame) -> list[tuple[LidarScan, PointMotion]]:
        """Sweeps for an image and how they move; without poses the nearest alone."""
        moved = [(scan, self._motion(scan, frame)) for scan in self._pair(frame)]
        if moved[0][1].kind == 'assumed_static':
            return moved[:1]
        return [(scan, motion) for scan, motion in moved if motion.kind != 'assumed_static']

    def _projected(self, scan: LidarScan, motion: PointMotion, frame: Frame) -> ProjectedPoints:
        settings = self.settings.projection
        return project(scan, motion, frame.camera, settings.min_depth, settings.max_depth)

    def _pair(self, frame: Frame) -> list[LidarScan]:
        """Sweeps for an image, the nearest in time first."""
        if frame.stamp_ns == 0:
            raise FrameRefused(
                'zero_stamp', 'the image is stamped 0, expected the time of exposure; fix the camera driver'
            )
        settings = self.settings.pairing
        near = sorted(self._scans, key=lambda scan: abs(scan.mid_ns - frame.stamp_ns))[: settings.scans]
        limit = settings.max_age * _NS
        fresh = [scan for scan in near if abs(scan.mid_ns - frame.stamp_ns) <= limit]
        if not fresh:
            what = (
                'no lidar has come yet'
                if not near
                else (
                    f'the nearest lidar sweep is {(frame.stamp_ns - near[0].mid_ns) / _NS:+.3f} s older than '
                    'the image, '
                    f'expected within {settings.max_age} s (pairing.max_age)'
                )
            )
            raise FrameRefused('no_lidar', what)
        return fresh

    def _motion(self, scan: LidarScan, frame: Frame) -> PointMotion:
        settings = self.settings.motion
        camera_from_lidar = self._transforms.lookup(frame.camera.frame_id, scan.frame_id, frame.stamp_ns)
        body, body_from_lidar = self._trajectory.frame_id, None
        if body and settings.compensate:
            try:
                body_from_lidar = self._transforms.lookup(body, scan.frame_id, frame.stamp_ns)
            except TransformError as error:
                # Odometry is a help, not a need: without it depth is still right for a robot that stands still.
                self.odometry_unused = f'odometry of {body!r} is not used: {error}'
        return point_motion(
            scan,
            frame.stamp_ns,
            camera_from_lidar,
            body_from_lidar,
            self._trajectory,
            int(settings.max_extrapolation * _NS),
            settings.deskew,
        )

    def _measurement_std(self, scan: LidarScan, motion: PointMotion, frame: Frame) -> float:
        moved_since = 0.0
        if motion.kind == 'assumed_static':
            moved_since = self.settings.motion.assumed_speed * abs(frame.stamp_ns - scan.mid_ns) / _NS
        return float(np.hypot(self.settings.projection.range_std, moved_since))

    def _measurements(
        self, parts: list[ProjectedPoints], std: list[np.ndarray], frame: Frame
    ) -> tuple[SparseDepth, ProjectedPoints]:
        shape = frame.camera.shape
        points, std_all = concatenate(parts), np.concatenate([*std, np.zeros(0, np.float32)])
        nearest = nearest_per_pixel(points, shape)
        points, std_all = points.take(nearest), std_all[nearest]
        everything = points
        if self.settings.projection.remove_hidden:
            seen = visible(points, points, shape, self.settings.projection.hidden_margin)
            points, std_all = points.take(seen), std_all[seen]
        return SparseDepth(points.u, points.v, points.depth, std_all, shape), everything

    def _scored(self, parts: list[ProjectedPoints], measured: ProjectedPoints, frame: Frame) -> SparseDepth:
        """Withheld points that the camera sees, judged by all points, given and withheld."""
        shape = frame.camera.shape
        points = concatenate(parts)
        points = points.take(nearest_per_pixel(points, shape))
        seen = visible(points, concatenate([measured, points]), shape, self.settings.projection.hidden_margin)
        points = points.take(seen)
        std = np.full(len(points), self.settings.projection.range_std, np.float32)
        return SparseDepth(points.u, points.v, points.depth, std, shape)

    def _forget_if_time_jumped_back(self, stamp_ns: int, newest_ns: int | None) -> None:
        # A bag that loops, or a simulator that restarts. Small steps back are messages out of order.
        if newest_ns is not None and stamp_ns < newest_ns - _DISORDER_NS:
            self._scans.clear()
            self._trajectory.clear()
            self.num_resets += 1


def refusal_reason(error: DepthRosError, kind: str) -> str:
    """Short stable key for an error of the pipeline or a decoder, the name of its counter: live and in the replay.

    Args:
        error: what was raised.
        kind: input that was worked on: ``image``, ``points``, ``odometry`` or ``camera_info``.
    """
    if isinstance(error, FrameRefused):
        return error.reason
    if isinstance(error, TransformError):
        return 'old_transform' if isinstance(error, OldTransformError) else 'no_transform'
    return 'bad_camera_info' if isinstance(error, CameraError) else f'bad_{kind}'


def estimate_depth(
    estimator: Estimator, frame: Frame, sparse: SparseDepth, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate, and hold back pixels that are too unsure (``output.max_relative_std``); see ``Estimator.estimate``."""
    threads = settings.estimator.threads or threads_here()
    depth, std = estimate_downscaled(estimator, frame, sparse, settings.estimator.downscale, threads)
    limit = settings.output.max_relative_std
    if limit > 0:
        unsure = std > np.float32(limit) * depth
        if unsure.any():
            depth, std = (np.where(unsure, np.float32(np.nan), values) for values in (depth, std))
    return depth, std


class FrameQueue:
    """Images that wait, in order, for a sweep that is nearer in time; the oldest falls out when too many wait."""

    def __init__(self, pipeline: DepthPipeline, bounded: bool = True) -> None:
        """Make an empty queue in front of a pipeline.

        Args:
            pipeline: whose settings say how long images wait, and how many.
            bounded: whether ``pairing.queue_size`` holds. Who reads a recording to use all of it has no reason to drop.
        """
        self._pipeline = pipeline
        self._bounded = bounded
        self._waiting: deque[tuple[Frame, int]] = deque()
        self.num_dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, frame: Frame, now_ns: int) -> None:
        """Queue an image that arrived at ``now_ns`` (any one clock: of the node, or of the bag's log)."""
        self._waiting.append((frame, now_ns))
        while self._bounded and len(self._waiting) > self._pipeline.settings.pairing.queue_size:
            self._waiting.popleft()
            self.num_dropped += 1

    def pop(self, now_ns: int) -> Frame | None:
        """Return the oldest image if it need not wait any longer, else None."""
        if not self._waiting:
            return None
        frame, since_ns = self._waiting[0]
        waited = now_ns - since_ns >= self._pipeline.settings.pairing.wait * _NS or now_ns < since_ns
        if waited or not self._pipeline.hopes_for_scan(frame.stamp_ns):
            return self._waiting.popleft()[0]
        return None

    def clear(self) -> None:
        """Forget all waiting images."""
        self._waiting.clear()
