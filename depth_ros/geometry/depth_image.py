"""What a depth image means: units and invalid values, decided here alone (REP 118, REP 117)."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from depth_ros.errors import MessageError
from depth_ros.geometry.parallel import kernel_threads

ENCODINGS = ('32FC1', '16UC1')
_MM_PER_M = np.float32(1000.0)
_FIRST_BITS = np.float32(0.5).view(np.int32)
_NUM_BITS = np.uint32(np.float32(65535.5).view(np.int32) - _FIRST_BITS)
_ROUNDING = np.float32(1.5 * 2**23)


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
        with kernel_threads():
            return _to_millimetres(np.ascontiguousarray(metres))
    raise MessageError(f'depth encoding is {encoding!r}, expected one of {ENCODINGS}')


@njit(nogil=True, cache=True, parallel=True)
def _to_millimetres(metres):
    mm = np.empty(metres.shape, np.uint16)
    for row in prange(metres.shape[0]):
        for column in range(metres.shape[1]):
            value = np.float32(metres[row, column] * _MM_PER_M)
            # Floats from 0.5 to below 65535.5 lie together in the order of their bits, and no NaN among them.
            inside = np.uint32(value.view(np.int32) - _FIRST_BITS) < _NUM_BITS
            # The last bits are the rounded number then; half goes to even, as numpy.rint has it.
            bits = np.float32(value + _ROUNDING).view(np.uint32)
            mm[row, column] = np.uint16(bits) if inside else np.uint16(0)
    return mm
