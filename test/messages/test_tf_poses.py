"""Which transforms of a running /tf are poses of the robot."""

from types import SimpleNamespace

import pytest

from depth_ros.messages.tf_poses import LivePoses


def transform(parent, child, x=0.0, stamp=0):
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=stamp),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=0.0, z=0.0), rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
        ),
    )


@pytest.fixture
def live():
    """Poses of a robot whose sensors /tf_static joins, and what is passed on."""
    found = []
    poses = LivePoses(lambda item: found.append((item.header.frame_id, item.child_frame_id, item.header.stamp)))
    poses.add_static('base_link', 'lidar')
    poses.add_static('base_link', 'camera')
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
    assert found == [('odom', '/base_link', 0), ('odom', '/base_link', 1), ('odom', '/base_link', 2),
                     ('odom', 'base_link', 3)]


def test_calibration_that_is_repeated_is_no_pose_and_what_moves_above_it_is():
    found = []
    poses = LivePoses(lambda item: found.append((item.child_frame_id, item.header.stamp)))
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    for stamp in range(4):
        poses.add(transform('lidar', 'camera', 0.1, stamp))
        poses.add(transform('odom', 'base_link', max(stamp - 1, 0), stamp))
        poses.add(transform('base_link', 'lidar', 1.0, stamp))
        assert found == [('base_link', moment) for moment in range(stamp + 1)] * (stamp >= 2)


def test_what_is_not_finite_is_passed_over():
    found = []
    poses = LivePoses(found.append)
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
    poses.add_static('base_link', 'mast')
    assert [stamp for _, _, stamp in found] == [0, 1]


def test_a_joint_between_the_sensors_is_no_pose_of_the_robot():
    found = []
    poses = LivePoses(found.append)
    poses.add_static('base_link', 'camera')
    poses.add_static('pan', 'lidar')
    poses.set_camera('camera')
    poses.set_lidar('lidar')
    for stamp in range(3):
        poses.add(transform('base_link', 'pan', 0.1 * stamp, stamp))
    assert not found
