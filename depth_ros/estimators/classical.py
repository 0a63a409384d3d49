"""Dense depth from planes and image edges: no weights, no training, any lidar."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from depth_ros.estimators.planes import fit_planes, spread_planes
from depth_ros.estimators.samples import NEAREST_STEP, collect, coverage
from depth_ros.estimators.triangulation import columns_within, rows_within, sides
from depth_ros.settings import ClassicalSettings
from depth_ros.types import Frame, SparseDepth

# Std of the model in metres, a sum of shares, fitted as the scale of a Student t (4 degrees of freedom: errors at
# missed edges have long tails) to withheld rings of one street scene at 32, 16 and 8 of 64 rings:
_STD_PER_DISAGREEMENT = 1.1  # of the difference of both estimates
# and, times 1/2 + the distance from the nearest sample in units of the spacing,
_STD_PER_SPREAD = 0.03  # of the range of depth in the triangle
_STD_PER_ROUGHNESS = 0.43  # of the depth times the roughness of the samples around
# of the depth times the angle between samples, rad: what stands between them nobody measured. Chosen on the same scene,
# at 4 rings too, so that within two of the resulting std there are more of the tails.
_STD_PER_GAP = 0.25
# Where planes are continued beyond the hull: of the depth per spacing of distance from it. Stated, not fitted.
_STD_PER_SPACING_OUTSIDE = 0.15
# There a plane may leave the mean depth around by this share per spacing of distance.
_SLACK_PER_SPACING = 0.2
# In a bay whose ends interpolate to more than that: inverse depth goes this share of the way there, less where the bay
# is wider than so many spacings of samples. Chosen on the same scene alone, for the least mean logarithm of MAE and
# RMSE at 32, 16 and 8 rings; shares of 0.7 to 0.8 and widths from 6 upwards differ by 0.1 %.
_BAY_SHARE = 0.8
_BAY_WIDTH = 9.0
# Triangles smaller than this (twice the area, px^2) are too thin to tell a slope.
_MIN_AREA = 1e-3
# Pixels by which rows of a triangle are wider than they are: rounding must leave no gap between triangles.
_WIDER = 1e-3
# Pixels per cell of the grid on which planes are spread: half the resolution is as good and four times as fast.
_STEP = 2


class ClassicalEstimator:
    """Planes through the samples, carried to the edges of the image.

    Linear interpolation between samples is exact on a plane and wrong at every depth edge, which it turns into a ramp.
    Here each sample gets the plane that its neighbours agree on; planes spread over the image along paths without image
    edges; where they meet, the edge is where the image has it. The result stays within the depths of the triangle of
    samples around a pixel and is mixed with linear interpolation.
    """

    name = 'classical'
    needs_lidar = True
    best_pixels = math.inf

    def __init__(self, settings: ClassicalSettings | None = None) -> None:
        """Take settings, or the defaults."""
        self._settings = settings or ClassicalSettings()

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth and its standard deviation, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        sample_planes = fit_planes(samples)
        planes = spread_planes(frame.image, samples, sample_planes, self._settings.reach, _STEP)
        depth = np.full(samples.shape, np.nan, dtype=np.float32)
        std = np.full(samples.shape, np.nan, dtype=np.float32)
        mesh_share = np.float32(self._settings.mesh_share)
        std_per_pixel = np.float32(_STD_PER_GAP / frame.camera.fx)
        _render_triangles(
            samples.u, samples.v, samples.mesh_u, samples.mesh_v, samples.depth, samples.std, samples.spacing,
            samples.triangles, sample_planes.roughness, planes, mesh_share, std_per_pixel, depth, std,
        )
        lines, shares = _across_bays(
            samples.u, samples.v, samples.mesh_u, samples.mesh_v, samples.depth, samples.spacing, samples.bays,
            samples.shape,
        )
        _render_margin(
            samples.u, samples.v, samples.depth, samples.std, samples.spacing, samples.nearest,
            sample_planes.roughness, coverage(samples), planes, lines, shares, std_per_pixel, depth, std,
        )
        return depth, std


# What LLVM may do to floating point here, as in ``planes``; NaN keeps its meaning.
_FASTMATH = {'contract', 'reassoc', 'nsz'}


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _plane_at(planes, column, row):
    """Inverse depth of the plane that arrived at a pixel; NaN if none did."""
    i, j = row // _STEP, column // _STEP
    return planes[i, j, 0] + planes[i, j, 1] * np.float32(column) + planes[i, j, 2] * np.float32(row)


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _mix(linear, plane, low, high, mesh_share):
    """Mix both estimates of inverse depth at one pixel.

    Returns:
        Depth, and by how much the estimates disagree, in metres.
    """
    if not plane >= low:  # NaN as well
        plane = low if plane < low else linear
    plane = min(plane, high)
    scale = np.float32(1.0) / (linear * plane)
    by_mesh, by_plane = plane * scale, linear * scale
    return by_plane + mesh_share * (by_mesh - by_plane), abs(by_mesh - by_plane)


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _interpolation(u, v, depth, a, b, c):
    """Inverse depth between three samples.

    Returns:
        Its value at ``a``, its slopes per column and row, and its least and largest value at the corners.
    """
    one = np.float32(1.0)
    inverse_a, inverse_b, inverse_c = one / depth[a], one / depth[b], one / depth[c]
    low, high = min(inverse_a, inverse_b, inverse_c), max(inverse_a, inverse_b, inverse_c)
    # The mesh says which triangle a pixel is in, the points as measured say which plane that is.
    bu, bv, cu, cv = u[b] - u[a], v[b] - v[a], u[c] - u[a], v[c] - v[a]
    area = bu * cv - bv * cu
    if area > np.float32(_MIN_AREA):
        slope_u = ((inverse_b - inverse_a) * cv - (inverse_c - inverse_a) * bv) / area
        slope_v = ((inverse_c - inverse_a) * bu - (inverse_b - inverse_a) * cu) / area
        return inverse_a, slope_u, slope_v, low, high
    return (inverse_a + inverse_b + inverse_c) / np.float32(3.0), np.float32(0.0), np.float32(0.0), low, high


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _render_triangles(
    u, v, mesh_u, mesh_v, depth, std, spacing, triangles, roughness, planes, mesh_share, std_per_pixel,
    out_depth, out_std,
):
    """Estimate all pixels inside of triangles."""
    height, width = out_depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        outline = sides(mesh_u, mesh_v, a, b, c)
        first_row, last_row = rows_within(outline, height)
        if last_row < first_row:
            continue
        one = np.float32(1.0)
        offset, slope_u, slope_v, low, high = _interpolation(u, v, depth, a, b, c)
        au, av, bu, bv, cu, cv = u[a], v[a], u[b], v[b], u[c], v[c]
        per_gap = np.float32(3.0) / max(spacing[a] + spacing[b] + spacing[c], np.float32(3.0))
        variance = max(std[a], std[b], std[c]) ** 2
        std_spread = np.float32(_STD_PER_SPREAD) * (one / low - one / high)
        std_share = std_per_pixel / per_gap + (
            np.float32(_STD_PER_ROUGHNESS / 3) * (roughness[a] + roughness[b] + roughness[c])
        )
        for row in range(first_row, last_row + 1):
            v_row = np.float32(row)
            left, right = columns_within(outline, row, _WIDER, width)
            for column in range(left, right + 1):
                du, dv = np.float32(column) - au, v_row - av
                linear = min(max(offset + slope_u * du + slope_v * dv, low), high)
                square = du * du + dv * dv
                du, dv = np.float32(column) - bu, v_row - bv
                square = min(square, du * du + dv * dv)
                du, dv = np.float32(column) - cu, v_row - cv
                square = min(square, du * du + dv * dv)
                estimate, disagreement = _mix(linear, _plane_at(planes, column, row), low, high, mesh_share)
                model = (
                    np.float32(_STD_PER_DISAGREEMENT) * disagreement
                    + (np.float32(0.5) + np.sqrt(square) * per_gap) * (std_spread + std_share * estimate)
                )
                out_depth[row, column] = estimate
                out_std[row, column] = np.sqrt(variance + model * model)


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _across_bays(u, v, mesh_u, mesh_v, depth, spacing, bays, shape):
    """Draw the lines between the ends of bays.

    Returns:
        (H, W) float32 inverse depth of the line, 1/m, and (H, W) float32 how much it counts: both 0 outside of bays.
    """
    lines, shares = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for t in range(bays.shape[0]):
        a, b, c = bays[t, 0], bays[t, 1], bays[t, 2]
        outline = sides(mesh_u, mesh_v, a, b, c)
        first_row, last_row = rows_within(outline, shape[0])
        if last_row < first_row:
            continue
        offset, slope_u, slope_v, low, high = _interpolation(u, v, depth, a, b, c)
        longest = np.sqrt(
            max(
                (u[b] - u[a]) ** 2 + (v[b] - v[a]) ** 2,
                (u[c] - u[b]) ** 2 + (v[c] - v[b]) ** 2,
                (u[a] - u[c]) ** 2 + (v[a] - v[c]) ** 2,
            )
        )
        gap = (spacing[a] + spacing[b] + spacing[c]) / np.float32(3.0)
        share = np.float32(_BAY_SHARE) * min(np.float32(_BAY_WIDTH) * gap / longest, np.float32(1.0))
        for row in range(first_row, last_row + 1):
            at_row = offset + slope_v * (np.float32(row) - v[a])
            left, right = columns_within(outline, row, _WIDER, shape[1])
            for column in range(left, right + 1):
                inverse = at_row + slope_u * (np.float32(column) - u[a])
                lines[row, column] = min(max(inverse, low), high)
                shares[row, column] = share
    return lines, shares


@njit(nogil=True, cache=True, error_model='numpy', fastmath=_FASTMATH)
def _render_margin(
    u, v, depth, std, spacing, nearest, roughness, mask, planes, lines, shares, std_per_pixel, out_depth, out_std
):
    """Estimate the pixels that the measurements reach outside of triangles.

    The plane that arrives there goes on, but stays near the mean depth around: what lies between the ends of a bay is
    seldom the continuation of either. Where the line between the ends is farther away than that, the depth goes towards
    it: more bays have something in front of them than are filled by it.
    """
    height, width = out_depth.shape
    one = np.float32(1.0)
    for row in range(height):
        for column in range(width):
            if not mask[row, column] or out_depth[row, column] > 0:
                continue
            i = nearest[row // NEAREST_STEP, column // NEAREST_STEP]
            du, dv = np.float32(column) - u[i], np.float32(row) - v[i]
            away = np.sqrt(du * du + dv * dv) / max(spacing[i], one)
            around = planes[row // _STEP, column // _STEP, 3]
            if not around > 0:  # nothing arrived: the sample itself
                around = one / depth[i]
            slack = one + np.float32(_SLACK_PER_SPACING) * away
            estimate, disagreement = _mix(
                around, _plane_at(planes, column, row), around / slack, around * slack, np.float32(0.0)
            )
            model = np.float32(_STD_PER_DISAGREEMENT) * disagreement + estimate * (
                np.float32(_STD_PER_SPACING_OUTSIDE) * away + (np.float32(0.5) + away)
                * (np.float32(_STD_PER_ROUGHNESS) * roughness[i] + std_per_pixel * max(spacing[i], one))
            )
            line, share = lines[row, column], shares[row, column]
            if share > 0 and line * estimate < one:
                estimate = one / ((one - share) / estimate + share * line)
                model += np.float32(_STD_PER_DISAGREEMENT) * (one / line - estimate)
            out_depth[row, column] = estimate
            out_std[row, column] = np.sqrt(std[i] * std[i] + model * model)
