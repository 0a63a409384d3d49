"""Estimators at a lower resolution: planes stay planes, surfaces do not mix, what is unknown stays unknown."""

import math

import numpy as np
import pytest

from depth_ros.estimators.downscale import downscale_for, estimate_downscaled
from depth_ros.estimators.learned import BEST_PIXELS
from depth_ros.estimators.registry import create_estimator
from depth_ros.pipeline import estimate_depth
from depth_ros.settings import Settings, from_flat
from depth_ros.types import Camera, Frame, SparseDepth


class Known:
    """An estimator that knows the depth of every direction."""

    name = 'known'
    needs_lidar = True
    best_pixels = math.inf

    def __init__(self, depth_of):
        self.depth_of = depth_of

    def estimate(self, frame, sparse):
        camera = frame.camera
        x = (np.arange(camera.width) - camera.cx) / camera.fx
        y = (np.arange(camera.height) - camera.cy) / camera.fy
        depth = self.depth_of(*np.meshgrid(x, y)).astype(np.float32)
        return depth, depth * np.float32(0.1)


def scene(width=61, height=46):
    camera = Camera(width, height, 50.0, 50.0, 30.2, 22.7)
    points = np.array([10.0, 10.4, 50.0], np.float32)
    depth, std = np.array([3.0, 2.0, 5.0], np.float32), np.full(3, 0.1, np.float32)
    sparse = SparseDepth(points, points[:] / 2, depth, std, camera.shape)
    return Frame(1, np.zeros((height, width, 3), np.uint8), 'rgb8', camera), sparse


def ground(x, y):
    return 1 / (0.2 + 0.02 * x - 0.03 * y)


@pytest.mark.parametrize('downscale', [1, 2, 3, 4])
def test_a_plane_stays_a_plane(downscale):
    frame, sparse = scene()
    depth, std = estimate_downscaled(Known(ground), frame, sparse, downscale)
    expected, _ = Known(ground).estimate(frame, sparse)
    margin = downscale
    inner = (slice(margin, -margin), slice(margin, -margin))
    np.testing.assert_allclose(depth[inner], expected[inner], rtol=1e-4)
    np.testing.assert_allclose(std[inner], 0.1 * expected[inner], rtol=2e-2)


@pytest.mark.parametrize('threads', [2, 3, 7])
def test_threads_change_nothing(threads):
    frame, sparse = scene()
    known = Known(lambda x, y: np.where(x * y < 0.02, ground(x, y), np.nan))
    one, several = (estimate_downscaled(known, frame, sparse, 3, count) for count in (1, threads))
    for values, expected in zip(several, one, strict=True):
        assert values.tobytes() == expected.tobytes()


def test_two_surfaces_do_not_mix():
    frame, sparse = scene()
    depth, _ = estimate_downscaled(Known(lambda x, y: np.where(x < 0.1, 4.0, 12.0)), frame, sparse, 4)
    assert set(np.unique(depth)) == {4.0, 12.0}


def test_what_is_unknown_stays_so_and_does_not_spread():
    frame, sparse = scene()
    depth, std = estimate_downscaled(Known(lambda x, y: np.where(y < -0.2, np.nan, 5.0)), frame, sparse, 2)
    unknown = np.isnan(depth)
    np.testing.assert_array_equal(unknown, np.isnan(std))
    expected, _ = Known(lambda x, y: np.where(y < -0.2, np.nan, 5.0)).estimate(frame, sparse)
    assert np.abs(unknown.sum(axis=0) - np.isnan(expected).sum(axis=0)).max() <= 1


def test_points_that_fall_into_one_pixel_leave_the_nearest():
    given = {}

    class Spy(Known):
        def estimate(self, frame, sparse):
            given['depth'] = sorted(sparse.depth.tolist())
            return super().estimate(frame, sparse)

    frame, sparse = scene()
    estimate_downscaled(Spy(ground), frame, sparse, 4)
    assert given['depth'] == [2.0, 5.0]


@pytest.mark.parametrize(('width', 'height', 'downscale'), [(848, 480, 6), (480, 848, 7), (7, 5, 3)])
def test_points_at_the_border_of_the_image_stay_inside_of_the_smaller_one(width, height, downscale):
    camera = Camera(width, height, 50.0, 50.0, width / 2, height / 2)
    u, v = (np.nextafter(np.float32(size - 0.5), np.float32(-1)) for size in (width, height))
    sparse = SparseDepth(*(np.array([value], np.float32) for value in (u, v, 3.0, 0.1)), camera.shape)
    frame = Frame(1, np.zeros((height, width, 3), np.uint8), 'rgb8', camera)
    given = {}

    class Spy(Known):
        def estimate(self, frame, sparse):
            given['row'], given['column'] = sparse.row.tolist(), sparse.column.tolist()
            return super().estimate(frame, sparse)

    estimate_downscaled(Spy(ground), frame, sparse, downscale)
    assert given == {'row': [-(-height // downscale) - 1], 'column': [-(-width // downscale) - 1]}


@pytest.mark.parametrize(
    ('width', 'height', 'downscale'),
    [(640, 480, 1), (1242, 375, 1), (1032, 775, 1), (1033, 775, 2), (1280, 720, 2), (1920, 1200, 2), (2448, 2048, 4),
     (3840, 2160, 5), (7, 5, 1)],
)  # fmt: skip
def test_networks_see_images_of_the_size_that_they_do_best_on(width, height, downscale):
    shape = height, width
    assert downscale_for(BEST_PIXELS, shape) == downscale
    apart = {n: abs(math.log(width * height / n**2 / BEST_PIXELS)) for n in range(1, 9)}
    assert downscale == min(apart, key=apart.get)
    assert downscale_for(math.inf, shape) == 1
    assert downscale_for(BEST_PIXELS, shape, 3) == 3


@pytest.mark.parametrize(
    ('method', 'asked', 'seen'),
    [('network', 0, (600, 960)), ('network', 1, (1200, 1920)), ('network', 3, (400, 640)),
     ('classical', 0, (1200, 1920))],
)  # fmt: skip
def test_what_an_estimator_sees_is_as_large_as_the_settings_say(method, asked, seen, monkeypatch):
    estimator = create_estimator(Settings(), method)
    shapes = []

    def estimate(frame, sparse):
        shapes.append(frame.image.shape[:2])
        return Known(ground).estimate(frame, sparse)

    monkeypatch.setattr(estimator, 'estimate', estimate)
    frame, sparse = scene(1920, 1200)
    depth, std = estimate_depth(estimator, frame, sparse, from_flat({'estimator.downscale': asked}))
    assert shapes == [seen]
    assert depth.shape == std.shape == (1200, 1920)
