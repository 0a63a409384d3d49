"""Delaunay triangulation of image points, exact and fast enough for every frame.

A sweep-hull: points are added in the order of their distance from a seed triangle, joined to the part of the convex
hull that they see, and the new edges are flipped until every circumcircle is empty (Sinclair, 'S-hull: a fast radial
sweep-hull routine for Delaunay triangulation', arXiv:1604.01428). Coordinates are rounded to a fixed fraction of a
pixel, so that both predicates are decided exactly in 64-bit integers: rings of a lidar put many points on one line or
circle, where floating point predicates break the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from depth_ros.errors import ShapeError

# The in-circle determinant of points in a square of side L stays below 3 L^4; 2^14 keeps it inside 64 bits.
_MAX_COORDINATE = 1 << 14
_MAX_SUBDIVISION = 16


@dataclass(frozen=True, eq=False)
class Mesh:
    """Delaunay triangles and their outline.

    Half-edge ``e`` = 3 t + i runs from ``triangles[t, i]`` to ``triangles[t, (i + 1) % 3]``.

    Attributes:
        triangles: (T, 3) int32 indices of points; empty when all points lie on one line. On the screen (v down) all
            turn the same way: (b - a) x (c - a) > 0.
        opposite: (3 T,) int32 half-edge on the other side of each half-edge, -1 on the outline.
        hull: (K,) int32 indices of the points on the convex hull in order, turning the same way; without triangles the
            two ends of the line, or the only point.
    """

    triangles: np.ndarray
    opposite: np.ndarray
    hull: np.ndarray


def subdivision(shape: tuple[int, int]) -> int:
    """Steps per pixel that image points are rounded to: a power of two that keeps the predicates exact.

    Args:
        shape: (height, width) of the image in pixels.

    Returns:
        Steps per pixel, 1..16 (8 for a full-HD image).
    """
    steps = _MAX_SUBDIVISION
    while steps > 1 and max(shape) * steps > _MAX_COORDINATE:
        steps //= 2
    return steps


def triangulate(x: np.ndarray, y: np.ndarray) -> Mesh:
    """Triangulate distinct points on an integer grid.

    Args:
        x: (N,) integer, within [0, 16384).
        y: (N,) integer, within [0, 16384); no point occurs twice.

    Returns:
        The Delaunay mesh; among cocircular points any of the equally good diagonals.

    Raises:
        ShapeError: coordinates are not integers of one length >= 1, or leave the range.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or x.dtype.kind not in 'iu' or y.dtype.kind not in 'iu':
        raise ShapeError(f'coordinates are {x.dtype} {x.shape} and {y.dtype} {y.shape}, expected integer (N,), N >= 1')
    if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) >= _MAX_COORDINATE:
        raise ShapeError(
            f'coordinates reach from {min(x.min(), y.min())} to {max(x.max(), y.max())}, expected 0 to '
            f'{_MAX_COORDINATE - 1}; round to fewer steps per pixel'
        )
    x = np.ascontiguousarray(x, dtype=np.int64)
    y = np.ascontiguousarray(y, dtype=np.int64)
    seed = _seed_triangle(x, y)
    if seed[2] < 0:
        ends = np.lexsort((y, x))[[0, -1]] if len(x) > 1 else np.zeros(1)
        return Mesh(np.empty((0, 3), np.int32), np.empty(0, np.int32), ends.astype(np.int32))
    center = _circumcenter(x, y, seed)
    order = np.argsort((x - center[0]) ** 2 + (y - center[1]) ** 2, kind='stable')
    triangles, opposite, hull = _sweep(x, y, order, seed, center)
    return Mesh(triangles, opposite, hull)


@njit(nogil=True, cache=True)
def _turn(x, y, a, b, c):
    """(b - a) x (c - a): twice the signed area of a triangle, exact."""
    return (x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a])


@njit(nogil=True, cache=True)
def _in_circle(x, y, a, b, c, d):
    """Whether d lies strictly inside the circle through a, b, c (``_turn(a, b, c)`` > 0), exact."""
    ax, ay = x[a] - x[d], y[a] - y[d]
    bx, by = x[b] - x[d], y[b] - y[d]
    cx, cy = x[c] - x[d], y[c] - y[d]
    a2, b2, c2 = ax * ax + ay * ay, bx * bx + by * by, cx * cx + cy * cy
    return a2 * (bx * cy - by * cx) + b2 * (cx * ay - cy * ax) + c2 * (ax * by - ay * bx) > 0


@njit(nogil=True, cache=True)
def _circumcenter(x, y, seed):
    """Centre of the circle through three points, relative terms first to keep digits."""
    a, b, c = seed
    bx, by = float(x[b] - x[a]), float(y[b] - y[a])
    cx, cy = float(x[c] - x[a]), float(y[c] - y[a])
    b2, c2, area = bx * bx + by * by, cx * cx + cy * cy, 2.0 * (bx * cy - by * cx)
    return x[a] + (cy * b2 - by * c2) / area, y[a] + (bx * c2 - cx * b2) / area


