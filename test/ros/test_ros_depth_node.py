"""The depth node on good input: what comes out, and what is said about it."""

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_graph import (
    CAMERA,
    HEIGHT,
    STATIC,
    WIDTH,
    cloud_message,
    image_message,
    info_message,
    next_domain,
    stamp_of,
    wall,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from depth_ros.estimators.registry import create_estimator
from depth_ros.messages.camera_info import decode_camera
from depth_ros.messages.header import set_stamp
from depth_ros.messages.image import decode_image, read_rows
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.nodes.warm_up import warm_up
from depth_ros.settings import from_flat
from depth_ros.types import Camera


def set_parameter(peer, name, value):
    client = peer.node.create_client(SetParameters, 'depth_node/set_parameters')
    assert client.wait_for_service(5.0)
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    future = client.call_async(request)
    end = time.monotonic() + 5
    while not future.done() and time.monotonic() < end:
        time.sleep(0.01)
    return future.result().results[0]


@pytest.mark.parametrize('limits', [(0.1, 1.0), (0.2, 4.0), (9.0, 250.0)])
def test_nodes_warm_up_whatever_depths_count(limits):
    settings = from_flat(dict(zip(('projection.min_depth', 'projection.max_depth'), limits, strict=True)))
    warm_up(create_estimator(settings, 'classical'), settings)


COMPILED = '''
import gc
import numpy as np
from numba.core.registry import CPUDispatcher
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from depth_ros.estimators.registry import create_estimator
from depth_ros.geometry.cloud import xyzrgb
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.image import fill_image
from depth_ros.nodes.warm_up import warm_up
from depth_ros.settings import Settings, from_flat
from depth_ros.types import Camera, SparseDepth

def compiled():
    return sum(len(item.signatures) for item in gc.get_objects() if isinstance(item, CPUDispatcher))

settings = from_flat({'estimator.method': 'classical'})
estimator = create_estimator(settings)
warm_up(estimator, settings)
before = compiled()
camera = Camera(64, 48, 50.0, 50.0, 31.5, 23.5, 'camera')
decoder = FrameDecoder('image', Settings())
decoder.add_info(fill_camera_info(CameraInfo(), camera, 1))
message = fill_image(Image(), np.zeros((48, 80, 3), np.uint8), 'bgr8', 'camera', 1)
message.width = 64
axis = np.arange(8, 40, 8, dtype=np.float32)
u, v = (part.ravel() for part in np.meshgrid(axis, axis))
depth = np.full(len(u), 5, np.float32)
points = SparseDepth(u, v, depth, 0.01 * depth, (48, 64))
frame = decoder.decode(deserialize_message(serialize_message(message), Image))
depth, _ = estimator.estimate(frame, points)
xyzrgb(depth, None, frame.image, frame.encoding, frame.camera, 1, np.empty((48, 64, 4), np.float32))
print('compiled', before, compiled())
'''


def test_the_first_image_waits_for_no_compiler_also_with_padded_rows():
    words = subprocess.run([sys.executable, '-c', COMPILED], capture_output=True, text=True, check=True).stdout.split()
    assert words[0] == 'compiled'
    assert int(words[1]) > 5
    assert words[1] == words[2]


@pytest.mark.parametrize('are_checked', [False, True], ids=('', 'fields checked'))
def test_all_outputs_have_stamp_frame_and_truth(depth, monkeypatch, are_checked):
    if are_checked:  # as always before Jazzy
        monkeypatch.setenv('ROS_PYTHON_CHECK_FIELDS', '1')
    _, peer = depth()
    topics = {'depth/camera_info': CameraInfo, 'depth/std': Image, 'depth/points': PointCloud2,
              'depth/image_colored': Image}
    for topic, kind in topics.items():
        peer.listen(kind, topic)
    peer.settle()
    time.sleep(0.3)
    stamp = time.time_ns()
    image = image_message(stamp)
    peer.moment(image=image, stamp_ns=stamp)
    found = {topic: peer.answered(stamp, topic) for topic in ('depth/image', *topics)}
    assert all(message.header.frame_id == 'camera' for message in found.values())
    depth_image = read_rows(found['depth/image'], np.dtype('f4'), 1)
    assert found['depth/image'].encoding == '32FC1'
    np.testing.assert_allclose(depth_image, 8.0, atol=1e-4)
    std = read_rows(found['depth/std'], np.dtype('f4'), 1)
    assert (std > 0).all()
    assert decode_camera(found['depth/camera_info'], rectified=True).shape == CAMERA.shape
    cloud = found['depth/points']
    assert (cloud.height, cloud.width, cloud.point_step) == (HEIGHT, WIDTH, 16)
    points = decode_cloud(cloud).points.reshape(HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(points[60, 80], [0.5 / 120 * 8, 0.5 / 120 * 8, 8], atol=1e-4)
    colour = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, 16)[:, :, 12:15]
    np.testing.assert_array_equal(colour[:, :, ::-1], decode_image(image)[0])
    assert found['depth/image_colored'].encoding == 'rgb8'


def test_millimetres_on_request_while_it_runs(depth):
    _, peer = depth()
    peer.listen(Image, 'depth/std')
    peer.settle()
    assert set_parameter(peer, 'output.encoding', '16UC1').successful
    stamp = peer.moment()
    message = peer.answered(stamp)
    assert message.encoding == '16UC1'
    assert (read_rows(message, np.dtype('u2'), 1) == 8000).all()
    std = peer.answered(stamp, 'depth/std')
    assert (read_rows(std, np.dtype('f4'), 1) > 0).all()
    far = peer.moment(cloud=cloud_message(0, wall(100.0, time.time_ns())))
    assert (read_rows(peer.answered(far), np.dtype('u2'), 1) == 0).all(), 'more than 65.535 m'
    assert np.isnan(read_rows(peer.answered(far, 'depth/std'), np.dtype('f4'), 1)).all()


def test_compressed_images_are_read_where_only_they_are_published(depth):
    process, peer = depth(input__image_transport='auto')
    peer.node.destroy_publisher(peer._out['image'])
    peer.compressed()
    peer.connected()
    end, message = time.monotonic() + 10, None
    while message is None and time.monotonic() < end:
        stamp = time.time_ns()
        image = CompressedImage(format='jpeg')
        image.header.frame_id = 'camera'
        set_stamp(image.header.stamp, stamp)
        image.data = cv2.imencode('.jpg', np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
        message = peer.answered(peer.moment(image=image, stamp_ns=stamp), timeout=0.5)
    np.testing.assert_allclose(read_rows(message, np.dtype('f4'), 1), 8.0, atol=1e-4)
    assert peer.wait(lambda: peer.value('inputs', 'image topic') == '/image/compressed', 3.0)
    assert process.popen.poll() is None


# Not all drivers name compressed images as image_transport does.
@pytest.mark.parametrize('topic', ['image/compressed:=/cam/image_rect/compressed', 'image:=/cam/image_rect_jpeg'])
def test_rectified_is_judged_by_the_compressed_topic_that_comes_later(start, peer, topic):
    domain = next_domain()
    other = peer(domain)
    other.listen(Image, 'depth/image')
    other.listen(CameraInfo, 'depth/camera_info')
    other.node.destroy_publisher(other._out['image'])
    start(
        'depth_ros.nodes.depth_node', domain, '--ros-args', '-p', 'estimator.method:=nearest',
        '-p', f"transforms.static:=['{STATIC}']", '-r', topic,
    )
    end, answer = time.monotonic() + 20, None
    while not other._out['points'].get_subscription_count():  # now it has chosen the raw topic, for there is none
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)
    other._out['image'] = other.node.create_publisher(CompressedImage, topic.split(':=')[1], 20)
    lens = Camera(WIDTH, HEIGHT, 120.0, 120.0, 79.5, 59.5, 'camera', 'plumb_bob', np.array([-0.3, 0.1, 0, 0, 0.0]))
    while answer is None and time.monotonic() < end:
        stamp = time.time_ns()
        image = CompressedImage(format='png')
        image.data = cv2.imencode('.png', np.zeros((HEIGHT, WIDTH), np.uint8))[1].tobytes()
        image.header.frame_id = 'camera'
        set_stamp(image.header.stamp, stamp)
        other.moment(image=image, info=info_message(stamp, lens), stamp_ns=stamp)
        answer = other.answered(stamp, 'depth/camera_info', timeout=0.5)
    assert not np.any(answer.d)


def test_nothing_is_computed_for_nobody(depth):
    _, peer = depth()
    peer.settle()
    for subscription in list(peer.node.subscriptions):
        if subscription.topic_name.endswith('depth/image'):
            peer.node.destroy_subscription(subscription)
    peer.says('estimator', 'nobody subscribes')
    answered = peer.value('estimator', 'answered')
    for _ in range(5):
        peer.moment()
    assert peer.wait(lambda: int(peer.value('estimator', 'not answered, nobody listened')) >= 5, 3.0)
    assert peer.value('estimator', 'answered') == answered


def test_a_read_only_parameter_is_refused_with_the_reason(depth):
    _, peer = depth()
    result = set_parameter(peer, 'estimator.method', 'linear')
    assert not result.successful
    assert 'read-only' in result.reason


def test_a_value_out_of_range_is_refused_with_the_range(depth):
    _, peer = depth()
    result = set_parameter(peer, 'pairing.max_age', 99.0)
    assert not result.successful
    assert '10' in result.reason
    result = set_parameter(peer, 'output.encoding', 'mono8')
    assert not result.successful
    assert '32FC1, 16UC1' in result.reason


def test_a_change_of_max_depth_takes_effect_at_once(depth):
    _, peer = depth()
    peer.settle()
    assert set_parameter(peer, 'projection.max_depth', 5.0).successful
    peer.moment()
    peer.says('refusals', 'no_overlap', timeout=2.0)
    assert set_parameter(peer, 'projection.max_depth', 250.0).successful
    assert peer.answered(peer.moment()) is not None


def test_it_grades_itself_on_withheld_points(depth):
    _, peer = depth(grading__withhold=0.2)
    peer.settle()
    assert peer.wait(lambda: peer.value('grade', 'MAE') is not None, 3.0)
    assert int(peer.value('grade', 'points')) > 100
    assert float(peer.value('grade', 'MAE').split()[0]) < 0.01
    assert float(peer.value('grade', 'coverage')) > 0.9


def test_an_image_waits_for_the_sweep_that_is_nearer(depth):
    _, peer = depth(pairing__wait=0.5)
    peer.settle()
    now = time.time_ns()
    for age in (0.2, 0.1):
        early = now - int(age * 1e9)
        peer.send(cloud_message(early, wall(distance=4.0, stamp_ns=early)))
    peer.send(info_message(now))
    time.sleep(0.05)
    peer.send(image_message(now))
    time.sleep(0.1)
    peer.send(cloud_message(now, wall(distance=8.0, stamp_ns=now)))
    message = peer.answered(now)
    np.testing.assert_allclose(read_rows(message, np.dtype('f4'), 1), 8.0, atol=1e-4)


def test_a_new_calibration_is_picked_up(depth):
    _, peer = depth()
    peer.listen(CameraInfo, 'depth/camera_info')
    peer.settle()
    stamp = time.time_ns()
    zoomed = Camera(WIDTH, HEIGHT, 150.0, 150.0, 79.5, 59.5, 'camera')
    peer.moment(info=info_message(stamp, zoomed), stamp_ns=stamp)
    assert peer.answered(stamp, 'depth/camera_info').k[0] == 150.0
    assert stamp_of(peer.answered(stamp)) == stamp
