"""What the network sees of a frame: the image, the direction of every pixel, and candidates for its depth.

Numba and OpenCV only: training, the torch estimator and exported engines all call this, and the last need no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.estimators.parts import in_parts
from depth_ros.estimators.planes import fit_planes, spread_planes
from depth_ros.estimators.samples import NEAREST_STEP, collect
from depth_ros.estimators.triangulation import columns_within, rows_within, sides
from depth_ros.geometry.camera import rays
from depth_ros.networks.layout import (
    DISTANCE,
    FAR,
    FARTHER,
    GUIDE_CHANNELS,
    LINEAR,
    MEAN,
    NEAR,
    NEARER,
    NEAREST,
    PER_PIXEL,
    PLANE,
    REACHED,
    SPACING,
    STRIDE,
)
from depth_ros.settings import ClassicalSettings
from depth_ros.types import Camera, Frame, SparseDepth

# Without lidar: the scale of a camera with a focal length of one pixel, in metres; a street camera with 700 px gets
# 10 m.
_SCALE_PER_PIXEL = 1 / 70
_REACH = ClassicalSettings().reach  # the candidates are those of the classical estimator as it comes
_STEP = 2  # pixels per cell of the grid on which planes are spread
_WIDER = 1e-4  # pixels by which rows of a triangle are wider than they are: rounding must leave no gap
_PER_LENGTH = np.float32(PER_PIXEL)
_INSIDE, _OUTSIDE = np.float32(1.0), np.float32(0.5)


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """Input of the network for one frame; height H and width W are padded to multiples of ``STRIDE``.

    Attributes:
        image: (H, W, 3) uint8, red first; edges repeated into the padding.
        rays: (H, W, 2) float32, x / z and y / z of every pixel; 0 where a pixel has no ray.
        guide: (H, W, 11) float32, channels as in ``networks.layout``. ``LINEAR`` is scale / depth; the other candidates
            are inverse depths relative to that: of the plane that the image allows (``PLANE``), the mean around
            (``MEAN``), the nearest and farthest depth of the triangle (``NEAR``, ``FAR``), the measurement nearest in
            the image (``NEAREST``), the nearest and farthest depth of the triangle and all triangles around
            (``NEARER``, ``FARTHER``). ``DISTANCE`` to the nearest measurement around and ``SPACING`` of the
            measurements are 1 + pixels / 8; ``REACHED`` is 1 between measurements, 0.5 beyond them, 0 where there are
            none at all (then all others are 1).
        scale: metres; depths in ``guide`` and in the network's output are multiples of it. Proportional to the lidar's
            depths (their median), or, without lidar, to the focal length.
        shape: (height, width) of the frame.
    """

    image: np.ndarray
    rays: np.ndarray
    guide: np.ndarray
    scale: float
    shape: tuple[int, int]


def encode(
    frame: Frame, sparse: SparseDepth, frame_rays: np.ndarray | None = None, threads: int = 1
) -> NetworkInput:
    """Turn a frame and its measurements into the input of the network.

    Args:
        frame: the image.
        sparse: its measurements; may be empty.
        frame_rays: from ``ray_channels`` for this camera, to spare their computation.
        threads: how many share the work; the result is the same.

    Returns:
        The input.

    Raises:
        ShapeError: measurements do not belong to the frame (see ``samples.collect``).
    """
    height, width = frame.camera.shape
    padded = padded_shape(frame.camera.shape)
    image = cv2.copyMakeBorder(frame.rgb(), 0, padded[0] - height, 0, padded[1] - width, cv2.BORDER_REPLICATE)
    directions = ray_channels(frame.camera) if frame_rays is None else frame_rays
    if len(sparse) == 0:
        guide = np.ones((*padded, GUIDE_CHANNELS), dtype=np.float32)
        guide[..., REACHED] = 0
        return NetworkInput(image, directions, guide, focal_scale(frame.camera), frame.camera.shape)
    samples = collect(frame, sparse)
    scale = float(np.median(samples.depth))
    planes = spread_planes(frame.image, samples, fit_planes(samples, threads), _REACH, _STEP)
    inverse_depth = 1 / samples.depth
    lowest, highest = _range_around(inverse_depth, samples.triangles)
    guide = np.empty((*padded, GUIDE_CHANNELS), dtype=np.float32)
    coefficients, limits = _planes_of_triangles(
        samples.mesh_u, samples.mesh_v, inverse_depth, samples.spacing, lowest, highest, samples.triangles
    )
    inside = np.empty((height, width), dtype=np.int32)
    mesh_u, mesh_v, triangles = samples.mesh_u, samples.mesh_v, samples.triangles
    # Unsigned: numba looks at every signed index whether it counts from the end.
    corners, nearest = triangles.view(np.uint32), samples.nearest.view(np.uint32)

    def find(first: int, last: int) -> None:
        _triangle_per_pixel(first, last, mesh_u, mesh_v, triangles, inside)

    def fill(first: int, last: int) -> None:
        _fill(
            first, last, samples.u, samples.v, inverse_depth, samples.spacing, lowest, highest, corners, inside,
            coefficients, limits, nearest, planes, np.float32(scale), guide,
        )  # fmt: skip

    in_parts(find, height, threads)
    in_parts(fill, padded[0], threads)
    return NetworkInput(image, directions, guide, scale, frame.camera.shape)


def focal_scale(camera: Camera) -> float:
    """Scale of depths where no lidar gives one, metres: the same content at twice the focal length is twice as far."""
    return (camera.fx + camera.fy) / 2 * _SCALE_PER_PIXEL


def ray_channels(camera: Camera) -> np.ndarray:
    """(H, W, 2) float32 as in ``NetworkInput.rays``, padded."""
    height, width = camera.shape
    padded = padded_shape(camera.shape)
    directions = np.nan_to_num(rays(camera), nan=0.0)
    return cv2.copyMakeBorder(directions, 0, padded[0] - height, 0, padded[1] - width, cv2.BORDER_REPLICATE)


def padded_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) rounded up to multiples of ``STRIDE``."""
    return -(-shape[0] // STRIDE) * STRIDE, -(-shape[1] // STRIDE) * STRIDE


@njit(nogil=True, cache=True)
def _range_around(own, triangles):
    """(N,) lowest and highest inverse depth of every sample and those that it shares a triangle with."""
    lowest = own.copy()
    highest = own.copy()
    for t in range(triangles.shape[0]):
        for i in range(3):
            a, b = triangles[t, i], triangles[t, (i + 1) % 3]
            lowest[a], highest[a] = min(lowest[a], own[b]), max(highest[a], own[b])
            lowest[b], highest[b] = min(lowest[b], own[a]), max(highest[b], own[a])
    return lowest, highest


@njit(nogil=True, cache=True)
def _triangle_per_pixel(first, last, mesh_u, mesh_v, triangles, inside):
    """Write the index of the triangle that a pixel is in, -1 outside of all, into rows of (height, width) int32."""
    height, width = inside.shape
    inside[first:last] = np.int32(-1)
    for t in range(triangles.shape[0]):
        outline = sides(mesh_u, mesh_v, triangles[t, 0], triangles[t, 1], triangles[t, 2])
        first_row, last_row = rows_within(outline, height)
        for row in range(max(first_row, first), min(last_row + 1, last)):
            left, right = columns_within(outline, row, _WIDER, width)
            for column in range(left, right + 1):
                inside[row, column] = t


@njit(nogil=True, cache=True, error_model='numpy')
def _planes_of_triangles(mesh_u, mesh_v, inverse_depth, spacing, lowest, highest, triangles):
    """Inverse depth in every triangle.

    Returns:
        (T, 3) float64 offset, slope_u and slope_v of the plane through the corners; (T, 5) float32 lowest and highest
        inverse depth of the corners and of all triangles around, and the spacing.
    """
    coefficients = np.empty((triangles.shape[0], 3), np.float64)
    limits = np.empty((triangles.shape[0], 5), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ua, va = np.float64(mesh_u[a]), np.float64(mesh_v[a])
        bu, bv, cu, cv = mesh_u[b] - ua, mesh_v[b] - va, mesh_u[c] - ua, mesh_v[c] - va
        area = bu * cv - bv * cu
        to_b, to_c = inverse_depth[b] - inverse_depth[a], inverse_depth[c] - inverse_depth[a]
        slope_u, slope_v = (to_b * cv - to_c * bv) / area, (to_c * bu - to_b * cu) / area
        coefficients[t, 0] = inverse_depth[a] - slope_u * ua - slope_v * va
        coefficients[t, 1], coefficients[t, 2] = slope_u, slope_v
        limits[t, 0] = min(inverse_depth[a], inverse_depth[b], inverse_depth[c])
        limits[t, 1] = max(inverse_depth[a], inverse_depth[b], inverse_depth[c])
        limits[t, 2] = min(lowest[a], lowest[b], lowest[c])
        limits[t, 3] = max(highest[a], highest[b], highest[c])
        limits[t, 4] = (spacing[a] + spacing[b] + spacing[c]) / np.float32(3.0)
    return coefficients, limits


@njit(nogil=True, cache=True, error_model='numpy')
def _fill(
    first, last, u, v, inverse_depth, spacing, lowest, highest, triangles, inside, coefficients, limits, nearest,
    planes, scale, guide,
):
    """Fill some rows: in triangles from their corners, elsewhere from the nearest sample, with the plane there."""
    height, width = inside.shape
    one = np.float32(1.0)
    for row in range(first, last):
        r = min(row, height - 1)
        v_row = np.float32(row)
        for column in range(guide.shape[1]):
            s = min(column, width - 1)
            u_column = np.float32(column)
            t = inside[r, s] if row < height and column < width else -1
            if t >= 0:
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                low, high = limits[t, 0], limits[t, 1]
                around_low, around_high, gap = limits[t, 2], limits[t, 3], limits[t, 4]
                plane = coefficients[t, 0] + coefficients[t, 1] * column + coefficients[t, 2] * row
                linear = min(max(np.float32(plane), low), high)
                to_a = (u[a] - u_column) ** 2 + (v[a] - v_row) ** 2
                to_b = (u[b] - u_column) ** 2 + (v[b] - v_row) ** 2
                to_c = (u[c] - u_column) ** 2 + (v[c] - v_row) ** 2
                distance = min(to_a, to_b, to_c)
                i = a if distance == to_a else (b if distance == to_b else c)
                reached = _INSIDE
            else:
                i = nearest[r // NEAREST_STEP, s // NEAREST_STEP]
                distance = (u[i] - u_column) ** 2 + (v[i] - v_row) ** 2
                gap = max(spacing[i], one)
                linear = inverse_depth[i]
                slack = one + min(np.sqrt(distance) / gap, one)
                low, high = linear / slack, linear * slack
                around_low, around_high = min(low, lowest[i]), max(high, highest[i])
                reached = _OUTSIDE
            y, x = r // _STEP, s // _STEP
            plane = planes[y, x, 0] + planes[y, x, 1] * u_column + planes[y, x, 2] * v_row
            relative = one / linear
            guide[row, column, LINEAR] = linear * scale
            guide[row, column, PLANE] = _within(plane, low, high, linear) * relative
            guide[row, column, MEAN] = _within(planes[y, x, 3], low, high, linear) * relative
            guide[row, column, NEAR] = high * relative
            guide[row, column, FAR] = low * relative
            guide[row, column, NEAREST] = inverse_depth[i] * relative
            guide[row, column, NEARER] = around_high * relative
            guide[row, column, FARTHER] = around_low * relative
            guide[row, column, DISTANCE] = one + np.sqrt(distance) * _PER_LENGTH
            guide[row, column, SPACING] = one + gap * _PER_LENGTH
            guide[row, column, REACHED] = reached


@njit(nogil=True, cache=True)
def _within(inverse_depth, low, high, otherwise):
    """Limit an inverse depth; NaN becomes ``otherwise``."""
    if not inverse_depth >= low:
        inverse_depth = low if inverse_depth < low else otherwise
    return min(inverse_depth, high)
