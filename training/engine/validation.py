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

# Every k-th ring is given; 0 = no lidar at all.
THINNINGS = (2, 4, 8, 16, 0)
# Sums over points.
COUNT, ABS, SQUARED, RELATIVE, WITHIN_1, WITHIN_2 = range(6)
NUM_SUMS = 6


@dataclass(frozen=True, eq=False)
class Case:
    """One validation image with some of its points given.

    Attributes:
        sample: the image.
        thinning: every k-th ring is given, 0 = none.
        input: input of the network.
        given: points given.
        withheld: points that judge.
    """

    sample: Sample
    thinning: int
    input: NetworkInput
    given: SparseDepth
    withheld: SparseDepth


class Cases(Sequence):
    """All cases of the validation samples, made when asked for."""

    def __init__(self, samples: Sequence[Sample], thinnings: Sequence[int] = THINNINGS) -> None:
        """Take samples; those whose lidar has no rings are left out."""
        self._keys = [
            (sample, thinning)
            for thinning in thinnings
            for sample in samples
            if len(sample.ring) and sample.ring.min() >= 0
        ]

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Case:
        sample, thinning = self._keys[index]
        given = np.zeros(len(sample.ring), np.bool_)
        if thinning:
            given = sample.ring % thinning == thinning // 2
        return Case(sample, thinning, *whole_view(sample, given))


def score(depth: np.ndarray, std: np.ndarray, withheld: SparseDepth) -> np.ndarray:
    """Sums of errors at the points that judge, up to 80 m, where there is an estimate.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.
        std: (H, W) float32 metres.
        withheld: the points.

    Returns:
        (6,) float64.
    """
    near = withheld.depth <= MAX_DEPTH
    row, column, truth = withheld.row[near], withheld.column[near], withheld.depth[near].astype(np.float64)
    estimate, deviation = depth[row, column].astype(np.float64), std[row, column].astype(np.float64)
    known = np.isfinite(estimate)
    error, truth, deviation = np.abs(estimate - truth)[known], truth[known], deviation[known]
    return np.array(
        [
            len(error),
            error.sum(),
            (error**2).sum(),
            (error / truth).sum(),
            (error <= deviation).sum(),
            (error <= 2 * deviation).sum(),
        ]
    )


def figures(sums: dict[int, np.ndarray]) -> dict[str, float]:
    """Figures of merit.

    Args:
        sums: (6,) by thinning.

    Returns:
        ``mae_k``, ``rmse_k`` (m), ``abs_rel_k``, ``within_1_sigma_k``, ``within_2_sigma_k`` for every k-th ring
        given, and ``score``, the geometric mean of all ``mae_k`` and ``rmse_k`` with lidar: the lower the better.
    """
    values: dict[str, float] = {}
    logs = []
    for thinning, total in sums.items():
        count = max(total[COUNT], 1)
        mae, rmse = total[ABS] / count, np.sqrt(total[SQUARED] / count)
        values |= {
            f'mae_{thinning}': mae,
            f'rmse_{thinning}': rmse,
            f'abs_rel_{thinning}': total[RELATIVE] / count,
            f'within_1_sigma_{thinning}': total[WITHIN_1] / count,
            f'within_2_sigma_{thinning}': total[WITHIN_2] / count,
        }
        if thinning:
            logs += [np.log(max(mae, 1e-9)), np.log(max(rmse, 1e-9))]
    values['score'] = float(np.exp(np.mean(logs))) if logs else float('nan')
    return values
