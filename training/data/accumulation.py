"""Denser supervision: neighbouring sweeps brought into one image, without what moved and what is hidden."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numba import njit

from depth_ros.errors import TransformError
from depth_ros.geometry.motion import PointMotion, Trajectory, point_motion
from depth_ros.geometry.projection import ProjectedPoints, concatenate, nearest_per_pixel, project, visible
from depth_ros.geometry.rigid import invert
from depth_ros.geometry.rings import infer_rings, ring_elevations
from depth_ros.pipeline import Transforms
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame, LidarScan, Pose

_NS = 1_000_000_000
# A sweep from less than this away shows nothing that the others do not.
_MIN_STEP = 0.05  # metres
# When a sweep's points are looked at again, before and after, in units of the reach: soon, so that the same things are
# still in view, and late, so that slow things have moved.
_JUDGES = (-1.0, -0.4, 0.4, 1.0)
# An earlier or later beam that passes the place of a point and goes on for this much farther says that it is free.
_FREE_SHARE, _FREE_MARGIN = 0.05, 0.3  # of the range; metres
_ENOUGH = 10_000  # points that tell how far rings are apart
_AZIMUTH_BIN = math.radians(0.5)
_MIN_ELEVATION_BIN, _UNKNOWN_ELEVATION_BIN = math.radians(0.4), math.radians(0.8)
# Points this far outside of the image are still looked at: the robot turns between two sweeps.
_VIEW_SLACK = math.radians(15.0)
_STRIP, _RING_GAPS = 2.0, 2.5  # in units of the spacing of points along a ring, and of rings
# Cells in which points cover each other: in units of the spacing of points, and pixels.
_CELL, _MIN_CELL, _MAX_CELL = 1.5, 2.0, 12.0
_NEAR = 3.0  # metres; nearer points are looked at wherever they are


@dataclass(frozen=True, eq=False)
class Accumulated:
    """Points of several sweeps in one image.

    Attributes:
        points: all that fall into the image, those that moved or are hidden too; those of the nearest sweep first.
        num_own: number of points of the nearest sweep.
        kept: (M,) bool, True = taken for a surface that the camera sees.
        num_sweeps: sweeps used.
    """

    points: ProjectedPoints
    num_own: int
    kept: np.ndarray
    num_sweeps: int

    def depth_image(self, shape: tuple[int, int]) -> np.ndarray:
        """(H, W) float32 metres, the nearest of the kept points of each pixel, NaN where there is none."""
        points = self.points.take(self.kept)
        return depth_image(points.take(nearest_per_pixel(points, shape)), shape)


def depth_image(points: ProjectedPoints, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 metres, NaN where there is no point; of points that are at most one per pixel."""
    image = np.full(shape, np.nan, np.float32)
    row, column = (np.floor(values + np.float32(0.5)).astype(np.int64) for values in (points.v, points.u))
    image[row, column] = points.depth
    return image


