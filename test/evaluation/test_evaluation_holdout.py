import weakref

import numpy as np
import pytest
from street import START, scan

from depth_ros.errors import BagError, SettingsError
from depth_ros.evaluation.holdout import LidarHoldout, fraction_holdout, ring_holdout, ring_step_holdout
from depth_ros.geometry.rings import infer_rings, ring_elevations
from depth_ros.types import LidarScan


def with_rings(ring, points=None, stamp=START):
    ring = np.asarray(ring, np.uint16)
    if points is None:
        angle = np.radians(ring.astype(np.float32))
        points = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=1) * 10
    return LidarScan(stamp, points.astype(np.float32), 'lidar', None, ring)


def test_fraction_is_met_and_depends_on_the_scan_alone():
    sweep = with_rings(np.arange(20_000) % 64)
    mask = fraction_holdout(0.1)(sweep)
    assert mask.mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(mask, fraction_holdout(0.1)(sweep))
    other = fraction_holdout(0.1)(with_rings(np.arange(20_000) % 64, stamp=START + 1))
    assert (mask & other).mean() == pytest.approx(0.01, abs=0.005)  # another scan withholds other points
    assert np.abs(np.corrcoef(mask[1:], mask[:-1])[0, 1]) < 0.03  # scattered, not in runs


def test_fraction_of_the_ends():
    sweep = with_rings(np.arange(1000) % 4)
    assert not fraction_holdout(0)(sweep).any()
    assert len(fraction_holdout(0.5)(with_rings([]))) == 0
    for share in (-0.1, 1.0, float('nan')):
        with pytest.raises(SettingsError, match='share of points'):
            fraction_holdout(share)


@pytest.mark.parametrize(('keep', 'kept'), [
    (16, range(2, 64, 4)), (32, range(1, 64, 2)), (8, range(4, 64, 8)), (1, [32]),
])
def test_rings_are_evenly_spaced(keep, kept):
    sweep = with_rings(np.repeat(np.arange(64), 10))
    holdout = ring_holdout(keep, [sweep])
    assert holdout.kept.tolist() == list(kept)
    assert not holdout.inferred
    given = ~holdout(sweep)
    assert sorted(set(sweep.ring[given])) == list(kept)
    assert not set(sweep.ring[given]) & set(sweep.ring[~given])


def test_rings_are_counted_over_scans_and_by_those_that_are_there():
    # Rings 0, 2, 4, ... only, and some without a return in the first scan.
    first, second = with_rings(np.repeat([0, 2, 6], 5)), with_rings(np.repeat([0, 2, 4, 6], 5))
    holdout = ring_holdout(2, [first, second])
    assert (holdout.num_rings, holdout.kept.tolist()) == (4, [2, 6])
    assert set(first.ring[~holdout(first)]) == {2, 6}


def test_rings_go_by_elevation_whatever_their_numbers():
    numbers = np.array([3, 0, 2, 1])  # from low to high
    elevation = np.radians([-10, -5, 0, 5])
    points = np.stack([np.cos(elevation), np.zeros(4), np.sin(elevation)], axis=1) * 10
    assert ring_holdout(2, [with_rings(numbers, points)]).kept.tolist() == [0, 1]


def test_too_few_rings_is_an_error_that_names_both_numbers():
    with pytest.raises(SettingsError, match=r'32 input rings .* has 16'):
        ring_holdout(32, [with_rings(np.arange(160) % 16)])
    with pytest.raises(SettingsError, match=r'16 input rings .* has 16'):
        ring_holdout(16, [with_rings(np.arange(160) % 16)])
    with pytest.raises(SettingsError, match='at least 1'):
        ring_holdout(0, [with_rings(np.arange(160) % 16)])
    with pytest.raises(BagError, match='no lidar scan'):
        ring_holdout(4, [])


@pytest.mark.parametrize('order', ['ring by ring', 'firing by firing'])
def test_rings_are_inferred(order):
    named = scan(0)
    rows = np.arange(len(named))
    if order == 'firing by firing':
        rows = np.argsort(np.arctan2(named.points[:, 1], named.points[:, 0]), kind='stable')
    unnamed = LidarScan(START, named.points[rows], 'lidar')
    found, rule = infer_rings(unnamed.points)
    assert rule == ('storage order' if order == 'ring by ring' else 'elevation levels')
    present = np.unique(named.ring)
    expected = np.searchsorted(present, named.ring[rows])
    np.testing.assert_array_equal(found, expected if order == 'ring by ring' else len(present) - 1 - expected)
    by_name, by_structure = ring_holdout(8, [named]), ring_holdout(8, [unnamed])
    assert by_structure.inferred == rule
    np.testing.assert_array_equal(by_name(named)[rows], by_structure(unnamed))


