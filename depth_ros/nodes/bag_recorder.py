"""``bag_recorder``: writes topics to a bag, for places without ``ros2 bag``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future

from depth_ros.bags.writer import BagWriter
from depth_ros.errors import BagError
from depth_ros.nodes.bag_player import message_type
from depth_ros.ros.lifecycle import exit_code, ignore_signals, own_arguments, ros_process, shutdown_by_its_name

_LOOK_S = 0.1
_NEVER_IDLE = ('/diagnostics', '/clock', '/rosout')


class BagRecorder(Node):
    """Writes undecoded messages as they come.

    Attributes:
        done: completed when nothing came for ``idle_s``.
        counts: messages per topic.
    """

    def __init__(self, writer: BagWriter, topics: Sequence[str], idle_s: float) -> None:
        """Look for the topics; each is recorded from when it appears.

        Args:
            writer: open bag.
            topics: names.
            idle_s: end when nothing came for so long after the first message, topics that never pause (diagnostics)
                aside; 0 = never.
        """
        super().__init__('bag_recorder')
        self.done = Future()
        self.counts: Counter[str] = Counter()
        self._writer, self._idle_s = writer, idle_s
        self._wanted = [self.resolve_topic_name(topic) for topic in topics]
        self._refused: set[str] = set()
        self._last: float | None = None
        self.create_timer(_LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def missing(self) -> list[str]:
        """Topics of which nothing came."""
        return [topic for topic in self._wanted if not self.counts[topic]]

    def _look(self) -> None:
        if not self.get_clock().now().nanoseconds:
            return  # a simulated clock that has not come yet: all would be recorded at 0
        recorded = {subscription.topic_name for subscription in self.subscriptions}
        known = dict(self.get_topic_names_and_types())
        for topic in self._wanted:
            if topic not in recorded and topic not in self._refused and known.get(topic):
                self._record(topic, known[topic][0])
        if self._idle_s and self._last is not None and time.monotonic() - self._last > self._idle_s:
            self.done.set_result(None)

    def _record(self, topic: str, name: str) -> None:
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        if not offered:
            return  # only subscribers so far: what will be offered is not known
        kind = message_type(name)
        if kind is None:
            reason = f'cannot record {topic!r}: message type {name} is not installed'
            self._refused.add(topic)
            if self._refused.issuperset(self._wanted):
                raise BagError(reason)
            self.get_logger().error(f'{reason}; the other topics are recorded')
            return
        profile = QoSProfile(depth=50)
        if any(item.reliability == ReliabilityPolicy.BEST_EFFORT for item in offered):
            profile.reliability = ReliabilityPolicy.BEST_EFFORT
        if all(item.durability == DurabilityPolicy.TRANSIENT_LOCAL for item in offered):
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        self.create_subscription(kind, topic, partial(self._write, topic, name), profile, raw=True)

    def _write(self, topic: str, name: str, data: bytes) -> None:
        if topic not in _NEVER_IDLE:
            self._last = time.monotonic()
        self._writer.write_raw(topic, name, data, self.get_clock().now().nanoseconds)
        self.counts[topic] += 1


def main(args: Sequence[str] | None = None) -> int:
    """Record until Ctrl-C or until nothing comes any more; exit code 2 if the bag cannot be written or stayed empty."""
    parser = argparse.ArgumentParser(prog='bag_recorder', description='Write topics to a bag (MCAP).')
    parser.add_argument('bag', help='folder of the new bag')
    parser.add_argument('topics', nargs='+', metavar='TOPIC', help='topics to record')
    parser.add_argument('--idle', type=float, default=0.0, metavar='S', help='end when nothing came for so long')
    parser.add_argument('--overwrite', action='store_true', help='replace the bag that is there')
    argv = sys.argv[1:] if args is None else list(args)
    options = own_arguments(parser, argv)
    if not options.idle >= 0:
        parser.error(f'--idle is {options.idle}, expected 0 or more seconds')

    def run() -> None:
        # In the middle of a message a KeyboardInterrupt would cost the end of the bag. Without it the executor still
        # stops: rclpy, which calls this handler after its own, shuts down on SIGINT.
        signal.signal(signal.SIGINT, lambda *_: None)
        with BagWriter(options.bag, overwrite=options.overwrite) as writer, ros_process(argv):
            recorder = BagRecorder(writer, options.topics, options.idle)
            executor = SingleThreadedExecutor()
            executor.add_node(recorder)
            with suppress(ExternalShutdownException), shutdown_by_its_name():  # the usual end of a recording: keep it
                executor.spin_until_future_complete(recorder.done)
            ignore_signals()
            if not recorder.counts:
                raise BagError(f'nothing came on {", ".join(options.topics)}, so no bag was written')
            recorded = ', '.join(f'{topic} {count}' for topic, count in sorted(recorder.counts.items()))
            missing = recorder.missing()
            print(f'bag_recorder: {recorded} in {options.bag}{"; nothing on " + ", ".join(missing) if missing else ""}')

    return exit_code(run)


if __name__ == '__main__':
    sys.exit(main())
