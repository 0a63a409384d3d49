"""Everything that is measured about one method over a recording, added up image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from depth_ros.evaluation.flicker import FlickerMeter
from depth_ros.evaluation.metrics import KEYS, DepthSums, ScoredPoints
from depth_ros.evaluation.uncertainty import CalibrationCurve, PointSample, ause, flying_pixels

PERCENTILES = (50, 95, 99)


class MethodScore:
    """Score of one method; its memory grows by a few hundred bytes per image, whatever the image's size."""

    def __init__(self, name: str, edges: Sequence[float]) -> None:
        """Start with nothing.

        Args:
            name: the method.
            edges: edges of the range bins, metres.
        """
        self.name = name
        self.edges = tuple(edges)
        self.by_range = [DepthSums() for _ in self.edges[:-1]]
        self.common = DepthSums()
        self.images: list[dict[str, float]] = []
        self.estimate_ns: list[int] = []
        self.flicker = FlickerMeter()
        self.calibration = CalibrationCurve()
        self.sample = PointSample()

    def add(
        self, stamp_ns: int, shape: tuple[int, int], points: ScoredPoints, distance: np.ndarray, edge: np.ndarray,
        common: np.ndarray, estimate_ns: int,
    ) -> None:
        """Take in one image.

        Args:
            stamp_ns: stamp of the image.
            shape: (height, width) of the image.
            points: what the method says at the withheld points.
            distance: (M,) pixels from each to the nearest measurement.
            edge: (M,) bool, True where a depth edge is near.
            common: (M,) bool, True where every method has an estimate.
            estimate_ns: wall time of the estimator, ns.
        """
        bins = points.sums_by_range(self.edges)
        self.by_range = [total + part for total, part in zip(self.by_range, bins, strict=True)]
        self.common = self.common + points.take(common).sums()
        sums = sum(bins, DepthSums())
        flicker = self.flicker.add(stamp_ns, shape, points)
        self.images.append({
            'stamp_ns': stamp_ns, 'num_truth': sums.num_truth, 'num_covered': sums.num_covered, **sums.metrics(),
            **sums.calibration(), **ause(points, distance), **flying_pixels(points, edge),
            'flicker': flicker,
        })
        self.calibration.add(points)
        self.sample.add(points, distance, edge)
        self.estimate_ns.append(estimate_ns)

    @property
    def pooled(self) -> DepthSums:
        """Sums over all points of all images."""
        return sum(self.by_range, DepthSums())

    def image_mean(self, key: str) -> float:
        """Mean of a figure over the images that have it; NaN where none has."""
        values = [image[key] for image in self.images if not math.isnan(image[key])]
        return sum(values) / len(values) if values else float('nan')

    def document(self) -> dict[str, Any]:
        """The method's part of ``metrics.json``."""
        pooled = self.pooled
        sampled, distance, edge = self.sample.points()
        calibration = tuple(DepthSums().calibration())
        found = {**ause(sampled, distance), **flying_pixels(sampled, edge)}
        return {
            'pooled': pooled.metrics(),
            'per_image': {key: self.image_mean(key) for key in KEYS},
            'by_range': [
                {'from': near, 'to': far, 'num_truth': sums.num_truth, **sums.metrics()}
                for near, far, sums in zip(self.edges[:-1], self.edges[1:], self.by_range, strict=True)
            ],
            'pooled_common': {**self.common.metrics(), 'num_truth': self.common.num_truth},
            'uncertainty': {
                'pooled': {**pooled.calibration(), **found},
                'per_image': {key: self.image_mean(key) for key in (*calibration, *found)},
            },
            'flicker': {
                'mean': self.flicker.mean, 'num_point_pairs': self.flicker.num_pairs,
                'num_image_pairs': self.flicker.num_image_pairs,
            },
            'points': {
                'num_images': len(self.images), 'num_truth': pooled.num_truth, 'num_covered': pooled.num_covered,
            },
            'latency_ms': {'estimate': percentiles(self.estimate_ns)},
        }


def percentiles(times_ns: Sequence[int]) -> dict[str, float]:
    """Say how long something took.

    Args:
        times_ns: wall times, ns, in order; the first is left out where there are more, because it loads and compiles.

    Returns:
        ``p50``, ``p95`` and ``p99`` in ms; NaN where there are no times.
    """
    if not len(times_ns):
        return {f'p{share}': float('nan') for share in PERCENTILES}
    values = np.percentile(np.asarray(times_ns[1:] or times_ns, np.float64) / 1e6, PERCENTILES)
    return {f'p{share}': float(value) for share, value in zip(PERCENTILES, values, strict=True)}


def strict_json(value: Any) -> Any:
    """The value with NaN and infinities, which JSON does not know, replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): strict_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
