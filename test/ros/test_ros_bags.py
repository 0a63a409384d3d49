"""Player and recorder around the live node: a recording gives the same pixels live as in the replay."""

import ctypes
import ctypes.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.time import Time
from ros_graph import CAMERA, STATIC, next_domain, wall
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.bags.writer import BagWriter
from depth_ros.estimators.registry import create_estimator
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.geometry.rigid import parse_transform
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.image import fill_image, read_rows
from depth_ros.messages.odometry import fill_transform
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.networks.weights import EXPORTED
from depth_ros.pipeline import DepthPipeline
from depth_ros.ros import lifecycle
from depth_ros.settings import from_flat
from depth_ros.types import LidarScan

NODES = 'depth_ros.nodes.'
START = 1_700_000_000 * 10**9


@pytest.fixture
def bag(tmp_path):
    return write_drive(tmp_path / 'drive')


def write_drive(path, lidar=True, moving=False):
    """12 images at 10 Hz with a lidar of 5 Hz that looks at a wall coming nearer, over rough ground.

    Where the robot is ``moving``, at 2 m/s, /tf alone says so.
    """
    rng = np.random.default_rng(1)
    with BagWriter(path) as writer:
        message = writer.message('tf2_msgs/msg/TFMessage')
        mount = writer.message('geometry_msgs/msg/TransformStamped')
        message.transforms = [fill_transform(mount, *parse_transform(STATIC), START)]
        writer.write('/tf_static', message, START)
        poses = []
        for stamp in range(START, START + 1_200_000_000, 50_000_000) if moving else ():
            matrix = np.eye(4)
            matrix[2, 3] = 2 * (stamp - START) / 1e9
            message = writer.message('tf2_msgs/msg/TFMessage')
            edge = writer.message('geometry_msgs/msg/TransformStamped')
            message.transforms = [fill_transform(edge, 'odom', 'camera', matrix, stamp)]
            poses.append((stamp, message))
        for i in range(12):
            stamp = START + i * 100_000_000
            pixels = rng.integers(0, 255, (*CAMERA.shape, 3), np.uint8)
            info = fill_camera_info(writer.message('sensor_msgs/msg/CameraInfo'), CAMERA, stamp)
            image = fill_image(writer.message('sensor_msgs/msg/Image'), pixels, 'rgb8', 'camera', stamp)
            if lidar and i % 2 == 0:
                points = wall(distance=10 - 0.2 * i).points + rng.normal(0, 0.3, (2880, 3)).astype(np.float32)
                cloud = fill_lidar_cloud(
                    writer.message('sensor_msgs/msg/PointCloud2'), writer.type('sensor_msgs/msg/PointField'),
                    LidarScan(stamp, points, 'lidar'),
                )
                writer.write('/points', cloud, stamp)
            for logged, message in poses[2 * i : 2 * i + 1]:
                writer.write('/tf', message, logged)
            writer.write('/camera_info', info, stamp + 10_000_000)
            writer.write('/image', image, stamp + 30_000_000)
            for logged, message in poses[2 * i + 1 : 2 * i + 2]:
                writer.write('/tf', message, logged)
    return path


@pytest.mark.parametrize(
    ('method', 'moving'), [('classical', False), ('classical', True), ('exported', False)],
    ids=('lidar', 'lidar and poses of tf alone', 'no lidar'),
)  # fmt: skip
def test_live_and_replay_give_the_same_pixels(start, tmp_path, method, moving, request):
    domain, recorded = next_domain(), tmp_path / 'recorded'
    settings = {'estimator.method': method, 'grading.withhold': 0.0}
    if method == 'exported':
        settings['estimator.checkpoint'] = str(request.getfixturevalue('weights') / EXPORTED.name)
    # The network without lidar: that is the harder case.
    bag = write_drive(tmp_path / 'drive', lidar=method == 'classical', moving=moving)
    parameters = {**settings, 'use_sim_time': 'true', 'input.max_delay': 10.0}
    arguments = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    node = start(NODES + 'depth_node', domain, '--ros-args', *arguments)
    node.wait_for(f'method {method}', 60.0)
    recorder = start(NODES + 'bag_recorder', domain, recorded, '/depth/image', '/depth/std', '--idle', '3')
    player = start(NODES + 'bag_player', domain, bag, '--rate', '0.5', '--start-delay', '2',
                   '--wait-for', '/image', '/camera_info', '/depth/image', '/depth/std',
                   *(['/tf_static', '/points'] if method == 'classical' else []), *(['/tf'] if moving else []))
    assert player.popen.wait(60.0) == 0, player.output
    assert recorder.popen.wait(60.0) == 0, recorder.output
    assert node.end() == 0, node.output

    with BagReader(recorded) as reader:
        live = {'/depth/image': {}, '/depth/std': {}}
        for item in reader.messages():
            live[item.topic][stamp_ns(item.message)] = read_rows(item.message, np.dtype('f4'), 1)
    settings = from_flat(settings)
    with Recording(bag, settings=settings) as recording:
        pipeline = DepthPipeline(settings, recording.transforms, create_estimator(settings))
        replayed = {answer.frame.stamp_ns: answer for answer in replay(recording.events(), pipeline, ReplayCounts())}
    assert len(replayed) == 12
    compensated = sum(answer.basis.motion == 'compensated' for answer in replayed.values())
    assert compensated > 8 if moving else compensated == 0
    assert set(live['/depth/image']) == set(replayed), node.output
    for stamp, answer in replayed.items():
        np.testing.assert_array_equal(live['/depth/image'][stamp], answer.depth)
        np.testing.assert_array_equal(live['/depth/std'][stamp], answer.std)


