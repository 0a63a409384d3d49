"""How much depth trembles from one image to the next, where it should not.

At a withheld point the signed relative error is r = (estimate - truth) / truth. Two consecutive estimates, at most 1 s
apart, are compared at pairs of withheld points that lie within 1.5 pixels of each other in the image (each point of the
later image with the nearest of the earlier one): flicker = mean of abs(r_now - r_before). The true change of depth
cancels in r, so no poses are needed; a constant bias is no flicker.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from depth_ros.evaluation.metrics import ScoredPoints

MAX_GAP_NS = 1_000_000_000
RADIUS = 1.5


class FlickerMeter:
    """Adds up flicker over the estimates of one method, in the order of their stamps."""

    def __init__(self) -> None:
        self._before: tuple[int, tuple[int, int], ScoredPoints] | None = None
        self._sum = 0.0
        self.num_pairs = 0
        self.num_image_pairs = 0

    def add(self, stamp_ns: int, shape: tuple[int, int], points: ScoredPoints) -> float:
        """Take in the next estimate.

        Args:
            stamp_ns: stamp of the image.
            shape: (height, width) of the image.
            points: what the estimate says at its withheld points.

        Returns:
            Mean flicker from the estimate before to this one; NaN where no pair can be compared.
        """
        points = points.take(points.covered)
        before, self._before = self._before, (stamp_ns, shape, points)
        if before is None or before[1] != shape or not 0 < stamp_ns - before[0] <= MAX_GAP_NS:
            return float('nan')
        earlier = before[2]
        change, count = _change(
            points.u, points.v, (points.depth - points.truth) / points.truth,
            earlier.u, earlier.v, (earlier.depth - earlier.truth) / earlier.truth, shape[0], shape[1],
        )
        if count == 0:
            return float('nan')
        self._sum += change
        self.num_pairs += count
        self.num_image_pairs += 1
        return change / count

    @property
    def mean(self) -> float:
        """Mean flicker over all pairs of points, without unit; NaN where there is none."""
        return self._sum / self.num_pairs if self.num_pairs else float('nan')


@njit(nogil=True, cache=True)
def _change(u, v, r, before_u, before_v, before_r, height, width):
    owner = np.full((height, width), -1, np.int32)
    for j in range(before_u.shape[0]):
        owner[int(np.floor(before_v[j] + 0.5)), int(np.floor(before_u[j] + 0.5))] = j
    total, count = 0.0, 0
    for i in range(u.shape[0]):
        row, column = int(np.floor(v[i] + 0.5)), int(np.floor(u[i] + 0.5))
        best, nearest = RADIUS * RADIUS, -1
        for a in range(max(row - 2, 0), min(row + 3, height)):
            for b in range(max(column - 2, 0), min(column + 3, width)):
                j = owner[a, b]
                if j >= 0:
                    du, dv = u[i] - before_u[j], v[i] - before_v[j]
                    if du * du + dv * dv <= best:
                        best, nearest = du * du + dv * dv, j
        if nearest >= 0:
            total += abs(r[i] - before_r[nearest])
            count += 1
    return total, count
