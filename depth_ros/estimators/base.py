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
        best_pixels: about so many pixels has an image that it does best on; inf = the more of them the better.
    """

    name: str
    needs_lidar: bool
    best_pixels: float

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
