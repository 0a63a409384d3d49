"""Messages between the executor, which only puts them here, and the thread that works on them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Arrival:
    """One message.

    Attributes:
        kind: name of its input.
        message: the message.
        clock_ns: when it came, by the node's clock.
        monotonic_ns: when it came, by the machine's.
    """

    kind: str
    message: Any
    clock_ns: int
    monotonic_ns: int


class Inbox:
    """Messages in the order of their arrival; of each kind at most so many, the oldest falls out."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """Make an empty inbox.

        Args:
            limits: kind -> how many may wait.
        """
        self._limits = dict(limits)
        self._waiting: deque[Arrival] = deque()
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def put(self, kind: str, message: Any, clock_ns: int) -> int:
        """Add a message.

        Returns:
            How many messages fell out; several where the limit was lowered.
        """
        arrival = Arrival(kind, message, clock_ns, time.monotonic_ns())
        with self._changed:
            self._waiting.append(arrival)
            self._counts[kind] += 1
            excess = max(self._counts[kind] - self._limits[kind], 0)
            for _ in range(excess):
                self._drop_oldest(kind)
            self._changed.notify()
        return excess

    def get(self, timeout_s: float) -> Arrival | None:
        """Take the oldest message; None if none comes in time."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            if not self._waiting:
                return None
            arrival = self._waiting.popleft()
            self._counts[arrival.kind] -= 1
            return arrival

    def count(self, kind: str) -> int:
        """How many messages of a kind wait."""
        return self._counts[kind]

    def set_limit(self, kind: str, limit: int) -> None:
        """Change how many messages of a kind may wait, from the next one on."""
        self._limits[kind] = limit

    def _drop_oldest(self, kind: str) -> None:
        index = next(i for i, arrival in enumerate(self._waiting) if arrival.kind == kind)
        del self._waiting[index]
        self._counts[kind] -= 1
