"""Loops in parts, each on a core of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise

_MOST_THREADS = 8  # more only wait for memory


def usable_cores() -> int:
    """How many cores this process may use: a container may have fewer of them than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def threads_here() -> int:
    """How many threads are worth it: one per core, and not so many that they wait for memory."""
    return min(usable_cores(), _MOST_THREADS)


def in_parts(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Run ``work(first, last)`` on all parts of ``range(count)`` at the same time.

    Threads of Python, for functions that let go of its lock. Those of numba do not survive a fork, or not a second
    caller in the same process.

    Args:
        work: does its part without a look at the others.
        count: how much there is.
        threads: how many parts; 1 = all of it here.
    """
    if threads < 2 or count < threads:
        work(0, count)
        return
    bounds = [count * i // threads for i in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(work, first, last) for first, last in pairwise(bounds[1:])]
    try:
        work(0, bounds[1])
    finally:
        wait(others)  # they write into arrays of the caller
    for other in others:
        other.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Kept for the next frame; a child of a fork has none of the threads, and so asks for its own."""
    return ThreadPoolExecutor(threads, f'depth_ros_{process}')
