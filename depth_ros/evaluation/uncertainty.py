"""Whether the stated standard deviation tells good pixels from bad ones: sparsification, and calibration curves."""

from __future__ import annotations

import math

import numpy as np

from depth_ros.evaluation.metrics import ScoredPoints

MIN_POINTS = 20
# A pixel between two surfaces, on neither: an error as large as this at a depth edge.
FLYING_ERROR = 0.2
DROPPED = 0.05
_CAPACITY = 1 << 20
_Z_STEP = 0.05
_Z_BINS = 100


def sparsification(error: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Mean error of the points that remain while those with the largest key are removed, one by one.

    Args:
        error: (N,) non-negative error of each point.
        key: (N,) predicted badness of each point; the order of points with equal keys says nothing, so they share their
            mean error.

    Returns:
        (N,) float64; element k is the mean over the N - k points left after k have been removed.

    Source: Ilg et al. 2018, "Uncertainty estimates and multi-hypotheses networks for optical flow".
    """
    order = np.argsort(key, kind='stable')
    ordered, values = key[order], error[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    values = np.repeat(np.add.reduceat(values, starts) / lengths, lengths)
    return (np.cumsum(values) / np.arange(1, len(values) + 1))[::-1]


def ause(points: ScoredPoints, distance: np.ndarray) -> dict[str, float]:
    """Area under the sparsification error: how much worse than a perfect order of the points the stated order is.

    The curve of the error that remains, over the share of points removed from 0 to 1, minus that of a perfect order (by
    the true error), integrated over the share. For ``abs_rel`` points are removed by the standard deviation relative to
    the depth, for ``rmse`` by the standard deviation itself. Not normalised (Poggi et al. 2020).

    Args:
        points: scored points.
        distance: (M,) pixels to the nearest measurement, the reference that needs no model of uncertainty.

    Returns:
        ``ause_abs_rel`` and ``ause_rmse`` (m) of the standard deviation, ``distance_ause_abs_rel`` and
        ``distance_ause_rmse`` of the reference: 0 is perfect. ``random_ause_abs_rel`` and ``random_ause_rmse``: what an
        order that knows nothing gets. NaN for fewer than ``MIN_POINTS`` points with estimate and standard deviation.
    """
    curves = sparsification_curves(points, distance)
    result = {}
    for name in ('abs_rel', 'rmse'):
        for key, prefix in (('std', ''), ('distance', 'distance_'), ('random', 'random_')):
            area = np.nan if curves is None else float(np.mean(curves[name][key] - curves[name]['oracle']))
            result[f'{prefix}ause_{name}'] = area
    return result


def sparsification_curves(points: ScoredPoints, distance: np.ndarray) -> dict[str, dict[str, np.ndarray]] | None:
    """Sparsification curves of both errors.

    Args:
        points: scored points.
        distance: (M,) pixels to the nearest measurement.

    Returns:
        For ``abs_rel`` and ``rmse`` (m), the curves by ``std``, ``distance``, ``oracle`` (the true error) and
        ``random``, each (K,) float64; None for fewer than ``MIN_POINTS`` points with estimate and standard deviation.
    """
    usable = points.covered & np.isfinite(points.std)
    if np.count_nonzero(usable) < MIN_POINTS:
        return None
    points, distance = points.take(usable), distance[usable]
    error = np.abs(points.depth.astype(np.float64) - points.truth)
    curves = {}
    for name, value, key in (
        ('abs_rel', error / points.truth, points.std / points.depth), ('rmse', error**2, points.std)
    ):
        of_name = {
            'std': sparsification(value, key),
            'distance': sparsification(value, distance),
            'oracle': sparsification(value, value),
            'random': np.full(len(value), value.mean()),
        }
        curves[name] = {by: np.sqrt(curve) if name == 'rmse' else curve for by, curve in of_name.items()}
    return curves


def flying_pixels(points: ScoredPoints, edge: np.ndarray) -> dict[str, float]:
    """How well the standard deviation finds flying pixels: those near a depth edge with a relative error over 20 %.

    Args:
        points: scored points.
        edge: (M,) bool, True where a depth edge is near (see ``metrics.near_depth_edge``).

    Returns:
        ``flying_share``: share of the points that are flying. ``flying_dropped_at_5_percent``: share of the flying ones
        that are gone when the 5 % of the points with the largest standard deviation relative to depth are dropped (1 is
        perfect, 0.05 is chance). ``max_relative_std_for_5_percent``: the ``output.max_relative_std`` that drops them.
        NaN for fewer than ``MIN_POINTS`` points with estimate and standard deviation, or where nothing flies.
    """
    usable = points.covered & np.isfinite(points.std)
    if np.count_nonzero(usable) < MIN_POINTS:
        return dict.fromkeys(('flying_share', 'flying_dropped_at_5_percent', 'max_relative_std_for_5_percent'), np.nan)
    points, edge = points.take(usable), edge[usable]
    unsure = points.std / points.depth
    limit = np.quantile(unsure, 1 - DROPPED)
    flying = edge & (np.abs(points.depth - points.truth) > FLYING_ERROR * points.truth)
    return {
        'flying_share': float(flying.mean()),
        'flying_dropped_at_5_percent': float((unsure[flying] > limit).mean()) if flying.any() else np.nan,
        'max_relative_std_for_5_percent': float(limit),
    }


class PointSample:
    """Scored points of a whole recording in bounded memory: when there are too many, every second one is forgotten."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        """Make an empty sample of at most ``capacity`` points."""
        self._capacity = capacity
        self._stride = 1
        self._next = 0
        self._parts: list[np.ndarray] = []
        self._size = 0

    def add(self, points: ScoredPoints, distance: np.ndarray, edge: np.ndarray) -> None:
        """Take in the points of one image, in order."""
        taken = np.arange(self._next, len(points), self._stride)
        self._next = self._next + self._stride * len(taken) - len(points)
        columns = [points.u, points.v, points.truth, points.depth, points.std, distance, edge]
        rows = np.stack(columns, axis=1)[taken]
        self._parts.append(rows.astype(np.float32))
        self._size += len(rows)
        while self._size > self._capacity:
            rows = np.concatenate(self._parts)
            self._next += self._stride * (len(rows) % 2)
            self._stride *= 2
            self._parts = [rows[::2].copy()]
            self._size = len(self._parts[0])

    def points(self) -> tuple[ScoredPoints, np.ndarray, np.ndarray]:
        """Points of the sample, their distances to the nearest measurement in pixels, and whether an edge is near."""
        rows = np.concatenate(self._parts) if self._parts else np.zeros((0, 7), np.float32)
        return ScoredPoints(*rows[:, :5].T), rows[:, 5], rows[:, 6] > 0


class CalibrationCurve:
    """Histogram of error / standard deviation."""

    def __init__(self) -> None:
        self.counts = np.zeros(_Z_BINS + 1, np.int64)

    def add(self, points: ScoredPoints) -> None:
        """Take in the points of one image."""
        usable = points.covered & np.isfinite(points.std) & (points.std > 0)
        z = np.abs(points.depth[usable] - points.truth[usable]) / points.std[usable]
        self.counts += np.bincount(np.minimum(z / _Z_STEP, _Z_BINS).astype(np.int64), minlength=_Z_BINS + 1)

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Compare what should be with what is.

        Returns:
            expected: (Z,) float64, share of Gaussian errors within z standard deviations, z = 0.05, 0.10, ... 5.
            found: (Z,) float64, share of the errors within them; NaN where there are none.
        """
        z = _Z_STEP * np.arange(1, _Z_BINS + 1)
        expected = np.array([math.erf(value / math.sqrt(2)) for value in z])
        total = self.counts.sum()
        found = np.cumsum(self.counts[:-1]) / total if total else np.full(_Z_BINS, np.nan)
        return expected, found
