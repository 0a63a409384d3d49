"""Denser supervision: neighbouring sweeps brought into one image, without what moved and what is hidden."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from depth_ros.errors import TransformError
from depth_ros.geometry.camera import model_arguments
from depth_ros.geometry.motion import PointMotion, Trajectory, point_motion
from depth_ros.geometry.projection import ProjectedPoints, nearest_per_pixel, project, visible
from depth_ros.geometry.rigid import invert
from depth_ros.geometry.rings import infer_rings
from depth_ros.pipeline import Transforms
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame, LidarScan, Pose
from depth_ros_training.data.dataset import DEPTH_SCALE, MAX_STEPS
from depth_ros_training.data.sweep_kernels import (
    by_strip,
    cover,
    draw_nearest,
    extent,
    into_image,
    nothing_between,
    range_image,
    ring_spacing,
    seen_through,
    shield,
    to_middle,
)

_NS = 1_000_000_000
JUMP_NS = 2 * _NS  # stamps that go back by more are a recording that starts again
# A sweep from less than this away shows nothing that the others do not.
_MIN_STEP = 0.05  # metres
# When a sweep's points are looked at again, before and after, in units of the reach: soon, so that the same things are
# still in view, and late, so that slow things have moved.
_JUDGES = (-1.0, -0.4, 0.4, 1.0)
# An earlier or later beam that passes the place of a point and goes on for this much farther says that it is free.
_FREE_SHARE, _FREE_MARGIN = 0.05, 0.3  # of the range; metres
_ENOUGH = 10_000  # points that tell how far rings are apart
_MIN_ELEVATION_BIN, _UNKNOWN_ELEVATION_BIN = math.radians(0.4), math.radians(0.8)
# Points this far outside of the image are still looked at: the robot turns between two sweeps.
_VIEW_SLACK = math.radians(15.0)
_STRIP, _RING_GAPS = 2.0, 2.5  # in units of the spacing of points along a ring, and of rings
# Cells in which points cover each other: in units of the spacing of points, and pixels.
_CELL, _MIN_CELL, _MAX_CELL = 1.5, 2.0, 12.0


@dataclass(frozen=True, eq=False)
class ImagePoints:
    """Points in an image, any number per pixel.

    Attributes:
        u: (M,) float32 column in pixels, within [-0.5, width - 0.5).
        v: (M,) float32 row in pixels, within [-0.5, height - 0.5).
        depth: (M,) float32 metres.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray

    def __len__(self) -> int:
        return len(self.depth)


@dataclass(frozen=True, eq=False)
class Accumulated:
    """Points of several sweeps in one image.

    Attributes:
        points: all that fall into the image, those that moved or are hidden too; those of the nearest sweep first.
        num_own: number of points of the nearest sweep.
        kept: (M,) bool, True = taken for a surface that the camera sees.
        num_sweeps: sweeps used.
    """

    points: ImagePoints
    num_own: int
    kept: np.ndarray
    num_sweeps: int


def draw(
    points: ImagePoints | ProjectedPoints, shape: tuple[int, int], kept: np.ndarray | None = None
) -> np.ndarray:
    """Draw points, the nearest of each pixel.

    Args:
        points: the points.
        shape: (height, width) of the image.
        kept: (M,) bool, the points to draw; None = all.

    Returns:
        (H, W) uint16 as of ``dataset.encode_depth``, 0 where there is no point.
    """
    kept = np.ones(len(points), np.bool_) if kept is None else kept
    return draw_nearest(points.u, points.v, points.depth, kept, *shape, np.float32(DEPTH_SCALE), MAX_STEPS)


class _Sweep:
    """A sweep with its points brought to its middle, and what later beams say of them."""

    def __init__(self, scan: LidarScan, points: np.ndarray, fixed_from_sensor: np.ndarray) -> None:
        self.mid_ns, self.frame_id = scan.mid_ns, scan.frame_id
        self.points, self.fixed_from_sensor = points, fixed_from_sensor
        self.static: np.ndarray | None = None
        self._shield: np.ndarray | None = None
        self._elevation_bin = _elevation_bin(scan)

    def judge(self, judges: list[_Sweep]) -> np.ndarray:
        """(N,) bool, False where a beam of one of the judges passed through; ``static`` from now on."""
        self.static = np.ones(len(self.points), np.bool_)
        for other in judges:
            seen_through(
                self.points,
                invert(other.fixed_from_sensor) @ self.fixed_from_sensor,
                other.shield(),
                other._elevation_bin,
                _FREE_SHARE,
                _FREE_MARGIN,
                self.static,
            )
        return self.static

    def shield(self) -> np.ndarray:
        """(rows, columns) float32 metres, how far what is at least in the way of a beam and of those beside it.

        By cell of elevation and azimuth; 0 where there is no beam.
        """
        if self._shield is None:
            self._shield = shield(range_image(self.points, self._elevation_bin))
        return self._shield


