"""Depth as colours, for people."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numba import njit

_STEPS = 256


def colorize(depth: np.ndarray, max_depth: float) -> np.ndarray:
    """Colour a depth image: near is red, far is blue, unknown is black.

    The scale is the square root of depth, so that near things, where a metre matters more, get more of it.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.
        max_depth: metres; what is farther looks like this.

    Returns:
        (H, W, 3) uint8, red first.
    """
    return _colorize(np.ascontiguousarray(depth), np.float32(1 / max_depth), _table())


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    ramp = np.arange(_STEPS - 1, -1, -1, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[:, 0, ::-1])


@njit(nogil=True, cache=True)
def _colorize(depth, scale, table):
    image = np.zeros((*depth.shape, 3), np.uint8)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            share = depth[row, column] * scale
            if share > 0:  # False for NaN too
                index = int(math.sqrt(min(share, np.float32(1))) * (table.shape[0] - 1))
                image[row, column, 0] = table[index, 0]
                image[row, column, 1] = table[index, 1]
                image[row, column, 2] = table[index, 2]
    return image
