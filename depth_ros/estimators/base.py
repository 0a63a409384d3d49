"""What every estimator is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from depth_ros.types import Frame, SparseDepth


class Estimator(Protocol):
    """Turns one image and its sparse measurements into dense depth.

    Attributes:
        name: name of the method, as ``--method`` takes it.
        needs_lidar: True if it has no answer where there is no measurement.
    """

    name: str
    needs_lidar: bool

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth and its standard deviation.

        Args:
            frame: the image, H x W.
            sparse: visible measurements of the same camera; at least one if it ``needs_lidar``.

        Returns:
            depth: (H, W) float32 metres, NaN = unknown.
            std: (H, W) float32 metres, NaN where depth is NaN.
        """
        ...
