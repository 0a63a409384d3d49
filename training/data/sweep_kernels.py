"""Loops over the points of sweeps, compiled: what ``accumulation`` does to millions of points."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from depth_ros.geometry.camera import NONE, distort

AZIMUTH_BIN = math.radians(0.5)
_NEAR = 3.0  # metres; nearer points are looked at wherever they are
# Metres; what is farther is a driver's way to say that there was no return (the largest float32, say), and may be
# infinite once it is moved, which is in no cell.
_FAR = 1e6
_COLUMNS = int(2 * math.pi / AZIMUTH_BIN)
# The arc tangent of 0 to 1 as an odd polynomial, least squares on Chebyshev nodes: off by 2e-10 rad at most, and ten
# times as fast as that of the C library, since loops over it are vectorised.
_ARC = (
    0.999999996673, -0.333333020913, 0.199991298238, -0.142744323210,
    0.110286519341, -0.087138627422, 0.065413828475, -0.042088161980,
    0.020467881091, -0.006394789211, 0.000937562453,
)  # fmt: skip


@njit(nogil=True, cache=True, inline='always')
def _angle(y, x):
    """Angle of (x, y) from the x axis, within [-pi, pi] rad, off by 2e-10 at most; of NaN or infinity it says nothing.

    The sign of a zero does not count, unlike with ``atan2``: 0 at the origin, pi on the negative x axis.
    """
    across, along = abs(y), abs(x)
    longer = max(across, along)
    ratio = min(across, along) / longer if longer > 0 else 0.0
    square = ratio * ratio
    angle = _ARC[10]
    for power in range(9, -1, -1):
        angle = angle * square + _ARC[power]
    angle *= ratio
    if across > along:
        angle = math.pi / 2 - angle
    if x < 0:
        angle = math.pi - angle
    return angle if y >= 0 else -angle


@njit(nogil=True, cache=True)
def to_middle(points, offsets, knots, start_ns, step_ns, axis, min_cosine, moved):
    """Bring the returns in view to the middle of their sweep; write them to ``moved``, return how many they are."""
    used = 0
    last = knots.shape[0] - 1
    k, share = 0, 0.0
    for i in range(points.shape[0]):
        px, py, pz = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        distance = math.sqrt(px * px + py * py + pz * pz)
        along = px * axis[0] + py * axis[1] + pz * axis[2]
        if not (distance > 0 and distance < _FAR) or (distance > _NEAR and along < min_cosine * distance):
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
def _polar(points, t, elevation_bin, columns):
    """Cell of elevation and azimuth, row by row, and range of each point, after a transform."""
    cells, ranges = np.empty(points.shape[0], np.int32), np.empty(points.shape[0], np.float64)
    for i in range(points.shape[0]):
        px, py, pz = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        x = t[0, 0] * px + t[0, 1] * py + t[0, 2] * pz + t[0, 3]
        y = t[1, 0] * px + t[1, 1] * py + t[1, 2] * pz + t[1, 3]
        z = t[2, 0] * px + t[2, 1] * py + t[2, 2] * pz + t[2, 3]
        flat = x * x + y * y
        row = np.int32((_angle(z, math.sqrt(flat)) + math.pi / 2) / elevation_bin)
        column = np.int32((_angle(y, x) + math.pi) / AZIMUTH_BIN)
        column = column - columns if column >= columns else column
        cells[i] = row * np.int32(columns) + column
        ranges[i] = math.sqrt(flat + z * z)
    return cells, ranges


@njit(nogil=True, cache=True)
def ring_spacing(points, ring):
    """Median angle between the median elevations of neighbouring rings, rad; 0 where there are not two."""
    elevation, returned = np.empty(points.shape[0], np.float64), np.empty(points.shape[0], np.bool_)
    for i in range(points.shape[0]):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        flat = x * x + y * y
        distance = math.sqrt(flat + z * z)
        elevation[i] = _angle(z, math.sqrt(flat))
        returned[i] = distance > 0 and distance < _FAR
    ring, elevation = ring[returned], elevation[returned]
    ends = np.cumsum(np.bincount(ring)) if len(ring) else np.zeros(0, np.int64)
    by_ring, places = np.empty(len(ring)), ends.copy()
    for i in range(len(ring)):
        places[ring[i]] -= 1
        by_ring[places[ring[i]]] = elevation[i]
    medians, count, start = np.empty(len(ends)), 0, 0
    for end in ends:
        if end > start:
            medians[count] = np.median(by_ring[start:end])
            count += 1
        start = end
    if count < 2:
        return 0.0
    return np.median(np.diff(np.sort(medians[:count])))


@njit(nogil=True, cache=True)
def range_image(points, elevation_bin):
    """(rows, columns) float32 metres, least range per cell of elevation and azimuth, inf where there is no beam."""
    cells, ranges = _polar(points, np.eye(4), elevation_bin, _COLUMNS)
    image = np.full((int(math.pi / elevation_bin) + 1) * _COLUMNS, np.inf, np.float32)
    for i in range(points.shape[0]):
        image[cells[i]] = min(image[cells[i]], np.float32(ranges[i]))
    return image.reshape(-1, _COLUMNS)


@njit(nogil=True, cache=True)
def shield(ranges):
    """Least range around each cell, 0 where the cell itself has none: who passes it, passes the beams beside it too."""
    rows, columns = ranges.shape
    beside = np.empty((rows, columns), np.float32)
    for r in range(rows):
        for c in range(columns):
            before, after = ranges[r, c - 1], ranges[r, c + 1 if c + 1 < columns else 0]
            beside[r, c] = min(ranges[r, c], min(before, after))
    result = np.zeros((rows, columns), np.float32)
    for r in range(rows):
        above, below = beside[max(r - 1, 0)], beside[min(r + 1, rows - 1)]
        for c in range(columns):
            if ranges[r, c] < np.inf:
                result[r, c] = min(beside[r, c], min(above[c], below[c]))
    return result


@njit(nogil=True, cache=True)
def seen_through(points, judge_from_points, shields, elevation_bin, share, margin, static):
    """Set ``static`` False where a beam of the judge went on: those that graze a surface, or an edge, do not."""
    cells, ranges = _polar(points, judge_from_points, elevation_bin, _COLUMNS)
    flat = shields.ravel()
    for i in range(points.shape[0]):
        if flat[cells[i]] > ranges[i] * (1 + share) + margin:
            static[i] = False


@njit(nogil=True, cache=True)
def into_image(
    points,
    static,
    camera_from_points,
    kind,
    intrinsics,
    distortion,
    max_tangent,
    width,
    height,
    min_depth,
    max_depth,
    u,
    v,
    depth,
    kept,
    used,
):
    """Project points as ``geometry.projection`` does; append them and their ``static``, return how many are there."""
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    right, bottom = width - 0.5, height - 0.5
    limit2 = max_tangent * max_tangent
    t = camera_from_points
    for i in range(points.shape[0]):
        px, py, pz = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        z = t[2, 0] * px + t[2, 1] * py + t[2, 2] * pz + t[2, 3]
        if not (z > 0 and z >= min_depth and z <= max_depth):  # the least depth may be 0
            continue
        x = (t[0, 0] * px + t[0, 1] * py + t[0, 2] * pz + t[0, 3]) / z
        y = (t[1, 0] * px + t[1, 1] * py + t[1, 2] * pz + t[1, 3]) / z
        if not (x * x + y * y <= limit2):
            continue
        if kind != NONE:
            x, y = distort(kind, distortion, x, y)
        column, row = np.float32(fx * x + cx), np.float32(fy * y + cy)
        if not (column >= -0.5 and column < right and row >= -0.5 and row < bottom):
            continue
        u[used], v[used], depth[used], kept[used] = column, row, z, static[i]
        used += 1
    return used


@njit(nogil=True, cache=True)
def draw_nearest(u, v, depth, kept, height, width, per_metre, most):
    """(H, W) uint16 steps of depth of the nearest of the kept points of each pixel, 0 where there is none."""
    image = np.zeros((height, width), np.uint16)
    for i in range(u.shape[0]):
        if kept[i]:
            steps = np.rint(depth[i] * per_metre)
            if steps >= 1 and steps <= most:
                row, column = int(math.floor(v[i] + 0.5)), int(math.floor(u[i] + 0.5))
                if image[row, column] == 0 or steps < image[row, column]:
                    image[row, column] = np.uint16(steps)
    return image


@njit(nogil=True, cache=True)
def by_strip(u, v, depth, num_strips, strip, height):
    """Sort points by upright strip of the image, then by row.

    Returns:
        starts: (num_strips * height + 1,) int32 first point of each strip and row of pixels.
        v: (M,) float32 rows, sorted within each strip.
        depth: (M,) float32 metres, in that order.
    """
    starts = np.zeros(num_strips * height + 1, np.int32)
    cells = np.empty(u.shape[0], np.int32)
    for i in range(u.shape[0]):
        cells[i] = int((u[i] + np.float32(0.5)) / np.float32(strip)) * height + int(v[i] + 0.5)
        starts[cells[i] + 1] += 1
    for cell in range(num_strips * height):
        starts[cell + 1] += starts[cell]
    ends = starts[:-1].copy()
    sorted_v, sorted_depth = np.empty(u.shape[0], np.float32), np.empty(u.shape[0], np.float32)
    for i in range(u.shape[0]):
        cell = cells[i]
        j = ends[cell]
        while j > starts[cell] and sorted_v[j - 1] > v[i]:
            sorted_v[j], sorted_depth[j] = sorted_v[j - 1], sorted_depth[j - 1]
            j -= 1
        sorted_v[j], sorted_depth[j] = v[i], depth[i]
        ends[cell] += 1
    return starts, sorted_v, sorted_depth


@njit(nogil=True, cache=True)
def nothing_between(u, v, depth, own_v, own_depth, starts, height, strip, max_gap, margin, kept):
    """Set ``kept`` False for points that do not lie between the depths of the next of ``by_strip`` above and below."""
    for i in range(u.shape[0]):
        if not kept[i]:
            continue
        column = int((u[i] + 0.5) / strip)
        first, end = starts[column * height], starts[(column + 1) * height]
        below = starts[column * height + int(v[i] + 0.5)]
        while below < end and own_v[below] < v[i]:
            below += 1
        if below in (first, end) or own_v[below] - own_v[below - 1] > max_gap:
            continue
        one, other = own_depth[below - 1], own_depth[below]
        if depth[i] * (1 - margin) > max(one, other) or depth[i] < min(one, other) * (1 - margin):
            kept[i] = False


@njit(nogil=True, cache=True)
def extent(u, v, kept):
    """Number of the kept points, and width and height of the area where they are, pixels."""
    count = 0
    left, right, top, bottom = np.float32(np.inf), np.float32(-np.inf), np.float32(np.inf), np.float32(-np.inf)
    for i in range(u.shape[0]):
        if kept[i]:
            count += 1
            left, right = min(left, u[i]), max(right, u[i])
            top, bottom = min(top, v[i]), max(bottom, v[i])
    return count, right - left, bottom - top


@njit(nogil=True, cache=True)
def cover(u, v, depth, height, width, cell, margin, kept):
    """Set ``kept`` False for points behind the nearest of their own cell and of all four beside it."""
    # A border of empty cells, so that the outermost points have neighbours too.
    rows, columns = int(height / cell) + 3, int(width / cell) + 3
    nearest = np.full((rows, columns), np.inf, np.float32)
    for i in range(u.shape[0]):
        if kept[i]:
            r, c = int((v[i] + 0.5) / cell) + 1, int((u[i] + 0.5) / cell) + 1
            nearest[r, c] = min(nearest[r, c], depth[i])
    for i in range(u.shape[0]):
        if not kept[i]:
            continue
        r, c = int((v[i] + 0.5) / cell) + 1, int((u[i] + 0.5) / cell) + 1
        limit = depth[i] * (1 - margin)
        if nearest[r, c] >= limit:
            continue
        around = max(max(nearest[r - 1, c], nearest[r + 1, c]), max(nearest[r, c - 1], nearest[r, c + 1]))
        kept[i] = around >= limit


@njit(nogil=True, cache=True)
def compare(u, v, depth, nearest, farthest, tolerance, share):
    """(M,) int8: 1 = nearer than the nearest depth around the pixel, 2 = farther than the farthest, 0 = neither.

    A depth may be off by the tolerance, in metres, and the share of itself.
    """
    state = np.zeros(u.shape[0], np.int8)
    for i in range(u.shape[0]):
        row, column = int(math.floor(v[i] + 0.5)), int(math.floor(u[i] + 0.5))
        off = tolerance + share * depth[i]
        if depth[i] < nearest[row, column] - off:
            state[i] = 1
        elif depth[i] > farthest[row, column] + off:
            state[i] = 2
    return state
