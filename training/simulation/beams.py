"""Where the beams of a lidar point, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_ros_training.simulation.lidar_models import LidarModel


@dataclass(frozen=True, eq=False)
class Firing:
    """Beams of one sweep in the lidar's frame.

    Attributes:
        directions: (N, 3) float32 unit.
        offset_ns: (N,) int32 after the start of the sweep.
        ring: (N,) uint16.
        beside: index distance to the same beam's neighbour in azimuth; the next index is the neighbour across.
    """

    directions: np.ndarray
    offset_ns: np.ndarray
    ring: np.ndarray
    beside: int


def firing(model: LidarModel, sweep_index: int) -> Firing:
    """Beams of one sweep; those of a rosette differ from sweep to sweep."""
    period = model.sweep * 1e9
    if model.pattern == 'rosette':
        count = model.columns
        share = (np.arange(count) + 0.5) / count
        # Two prisms that turn at rates whose ratio is no fraction: the curve fills the field and never repeats.
        turn = 2 * np.pi * (share + sweep_index) * model.sweep
        first, second = 121.13 * turn, -77.71 * turn
        radius_x, radius_y = np.deg2rad(model.field) / 4, np.deg2rad(model.tall) / 4
        azimuth = radius_x * (np.cos(first) + np.cos(second))
        elevation = radius_y * (np.sin(first) + np.sin(second))
        lines = 6 if count > 12000 else 1
        ring = (np.arange(count) % lines).astype(np.uint16)
        azimuth = azimuth + (ring - (lines - 1) / 2) * np.deg2rad(0.3)
        return Firing(_pointing(azimuth, elevation), (share * period).astype(np.int32), ring, lines)
    beams = len(model.elevations)
    column = np.arange(model.columns)[:, None]
    beam = np.arange(beams)[None]
    fov = np.deg2rad(model.field)
    if model.pattern == 'raster':
        share = column / model.columns
        bow = np.deg2rad(1.5) * np.cos(np.pi * (share - 0.5))  # scanned lines are curved
        azimuth = fov * (0.5 - share) + 0 * beam
        elevation = np.deg2rad(model.elevations)[None] + bow
        offset = (beam * model.columns + column) / (beams * model.columns) * period
    else:
        start = 0.5 * fov
        azimuth = start - fov * (column + beam / beams) / model.columns
        azimuth = azimuth + np.deg2rad(model.stagger) * ((beam % 4) / 3 - 0.5)
        elevation = np.broadcast_to(np.deg2rad(model.elevations)[None], azimuth.shape)
        offset = (column + beam / beams) / model.columns * period * (fov / (2 * np.pi))
    ring = np.broadcast_to(beam, azimuth.shape).astype(np.uint16)
    return Firing(_pointing(azimuth.ravel(), elevation.ravel()), np.ravel(offset).astype(np.int32), ring.ravel(), beams)


def _pointing(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1).astype(np.float32)
