"""Which transforms of a running /tf are poses of the robot."""

from types import SimpleNamespace

import numpy as np
import pytest

from depth_ros.geometry.rigid import rigid
from depth_ros.messages.tf_poses import TfPoses


def transform(parent, child, x=0.0, stamp=0, yaw=0.0):
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=0, nanosec=stamp)),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=0.0, z=0.0),
            rotation=SimpleNamespace(x=0.0, y=0.0, z=np.sin(yaw / 2), w=np.cos(yaw / 2)),
        ),
    )


@pytest.fixture
def live():
    """Poses of a robot whose sensors /tf_static joins, and what is passed on."""
    found = []
    poses = TfPoses(lambda pose: found.append((pose.frame_id, pose.child_frame_id, pose.stamp_ns)))
    poses.add_static('base_link', 'lidar', np.eye(4))
    poses.add_static('base_link', 'camera', np.eye(4))
    return poses, found


def test_what_came_before_the_sensors_is_passed_on_when_they_are_known(live):
    poses, found = live
    for stamp in range(3):
        poses.add(transform('/map', 'odom', 0.1 * stamp, stamp))
        poses.add(transform('odom', '/base_link', 0.0, stamp))
        poses.add(transform('base_link', 'wheel', 0.1 * stamp, stamp))
    poses.set_lidar('lidar')
    assert not found
    poses.set_camera('camera')
    poses.add(transform('odom', 'base_link', 0.0, 3))
    assert found == [('odom', 'base_link', stamp) for stamp in range(4)]


def test_calibration_that_is_repeated_is_no_pose_and_what_moves_above_it_is():
    found = []
    poses = TfPoses(lambda pose: found.append((pose.child_frame_id, pose.stamp_ns)))
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    for stamp in range(4):
        poses.add(transform('lidar', 'camera', 0.1, stamp))
        poses.add(transform('odom', 'base_link', max(stamp - 1, 0), stamp))
        poses.add(transform('base_link', 'lidar', 1.0, stamp))
        assert found == [('base_link', moment) for moment in range(stamp + 1)] * (stamp >= 2)


def test_what_is_not_finite_is_passed_over():
    found = []
    poses = TfPoses(found.append)
    poses.set_camera('camera')
    poses.set_lidar('base_link')
    for x in (float('nan'), 1.0, float('inf'), 1.0):
        poses.add(transform('odom', 'base_link', x))
    assert not found


def test_static_transforms_that_come_late_count(live):
    poses, found = live
    poses.set_camera('camera')
    poses.set_lidar('mast')
    poses.add(transform('odom', 'base_link', 0.0, 0))
    poses.add(transform('odom', 'base_link', 1.0, 1))
    assert not found
    poses.add_static('base_link', 'mast', np.eye(4))
    assert [stamp for _, _, stamp in found] == [0, 1]


def test_a_joint_between_the_sensors_is_no_pose_of_the_robot():
    found = []
    poses = TfPoses(found.append)
    poses.add_static('base_link', 'camera', np.eye(4))
    poses.add_static('pan', 'lidar', np.eye(4))
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    for stamp in range(3):
        poses.add(transform('base_link', 'pan', 0.1 * stamp, stamp))
    assert not found


@pytest.fixture
def legged():
    """A robot whose legs carry a body, on which a head turns with the sensors; and the poses that are found."""
    found = []
    poses = TfPoses(found.append)
    poses.add_static('body', 'neck', rigid((0, 0, 1), (0, 0, 0, 1)))
    poses.add_static('head', 'lidar', np.eye(4))
    poses.add_static('head', 'camera', np.eye(4))
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    return poses, found


def at(pose):
    return pose.frame_id, pose.child_frame_id, pose.stamp_ns, *np.round(pose.matrix[:3, 3], 9)


def test_what_moves_above_the_sensors_is_composed_up_to_odometry(legged):
    poses, found = legged
    for stamp in range(0, 40, 10):
        poses.add(transform('map', 'odom', 7.0 * stamp, stamp))
        poses.add(transform('odom', 'footprint', 1.0 * stamp, stamp))
        poses.add(transform('footprint', 'body', 0.0, stamp, yaw=np.pi / 2))
        poses.add(transform('neck', 'head', 0.1 * stamp, stamp))
    # Before the second round nobody knows that the footprint moves; ahead of the body is then to its left.
    expected = [('odom', 'head', stamp, stamp, 0.1 * stamp, 1.0) for stamp in (10, 20, 30)]
    assert [at(pose) for pose in found[1:]] == expected


def test_a_composed_pose_waits_for_what_is_above_it(legged):
    poses, found = legged
    for stamp in (0, 20):
        poses.add(transform('odom', 'body', 1.0 * stamp, stamp))
    for stamp in (10, 15, 25, 30):
        poses.add(transform('neck', 'head', 0.0, stamp))
    assert [at(pose)[2:4] for pose in found] == [(10, 10.0), (15, 15.0)]
    poses.add(transform('odom', 'body', 30.0, 30))
    assert [at(pose)[2:4] for pose in found[2:]] == [(25, 25.0), (30, 30.0)]


def test_a_composed_pose_from_before_what_is_above_it_is_left_out(legged):
    poses, found = legged
    for stamp in (10, 20):
        poses.add(transform('odom', 'body', 1.0 * stamp, stamp))
    for stamp in (5, 12):
        poses.add(transform('neck', 'head', 0.0, stamp))
    assert [pose.stamp_ns for pose in found] == [12]


def test_composed_poses_go_on_where_time_jumps_back(legged):
    poses, found = legged
    second = 10**9
    for start in (30 * second, 0):
        for stamp in (start, start + 10, start + 20):
            poses.add(transform('odom', 'body', 1.0 * (stamp - start), stamp))
            poses.add(transform('neck', 'head', 0.0, stamp + 5))
    assert [pose.stamp_ns for pose in found if pose.frame_id == 'odom'] == [30 * second + 15, 5, 15]


def test_what_rests_above_the_sensors_changes_nothing(legged):
    poses, found = legged
    for stamp in (10, 20):
        poses.add(transform('odom', 'footprint', 3.0, 5))  # repeated, as ROS 1 does, and it may lag
        poses.add(transform('footprint', 'body', 1.0 * stamp, stamp))
        poses.add(transform('neck', 'head', 0.0, stamp))
    assert [pose.frame_id for pose in found] == ['neck', 'footprint']


def test_where_no_frame_is_called_after_odometry_the_lowest_stands_alone(live):
    poses, found = live
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    for stamp in range(20):
        if stamp % 5 == 0:
            poses.add(transform('map', 'vio', 7.0 * stamp, stamp))
        poses.add(transform('vio', 'base_link', 0.1 * stamp, stamp))
    assert found == [('vio', 'base_link', stamp) for stamp in range(20)]


def test_ever_new_frames_are_forgotten_and_poses_go_on(live):
    poses, found = live
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    for stamp in range(2500):
        poses.add(transform('map', f'person_{stamp}', 1.0, stamp))
        if stamp % 100 == 0:
            poses.add(transform('odom', 'base_link', 0.1 * stamp, stamp))
            poses.add(transform('base_link', 'wheel', 0.1 * stamp, stamp))
    assert [stamp for _, _, stamp in found] == list(range(0, 2500, 100))
    assert len(poses._seen) <= 1000
    assert len(poses._seen['base_link', 'wheel'].held) == 25, 'what is heard again and again stays'
