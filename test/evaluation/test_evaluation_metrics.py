import math

import numpy as np
import pytest

from depth_ros.errors import ShapeError
from depth_ros.evaluation.metrics import (
    KEYS,
    RANGE_EDGES,
    DepthSums,
    ScoredPoints,
    distance_to_measurement,
    range_edges,
    sample,
    score,
)
from depth_ros.types import Basis, DepthEstimate, SparseDepth


def points(truth, depth, std=None):
    truth, depth = np.asarray(truth, np.float32), np.asarray(depth, np.float32)
    std = np.ones_like(truth) if std is None else np.asarray(std, np.float32)
    return ScoredPoints(np.zeros_like(truth), np.zeros_like(truth), truth, depth, std)


def random_points(count=500, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 80, count)
    depth = truth * np.exp(rng.normal(0, 0.3, count))
    depth[rng.random(count) < 0.1] = np.nan
    return points(truth, depth, rng.uniform(0.1, 5, count))


def sparse(u, v, depth, shape=(10, 20)):
    values = [np.asarray(column, np.float32) for column in (u, v, depth)]
    return SparseDepth(*values, np.full(len(values[0]), 0.03, np.float32), shape)


def test_metrics_by_hand():
    found = points([2, 4, 10], [2, 5, np.nan]).sums().metrics()
    assert tuple(found) == KEYS
    expected = {
        'mae': 0.5, 'rmse': math.sqrt(0.5), 'imae': 25.0, 'irmse': 1000 * math.sqrt(0.05**2 / 2), 'abs_rel': 0.125,
        'sq_rel': 0.125, 'rmse_log': math.log(1.25) / math.sqrt(2), 'delta1': 0.5, 'delta2': 1.0, 'delta3': 1.0,
        'coverage': 2 / 3,
    }
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(('ratio', 'expected'), [
    (1.2, (1, 1, 1)), (1.3, (0, 1, 1)), (1 / 1.6, (0, 0, 1)), (2.0, (0, 0, 0)),
])
def test_delta_counts_factors_both_ways(ratio, expected):
    found = points([10], [10 * ratio]).sums().metrics()
    assert (found['delta1'], found['delta2'], found['delta3']) == expected


def test_estimates_that_are_none_lower_the_coverage_only():
    clean = points([5, 6], [5.5, 6.6]).sums().metrics()
    spoilt = points([5, 6, 7, 8, 9, 9], [5.5, 6.6, np.nan, np.inf, 0, -3]).sums().metrics()
    assert spoilt.pop('coverage') == pytest.approx(2 / 6)
    assert clean.pop('coverage') == 1
    assert spoilt == pytest.approx(clean)


def test_nothing_gives_nan_and_not_zero():
    assert all(math.isnan(value) for value in DepthSums().metrics().values())
    uncovered = points([5], [np.nan]).sums().metrics()
    assert uncovered['coverage'] == 0
    assert math.isnan(uncovered['mae'])


def test_sums_of_parts_are_the_sums_of_the_whole():
    whole = random_points()
    parts = [whole.take(np.arange(start, len(whole), 3)).sums() for start in range(3)]
    np.testing.assert_allclose(sum(parts, DepthSums()).values, whole.sums().values)
    np.testing.assert_allclose(sum(whole.sums_by_range(RANGE_EDGES), DepthSums()).values, whole.sums().values)


def test_range_bins_hold_their_near_edge_and_the_last_one_its_far_edge():
    bins = points([0.5, 5, 9.99, 80, 80.01], [1, 1, 1, 1, 1]).sums_by_range(RANGE_EDGES)
    assert [item.num_truth for item in bins] == [1, 2, 0, 0, 0, 1]
    assert range_edges(15) == (0, 5, 10, 15)
    assert range_edges(120) == (*RANGE_EDGES, 120)


def test_calibration_of_gaussian_errors():
    rng = np.random.default_rng(1)
    std = rng.uniform(0.1, 2, 100_000)
    truth = np.full(100_000, 50.0)
    found = points(truth, truth + rng.normal(0, std), std).sums().calibration()
    assert found['within_1_sigma'] == pytest.approx(0.683, abs=0.006)
    assert found['within_2_sigma'] == pytest.approx(0.954, abs=0.003)
    assert found['rms_z'] == pytest.approx(1, abs=0.01)


def test_calibration_leaves_out_points_without_a_deviation():
    found = points([5, 5, 5], [5.1, 9, 9], [0.2, 0, np.nan]).sums().calibration()
    assert found['within_1_sigma'] == 1


def test_sample_reads_the_pixel_that_holds_the_point():
    depth = np.arange(200, dtype=np.float32).reshape(10, 20)
    found = sample(depth, depth + 1, sparse([3.4, 3.6, 7], [2, 2, 4.5], [1, 2, 90]), max_depth=80)
    assert found.depth.tolist() == [43, 44]
    assert found.std.tolist() == [44, 45]
    with pytest.raises(ShapeError, match='do not fit'):
        sample(depth[:5], depth[:5], sparse([1], [1], [1]))


def test_score_of_an_estimate_with_and_without_withheld_points():
    rng = np.random.default_rng(0)
    shape, count = (720, 1280), 400
    truth = sparse(rng.uniform(0, 1279, count), rng.uniform(0, 719, count), rng.uniform(2, 70, count), shape)
    dense = np.full(shape, 10, np.float32)
    estimate = DepthEstimate(None, dense, dense, truth, truth, Basis(1, count, 0, 'deskewed'))
    assert score(estimate).num_truth == count
    nothing = DepthEstimate(None, dense, dense, truth, None, Basis(1, count, 0, 'deskewed'))
    assert score(nothing).num_truth == 0


def test_distance_to_measurement():
    distance = distance_to_measurement(sparse([3], [4], [1]))
    assert distance[4, 3] == 0
    assert distance[0, 0] == pytest.approx(5)
    assert np.isinf(distance_to_measurement(sparse([], [], []))).all()
