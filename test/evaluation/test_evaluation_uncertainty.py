import numpy as np
import pytest
from test_evaluation_metrics import points, random_points

from depth_ros.evaluation.flicker import FlickerMeter
from depth_ros.evaluation.metrics import ScoredPoints, near_depth_edge
from depth_ros.evaluation.scoring import MethodScore, percentiles, strict_json
from depth_ros.evaluation.uncertainty import (
    CalibrationCurve,
    PointSample,
    ause,
    flying_pixels,
    sparsification,
    sparsification_curves,
)
from depth_ros.types import SparseDepth

NS = 1_000_000_000


def test_sparsification_by_hand():
    curve = sparsification(np.array([4.0, 1.0, 1.0]), np.array([1.0, 3.0, 2.0]))
    np.testing.assert_allclose(curve, [2.0, 2.5, 4.0])  # all, without the second, without second and third


def test_equal_keys_share_their_error():
    errors = np.array([0.0, 6.0, 3.0])
    np.testing.assert_allclose(sparsification(errors, np.ones(3)), [3, 3, 3])


def test_ause_is_zero_for_a_perfect_order_and_positive_else():
    rng = np.random.default_rng(0)
    truth = rng.uniform(5, 50, 1000)
    error = rng.uniform(0.01, 0.5, 1000) * truth
    perfect = points(truth, truth + error, error)
    areas = ause(perfect, np.zeros(1000, np.float32))
    assert areas['ause_rmse'] == pytest.approx(0, abs=1e-6)
    # By relative deviation: error / (truth + error) has the same order as error / truth.
    assert areas['ause_abs_rel'] == pytest.approx(0, abs=1e-6)
    assert areas['random_ause_abs_rel'] == pytest.approx(areas['distance_ause_abs_rel'])  # all distances are the same
    worst = ause(points(truth, truth + error, 1 / error), np.zeros(1000, np.float32))
    assert worst['ause_rmse'] > areas['random_ause_rmse'] > 0


def test_too_few_points_give_no_ause():
    assert sparsification_curves(points([5] * 10, [6] * 10), np.zeros(10)) is None
    assert all(np.isnan(value) for value in ause(points([5] * 10, [6] * 10), np.zeros(10)).values())


def test_flying_pixels_by_hand():
    # 100 points at 10 m: six are 3 m off, four of them at an edge; of those, three are among the five least sure.
    depth, std = np.full(100, 10.0), np.linspace(0.1, 0.2, 100)
    depth[:6] = 13
    edge = np.zeros(100, bool)
    edge[[0, 1, 2, 3, 50]] = True
    std[[0, 1, 2]] = 13.0
    std[[60, 61]] = 10.0
    found = flying_pixels(points(np.full(100, 10.0), depth, std), edge)
    assert found['flying_share'] == pytest.approx(0.04)
    assert found['flying_dropped_at_5_percent'] == pytest.approx(0.75)
    assert 0.02 < found['max_relative_std_for_5_percent'] < 1
    still = flying_pixels(points(np.full(100, 10.0), np.full(100, 10.0), std), edge)
    assert still['flying_share'] == 0
    assert np.isnan(still['flying_dropped_at_5_percent'])
    assert all(np.isnan(value) for value in flying_pixels(points([5] * 10, [9] * 10), np.ones(10, bool)).values())


def test_edges_are_found_beside_and_not_along_the_ground():
    def sparse(columns, rows, depth):
        values = [np.asarray(column, np.float32) for column in (columns, rows, depth, np.ones(len(depth)))]
        return SparseDepth(*values, shape=(60, 400))

    # A pole at 5 m before a wall at 10 m, given. Withheld points beside and far from it. Ground that recedes by rows.
    columns = np.arange(0, 400, 2)
    given = sparse(columns, np.full(200, 20), np.where(np.abs(columns - 200) < 3, 5.0, 10.0))
    withheld = sparse([206, 300, 100, 100], [21, 21, 50, 46], [10, 10, 6, 9])
    edge = near_depth_edge(given, withheld)
    assert edge[withheld.row, withheld.column].tolist() == [True, False, False, False]
    assert not near_depth_edge(sparse([], [], []), sparse([], [], [])).any()


def test_sample_is_bounded_even_and_deterministic():
    samples = [PointSample(capacity=1000) for _ in range(2)]
    for k in range(70):
        part = points(np.full(97, 1.0 + k), np.arange(97) + 97 * k + 1.0)
        for item in samples:
            item.add(part, np.zeros(97, np.float32), part.truth > 30)
    sampled, _, edge = samples[0].points()
    np.testing.assert_array_equal(edge, sampled.truth > 30)
    first, second = (item.points()[0] for item in samples)
    np.testing.assert_array_equal(first.depth, second.depth)
    assert 500 <= len(first) <= 1000
    assert np.unique(np.diff(first.depth)).tolist() == [8.0]  # every 8th of 6,790, across the images


