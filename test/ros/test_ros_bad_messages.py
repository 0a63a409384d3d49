"""Every bad message is named in the diagnostics within 2 s, and the node answers the next good image."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from ros_graph import HEIGHT, WIDTH, cloud_message, image_message, info_message, wall
from sensor_msgs.msg import PointCloud2, PointField

from depth_ros.messages.header import set_body
from depth_ros.messages.image import fill_image
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.types import Camera, LidarScan


def changed(message, **values):
    for name, value in values.items():
        setattr(message, name, value)
    return message


def cut(message, keep):
    set_body(message, np.frombuffer(message.data, np.uint8)[:keep].copy())
    return message


def with_k(stamp, value):
    message = info_message(stamp)
    k = np.array(message.k)
    k[0] = value
    message.k = k
    p = np.array(message.p)
    p[0] = value
    message.p = p
    return message


def without_z(stamp):
    message = cloud_message(stamp)
    message.fields = [item for item in message.fields if item.name != 'z']
    return message


BAD_IMAGES = {
    'wrong encoding': (lambda t: image_message(t, encoding='cmyk8'), ('bad_image', 'cmyk8', 'expected one of')),
    'step too small': (lambda t: changed(image_message(t), step=10), ('bad_image', 'step is 10')),
    'truncated': (lambda t: cut(image_message(t), 1000), ('bad_image', '1000 bytes', 'truncated')),
    'other size': (lambda t: image_message(t, width=80), ('bad_camera_info', '160x120', '80x120')),
    'stamp in the future': (lambda t: image_message(t + 100 * 10**9), ('no_lidar', 'older than the image')),
    'zero stamp': (lambda t: image_message(0), ('zero_stamp', 'stamped 0')),
}


@pytest.mark.parametrize('name', BAD_IMAGES)
def test_bad_image(shared_depth, name):
    make, words = BAD_IMAGES[name]
    stamp = time.time_ns()
    shared_depth.moment(image=make(stamp), stamp_ns=stamp)
    shared_depth.says('refusals', *words, timeout=2.0)
    assert shared_depth.answered(shared_depth.moment()) is not None


BAD_INFOS = {
    'zero focal length': (lambda t: with_k(t, 0.0), ('bad_camera_info', 'fx=0.0')),
    'infinite focal length': (lambda t: with_k(t, np.inf), ('bad_camera_info', 'fx=inf')),
    'NaN': (lambda t: with_k(t, np.nan), ('bad_camera_info', 'nan')),
    'another camera': (
        lambda t: info_message(t, Camera(320, 240, 240.0, 240.0, 159.5, 119.5, 'camera')),
        ('bad_camera_info', '320x240'),
    ),
}


@pytest.mark.parametrize('name', BAD_INFOS)
def test_bad_camera_info(shared_depth, name):
    make, words = BAD_INFOS[name]
    stamp = time.time_ns()
    shared_depth.moment(info=make(stamp), stamp_ns=stamp)
    shared_depth.says('refusals', *words, timeout=2.0)
    assert shared_depth.answered(shared_depth.moment()) is not None


BAD_CLOUDS = {
    'no z': (without_z, ('bad_points', 'expected x, y, z')),
    'truncated': (lambda t: cut(cloud_message(t), 100), ('bad_points', 'truncated')),
    'point_step too small': (lambda t: changed(cloud_message(t), point_step=6), ('bad_points',)),
    'zero stamp': (lambda t: cloud_message(0, wall(stamp_ns=0)), ('bad_points', 'stamped 0')),
}


@pytest.mark.parametrize('name', BAD_CLOUDS)
def test_bad_cloud(shared_depth, name):
    make, words = BAD_CLOUDS[name]
    stamp = time.time_ns()
    shared_depth.moment(cloud=make(stamp), stamp_ns=stamp)
    shared_depth.says('refusals', *words, timeout=2.0)
    assert shared_depth.answered(shared_depth.moment()) is not None


def test_cloud_from_the_future(shared_depth):
    stamp = time.time_ns()
    later = stamp + 100 * 10**9
    shared_depth.moment(cloud=cloud_message(later, wall(stamp_ns=later)), stamp_ns=stamp)
    shared_depth.says('inputs', 'points', 'in the future', timeout=2.0)
    assert shared_depth.answered(shared_depth.moment()) is not None


def big_endian_image(stamp):
    return changed(image_message(stamp), is_bigendian=1)


def nan_cloud(stamp):
    scan = wall(stamp_ns=stamp)
    points = scan.points.copy()
    points[::7] = np.nan
    points[::11, 0] = np.inf
    return cloud_message(stamp, LidarScan(stamp, points, 'lidar'))


def odd_cloud(stamp, dtype, step):
    """x, y, z of a dtype in points of an odd size."""
    points = wall(stamp_ns=stamp).points
    layout = np.dtype({'names': ['x', 'y', 'z'], 'formats': [dtype] * 3, 'itemsize': step,
                       'offsets': [1 + i * np.dtype(dtype).itemsize for i in range(3)]})
    values = np.zeros(len(points), layout)
    for axis, name in enumerate('xyz'):
        values[name] = points[:, axis]
    message = cloud_message(stamp)
    kind = PointField.FLOAT64 if dtype == 'f8' else PointField.FLOAT32
    message.fields = [PointField(name=n, offset=layout.fields[n][1], datatype=kind, count=1) for n in 'xyz']
    message.point_step, message.row_step = step, step * len(points)
    set_body(message, values)
    return message


def timed_cloud(stamp, offsets):
    scan = wall(stamp_ns=stamp)
    return cloud_message(stamp, LidarScan(stamp, scan.points, 'lidar', offsets(len(scan)).astype(np.int32)))


def dense_cloud(stamp):
    return cloud_message(stamp, wall(stamp_ns=stamp, rows=240, columns=1200))


ODD_BUT_GOOD = {
    'big-endian 8-bit image': {'image': big_endian_image},
    'NaN and Inf points': {'cloud': nan_cloud},
    'float64 points, odd point_step': {'cloud': lambda t: odd_cloud(t, 'f8', 29)},
    'float32 points, odd point_step': {'cloud': lambda t: odd_cloud(t, 'f4', 17)},
    'unsorted times': {'cloud': lambda t: timed_cloud(t, lambda n: np.random.default_rng(0).permutation(n) * 1000)},
    '100 times the points': {'cloud': dense_cloud},
    'no ring, no intensity': {
        'cloud': lambda t: fill_lidar_cloud(PointCloud2(), PointField, LidarScan(t, wall(stamp_ns=t).points, 'lidar'))
    },
}


@pytest.mark.parametrize('name', ODD_BUT_GOOD)
def test_odd_but_readable(shared_depth, name):
    stamp = time.time_ns()
    made = {kind: make(stamp) for kind, make in ODD_BUT_GOOD[name].items()}
    message = shared_depth.answered(shared_depth.moment(stamp_ns=stamp, **made))
    assert message is not None
    depth = np.frombuffer(message.data, np.float32)
    assert np.isfinite(depth).mean() > 0.9
    np.testing.assert_allclose(depth[np.isfinite(depth)], 8.0, atol=1e-3)


def test_cloud_without_points(depth):
    _, peer = depth()
    peer.settle()
    time.sleep(0.6)  # farther from the last sweep than pairing.max_age
    stamp = time.time_ns()
    empty = LidarScan(stamp, np.zeros((0, 3), np.float32), 'lidar')
    peer.moment(cloud=cloud_message(stamp, empty), stamp_ns=stamp)
    peer.says('refusals', 'no_overlap', 'none of 0 lidar points', timeout=2.0)
    assert peer.answered(peer.moment()) is not None


def test_time_going_back_starts_anew(shared_depth):
    past = time.time_ns() - 3600 * 10**9
    assert shared_depth.answered(shared_depth.moment(stamp_ns=past)) is not None
    assert shared_depth.answered(shared_depth.moment()) is not None


def test_big_endian_16_bit_image(shared_depth):
    stamp = time.time_ns()
    pixels = np.full((HEIGHT, WIDTH), 1000, '>u2')
    message = fill_image(image_message(stamp), pixels.view(np.uint16), 'mono16', 'camera', stamp)
    message.is_bigendian = 1
    assert shared_depth.answered(shared_depth.moment(image=message, stamp_ns=stamp)) is not None

