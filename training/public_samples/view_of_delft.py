"""View of Delft: HDL-64 and one rectified camera, three moments in the layout of KITTI; its example set.

The clouds name no rings. They are told by the order in which the lasers fire, with a table of the sensor that was
fitted to these clouds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit

from depth_ros.bags.frames import write_frame
from depth_ros.bags.kitti_files import matrix, read_calibration, rigid_4x4

_FOLDER = 'example_set/lidar/training'
# The lasers in the order in which they fire: elevation, and azimuth off the column, degrees; how high the two blocks of
# 32 sit, metres; and how far the sensor turns from column to column, degrees.
_ELEVATION = np.array([
    -7.05, -6.83, 0.37, 0.55, -6.40, -6.20, -8.41, -8.19, -5.78, -5.53, -7.73, -7.43, -3.01, -2.76, -4.96, -4.74,
    -2.34, -2.13, -4.36, -4.11, -1.71, -1.50, -3.71, -3.47, 1.00, 1.33, -0.90, -0.70, 1.73, 1.99, -0.28, -0.07,
    -22.48, -21.90, -11.49, -10.75, -21.56, -21.01, -24.42, -23.94, -20.48, -19.71, -23.43, -22.73, -16.50, -15.84,
    -19.43, -18.89, -15.48, -14.96, -18.55, -18.02, -14.55, -13.69, -17.53, -16.87, -10.23, -9.83, -13.35, -12.83,
    -9.42, -8.92, -12.44, -11.87,
])  # fmt: skip
_ASIDE = np.array([
    -4.76, -2.97, 3.09, 5.09, -0.42, 1.48, -1.20, 0.67, 3.92, 5.78, 3.13, 5.01, -4.78, -2.81, -5.58, -3.63,
    -0.45, 1.52, -1.23, 0.69, 3.81, 5.77, 3.05, 4.97, -4.88, -2.78, -5.58, -3.61, -0.52, 1.47, -1.30, 0.72,
    -7.34, -4.64, 4.87, 7.57, -0.39, 2.33, -1.46, 1.10, 6.39, 9.14, 5.46, 8.08, -7.42, -4.45, -8.60, -5.76,
    -0.50, 2.29, -1.77, 1.05, 6.09, 8.82, 5.05, 7.82, -7.25, -4.27, -8.48, -5.58, -0.70, 2.23, -1.86, 0.98,
])  # fmt: skip
_HEIGHT = np.array([0.212, 0.16])
_BLOCK = np.arange(64) // 32
_COLUMN = 0.181
_PASSES = 3
# A laser is likely so far from its elevation and its step in azimuth, degrees; farther than so many times that says no
# more. What a laser without a return costs, and each further one.
_ELEVATION_OFF, _STEP_OFF = 0.15, 0.25
_FARTHEST_ELEVATION, _FARTHEST_STEP = 8.0, 6.0
_SILENT, _SILENT_TOO = 0.27, 0.02
_SECTORS = 72


def write(view_of_delft: Path, out: Path) -> None:
    """Write the three images."""
    root = view_of_delft / _FOLDER
    for path in sorted((root / 'velodyne').glob('*.bin')):
        calibration_path = root / 'calib' / f'{path.stem}.txt'
        values = read_calibration(calibration_path)
        pose = matrix(values, ('Tr_velo_to_cam',), (3, 4), calibration_path)
        points = np.fromfile(path, np.float32).reshape(-1, 4)
        # Every column is stored twice.
        points = points[np.sort(np.unique(points[:, :3], axis=0, return_index=True)[1])]
        write_frame(
            out / path.stem, (root / 'image_2' / f'{path.stem}.jpg').read_bytes(),
            matrix(values, ('P2',), (3, 4), calibration_path)[:, :3], rigid_4x4(pose[:, :3], pose[:, 3]), points,
            hdl64_rings(points[:, :3]),
        )  # fmt: skip


def hdl64_rings(points: np.ndarray) -> np.ndarray:
    """Tell the ring of every point by the order in which the lasers fire.

    A column is the upper block of 32 lasers, then the lower one, each in the same order; lasers without a return are
    left out. The blocks sit above one another, so what is near is seen higher by the upper one.

    Args:
        points: (N, 3) metres, in the order in which they were measured.

    Returns:
        (N,) int64, 0 = lowest.
    """
    x, y, z = points.astype(np.float64).T
    azimuth = np.degrees(np.arctan2(y, x))
    elevation = np.degrees(np.arctan2(z[:, None] - _HEIGHT, np.hypot(x, y)[:, None]))
    ahead = np.arange(64)[None, :] - np.arange(64)[:, None]
    is_next_column = ahead <= 0
    silent = np.where(is_next_column, ahead + 64, ahead) - 1
    skipped = np.where(silent == 0, 0, _SILENT + _SILENT_TOO * (silent - 1))
    expected = _ASIDE[None, :] - _ASIDE[:, None] + np.where(is_next_column, -_COLUMN, 0)
    steps = np.mod(np.diff(azimuth) + 180, 360) - 180
    tilt = np.zeros((len(points), 2))
    for _ in range(_PASSES):
        off = elevation[:, _BLOCK] - _ELEVATION - tilt[:, _BLOCK]
        misses = np.minimum(np.abs(off) / _ELEVATION_OFF, _FARTHEST_ELEVATION)
        laser = _likeliest(misses, steps, expected, skipped)
        # The car pitches, and points were moved to one moment: what is left turns slowly with the azimuth.
        tilt += _by_azimuth(off[np.arange(len(points)), laser], azimuth, _BLOCK[laser])
    return np.argsort(np.argsort(_ELEVATION))[laser]


@njit(cache=True)
def _likeliest(misses, steps, expected, skipped):
    """Sequence of lasers that explains elevations and steps in azimuth best (Viterbi 1967).

    Args:
        misses: (N, K) how badly each laser explains the elevation of each point.
        steps: (N - 1,) degrees, azimuth of each point less that of the one before.
        expected: (K, K) degrees, the step from one laser to another.
        skipped: (K, K) cost of the lasers in between that saw nothing.

    Returns:
        (N,) laser.
    """
    count, lasers = misses.shape
    back = np.empty((count, lasers), np.uint8)
    cost = misses[0].copy()
    for i in range(1, count):
        new = np.empty(lasers)
        for to in range(lasers):
            best, at = np.inf, 0
            for origin in range(lasers):
                value = cost[origin] + skipped[origin, to]
                if value < best:
                    value += min(abs(steps[i - 1] - expected[origin, to]) / _STEP_OFF, _FARTHEST_STEP)
                    if value < best:
                        best, at = value, origin
            new[to], back[i, to] = best + misses[i, to], at
        cost = new - new.min()
    result = np.empty(count, np.int64)
    result[-1] = cost.argmin()
    for i in range(count - 1, 0, -1):
        result[i - 1] = back[i, result[i]]
    return result


def _by_azimuth(values: np.ndarray, azimuth: np.ndarray, block: np.ndarray) -> np.ndarray:
    """(N, 2) for each block the median of the values at about the azimuth of each point."""
    sector = np.floor((azimuth + 180) / (360 / _SECTORS)).astype(int) % _SECTORS
    medians = np.zeros((_SECTORS, 2))
    for i in range(_SECTORS):
        near = np.isin(sector, [(i - 1) % _SECTORS, i, (i + 1) % _SECTORS])
        for j in (0, 1):
            chosen = near & (block == j)
            medians[i, j] = np.median(values[chosen]) if chosen.any() else 0
    return medians[sector]
