"""Estimators at a lower resolution than the image: what networks do best on, and what takes less time."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numba import njit

from depth_ros.estimators.base import Estimator
from depth_ros.estimators.parts import in_parts
from depth_ros.geometry.projection import nearest_per_pixel
from depth_ros.types import Camera, Frame, SparseDepth

# Neighbours whose depths differ by more than this share lie on two surfaces; a mixture of them lies on neither.
_SAME_SURFACE = np.float32(0.1)
# Pixels that points stay away from the lower right border: what rounds up to it would belong to a pixel outside.
_INSIDE = 1e-3


def estimate_downscaled(
    estimator: Estimator, frame: Frame, sparse: SparseDepth, downscale: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate at a lower resolution, and bring the result back to that of the image.

    Args:
        estimator: the method.
        frame: the image, H x W.
        sparse: its measurements.
        downscale: see ``downscale_for``.
        threads: how many share what comes after the estimator; the result is the same.

    Returns:
        As ``Estimator.estimate``; see ``enlarge``.
    """
    seen = shrink(frame, sparse, downscale_for(estimator.best_pixels, sparse.shape, downscale))
    return enlarge(*estimator.estimate(*seen), sparse.shape, threads)


def downscale_for(best_pixels: float, shape: tuple[int, int], asked: int = 0) -> int:
    """How many rows and columns of an image become one.

    Args:
        best_pixels: as of the estimator.
        shape: (height, width) of the image.
        asked: ``estimator.downscale``: so many, 1 = none; 0 = so many that the number of pixels is nearest to the best
            one, by their ratio.

    Returns:
        The downscale, 1 or more.
    """
    if asked:
        return asked
    excess = shape[0] * shape[1] / best_pixels
    # The sizes at n and at n + 1 are equally far from the best one where the excess is n (n + 1).
    return max(math.ceil((math.sqrt(1 + 4 * excess) - 1) / 2), 1)


def small_shape(shape: tuple[int, int], downscale: int) -> tuple[int, int]:
    """(height, width) of an image at a lower resolution; at the lower right border fewer pixels may become one."""
    return -(-shape[0] // downscale), -(-shape[1] // downscale)


def shrink(frame: Frame, sparse: SparseDepth, downscale: int) -> tuple[Frame, SparseDepth]:
    """An image and its measurements at a lower resolution.

    Args:
        frame: the image, H x W.
        sparse: its measurements.
        downscale: how many rows and columns become one; 1 = none, then both are as they are.

    Returns:
        frame: the image, ceil(H / downscale) x ceil(W / downscale).
        sparse: its measurements, of those that fall into one pixel the nearest.
    """
    if downscale == 1:
        return frame, sparse
    height, width = sparse.shape
    small = small_shape(sparse.shape, downscale)
    x, y = width / small[1], height / small[0]
    image = cv2.resize(frame.image, small[::-1], interpolation=cv2.INTER_AREA)
    camera = frame.camera
    small_camera = Camera(
        small[1], small[0], camera.fx / x, camera.fy / y, (camera.cx + 0.5) / x - 0.5, (camera.cy + 0.5) / y - 0.5,
        camera.frame_id, camera.model, camera.distortion, camera.rotation,
    )  # fmt: skip
    u = np.minimum((sparse.u + 0.5) / x - 0.5, small[1] - 0.5 - _INSIDE).astype(np.float32)
    v = np.minimum((sparse.v + 0.5) / y - 0.5, small[0] - 0.5 - _INSIDE).astype(np.float32)
    moved = SparseDepth(u, v, sparse.depth, sparse.std, small)
    kept = nearest_per_pixel(moved, small)
    return (
        Frame(frame.stamp_ns, image, frame.encoding, small_camera),
        SparseDepth(u[kept], v[kept], sparse.depth[kept], sparse.std[kept], small),
    )


def enlarge(
    depth: np.ndarray, std: np.ndarray, shape: tuple[int, int], threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """What was estimated at a lower resolution, at that of the image.

    Args:
        depth: (h, w) float32 metres, NaN = unknown; as it is where it is of that size already.
        std: (h, w) float32 metres, NaN where depth is NaN.
        shape: (height, width) of the image.
        threads: how many share the work; the result is the same.

    Returns:
        Both, (height, width). Between pixels of one surface inverse depth and standard deviation are interpolated
        linearly, at its edges the nearest pixel is taken.
    """
    if depth.shape == shape:
        return depth, std
    with np.errstate(divide='ignore'):
        inverse = 1 / depth
    found = np.empty(shape, np.float32), np.empty(shape, np.float32)

    def fill(first: int, last: int) -> None:
        _enlarge(first, last, inverse, std, *found)

    in_parts(fill, shape[0], threads)
    return found


@njit(nogil=True, cache=True)
def _enlarge(first, last, inverse, std, out_depth, out_std):
    """Fill some rows of both results."""
    (rows, columns), (height, width) = inverse.shape, out_depth.shape
    left, right, across = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.float32)
    for column in range(width):
        x = min(max((column + 0.5) * columns / width - 0.5, 0.0), columns - 1.0)
        left[column] = int(x)
        right[column] = min(int(x) + 1, columns - 1)
        across[column] = x - int(x)
    for row in range(first, last):
        y = min(max((row + 0.5) * rows / height - 0.5, 0.0), rows - 1.0)
        top = int(y)
        bottom, down = min(top + 1, rows - 1), np.float32(y - top)
        nearest = bottom if down > 0.5 else top
        for column in range(width):
            i, j, t = left[column], right[column], across[column]
            a, b, c, d = inverse[top, i], inverse[top, j], inverse[bottom, i], inverse[bottom, j]
            # Comparisons with NaN are false, so an unknown neighbour leads to the second branch.
            if abs(a - d) <= _SAME_SURFACE * a and abs(b - c) <= _SAME_SURFACE * b and abs(a - b) <= _SAME_SURFACE * a:
                upper, lower = a + t * (b - a), c + t * (d - c)
                out_depth[row, column] = np.float32(1) / (upper + down * (lower - upper))
                upper = std[top, i] + t * (std[top, j] - std[top, i])
                lower = std[bottom, i] + t * (std[bottom, j] - std[bottom, i])
                out_std[row, column] = upper + down * (lower - upper)
            else:
                k = j if t > 0.5 else i
                out_depth[row, column], out_std[row, column] = np.float32(1) / inverse[nearest, k], std[nearest, k]