class _Sweep:
    """A sweep with its points brought to its middle, and what later beams say of them."""

    def __init__(self, scan: LidarScan, points: np.ndarray, fixed_from_sensor: np.ndarray) -> None:
        self.mid_ns, self.frame_id = scan.mid_ns, scan.frame_id
        self.points, self.fixed_from_sensor = points, fixed_from_sensor
        self.static: np.ndarray | None = None
        self._ranges: np.ndarray | None = None
        self._elevation_bin = _elevation_bin(scan)

    def static_by(self, judges: list[_Sweep]) -> np.ndarray:
        """(N,) bool, False where a beam of one of the judges passed through."""
        if self.static is None:
            self.static = np.ones(len(self.points), np.bool_)
            for judge in judges:
                judge_from_self = invert(judge.fixed_from_sensor) @ self.fixed_from_sensor
                ranges = judge.ranges()
                _seen_through(
                    self.points, judge_from_self, ranges, judge._elevation_bin, _FREE_SHARE, _FREE_MARGIN, self.static
                )
        return self.static

    def ranges(self) -> np.ndarray:
        """(rows, columns) float32 metres, least range per cell of elevation and azimuth, inf where there is no beam."""
        if self._ranges is None:
            self._ranges = _range_image(self.points, self._elevation_bin)
        return self._ranges


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
        self._sweeps: dict[int, _Sweep | None] = {}

    @property
    def newest_ns(self) -> int | None:
        """Middle of the newest sweep, None while there is none."""
        return self._scans[-1].mid_ns if self._scans else None

    def add_scan(self, scan: LidarScan) -> None:
        """Take in a sweep; when time jumps back (a bag that loops) those before are forgotten."""
        if self._scans and scan.mid_ns < self._scans[-1].mid_ns - 2 * _NS:
            self._scans.clear()
            self._sweeps.clear()
        self._scans.append(scan)

    def add_pose(self, pose: Pose) -> None:
        """Take in a pose, if poses were not given."""
        if not self._given:
            self._trajectory.add(pose)

    def forget_before(self, stamp_ns: int) -> None:
        """Drop the sweeps that images from this time on do not need."""
        while self._scans and self._scans[0].mid_ns < stamp_ns - 2 * self._reach_ns - _NS:
            self._sweeps.pop(self._scans.popleft().mid_ns, None)

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
            The points; None where poses or sweeps are missing.
        """
        fixed_from_camera = self.camera_pose(frame)
        if fixed_from_camera is None:
            return None
        sweeps = self._around(frame)
        if not sweeps:
            return None
        projection = self._settings.projection
        camera_from_fixed = invert(fixed_from_camera)
        parts, static = [], []
        for number, sweep in enumerate(sweeps):
            motion = PointMotion((camera_from_fixed @ sweep.fixed_from_sensor)[None, :3], 0, 1, 'compensated')
            scan = LidarScan(sweep.mid_ns, sweep.points, sweep.frame_id)
            points = project(scan, motion, frame.camera, projection.min_depth, projection.max_depth)
            parts.append(points)
            # What the nearest sweep shows is there now, though it moves.
            static.append(
                np.ones(len(points), np.bool_)
                if number == 0
                else sweep.static_by(self._judges(sweep, frame.camera))[points.index]
            )
        shape = frame.camera.shape
        kept = np.concatenate(static)
        own, points = parts[0], concatenate(parts)
        margin = projection.hidden_margin
        nearest = nearest_per_pixel(own, shape)
        kept[: len(own)] = visible(own, own.take(nearest), shape, margin)
        own = own.take(nearest[kept[nearest]])
        if len(parts) > 1:
            kept[len(parts[0]) :] &= agrees(points.take(np.arange(len(parts[0]), len(points))), own, shape, margin)
            kept[kept] = uncovered(points.take(kept), shape, margin)
        return Accumulated(points, len(parts[0]), kept, len(parts))

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
        judges: dict[int, _Sweep] = {}
        for share in _JUDGES:
            time = sweep.mid_ns + share * self._reach_ns
            scan = min(self._scans, key=lambda item: abs(item.mid_ns - time))
            judge = self._sweep(scan, camera)
            if judge is not None and judge is not sweep:
                judges[judge.mid_ns] = judge
        return list(judges.values())

    def _sweep(self, scan: LidarScan, camera: Camera) -> _Sweep | None:
        """The points of a scan in view of the camera, at the middle of the sweep; None where its poses are missing."""
        if scan.mid_ns not in self._sweeps:
            self._sweeps[scan.mid_ns] = self._moved_to_middle(scan, camera)
        return self._sweeps[scan.mid_ns]

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
        used = _to_middle(
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


def agrees(points: ProjectedPoints, own: ProjectedPoints, shape: tuple[int, int], margin: float) -> np.ndarray:
    """Find the points that the sweep of the moment does not contradict.

    Between two rings, one just above a point and one just below, a surface lies between their depths, on a wall as on
    the ground. A point that is farther than both is hidden by what stands there now; one that is nearer than both is
    something that is no longer there.

    Args:
        points: points of other sweeps.
        own: points of the sweep of the moment that the camera sees, at most one per pixel.
        shape: (height, width) of the image.
        margin: share of the depth by which a point must be off.

    Returns:
        (M,) bool, False = contradicted.
    """
    if len(points) == 0 or len(own) < 2:
        return np.ones(len(points), np.bool_)
    gaps = np.diff(np.sort(np.rint(own.v).astype(np.int64) * (4 * shape[1]) + np.rint(own.u).astype(np.int64)))
    gaps = gaps[(gaps > 0) & (gaps < 2 * shape[1])]
    along = max(float(np.median(gaps)), 1.0) if gaps.size else 1.0
    across = (np.ptp(own.u) + 1.0) * (np.ptp(own.v) + 1.0) / len(own) / along
    # A strip is wide enough that it holds a point of each ring.
    strip = _STRIP * along
    column = ((own.u + np.float32(0.5)) / np.float32(strip)).astype(np.int64)
    order = np.lexsort((own.v, column))
    num_strips = int(shape[1] / strip) + 1
    starts = np.searchsorted(column[order], np.arange(num_strips + 1))
    return _agrees(
        points.u, points.v, points.depth, own.v[order], own.depth[order], starts, strip, _RING_GAPS * across, margin
    )


def uncovered(points: ProjectedPoints, shape: tuple[int, int], margin: float) -> np.ndarray:
    """Find the points that no others cover.

    The image is divided into cells that hold a point or two on average. A point is covered if the nearest points of its
    own cell and of the cells above, below, left and right of it are all nearer than it. On a slanting surface one side
    is nearer and the other farther, so it does not cover itself.

    Args:
        points: points of all sweeps.
        shape: (height, width) of the image.
        margin: share of its depth by which a point must be behind.

    Returns:
        (M,) bool, False = covered.
    """
    if len(points) == 0:
        return np.ones(0, np.bool_)
    area = (np.ptp(points.u) + 1.0) * (np.ptp(points.v) + 1.0)
    cell = min(max(_CELL * math.sqrt(area / len(points)), _MIN_CELL), _MAX_CELL)
    return _uncovered(points.u, points.v, points.depth, shape[0], shape[1], cell, margin)


def _half_view(camera: Camera) -> float:
    """Angle between the axis and the farthest corner, rad; of a wide lens half a turn."""
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
    some = max(len(points) // _ENOUGH, 1)
    rings, elevation = ring_elevations(points[::some], ring[::some])
    if len(rings) < 2:
        return _UNKNOWN_ELEVATION_BIN
    return max(float(np.median(np.abs(np.diff(np.sort(elevation))))), _MIN_ELEVATION_BIN)


@njit(nogil=True, cache=True)
def _to_middle(points, offsets, knots, start_ns, step_ns, axis, min_cosine, moved):
    used = 0
    last = knots.shape[0] - 1
    k, share = 0, 0.0
    for i in range(points.shape[0]):
        px, py, pz = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        distance = math.sqrt(px * px + py * py + pz * pz)
        along = px * axis[0] + py * axis[1] + pz * axis[2]
        if not (distance > 0 and distance < np.inf) or (distance > _NEAR and along < min_cosine * distance):
            continue
        if last > 0:
            position = (np.float64(offsets[i]) - start_ns) / step_ns
            k = min(max(int(position), 0), last - 1)
            share = position - k
        a = knots[k]
        for row in range(3):
            value = a[row, 0] * px + a[row, 1] * py + a[row, 2] * pz + a[row, 3]
            if last > 0:
                b = knots[k + 1]
                value += share * (b[row, 0] * px + b[row, 1] * py + b[row, 2] * pz + b[row, 3] - value)
            moved[used, row] = value
        used += 1
    return used


@njit(nogil=True, cache=True)
def _range_image(points, elevation_bin):
    columns, rows = int(2 * math.pi / _AZIMUTH_BIN), int(math.pi / elevation_bin) + 1
    ranges = np.full((rows, columns), np.inf, np.float32)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        row = int((math.atan2(z, math.hypot(x, y)) + math.pi / 2) / elevation_bin)
        column = int((math.atan2(y, x) + math.pi) / _AZIMUTH_BIN) % columns
        ranges[row, column] = min(ranges[row, column], np.float32(math.sqrt(x * x + y * y + z * z)))
    return ranges


@njit(nogil=True, cache=True)
def _seen_through(points, judge_from_points, ranges, elevation_bin, share, margin, static):
    rows, columns = ranges.shape
    t = judge_from_points
    for i in range(points.shape[0]):
        if not static[i]:
            continue
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        x = t[0, 0] * px + t[0, 1] * py + t[0, 2] * pz + t[0, 3]
        y = t[1, 0] * px + t[1, 1] * py + t[1, 2] * pz + t[1, 3]
        z = t[2, 0] * px + t[2, 1] * py + t[2, 2] * pz + t[2, 3]
        row = int((math.atan2(z, math.hypot(x, y)) + math.pi / 2) / elevation_bin)
        column = int((math.atan2(y, x) + math.pi) / _AZIMUTH_BIN) % columns
        if ranges[row, column] == np.inf:
            continue
        limit = math.sqrt(x * x + y * y + z * z) * (1 + share) + margin
        # Beams beside it, too, have to go on: those that graze a surface, or an edge, do not.
        free = True
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            for c in range(column - 1, column + 2):
                if ranges[r, c % columns] <= limit:
                    free = False
        if free:
            static[i] = False


@njit(nogil=True, cache=True)
def _agrees(u, v, depth, own_v, own_depth, starts, strip, max_gap, margin):
    kept = np.ones(u.shape[0], np.bool_)
    for i in range(u.shape[0]):
        column = int((u[i] + 0.5) / strip)
        first, end = starts[column], starts[column + 1]
        below = first + np.searchsorted(own_v[first:end], v[i])
        if below in (first, end) or own_v[below] - own_v[below - 1] > max_gap:
            continue
        one, other = own_depth[below - 1], own_depth[below]
        if depth[i] * (1 - margin) > max(one, other) or depth[i] < min(one, other) * (1 - margin):
            kept[i] = False
    return kept


@njit(nogil=True, cache=True)
def _uncovered(u, v, depth, height, width, cell, margin):
    # A border of empty cells, so that the outermost points have neighbours too.
    rows, columns = int(height / cell) + 3, int(width / cell) + 3
    nearest = np.full((rows, columns), np.inf, np.float32)
    for i in range(u.shape[0]):
        r, c = int((v[i] + 0.5) / cell) + 1, int((u[i] + 0.5) / cell) + 1
        nearest[r, c] = min(nearest[r, c], depth[i])
    kept = np.ones(u.shape[0], np.bool_)
    for i in range(u.shape[0]):
        r, c = int((v[i] + 0.5) / cell) + 1, int((u[i] + 0.5) / cell) + 1
        limit = depth[i] * (1 - margin)
        if nearest[r, c] >= limit:
            continue
        around = max(nearest[r - 1, c], nearest[r + 1, c], nearest[r, c - 1], nearest[r, c + 1])
        kept[i] = around >= limit
    return kept
