"""Plain methods that a better one has to beat; none looks at the image.

All give a value wherever ``samples.coverage`` says that the measurements reach, so that scores compare like with like.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numba import njit

from depth_ros.estimators.samples import Samples, collect, coverage
from depth_ros.types import Frame, SparseDepth

# Share of the depth by which an estimate is off one mean spacing of samples away from the nearest measurement: the
# stated uncertainty of methods that have no better idea of it.
_RELATIVE_STD = 0.15
# Triangles smaller than this (twice the area, px^2) are lines; pixels on an edge belong to both sides.
_MIN_AREA, _ON_EDGE = 1e-3, 1e-5


class NearestEstimator:
    """Depth of the nearest measured pixel."""

    name = 'nearest'
    needs_lidar = True
    best_pixels = math.inf

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth; std grows with the distance from the measurement, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        label, sample, distance = _nearest(samples)
        return _finish(samples, samples.depth[sample], label, sample, distance)


class LinearEstimator:
    """Linear interpolation of inverse depth in Delaunay triangles, the nearest measured pixel outside of the hull.

    A plane in space is linear in inverse depth over the image, so planes come out exactly.
    """

    name = 'linear'
    needs_lidar = True
    best_pixels = math.inf

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth; std grows with the distance from the measurement, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        label, sample, distance = _nearest(samples)
        depth = samples.depth[sample][label]
        _interpolate(samples.u, samples.v, 1 / samples.depth, samples.mesh.triangles, depth)
        return _finish(samples, depth, label, sample, distance)


@njit(nogil=True, cache=True)
def _interpolate(u, v, inverse_depth, triangles, depth):
    """Overwrite depth (H, W) inside of triangles by linear interpolation of inverse depth."""
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        bu, bv, cu, cv = u[b] - u[a], v[b] - v[a], u[c] - u[a], v[c] - v[a]
        area = bu * cv - bv * cu
        if area < _MIN_AREA:
            continue
        for row in range(max(math.ceil(min(v[a], v[b], v[c])), 0), min(math.floor(max(v[a], v[b], v[c])) + 1, height)):
            for column in range(
                max(math.ceil(min(u[a], u[b], u[c])), 0), min(math.floor(max(u[a], u[b], u[c])) + 1, width)
            ):
                du, dv = column - u[a], row - v[a]
                share_b, share_c = (du * cv - dv * cu) / area, (bu * dv - bv * du) / area
                if share_b >= -_ON_EDGE and share_c >= -_ON_EDGE and share_b + share_c <= 1 + _ON_EDGE:
                    share_a = 1 - share_b - share_c
                    depth[row, column] = 1 / (
                        share_a * inverse_depth[a] + share_b * inverse_depth[b] + share_c * inverse_depth[c]
                    )


class MorphologicalEstimator:
    """Completion by dilation, near over far, in the manner of IP-Basic.

    Steps and kernels as published: Ku, Harakeh, Waslander, 'In defense of classical image processing: fast depth
    completion on the CPU' (CRV 2018), section III. What is still empty after the large fill takes the nearest measured
    pixel.
    """

    name = 'ip_basic'
    needs_lidar = True
    best_pixels = math.inf

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth; std grows with the distance from the measurement, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        label, sample, distance = _nearest(samples)
        far = max(100.0, 1.25 * float(samples.depth.max()))
        # Dilation keeps the largest value, which has to be the nearest surface; 0 stays empty.
        proximity = np.zeros(samples.shape, dtype=np.float32)
        proximity[samples.row, samples.column] = far - samples.depth
        proximity = cv2.dilate(proximity, _diamond(2))
        proximity = cv2.morphologyEx(proximity, cv2.MORPH_CLOSE, _square(5))
        proximity = _fill_empty(proximity, cv2.dilate(proximity, _square(7)))
        top = np.argmax(proximity > 0, axis=0)
        above = np.arange(samples.shape[0])[:, None] < top
        proximity = np.where(above, proximity[top, np.arange(samples.shape[1])], proximity)
        proximity = _fill_empty(proximity, cv2.dilate(proximity, _square(31)))
        proximity = _fill_empty(proximity, (far - samples.depth[sample])[label])
        proximity = cv2.medianBlur(proximity, 5)
        depth = far - cv2.GaussianBlur(proximity, (5, 5), 0)
        return _finish(samples, depth, label, sample, distance)


def _square(size: int) -> np.ndarray:
    """(size, size) uint8 of ones."""
    return np.ones((size, size), dtype=np.uint8)


def _diamond(radius: int) -> np.ndarray:
    """(2 radius + 1, 2 radius + 1) uint8, 1 within city-block distance ``radius`` of the middle."""
    offset = np.abs(np.arange(-radius, radius + 1))
    return (offset[:, None] + offset <= radius).astype(np.uint8)


def _fill_empty(image: np.ndarray, filling: np.ndarray) -> np.ndarray:
    """``image`` where it is above 0, ``filling`` elsewhere."""
    return np.where(image > 0, image, filling)


def _nearest(samples: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest measured pixel, by a chamfer distance that is right within 2 %.

    Returns:
        label: (H, W) int32 label of the sample.
        sample: (N + 1,) int32 index of the sample of each label; there is no label 0.
        distance: (H, W) float32 pixels.
    """
    empty = np.ones(samples.shape, dtype=np.uint8)
    empty[samples.row, samples.column] = 0
    distance, label = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    sample = np.zeros(len(samples) + 1, dtype=np.int32)
    sample[label[samples.row, samples.column]] = np.arange(len(samples), dtype=np.int32)
    return label, sample, distance


def _finish(
    samples: Samples, depth: np.ndarray, label: np.ndarray, sample: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """State the uncertainty, and hold back what the measurements do not reach.

    Args:
        samples: the measurements.
        depth: (H, W) metres, or (N + 1,) by label where it is that of the nearest sample.
        label: (H, W) int32 label of the nearest sample.
        sample: (N + 1,) int32 its index.
        distance: (H, W) float32 pixels to it.

    Returns:
        depth: (H, W) float32 metres, NaN where the measurements do not reach.
        std: (H, W) float32 metres, likewise: std of the nearest measurement, and a share of the depth per mean
            spacing of samples of distance.
    """
    inside = coverage(samples)
    spacing = max(math.sqrt(np.count_nonzero(inside) / len(samples)), 1.0)
    return _state(
        inside,
        depth.astype(np.float32, copy=False),
        label,
        distance,
        samples.std[sample],
        np.float32(_RELATIVE_STD / spacing),
    )


@njit(nogil=True, cache=True)
def _state(inside, depth, label, distance, std, std_per_pixel):
    out_depth, out_std = np.full(label.shape, np.nan, np.float32), np.full(label.shape, np.nan, np.float32)
    for row in range(label.shape[0]):
        for column in range(label.shape[1]):
            if inside[row, column]:
                i = label[row, column]
                z = depth[i] if depth.ndim == 1 else depth[row, column]
                model = std_per_pixel * z * distance[row, column]
                out_depth[row, column] = z
                out_std[row, column] = np.sqrt(std[i] * std[i] + model * model)
    return out_depth, out_std
