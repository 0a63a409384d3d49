"""The candidates that the network chooses from, against their definitions."""

import numpy as np
import pytest
from scipy.spatial import Delaunay

from depth_ros.estimators.network_input import encode
from depth_ros.networks.layout import CANDIDATES, FAR, FARTHER, LINEAR, MEAN, NEAR, NEARER, NEAREST, PLANE, REACHED
from depth_ros.types import Camera, Frame, SparseDepth

SHAPE = (96, 160)


@pytest.fixture(scope='module')
def scene():
    """Scattered measurements all over an image, and (H, W, C) inverse depths of the candidates."""
    rng = np.random.default_rng(4)
    camera = Camera(SHAPE[1], SHAPE[0], 150.0, 150.0, 80.0, 48.0)
    frame = Frame(1, rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8), 'rgb8', camera)
    column, row = (axis.ravel() for axis in np.meshgrid(np.arange(2, 160, 9.0), np.arange(2, 96, 9.0)))
    u, v = (place + rng.uniform(-1.5, 1.5, len(column)) for place in (column, row))
    depth = rng.uniform(2.0, 60.0, len(u))
    values = [value.astype(np.float32) for value in (u, v, depth, np.full(len(u), 0.03))]
    encoded = encode(frame, SparseDepth(*values, SHAPE))
    guide = encoded.guide[: SHAPE[0], : SHAPE[1]]
    inverse = guide[..., CANDIDATES] * (guide[..., LINEAR] / encoded.scale)[..., None]
    inverse[..., LINEAR] = guide[..., LINEAR] / encoded.scale
    return values[:3], guide, inverse


def test_candidates_lie_in_their_ranges(scene):
    _, _, inverse = scene
    rounding = 1 + 1e-5
    for inner in (LINEAR, PLANE, MEAN, NEAREST):
        assert (inverse[..., inner] <= inverse[..., NEAR] * rounding).all()
        assert (inverse[..., inner] >= inverse[..., FAR] / rounding).all()
    assert (inverse[..., NEAR] <= inverse[..., NEARER] * rounding).all()
    assert (inverse[..., FAR] >= inverse[..., FARTHER] / rounding).all()


def test_the_nearest_candidate_is_the_corner_nearest_in_the_image(scene):
    (u, v, depth), guide, inverse = scene
    mesh = Delaunay(np.stack([u, v], axis=1).astype(np.float64))
    rows, columns = np.nonzero(guide[..., REACHED] == 1)
    corners = mesh.simplices[mesh.find_simplex(np.stack([columns, rows], axis=1))]
    away = np.hypot(u[corners] - columns[:, None], v[corners] - rows[:, None])
    expected = 1 / depth[corners[np.arange(len(corners)), away.argmin(axis=1)]]
    # At the sides of triangles rounding decides which one a pixel is in.
    assert np.mean(np.abs(inverse[rows, columns, NEAREST] - expected) < 1e-5) > 0.97


def test_the_wide_range_is_that_of_the_corners_and_their_neighbours(scene):
    (u, v, depth), guide, inverse = scene
    mesh = Delaunay(np.stack([u, v], axis=1).astype(np.float64))
    first, neighbours = mesh.vertex_neighbor_vertices
    around = [1 / depth[[k, *neighbours[first[k] : first[k + 1]]]] for k in range(len(u))]
    lowest, highest = np.array([values.min() for values in around]), np.array([values.max() for values in around])
    # In the middle, where all triangles belong to neither outline.
    rows, columns = (axis.ravel() for axis in np.mgrid[30:60, 40:120])
    corners = mesh.simplices[mesh.find_simplex(np.stack([columns, rows], axis=1))]
    assert (guide[rows, columns, REACHED] == 1).all()
    assert np.mean(np.isclose(inverse[rows, columns, NEARER], highest[corners].max(axis=1), rtol=1e-4)) > 0.97
    assert np.mean(np.isclose(inverse[rows, columns, FARTHER], lowest[corners].min(axis=1), rtol=1e-4)) > 0.97
