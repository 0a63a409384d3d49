"""Transforms: equations with known answers, and the tree."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from depth_ros.errors import SettingsError, ShapeError, TransformError
from depth_ros.geometry.rigid import (
    TransformTree,
    interpolate,
    invert,
    parse_transform,
    quaternion_to_rotation,
    rigid,
    rotation_to_quaternion,
)


def test_quaternions_agree_with_scipy_both_ways():
    rotations = Rotation.random(200, random_state=1)
    for quaternion, matrix in zip(rotations.as_quat(), rotations.as_matrix(), strict=True):
        np.testing.assert_allclose(quaternion_to_rotation(quaternion), matrix, atol=1e-12)
        np.testing.assert_allclose(quaternion_to_rotation(rotation_to_quaternion(matrix)), matrix, atol=1e-9)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_half_turns_have_a_quaternion(axis):
    matrix = -np.eye(3)
    matrix[axis, axis] = 1
    np.testing.assert_allclose(quaternion_to_rotation(rotation_to_quaternion(matrix)), matrix, atol=1e-12)


@pytest.mark.parametrize('quaternion', [[0, 0, 0, 0], [np.nan, 0, 0, 1]])
def test_a_quaternion_without_direction_is_refused(quaternion):
    with pytest.raises(ShapeError, match='no direction'):
        quaternion_to_rotation(quaternion)


def test_interpolation_goes_along_the_arc_and_beyond():
    before, after = rigid([0, 0, 0], [0, 0, 0, 1]), rigid([2, 0, 0], Rotation.from_euler('z', 40, True).as_quat())
    for share in (0.0, 0.25, 0.5, 1.0, 1.5):
        pose = interpolate(before, after, share)
        assert pose[0, 3] == pytest.approx(2 * share)
        assert Rotation.from_matrix(pose[:3, :3]).as_euler('zyx', True)[0] == pytest.approx(40 * share)


def test_interpolation_takes_the_short_way_round():
    quaternion = Rotation.from_euler('z', 350, True).as_quat()
    pose = interpolate(rigid([0, 0, 0], [0, 0, 0, 1]), rigid([0, 0, 0], quaternion), 0.5)
    assert Rotation.from_matrix(pose[:3, :3]).as_euler('zyx', True)[0] == pytest.approx(-5)


def test_the_tree_joins_frames_over_several_steps_and_backwards():
    tree = TransformTree()
    base_from_lidar = rigid([1, 0, 2], Rotation.from_euler('z', 90, True).as_quat())
    base_from_camera = rigid([0.5, 0.1, 1.5], Rotation.from_euler('xyz', [-90, 0, -90], True).as_quat())
    tree.add('base_link', 'lidar', base_from_lidar)
    tree.add('/base_link', 'camera', base_from_camera)
    np.testing.assert_allclose(tree.lookup('camera', '/lidar'), invert(base_from_camera) @ base_from_lidar, atol=1e-12)
    np.testing.assert_allclose(tree.lookup('lidar', 'lidar'), np.eye(4))


def test_a_missing_transform_names_both_frames_and_is_never_identity():
    tree = TransformTree()
    tree.add('base_link', 'lidar', np.eye(4))
    with pytest.raises(TransformError, match=r"'velodyne' to 'camera' \(known frames: base_link, lidar\)"):
        tree.lookup('camera', 'velodyne')


def test_a_later_transform_replaces_an_earlier_one():
    tree = TransformTree()
    tree.add('a', 'b', rigid([1, 0, 0], [0, 0, 0, 1]))
    tree.lookup('a', 'b')
    tree.add('a', 'b', rigid([2, 0, 0], [0, 0, 0, 1]))
    assert tree.lookup('a', 'b')[0, 3] == 2


def test_text_names_parent_and_child_as_they_were_given():
    tree = TransformTree()
    # The order in which many robots publish them: a child before what it hangs on.
    pairs = [('camera_link', 'camera_optical'), ('base_link', 'camera_link'), ('base_link', 'lidar')]
    for pair in pairs:
        tree.add(*pair, rigid([1, 2, 3], [0, 0, 0, 1]))
    assert [tuple(line.split()[:2]) for line in tree.text()] == pairs == list(tree.pairs)
    tree.add('lidar', 'base_link', np.eye(4))  # the other way round, it replaces the former
    assert tree.text()[-1].split()[:2] == ['lidar', 'base_link']
    assert len(tree.text()) == 3


def test_frames_are_written_with_a_slash_or_without():
    assert parse_transform('/base_link /lidar 1 2 3 0 0 0 1')[:2] == ('base_link', 'lidar')


def test_text_round_trip():
    tree = TransformTree()
    tree.add('base_link', 'lidar', rigid([1, -2, 3.5], Rotation.from_euler('xyz', [10, 20, 30], True).as_quat()))
    again = TransformTree()
    for line in tree.text():
        again.add_text(line)
    np.testing.assert_allclose(again.lookup('base_link', 'lidar'), tree.lookup('base_link', 'lidar'), atol=1e-8)


@pytest.mark.parametrize('line', ['', 'a b 1 2 3', 'a b 1 2 3 0 0 0 x', 'a b 1 2 3 0 0 0 0', 'a b 1 2 3 0 0 0 1 7'])
def test_text_of_another_form_is_refused(line):
    with pytest.raises(SettingsError, match='parent child x y z qx qy qz qw'):
        TransformTree().add_text(line)