def test_inferred_rings_stay_when_one_has_no_return():
    whole = scan(0, named=False)
    ring, _ = infer_rings(whole.points)
    holdout = ring_holdout(8, [whole])
    lacking = ring != 5
    np.testing.assert_array_equal(holdout(LidarScan(START, whole.points[lacking], 'lidar')), holdout(whole)[lacking])


def test_points_without_a_return_do_not_hinder():
    whole = scan(0, named=False)
    points = np.insert(whole.points, np.arange(0, len(whole), 7), np.nan, axis=0)
    found, _ = infer_rings(points)
    np.testing.assert_array_equal(found[np.isfinite(points[:, 0])], infer_rings(whole.points)[0])


@pytest.mark.parametrize('turning', [1, -1])
@pytest.mark.parametrize('start', [0.0, 1.0, np.pi, -2.0])
def test_rings_are_inferred_wherever_the_lidar_starts_to_turn(start, turning):
    ring, azimuth = np.meshgrid(np.arange(32), start + turning * np.linspace(0.01, 6.27, 200), indexing='ij')
    elevation = np.radians(ring - 25.0)
    flat = np.cos(elevation)
    points = 20 * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1).reshape(-1, 3)
    found, rule = infer_rings(points.astype(np.float32))
    assert rule == 'storage order'
    np.testing.assert_array_equal(found, ring.ravel())


def lidar_around(elevation, azimuth):
    flat = np.cos(elevation)
    directions = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1).reshape(-1, 3)
    return (20 * directions).astype(np.float32)


def test_rings_whose_beams_are_staggered_are_told_by_elevation_where_firing_by_firing_is_stored():
    # As of an Ouster OS1: neighbours in elevation fire in four directions, so that the azimuth passes the cut to and
    # fro, ever in the order of the beams.
    ring, column = np.meshgrid(np.arange(64), np.arange(512))
    azimuth = column * 2 * np.pi / 512 + np.radians([3.2, 1.1, -1.1, -3.2])[ring % 4]
    found, rule = infer_rings(lidar_around(np.radians(22.5 - 45 * ring / 63), azimuth))
    assert rule == 'elevation levels'
    np.testing.assert_array_equal(found, 63 - ring.ravel())


def test_rings_of_a_lidar_that_looks_ahead_are_not_joined():
    ring, azimuth = np.meshgrid(np.arange(8), np.radians(np.linspace(-55, 55, 300)), indexing='ij')
    found, _ = infer_rings(lidar_around(np.radians(ring - 4.0), azimuth))
    np.testing.assert_array_equal(found, ring.ravel())


@pytest.mark.parametrize('turns', [20, 27, 34])
def test_a_lidar_that_nods_fast_while_it_turns_has_no_rings(turns):
    """The medians of its turns rise, and the points of each lie far apart in elevation."""
    share = np.linspace(0, 1, 20_000)
    azimuth = (share * 2 * np.pi * turns + np.pi) % (2 * np.pi) - np.pi
    elevation = np.radians(-20 + 50 * share + 20 * np.sin(2 * np.pi * share * 1713))
    assert infer_rings(lidar_around(elevation, azimuth)) is None


def test_a_lidar_of_one_ring_that_turns_often_has_no_rings():
    azimuth = np.tile(np.linspace(-3.1, 3.1, 200), 8)
    assert infer_rings(np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(1600)], axis=1).astype(np.float32)) is None


@pytest.mark.parametrize('no_return', [np.nan, np.inf, 0.0, np.finfo(np.float32).max])
def test_what_did_not_return_is_on_no_ring(no_return):
    whole = scan(0, named=False).points
    places = np.arange(0, len(whole), 3)
    points = np.insert(whole, places, no_return, axis=0)
    returned = np.insert(np.ones(len(whole), np.bool_), places, False)
    found, rule = infer_rings(points)
    expected, expected_rule = infer_rings(whole)
    assert rule == expected_rule
    np.testing.assert_array_equal(found[returned], expected)
    for some, other in zip(ring_elevations(points, found), ring_elevations(whole, expected), strict=True):
        np.testing.assert_array_equal(some, other)


