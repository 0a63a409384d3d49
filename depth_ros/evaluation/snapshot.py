"""A few estimates kept for pictures: best, worst and evenly spaced ones, at a size that is cheap to keep."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from depth_ros.evaluation.metrics import ScoredPoints
from depth_ros.types import Camera, DepthEstimate, SparseDepth

WIDTH = 960


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One image with what every method made of it, at most ``WIDTH`` pixels wide.

    Attributes:
        index: number of the estimate in the replay, from 0.
        stamp_ns: stamp of the image.
        score: mean absolute relative error of the first method; NaN where nothing was withheld.
        camera: camera at this size.
        image: (h, w, 3) uint8 RGB.
        measured: (M, 3) float32 column, row and depth of the given points.
        depth: method -> (h, w) float32 metres.
        std: method -> (h, w) float32 metres.
        scored: method -> estimates at the withheld points, with columns and rows at this size.
    """

    index: int
    stamp_ns: int
    score: float
    camera: Camera
    image: np.ndarray
    measured: np.ndarray
    depth: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    scored: dict[str, ScoredPoints]


def take_snapshot(
    index: int, estimate: DepthEstimate, depth: dict[str, np.ndarray], std: dict[str, np.ndarray],
    scored: dict[str, ScoredPoints], score: float,
) -> Snapshot:
    """Copy what the pictures of one image need, at their size.

    Args:
        index: number of the estimate in the replay.
        estimate: the answer of the pipeline.
        depth: method -> (H, W) float32 metres.
        std: method -> (H, W) float32 metres.
        scored: method -> estimates at the withheld points.
        score: mean absolute relative error of the first method.

    Returns:
        The snapshot; depth is picked, not averaged, so that no value is shown that nobody estimated.
    """
    camera = estimate.frame.camera
    scale = min(1.0, WIDTH / camera.width)
    width, height = max(round(camera.width * scale), 1), max(round(camera.height * scale), 1)
    sx, sy = width / camera.width, height / camera.height
    small = replace(
        camera, width=width, height=height, fx=camera.fx * sx, fy=camera.fy * sy,
        cx=(camera.cx + 0.5) * sx - 0.5, cy=(camera.cy + 0.5) * sy - 0.5,
    )

    def pick(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST) if scale < 1 else values.copy()

    def moved(points: ScoredPoints) -> ScoredPoints:
        return replace(points, u=(points.u + 0.5) * sx - 0.5, v=(points.v + 0.5) * sy - 0.5)

    image = cv2.resize(estimate.frame.rgb(), (width, height), interpolation=cv2.INTER_AREA)
    return Snapshot(
        index, estimate.frame.stamp_ns, score, small, image, _columns(estimate.sparse, sx, sy),
        {name: pick(values) for name, values in depth.items()}, {name: pick(values) for name, values in std.items()},
        {name: moved(points) for name, points in scored.items()},
    )


def _columns(sparse: SparseDepth, sx: float, sy: float) -> np.ndarray:
    return np.stack([(sparse.u + 0.5) * sx - 0.5, (sparse.v + 0.5) * sy - 0.5, sparse.depth], axis=1)


class Album:
    """Snapshots worth showing, out of a stream of unknown length."""

    def __init__(self, capacity: int = 8) -> None:
        """Make an empty album that keeps ``capacity`` evenly spaced snapshots, the best and the worst."""
        self._capacity = capacity
        self._stride = 1
        self._spaced: list[Snapshot] = []
        self._best: Snapshot | None = None
        self._worst: Snapshot | None = None

    def wants(self, index: int, score: float) -> bool:
        """Whether an estimate with this number and score would be kept; spares taking a snapshot that would not."""
        return index % self._stride == 0 or self._is_best(score) or self._is_worst(score)

    def add(self, snapshot: Snapshot) -> None:
        """Keep a snapshot if it is worth it."""
        if self._is_best(snapshot.score):
            self._best = snapshot
        if self._is_worst(snapshot.score):
            self._worst = snapshot
        if snapshot.index % self._stride == 0:
            self._spaced.append(snapshot)
            if len(self._spaced) > self._capacity:
                self._stride *= 2
                self._spaced = [kept for kept in self._spaced if kept.index % self._stride == 0]

    def chosen(self, num_spaced: int = 3) -> list[tuple[str, Snapshot]]:
        """Choose what to show.

        Args:
            num_spaced: how many evenly spaced ones.

        Returns:
            (what it is, snapshot), the typical one first; none twice.
        """
        scored = [item for item in self._spaced if not np.isnan(item.score)]
        picked: list[tuple[str, Snapshot]] = []
        if scored:
            # The median among those kept; the true median's pictures may be gone.
            picked.append(('a typical image', sorted(scored, key=lambda item: item.score)[len(scored) // 2]))
        if self._best is not None and self._worst is not None:
            picked += [('the best image', self._best), ('the worst image', self._worst)]
        places = np.linspace(0, len(self._spaced) - 1, num_spaced if self._spaced else 0).round().astype(int)
        picked += [('along the way', self._spaced[place]) for place in places]
        seen: set[int] = set()
        return [item for item in picked if not (item[1].index in seen or seen.add(item[1].index))]

    def _is_best(self, score: float) -> bool:
        return score == score and (self._best is None or score < self._best.score)

    def _is_worst(self, score: float) -> bool:
        return score == score and (self._worst is None or score > self._worst.score)
