"""The yardsticks against scipy, which is slow and right."""

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt

from depth_ros.estimators.yardsticks import LinearEstimator, NearestEstimator
from depth_ros.types import Camera, Frame, SparseDepth


@pytest.fixture(scope='module')
def street():
    random = np.random.default_rng(2)
    camera = Camera(200, 120, 100.0, 100.0, 100.0, 60.0)
    u, v = random.uniform(0, 199, 400).astype(np.float32), random.uniform(0, 119, 400).astype(np.float32)
    _, first = np.unique(np.rint(v) * 1000 + np.rint(u), return_index=True)
    u, v = u[first], v[first]
    depth = random.uniform(2, 40, len(u)).astype(np.float32)
    sparse = SparseDepth(u, v, depth, np.full(len(u), 0.03, np.float32), camera.shape)
    return Frame(1, np.zeros(camera.shape, np.uint8), 'mono8', camera), sparse


def test_linear_is_linear_in_inverse_depth(street):
    frame, sparse = street
    depth, _ = LinearEstimator().estimate(frame, sparse)
    interpolate = LinearNDInterpolator(np.stack([sparse.u, sparse.v], axis=1), 1 / sparse.depth.astype(np.float64))
    rows, columns = np.mgrid[: sparse.shape[0], : sparse.shape[1]]
    expected = 1 / interpolate(columns, rows)
    inside = np.isfinite(expected)
    # Rounding to a sixteenth of a pixel may turn the diagonal of a few triangles.
    assert np.mean(np.abs(depth[inside] / expected[inside] - 1) < 1e-3) > 0.99


def test_nearest_is_the_nearest_measured_pixel(street):
    frame, sparse = street
    depth, _ = NearestEstimator().estimate(frame, sparse)
    image = sparse.to_image()
    rows, columns = distance_transform_edt(np.isnan(image), return_distances=False, return_indices=True)
    covered = np.isfinite(depth)
    assert covered.mean() > 0.9
    # Where two are almost as near, the chamfer distance may prefer the other.
    assert np.mean((depth == image[rows, columns])[covered]) > 0.97
    assert (depth[sparse.row, sparse.column] == sparse.depth).all()
