"""Rings (beams) of a spinning lidar, for clouds that do not name them."""

from __future__ import annotations

import numpy as np

MIN_RINGS, MAX_RINGS = 4, 256
_LEVEL_BIN = np.radians(0.02)
# Metres; what is farther is a driver's way to say that there was no return (the largest float32, say).
_FAR = 1e6
# How much narrower rings have to be where they start at another cut: less is chance.
_NARROWER = 0.9
# Mean distance of points from the median elevation of their ring, in units of the distance between rings: of KITTI's
# 0.9 at most, where the order of storage tells nothing 2 and more.
_WIDEST = 1.5


def infer_rings(points: np.ndarray) -> tuple[np.ndarray, str] | None:
    """Find the ring of every point where the structure of the cloud is clear.

    Two structures are known. *Storage order*: the points come ring by ring (KITTI), so the azimuth runs once around per
    ring and a ring starts where it passes the cut (straight ahead, straight back, or the first point; the one that
    makes the narrowest rings); taken if there are 4 to 256 rings, no wider than they lie apart, and their median
    elevations rise, or fall, in at least nine of ten steps. *Elevation levels*: the elevations lie on 4 to 256 separate
    levels with empty bands between them that take at least half of the span, as the beams of a sensor do in its own
    frame while it is not moved during the sweep. Where both are there, the one with the narrower rings holds.

    Args:
        points: (N, 3) metres in the frame of the sensor, x forward, z up; no return = not finite, 0, or beyond 1000 km.

    Returns:
        ring: (N,) uint16, 0 = first stored, or lowest level; points that are no return get the ring of the point before
            them.
        rule: ``storage order`` or ``elevation levels``.
        None where neither structure is there.
    """
    returned = np.flatnonzero(_returned(points))
    if len(returned) < 10 * MIN_RINGS:
        return None
    x, y, z = points[returned].astype(np.float64).T
    elevation = np.arctan2(z, np.hypot(x, y))
    stored, level = _by_storage_order(np.arctan2(y, x), elevation), _by_levels(elevation)
    if stored is None and level is None:
        return None
    by_level = stored is None or (
        level is not None and _width(elevation, level)[0] < _NARROWER * _width(elevation, stored)[0]
    )
    ring, rule = (level, 'elevation levels') if by_level else (stored, 'storage order')
    before = np.searchsorted(returned, np.arange(len(points)), side='right') - 1
    return ring[np.maximum(before, 0)].astype(np.uint16), rule


def ring_elevations(points: np.ndarray, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the rings look.

    Args:
        points: (N, 3) metres in the frame of the sensor; no return as in ``infer_rings``.
        ring: (N,) uint16.

    Returns:
        rings: (R,) uint16, those with a return, ascending.
        elevation: (R,) float64 median elevation of each, rad.
    """
    returned = _returned(points)
    x, y, z = points[returned].astype(np.float64).T
    elevation, ring = np.arctan2(z, np.hypot(x, y)), ring[returned]
    order = np.argsort(ring, kind='stable')
    rings, starts = np.unique(ring[order], return_index=True)
    if not len(rings):
        return rings, np.zeros(0)
    return rings, np.array([np.median(part) for part in np.split(elevation[order], starts[1:])])


def _returned(points: np.ndarray) -> np.ndarray:
    # NaN and infinity fail the first comparison.
    return (np.abs(points) < _FAR).all(axis=1) & (points != 0).any(axis=1)


def _by_storage_order(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray | None:
    steps = np.diff(azimuth)
    step = np.median(np.arctan2(np.sin(steps), np.cos(steps)))
    turning = np.sign(step)
    if turning == 0:
        return None
    best, narrowest = None, np.inf
    # Rings start at the first point's azimuth but for rounding, so that cut is half a step before it.
    for cut in (0.0, np.pi, azimuth[0] - step / 2):
        phase = np.mod(turning * (azimuth - cut), 2 * np.pi)
        ring = np.concatenate([[0], np.cumsum(np.diff(phase) < -np.pi)])
        count = int(ring[-1]) + 1
        if not MIN_RINGS <= count <= MAX_RINGS:
            continue
        width, medians = _width(elevation, ring)
        rise = np.diff(medians)
        if max(np.mean(rise > 0), np.mean(rise < 0)) < 0.9 or width > _WIDEST * np.median(abs(rise)):
            continue
        # At a wrong cut half rings are joined with halves of the next ones, and those rise or fall just as well.
        if width < _NARROWER * narrowest:
            best, narrowest = ring, width
    return best


def _width(elevation: np.ndarray, ring: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean distance of points from the median elevation of their ring, and the medians, rad."""
    order = np.argsort(ring, kind='stable')
    starts = np.searchsorted(ring[order], np.arange(1, int(ring.max()) + 1))
    medians = np.array([np.median(part) for part in np.split(elevation[order], starts)])
    return float(np.mean(np.abs(elevation - medians[ring]))), medians


def _by_levels(elevation: np.ndarray) -> np.ndarray | None:
    first = elevation.min()
    bins = ((elevation - first) / _LEVEL_BIN).astype(np.int64)
    occupied = np.bincount(bins) > 0
    starts = np.flatnonzero(occupied & ~np.concatenate([[False], occupied[:-1]]))
    if not MIN_RINGS <= len(starts) <= MAX_RINGS or occupied.mean() > 0.5:
        return None
    level = np.searchsorted(starts, bins, side='right') - 1
    # A level is a beam only if it is one of many points, not a stray.
    if np.bincount(level).min() < 0.05 * len(elevation) / len(starts):
        return None
    return level
