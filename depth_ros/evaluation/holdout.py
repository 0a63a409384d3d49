"""Which lidar points are kept from the estimator, to score it on them.

A hold-out looks at the scan alone, never at images or at chance, so the same bag withholds the same points on every
machine and for every method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from depth_ros.errors import BagError, SettingsError
from depth_ros.geometry.rings import infer_rings, ring_elevations
from depth_ros.pipeline import Holdout
from depth_ros.types import LidarScan

_TWO_64 = 2.0**64
# Where a lidar shows no rings, bands of elevation take their place; as high as the rings of 64 beams over 27 degrees.
_BAND = np.radians(0.4)
_NUM_BANDS = round(np.pi / _BAND)
_BANDS = 'bands of elevation of 0.4 degrees'


def fraction_holdout(share_withheld: float) -> Holdout:
    """Withhold a share of the points, scattered evenly.

    Args:
        share_withheld: share of the points to withhold, 0 to less than 1.

    Returns:
        A hold-out; each point is chosen by a hash of its index and the stamp of its scan.

    Raises:
        SettingsError: the share is out of range.
    """
    if not 0 <= share_withheld < 1:
        raise SettingsError(f'share of points to withhold is {share_withheld}, expected 0 up to, not including, 1')
    # The highest uint64 that a float64 holds exactly is below 2**64, so the product always fits.
    limit = np.uint64(int(share_withheld * _TWO_64))

    def choose(scan: LidarScan) -> np.ndarray:
        return _hashed_below(len(scan), np.uint64(scan.stamp_ns % 2**64), limit)

    return choose


def full_holdout(scan: LidarScan) -> np.ndarray:
    """Withhold all points: (N,) bool, all True. For estimators that answer from the image alone."""
    return np.ones(len(scan), np.bool_)


@dataclass(frozen=True, eq=False)
class RingHoldout:
    """Keeps some rings of a lidar and withholds all others.

    Attributes:
        num_rings: rings that the lidar has.
        kept: (K,) uint16 rings given to the estimator.
        inferred: '' where clouds name their rings, else the rule that found them (see ``geometry.rings.infer_rings``),
            or that bands of elevation take their place.
        elevations: (num_rings,) float64 rad, median elevation of each ring; used where a cloud's inferred rings are not
            as many as the lidar's.
    """

    num_rings: int
    kept: np.ndarray
    inferred: str
    elevations: np.ndarray

    def __call__(self, scan: LidarScan) -> np.ndarray:
        """(N,) bool, True = withheld.

        Raises:
            BagError: the scan's rings cannot be told, unlike those of the scans before.
        """
        if self.inferred == _BANDS:
            ring = _bands(scan.points)
        else:
            ring = scan.ring if scan.ring is not None else self._inferred_ring(scan)
        given = np.zeros(2**16, np.bool_)
        given[self.kept] = True
        return ~given[ring]

    def _inferred_ring(self, scan: LidarScan) -> np.ndarray:
        found = infer_rings(scan.points) if self.inferred else None
        if found is None:
            raise BagError(
                f'the rings of the scan at {scan.stamp_ns} ns cannot be told, unlike those of earlier scans; use '
                '--input-fraction or --ring-step, which need no rings'
            )
        ring = found[0]
        count = int(ring.max()) + 1
        if count == self.num_rings:
            return ring
        # A ring without a single return shifts those after it: go by elevation, which stays.
        rings, elevation = ring_elevations(scan.points, ring)
        table = np.zeros(count, np.uint16)
        table[rings] = np.abs(elevation[:, None] - self.elevations[None, :]).argmin(axis=1)
        return table[ring]


class LidarHoldout:
    """Keeps some rings of every lidar of a recording; lidars are told apart by the frame of their points.

    Attributes:
        lidars: frame of the points -> what is kept of them; grows when a new one comes.
    """

    def __init__(
        self, choose: Callable[[Sequence[LidarScan]], RingHoldout], scans: Sequence[LidarScan]
    ) -> None:
        """Count the rings of the lidars at the start of a recording.

        Args:
            choose: chooses the rings of one lidar by its first scans.
            scans: the first scans of the recording; the rings of all scans of a lidar together count as its rings, so
                that a beam without a return in one scan changes nothing.

        Raises:
            SettingsError, BagError: of ``choose``, for the lidar that comes first.
        """
        self._choose = choose
        self.lidars: dict[str, RingHoldout] = {}
        self._ahead: dict[str, list[LidarScan]] = {}
        for scan in scans:
            self._ahead.setdefault(scan.frame_id, []).append(scan)
        first = scans[0].frame_id if scans else ''
        self._add(first, [])

    def __call__(self, scan: LidarScan) -> np.ndarray:
        """(N,) bool, True = withheld.

        Raises:
            BagError: the scan's rings cannot be told.
            SettingsError: a lidar that comes later has too few rings.
        """
        if scan.frame_id not in self.lidars:
            self._add(scan.frame_id, [scan])
        return self.lidars[scan.frame_id](scan)

    def _add(self, frame_id: str, scans: list[LidarScan]) -> None:
        self.lidars[frame_id] = self._choose(self._ahead.get(frame_id, scans))
        self._ahead.pop(frame_id, None)  # scans are views of whole messages


def ring_holdout(num_input_rings: int, scans: Sequence[LidarScan]) -> RingHoldout:
    """Keep evenly spaced rings of a lidar and withhold all others.

    Rings are put in the order of their median elevation, whatever their numbers, and the ring in the middle of each of
    ``num_input_rings`` equal shares of them is kept: every 4th for 16 of 64.

    Args:
        num_input_rings: rings to keep, at least 1.
        scans: scans of the lidar.

    Returns:
        The hold-out.

    Raises:
        SettingsError: the lidar has no more rings than asked for, or less than 1 is asked for.
        BagError: there is no scan, or the rings cannot be told.
    """
    if num_input_rings < 1:
        raise SettingsError(f'input rings are {num_input_rings}, expected at least 1')
    rings, elevations, inferred = _rings(scans)
    if len(rings) <= num_input_rings:
        raise SettingsError(
            f'{num_input_rings} input rings are asked for and the lidar of this recording has {len(rings)}; ask for '
            'fewer, so that some are left to score on'
        )
    by_elevation = np.argsort(elevations, kind='stable')
    middle = (np.arange(num_input_rings) + 0.5) * len(rings) / num_input_rings
    kept = np.sort(rings[by_elevation[middle.astype(np.int64)]])
    return RingHoldout(len(rings), kept, inferred, elevations)


def ring_step_holdout(step: int, scans: Sequence[LidarScan]) -> RingHoldout:
    """Keep every n-th ring of a lidar, in the order of elevation, and withhold all others.

    For 64 rings that is what ``ring_holdout`` keeps of them with 64 / n. Where a lidar shows no rings, points are put
    into bands of elevation, and every n-th band is kept.

    Args:
        step: n, at least 2.
        scans: scans of the lidar.

    Returns:
        The hold-out.

    Raises:
        SettingsError: the lidar has too few rings, or n is less than 2.
        BagError: there is no scan.
    """
    if step < 2:
        raise SettingsError(f'ring step is {step}, expected at least 2, so that some are left to score on')
    try:
        rings, elevations, inferred = _rings(scans)
    except NoRingsError:
        bands = np.unique(np.concatenate([_bands(scan.points) for scan in scans]))
        kept = np.arange(step // 2, _NUM_BANDS, step).astype(np.uint16)
        return RingHoldout(len(bands), kept, _BANDS, (bands + 0.5) * _BAND - np.pi / 2)
    kept = np.sort(rings[np.argsort(elevations, kind='stable')[step // 2 :: step]])
    if not len(kept):
        raise SettingsError(
            f'every {step}th ring is asked for and the lidar of this recording has {len(rings)}; ask for more'
        )
    return RingHoldout(len(rings), kept, inferred, elevations)


class NoRingsError(BagError):
    """Neither fields nor structure of the clouds tell the rings."""


def _rings(scans: Sequence[LidarScan]) -> tuple[np.ndarray, np.ndarray, str]:
    """Rings of a lidar, their median elevations, and the rule that found them, '' if the clouds name them."""
    scans = [scan for scan in scans if len(scan)]
    if not scans:
        raise BagError('no lidar scan with points at the start of the recording, expected some to count its rings')
    if all(scan.ring is not None for scan in scans):
        points = np.concatenate([scan.points for scan in scans])
        return *ring_elevations(points, np.concatenate([scan.ring for scan in scans])), ''
    found = [(scan, infer_rings(scan.points)) for scan in scans]
    known = [(scan, *pair) for scan, pair in found if pair is not None]
    if not known:
        raise NoRingsError(
            'clouds name no rings (field ring, channel, line or laser_id), and neither their order nor their '
            'elevations show any; use --input-fraction or --ring-step, which need none'
        )
    # The scan with the most rings is the one with no empty ring.
    scan, ring, inferred = max(known, key=lambda item: int(item[1].max()))
    return *ring_elevations(scan.points, ring), inferred


def _bands(points: np.ndarray) -> np.ndarray:
    """(N,) uint16 band of elevation of each point, counted from straight down; 0 where a point is not finite."""
    x, y, z = np.nan_to_num(points.astype(np.float64), posinf=0, neginf=0).T
    elevation = np.arctan2(z, np.hypot(x, y))
    return np.where(np.isfinite(points).all(axis=1), (elevation + np.pi / 2) / _BAND, 0).astype(np.uint16)


@njit(nogil=True, cache=True)
def _hashed_below(count, seed, limit):
    # SplitMix64 (Steele, Lea, Flood 2014): one step per point, started from the hash of the stamp.
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = _mix(seed + golden)
    chosen = np.empty(count, np.bool_)
    for i in range(count):
        state += golden
        chosen[i] = _mix(state) < limit
    return chosen


@njit(nogil=True, cache=True, inline='always')
def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
