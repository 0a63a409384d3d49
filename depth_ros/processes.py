"""Ctrl-C and the processes that a command starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, which a terminal sends to all of them at once.

    What they would say of it while they still import is a traceback, and a handler of theirs comes too late for that.
    This process hears an interrupt that came meanwhile when it leaves. A process that shall hear them from some point
    on calls `hear_interrupts` there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_interrupts() -> None:
    """In a process that was started with interrupts held: hear them from here on.

    Raises:
        KeyboardInterrupt: one came meanwhile.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
