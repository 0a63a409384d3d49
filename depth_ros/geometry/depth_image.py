"""What a depth image means: units and invalid values, decided here alone (REP 118, REP 117)."""

from __future__ import annotations

import numpy as np
from numba import njit

from depth_ros.errors import MessageError

ENCODINGS = ('32FC1', '16UC1')
_MM_PER_M = np.float32(1000.0)


def to_metres(depth: np.ndarray, encoding: str) -> np.ndarray:
    """Depth in the house's one meaning.

    Args:
        depth: (H, W) as it came, of the dtype that the encoding names.
        encoding: ``32FC1`` (metres; unknown is any value that is not finite and positive) or ``16UC1`` (millimetres;
            unknown is 0).

    Returns:
        (H, W) float32 metres, NaN = unknown; always a new array.

    Raises:
        MessageError: another encoding.
    """
    if encoding == '32FC1':
        metres = depth.astype(np.float32)
        # +-inf says "out of range" (REP 117) and 0 is what many drivers send for unknown: neither is a surface.
        metres[~(np.isfinite(metres) & (metres > 0))] = np.nan
        return metres
    if encoding == '16UC1':
        metres = depth.astype(np.float32) / _MM_PER_M
        metres[depth == 0] = np.nan
        return metres
    raise MessageError(f'depth encoding is {encoding!r}, expected one of {ENCODINGS}')


def from_metres(metres: np.ndarray, encoding: str) -> np.ndarray:
    """Depth as a message carries it.

    Args:
        metres: (H, W) float32, NaN = unknown.
        encoding: one of ``ENCODINGS``.

    Returns:
        (H, W) float32 (the same array) for 32FC1; (H, W) uint16 for 16UC1, rounded, where depths that millimetres in 16
        bits cannot hold (under 0.5 mm, over 65.535 m) are unknown, never clipped.

    Raises:
        MessageError: another encoding.
    """
    if encoding == '32FC1':
        return metres
    if encoding == '16UC1':
        return _to_millimetres(np.ascontiguousarray(metres).reshape(-1)).reshape(metres.shape)
    raise MessageError(f'depth encoding is {encoding!r}, expected one of {ENCODINGS}')


@njit(nogil=True, cache=True)
def _to_millimetres(metres):
    mm = np.empty(metres.shape, np.uint16)
    for i in range(metres.shape[0]):
        value = metres[i] * _MM_PER_M
        # NaN fails every comparison. The bounds are those of rounding; half goes to even, as numpy.rint has it.
        inside = value >= np.float32(0.5) and value < np.float32(65535.5)
        mm[i] = np.uint16(np.int32(np.rint(value if inside else np.float32(0))))
    return mm
