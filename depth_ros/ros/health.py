"""What a node counts about itself: what came, what was answered, what was refused and why."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from depth_ros.evaluation.metrics import DepthSums

RECENT = 5.0
"""Seconds that count as recent; long enough to read, short enough that a cured trouble goes away."""
_NS = 1_000_000_000
_LATENCIES = 500


@dataclass
class InputHealth:
    """One input topic.

    Attributes:
        topic: full name; '' while none is subscribed to.
        required: False if the node works without it.
        count: messages received.
        last: monotonic time of the newest, s; None before the first.
        delay: node clock minus stamp of the newest, s; negative = stamped in the future; 0 before a simulated clock.
        lost: messages that the middleware says it lost.
        sequence: number that the publisher gave the newest message, None if it does not number them.
        skipped: messages that are missing between the numbers of those that came.
        mismatches: publishers of now whose QoS does not fit.
        policy: the QoS policy that did not fit last, '' while all did.
    """

    topic: str = ''
    required: bool = True
    count: int = 0
    last: float | None = None
    delay: float = 0.0
    lost: int = 0
    sequence: int | None = None
    skipped: int = 0
    mismatches: int = 0
    policy: str = ''
    times: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _looks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque([(float('-inf'), 0, 0)]))

    @property
    def missed(self) -> int:
        """Messages that were sent and did not come; the middleware and the numbers tell of the same ones."""
        return max(self.lost, self.skipped)

    def skips(self, number: int) -> bool:
        """Whether messages are missing before the one of this number."""
        # A publisher that starts again counts from one.
        return self.sequence is not None and number > self.sequence + 1

    def recent(self, now: float) -> tuple[int, int]:
        """Messages that came, and that did not, since the look at them that was ``RECENT`` ago; this is another."""
        self._looks.append((now, self.count, self.missed))
        while now - self._looks[1][0] >= RECENT:
            self._looks.popleft()
        _, count, missed = self._looks[0]
        return self.count - count, self.missed - missed

    def rate(self, now: float) -> float:
        """Messages per second over the last few seconds."""
        recent = [moment for moment in self.times if now - moment < RECENT]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0


@dataclass
class Tally:
    """One thing that is not as it should be: how often, how recently, and in words."""

    count: int = 0
    text: str = ''
    times: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    logged: float = float('-inf')

    def recent(self, now: float) -> int:
        """How often in the last ``RECENT`` seconds."""
        return sum(now - moment < RECENT for moment in self.times)

    def add(self, text: str) -> bool:
        """Count it; returns True if it should be logged: it is new, or was not logged for a while."""
        now = time.monotonic()
        self.count += 1
        self.text = text
        self.times.append(now)
        if now - self.logged < RECENT:
            return False
        self.logged = now
        return True


class Health:
    """Everything that the diagnostics say, as numbers. Its methods may be called from any thread."""

    def __init__(self, inputs: dict[str, bool]) -> None:
        """Start from zero.

        Args:
            inputs: name of each input -> whether it is required.
        """
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self.inputs = {name: InputHealth(required=required) for name, required in inputs.items()}
        self.clock_ns: int | None = None  # of the node, at the newest report
        self.motion = ''  # where the motion of the robot is known from
        self.estimated_at = ''  # size of the images that the estimator sees
        self.refusals: dict[str, Tally] = {}
        self.images_refused = 0
        self.answered = 0
        self.without_lidar = Tally()
        self.unwanted = 0
        self.answer_times: deque[float] = deque(maxlen=1000)
        self.processing_ms: deque[float] = deque(maxlen=_LATENCIES)
        self.delay_ms: deque[float] = deque(maxlen=_LATENCIES)
        self.stage_ms: dict[str, deque[float]] = {}
        self.basis = ''
        self.output_policies: dict[str, str] = {}  # topic -> QoS policy that did not fit a subscriber
        self.output_mismatches: dict[str, str] = {}  # the same, of the subscribers of now
        self._grades: deque[DepthSums] = deque()

    def arrived(self, name: str, stamp_ns: int, clock_ns: int) -> None:
        """Count a message."""
        now = time.monotonic()
        with self.lock:
            item = self.inputs[name]
            item.count += 1
            item.last = now
            item.delay = (clock_ns - stamp_ns) / _NS if clock_ns else 0.0
            item.times.append(now)

    def refuse(self, reason: str, text: str, is_image: bool = False) -> bool:
        """Count a message or an image that was passed over.

        Args:
            reason: short stable key.
            text: one line: what came, what was expected, what to do.
            is_image: it is an image, which gets no answer for that.

        Returns:
            True if it should be logged: the reason is new or was not logged for a while.
        """
        with self.lock:
            self.images_refused += is_image
            return self.refusals.setdefault(reason, Tally()).add(text)

    def did_without_lidar(self, why: str) -> bool:
        """Count an image that was answered without lidar; returns True if it should be logged."""
        with self.lock:
            return self.without_lidar.add(why)

    def answer(self, processing_ns: int, delay_ns: int, stages_ns: dict[str, int], basis: str) -> None:
        """Count an image whose depth was published."""
        with self.lock:
            self.answered += 1
            self.answer_times.append(time.monotonic())
            self.processing_ms.append(processing_ns / 1e6)
            self.delay_ms.append(delay_ns / 1e6)
            for name, value in stages_ns.items():
                self.stage_ms.setdefault(name, deque(maxlen=_LATENCIES)).append(value / 1e6)
            self.basis = basis

    def grade(self, sums: DepthSums, window: int) -> None:
        """Take in the score of one image; the grade covers the last ``window`` of them."""
        with self.lock:
            self._grades.append(sums)
            while len(self._grades) > window:
                self._grades.popleft()

    def ungraded(self) -> None:
        """Forget the grade: grading was switched off."""
        with self.lock:
            self._grades.clear()

    def graded(self) -> tuple[DepthSums, int]:
        """Sums over the window, and how many images they are of; call it with the lock held."""
        # Added up anew: what a running sum loses beside one wild depth, subtracting that does not bring back.
        return sum(self._grades, DepthSums()), len(self._grades)
