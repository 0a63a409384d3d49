"""Dense depth from planes and image edges: no weights, no training, any lidar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from depth_ros.estimators.planes import fit_slopes, spread_planes
from depth_ros.estimators.samples import collect, coverage
from depth_ros.types import Frame, SparseDepth


# Std of the model: shares of the depth range of the triangle, of the disagreement of both estimates, and of the depth
# per sample spacing of distance from the nearest sample.
_STD_PER_SPREAD, _STD_PER_DISAGREEMENT, _STD_PER_SPACING = 0.1, 0.5, 0.03
# Triangles smaller than this (twice the area, px^2) are too thin to tell a slope.
_MIN_AREA = 1e-3


@dataclass(frozen=True)
class ClassicalSettings:
    """Tunables of ``ClassicalEstimator``.

    Attributes:
        reach: how far the plane of a sample is carried over an image without edges, in units of the spacing of samples.
        mesh_share: share of the plain mesh in the result, 0..1: it halves the worst errors where the image misleads.
    """

    reach: float = 0.32
    mesh_share: float = 0.35


class ClassicalEstimator:
    """Planes through the samples, carried to the edges of the image.

    Linear interpolation between samples is exact on a plane and wrong at every depth edge, which it turns into a ramp.
    Here each sample gets the plane that its neighbours agree on; planes spread over the image along paths without image
    edges; where they meet, the edge is where the image has it. The result stays within the depths of the triangle of
    samples around a pixel and is mixed with linear interpolation.
    """

    name = 'classical'

    def __init__(self, settings: ClassicalSettings | None = None) -> None:
        """Take settings, or the defaults."""
        self._settings = settings or ClassicalSettings()

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth and its standard deviation, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        planes = spread_planes(frame.image, samples, fit_slopes(samples), self._settings.reach, _STEP)
        depth = np.full(samples.shape, np.nan, dtype=np.float32)
        std = np.full(samples.shape, np.nan, dtype=np.float32)
        mesh_share = np.float32(self._settings.mesh_share)
        _render_triangles(
            samples.u, samples.v, samples.mesh_u, samples.mesh_v, samples.depth, samples.std, samples.spacing,
            samples.mesh.triangles, planes, _STEP, mesh_share, depth, std,
        )
        _render_margin(
            samples.u, samples.v, samples.depth, samples.std, samples.spacing, samples.mesh.hull, coverage(samples), planes,
            _STEP, mesh_share, depth, std,
        )
        return depth, std


# Pixels per cell of the grid on which planes are spread: half the resolution is as good and four times as fast.
_STEP = 2


@njit(nogil=True, cache=True)
def _plane_at(planes, step, column, row):
    """Inverse depth of the plane that arrived at a pixel; NaN if none did."""
    i, j = min(row // step, planes.shape[1] - 1), min(column // step, planes.shape[2] - 1)
    return planes[0, i, j] + planes[1, i, j] * np.float32(column) + planes[2, i, j] * np.float32(row)


@njit(nogil=True, cache=True)
def _write(out_depth, out_std, row, column, linear, plane, low, high, distance, spacing, std, mesh_share):
    """Mix both estimates of inverse depth at one pixel and state the uncertainty of the result."""
    if not plane >= low:  # also replaces NaN
        plane = low if plane < low else linear
    plane = min(plane, high)
    by_mesh, by_plane = np.float32(1.0) / linear, np.float32(1.0) / plane
    depth = mesh_share * by_mesh + (np.float32(1.0) - mesh_share) * by_plane
    spread = np.float32(1.0) / low - np.float32(1.0) / high
    model = (
        _STD_PER_SPREAD * spread
        + _STD_PER_DISAGREEMENT * abs(by_mesh - by_plane)
        + _STD_PER_SPACING * depth * distance / max(spacing, np.float32(1.0))
    )
    out_depth[row, column] = depth
    out_std[row, column] = np.sqrt(std * std + model * model)


@njit(nogil=True, cache=True)
def _render_triangles(
    u, v, mesh_u, mesh_v, depth, std, spacing, triangles, planes, step, mesh_share, out_depth, out_std
):
    """Estimate all pixels inside of triangles."""
    height, width = out_depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        inverse_a, inverse_b, inverse_c = 1.0 / depth[a], 1.0 / depth[b], 1.0 / depth[c]
        low, high = min(inverse_a, inverse_b, inverse_c), max(inverse_a, inverse_b, inverse_c)
        # The mesh says which triangle a pixel is in, the points as measured say which plane that is.
        bu, bv = np.float64(u[b]) - u[a], np.float64(v[b]) - v[a]
        cu, cv = np.float64(u[c]) - u[a], np.float64(v[c]) - v[a]
        area = bu * cv - bv * cu
        if area > _MIN_AREA:
            slope_u = ((inverse_b - inverse_a) * cv - (inverse_c - inverse_a) * bv) / area
            slope_v = ((inverse_c - inverse_a) * bu - (inverse_b - inverse_a) * cu) / area
            offset = inverse_a - slope_u * u[a] - slope_v * v[a]
        else:
            slope_u, slope_v, offset = 0.0, 0.0, (inverse_a + inverse_b + inverse_c) / 3.0
        gap = (spacing[a] + spacing[b] + spacing[c]) / 3
        noise = max(std[a], std[b], std[c])
        first_row = max(int(np.ceil(min(mesh_v[a], mesh_v[b], mesh_v[c]))), 0)
        last_row = min(int(np.floor(max(mesh_v[a], mesh_v[b], mesh_v[c]))), height - 1)
        for row in range(first_row, last_row + 1):
            left, right = _span(mesh_u, mesh_v, a, b, c, row)
            for column in range(max(int(np.ceil(left - 1e-4)), 0), min(int(np.floor(right + 1e-4)), width - 1) + 1):
                linear = min(max(offset + slope_u * column + slope_v * row, low), high)
                distance = np.inf
                for corner in (a, b, c):
                    distance = min(distance, (u[corner] - column) ** 2 + (v[corner] - row) ** 2)
                _write(
                    out_depth, out_std, row, column, np.float32(linear), _plane_at(planes, step, column, row),
                    np.float32(low), np.float32(high), np.float32(np.sqrt(distance)), gap, noise, mesh_share,
                )


@njit(nogil=True, cache=True)
def _span(u, v, a, b, c, row):
    """Columns from which to which a row runs inside a triangle."""
    left, right = np.inf, -np.inf
    for begin, end in ((a, b), (b, c), (c, a)):
        low, high = min(v[begin], v[end]), max(v[begin], v[end])
        if low <= row <= high:
            if high == low:
                left, right = min(left, u[begin], u[end]), max(right, u[begin], u[end])
            else:
                crossing = u[begin] + (u[end] - u[begin]) * ((row - v[begin]) / (v[end] - v[begin]))
                left, right = min(left, crossing), max(right, crossing)
    return left, right


@njit(nogil=True, cache=True)
def _render_margin(u, v, depth, std, spacing, hull, mask, planes, step, mesh_share, out_depth, out_std):
    """Estimate the pixels that the measurements reach outside of triangles, from the nearest place on the hull.

    The plane that arrived there may go on, but not away from the hull by more than the depth itself per spacing.
    """
    height, width = out_depth.shape
    count = len(hull)
    for row in range(height):
        side = -1
        for column in range(width):
            if not mask[row, column] or out_depth[row, column] > 0:
                continue
            if side < 0:  # first of a row: look at all sides
                best = np.inf
                for i in range(count):
                    distance, _ = _to_side(u, v, hull, i, column, row)
                    if distance < best:
                        best, side = distance, i
            # Neighbouring pixels have neighbouring sides.
            distance, share = _to_side(u, v, hull, side, column, row)
            moved = True
            while moved:
                moved = False
                for other in ((side + 1) % count, (side + count - 1) % count):
                    other_distance, other_share = _to_side(u, v, hull, other, column, row)
                    if other_distance < distance:
                        side, distance, share, moved = other, other_distance, other_share, True
            a, b = hull[side], hull[(side + 1) % count]
            inverse_depth = (1 - share) / depth[a] + share / depth[b]
            gap = max((1 - share) * spacing[a] + share * spacing[b], np.float32(1.0))
            distance = np.sqrt(distance)
            slack = 1 + distance / gap
            _write(
                out_depth, out_std, row, column, np.float32(inverse_depth), _plane_at(planes, step, column, row),
                np.float32(inverse_depth / slack), np.float32(inverse_depth * slack), np.float32(distance), np.float32(gap),
                max(std[a], std[b]), mesh_share,
            )


@njit(nogil=True, cache=True)
def _to_side(u, v, hull, side, column, row):
    """Squared distance of a pixel to a side of the hull, and where along the side (0..1) it is nearest."""
    a, b = hull[side], hull[(side + 1) % len(hull)]
    du, dv = np.float64(u[b]) - u[a], np.float64(v[b]) - v[a]
    length = du * du + dv * dv
    share = 0.0
    if length > 0:
        share = min(max(((column - u[a]) * du + (row - v[a]) * dv) / length, 0.0), 1.0)
    return (u[a] + share * du - column) ** 2 + (v[a] + share * dv - row) ** 2, share