class SweepWindow:
    """The sweeps and poses around the images at hand."""

    def __init__(
        self, settings: Settings, transforms: Transforms, reach_ns: int, trajectory: Trajectory | None = None
    ) -> None:
        """Make an empty window.

        Args:
            settings: groups ``motion`` and ``projection`` are read.
            transforms: joins camera, lidar and body frames.
            reach_ns: sweeps up to this far from an image in time are brought into it; 0 = none but the nearest.
            trajectory: poses that are known already; None = those that ``add_pose`` brings.
        """
        self._settings, self._transforms, self._reach_ns = settings, transforms, reach_ns
        self._given = trajectory is not None
        self._trajectory = Trajectory(60 * _NS) if trajectory is None else trajectory
        self._scans: deque[LidarScan] = deque()
        self._sweeps: dict[int, _Sweep] = {}
        self._columns, self._kept = np.empty((3, 0), np.float32), np.empty(0, np.bool_)

    @property
    def newest_ns(self) -> int | None:
        """Middle of the newest sweep, None while there is none."""
        return self._scans[-1].mid_ns if self._scans else None

    def add_scan(self, scan: LidarScan) -> None:
        """Take in a sweep; when time jumps back (a bag that loops) those before are forgotten."""
        if self._scans and scan.mid_ns < self._scans[-1].mid_ns - JUMP_NS:
            self._scans.clear()
            self._sweeps.clear()
        self._scans.append(scan)

    def add_pose(self, pose: Pose) -> None:
        """Take in a pose, if poses were not given; when time jumps back those before are forgotten."""
        if self._given:
            return
        newest = self._trajectory.last_stamp_ns
        if newest is not None and pose.stamp_ns < newest - JUMP_NS:
            self._trajectory.clear()
        self._trajectory.add(pose)

    def forget_before(self, stamp_ns: int) -> None:
        """Drop the sweeps that images from this time on do not need."""
        while self._scans and self._scans[0].mid_ns < stamp_ns - 2 * self._reach_ns - _NS:
            self._sweeps.pop(_name(self._scans.popleft()), None)

    def camera_pose(self, frame: Frame) -> np.ndarray | None:
        """(4, 4) float64 fixed frame from the optical frame at the time of the image, None where no pose is known."""
        pose = self._body_pose(frame.stamp_ns)
        if pose is None:
            return None
        try:
            return pose @ self._transforms.lookup(self._trajectory.frame_id, frame.camera.frame_id)
        except TransformError:
            return None

    def accumulate(self, frame: Frame) -> Accumulated | None:
        """Bring the sweeps around an image into it.

        A point is left out if a beam of another sweep passed through its place (it moved, or was never there), if
        the sweep nearest in time contradicts it (what stands there now), or if nearer points cover it.

        Args:
            frame: the image.

        Returns:
            The points; None where poses or sweeps are missing. The next call overwrites them.
        """
        fixed_from_camera = self.camera_pose(frame)
        if fixed_from_camera is None:
            return None
        sweeps = self._around(frame)
        if not sweeps:
            return None
        projection, camera, shape = self._settings.projection, frame.camera, frame.camera.shape
        camera_from_fixed = invert(fixed_from_camera)
        first, others = sweeps[0], sweeps[1:]
        motion = PointMotion((camera_from_fixed @ first.fixed_from_sensor)[None, :3], 0, 1, 'compensated')
        scan = LidarScan(first.mid_ns, first.points, first.frame_id)
        own = project(scan, motion, camera, projection.min_depth, projection.max_depth)
        used = num_own = len(own)
        u, v, depth, kept = self._room(num_own + sum(len(sweep.points) for sweep in others))
        u[:used], v[:used], depth[:used] = own.u, own.v, own.depth
        model = model_arguments(camera)
        for sweep in others:
            used = into_image(
                sweep.points,
                sweep.judge(self._judges(sweep, camera)) if sweep.static is None else sweep.static,
                camera.rotation @ (camera_from_fixed @ sweep.fixed_from_sensor)[:3],
                *model,
                camera.width,
                camera.height,
                projection.min_depth,
                projection.max_depth,
                u,
                v,
                depth,
                kept,
                used,
            )
        points, kept = ImagePoints(u[:used], v[:used], depth[:used]), kept[:used]
        # What the nearest sweep shows is there now, though it moves.
        nearest = nearest_per_pixel(own, shape)
        kept[:num_own] = visible(own, own.take(nearest), shape, projection.hidden_margin)
        own = own.take(nearest[kept[nearest]])
        if others:
            of_others = ImagePoints(u[num_own:used], v[num_own:used], depth[num_own:used])
            drop_contradicted(of_others, own, shape, projection.hidden_margin, kept[num_own:])
            drop_covered(points, shape, projection.hidden_margin, kept)
        return Accumulated(points, num_own, kept, len(sweeps))

    def _room(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """u, v, depth and kept of so many points; what was returned before is overwritten."""
        if count > len(self._kept):
            self._columns, self._kept = np.empty((3, 2 * count), np.float32), np.empty(2 * count, np.bool_)
        return *self._columns, self._kept

    def _body_pose(self, stamp_ns: int) -> np.ndarray | None:
        return self._trajectory.at(stamp_ns, int(self._settings.motion.max_extrapolation * _NS))

    def _around(self, frame: Frame) -> list[_Sweep]:
        """Sweeps for an image, the nearest in time first; such as are seen from elsewhere than those before them."""
        near = sorted(self._scans, key=lambda scan: abs(scan.mid_ns - frame.stamp_ns))
        chosen: list[_Sweep] = []
        for scan in near:
            if chosen and abs(scan.mid_ns - frame.stamp_ns) > self._reach_ns:
                break
            sweep = self._sweep(scan, frame.camera)
            if sweep is None:
                if not chosen:
                    return []
                continue
            place = sweep.fixed_from_sensor[:3, 3]
            if all(np.linalg.norm(place - other.fixed_from_sensor[:3, 3]) >= _MIN_STEP for other in chosen):
                chosen.append(sweep)
        return chosen

    def _judges(self, sweep: _Sweep, camera: Camera) -> list[_Sweep]:
        judges: dict[tuple[int, str], _Sweep] = {}
        for share in _JUDGES:
            time = sweep.mid_ns + share * self._reach_ns
            scan = min(self._scans, key=lambda item: abs(item.mid_ns - time))
            judge = self._sweep(scan, camera)
            if judge is not None and judge is not sweep:
                judges[_name(judge)] = judge
        return list(judges.values())

    def _sweep(self, scan: LidarScan, camera: Camera) -> _Sweep | None:
        """The points of a scan in view of the camera, at the middle of the sweep; None where its poses are missing."""
        sweep = self._sweeps.get(_name(scan))
        if sweep is None:
            sweep = self._moved_to_middle(scan, camera)
            if sweep is not None:  # else its poses may come yet: odometry may lag by more than it is extrapolated
                self._sweeps[_name(scan)] = sweep
        return sweep

    def _moved_to_middle(self, scan: LidarScan, camera: Camera) -> _Sweep | None:
        settings = self._settings.motion
        fixed_from_body = self._body_pose(scan.mid_ns)
        if fixed_from_body is None:
            return None
        body_from_lidar = self._transforms.lookup(self._trajectory.frame_id, scan.frame_id)
        extrapolation = int(settings.max_extrapolation * _NS)
        motion = point_motion(
            scan, scan.mid_ns, np.eye(4), body_from_lidar, self._trajectory, extrapolation, settings.deskew
        )
        if motion.kind == 'assumed_static':
            return None
        camera_from_lidar = self._transforms.lookup(camera.frame_id, scan.frame_id)
        axis = camera_from_lidar[:3, :3].T @ camera.rotation[2]
        points = np.empty((len(scan), 3), np.float32)
        offsets = scan.time_offset_ns if len(motion.knots) > 1 else np.zeros(0, np.int32)
        used = to_middle(
            scan.points,
            offsets,
            motion.knots,
            float(motion.start_ns),
            float(motion.step_ns),
            axis,
            math.cos(min(_half_view(camera) + _VIEW_SLACK, math.pi)),
            points,
        )
        return _Sweep(scan, points[:used].copy(), fixed_from_body @ body_from_lidar)


def _name(sweep: LidarScan | _Sweep) -> tuple[int, str]:
    """What tells a sweep from all others: several lidars may measure at one time."""
    return sweep.mid_ns, sweep.frame_id


def drop_contradicted(
    points: ImagePoints, own: ProjectedPoints, shape: tuple[int, int], margin: float, kept: np.ndarray
) -> None:
    """Drop the points that the sweep of the moment contradicts.

    Between two rings, one just above a point and one just below, a surface lies between their depths, on a wall as on
    the ground. A point that is farther than both is hidden by what stands there now; one that is nearer than both is
    something that is no longer there.

    Args:
        points: points of other sweeps.
        own: points of the sweep of the moment that the camera sees, at most one per pixel.
        shape: (height, width) of the image.
        margin: share of the depth by which a point must be off.
        kept: (M,) bool, the points at hand; those that are contradicted become False.
    """
    if len(points) == 0 or len(own) < 2:
        return
    gaps = np.diff(np.sort(np.rint(own.v).astype(np.int64) * (4 * shape[1]) + np.rint(own.u).astype(np.int64)))
    gaps = gaps[(gaps > 0) & (gaps < 2 * shape[1])]
    along = max(float(np.median(gaps)), 1.0) if gaps.size else 1.0
    across = (np.ptp(own.u) + 1.0) * (np.ptp(own.v) + 1.0) / len(own) / along
    # A strip is wide enough that it holds a point of each ring.
    strip = _STRIP * along
    num_strips = int(shape[1] / strip) + 1
    starts, own_v, own_depth = by_strip(own.u, own.v, own.depth, num_strips, strip, shape[0])
    nothing_between(
        points.u, points.v, points.depth, own_v, own_depth, starts, shape[0], strip, _RING_GAPS * across, margin, kept
    )


def drop_covered(points: ImagePoints, shape: tuple[int, int], margin: float, kept: np.ndarray) -> None:
    """Drop the points that others cover.

    The image is divided into cells that hold a point or two on average. A point is covered if the nearest points of its
    own cell and of the cells above, below, left and right of it are all nearer than it. On a slanting surface one side
    is nearer and the other farther, so it does not cover itself.

    Args:
        points: points of all sweeps.
        shape: (height, width) of the image.
        margin: share of its depth by which a point must be behind.
        kept: (M,) bool, the points at hand; those that are covered become False.
    """
    count, width, height = extent(points.u, points.v, kept)
    if count == 0:
        return
    area = (width + 1.0) * (height + 1.0)
    cell = min(max(_CELL * math.sqrt(area / count), _MIN_CELL), _MAX_CELL)
    cover(points.u, points.v, points.depth, shape[0], shape[1], cell, margin, kept)


def _half_view(camera: Camera) -> float:
    """Angle between the axis and the farthest corner, rad; half a turn where the image is not rectified."""
    if camera.model != 'none':
        return math.pi
    u = max(camera.cx, camera.width - camera.cx) / camera.fx
    v = max(camera.cy, camera.height - camera.cy) / camera.fy
    return math.atan(math.hypot(u, v))


def _elevation_bin(scan: LidarScan) -> float:
    """Spacing of the rings, rad, so that a cell between two rings is rarely empty."""
    points, ring = scan.points, scan.ring
    if ring is None:
        found = infer_rings(points)
        if found is None:
            return _UNKNOWN_ELEVATION_BIN
        ring = found[0]
    # Spread evenly over the cloud, which may be stored firing by firing: every n-th point would miss rings where n and
    # their number share a factor.
    some = np.rint(np.linspace(0, len(points) - 1, min(len(points), _ENOUGH))).astype(np.int64)
    spacing = ring_spacing(points[some], ring[some])
    return max(spacing, _MIN_ELEVATION_BIN) if spacing > 0 else _UNKNOWN_ELEVATION_BIN
