"""How good depth is: sums that add up over points, images and splits, and the figures made of them.

Truth is a withheld lidar point that the camera sees; the estimate is the depth of the pixel that holds it. Nothing is
clipped: an estimate that is not finite and positive is no estimate, and lowers the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numba import njit

from depth_ros.errors import ShapeError
from depth_ros.types import DepthEstimate, SparseDepth

RANGE_EDGES = (0.0, 5.0, 10.0, 20.0, 30.0, 50.0, 80.0)
KEYS = ('mae', 'rmse', 'imae', 'irmse', 'abs_rel', 'sq_rel', 'rmse_log', 'delta1', 'delta2', 'delta3', 'coverage')
MAX_DEPTH = 80.0
_EDGE_RATIO, _EDGE_ROWS, _EDGE_WIDTH = np.float32(1.25), 2, 0.01

# What is summed, by column.
(_TRUTHS, _COVERED, _ABS, _SQ, _INV_ABS, _INV_SQ, _REL, _SQ_REL, _LOG_SQ, _DELTA1, _DELTA2, _DELTA3,
 _WITH_STD, _WITHIN1, _WITHIN2, _Z_SQ) = range(16)
_NUM_SUMS = 16


@dataclass(frozen=True, eq=False)
class DepthSums:
    """Sums of errors over points. Sums of parts add (``+``) to the sums of the whole.

    Attributes:
        values: (16,) float64.
    """

    values: np.ndarray = field(default_factory=lambda: np.zeros(_NUM_SUMS))

    def __add__(self, other: DepthSums) -> DepthSums:
        return DepthSums(self.values + other.values)

    @property
    def num_truth(self) -> int:
        """Points with truth."""
        return round(self.values[_TRUTHS])

    @property
    def num_covered(self) -> int:
        """Points with truth and an estimate."""
        return round(self.values[_COVERED])

    def metrics(self) -> dict[str, float]:
        """The figures, by the names in ``KEYS``.

        Returns:
            ``mae``, ``rmse`` in m; ``imae``, ``irmse`` in 1/km; ``abs_rel``, ``rmse_log``, ``delta1`` to ``delta3``
            (share of points within a factor of 1.25, 1.25^2, 1.25^3) and ``coverage`` without unit, ``sq_rel`` in m.
            NaN where no point says anything.

        Source: Eigen et al. 2014 (relative and delta metrics), Uhrig et al. 2017 (imae, irmse).
        """
        s = self.values
        count = s[_COVERED] if s[_COVERED] > 0 else np.nan
        values = (
            s[_ABS] / count, np.sqrt(s[_SQ] / count), s[_INV_ABS] / count, np.sqrt(s[_INV_SQ] / count), s[_REL] / count,
            s[_SQ_REL] / count, np.sqrt(s[_LOG_SQ] / count), s[_DELTA1] / count, s[_DELTA2] / count, s[_DELTA3] / count,
            s[_COVERED] / s[_TRUTHS] if s[_TRUTHS] > 0 else np.nan,
        )
        return {key: float(value) for key, value in zip(KEYS, values, strict=True)}

    def calibration(self) -> dict[str, float]:
        """How honest the standard deviation is.

        Returns:
            ``within_1_sigma`` and ``within_2_sigma``: share of the covered points whose error is at most one, two
            standard deviations (0.683 and 0.954 if errors are Gaussian and the deviation is right); ``rms_z``: root
            mean square of error / deviation (1 if right). NaN where no point has a positive standard deviation.
        """
        s = self.values
        count = s[_WITH_STD] if s[_WITH_STD] > 0 else np.nan
        return {
            'within_1_sigma': float(s[_WITHIN1] / count),
            'within_2_sigma': float(s[_WITHIN2] / count),
            'rms_z': float(np.sqrt(s[_Z_SQ] / count)),
        }


@dataclass(frozen=True, eq=False)
class ScoredPoints:
    """What one estimate says at the points with truth.

    Attributes:
        u: (M,) float32 column in pixels.
        v: (M,) float32 row in pixels.
        truth: (M,) float32 metres.
        depth: (M,) float32 metres, NaN = no estimate.
        std: (M,) float32 metres, NaN = not stated.
    """

    u: np.ndarray
    v: np.ndarray
    truth: np.ndarray
    depth: np.ndarray
    std: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def covered(self) -> np.ndarray:
        """(M,) bool, True where the estimate is finite and positive."""
        return np.isfinite(self.depth) & (self.depth > 0)

    def take(self, selection: np.ndarray) -> ScoredPoints:
        """Points that a mask or index array selects."""
        return ScoredPoints(
            self.u[selection], self.v[selection], self.truth[selection], self.depth[selection], self.std[selection]
        )

    def sums(self) -> DepthSums:
        """Sums over all points."""
        return DepthSums(_sums(self.truth, self.depth, self.std, np.array([-np.inf, np.inf]))[0])

    def sums_by_range(self, edges: Sequence[float]) -> list[DepthSums]:
        """Sums per bin of truth, [edge, next edge); the last bin holds its far edge too."""
        return [DepthSums(row) for row in _sums(self.truth, self.depth, self.std, np.asarray(edges, np.float64))]


def sample(depth: np.ndarray, std: np.ndarray, truth: SparseDepth, max_depth: float = MAX_DEPTH) -> ScoredPoints:
    """Read an estimate at the points with truth.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.
        std: (H, W) float32 metres.
        truth: withheld points of the same image.
        max_depth: metres; farther truth does not count.

    Returns:
        The points up to ``max_depth``.

    Raises:
        ShapeError: sizes differ.
    """
    if depth.shape != truth.shape or std.shape != truth.shape:
        raise ShapeError(f'depth {depth.shape} and std {std.shape} do not fit truth of an image of {truth.shape}')
    near = truth.depth <= max_depth
    row, column = truth.row[near], truth.column[near]
    return ScoredPoints(truth.u[near], truth.v[near], truth.depth[near], depth[row, column], std[row, column])


def score(estimate: DepthEstimate, max_depth: float = MAX_DEPTH) -> DepthSums:
    """Score an estimate on what was withheld from it; cheap enough for every frame of a live node.

    Args:
        estimate: an estimate.
        max_depth: metres; farther truth does not count.

    Returns:
        Sums; empty where nothing was withheld.
    """
    if estimate.withheld is None or len(estimate.withheld) == 0:
        return DepthSums()
    return sample(estimate.depth, estimate.std, estimate.withheld, max_depth).sums()


def range_edges(max_depth: float) -> tuple[float, ...]:
    """Edges of the range bins, metres, up to ``max_depth``."""
    return (*(edge for edge in RANGE_EDGES if edge < max_depth), float(max_depth))


def distance_to_measurement(sparse: SparseDepth) -> np.ndarray:
    """(H, W) float32 pixels from each pixel to the nearest one with a measurement; inf where there is none at all."""
    empty = np.ones(sparse.shape, np.uint8)
    if len(sparse) == 0:
        return np.full(sparse.shape, np.inf, np.float32)
    empty[sparse.row, sparse.column] = 0
    return cv2.distanceTransform(empty, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def near_depth_edge(given: SparseDepth, withheld: SparseDepth) -> np.ndarray:
    """Where a depth edge is near, by all points that were measured.

    An edge is near a pixel if the depths of the points at most 1 % of the image's width to its sides and 2 rows above
    or below differ by more than a quarter. Few rows, because the ground recedes quickly upwards.

    Args:
        given: measurements that the estimator got.
        withheld: those that it did not get.

    Returns:
        (H, W) bool.
    """
    shape = withheld.shape
    farthest, nearest = np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32)
    for points in (given, withheld):
        np.maximum.at(farthest, (points.row, points.column), points.depth)
        np.minimum.at(nearest, (points.row, points.column), points.depth)
    window = np.ones((2 * _EDGE_ROWS + 1, 2 * round(_EDGE_WIDTH * shape[1]) + 1), np.uint8)
    return cv2.dilate(farthest, window) / _EDGE_RATIO > cv2.erode(nearest, window)


@njit(nogil=True, cache=True)
def _sums(truth, depth, std, edges):
    bins = edges.shape[0] - 1
    sums = np.zeros((bins, _NUM_SUMS))
    for i in range(truth.shape[0]):
        t = np.float64(truth[i])
        k = 0
        while k < bins and t >= edges[k + 1]:
            k += 1
        if k == bins and t == edges[bins]:
            k = bins - 1
        if k == bins or t < edges[_TRUTHS]:
            continue
        s = sums[k]
        s[_TRUTHS] += 1
        d = np.float64(depth[i])
        if not (d > 0 and d < np.inf):
            continue
        s[_COVERED] += 1
        error = abs(d - t)
        inverse = 1000 * abs(1 / d - 1 / t)
        log = np.log(d / t)
        ratio = max(d / t, t / d)
        s[_ABS] += error
        s[_SQ] += error * error
        s[_INV_ABS] += inverse
        s[_INV_SQ] += inverse * inverse
        s[_REL] += error / t
        s[_SQ_REL] += error * error / t
        s[_LOG_SQ] += log * log
        s[_DELTA1] += ratio < 1.25
        s[_DELTA2] += ratio < 1.25**2
        s[_DELTA3] += ratio < 1.25**3
        sigma = np.float64(std[i])
        if sigma > 0 and sigma < np.inf:
            s[_WITH_STD] += 1
            s[_WITHIN1] += error <= sigma
            s[_WITHIN2] += error <= 2 * sigma
            s[_Z_SQ] += (error / sigma) ** 2
    return sums
