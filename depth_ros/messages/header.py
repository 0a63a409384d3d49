"""Stamps and bodies, common to all messages."""

from __future__ import annotations

import array
from typing import Any

import numpy as np

_NS = 1_000_000_000


def stamp_ns(message: Any) -> int:
    """Header stamp of a message in ns."""
    stamp = message.header.stamp
    return stamp.sec * _NS + stamp.nanosec


def set_stamp(stamp: Any, time_ns: int) -> None:
    """Write ns into a ``builtin_interfaces/Time``."""
    stamp.sec, stamp.nanosec = divmod(int(time_ns), _NS)


def body(data: Any) -> np.ndarray:
    """View the bytes of a message field as (N,) uint8 without a copy, whatever container the client library uses."""
    if isinstance(data, np.ndarray):
        return data.view(np.uint8).reshape(-1)
    return np.frombuffer(data, dtype=np.uint8)


def set_body(message: Any, values: np.ndarray) -> None:
    """Fill the ``data`` of a message.

    rclpy's setter iterates over anything that is not an ``array.array`` (2,700 times the cost of a copy, measured). Its
    C converter, however, takes any contiguous buffer from the private attribute, without a copy; where a release has no
    such attribute, one copy into an ``array.array`` does.

    Args:
        message: an Image, CompressedImage or PointCloud2 whose ``data`` is uint8[].
        values: C-contiguous array of any dtype; not to be altered until the message is published.
    """
    flat = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    if hasattr(message, '_data'):
        message._data = flat
        return
    if isinstance(message.data, np.ndarray):  # messages of bag libraries hold arrays
        message.data = flat
        return
    buffer = array.array('B')
    buffer.frombytes(memoryview(flat))
    message.data = buffer