@njit(nogil=True, cache=True)
def _seed_triangle(x, y):
    """Three points whose circumcircle holds no other point, near the middle; the last is -1 if all are collinear."""
    n = len(x)
    middle_x, middle_y = (x.min() + x.max()) // 2, (y.min() + y.max()) // 2
    a = 0
    best = np.int64(2**62)
    for i in range(n):
        distance = (x[i] - middle_x) ** 2 + (y[i] - middle_y) ** 2
        if distance < best:
            best, a = distance, i
    b = -1
    best = np.int64(2**62)
    for i in range(n):
        distance = (x[i] - x[a]) ** 2 + (y[i] - y[a]) ** 2
        if i != a and distance < best:
            best, b = distance, i
    c = -1
    if b < 0:
        return a, b, c
    smallest = np.inf
    for i in range(n):
        area = float(_turn(x, y, a, b, i))
        if area != 0.0:
            # Squared circumradius without the factor |b - a|^2 / 4 that all candidates share.
            to_a = float((x[i] - x[a]) ** 2 + (y[i] - y[a]) ** 2)
            to_b = float((x[i] - x[b]) ** 2 + (y[i] - y[b]) ** 2)
            radius = to_a * to_b / (area * area)
            if radius < smallest:
                smallest, c = radius, i
    if c >= 0 and _turn(x, y, a, b, c) < 0:
        a, b = b, a
    return a, b, c


@njit(nogil=True, cache=True)
def _direction(dx, dy, num_bins):
    """Bin of a direction: a number that grows with the angle, without trigonometry."""
    total = abs(dx) + abs(dy)
    fraction = dx / total if total > 0.0 else 0.0
    turn = (3.0 - fraction) / 4.0 if dy > 0.0 else (1.0 + fraction) / 4.0
    return int(turn * num_bins) % num_bins


@njit(nogil=True, cache=True)
def _link(triangles, opposite, outline, half, other):
    """Join two half-edges; one without partner is entered in the outline under the point it starts from."""
    opposite[half] = other
    if other >= 0:
        opposite[other] = half
    else:
        outline[triangles[half]] = half


@njit(nogil=True, cache=True)
def _flip_until_delaunay(x, y, triangles, opposite, outline, stack, first):
    """Restore empty circumcircles after half-edge ``first`` was joined to a new triangle (Lawson's flips)."""
    depth = 1
    stack[0] = first
    while depth > 0:
        depth -= 1
        near = stack[depth]
        far = opposite[near]
        if far < 0:
            continue
        near_base, far_base = near - near % 3, far - far % 3
        near_last = near_base + (near + 2) % 3
        far_next, far_last = far_base + (far + 1) % 3, far_base + (far + 2) % 3
        apex, far_apex = triangles[near_last], triangles[far_last]
        begin, end = triangles[near], triangles[near_base + (near + 1) % 3]
        if _in_circle(x, y, apex, begin, end, far_apex):
            triangles[near], triangles[far] = far_apex, apex
            beyond_far, beyond_near = opposite[far_last], opposite[near_last]
            _link(triangles, opposite, outline, near, beyond_far)
            _link(triangles, opposite, outline, far, beyond_near)
            _link(triangles, opposite, outline, near_last, far_last)
            stack[depth] = far_next
            stack[depth + 1] = near
            depth += 2


@njit(nogil=True, cache=True)
def _sweep(x, y, order, seed, center):
    """The sweep: (T, 3) triangles, (3 T,) opposite half-edges and the hull, all int32."""
    n = len(x)
    triangles = np.empty(6 * n, np.int32)
    opposite = np.empty(6 * n, np.int32)
    following = np.arange(n).astype(np.int32)  # next point on the hull; itself once a point has left the hull
    previous = np.arange(n).astype(np.int32)
    outline = np.full(n, -1, np.int32)  # half-edge that runs from a point of the hull to the next
    num_bins = int(np.ceil(np.sqrt(n)))
    recent = np.full(num_bins, -1, np.int32)  # a point of the hull per direction, where to start looking
    stack = np.empty(6 * n + 8, np.int32)
    a, b, c = seed
    for point, before, after in ((a, c, b), (b, a, c), (c, b, a)):
        previous[point], following[point] = before, after
        recent[_direction(x[point] - center[0], y[point] - center[1], num_bins)] = point
    triangles[0], triangles[1], triangles[2] = a, b, c
    for half in range(3):
        _link(triangles, opposite, outline, half, -1)
    size = 3
    start = a
    for point in order:
        if point in (a, b, c):
            continue
        key = _direction(x[point] - center[0], y[point] - center[1], num_bins)
        for step in range(num_bins):
            candidate = recent[(key + step) % num_bins]
            if candidate >= 0 and following[candidate] != candidate:
                start = candidate
                break
        # The point lies outside of the hull: it sees at least one edge from the outer side.
        edge = previous[start]
        while _turn(x, y, edge, following[edge], point) >= 0:
            edge = following[edge]
        before, after = edge, following[edge]
        while _turn(x, y, previous[before], before, point) < 0:
            before = previous[before]
        while _turn(x, y, after, following[after], point) < 0:
            after = following[after]
        # Join the point to every edge it sees, from `before` to `after`.
        current = before
        while current != after:
            ahead = following[current]
            inner = outline[current]
            triangles[size], triangles[size + 1], triangles[size + 2] = current, point, ahead
            _link(triangles, opposite, outline, size, -1 if current == before else outline[point])
            _link(triangles, opposite, outline, size + 1, -1)
            _link(triangles, opposite, outline, size + 2, inner)
            size += 3
            _flip_until_delaunay(x, y, triangles, opposite, outline, stack, size - 1)
            if current != before:
                following[current] = current
            current = ahead
        following[before], previous[point] = point, before
        following[point], previous[after] = after, point
        start = point
        recent[key] = point
        recent[_direction(x[before] - center[0], y[before] - center[1], num_bins)] = before
    hull = np.empty(n, np.int32)
    count = 0
    point = start
    while True:
        hull[count] = point
        count += 1
        point = following[point]
        if point == start:
            break
    return triangles[:size].copy().reshape(-1, 3), opposite[:size].copy(), hull[:count].copy()


