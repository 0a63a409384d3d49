"""Which frames train, and which judge: by recording, or by blocks of time with a gap between them."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_ros.errors import SettingsError
from depth_ros_training.data.dataset import SPLITS

_NS = 1_000_000_000
_LONG_GAP, _SHORT_GAP_SHARE = 2.0, 0.1
# From so many recordings on whole ones are kept apart.
_MANY = 3


@dataclass(frozen=True)
class SplitOptions:
    """How frames are divided.

    Attributes:
        by: ``recording`` (whole recordings), ``time`` (blocks of each recording, train first, test last) or ``auto``
            (recording if there are three or more).
        shares: of train, val and test.
        gap: seconds that are left out between two blocks; negative = 2 s, in short recordings a tenth of them.
    """

    by: str = 'auto'
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    gap: float = -1.0

    def __post_init__(self) -> None:
        if self.by not in ('auto', 'recording', 'time'):
            raise SettingsError(f'split is by {self.by!r}, expected auto, recording or time')
        if min(self.shares) < 0 or not abs(sum(self.shares) - 1) < 1e-3:
            raise SettingsError(f'shares of train, val and test are {self.shares}, expected 0 to 1 and 1 together')


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of so many numbers, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []


def assign_splits(recordings: dict[str, list[dict[str, Any]]], options: SplitOptions) -> str:
    """Set ``split`` of every frame: train, val, test, or '' in a gap.

    Args:
        recordings: frames by recording, in the order of their stamps.
        options: how.

    Returns:
        How it was done, one line.

    Raises:
        SettingsError: there are too few recordings, or no frame is left to train on.
    """
    by = options.by
    if by == 'auto':
        by = 'recording' if len(recordings) >= _MANY else 'time'
    text = _by_recording(recordings, options) if by == 'recording' else _by_time(recordings, options)
    found = {frame['split'] for frames in recordings.values() for frame in frames}
    missing = [name for name, share in zip(SPLITS, options.shares, strict=True) if share > 0 and name not in found]
    if missing:
        raise SettingsError(
            f'no frame is left for {", ".join(missing)}; record for longer, or choose other --shares or a shorter --gap'
        )
    return text


def _by_recording(recordings: dict[str, list[dict[str, Any]]], options: SplitOptions) -> str:
    needed = sum(share > 0 for share in options.shares)
    if len(recordings) < needed:
        raise SettingsError(
            f'{len(recordings)} recordings cannot be divided into {needed} parts; prepare more bags together, or split '
            'by time (--split time)'
        )
    # An order that has nothing to do with the time of recording, and is the same each time.
    names = sorted(recordings, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    total = sum(len(frames) for frames in recordings.values())
    chosen: dict[str, str] = {}
    for split, share in ((SPLITS[2], options.shares[2]), (SPLITS[1], options.shares[1])):
        count, later = 0, sum(part > 0 for part in options.shares[: SPLITS.index(split)])  # one recording each
        while share > 0 and len(names) > later and count < share * total:
            # One that goes over the limit stays where more of it belongs, but none stays empty.
            fitting = [name for name in names if count + len(recordings[name]) / 2 <= share * total]
            if count and not fitting:
                break
            name = fitting[0] if fitting else min(names, key=lambda name: len(recordings[name]))
            names.remove(name)
            chosen[name] = split
            count += len(recordings[name])
    for name, frames in recordings.items():
        for frame in frames:
            frame['split'] = chosen.get(name, SPLITS[0])
    return 'by recording'


def _by_time(recordings: dict[str, list[dict[str, Any]]], options: SplitOptions) -> str:
    gaps = []
    for frames in recordings.values():
        gap = options.gap
        if gap < 0:
            gap = min(_LONG_GAP, _SHORT_GAP_SHARE * (frames[-1]['stamp_ns'] - frames[0]['stamp_ns']) / _NS)
        gaps.append(gap)
        num_test = round(options.shares[2] * len(frames))
        num_val = min(round(options.shares[1] * len(frames)), len(frames) - num_test)  # both may have been rounded up
        sizes = [len(frames) - num_test - num_val, num_val, num_test]
        for frame, split in zip(frames, np.repeat(SPLITS, sizes).tolist(), strict=True):
            frame['split'] = split
        _cut_gaps(frames, sizes, gap)
    return f'by time, with gaps of {min(gaps):.2g} s' + (f' to {max(gaps):.2g} s' if max(gaps) > min(gaps) else '')


def _cut_gaps(frames: list[dict[str, Any]], sizes: list[int], gap: float) -> None:
    """Take frames out between two blocks, from the longer one: the shorter one can spare less."""
    ends = np.cumsum(sizes)
    blocks = [(end - size, end) for size, end in zip(sizes, ends, strict=True) if size]
    for (first, end), (_, last) in itertools.pairwise(blocks):
        before, after = frames[end - 1]['stamp_ns'], frames[end]['stamp_ns']
        if end - first >= last - end:
            cut = [frame for frame in frames[first:end] if after - frame['stamp_ns'] <= gap * _NS]
        else:
            cut = [frame for frame in frames[end:last] if frame['stamp_ns'] - before <= gap * _NS]
        for frame in cut:
            frame['split'] = ''
