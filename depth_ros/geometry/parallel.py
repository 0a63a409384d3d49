"""How kernels that numba divides among threads are called."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from numba import config, set_num_threads

# The work is bound by memory: one core does not take all of it, four do.
_MAX_THREADS = 4
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def kernel_threads() -> Iterator[None]:
    """Hold the threads of numba for one kernel; its simplest threading layer bears one caller at a time."""
    with _ONE_AT_A_TIME:
        set_num_threads(min(config.NUMBA_NUM_THREADS, _MAX_THREADS))
        yield