def test_a_cloud_without_a_return_has_no_rings():
    rings, elevation = ring_elevations(np.full((5, 3), np.nan, np.float32), np.zeros(5, np.uint16))
    assert (rings.shape, elevation.shape) == ((0,), (0,))


def test_no_structure_is_an_error_that_says_what_to_do():
    cloud = np.random.default_rng(0).uniform(-10, 10, (5000, 3)).astype(np.float32)
    assert infer_rings(cloud) is None
    with pytest.raises(BagError, match='--input-fraction'):
        ring_holdout(16, [LidarScan(START, cloud, 'lidar')])
    with pytest.raises(BagError, match='--input-fraction'):
        ring_holdout(8, [scan(0, named=False)])(LidarScan(START, cloud, 'lidar'))


@pytest.mark.parametrize('step', [2, 4, 8, 16])
def test_every_nth_of_64_rings_is_what_an_even_choice_of_64_over_n_keeps(step):
    sweep = with_rings(np.repeat(np.arange(64), 10))
    assert ring_step_holdout(step, [sweep]).kept.tolist() == ring_holdout(64 // step, [sweep]).kept.tolist()


def test_every_nth_ring_goes_by_elevation():
    numbers = np.array([3, 0, 2, 1])  # from low to high
    elevation = np.radians([-10, -5, 0, 5])
    points = np.stack([np.cos(elevation), np.zeros(4), np.sin(elevation)], axis=1) * 10
    assert ring_step_holdout(2, [with_rings(numbers, points)]).kept.tolist() == [0, 1]


def test_bands_take_the_place_of_rings_that_cannot_be_told():
    cloud = np.random.default_rng(0).uniform(-10, 10, (20_000, 3)).astype(np.float32)
    cloud[7] = np.nan
    sweep = LidarScan(START, cloud, 'lidar')
    holdout = ring_step_holdout(4, [sweep])
    assert '0.4 degrees' in holdout.inferred
    given = ~holdout(sweep)
    assert given.mean() == pytest.approx(0.25, abs=0.02)
    finite = np.isfinite(cloud[:, 0])
    elevation = np.degrees(np.arctan2(cloud[:, 2], np.hypot(cloud[:, 0], cloud[:, 1])))[finite]
    # Bands given are 0.4 degrees high, with 1.2 degrees withheld between them.
    gaps = np.diff(np.sort(elevation[given[finite]]))
    assert np.sort(gaps)[-20:].min() > 1.15
    assert gaps[gaps < 1.1].max() < 0.4


def test_too_few_rings_for_a_step_is_an_error():
    with pytest.raises(SettingsError, match=r'every 16th ring .* has 8'):
        ring_step_holdout(16, [with_rings(np.arange(80) % 8)])
    with pytest.raises(SettingsError, match='at least 2'):
        ring_step_holdout(1, [with_rings(np.arange(80) % 8)])


def test_lidars_are_told_apart_by_their_frames():
    def sweep(frame, rings):
        ring = np.arange(10 * rings) % rings
        return LidarScan(START, with_rings(ring).points, frame, None, ring.astype(np.uint16))

    holdout = LidarHoldout(lambda scans: ring_holdout(8, scans), [sweep('a', 64), sweep('b', 32)])
    for frame, rings in (('a', 64), ('b', 32), ('late', 16)):
        item = sweep(frame, rings)
        assert len(np.unique(item.ring[~holdout(item)])) == 8
        assert holdout.lidars[frame].num_rings == rings
    with pytest.raises(SettingsError, match='has 4'):
        holdout(sweep('few', 4))


def test_scans_read_ahead_are_let_go_once_their_rings_are_counted():
    scans = [with_rings(np.arange(640) % 64, stamp=START + k) for k in range(3)]
    kept = weakref.WeakSet(scans)
    holdout = LidarHoldout(lambda scans: ring_holdout(8, scans), scans)
    del scans
    assert len(kept) == 0
    assert holdout.lidars['lidar'].num_rings == 64
