"""TF on a running node: static, moving, missing, late, lagging, stopped; by tf2_ros where that is installed."""

import ctypes
import importlib.util
import re
import time
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import STATIC, Peer, Process, cloud_message, next_domain, wall
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image

from depth_ros.geometry.rigid import parse_transform
from depth_ros.messages.image import read_rows
from depth_ros.messages.odometry import fill_transform
from depth_ros.ros import tf_message
from depth_ros.ros.tf_message import tf_message_type

NS = 10**9
TYPES, TF_MESSAGE = get_typestore(Stores.ROS2_JAZZY), 'tf2_msgs/msg/TFMessage'


def transform(parent, child, matrix, stamp_ns=0):
    return fill_transform(TransformStamped(), parent, child, matrix, stamp_ns)


def lidar_ahead(metres=0.0):
    """camera_from_lidar, with the lidar so far ahead of the camera."""
    matrix = parse_transform(STATIC)[2].copy()
    matrix[2, 3] += metres
    return matrix


class Robot:
    """A peer that publishes TF as a robot does, with a lidar frame of its own: a node remembers other tests' frames."""

    def __init__(self, peer, lidar):
        self.peer, self.lidar = peer, lidar
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        kind = tf_message_type()
        self.publishers = {
            '/tf': peer.node.create_publisher(kind, '/tf', 100),
            '/tf_static': peer.node.create_publisher(kind, '/tf_static', latched),
        }
        end = time.monotonic() + 10
        while not all(item.get_subscription_count() for item in self.publishers.values()):
            assert time.monotonic() < end, 'the node did not subscribe to TF'
            time.sleep(0.02)

    def close(self):
        for publisher in self.publishers.values():
            self.peer.node.destroy_publisher(publisher)

    def send(self, topic, *transforms):
        message = TYPES.types[TF_MESSAGE](list(transforms))
        self.publishers[topic].publish(bytes(TYPES.serialize_cdr(message, TF_MESSAGE)))

    def static(self, parent, child, matrix):
        self.send('/tf_static', transform(parent, child, matrix))

    def moving(self, stamp_ns, metres=0.0):
        self.send('/tf', transform('camera', self.lidar, lidar_ahead(metres), stamp_ns))

    def depth(self, stamp_ns=None, timeout=0.3):
        """Median depth of a moment in metres, None if it is not answered."""
        stamp_ns = stamp_ns or time.time_ns()
        cloud = cloud_message(stamp_ns, replace(wall(stamp_ns=stamp_ns), frame_id=self.lidar))
        message = self.peer.answered(self.peer.moment(cloud=cloud, stamp_ns=stamp_ns), timeout=timeout)
        return message and float(np.median(read_rows(message, np.dtype('f4'), 1)))

    def depth_at_last(self, before=lambda: None, timeout=5.0):
        """Depth of the first moment that is answered; ``before`` is called before each."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            before()
            if (found := self.depth()) is not None:
                return found
        raise AssertionError(f'no depth comes: {self.peer.text("refusals")}')

    def refused(self, *words, before=lambda: None, timeout=2.0):
        """Moments get no depth until the diagnostics say all these words."""
        end = time.monotonic() + timeout
        while not all(word in self.peer.text('refusals') for word in (*words, f"'{self.lidar}'")):
            assert time.monotonic() < end, f'{self.peer.text("refusals")!r}, expected {words}'
            before()
            assert self.depth(timeout=0.1) is None


@pytest.fixture(scope='module')
def running():
    """One node without transforms for all tests."""
    domain = next_domain()
    peer = Peer(domain)
    peer.listen(Image, 'depth/image')
    arguments = ['--ros-args', '-p', 'estimator.method:=nearest', '-p', "transforms.static:=['']"]
    process = Process('depth_ros.nodes.depth_node', domain, arguments)
    peer.connected()
    yield peer
    code = process.end()
    peer.close()
    assert code == 0, process.output
    assert 'Traceback' not in process.output


@pytest.fixture
def robot(running, request):
    made = Robot(running, re.sub(r'\W', '_', request.node.name))
    yield made
    made.close()


def test_it_listens_to_tf_of_whatever_kind_there_is(running):
    expected = 'then TF (tf2_ros)' if importlib.util.find_spec('tf2_ros') else 'then TF'
    assert running.wait(lambda: str(running.value('estimator', 'transforms')).endswith(expected), 5.0)


def test_missing_is_named_and_late_is_answered(robot):
    begin = time.monotonic()
    robot.refused('no_transform', 'known frames', '/tf_static', 'transforms.static')
    while time.monotonic() < begin + 2.0:
        assert robot.depth(timeout=0.1) is None
    robot.static('camera', robot.lidar, lidar_ahead())
    assert robot.depth_at_last(timeout=2.0) == pytest.approx(8.0, abs=1e-3)


def test_the_frames_that_are_known_are_named(robot):
    robot.static('base', 'gripper', np.eye(4))
    robot.refused('no_transform', 'base', 'gripper')


def test_a_chain_of_static_and_moving_transforms(robot):
    mast, base = f'{robot.lidar}_mast', f'{robot.lidar}_base'
    robot.static('camera', base, np.eye(4))
    robot.static(mast, robot.lidar, np.eye(4))

    def raise_mast():
        robot.send('/tf', transform(base, mast, lidar_ahead(0.5), time.time_ns()))

    assert robot.depth_at_last(raise_mast) == pytest.approx(8.5, abs=1e-3)


def test_a_parameter_can_be_one_part_of_a_chain(depth):
    _, peer = depth(transforms__static=f"['{STATIC.replace('lidar', 'mount')}']")
    robot = Robot(peer, 'lidar')
    robot.static('mount', 'lidar', np.eye(4))
    assert robot.depth_at_last() == pytest.approx(8.0, abs=1e-3)


def test_a_parameter_in_a_chain_comes_before_tf(depth):
    _, peer = depth(transforms__static=f"['{STATIC.replace('lidar', 'mount')}']")
    robot = Robot(peer, 'lidar')
    robot.static('camera', 'mount', lidar_ahead(3.0))
    robot.send('/tf', transform('camera', 'mount', lidar_ahead(2.0), time.time_ns()))
    robot.static('mount', 'lidar', np.eye(4))
    assert robot.depth_at_last() == pytest.approx(8.0, abs=1e-3)


def test_a_moving_transform_is_that_of_the_time_of_the_image(robot):
    robot.depth_at_last(lambda: robot.moving(time.time_ns()))
    start = time.time_ns() + NS // 10
    robot.moving(start, 0.0)
    robot.moving(start + NS // 5, 2.0)
    time.sleep(0.2)
    assert robot.depth(start + NS // 10, timeout=2.0) == pytest.approx(9.0, abs=1e-3)


def test_a_transform_that_lags_is_held(robot):
    def lagging():
        robot.moving(time.time_ns() - NS // 2)

    assert robot.depth_at_last(lagging) == pytest.approx(8.0, abs=1e-3)
    for _ in range(5):
        lagging()
        assert robot.depth(timeout=2.0) == pytest.approx(8.0, abs=1e-3)


def test_a_transform_that_lags_too_far_is_named(robot):
    robot.refused('old_transform', '5.0', 's older than the image', 'transforms.max_age',
                  before=lambda: robot.moving(time.time_ns() - 5 * NS))
    assert robot.depth_at_last(lambda: robot.moving(time.time_ns())) == pytest.approx(8.0, abs=1e-3)


def test_tf_that_stops_is_named_within_two_seconds_and_may_come_back(robot):
    robot.depth_at_last(lambda: robot.moving(time.time_ns()))
    stopped = time.monotonic()
    while robot.depth(timeout=0.2) is not None:
        assert time.monotonic() < stopped + 2.0
    robot.refused('old_transform', timeout=stopped + 2.0 - time.monotonic())
    assert robot.depth_at_last(lambda: robot.moving(time.time_ns())) == pytest.approx(8.0, abs=1e-3)


def test_time_that_goes_back_as_when_a_bag_starts_again(robot):
    robot.depth_at_last(lambda: robot.moving(time.time_ns()))
    stamps = count(time.time_ns() - 3600 * NS, NS // 10)

    def earlier():
        stamp = next(stamps)
        robot.moving(stamp, 1.0)
        time.sleep(0.05)
        return robot.depth(stamp)

    found = next(found for found in (earlier() for _ in range(20)) if found is not None)
    assert found == pytest.approx(9.0, abs=1e-3)


def test_a_transform_that_is_not_finite_is_passed_over(robot):
    bad = lidar_ahead()
    bad[0, 3] = np.nan
    robot.static('camera', robot.lidar, bad)
    robot.refused('no_transform')
    robot.static('camera', robot.lidar, lidar_ahead())
    assert robot.depth_at_last() == pytest.approx(8.0, abs=1e-3)


def test_tables_of_a_release_before_jazzy_are_refused_and_not_read(monkeypatch):
    """They do not say whether there are keys; the address of the members is in that place, and code where that was."""
    support = tf_message._copy(tf_message._TypeSupport, tf_message._handle('introspection_c'))
    members = tf_message._copy(tf_message._Members, support.data)
    in_place_of_has_key = ctypes.c_void_p.from_buffer(members, tf_message._Members.has_key.offset)
    in_place_of_has_key.value = ctypes.addressof(members.members[0])
    support.data, real = ctypes.addressof(members), tf_message._handle
    monkeypatch.setattr(
        tf_message,
        '_handle',
        lambda kind, *of: ctypes.addressof(support) if (kind, of) == ('introspection_c', ()) else real(kind, *of),
    )
    with pytest.raises(ValueError, match='before Jazzy'):
        tf_message._made_of_path()
