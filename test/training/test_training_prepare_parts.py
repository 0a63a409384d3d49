"""The parts of ``prepare``, each by itself: encoding, filters of points, agreement of edges, splits."""


import numpy as np
import pytest

from depth_ros.geometry.projection import ProjectedPoints, concatenate
from depth_ros_training.data.accumulation import depth_image, drop_contradicted, drop_covered
from depth_ros_training.data.agreement import EdgeAgreement
from depth_ros_training.data.dataset import decode_depth, encode_depth, read_depth, write_depth
from depth_ros_training.data.splits import SplitOptions, assign_splits

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


def frames_of(count, rate=10.0):
    return [{'stamp_ns': int(number / rate * NS)} for number in range(count)]


def test_splits_by_time_keep_a_gap():
    recordings = {'drive': frames_of(50)}
    assign_splits(recordings, SplitOptions('time', (0.8, 0.0, 0.2), 0.5))
    splits = [frame['split'] for frame in recordings['drive']]
    assert splits[:35] == ['train'] * 35
    assert splits[35:40] == [''] * 5
    assert splits[40:] == ['test'] * 10


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


@pytest.mark.parametrize('share', [0.1, 0.9])
def test_depth_is_read_as_it_was_written(tmp_path, share):
    rng = np.random.default_rng(0)
    depth = np.where(rng.random((40, 60)) < share, rng.uniform(0.5, 200, (40, 60)), np.nan).astype(np.float32)
    write_depth(tmp_path / 'depth.png', depth)
    np.testing.assert_array_equal(read_depth(tmp_path / 'depth.png', (40, 60)), decode_depth(encode_depth(depth)))


def test_of_points_in_one_pixel_the_nearest_is_drawn():
    points = grid_points([1.0, 1.2, 1.4, 2.6], [0.4, 0.0, -0.5, 1.0], [9.0, 5.0, 2.0, 7.0])
    depth = depth_image(points, (2, 4), np.array([True, True, False, True]))
    assert depth[0, 1] == 5
    assert depth[1, 3] == 7
    assert np.isfinite(depth).sum() == 2
