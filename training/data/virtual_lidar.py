"""Lidars that never were: points drawn from dense depth, in the patterns of real sensors."""

from __future__ import annotations

import numpy as np

from depth_ros.geometry.camera import rays
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera

RING_COUNTS = (4, 8, 16, 16, 32, 32, 40, 64, 64, 128)


def spinning(truth: np.ndarray, camera: Camera, rng: np.random.Generator) -> tuple[ProjectedPoints, np.ndarray]:
    """Draw a spinning lidar: rings of constant elevation, points at constant steps of azimuth.

    Number of beams, spread of the elevations (even, or denser around the horizon as in most sensors), azimuth step, and
    the tilt of the sensor against the camera vary. The lidar stands where the camera is, so nothing is hidden.

    Args:
        truth: (H, W) float32 metres, NaN = unknown.
        camera: its camera.
        rng: source of chance.

    Returns:
        points: at pixels where the truth is known.
        ring: (M,) int16 beam of each.
    """
    directions = _directions(camera) @ _tilt(rng).T
    elevation = np.arctan2(-directions[..., 1], np.hypot(directions[..., 0], directions[..., 2]))
    azimuth = np.arctan2(directions[..., 0], directions[..., 2])
    low, high = np.nanpercentile(elevation, [0.5, 99.5])
    count = int(rng.choice(RING_COUNTS))
    # How much of the image the beams cover; the sensor has more of them above and below.
    top = low + (high - low) * rng.uniform(0.55, 1.1)
    levels = np.linspace(0.0, 1.0, count)
    if rng.random() < 0.5:  # dense near the horizon of the sensor
        levels = levels + rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * levels) / (2 * np.pi)
    levels = low + (top - low) * levels
    pixel_angle = 1.0 / camera.fy
    nearest = np.clip(np.searchsorted((levels[:-1] + levels[1:]) / 2, elevation), 0, count - 1)
    step = rng.uniform(1.0, 4.0) * pixel_angle
    on_ring = np.abs(elevation - levels[nearest]) <= pixel_angle / 2
    cell = np.floor(azimuth / step)
    on_step = np.abs(azimuth - (cell + 0.5) * step) <= pixel_angle / 2
    row, column = np.nonzero(on_ring & on_step & np.isfinite(truth))
    return _points(truth, row, column, rng), nearest[row, column].astype(np.int16)


def rosette(truth: np.ndarray, camera: Camera, rng: np.random.Generator) -> tuple[ProjectedPoints, np.ndarray]:
    """Draw a solid-state lidar with a rosette scan (petals around one axis), as ``spinning`` otherwise.

    Returns:
        points: at pixels where the truth is known.
        ring: (M,) int16, all unknown (-1): there are no beams to thin out.
    """
    count = int(rng.integers(2000, 15000))
    time = np.linspace(0.0, rng.uniform(20.0, 60.0), count)
    radius = np.abs(np.sin(time * rng.uniform(2.5, 4.5)))
    angle = time * rng.uniform(0.9, 1.3)
    middle = np.array([camera.cx, camera.cy]) + rng.uniform(-0.1, 0.1, 2) * [camera.width, camera.height]
    reach = rng.uniform(0.35, 0.7) * np.array([camera.width, max(camera.height, camera.width / 3)])
    column = np.rint(middle[0] + reach[0] * radius * np.cos(angle)).astype(np.int64)
    row = np.rint(middle[1] + reach[1] * radius * np.sin(angle)).astype(np.int64)
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    pixels = np.unique(row[inside] * camera.width + column[inside])
    row, column = np.divmod(pixels, camera.width)
    known = np.isfinite(truth[row, column])
    row, column = row[known], column[known]
    return _points(truth, row, column, rng), np.full(len(row), -1, np.int16)


def _directions(camera: Camera) -> np.ndarray:
    """(H, W, 3) direction of every pixel, NaN where there is none."""
    tangents = rays(camera)
    return np.concatenate([tangents, np.ones_like(tangents[..., :1])], axis=-1)


def _tilt(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) small rotation of the lidar against the camera: roll and pitch."""
    roll, pitch = rng.normal(0.0, np.radians(2.0)), rng.normal(0.0, np.radians(4.0))
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_z @ about_x


def _points(truth: np.ndarray, row: np.ndarray, column: np.ndarray, rng: np.random.Generator) -> ProjectedPoints:
    # Where in its pixel a point falls is chance.
    count = len(row)
    u = (column + rng.uniform(-0.49, 0.49, count)).astype(np.float32)
    v = (row + rng.uniform(-0.49, 0.49, count)).astype(np.float32)
    return ProjectedPoints(u, v, truth[row, column], np.arange(count, dtype=np.int32), np.zeros((count, 2), np.float32))
