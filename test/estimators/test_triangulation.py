import numpy as np
import pytest
from scipy.spatial import Delaunay

from depth_ros.errors import ShapeError
from depth_ros.estimators.triangulation import spans_bay, subdivision, triangulate


def _turn(points, a, b, c):
    p, q, r = (points[i].astype(object) for i in (a, b, c))
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


def _in_circle(points, a, b, c, d):
    rows = []
    for i in (a, b, c):
        x, y = (int(points[i][k]) - int(points[d][k]) for k in (0, 1))
        rows.append((x, y, x * x + y * y))
    (ax, ay, a2), (bx, by, b2), (cx, cy, c2) = rows
    return a2 * (bx * cy - by * cx) + b2 * (cx * ay - cy * ax) + c2 * (ax * by - ay * bx)


def _assert_delaunay(points):
    """Python integers, so that the check cannot overflow: it is exact whatever the size."""
    mesh = triangulate(points[:, 0], points[:, 1])
    triangles, opposite = mesh.triangles, mesh.opposite
    assert len(triangles) == 2 * len(points) - 2 - len(mesh.hull)  # Euler
    assert set(triangles.ravel()) == set(range(len(points)))
    assert np.count_nonzero(opposite < 0) == len(mesh.hull)
    for a, b, c in triangles:
        assert _turn(points, a, b, c) > 0
    starts = triangles.ravel()
    ends = triangles[:, [1, 2, 0]].ravel()
    for half, other in enumerate(opposite):
        if other >= 0:
            assert opposite[other] == half
            assert (starts[half], ends[half]) == (ends[other], starts[other])
            far = triangles[other // 3, (other + 2) % 3]
            assert _in_circle(points, *triangles[half // 3], far) <= 0  # locally Delaunay everywhere = Delaunay
    for i, point in enumerate(mesh.hull):
        assert all(_turn(points, point, mesh.hull[(i + 1) % len(mesh.hull)], other) >= 0 for other in mesh.hull)
    return mesh


def _random_points(count, span, seed=0):
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, span, (count, 2)), axis=0)
    return rng.permutation(points)


@pytest.mark.parametrize(('count', 'span'), [(3, 16384), (40, 7), (300, 30), (300, 16384)])
def test_random_points_give_empty_circles(count, span):
    _assert_delaunay(_random_points(count, span))


def test_grid_and_circle_where_many_points_are_cocircular():
    grid = np.stack(np.meshgrid(np.arange(12) * 8, np.arange(9) * 8), axis=-1).reshape(-1, 2)
    _assert_delaunay(grid)
    # All integer points of one circle: 5^2 * 13 has 36 of them.
    span = range(-325, 326)
    circle = np.array([(x + 400, y + 400) for x in span for y in span if x * x + y * y == 325 * 325])
    assert len(circle) >= 20
    _assert_delaunay(circle)


def test_rings_of_a_lidar_on_straight_lines():
    columns, rows = np.meshgrid(np.arange(0, 9000, 23), [400, 1000, 1003, 2900])
    _assert_delaunay(np.stack([columns.ravel(), rows.ravel()], axis=1))


def test_same_triangles_as_scipy_where_they_are_unique():
    points = _random_points(400, 16384, seed=3)
    mesh = triangulate(points[:, 0], points[:, 1])
    expected = {tuple(sorted(triangle)) for triangle in Delaunay(points).simplices}
    assert {tuple(sorted(triangle)) for triangle in mesh.triangles} == expected


def test_order_of_points_does_not_matter():
    points = _random_points(200, 16384, seed=5)
    order = np.random.default_rng(1).permutation(len(points))
    first = triangulate(points[:, 0], points[:, 1]).triangles
    second = order[triangulate(points[order, 0], points[order, 1]).triangles]
    assert {tuple(sorted(t)) for t in first} == {tuple(sorted(t)) for t in second}


@pytest.mark.parametrize(
    ('points', 'hull'),
    [
        ([(5, 5)], {0}),
        ([(5, 5), (9, 2)], {0, 1}),
        ([(6, 6), (2, 2), (9, 9), (4, 4)], {1, 2}),
        ([(3, 8), (3, 2)], {0, 1}),
    ],
)
def test_points_on_one_line_have_no_triangles_and_two_ends(points, hull):
    mesh = triangulate(*np.array(points).T)
    assert mesh.triangles.shape == (0, 3)
    assert mesh.opposite.shape == (0,)
    assert set(mesh.hull) == hull


@pytest.mark.parametrize(
    ('x', 'y'),
    [([], []), ([0.5, 1.0, 2.0], [0, 1, 2]), ([0, 1], [0]), ([0, 16384], [0, 0]), ([0, -1], [0, 0])],
)
def test_unusable_coordinates_are_refused(x, y):
    with pytest.raises(ShapeError, match='coordinates'):
        triangulate(np.array(x, dtype=None if x else np.int64), np.array(y, dtype=np.int64))


@pytest.mark.parametrize(('shape', 'steps'), [((375, 1242), 8), ((1080, 1920), 8), ((2160, 3840), 4), ((240, 320), 16)])
def test_subdivision_keeps_coordinates_in_range(shape, steps):
    assert subdivision(shape) == steps
    assert max(shape) * steps <= 16384


def test_bays_of_the_outline_are_left_open():
    # Two rings that hang down in the middle, as seen by a camera: their hull spans the whole width above them.
    u = np.tile(np.arange(0.0, 400.0, 4.0, dtype=np.float32), 2)
    sag = np.float32(60.0) * (1 - ((u - 200) / 200) ** 2).astype(np.float32)
    v = sag + np.repeat(np.array([20.0, 40.0], np.float32), 100)
    mesh = triangulate((u * 16).astype(np.int32), (v * 16).astype(np.int32))
    kept = mesh.triangles[~spans_bay(mesh, u, v, np.full(len(u), 30.0, np.float32))]

    def longest(triangles):
        corners = np.stack([u[triangles], v[triangles]], axis=-1)
        return np.hypot(*np.moveaxis(corners - np.roll(corners, 1, axis=1), -1, 0)).max()

    assert longest(mesh.triangles) > 100
    assert longest(kept) < 31
    # Between the rings nothing is lost: two triangles per pair of neighbours.
    assert len(kept) >= 2 * 99


def test_a_mesh_without_bays_keeps_its_triangles():
    u, v = (axis.ravel().astype(np.float32) for axis in np.meshgrid(np.arange(0, 80, 8), np.arange(0, 80, 8)))
    mesh = triangulate((u * 16).astype(np.int32), (v * 16).astype(np.int32))
    assert len(mesh.triangles) == 2 * 81
    assert not spans_bay(mesh, u, v, np.full(len(u), 12.0, np.float32)).any()