def test_looping_starts_time_anew_and_depth_goes_on(start, depth, bag):
    process, peer = depth(use_sim_time='true')
    start(NODES + 'bag_player', process.domain, bag, '--rate', '3', '--loop', '--wait-for', '/image')
    assert peer.wait(lambda: len(peer.received['depth/image']) > 30, 20.0), process.output
    assert process.popen.poll() is None


BAD_BAGS = {
    'missing': (lambda path: None, 'does not exist'),
    'empty folder': (lambda path: path.mkdir(), 'holds no bag'),
    'not a bag': (lambda path: (path.mkdir(), (path / 'x.mcap').write_bytes(b'not a bag' * 100)), 'cannot be read'),
}


@pytest.mark.parametrize('name', BAD_BAGS)
def test_a_bad_bag_is_one_line_and_exit_code_2(start, tmp_path, name):
    make, words = BAD_BAGS[name]
    make(tmp_path / 'bag')
    player = start(NODES + 'bag_player', next_domain(), tmp_path / 'bag')
    assert player.popen.wait(20.0) == 2
    player._reader.join(2.0)
    assert words in player.output
    assert 'Traceback' not in player.output


def test_transforms_of_ros_1_are_played_by_the_name_that_they_have_in_ros_2(start, tmp_path):
    path, name = tmp_path / 'old.bag', 'tf/msg/tfMessage'
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg('geometry_msgs/TransformStamped[] transforms', name))
    with Ros1Writer(path) as writer:
        connection = writer.add_connection('/tf', name, typestore=store)
        for index in range(20):
            writer.write(connection, START + index * 10**8, store.serialize_ros1(store.types[name]([]), name))
    player = start(NODES + 'bag_player', next_domain(), path)
    assert player.popen.wait(20.0) == 0, player.output
    player._reader.join(2.0)
    assert '20 messages' in player.output


def test_waiting_for_nobody_ends(start, bag):
    player = start(NODES + 'bag_player', next_domain(), bag, '--wait-for', '/image', '--wait-timeout', '0.3')
    assert player.popen.wait(20.0) == 2
    player._reader.join(2.0)
    assert "nobody subscribed to '/image'" in player.output


@pytest.mark.parametrize('arguments', [[], ['--wait-for', '/nobody']])
def test_the_player_can_be_terminated(start, bag, arguments):
    player = start(NODES + 'bag_player', next_domain(), bag, '--rate', '0.1', *arguments)
    time.sleep(3.0)
    assert player.end(signal.SIGTERM) == 0, player.output
    assert player.output == ''


@pytest.mark.parametrize(('node', 'options', 'said'), [
    ('bag_player', ['no_bag', '--start-delay', '-1'], '--start-delay is -1.0'),
    ('bag_recorder', ['no_bag', '/image', '--idle', '-1'], '--idle is -1.0'),
    ('bag_player', ['no_bag', '--ros-args', '--params-file', '/nonexistent.yaml'], '/nonexistent.yaml'),
])  # fmt: skip
def test_arguments_of_no_sense_are_refused(start, node, options, said):
    process = start(NODES + node, next_domain(), *options)
    assert process.popen.wait(20.0) == 2
    process._reader.join(2.0)
    assert said in process.output


def test_a_recording_by_a_simulated_clock_begins_when_the_clock_comes(start, peer, tmp_path):
    domain = next_domain()
    by_clock = ['--ros-args', '-p', 'use_sim_time:=true']
    recorder = start(NODES + 'bag_recorder', domain, tmp_path / 'new', '/image', *by_clock)
    node = peer(domain).node
    images, clock = node.create_publisher(Image, '/image', 10), node.create_publisher(Clock, '/clock', 10)
    end = time.monotonic() + 20
    while not clock.get_subscription_count():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    images.publish(Image())
    while not images.get_subscription_count():
        assert time.monotonic() < end
        clock.publish(Clock(clock=Time(nanoseconds=START).to_msg()))
        time.sleep(0.05)
    for _ in range(5):
        images.publish(Image())
        time.sleep(0.1)
    assert recorder.end(signal.SIGINT) == 0, recorder.output
    with BagReader(tmp_path / 'new') as reader:
        assert reader.start_ns == START


def test_a_recording_without_messages_or_place_leaves_nothing(start, tmp_path):
    domain = next_domain()
    recorder = start(NODES + 'bag_recorder', domain, tmp_path / 'new', '/nothing')
    time.sleep(2.0)
    assert recorder.end(signal.SIGINT) == 2
    assert 'nothing came on /nothing' in recorder.output
    (tmp_path / 'file').write_text('')
    recorder = start(NODES + 'bag_recorder', domain, tmp_path / 'file' / 'bag', '/nothing')
    assert recorder.popen.wait(20.0) == 2
    recorder._reader.join(2.0)
    assert 'cannot write' in recorder.output
    assert [item.name for item in tmp_path.iterdir()] == ['file']


