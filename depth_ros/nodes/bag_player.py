"""``bag_player``: publishes a recording in (scaled) real time, with ``/clock``, for places without ``ros2 bag``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock

from depth_ros.bags.reader import BagReader, ros2_type
from depth_ros.errors import BagError, DepthRosError
from depth_ros.messages.header import set_stamp
from depth_ros.ros.lifecycle import exit_code, own_arguments, ros_process
from depth_ros.ros.tf_message import tf_message_type

_NS = 1_000_000_000
_CLOCK_PERIOD_S = 0.01
_SAY_S = 5.0
_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class BagPlayer(Node):
    """Plays one bag."""

    def __init__(self, bag: BagReader, rate: float, topics: Sequence[str]) -> None:
        """Create a publisher for every topic whose message type is installed.

        Args:
            bag: the recording.
            rate: seconds of the recording per second.
            topics: topics to play; empty = all.

        Raises:
            BagError: none of the topics can be played.
        """
        # It does not spin: `ros2 param list`, of all nodes, would wait for its answer for ever.
        super().__init__('bag_player', start_parameter_services=False)
        self._bag, self._rate = bag, rate
        self._clock_publisher = self.create_publisher(Clock, '/clock', 10)
        self._publishers_by_topic: dict[str, Publisher] = {}
        missing = []
        for topic in [bag.topic(name) for name in topics] or bag.topics:
            kind = message_type(ros2_type(topic.type))
            if kind is None:
                missing.append(f'{topic.name} ({topic.type})')
            elif topic.name != '/clock':
                profile = _LATCHED if topic.name.endswith('/tf_static') else QoSProfile(depth=10)
                self._publishers_by_topic[topic.name] = self.create_publisher(kind, topic.name, profile)
        if missing:
            self.get_logger().warning(f'not played, their message types are not installed: {", ".join(missing)}')
        if not self._publishers_by_topic:
            raise BagError(f'bag {str(bag.path)!r} has no topic that can be played here')

    def wait_for_subscribers(self, topics: Sequence[str], timeout_s: float) -> None:
        """Wait until somebody subscribes to each of these topics; meanwhile the clock stands at the start of the bag.

        Args:
            topics: played ones or others, for example the outputs of the node under test.
            timeout_s: for how long.

        Raises:
            DepthRosError: the time is up.
        """
        end = time.monotonic() + timeout_s
        for topic in topics:
            publisher = self._publishers_by_topic.get(topic)
            while not (self.count_subscribers(topic) if publisher is None else publisher.get_subscription_count()):
                if time.monotonic() > end:
                    raise DepthRosError(f'nobody subscribed to {topic!r} within {timeout_s:.0f} s')
                self._tell_time(self._bag.start_ns)
                time.sleep(0.05)

    def play(self) -> None:
        """Publish the whole recording once, and wait until reliable subscribers have it."""
        started, said = time.monotonic(), time.monotonic()
        length_s = (self._bag.end_ns - self._bag.start_ns) / _NS
        count = 0
        for item in self._bag.raw_messages(list(self._publishers_by_topic)):
            self._wait_until(item.log_ns, started)
            self._publishers_by_topic[item.topic].publish(item.data)
            count += 1
            if time.monotonic() - said > _SAY_S:
                said = time.monotonic()
                self.get_logger().info(f'{(item.log_ns - self._bag.start_ns) / _NS:.1f} of {length_s:.1f} s played')
        for publisher in self._publishers_by_topic.values():
            publisher.wait_for_all_acked(Duration(seconds=2.0))
        taken = time.monotonic() - started
        self.get_logger().info(
            f'{count} messages, {length_s:.1f} s played in {taken:.1f} s; {self._bag.num_damaged} damaged ones left out'
        )

    def _wait_until(self, log_ns: int, started: float) -> None:
        due = started + (log_ns - self._bag.start_ns) / _NS / self._rate
        while (left := due - time.monotonic()) > 0:
            self._tell_time(log_ns - int(left * self._rate * _NS))
            time.sleep(min(left, _CLOCK_PERIOD_S))
        self._tell_time(log_ns)

    def _tell_time(self, time_ns: int) -> None:
        clock = Clock()
        set_stamp(clock.clock, time_ns)
        self._clock_publisher.publish(clock)


def message_type(name: str) -> type | None:
    """Class of a message type such as ``sensor_msgs/msg/Image``, for messages in bytes; None where there is none."""
    package, *_, kind = name.split('/')
    if name == 'tf2_msgs/msg/TFMessage':
        return tf_message_type()
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind, None)
    except ImportError:
        return None


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag; exit code 0, or 2 for a bag that cannot be played."""
    parser = argparse.ArgumentParser(prog='bag_player', description='Publish a recording in real time, with /clock.')
    parser.add_argument('bag', help='folder or file of the bag (.mcap, .db3, .bag)')
    parser.add_argument('--rate', type=float, default=1.0, help='seconds of the recording per second (default 1)')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument('--topics', nargs='+', default=[], metavar='TOPIC', help='play only these')
    parser.add_argument('--wait-for', nargs='+', default=[], metavar='TOPIC', help='start when these have subscribers')
    parser.add_argument('--wait-timeout', type=float, default=60.0, metavar='S', help='at most so long (default 60)')
    parser.add_argument('--start-delay', type=float, default=0.5, metavar='S',
                        help='wait before the first message, while nodes find each other (default 0.5)')
    argv = sys.argv[1:] if args is None else list(args)
    options = own_arguments(parser, argv)
    if not 0.01 <= options.rate <= 100:
        parser.error(f'--rate is {options.rate}, expected 0.01 to 100')
    if not 0 <= options.start_delay <= 3600:
        parser.error(f'--start-delay is {options.start_delay}, expected 0 to 3600')

    def run() -> None:
        with BagReader(options.bag) as bag, ros_process(argv):
            player = BagPlayer(bag, options.rate, options.topics)
            player.wait_for_subscribers(options.wait_for, options.wait_timeout)
            time.sleep(options.start_delay)
            player.play()
            while options.loop and rclpy.ok():
                player.play()

    return exit_code(run)


if __name__ == '__main__':
    sys.exit(main())
