"""What the network sees of a frame: the image, the direction of every pixel, and candidates for its depth.

Numba and OpenCV only: training, the torch estimator and exported engines all call this, and the last need no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.estimators.planes import fit_planes, spread_planes
from depth_ros.estimators.samples import NEAREST_STEP, collect
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
_PER_LENGTH = np.float32(1 / 8)
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


def encode(frame: Frame, sparse: SparseDepth, frame_rays: np.ndarray | None = None) -> NetworkInput:
    """Turn a frame and its measurements into the input of the network.

    Args:
        frame: the image.
        sparse: its measurements; may be empty.
        frame_rays: from ``ray_channels`` for this camera, to spare their computation.

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
    guide = np.empty((*padded, GUIDE_CHANNELS), dtype=np.float32)
    guide[..., REACHED] = 0
    samples = collect(frame, sparse)
    scale = float(np.median(samples.depth))
    planes = spread_planes(frame.image, samples, fit_planes(samples), _REACH, _STEP)
    lowest, highest = _range_around(samples.depth, samples.triangles)
    _draw_triangles(
        samples.u, samples.v, samples.mesh_u, samples.mesh_v, samples.depth, samples.spacing, lowest, highest,
        samples.triangles, planes, _STEP, np.float32(scale), height, width, guide,
    )  # fmt: skip
    _draw_outside(
        samples.u, samples.v, samples.depth, samples.spacing, lowest, highest, samples.nearest, NEAREST_STEP, planes,
        _STEP, np.float32(scale), height, width, guide,
    )  # fmt: skip
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


@njit(nogil=True, cache=True, inline='always')
def _within(inverse_depth, low, high, otherwise):
    """Limit an inverse depth; NaN becomes ``otherwise``."""
    if not inverse_depth >= low:
        inverse_depth = low if inverse_depth < low else otherwise
    return min(inverse_depth, high)


@njit(nogil=True, cache=True)
def _range_around(depth, triangles):
    """(N,) lowest and highest inverse depth of every sample and those that it shares a triangle with."""
    lowest = np.float32(1.0) / depth
    highest = lowest.copy()
    own = lowest.copy()
    for t in range(triangles.shape[0]):
        for i in range(3):
            a, b = triangles[t, i], triangles[t, (i + 1) % 3]
            lowest[a], highest[a] = min(lowest[a], own[b]), max(highest[a], own[b])
            lowest[b], highest[b] = min(lowest[b], own[a]), max(highest[b], own[a])
    return lowest, highest


@njit(nogil=True, cache=True, inline='always')
def _write(
    guide, row, column, linear, cell, low, high, nearest, lowest, highest, distance, gap, reached, scale
):
    """Fill one pixel; all depths are inverse, ``distance`` is squared."""
    plane = cell[0] + cell[1] * np.float32(column) + cell[2] * np.float32(row)
    pixel = guide[row, column]
    relative = np.float32(1.0) / linear
    pixel[LINEAR] = linear * scale
    pixel[PLANE] = _within(plane, low, high, linear) * relative
    pixel[MEAN] = _within(cell[3], low, high, linear) * relative
    pixel[NEAR] = high * relative
    pixel[FAR] = low * relative
    pixel[NEAREST] = nearest * relative
    pixel[NEARER] = highest * relative
    pixel[FARTHER] = lowest * relative
    pixel[DISTANCE] = np.float32(1.0) + np.sqrt(distance) * _PER_LENGTH
    pixel[SPACING] = np.float32(1.0) + gap * _PER_LENGTH
    pixel[REACHED] = reached


@njit(nogil=True, cache=True)
def _draw_triangles(
    u, v, mesh_u, mesh_v, depth, spacing, lowest, highest, triangles, planes, step, scale, height, width, guide
):
    """Fill the pixels inside of triangles."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        inverse_a, inverse_b, inverse_c = 1.0 / depth[a], 1.0 / depth[b], 1.0 / depth[c]
        low, high = min(inverse_a, inverse_b, inverse_c), max(inverse_a, inverse_b, inverse_c)
        ua, va = np.float64(mesh_u[a]), np.float64(mesh_v[a])
        bu, bv, cu, cv = mesh_u[b] - ua, mesh_v[b] - va, mesh_u[c] - ua, mesh_v[c] - va
        area = bu * cv - bv * cu
        if area <= 0:
            continue
        slope_u = ((inverse_b - inverse_a) * cv - (inverse_c - inverse_a) * bv) / area
        slope_v = ((inverse_c - inverse_a) * bu - (inverse_b - inverse_a) * cu) / area
        offset = inverse_a - slope_u * ua - slope_v * va
        gap = (spacing[a] + spacing[b] + spacing[c]) / np.float32(3.0)
        around_low = min(lowest[a], lowest[b], lowest[c])
        around_high = max(highest[a], highest[b], highest[c])
        top, bottom = min(mesh_v[a], mesh_v[b], mesh_v[c]), max(mesh_v[a], mesh_v[b], mesh_v[c])
        for row in range(max(int(np.ceil(top)), 0), min(int(np.floor(bottom)), height - 1) + 1):
            left, right = np.inf, -np.inf
            for begin, end in ((a, b), (b, c), (c, a)):
                v0, v1 = mesh_v[begin], mesh_v[end]
                if min(v0, v1) <= row <= max(v0, v1):
                    if v0 == v1:
                        left, right = min(left, mesh_u[begin], mesh_u[end]), max(right, mesh_u[begin], mesh_u[end])
                    else:
                        crossing = mesh_u[begin] + (mesh_u[end] - mesh_u[begin]) * ((row - v0) / (v1 - v0))
                        left, right = min(left, crossing), max(right, crossing)
            for column in range(max(int(np.ceil(left - 1e-4)), 0), min(int(np.floor(right + 1e-4)), width - 1) + 1):
                linear = min(max(offset + slope_u * column + slope_v * row, low), high)
                to_a = (u[a] - column) ** 2 + (v[a] - row) ** 2
                to_b = (u[b] - column) ** 2 + (v[b] - row) ** 2
                to_c = (u[c] - column) ** 2 + (v[c] - row) ** 2
                distance = min(to_a, to_b, to_c)
                nearest = inverse_a if distance == to_a else (inverse_b if distance == to_b else inverse_c)
                _write(
                    guide, row, column, np.float32(linear), planes[row // step, column // step], np.float32(low),
                    np.float32(high), np.float32(nearest), around_low, around_high, np.float32(distance), gap, _INSIDE,
                    scale,
                )  # fmt: skip


@njit(nogil=True, cache=True)
def _draw_outside(
    u, v, depth, spacing, lowest, highest, nearest, fill_step, planes, step, scale, height, width, guide
):
    """Fill the pixels outside of triangles, from the nearest sample and the plane that got there."""
    for row in range(guide.shape[0]):
        for column in range(guide.shape[1]):
            if guide[row, column, REACHED] > 0:
                continue
            r, c = min(row, height - 1), min(column, width - 1)
            i = nearest[r // fill_step, c // fill_step]
            distance = (u[i] - column) ** 2 + (v[i] - row) ** 2
            gap = max(spacing[i], np.float32(1.0))
            linear = np.float32(1.0) / depth[i]
            slack = np.float32(1.0) + min(np.sqrt(distance) / gap, np.float32(1.0))
            low, high = linear / slack, linear * slack
            _write(
                guide, row, column, linear, planes[r // step, c // step], low, high, linear, min(low, lowest[i]),
                max(high, highest[i]), distance, gap, _OUTSIDE, scale,
            )  # fmt: skip
