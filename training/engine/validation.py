"""Scores on whole validation images, in the way in which recordings are evaluated: some rings in, the others judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from depth_ros.estimators.network_input import NetworkInput
from depth_ros.evaluation.metrics import MAX_DEPTH
from depth_ros.types import SparseDepth
from depth_ros_training.data.sample import Sample
from depth_ros_training.data.views import whole_view

# Every k-th ring is given; 0 = no lidar at all; below 1 (in no training, but in ``score``) a share of the points.
THINNINGS = (2, 4, 8, 16, 0)
# Sums over points; behind them shares of each image, a histogram of error / deviation in bins of equal width of the
# logarithm. Images count alike there: exact truth, of every pixel, would outvote what judges recordings.
COUNT, ABS, SQUARED, RELATIVE = range(4)
_HISTOGRAM = 4
_RATIOS = np.geomspace(1e-3, 1e3, 241)
NUM_SUMS = _HISTOGRAM + len(_RATIOS) - 1
_SHARES = 0.6827, 0.9545  # of a Gaussian within 1 and 2 standard deviations


@dataclass(frozen=True, eq=False)
class Case:
    """One validation image with some of its points given.

    Attributes:
        sample: the image.
        thinning: every k-th ring is given, 0 = none; below 1, that share of the points.
        input: input of the network.
        given: points given.
        withheld: the other points, as far as the image shows them.
        by_truth: whether truth that is not exact judges, too, where there is any.
    """

    sample: Sample
    thinning: float
    input: NetworkInput
    given: SparseDepth
    withheld: SparseDepth
    by_truth: bool = False

    @property
    def judging(self) -> SparseDepth:
        """What judges: the truth where it is exact or asked for, else the points withheld."""
        trusted = self.sample.exact or (self.by_truth and self.sample.truth is not None)
        return self.sample.true_points() if trusted else self.withheld


class Cases(Sequence):
    """All cases of the validation samples, made when asked for."""

    def __init__(
        self, samples: Sequence[Sample], thinnings: Sequence[float] = THINNINGS, by_truth: bool = False
    ) -> None:
        """Take samples; those whose lidar has no rings are left out, and so are thinnings that leave no point of it."""
        self._by_truth = by_truth
        self._keys = [
            (sample, thinning)
            for thinning in thinnings
            for sample in samples
            # A lidar of few rings would else be judged without lidar as if it had some.
            if len(sample.ring) and sample.ring.min() >= 0 and (not thinning or _given(sample, thinning).any())
        ]

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def num_with_lidar(self) -> int:
        """Cases in which some points are given; the others say nothing of the score."""
        return sum(thinning > 0 for _, thinning in self._keys)

    def __getitem__(self, index: int) -> Case:
        sample, thinning = self._keys[index]
        given = _given(sample, thinning) if thinning else np.zeros(len(sample.ring), np.bool_)
        return Case(sample, thinning, *whole_view(sample, given), self._by_truth)


def _given(sample: Sample, thinning: float) -> np.ndarray:
    """(M,) bool, every k-th ring, or a share of the points, which are the same each time."""
    if thinning < 1:
        return np.random.default_rng(0).random(len(sample.ring)) < thinning
    return sample.ring % thinning == thinning // 2


def score(depth: np.ndarray, std: np.ndarray, withheld: SparseDepth) -> np.ndarray:
    """Sums of errors at the points that judge, up to 80 m, where there is an estimate.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.
        std: (H, W) float32 metres, NaN = unknown.
        withheld: the points.

    Returns:
        (NUM_SUMS,) float64.
    """
    near = withheld.depth <= MAX_DEPTH
    row, column, truth = withheld.row[near], withheld.column[near], withheld.depth[near].astype(np.float64)
    estimate, deviation = depth[row, column].astype(np.float64), std[row, column].astype(np.float64)
    known = np.isfinite(estimate)
    error, truth, deviation = np.abs(estimate - truth)[known], truth[known], deviation[known]
    sums = [len(error), error.sum(), (error**2).sum(), (error / truth).sum()]
    histogram, _ = np.histogram(np.clip(error / deviation, _RATIOS[0], _RATIOS[-1]), _RATIOS)
    return np.concatenate([sums, histogram / max(len(error), 1)])


def std_correction(sums: dict[int, np.ndarray]) -> float:
    """Factor by which stated deviations have to be multiplied to be honest.

    Args:
        sums: (NUM_SUMS,) by thinning; those without lidar do not count.

    Returns:
        The factor by which the shares of the errors within 1 and within 2 deviations are in sum what they should be:
        errors are not Gaussian, so no factor does both, and by this one they miss by equally much. Each thinning counts
        alike; 1 where nothing was scored.
    """
    histograms = [
        total[_HISTOGRAM:] / total[_HISTOGRAM:].sum() for thinning, total in sums.items() if thinning and total[COUNT]
    ]
    if not histograms:
        return 1.0
    below = _below(np.sum(histograms, axis=0))
    # Within the bins, too: their upper edges would be too much by half a bin.
    both = sum(np.interp(np.log(times * _RATIOS), np.log(_RATIOS), below) for times in (1, 2))
    return float(np.exp(np.interp(sum(_SHARES), both, np.log(_RATIOS))))


def _below(histogram: np.ndarray) -> np.ndarray:
    """Share of the errors below each of ``_RATIOS``."""
    below = np.concatenate([[0], np.cumsum(histogram)])
    return below / below[-1]


def figures(sums: dict[int, np.ndarray], factor: float = 1.0) -> dict[str, float]:
    """Figures of merit.

    Args:
        sums: (NUM_SUMS,) by thinning.
        factor: by which deviations are multiplied before they are judged.

    Returns:
        ``mae_k``, ``rmse_k`` (m), ``abs_rel_k``, ``within_1_sigma_k``, ``within_2_sigma_k`` for every k-th ring
        given (the shares as means over images), and ``score``, the geometric mean of all ``mae_k`` and ``rmse_k`` with
        lidar: the lower the better.
    """
    values: dict[str, float] = {}
    logs = []
    for thinning, total in sums.items():
        count = total[COUNT] or np.nan  # no figure where there was nothing to score
        mae, rmse = total[ABS] / count, np.sqrt(total[SQUARED] / count)
        shares = [np.nan, np.nan]
        if total[_HISTOGRAM:].any():
            shares = np.interp(np.log([factor, 2 * factor]), np.log(_RATIOS), _below(total[_HISTOGRAM:]))
        values |= {
            f'mae_{thinning}': mae,
            f'rmse_{thinning}': rmse,
            f'abs_rel_{thinning}': total[RELATIVE] / count,
            f'within_1_sigma_{thinning}': float(shares[0]),
            f'within_2_sigma_{thinning}': float(shares[1]),
        }
        if thinning and total[COUNT]:
            logs += [np.log(max(mae, 1e-9)), np.log(max(rmse, 1e-9))]
    values['score'] = float(np.exp(np.mean(logs))) if logs else float('nan')
    return values
