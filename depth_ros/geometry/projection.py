"""From lidar points to what the camera sees of them: projection, z-buffer, removal of hidden points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from depth_ros.errors import ShapeError
from depth_ros.geometry.camera import NONE, distort, model_arguments
from depth_ros.geometry.motion import PointMotion
from depth_ros.types import Camera, LidarScan, SparseDepth


@dataclass(frozen=True, eq=False)
class ProjectedPoints:
    """Points of one sweep that fall into the image, before anything hides them.

    Attributes:
        u: (M,) float32 column in pixels.
        v: (M,) float32 row in pixels.
        depth: (M,) float32 metres.
        index: (M,) int32 index of the point in the scan.
        slide: (M, 2) float32 pixels: how far, in columns and rows, points that the lidar sees just past this one can
            lie from it in the image, if they are infinitely far away (see ``visible``).
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    index: np.ndarray
    slide: np.ndarray

    def __len__(self) -> int:
        return len(self.depth)

    def take(self, selection: np.ndarray) -> ProjectedPoints:
        """Points that a mask or index array selects."""
        return ProjectedPoints(
            self.u[selection], self.v[selection], self.depth[selection], self.index[selection], self.slide[selection]
        )


def project(
    scan: LidarScan, motion: PointMotion, camera: Camera, min_depth: float, max_depth: float
) -> ProjectedPoints:
    """Project a sweep into an image.

    Args:
        scan: the sweep; points that are not finite are skipped.
        motion: transforms to the camera at the time of the image.
        camera: the camera, raw or rectified.
        min_depth: metres, nearer points are skipped.
        max_depth: metres, farther points are skipped.

    Returns:
        The points inside the image, in the order of the scan.
    """
    kind, intrinsics, distortion, max_tangent = model_arguments(camera)
    # The rectification turns points once, so it can be part of the knots.
    knots = np.ascontiguousarray(np.einsum('ij,kjl->kil', camera.rotation, motion.knots))
    origin = camera.rotation @ motion.lidar_origin
    offsets = scan.time_offset_ns if len(knots) > 1 else np.zeros(0, np.int32)
    count = len(scan)
    u, v, depth = (np.empty(count, np.float32) for _ in range(3))
    index, slide = np.empty(count, np.int32), np.empty((count, 2), np.float32)
    used = _project(
        scan.points,
        offsets,
        knots,
        float(motion.start_ns),
        float(motion.step_ns),
        kind,
        intrinsics,
        distortion,
        max_tangent,
        origin,
        camera.width,
        camera.height,
        min_depth,
        max_depth,
        u,
        v,
        depth,
        index,
        slide,
    )
    return ProjectedPoints(u[:used], v[:used], depth[:used], index[:used], slide[:used])


