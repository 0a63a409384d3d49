"""The parts of ``prepare``, each by itself: encoding, filters of points, agreement of edges, splits."""

import zlib
from collections import Counter

import numpy as np
import pytest

from depth_ros.geometry.camera import model_arguments
from depth_ros.geometry.projection import ProjectedPoints, concatenate
from depth_ros.geometry.rigid import TransformTree, parse_transform
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame, LidarScan, Pose
from depth_ros_training.data import accumulation
from depth_ros_training.data import dataset as dataset_module
from depth_ros_training.data.accumulation import SweepWindow, draw, drop_contradicted, drop_covered
from depth_ros_training.data.agreement import EdgeAgreement
from depth_ros_training.data.dataset import (
    decode_depth,
    decode_truth,
    encode_depth,
    encode_truth,
    read_depth,
    write_depth,
)
from depth_ros_training.data.splits import SplitOptions, assign_splits
from depth_ros_training.data.sweep_kernels import into_image, range_image, ring_spacing, to_middle

NS = 1_000_000_000


def test_wrong_extrinsics_are_warned_of():
    """A bright wall with dark posts, which stand before it: the lidar fits, or is off to one side."""
    rng = np.random.default_rng(0)
    for offset, expected in ((0, ''), (24, 'columns')):
        agreement = EdgeAgreement()
        for _ in range(12):
            starts = np.sort(rng.choice(np.arange(40, 1180, 60), 8, replace=False)) + rng.integers(0, 20)
            image = np.full((375, 1242), 200, np.uint8)
            depth = np.full(1242, 20.0, np.float32)
            for start in starts:
                image[:, start : start + 25], depth[start : start + 25] = 60, 8.0
            image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
            rows, columns = np.mgrid[60:360:12, 2:1240:3]
            shifted = np.clip(columns - offset, 0, 1241)
            points = ProjectedPoints(
                columns.ravel().astype(np.float32),
                rows.ravel().astype(np.float32),
                depth[shifted].ravel(),
                np.arange(rows.size, dtype=np.int32),
                np.zeros((rows.size, 2), np.float32),
            )
            agreement.add(image, points, (rows.ravel() // 12).astype(np.int16))
        found = agreement.result()
        assert found.num_edges > 300
        assert expected in found.problem
        assert bool(expected) == bool(found.problem)
        assert abs(found.best_shift[0] + offset) <= 3


def test_depth_survives_16_bits():
    depth = np.array([[0.2, 1.0, 80.123, 255.9], [np.nan, 256.0, 300.0, np.inf]], np.float32)
    back = decode_depth(encode_depth(depth))
    np.testing.assert_allclose(back[0], depth[0], atol=1 / 512)
    assert np.isnan(back[1]).all()
    exact = decode_truth(encode_truth(depth))
    np.testing.assert_array_equal(exact[0], back[0])
    np.testing.assert_array_equal(exact[1], np.array([np.nan, np.inf, np.inf, np.inf], np.float32))


def frames_of(count, rate=10.0):
    return [{'stamp_ns': int(number / rate * NS)} for number in range(count)]


def test_splits_by_time_keep_a_gap():
    recordings = {'drive': frames_of(50)}
    assign_splits(recordings, SplitOptions('time', (0.8, 0.0, 0.2), 0.5))
    splits = [frame['split'] for frame in recordings['drive']]
    assert splits[:35] == ['train'] * 35
    assert splits[35:40] == [''] * 5
    assert splits[40:] == ['test'] * 10


@pytest.mark.parametrize('count', [3, 7])
def test_halves_of_an_odd_number_are_no_more_than_there_is(count):
    recordings = {'drive': frames_of(count)}
    assign_splits(recordings, SplitOptions('time', (0.0, 0.5, 0.5), 0.0))
    splits = [frame['split'] for frame in recordings['drive']]
    assert set(splits) <= {'val', 'test'}
    assert splits == sorted(splits, reverse=True)


def test_splits_by_recording_keep_recordings_whole():
    recordings = {f'drive_{number}': frames_of(20 + number) for number in range(10)}
    assign_splits(recordings, SplitOptions('auto', (0.7, 0.1, 0.2)))
    found = {name: {frame['split'] for frame in frames} for name, frames in recordings.items()}
    assert all(len(splits) == 1 for splits in found.values())
    counts = {split: sum(splits == {split} for splits in found.values()) for split in ('train', 'val', 'test')}
    assert counts['train'] >= 6
    assert 1 <= counts['val'] <= 2
    assert 1 <= counts['test'] <= 3
    with pytest.raises(Exception, match='by time'):
        assign_splits({'one': frames_of(5)}, SplitOptions('recording'))


@pytest.mark.parametrize('names', ['abcd', 'bcda', 'cdab', 'dabc'])
def test_a_long_recording_does_not_take_all_from_training(names):
    recordings = dict(zip(names, (frames_of(count) for count in (1200, 200, 200, 200)), strict=True))
    assign_splits(recordings, SplitOptions('recording', (0.7, 0.1, 0.2)))
    counts = Counter(frame['split'] for frames in recordings.values() for frame in frames)
    assert counts == {'train': 1200, 'val': 200, 'test': 400}


@pytest.mark.parametrize('counts', [(100, 10, 10), (600, 60, 60), (300, 30, 40), (1000, 50, 50, 50)])
def test_a_long_recording_and_short_ones_leave_something_for_every_part(counts):
    recordings = {f'r{number}': frames_of(count) for number, count in enumerate(counts)}
    assign_splits(recordings, SplitOptions())
    assert {frame['split'] for frames in recordings.values() for frame in frames} == {'train', 'val', 'test'}
    assert {frame['split'] for frame in recordings['r0']} == {'train'}


def grid_points(u, v, depth):
    u, v, depth = (np.asarray(values, np.float32).ravel() for values in np.broadcast_arrays(u, v, depth))
    return ProjectedPoints(u, v, depth, np.arange(len(u), dtype=np.int32), np.zeros((len(u), 2), np.float32))


def test_a_sweep_contradicts_what_is_not_there_now():
    columns = np.arange(0, 100, 2)
    own = grid_points(*np.meshgrid(columns, [20, 40, 60]), 10.0)
    others = grid_points([50, 50, 50], [30, 30, 30], [10.3, 20.0, 5.0])
    kept = np.ones(3, np.bool_)
    drop_contradicted(others, own, (100, 100), 0.08, kept)
    assert kept.tolist() == [True, False, False]
    # On the ground one ring is nearer and the next one farther.
    u, v = np.meshgrid(columns, [20, 40, 60])
    ground = grid_points(u, v, 400.0 / v)
    kept = np.ones(1, np.bool_)
    drop_contradicted(grid_points([50], [30], [13.0]), ground, (100, 100), 0.08, kept)
    assert kept.all()


def test_a_surface_covers_what_is_behind_it_and_not_itself():
    v, u = np.mgrid[0:100:2, 0:100:2]
    slanted = grid_points(u, v, 200.0 / (v + 5.0))
    kept = np.ones(len(slanted), np.bool_)
    drop_covered(slanted, (100, 100), 0.08, kept)
    assert kept.all()
    wall = grid_points(u, v, np.where((u > 20) & (u < 80), 5.0, 20.0))
    behind = grid_points([50.0, 10.0], [50.0, 50.0], [20.0, 20.0])
    both = concatenate([wall, behind])
    kept = np.ones(len(both), np.bool_)
    drop_covered(both, (100, 100), 0.08, kept)
    assert kept[: len(wall)].all()
    assert kept[-2:].tolist() == [False, True]


@pytest.mark.parametrize('compress', [zlib.compress, dataset_module.compress])
@pytest.mark.parametrize('share', [0.1, 0.9])
def test_depth_is_read_as_it_was_written(tmp_path, monkeypatch, share, compress):
    monkeypatch.setattr(dataset_module, 'compress', compress)
    rng = np.random.default_rng(0)
    depth = np.where(rng.random((40, 60)) < share, rng.uniform(0.5, 200, (40, 60)), np.nan).astype(np.float32)
    write_depth(tmp_path / 'depth.png', encode_depth(depth))
    np.testing.assert_array_equal(read_depth(tmp_path / 'depth.png', (40, 60)), decode_depth(encode_depth(depth)))


def test_of_points_in_one_pixel_the_nearest_is_drawn():
    points = grid_points([1.0, 1.2, 1.4, 2.6, 0.0], [0.4, 0.0, -0.5, 1.0, 0.0], [9.0, 5.0, 2.0, 7.0, 256.0])
    steps = draw(points, (2, 4), np.array([True, True, False, True, True]))
    assert steps[0, 1] == 5 * 256
    assert steps[1, 3] == 7 * 256
    assert np.count_nonzero(steps) == 2  # 256 m do not fit


def rings_around(count, per_ring, firing_by_firing=False):
    """A cloud of rings two degrees apart, 10 m away: points and ring of each."""
    azimuth, elevation = np.linspace(-np.pi, np.pi, per_ring, endpoint=False), np.radians(2.0) * np.arange(count)
    ring, azimuth = np.meshgrid(np.arange(count), azimuth, indexing='xy' if firing_by_firing else 'ij')
    ring, azimuth, elevation = ring.ravel(), azimuth.ravel(), elevation[ring.ravel()]
    flat = np.cos(elevation)
    points = 10 * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    return points.astype(np.float32), ring.astype(np.uint16)


@pytest.mark.parametrize('no_return', [np.nan, np.inf, 0.0, np.finfo(np.float32).max])
def test_what_did_not_return_does_not_tell_how_far_rings_are_apart(no_return):
    points, ring = rings_around(16, 100)
    sky = (ring >= 5) & (np.arange(len(ring)) % 100 < 70)
    points[sky] = no_return
    assert np.degrees(ring_spacing(points, ring)) == pytest.approx(2.0, abs=1e-3)


def test_all_rings_of_a_large_cloud_are_looked_at_in_whatever_order_they_are_stored():
    for firing_by_firing in (False, True):
        points, ring = rings_around(16, 1800, firing_by_firing)
        found = accumulation._elevation_bin(LidarScan(0, points, 'lidar', ring=ring))
        assert np.degrees(found) == pytest.approx(2.0, abs=1e-3)


def test_a_point_beyond_all_numbers_is_no_return():
    """Some drivers say so by the largest float32; turned, it would be infinite, and in no cell of a range image."""
    points = np.full((2, 3), np.finfo(np.float32).max, np.float32)
    points[0] = 3, 4, 0
    turned = parse_transform('a b 0 0 0 0 0 0.342898 0.939373')[2]
    moved = np.empty((2, 3), np.float32)
    count = to_middle(points, np.zeros(0, np.int32), turned[None, :3], 0.0, 1.0, np.array([1.0, 0.0, 0.0]), -1.0, moved)
    assert count == 1
    ranges = range_image(moved[:count], np.radians(1.0))
    assert ranges[np.isfinite(ranges)].tolist() == pytest.approx([5.0])


def test_a_point_beside_the_camera_has_no_depth_even_if_no_least_depth_is_set():
    camera = Camera(64, 48, 40, 40, 32, 24)
    points, static = np.array([[1, 1, 0], [0, 0, 7]], np.float32), np.ones(2, np.bool_)
    u, v, depth, kept = (*np.empty((3, 2), np.float32), np.empty(2, np.bool_))
    arguments = *model_arguments(camera), camera.width, camera.height, 0.0, 250.0
    assert into_image(points, static, np.eye(4)[:3], *arguments, u, v, depth, kept, 0) == 1
    assert (u[0], v[0], depth[0]) == (32, 24, 7)


class Approach:
    """A robot that drives towards a wall at 1 m/s, ten sweeps and images per second."""

    camera = Camera(64, 48, 40, 40, 32, 24, 'camera')

    def __init__(self):
        transforms = TransformTree()
        transforms.add(*parse_transform('base camera 0 0 0 -0.5 0.5 -0.5 0.5'))
        transforms.add(*parse_transform('base lidar 0 0 0 0 0 0 1'))
        self.window = SweepWindow(Settings(), transforms, NS // 2)

    def drive(self, numbers, lag=0, origin=0.0):
        """Sweeps and poses of these tenths of a second; poses so many tenths late, and so far from the origin."""
        y, z = (values.ravel() for values in np.meshgrid(np.linspace(-8, 8, 40), np.linspace(-5, 5, 16)))
        ring = np.repeat(np.arange(16, dtype=np.uint16), 40)
        for number in numbers:
            wall = np.stack([np.full(y.shape, 20 - 0.1 * number), y, z], axis=1).astype(np.float32)
            self.window.add_scan(LidarScan(int(number * NS / 10), wall, 'lidar', ring=ring))
            pose = np.eye(4)
            pose[0, 3] = 0.1 * (number - lag) + origin
            self.window.add_pose(Pose(int((number - lag) * NS / 10), pose, 'odom', 'base'))

    def accumulated(self, number):
        """What is brought into the image of this tenth of a second."""
        image = np.zeros(self.camera.shape, np.uint8)
        return self.window.accumulate(Frame(int(number * NS / 10), image, 'mono8', self.camera))


def test_a_sweep_whose_poses_come_late_is_used_once_they_are_there():
    robot = Approach()
    robot.drive(range(16), lag=3)
    for number in range(5, 25):
        found = robot.accumulated(number)
        assert found is not None, number
        assert found.num_sweeps >= 9, number
        np.testing.assert_allclose(found.points.depth, 20 - 0.1 * number, atol=1e-4)
        robot.drive([number + 11], lag=3)


@pytest.mark.parametrize('apart_ns', [0, 1])
def test_two_lidars_that_measure_at_one_time_are_both_used(apart_ns):
    robot = Approach()
    transforms = robot.window._transforms
    for name, y in (('left', 1.0), ('right', -1.0)):
        transforms.add(*parse_transform(f'base {name} 0 {y} 0 0 0 0 1'))
    y, z = (values.ravel() for values in np.meshgrid(np.linspace(0.5, 8, 40), np.linspace(-5, 5, 16)))
    for number in range(12):
        robot.drive([number])
        robot.window._scans.pop()
        for name, side in (('left', 1), ('right', -1)):
            wall = np.stack([np.full(y.shape, 20 - 0.1 * number), side * (y - 1), z], axis=1).astype(np.float32)
            stamp = number * NS // 10 + apart_ns * (name == 'right')
            robot.window.add_scan(LidarScan(stamp, wall, name, ring=np.repeat(np.arange(16, dtype=np.uint16), 40)))
    found = robot.accumulated(5.1)
    on_left = found.points.u[found.kept] < robot.camera.cx
    assert np.count_nonzero(on_left) == pytest.approx(np.count_nonzero(~on_left), rel=0.1)


@pytest.mark.parametrize('start', [0.5, 3000])
def test_poses_from_before_time_jumped_back_are_forgotten(start):
    """As when a simulation starts again: its clock and odometry do, not long or long after the times that come now."""
    robot = Approach()
    robot.drive(start + np.arange(100), origin=5.0)
    robot.drive(range(100))
    found = robot.accumulated(40.3)
    assert found is not None
    np.testing.assert_allclose(found.points.depth, 20 - 4.03, atol=1e-4)
