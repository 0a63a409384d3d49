"""CameraInfo of both ROS generations, raw and rectified; odometry."""

from types import SimpleNamespace

import numpy as np
import pytest

from depth_ros.errors import CameraError, MessageError
from depth_ros.messages.camera_info import decode_camera, fill_camera_info, is_rectified
from depth_ros.messages.odometry import decode_odometry
from depth_ros.types import Camera


def info(upper=False, **changes):
    values = {
        'k': [500.0, 0, 320, 0, 501, 240, 0, 0, 1],
        'd': [-0.3, 0.1, 0.001, 0.0, 0.0],
        'r': [1.0, 0, 0, 0, 1, 0, 0, 0, 1],
        'p': [450.0, 0, 310, 0, 0, 451, 235, 0, 0, 0, 1, 0],
    }
    fields = {
        'header': SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=5), frame_id='/camera_optical'),
        'width': 640,
        'height': 480,
        'distortion_model': 'plumb_bob',
        'binning_x': 0,
        'binning_y': 0,
        'roi': SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
        **{name.upper() if upper else name: np.array(value) for name, value in values.items()},
    }
    fields.update(changes)
    return SimpleNamespace(**fields)


@pytest.mark.parametrize('upper', [False, True])
def test_raw_images_follow_k_and_d_and_rectified_ones_p_and_r(upper):
    raw, rectified = (decode_camera(info(upper), rectified) for rectified in (False, True))
    assert (raw.fx, raw.cx, raw.model, raw.distortion[0]) == (500, 320, 'plumb_bob', -0.3)
    assert (rectified.fx, rectified.cy, rectified.model, rectified.distortion.size) == (450, 235, 'none', 0)
    assert raw.frame_id == 'camera_optical'


def test_p_and_r_that_drivers_leave_empty():
    camera = decode_camera(info(p=np.zeros(12), r=np.zeros(9)), rectified=True)
    assert (camera.fx, camera.rotation.tolist()) == (500, np.eye(3).tolist())


def test_binning_and_region_of_interest_scale_and_shift():
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=200, do_rectify=False)
    camera = decode_camera(info(roi=roi, binning_x=2, binning_y=2), rectified=False)
    assert (camera.width, camera.height, camera.fx, camera.cx, camera.cy) == (200, 100, 250, 110, 100)


def test_more_coefficients_under_the_older_name():
    camera = decode_camera(info(d=np.array([0.1, 0, 0, 0, 0, 0.2, 0, 0])), rectified=False)
    assert camera.model == 'rational_polynomial'


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'k': np.zeros(9)}, 'fx=0.0'),
        ({'k': np.array([np.nan, 0, 320, 0, 500, 240, 0, 0, 1])}, 'fx=nan'),
        ({'distortion_model': 'double_sphere'}, 'double_sphere'),
        ({'distortion_model': ''}, 'without a distortion model'),
        ({'d': np.array([0.1, 0.2])}, '2 coefficients'),
        ({'k': np.array([500.0, 9, 320, 0, 500, 240, 0, 0, 1])}, 'skew'),
    ],
)
def test_no_calibration_is_refused(changes, text):
    with pytest.raises(CameraError, match=text):
        decode_camera(info(**changes), rectified=False)


@pytest.mark.parametrize(
    ('topic', 'd', 'setting', 'expected'),
    [
        ('/camera/image_rect', [0.1] * 5, 'auto', True),
        ('/camera/image_rect_color/compressed', [0.1] * 5, 'auto', True),
        ('/camera/image_raw', [0.1] * 5, 'auto', False),
        ('/camera/image_raw', [0.0] * 5, 'auto', True),
        ('/camera/image_raw', [0.1] * 5, 'rectified', True),
        ('/camera/image_rect', [0.1] * 5, 'raw', False),
        ('/zed/left/color/rect/image', [0.1] * 5, 'auto', True),
        ('/camera/left_rectified/compressed', [0.1] * 5, 'auto', True),
        ('/direct/image_raw', [0.1] * 5, 'auto', False),
        ('/camera/image_unrectified', [0.1] * 5, 'auto', False),
    ],
)
def test_whether_images_are_rectified(topic, d, setting, expected):
    assert is_rectified(info(d=np.array(d)), topic, setting) is expected


@pytest.mark.parametrize(
    'camera',
    [
        Camera(64, 48, 50.0, 51.0, 31.0, 23.0, 'optical'),
        Camera(64, 48, 50.0, 51.0, 31.0, 23.0, 'optical', 'equidistant', np.array([0.1, 0.2, 0.3, 0.4])),
        Camera(64, 48, 50.0, 51.0, 31.0, 23.0, 'optical', 'equidistant', np.zeros(4)),
    ],
)
def test_what_is_filled_is_read_back(camera):
    message = fill_camera_info(info(), camera, 7_000_000_009)
    again = decode_camera(message, rectified=camera.model == 'none')
    assert (again.width, again.fx, again.cy, again.model) == (64, 50.0, 23.0, camera.model)
    np.testing.assert_array_equal(again.distortion, camera.distortion)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (7, 9)


@pytest.mark.parametrize('d', [np.zeros(4), np.zeros(0)])
def test_a_fisheye_without_coefficients_is_no_pinhole(d):
    message = info(distortion_model='equidistant', d=d)
    assert not is_rectified(message, '/camera/image_raw', 'auto')
    assert is_rectified(message, '/camera/image_rect', 'auto')
    camera = decode_camera(message, rectified=False)
    assert (camera.model, camera.distortion.tolist()) == ('equidistant', [0.0] * 4)


def odometry(child='base_link', stamp=(2, 3), **changes):
    position = SimpleNamespace(x=1.0, y=2.0, z=3.0)
    orientation = SimpleNamespace(**{'x': 0.0, 'y': 0.0, 'z': 0.0, 'w': 1.0, **changes})
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp[0], nanosec=stamp[1]), frame_id='odom'),
        child_frame_id=child,
        pose=SimpleNamespace(pose=SimpleNamespace(position=position, orientation=orientation)),
    )


def test_odometry():
    pose = decode_odometry(odometry())
    assert pose.stamp_ns == 2_000_000_003
    assert pose.matrix[:3, 3].tolist() == [1, 2, 3]
    assert (pose.frame_id, pose.child_frame_id) == ('odom', 'base_link')


@pytest.mark.parametrize(
    ('message', 'text'),
    [
        (odometry(w=0.0), 'no direction'),
        (odometry(x=float('nan')), 'no direction'),
        (odometry(child=''), 'child_frame_id'),
        (odometry(stamp=(0, 0)), 'stamped 0'),
    ],
)
def test_odometry_that_says_nothing_is_refused(message, text):
    with pytest.raises(MessageError, match=text):
        decode_odometry(message)
