"""Plain methods that a better one has to beat; none looks at the image.

All give a value wherever ``samples.coverage`` says that the measurements reach, so that scores compare like with like.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError

from depth_ros.estimators.samples import Samples, collect, coverage
from depth_ros.types import Frame, SparseDepth

# Share of the depth by which an estimate is off one sample spacing away from the nearest measurement: the stated
# uncertainty of the methods that have no better idea of it. Street scenes: half of all pixels.
_RELATIVE_STD = 0.15


class NearestEstimator:
    """Depth of the nearest measured pixel."""

    name = 'nearest'

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth; std grows with the distance from the measurement, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        return _finish(samples, None, *_nearest(samples))


class LinearEstimator:
    """Linear interpolation of inverse depth in Delaunay triangles, the nearest measured pixel outside of the hull.

    A plane in space is linear in inverse depth over the image, so planes come out exactly.
    """

    name = 'linear'

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth; std grows with the distance from the measurement, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        nearest, distance = _nearest(samples)
        depth = samples.depth[nearest]
        height, width = samples.shape
        try:
            points = np.stack([samples.u, samples.v], axis=1)
            interpolate = LinearNDInterpolator(points, 1.0 / samples.depth.astype(np.float64))
        except (QhullError, ValueError):  # fewer than three points, or all on one line
            pass
        else:
            rows, columns = np.mgrid[:height, :width]
            inverse_depth = interpolate(columns, rows)
            inside = np.isfinite(inverse_depth)
            depth = np.where(inside, 1.0 / np.where(inside, inverse_depth, 1.0), depth)
        return _finish(samples, depth, nearest, distance)


class MorphologicalEstimator:
    """Completion by dilation, near over far, in the manner of IP-Basic.

    Steps and kernels as published: Ku, Harakeh, Waslander, 'In defense of classical image processing: fast depth
    completion on the CPU' (CRV 2018), section III. What is still empty after the large fill takes the nearest measured
    pixel.
    """

    name = 'ip_basic'

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth; std grows with the distance from the measurement, see ``Estimator.estimate``."""
        samples = collect(frame, sparse)
        nearest, distance = _nearest(samples)
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
        proximity = _fill_empty(proximity, far - samples.depth[nearest])
        proximity = cv2.medianBlur(proximity, 5)
        depth = far - cv2.GaussianBlur(proximity, (5, 5), 0)
        return _finish(samples, depth, nearest, distance)


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


def _nearest(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Nearest measured pixel, by a chamfer distance that is right within 2 %.

    Returns:
        index: (H, W) int32 index of the sample.
        distance: (H, W) float32 pixels.
    """
    empty = np.ones(samples.shape, dtype=np.uint8)
    empty[samples.row, samples.column] = 0
    distance, label = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    index_of_label = np.empty(len(samples) + 1, dtype=np.int32)
    index_of_label[label[samples.row, samples.column]] = np.arange(len(samples), dtype=np.int32)
    return index_of_label[label], distance


def _finish(
    samples: Samples, depth: np.ndarray | None, nearest: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """State the uncertainty, and hold back what the measurements do not reach.

    Args:
        samples: the measurements.
        depth: (H, W) metres; None = that of the nearest sample.
        nearest: (H, W) int32 index of the nearest sample.
        distance: (H, W) float32 pixels to it.

    Returns:
        depth: (H, W) float32 metres, NaN where the measurements do not reach.
        std: (H, W) float32 metres, likewise: std of the nearest measurement, and a share of the depth per sample
            spacing of distance.
    """
    if depth is None:
        depth = samples.depth[nearest]
    return _state(
        coverage(samples), depth.astype(np.float32, copy=False), nearest, distance, samples.std, samples.spacing
    )


@njit(nogil=True, cache=True)
def _state(inside, depth, nearest, distance, std, spacing):
    out_depth, out_std = np.full(depth.shape, np.nan, np.float32), np.full(depth.shape, np.nan, np.float32)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if inside[row, column]:
                z, i = depth[row, column], nearest[row, column]
                model = np.float32(_RELATIVE_STD) * z * distance[row, column] / max(spacing[i], np.float32(1.0))
                out_depth[row, column] = z
                out_std[row, column] = np.sqrt(std[i] * std[i] + model * model)
    return out_depth, out_std