def test_a_topic_of_unknown_type_does_not_end_a_recording(start, peer, tmp_path):
    hidden = tmp_path / 'hidden' / 'nav_msgs'
    hidden.mkdir(parents=True)
    (hidden / '__init__.py').write_text('raise ImportError')
    domain = next_domain()
    path = os.pathsep.join([str(hidden.parent), os.environ.get('PYTHONPATH', '')])
    recorder = start(NODES + 'bag_recorder', domain, tmp_path / 'new', '/image', '/odometry', PYTHONPATH=path)
    alone = start(NODES + 'bag_recorder', domain, tmp_path / 'none', '/odometry', PYTHONPATH=path)
    other = peer(domain)
    images = other.node.create_publisher(Image, '/image', 10)
    other.node.create_publisher(Odometry, '/odometry', 10)
    recorder.wait_for("cannot record '/odometry': message type nav_msgs/msg/Odometry is not installed")
    assert alone.popen.wait(20.0) == 2
    assert not (tmp_path / 'none').exists()
    end = time.monotonic() + 20
    while not images.get_subscription_count():
        assert time.monotonic() < end
        time.sleep(0.05)
    for _ in range(5):
        images.publish(Image())
        time.sleep(0.1)
    assert recorder.end(signal.SIGINT) == 0, recorder.output
    assert 'nothing on /odometry' in recorder.output
    with BagReader(tmp_path / 'new') as reader:
        assert [topic.name for topic in reader.topics] == ['/image']


def test_a_recording_onto_a_full_disk_is_one_line_and_leaves_nothing(start, peer, tmp_path):
    libc = ctypes.CDLL(ctypes.util.find_library('c'), use_errno=True)
    disk = tmp_path / 'disk'
    disk.mkdir()
    if libc.mount(b'tmpfs', str(disk).encode(), b'tmpfs', 0, b'size=3m') != 0:
        pytest.skip('mounting a small disk needs root')
    try:
        domain = next_domain()
        recorder = start(NODES + 'bag_recorder', domain, disk / 'bag', '/image')
        publisher = peer(domain).node.create_publisher(Image, '/image', 10)
        noise = np.random.default_rng(0).integers(0, 255, (480, 640), np.uint8)
        message = fill_image(Image(), noise, 'mono8', 'camera', START)
        end = time.monotonic() + 30
        while recorder.popen.poll() is None and time.monotonic() < end:
            publisher.publish(message)
            time.sleep(0.05)
        assert recorder.popen.wait(5.0) == 2
        recorder._reader.join(2.0)
        assert 'the disk is full' in recorder.output
        assert 'Traceback' not in recorder.output
        assert list(disk.iterdir()) == []
    finally:
        libc.umount2(str(disk).encode(), 2)


_INTERRUPTED = '''
import os, signal, sys, time
from depth_ros.bags.writer import BagWriter
from depth_ros.nodes import bag_recorder

write = BagWriter.write_raw

def interrupted(self, *what):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    write(self, *what)

BagWriter.write_raw = interrupted
sys.exit(bag_recorder.main(sys.argv[1:]))
'''


def test_a_message_in_the_midst_of_which_a_recording_is_interrupted_is_whole(peer, tmp_path):
    domain = next_domain()
    process = subprocess.Popen(
        [sys.executable, '-c', _INTERRUPTED, str(tmp_path / 'new'), '/image'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    other = peer(domain)
    publisher = other.node.create_publisher(Image, '/image', 10)
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        publisher.publish(Image())
        time.sleep(0.1)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output
    with BagReader(tmp_path / 'new') as reader:
        assert len(list(reader.messages(['/image']))) >= 1


def test_a_signal_that_takes_the_middleware_away_from_under_a_callback_is_an_end(monkeypatch):
    error = rclpy_implementation.RCLError('context is invalid')
    for alive in (True, False):
        monkeypatch.setattr(lifecycle.rclpy, 'ok', lambda alive=alive: alive)
        expected = rclpy_implementation.RCLError if alive else ExternalShutdownException
        with pytest.raises(expected), lifecycle.shutdown_by_its_name():
            raise error


def test_a_recording_that_is_interrupted_is_kept(start, peer, tmp_path):
    domain = next_domain()
    recorder = start(NODES + 'bag_recorder', domain, tmp_path / 'new', '/image')
    other = peer(domain)
    publisher = other.node.create_publisher(Image, '/image', 10)
    end = time.monotonic() + 20
    while not publisher.get_subscription_count():
        assert time.monotonic() < end
        time.sleep(0.05)
    for _ in range(5):
        publisher.publish(Image())
        time.sleep(0.1)
    time.sleep(0.3)
    assert recorder.end(signal.SIGINT) == 0, recorder.output
    with BagReader(tmp_path / 'new') as reader:
        assert reader.topic('/image').count >= 4
