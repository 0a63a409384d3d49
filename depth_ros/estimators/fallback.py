"""The network, and the classical estimator in its place once there is no memory left for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from depth_ros.errors import FrameRefused
from depth_ros.estimators.base import Estimator
from depth_ros.types import Frame, SparseDepth

if TYPE_CHECKING:
    from depth_ros.estimators.learned import EngineStatus


class NetworkOrClassical:
    """A network until memory runs out, then the classical estimator, for good.

    Attributes:
        replaces: what the classical estimator stands in for and why, '' while the network runs.
    """

    def __init__(self, network: Estimator, classical: Estimator) -> None:
        """Start with the network."""
        self._current = network
        self._classical = classical
        self.replaces = ''

    @property
    def name(self) -> str:
        """Name of the one that is at work."""
        return self._current.name

    @property
    def needs_lidar(self) -> bool:
        """Whether the one that is at work has no answer without lidar."""
        return self._current.needs_lidar

    @property
    def best_pixels(self) -> float:
        """Size of the images that the one that is at work does best on."""
        return self._current.best_pixels

    @property
    def status(self) -> EngineStatus | None:
        """What runs the network; None once the classical estimator is at work."""
        return getattr(self._current, 'status', None)

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth and its standard deviation, see ``Estimator.estimate``.

        Raises:
            FrameRefused: see ``LearnedEstimator.estimate``; ``no_lidar`` where memory ran out at an image without.
        """
        try:
            return self._current.estimate(frame, sparse)
        except FrameRefused as refusal:
            if refusal.reason != 'out_of_memory':
                raise
            self.replaces = f'{self._current.name}: {refusal}'
        # The network goes, and with it its memory.
        self._current = self._classical
        if len(sparse) == 0:
            raise FrameRefused('no_lidar', f'{self._current.name} needs lidar, and is in place of {self.replaces}')
        return self._current.estimate(frame, sparse)
