"""Transforms with stamps, against known answers."""

import numpy as np
import pytest

from depth_ros.errors import OldTransformError, TransformError
from depth_ros.geometry.rigid import TransformTree, rigid
from depth_ros.geometry.transform_buffer import TransformBuffer
from depth_ros.types import Pose

NS = 10**9
START = 1000 * NS
QUARTER = (0, 0, np.sqrt(0.5), np.sqrt(0.5))
STRAIGHT = (0, 0, 0, 1)


def moved(x, stamp_s, child='arm', parent='base', turn=STRAIGHT):
    return Pose(START + round(stamp_s * NS), rigid((x, 0, 0), turn), parent, child)


def test_a_chain_of_static_transforms():
    buffer = TransformBuffer()
    buffer.set_static('base', 'camera', rigid((1, 2, 3), QUARTER))
    buffer.set_static('base', 'lidar', rigid((1, 2, 5), STRAIGHT))
    camera_from_lidar = buffer.lookup('camera', 'lidar', START, 0)
    np.testing.assert_allclose(camera_from_lidar @ (1, 0, 0, 1), (0, -1, 2, 1), atol=1e-12)
    np.testing.assert_allclose(
        buffer.lookup('lidar', 'camera', START, 0), np.linalg.inv(camera_from_lidar), atol=1e-12
    )
    assert buffer.frames == ('base', 'camera', 'lidar')


def test_it_gives_the_bits_of_the_tree_that_a_replay_uses():
    rng = np.random.default_rng(3)
    buffer, tree = TransformBuffer(), TransformTree()
    for parent, child in (('base', 'mast'), ('mast', 'lidar'), ('base', 'head'), ('head', 'camera')):
        matrix = rigid(rng.normal(size=3), rng.normal(size=4))
        buffer.set_static(parent, child, matrix)
        tree.add(parent, child, matrix)
    np.testing.assert_array_equal(buffer.lookup('camera', 'lidar', START, 0), tree.lookup('camera', 'lidar'))


def test_between_two_stamps_a_transform_is_interpolated():
    buffer = TransformBuffer()
    buffer.set_static('arm', 'lidar', rigid((0, 0, 1), STRAIGHT))
    buffer.add(moved(2, 1.0))
    buffer.add(moved(0, 0.0))  # out of order
    found = buffer.lookup('base', 'lidar', START + NS // 4, 0)
    np.testing.assert_allclose(found[:3, 3], (0.5, 0, 1), atol=1e-12)


def test_a_turn_is_interpolated_on_the_arc():
    buffer = TransformBuffer()
    buffer.add(moved(0, 0.0))
    buffer.add(moved(0, 1.0, turn=QUARTER))
    found = buffer.lookup('base', 'arm', START + NS // 3, 0)
    np.testing.assert_allclose(found[:2, 0], (np.cos(np.pi / 6), np.sin(np.pi / 6)), atol=1e-9)


@pytest.mark.parametrize(('at', 'expected'), [(1.4, 2), (-0.4, 0)])
def test_outside_of_the_stamps_the_nearest_is_held(at, expected):
    buffer = TransformBuffer()
    buffer.add(moved(0, 0.0))
    buffer.add(moved(2, 1.0))
    assert buffer.lookup('base', 'arm', START + round(at * NS), NS // 2)[0, 3] == expected


@pytest.mark.parametrize(('at', 'words'), [(2.0, '1.00 s older'), (-1.5, '1.50 s newer')])
def test_it_is_not_held_for_longer_than_is_allowed(at, words):
    buffer = TransformBuffer()
    buffer.add(moved(0, 0.0))
    buffer.add(moved(2, 1.0))
    buffer.set_static('arm', 'lidar', np.eye(4))
    with pytest.raises(OldTransformError, match=words) as caught:
        buffer.lookup('base', 'lidar', START + round(at * NS), NS // 2)
    assert 'transforms.max_age' in str(caught.value)


def test_frames_that_nothing_joins():
    buffer = TransformBuffer()
    buffer.set_static('base', 'camera', np.eye(4))
    buffer.set_static('world', 'lidar', np.eye(4))
    with pytest.raises(TransformError, match=r"from 'lidar' to 'camera' \(known frames: base, camera, lidar, world"):
        buffer.lookup('camera', 'lidar', START, NS)
    with pytest.raises(TransformError):
        TransformBuffer().lookup('camera', 'lidar', START, NS)


def test_frames_in_a_loop_end_the_search():
    buffer = TransformBuffer()
    buffer.set_static('a', 'b', np.eye(4))
    buffer.set_static('b', 'a', np.eye(4))
    with pytest.raises(TransformError):
        buffer.lookup('a', 'c', START, NS)


def test_another_parent_takes_the_place_of_the_first():
    buffer = TransformBuffer()
    buffer.add(moved(1, 0.0))
    buffer.add(moved(2, 0.5, parent='hand'))
    buffer.set_static('base', 'hand', np.eye(4))
    assert buffer.lookup('base', 'arm', START, NS)[0, 3] == 2
    buffer.set_static('base', 'arm', rigid((3, 0, 0), STRAIGHT))
    assert buffer.lookup('base', 'arm', START + 100 * NS, 0)[0, 3] == 3


def test_time_that_jumps_back_starts_anew():
    buffer = TransformBuffer()
    buffer.add(moved(1, 0.0))
    buffer.add(moved(2, -60.0))
    assert buffer.lookup('base', 'arm', START - 60 * NS, 0)[0, 3] == 2
    with pytest.raises(OldTransformError):
        buffer.lookup('base', 'arm', START, NS)
