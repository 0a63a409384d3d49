"""Keeps memory that tensors gave back, in place of fetching it from the kernel again for every step."""

from __future__ import annotations

import ctypes

# Of malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 << 20  # bytes; more than that the library does not take for the threshold
_KEPT = (1 << 31) - 1  # bytes, the most that can be asked for


def keep_freed_memory() -> bool:
    """Have this process, and those that it forks, keep up to 2 GiB that it has freed.

    By itself the C library gives large blocks back to the kernel as soon as they are free, and every page of the next
    one has to be mapped and zeroed again: for tensors of the same sizes step after step an eighth of the time on a CPU.

    Returns:
        Whether the C library can be told so; others than GNU's are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT))