def spans_bay(mesh: Mesh, u: np.ndarray, v: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Which triangles of a mesh span a bay of the point set.

    The convex hull of lidar points bridges whatever the outermost ring leaves open, with triangles as long as the image
    is wide that join surfaces which have nothing in common. They are taken away from the outside inward, as long as a
    triangle's side on the outline is too long.

    Args:
        mesh: the mesh.
        u: (N,) float32 column of its points in pixels.
        v: (N,) float32 row of its points in pixels.
        limit: (N,) float32 pixels: a side on the outline may be as long as the larger limit of its ends.

    Returns:
        (T,) bool, by triangle of the mesh.

    Source: Duckham et al. 2008 (characteristic shapes), with a limit that follows the local spacing and without the
    demand that the outline stays one simple polygon.
    """
    return _peel(mesh.triangles, mesh.opposite, u, v, limit)


@njit(nogil=True, cache=True)
def _peel(triangles, opposite, u, v, limit):
    """(T,) bool, True for triangles taken away."""
    taken = np.zeros(len(triangles), np.bool_)
    outline = np.empty(len(opposite), np.int64)  # stack of half-edges; each enters once at most
    size = 0
    for half in range(len(opposite)):
        if opposite[half] < 0:
            outline[size] = half
            size += 1
    while size > 0:
        size -= 1
        t, i = outline[size] // 3, outline[size] % 3
        a, b = triangles[t, i], triangles[t, (i + 1) % 3]
        longest = max(limit[a], limit[b])
        if taken[t] or (u[a] - u[b]) ** 2 + (v[a] - v[b]) ** 2 <= longest * longest:
            continue
        taken[t] = True
        for side in range(3 * t, 3 * t + 3):
            other = opposite[side]
            if other >= 0 and not taken[other // 3]:
                outline[size] = other
                size += 1
    return taken


@njit(nogil=True, cache=True, error_model='numpy')
def sides(u, v, a, b, c):
    """Sides of the triangle a, b, c (turning as in ``Mesh``), for ``rows_within`` and ``columns_within``."""
    if v[b] < v[a] and v[b] <= v[c]:
        a, b, c = b, c, a
    elif v[c] < v[a]:
        a, b, c = c, a, b
    # Now a is the top. Rows run between the long side from top to bottom and, to its one side, the upper, then the
    # lower.
    middle, last = (b, c) if v[b] <= v[c] else (c, b)
    u0, v0 = np.float64(u[a]), np.float64(v[a])
    u1, v1 = np.float64(u[middle]), np.float64(v[middle])
    u2, v2 = np.float64(u[last]), np.float64(v[last])
    # Columns per row. A level side bounds no row.
    down_long = (u2 - u0) / (v2 - v0) if v2 > v0 else 0.0
    down_upper = (u1 - u0) / (v1 - v0) if v1 > v0 else 0.0
    down_lower = (u2 - u1) / (v2 - v1) if v2 > v1 else 0.0
    return u0, v0, v1, u2, v2, down_long, down_upper, down_lower


@njit(nogil=True, cache=True)
def rows_within(outline, height):
    """First and last row of pixels in a triangle."""
    return max(int(np.ceil(outline[1])), 0), min(int(np.floor(outline[4])), height - 1)


@njit(nogil=True, cache=True)
def columns_within(outline, row, wider, width):
    """First and last column of pixels in a row of a triangle, which is ``wider`` to both sides than it is."""
    top_u, top, middle, bottom_u, bottom, down_long, down_upper, down_lower = outline
    long_side = top_u + (row - top) * down_long
    other = top_u + (row - top) * down_upper if row < middle else bottom_u + (row - bottom) * down_lower
    left, right = min(long_side, other) - wider, max(long_side, other) + wider
    return max(int(np.ceil(left)), 0), min(int(np.floor(right)), width - 1)
