"""A plane through every sample, and planes carried over the image to where nothing was measured.

Planes in space are linear in inverse depth over the image: inverse depth = offset + slope_u u + slope_v v, in 1/m and
1/m per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.estimators.parts import in_parts
from depth_ros.estimators.samples import Samples

# Neighbours of a sample that its plane is fitted to: those within so many edges of the mesh. One ring of neighbours is
# not enough to tell which of them lie on the same surface.
_HOPS = 3
_MAX_NEIGHBORS = 48  # about forty lie within three edges; those found last are left out
_FIT_ROUNDS = 3
# Share of its inverse depth by which a neighbour may miss the plane before it counts as another surface.
_PLANE_TOLERANCE = 0.1
# Shrinks slopes that the neighbours do not determine (all on one line) to zero.
_RIDGE = 1e-3
# Even a stray sample is all there is to know of its pixel.
_MIN_AGREEMENT = 0.02
# Shares of the strength in each round of separable smoothing.
_SHARES = (0.3, 0.2)
# A step in the image this many times the mean step halves the link between two cells.
_EDGE_CONTRAST = 4.0
# Mean steps below this (grey levels) are noise: in a dark or flat image nothing is an edge.
_MIN_MEAN_STEP = 1.0
# Weights below have no digits left.
_NO_WEIGHT = 1e-20
# Stands for 0 where there is no sample: what decays to 0 passes through numbers that processors are slow with.
_NEXT_TO_NOTHING = 1e-30
# What LLVM may do to floating point here. No estimates of reciprocals and roots ('arcp', 'afn'): only vector code has
# them, and whether a loop over short rows runs as such depends on where its arrays lie in memory. The same frame is to
# give the same depth to the last bit.
_FASTMATH = {'contract', 'reassoc', 'nsz', 'nnan', 'ninf'}


@dataclass(frozen=True, eq=False)
class SamplePlanes:
    """The plane through each sample.

    Attributes:
        slopes: (N, 2) float32, 1/m per pixel along u and v.
        agreement: (N,) float32 in 0..1, share of the neighbours that lie on the plane; low for a stray measurement.
        roughness: (N,) float32, mean share of the sample's inverse depth by which neighbours miss the plane.
    """

    slopes: np.ndarray
    agreement: np.ndarray
    roughness: np.ndarray


def fit_planes(samples: Samples, threads: int = 1) -> SamplePlanes:
    """Fit a plane in inverse depth through every sample, robust to neighbours on other surfaces.

    Weighted least squares through the sample over its neighbours in the mesh; weights fall with the squared distance
    and with the squared residual (Cauchy), re-weighted a fixed number of rounds.

    Args:
        samples: the measurements.
        threads: how many share the work; the result is the same.

    Returns:
        The planes; constant depth with full agreement where there is no triangle.
    """
    count = len(samples)
    if len(samples.mesh.triangles) == 0:
        return SamplePlanes(np.zeros((count, 2), np.float32), np.ones(count, np.float32), np.zeros(count, np.float32))
    start, neighbors = _neighbors(count, samples.mesh.triangles, samples.mesh.opposite)
    planes = SamplePlanes(np.empty((count, 2), np.float32), np.empty(count, np.float32), np.empty(count, np.float32))

    def fit(first: int, last: int) -> None:
        _fit_planes(
            first, last, samples.u, samples.v, samples.depth, start, neighbors, planes.slopes, planes.agreement,
            planes.roughness,
        )  # fmt: skip

    in_parts(fit, count, threads)
    return planes


def spread_planes(image: np.ndarray, samples: Samples, planes: SamplePlanes, reach: float, step: int) -> np.ndarray:
    """Carry the planes of the samples over the image, along paths that cross no edge of the image.

    Every cell of a coarse grid gets the mean of the planes around it, weighted by how easily they get there. The
    smoothing is a separable weighted least squares (Min, Choi, Lu, Ham, Sohn, Do, 'Fast global image smoothing based on
    weighted least squares', TIP 2014) of plane coefficients and of the weight itself, which normalises them.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        samples: the measurements.
        planes: the plane of each sample; it counts by its agreement.
        reach: how far planes are carried, in units of the spacing of samples.
        step: pixels per cell, 1, 2, 4, ...

    Returns:
        (h, w, 4) float32: offset, slope_u, slope_v of the cell's plane, and the mean inverse depth of the samples that
        it comes from; the cell at (i, j) holds the pixels (step i .., step j ..); NaN where no plane arrives.
    """
    guide = np.ascontiguousarray(image)
    for _ in range(step.bit_length() - 1):
        guide = cv2.pyrDown(guide)
    if step == 1:
        guide = cv2.GaussianBlur(guide, (3, 3), 0)
    across, down = _links(guide.reshape(*guide.shape[:2], -1))
    spacing_u, spacing_v = _typical_spacing(samples)
    strength = (reach / step) ** 2
    # Smoothing runs down the rows, all columns at once: across is smoothed on the transpose, where it begins.
    across = cv2.transpose(across)
    turned = _scatter(
        samples.u, samples.v, samples.depth, samples.row, samples.column, planes.slopes, planes.agreement, step,
        *guide.shape[:2],
    )
    scratch = np.empty(guide.shape[0] * guide.shape[1], dtype=np.float32)
    cells = np.empty((turned.shape[0], *guide.shape[:2]), dtype=np.float32)
    for i, share in enumerate(_SHARES):
        if i > 0:
            _transpose(cells, turned)
        _smooth_down(turned, across, np.float32(share * strength * spacing_u * spacing_v), scratch)
        _transpose(turned, cells)
        _smooth_down(cells, down, np.float32(share * strength * spacing_v * spacing_v), scratch)
    return _normalize(cells)


def _typical_spacing(samples: Samples) -> tuple[float, float]:
    """Median distance to the neighbour that is farthest along u and along v, in pixels, at least 1."""
    if len(samples.mesh.triangles) == 0:
        spacing = float(np.median(samples.spacing))
        return max(spacing, 1.0), max(spacing, 1.0)
    reach_u, reach_v = _extent(samples.u, samples.v, samples.mesh.triangles, samples.mesh.opposite)
    return max(float(np.median(reach_u)), 1.0), max(float(np.median(reach_v)), 1.0)


def _links(guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How easily planes pass between neighbouring cells.

    Args:
        guide: (h, w, C) uint8.

    Returns:
        across: (h, w) float32 in 0..1, from each cell to the next in its row, 0 in the last column.
        down: (h, w) float32 in 0..1, from each cell to the next in its column, 0 in the last row.
    """
    across, down, mean = _steps(tuple(cv2.split(guide)))
    per_contrast = np.float32(_EDGE_CONTRAST * max(mean, _MIN_MEAN_STEP)) ** -2
    for links in (across, down):
        _to_links(links, per_contrast)
    across[:, -1] = 0
    down[-1] = 0
    return across, down


def _transpose(source: np.ndarray, target: np.ndarray) -> None:
    """Write (C, h, w) as (C, w, h)."""
    for plane, turned in zip(source, target, strict=True):
        cv2.transpose(plane, dst=turned)


@njit(nogil=True, cache=True)
def _extent(u, v, triangles, opposite):
    """Largest |du| and |dv| over the edges at each point, without edges of the hull."""
    reach_u = np.zeros(len(u), np.float32)
    reach_v = np.zeros(len(u), np.float32)
    for half in range(len(opposite)):
        if opposite[half] >= 0:
            t, i = half // 3, half % 3
            a, b = triangles[t, i], triangles[t, (i + 1) % 3]
            reach_u[a] = max(reach_u[a], abs(u[a] - u[b]))
            reach_v[a] = max(reach_v[a], abs(v[a] - v[b]))
    return reach_u, reach_v


@njit(nogil=True, cache=True)
def _neighbors(count, triangles, opposite):
    """Neighbours of point i in the mesh: ``neighbors[start[i]:start[i + 1]]``.

    Unsigned, as numba looks at every signed index whether it counts from the end.
    """
    start = np.zeros(count + 1, np.uint32)
    flat = triangles.reshape(-1)
    for half in range(len(flat)):
        start[flat[half] + 1] += 1
        if opposite[half] < 0:  # an edge of the hull has one half only; its end needs the entry too
            start[flat[half - half % 3 + (half + 1) % 3] + 1] += 1
    for i in range(count):
        start[i + 1] += start[i]
    neighbors = np.empty(start[count], np.uint32)
    filled = start[:-1].copy()
    for half in range(len(flat)):
        a, b = flat[half], flat[half - half % 3 + (half + 1) % 3]
        neighbors[filled[a]] = b
        filled[a] += 1
        if opposite[half] < 0:
            neighbors[filled[b]] = a
            filled[b] += 1
    return start, neighbors


@njit(nogil=True, cache=True)
def _find_near(p, start, neighbors, seen, found):
    """Write p and the points within ``_HOPS`` edges of it to ``found``, nearest first, and return how many.

    ``seen`` marks by p; ``found`` holds one place more than there are points. No branch in the inner loop: whether a
    point was seen cannot be predicted.
    """
    seen[p] = p
    found[0] = p
    begin, size = 0, 1
    for _ in range(_HOPS):
        end = size
        for i in range(begin, end):
            if size >= _MAX_NEIGHBORS:
                return _MAX_NEIGHBORS
            q = found[i]
            for j in range(start[q], start[q + 1]):
                other = neighbors[j]
                found[size] = other
                size += seen[other] != p
                seen[other] = p
        begin = end
    return min(size, _MAX_NEIGHBORS)


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _fit_planes(first, last, u, v, depth, start, neighbors, slopes, agreement, roughness):
    count = len(u)
    inverse_depth = np.float32(1.0) / depth
    seen = np.full(count, -1, np.int32)
    found = np.empty(count + 1, np.uint32)
    # Loops of fixed length become vector instructions: what lies beyond the neighbours found has no weight.
    du = np.zeros(_MAX_NEIGHBORS, np.float32)
    dv = np.zeros(_MAX_NEIGHBORS, np.float32)
    dw = np.zeros(_MAX_NEIGHBORS, np.float32)
    closeness = np.zeros(_MAX_NEIGHBORS, np.float32)
    for p in range(first, last):
        size = _find_near(p, start, neighbors, seen, found)
        for i in range(1, size):
            q = found[i]
            du[i], dv[i] = u[q] - u[p], v[q] - v[p]
            # Residuals are shares of the sample's own inverse depth: no unit of depth enters the weights.
            dw[i] = (depth[p] - depth[q]) * inverse_depth[q]
            closeness[i] = np.float32(1.0) / (du[i] * du[i] + dv[i] * dv[i])
        for i in range(size, _MAX_NEIGHBORS):
            closeness[i] = np.float32(0.0)
        slope_u, slope_v = np.float32(0.0), np.float32(0.0)
        # Before there is a plane, residuals hold its slope as well.
        per_tolerance = np.float32(1 / (3 * _PLANE_TOLERANCE))
        for _ in range(_FIT_ROUNDS):
            uu = uv = vv = uw = vw = np.float32(0.0)
            for i in range(_MAX_NEIGHBORS):
                residual = (dw[i] - slope_u * du[i] - slope_v * dv[i]) * per_tolerance
                weight = closeness[i] / (np.float32(1.0) + residual * residual)
                uu += weight * du[i] * du[i]
                uv += weight * du[i] * dv[i]
                vv += weight * dv[i] * dv[i]
                uw += weight * du[i] * dw[i]
                vw += weight * dv[i] * dw[i]
            ridge = np.float32(_RIDGE) * (uu + vv)
            determinant = (uu + ridge) * (vv + ridge) - uv * uv + np.float32(1e-30)
            slope_u = (uw * (vv + ridge) - vw * uv) / determinant
            slope_v = (vw * (uu + ridge) - uw * uv) / determinant
            per_tolerance = np.float32(1 / _PLANE_TOLERANCE)
        slopes[p, 0], slopes[p, 1] = slope_u * inverse_depth[p], slope_v * inverse_depth[p]
        agreeing, missing, total = np.float32(0.0), np.float32(0.0), np.float32(1e-30)
        for i in range(_MAX_NEIGHBORS):
            residual = abs(dw[i] - slope_u * du[i] - slope_v * dv[i])
            share = residual * per_tolerance
            agreeing += closeness[i] / (np.float32(1.0) + share * share)
            missing += closeness[i] * min(residual, np.float32(1.0))
            total += closeness[i]
        agreement[p], roughness[p] = agreeing / total, missing / total


@njit(nogil=True, cache=True)
def _scatter(u, v, depth, row, column, slopes, agreement, step, height, width):
    """(5, width, height) float32: weighted sums of offset, slope_u, slope_v, inverse depth and 1 over the samples."""
    planes = np.full((5, width, height), np.float32(_NEXT_TO_NOTHING))
    for i in range(len(u)):
        r, c = min(row[i] // step, height - 1), min(column[i] // step, width - 1)
        weight = max(agreement[i], np.float32(_MIN_AGREEMENT))
        inverse_depth = np.float32(1.0) / depth[i]
        planes[0, c, r] += weight * (inverse_depth - slopes[i, 0] * u[i] - slopes[i, 1] * v[i])
        planes[1, c, r] += weight * slopes[i, 0]
        planes[2, c, r] += weight * slopes[i, 1]
        planes[3, c, r] += weight * inverse_depth
        planes[4, c, r] += weight
    return planes


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _steps(channels):
    """Square of the step of colour to the next cell across and down, scaled to three channels; mean size of both."""
    height, width = channels[0].shape
    across = np.zeros((height, width), np.float32)
    down = np.zeros((height, width), np.float32)
    scale = np.float32(3.0 / len(channels))
    total = 0.0
    for r in range(height):
        below = min(r + 1, height - 1)
        for channel in channels:
            for c in range(width):
                step = np.float32(channel[below, c]) - np.float32(channel[r, c])
                down[r, c] += scale * step * step
            for c in range(width - 1):
                step = np.float32(channel[r, c + 1]) - np.float32(channel[r, c])
                across[r, c] += scale * step * step
        of_row = np.float32(0.0)
        for c in range(width):
            of_row += np.sqrt(across[r, c]) + np.sqrt(down[r, c])
        total += of_row
    return across, down, total / (2 * height * width)


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _to_links(squares, factor):
    """Turn squares of steps into links, in place."""
    for r in range(squares.shape[0]):
        for c in range(squares.shape[1]):
            squares[r, c] = np.float32(1.0) / (np.float32(1.0) + factor * squares[r, c])


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _smooth_down(planes, links, strength, scratch):
    """Solve (1 + strength L) x = planes in every column, L the Laplacian weighted by the links; in place.

    Tridiagonal elimination (Thomas), all columns of a row at once; ``scratch`` holds as many numbers as the image.
    """
    channels, height, width = planes.shape
    ratio = scratch.reshape(height, width)
    inverse = np.empty(width, np.float32)
    for r in range(height):
        if r == 0:
            for c in range(width):
                below = strength * links[0, c]
                inverse[c] = np.float32(1.0) / (np.float32(1.0) + below)
                ratio[0, c] = below * inverse[c]
            for k in range(channels):
                for c in range(width):
                    planes[k, 0, c] *= inverse[c]
        else:
            for c in range(width):
                above, below = strength * links[r - 1, c], strength * links[r, c]
                inverse[c] = np.float32(1.0) / (np.float32(1.0) + below + above * (np.float32(1.0) - ratio[r - 1, c]))
                ratio[r, c] = below * inverse[c]
            for k in range(channels):
                for c in range(width):
                    above = strength * links[r - 1, c]
                    planes[k, r, c] = (planes[k, r, c] + above * planes[k, r - 1, c]) * inverse[c]
    for r in range(height - 2, -1, -1):
        for k in range(channels):
            for c in range(width):
                planes[k, r, c] += ratio[r, c] * planes[k, r + 1, c]


@njit(nogil=True, cache=True, error_model='numpy')
def _normalize(planes):
    """Divide the sums by the weight; what weighs next to nothing has no digits left and counts as unknown."""
    _, height, width = planes.shape
    out = np.empty((height, width, 4), np.float32)
    for r in range(height):
        for c in range(width):
            weight = planes[4, r, c]
            per_weight = np.float32(1.0) / weight if weight > np.float32(_NO_WEIGHT) else np.float32(np.nan)
            for k in range(4):
                out[r, c, k] = planes[k, r, c] * per_weight
    return out