def concatenate(parts: list[ProjectedPoints]) -> ProjectedPoints:
    """Put several sweeps together, or none; ``index`` keeps its meaning within each."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.zeros(0, np.float32)
        return ProjectedPoints(none, none, none, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
    names = ('u', 'v', 'depth', 'index', 'slide')
    return ProjectedPoints(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def nearest_per_pixel(points: ProjectedPoints | SparseDepth, shape: tuple[int, int]) -> np.ndarray:
    """Z-buffer.

    Args:
        points: projected points.
        shape: (height, width) of the image.

    Returns:
        (K,) int64 indices into ``points``, ascending: the nearest point of every pixel that has one; the first of
        equals.
    """
    return _nearest_per_pixel(points.u, points.v, points.depth, shape[0], shape[1])


def visible(points: ProjectedPoints, occluders: ProjectedPoints, shape: tuple[int, int], margin: float) -> np.ndarray:
    """Find the points that the camera sees.

    Lidar and camera stand at different places, so the lidar sees past the edges of near things onto surfaces that these
    things hide from the camera. Seen in the image, a line of sight of the lidar that grazes a near point Q goes on,
    behind Q, along a straight line away from Q; a farther point P on it lies at the share (1 - z_Q / z_P) of the way to
    its vanishing point. All that the lidar sees just past Q and the camera does not therefore lies on that stretch. So
    P is hidden if it is farther than Q by the margin and lies on the stretch, or as near to it as the patch of surface
    that Q stands for reaches. Points on the other sides of Q are beside it, not behind it, and stay.

    Within that patch itself a point that is farther than Q by 15 % is hidden as well: seen through glass, or put there
    by an edge that calibration or time has shifted. Where the two sensors see (nearly) the same, all points stay.

    Judged by the true disparity of 20 KITTI stereo frames this finds 0.76 of the hidden points of 64 rings and loses
    0.008 of the others, 0.72 and 0.010 at 32 rings, 0.56 and 0.011 at 16. A window of 11 x 15 pixels that compares with
    the nearest depth in it (margin 0.3) finds 0.71 and loses 0.016 at 64 rings, 0.31 and 0.004 at 16: it cannot tell
    the side of an edge that hides from the side that does not.

    Args:
        points: points to judge.
        occluders: points that may hide them (usually the same).
        shape: (height, width) of the image.
        margin: share of its depth by which a point must be behind another to be hidden by it.

    Returns:
        (M,) bool, True = seen.

    Raises:
        ShapeError: the margin is not between 0 and 1.
    """
    if not 0 < margin < 1:
        raise ShapeError(f'margin is {margin}, expected between 0 and 1')
    if len(points) == 0 or len(occluders) == 0:
        return np.ones(len(points), dtype=np.bool_)
    reach_u, reach_v = _patch(occluders, shape)
    return _visible(
        points.u,
        points.v,
        points.depth,
        occluders.u,
        occluders.v,
        occluders.depth,
        occluders.slide,
        shape[0],
        shape[1],
        reach_u,
        reach_v,
        margin,
    )


# Half the size of the patch that a sample stands for, in units of the spacing of samples along rows and across them.
# Along rings samples are dense and the spacing is known well; across them gaps (sky, glass) inflate it.
_REACH_ALONG, _REACH_ACROSS = 1.5, 0.5
_MARGIN_IN_PATCH = 0.15
_BLOCK = 4  # cells of the search grid that are passed over at once
_EVERY_ROW = 8
_MAX_REACH = 32.0  # pixels
_MIN_PARALLAX = 1.0  # pixels; less than the position of a sample is known to
_MAX_PARALLAX = 200.0  # pixels; bounds the work for things that touch the camera


def _patch(points: ProjectedPoints, shape: tuple[int, int]) -> tuple[float, float]:
    """Half width and half height, in pixels, of the patch of surface that a sample stands for."""
    area = (np.ptp(points.u) + 1.0) * (np.ptp(points.v) + 1.0)
    mean = math.sqrt(area / len(points))
    rows = np.rint(points.v).astype(np.int32)
    some = rows % _EVERY_ROW == 0  # enough for a median
    pixels = np.sort(rows[some] * np.int32(4 * shape[1]) + np.rint(points.u[some]).astype(np.int32))
    gaps = np.diff(pixels)
    gaps = gaps[(gaps > 0) & (gaps < 2 * shape[1])]  # neighbours in the same row
    along = min(max(float(np.median(gaps)), 1.0), mean) if gaps.size else mean
    return min(_REACH_ALONG * along, _MAX_REACH), min(max(_REACH_ACROSS * mean * mean / along, 1.0), _MAX_REACH)


@njit(nogil=True, cache=True)
def _project(
    points,
    offsets,
    knots,
    start_ns,
    step_ns,
    kind,
    intrinsics,
    distortion,
    max_tangent,
    origin,
    width,
    height,
    min_depth,
    max_depth,
    u,
    v,
    depth,
    index,
    slide,
):
    used = 0
    last = knots.shape[0] - 1
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    right, bottom = width - 0.5, height - 0.5
    limit2 = max_tangent * max_tangent
    k, share = 0, 0.0
    for i in range(points.shape[0]):
        px, py, pz = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        if px == 0 and py == 0 and pz == 0:  # no return: moved with the others it would be a point in the air
            continue
        if last > 0:
            position = (np.float64(offsets[i]) - start_ns) / step_ns
            k = min(max(int(position), 0), last - 1)
            share = position - k
        a = knots[k]
        z = a[2, 0] * px + a[2, 1] * py + a[2, 2] * pz + a[2, 3]
        x = a[0, 0] * px + a[0, 1] * py + a[0, 2] * pz + a[0, 3]
        y = a[1, 0] * px + a[1, 1] * py + a[1, 2] * pz + a[1, 3]
        if last > 0:
            b = knots[k + 1]
            x += share * (b[0, 0] * px + b[0, 1] * py + b[0, 2] * pz + b[0, 3] - x)
            y += share * (b[1, 0] * px + b[1, 1] * py + b[1, 2] * pz + b[1, 3] - y)
            z += share * (b[2, 0] * px + b[2, 1] * py + b[2, 2] * pz + b[2, 3] - z)
        # Also skips NaN and infinities, and what is at the camera itself where no depth is too small.
        if not (z > 0 and z >= min_depth and z <= max_depth):
            continue
        xn, yn = x / z, y / z
        if not (xn * xn + yn * yn <= limit2):
            continue
        xd, yd = xn, yn
        if kind != NONE:
            xd, yd = distort(kind, distortion, xn, yn)
        # As they are stored: what rounds up to the border would belong to a pixel outside.
        column, row = np.float32(fx * xd + cx), np.float32(fy * yd + cy)
        if not (column >= -0.5 and column < right and row >= -0.5 and row < bottom):
            continue
        u[used], v[used], depth[used], index[used] = column, row, z, i
        # Direction of the line of sight behind the point; where it never gets in front of the camera again, it leaves
        # the image, and the factor below bounds its length.
        dx, dy, dz = x - origin[0], y - origin[1], z - origin[2]
        if dz > 0.1 * z:
            slide[used, 0] = fx * (dx / dz - xn)
            slide[used, 1] = fy * (dy / dz - yn)
        else:
            slide[used, 0] = fx * 10 * (dx - xn * dz) / z
            slide[used, 1] = fy * 10 * (dy - yn * dz) / z
        used += 1
    return used


@njit(nogil=True, cache=True)
def _nearest_per_pixel(u, v, depth, height, width):
    owner = np.full(height * width, -1, np.int32)
    count = 0
    for i in range(u.shape[0]):
        pixel = int(math.floor(v[i] + 0.5)) * width + int(math.floor(u[i] + 0.5))
        j = owner[pixel]
        if j < 0:
            owner[pixel] = i
            count += 1
        elif depth[i] < depth[j]:
            owner[pixel] = i
    chosen = np.empty(count, np.int64)
    used = 0
    for i in range(u.shape[0]):
        pixel = int(math.floor(v[i] + 0.5)) * width + int(math.floor(u[i] + 0.5))
        if owner[pixel] == i:
            chosen[used] = i
            used += 1
    return chosen


@njit(nogil=True, cache=True)
def _visible(u, v, depth, qu, qv, qdepth, slide, height, width, reach_u, reach_v, margin):
    rows, columns = int(height / reach_v) + 1, int(width / reach_u) + 1
    first = np.full((rows, columns), -1, np.int32)  # linked lists of the points in each cell
    following = np.empty(u.shape[0], np.int32)
    farthest = np.zeros((rows, columns), np.float32)
    farthest_in_block = np.zeros((rows // _BLOCK + 1, columns // _BLOCK + 1), np.float32)
    for p in range(u.shape[0]):
        r, c = int((v[p] + 0.5) / reach_v), int((u[p] + 0.5) / reach_u)
        following[p] = first[r, c]
        first[r, c] = p
        farthest[r, c] = max(farthest[r, c], depth[p])
        block_r, block_c = r // _BLOCK, c // _BLOCK
        farthest_in_block[block_r, block_c] = max(farthest_in_block[block_r, block_c], depth[p])
    seen = np.ones(u.shape[0], np.bool_)
    for q in range(qu.shape[0]):
        su, sv = slide[q, 0], slide[q, 1]
        length = math.sqrt(su * su + sv * sv)
        if length < _MIN_PARALLAX:
            continue
        eu, ev = su / length, sv / length
        su, sv = eu * min(length, _MAX_PARALLAX), ev * min(length, _MAX_PARALLAX)
        r0 = max(int((qv[q] + min(sv, 0.0) + 0.5) / reach_v) - 1, 0)
        r1 = min(int((qv[q] + max(sv, 0.0) + 0.5) / reach_v) + 2, rows)
        c0 = max(int((qu[q] + min(su, 0.0) + 0.5) / reach_u) - 1, 0)
        c1 = min(int((qu[q] + max(su, 0.0) + 0.5) / reach_u) + 2, columns)
        for block_r in range(r0 // _BLOCK, (r1 - 1) // _BLOCK + 1):
            for block_c in range(c0 // _BLOCK, (c1 - 1) // _BLOCK + 1):
                if qdepth[q] >= (1 - margin) * farthest_in_block[block_r, block_c]:
                    continue
                for r in range(max(r0, block_r * _BLOCK), min(r1, (block_r + 1) * _BLOCK)):
                    for c in range(max(c0, block_c * _BLOCK), min(c1, (block_c + 1) * _BLOCK)):
                        if qdepth[q] >= (1 - margin) * farthest[r, c]:
                            continue
                        p = first[r, c]
                        while p >= 0:
                            if seen[p] and qdepth[q] < (1 - margin) * depth[p]:
                                du, dv = u[p] - qu[q], v[p] - qv[q]
                                stretch = length * (1 - qdepth[q] / depth[p])
                                if (
                                    abs(du) <= reach_u
                                    and abs(dv) <= reach_v
                                    and qdepth[q] < (1 - _MARGIN_IN_PATCH) * depth[p]
                                ):
                                    seen[p] = False
                                elif stretch >= _MIN_PARALLAX:
                                    along = min(max(du * eu + dv * ev, 0.0), stretch)
                                    off_u, off_v = (du - along * eu) / reach_u, (dv - along * ev) / reach_v
                                    if off_u * off_u + off_v * off_v <= 1:
                                        seen[p] = False
                            p = following[p]
    return seen