def test_calibration_curve_of_gaussian_errors():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, 50_000)
    curve = CalibrationCurve()
    for part in np.array_split(np.arange(50_000), 7):
        curve.add(points(np.full(len(part), 50), 50 + rng.normal(0, std[part]), std[part]))
    expected, found = curve.curve()
    assert np.abs(expected - found).max() < 0.01
    assert np.isnan(CalibrationCurve().curve()[1]).all()


def at(u, v, truth, depth):
    values = [np.asarray(column, np.float32) for column in (u, v, truth, depth)]
    return ScoredPoints(*values, np.ones(len(values[0]), np.float32))


def test_flicker_by_hand():
    meter = FlickerMeter()
    assert np.isnan(meter.add(0, (50, 50), at([10, 30], [10, 30], [10, 10], [11, 10])))
    # The first pair changes from +10 % to -10 %; the true depth changed too, which cancels. The second is 2 px away.
    change = meter.add(NS // 10, (50, 50), at([11, 32], [11, 30], [20, 10], [18, 15]))
    assert change == pytest.approx(0.2, abs=1e-6)
    assert (meter.num_pairs, meter.num_image_pairs) == (1, 1)
    assert meter.mean == pytest.approx(0.2, abs=1e-6)


def test_a_constant_bias_is_no_flicker():
    meter = FlickerMeter()
    for k in range(3):
        meter.add(k * NS // 10, (50, 50), at([10, 30], [10, 30], [10 + k, 20], [1.3 * (10 + k), 26]))
    assert meter.mean == pytest.approx(0, abs=1e-6)
    assert meter.num_pairs == 4


@pytest.mark.parametrize(('later', 'shape'), [(NS + 1, (50, 50)), (0, (50, 50)), (-NS, (50, 50)), (NS // 10, (40, 50))])
def test_estimates_that_do_not_follow_each_other_are_not_compared(later, shape):
    meter = FlickerMeter()
    meter.add(5 * NS, (50, 50), at([10], [10], [10], [11]))
    assert np.isnan(meter.add(5 * NS + later, shape, at([10], [10], [10], [12])))
    assert np.isnan(meter.mean)


def test_points_without_an_estimate_do_not_flicker():
    meter = FlickerMeter()
    meter.add(0, (50, 50), at([10], [10], [10], [np.nan]))
    assert np.isnan(meter.add(NS // 10, (50, 50), at([10], [10], [10], [11])))


def test_method_score_pools_points_and_averages_images():
    score = MethodScore('m', (0.0, 10.0, 80.0))
    for k, (truth, depth) in enumerate((([10] * 30, [11] * 30), ([10] * 10, [13] * 10))):
        part = points(truth, depth)
        common = np.arange(len(part)) < 10
        distance, edge = np.zeros(len(part), np.float32), np.ones(len(part), bool)
        score.add(k * NS // 10, (10, 10), part, distance, edge, common, 5_000_000)
    entry = score.document()
    assert entry['pooled']['mae'] == pytest.approx((30 * 1 + 10 * 3) / 40)
    assert entry['per_image']['mae'] == pytest.approx((1 + 3) / 2)
    assert entry['pooled_common']['mae'] == pytest.approx((10 * 1 + 10 * 3) / 20)
    assert [(part['from'], part['to'], part['num_truth']) for part in entry['by_range']] == [(0, 10, 0), (10, 80, 40)]
    assert entry['latency_ms']['estimate'] == {'p50': 5, 'p95': 5, 'p99': 5}


def test_images_without_truth_do_not_spoil_the_mean():
    score = MethodScore('m', (0.0, 80.0))
    for part in (random_points(), points([], [])):
        everywhere = np.ones(len(part), bool)
        score.add(0, (10, 10), part, np.zeros(len(part), np.float32), everywhere, everywhere, 1)
    assert score.document()['per_image']['mae'] == pytest.approx(random_points().sums().metrics()['mae'])


def test_percentiles_leave_out_the_first_time():
    assert percentiles([10**9, 1_000_000, 1_000_000])['p99'] == pytest.approx(1)
    assert percentiles([2_000_000])['p50'] == pytest.approx(2)
    assert np.isnan(percentiles([])['p50'])


def test_strict_json_knows_no_nan():
    assert strict_json({'a': [float('nan'), 1.0], 'b': {'c': float('inf')}}) == {'a': [None, 1.0], 'b': {'c': None}}
