"""Where the robot was: poses from odometry, and the motion of a lidar's points relative to one image."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from depth_ros.geometry.rigid import interpolate, invert
from depth_ros.types import LidarScan, Pose

# Between knots matrices are blended linearly. Over 10 ms a robot that turns at 180 deg/s turns by 1.8 deg, where the
# blend errs by 1 - cos(0.9 deg), 0.1 mm per metre.
_KNOT_NS = 10_000_000
_MAX_KNOTS = 200
# Poses this far apart are joined however little may be extrapolated: what is between two is known better.
_MAX_GAP_NS = 1_000_000_000
# Motion is continued at the velocity over at least this time, where so much is known: between two poses that are
# stamped microseconds apart, as when two sources share a topic, their noise would be a velocity of its own.
_MIN_BASELINE_NS = 10_000_000


class Trajectory:
    """The newest poses of one body, by stamp."""

    def __init__(self, keep_ns: int = 10_000_000_000) -> None:
        """Make an empty trajectory that forgets poses older than ``keep_ns`` before the newest."""
        self._keep_ns = keep_ns
        self._stamps: list[int] = []
        self._poses: list[Pose] = []

    @property
    def frame_id(self) -> str:
        """Frame of the moving body, '' while no pose is known."""
        return self._poses[-1].child_frame_id if self._poses else ''

    @property
    def parent(self) -> str:
        """Frame that the poses are in, '' while no pose is known."""
        return self._poses[-1].frame_id if self._poses else ''

    @property
    def last_stamp_ns(self) -> int | None:
        """Stamp of the newest pose, None while no pose is known."""
        return self._stamps[-1] if self._stamps else None

    def add(self, pose: Pose) -> None:
        """Take in a pose, in any order; one with the stamp of a known pose replaces it."""
        index = bisect.bisect_left(self._stamps, pose.stamp_ns)
        if index < len(self._stamps) and self._stamps[index] == pose.stamp_ns:
            self._poses[index] = pose
            return
        self._stamps.insert(index, pose.stamp_ns)
        self._poses.insert(index, pose)
        # Forget in batches: deleting from the front of a list costs its length.
        old = bisect.bisect_left(self._stamps, self._stamps[-1] - self._keep_ns)
        if old > 64:
            del self._stamps[:old], self._poses[:old]

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._poses.clear()

    def at(self, stamp_ns: int, max_extrapolation_ns: int) -> np.ndarray | None:
        """Pose at a time.

        Args:
            stamp_ns: when.
            max_extrapolation_ns: how far before the first or after the last pose the motion may be continued; a gap
                between two poses of more than a second and more than ten times this is not bridged.

        Returns:
            (4, 4) float64 fixed frame from body, or None where the poses do not reach.
        """
        if len(self._stamps) < 2:
            return None
        index = min(max(bisect.bisect_right(self._stamps, stamp_ns), 1), len(self._stamps) - 1)
        before, after = self._stamps[index - 1], self._stamps[index]
        outside = max(before - stamp_ns, stamp_ns - after)
        first, second = index - 1, index
        while stamp_ns > after and first > 0 and after - self._stamps[first] < _MIN_BASELINE_NS:
            first -= 1
        while stamp_ns < before and second + 1 < len(self._stamps) and self._stamps[second] - before < _MIN_BASELINE_NS:
            second += 1
        gap = self._stamps[second] - self._stamps[first]
        if outside > max_extrapolation_ns or gap > max(10 * max_extrapolation_ns, _MAX_GAP_NS):
            return None
        return self._between(first, second, stamp_ns)

    def held(self, stamp_ns: int) -> tuple[np.ndarray, int]:
        """Pose at a time; before the first and after the last one these are held. At least one pose must be known.

        Args:
            stamp_ns: when.

        Returns:
            pose: (4, 4) float64 fixed frame from body.
            outside_ns: time since the last pose if positive, until the first one if negative, else 0.
        """
        index = bisect.bisect_right(self._stamps, stamp_ns)
        if index == 0:
            return self._poses[0].matrix, stamp_ns - self._stamps[0]
        if index == len(self._stamps):
            return self._poses[-1].matrix, stamp_ns - self._stamps[-1]
        return self._between(index - 1, index, stamp_ns), 0

    def _between(self, first: int, second: int, stamp_ns: int) -> np.ndarray:
        before, after = self._stamps[first], self._stamps[second]
        share = (stamp_ns - before) / (after - before)
        return interpolate(self._poses[first].matrix, self._poses[second].matrix, share)


@dataclass(frozen=True, eq=False)
class PointMotion:
    """Transforms that take points, measured at their own times, to the camera at the time of the image.

    Attributes:
        knots: (K, 3, 4) float64 camera_from_lidar at equally spaced times, K >= 1.
        start_ns: time of the first knot minus the stamp of the scan.
        step_ns: time between knots; 1 where K = 1.
        kind: ``deskewed``, ``compensated`` or ``assumed_static``, as in ``types.Basis``.
    """

    knots: np.ndarray
    start_ns: int
    step_ns: int
    kind: str

    @property
    def lidar_origin(self) -> np.ndarray:
        """(3,) float64 metres, the lidar in the camera's frame in the middle of the sweep."""
        return self.knots[len(self.knots) // 2, :, 3]


def point_motion(
    scan: LidarScan,
    image_stamp_ns: int,
    camera_from_lidar: np.ndarray,
    body_from_lidar: np.ndarray | None,
    trajectory: Trajectory,
    max_extrapolation_ns: int,
    deskew: bool,
) -> PointMotion:
    """Work out how the points of a scan get to the camera at the time of an image.

    With B(t) the pose of the body, the transform of a point measured at t is
    ``camera_from_body @ inverse(B(image)) @ B(t) @ body_from_lidar``.

    Args:
        scan: the sweep.
        image_stamp_ns: time of the image.
        camera_from_lidar: (4, 4) extrinsics.
        body_from_lidar: (4, 4) lidar in the frame whose motion odometry tells; None = no compensation.
        trajectory: poses of the body.
        max_extrapolation_ns: see ``Trajectory.at``.
        deskew: move every point by its own time, where known.

    Returns:
        The motion; ``assumed_static`` where the poses do not cover these times.
    """
    static = PointMotion(camera_from_lidar[None, :3, :], 0, 1, 'assumed_static')
    if body_from_lidar is None:
        return static
    at_image = trajectory.at(image_stamp_ns, max_extrapolation_ns)
    if at_image is None:
        return static
    first, last = scan.time_span_ns
    per_point = deskew and first != last
    if not per_point:
        first = last = scan.mid_ns - scan.stamp_ns
    count = 1 if not per_point else min((last - first - 1) // _KNOT_NS + 2, _MAX_KNOTS)
    step_ns = max(-(-(last - first) // max(count - 1, 1)), 1)
    camera_at_image_from_fixed = camera_from_lidar @ invert(body_from_lidar) @ invert(at_image)
    knots = np.empty((count, 3, 4))
    for k in range(count):
        # The steps are whole ns, so that the last knot may lie some ns behind the sweep, where no pose need reach.
        at_knot = trajectory.at(scan.stamp_ns + min(first + k * step_ns, last), max_extrapolation_ns)
        if at_knot is None:
            return static
        knots[k] = (camera_at_image_from_fixed @ at_knot @ body_from_lidar)[:3]
    return PointMotion(knots, first, step_ns, 'deskewed' if per_point else 'compensated')
