from dataclasses import replace

import numpy as np
import pytest

from depth_ros.errors import ShapeError
from depth_ros.estimators.classical import ClassicalEstimator
from depth_ros.estimators.planes import fit_planes, spread_planes
from depth_ros.estimators.samples import collect, coverage
from depth_ros.estimators.yardsticks import LinearEstimator, MorphologicalEstimator, NearestEstimator
from depth_ros.settings import ClassicalSettings
from depth_ros.types import Camera, Frame, SparseDepth

HEIGHT, WIDTH = 96, 160
ALL = [ClassicalEstimator, NearestEstimator, LinearEstimator, MorphologicalEstimator]


def make_frame(image=None):
    if image is None:
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    height, width = image.shape[:2]
    encoding = 'mono8' if image.ndim == 2 else 'rgb8'
    return Frame(0, image, encoding, Camera(width, height, 100.0, 100.0, width / 2, height / 2))


def make_sparse(u, v, depth, std=0.02, shape=(HEIGHT, WIDTH)):
    u, v, depth = (np.asarray(values, dtype=np.float32) for values in (u, v, np.broadcast_to(depth, np.shape(u))))
    return SparseDepth(u, v, depth, np.full(len(u), std, np.float32), shape)


def rings(gap=12, step=3):
    """Columns and rows of a level lidar, off the pixel centres."""
    u, v = np.meshgrid(np.arange(1, WIDTH - 2, step) + 0.3, np.arange(8, HEIGHT - 8, gap) - 0.2)
    return u.ravel(), v.ravel()


def scattered(count=250, seed=0):
    """A non-repetitive pattern: random pixels, each once."""
    pixels = np.random.default_rng(seed).choice(HEIGHT * WIDTH, count, replace=False)
    return (pixels % WIDTH).astype(float), (pixels // WIDTH).astype(float)


def plane_depth(u, v):
    return 1.0 / (0.02 + 0.0007 * np.asarray(v) + 0.0002 * np.asarray(u))


PIXELS_V, PIXELS_U = np.mgrid[:HEIGHT, :WIDTH]
PATTERNS = {'rings': rings, 'tilted': lambda: (rings()[1] * 1.5, rings()[0] * 0.55), 'scattered': scattered}


@pytest.mark.parametrize('pattern', PATTERNS)
@pytest.mark.parametrize('estimator', [ClassicalEstimator, LinearEstimator])
def test_a_plane_comes_out_exactly(estimator, pattern):
    u, v = PATTERNS[pattern]()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)  # texture must not matter
    depth, std = estimator().estimate(make_frame(noise), make_sparse(u, v, plane_depth(u, v)))
    inside = (u.min() < PIXELS_U) & (u.max() > PIXELS_U) & (v.min() < PIXELS_V) & (v.max() > PIXELS_V)
    if pattern == 'scattered':  # its hull is no rectangle
        inside &= (PIXELS_U > 20) & (PIXELS_U < 140) & (PIXELS_V > 15) & (PIXELS_V < 80)
    error = np.abs(depth / plane_depth(PIXELS_U, PIXELS_V) - 1)[inside]
    assert inside.sum() > 5000
    assert np.nanmax(error) < 0.01
    assert np.nanmean(error) < 0.001
    assert np.isfinite(error).all()
    assert depth.dtype == std.dtype == np.float32


@pytest.mark.parametrize('edge', [70, 75])
def test_a_depth_edge_lands_on_the_image_edge(edge):
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[:, edge:] = 190
    u, v = rings(gap=12, step=20)
    depth, _ = ClassicalEstimator(ClassicalSettings(mesh_share=0.0)).estimate(
        make_frame(image), make_sparse(u, v, np.where(u < edge, 4.0, 12.0))
    )
    truth = np.where(PIXELS_U < edge, 4.0, 12.0)[20:76]
    wrong = np.abs(depth[20:76] / truth - 1) > 0.3
    assert wrong.any(axis=0).nonzero()[0].size <= 2  # columns; the ramp of linear interpolation is 20 wide
    linear, _ = LinearEstimator().estimate(make_frame(image), make_sparse(u, v, np.where(u < edge, 4.0, 12.0)))
    assert (np.abs(linear[20:76] / truth - 1) > 0.3).any(axis=0).sum() > 6


def test_without_an_image_edge_the_result_stays_within_its_neighbours():
    u, v = rings()
    depth, _ = ClassicalEstimator().estimate(make_frame(), make_sparse(u, v, np.where(u < 80, 4.0, 12.0)))
    inside = depth[8:80, 2:156]
    assert inside.min() > 3.999
    assert inside.max() < 12.001


def test_both_borders_of_the_image_are_near_their_own_side_of_the_hull():
    # The mesh ends a fraction of a pixel inside of the border, so that both ends of each row lie outside of it.
    v, u = (axis.ravel() for axis in np.mgrid[0:HEIGHT:4, 0:WIDTH:4])
    depth, std = ClassicalEstimator().estimate(make_frame(), make_sparse(u, v, 5.0))
    assert np.isfinite(depth).all()
    assert std[:, -3:].max() < 1.0  # 0.15 of the depth per spacing of distance


def bay(middle, ends):
    """Level rings, the upper ones with a gap in the middle: nothing was measured in it."""
    u, v = rings()
    lower, between = v > 50, (u > 60) & (u < 100)
    kept = lower | ~between
    return u[kept], v[kept], np.where(between, middle, ends)[kept]


@pytest.mark.parametrize(('middle', 'ends', 'least'), [(5.0, 20.0, 14.0), (20.0, 5.0, 7.0)])
def test_in_a_bay_the_farther_of_continuation_and_line_counts_more(middle, ends, least):
    u, v, depth = bay(middle, ends)
    estimate, std = ClassicalEstimator().estimate(make_frame(), make_sparse(u, v, depth))
    line, _ = LinearEstimator().estimate(make_frame(), make_sparse(u, v, depth))
    assert line[20, 80] == pytest.approx(ends, rel=0.05)
    assert least < estimate[20, 80] <= 20
    # What the other may be is within three std.
    assert estimate[20, 80] - 3 * std[20, 80] < 6


@pytest.mark.parametrize('estimator', ALL)
def test_no_measurement_is_refused_in_one_line(estimator):
    with pytest.raises(ShapeError, match='no measurement') as caught:
        estimator().estimate(make_frame(), make_sparse([], [], []))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'sparse',
    [
        make_sparse([5.0], [5.0], [3.0], shape=(HEIGHT, WIDTH + 1)),
        make_sparse([500.0], [5.0], [3.0]),
        make_sparse([-3.0], [5.0], [3.0]),
        make_sparse([5.0], [5.0], [0.0]),
        make_sparse([5.0], [5.0], [np.nan]),
        make_sparse([5.0], [5.0], [3.0], std=np.inf),
    ],
    ids=['size', 'right', 'left', 'zero', 'nan', 'std'],
)
def test_unusable_measurements_are_refused(sparse):
    with pytest.raises(ShapeError):
        ClassicalEstimator().estimate(make_frame(), sparse)


@pytest.mark.parametrize('estimator', ALL)
@pytest.mark.parametrize(
    ('u', 'v'),
    [
        ([50.2], [40.1]),
        ([50.0, 90.0], [40.0, 60.0]),
        ([20.0, 50.0, 80.0, 110.0], [40.0, 40.0, 40.0, 40.0]),
        ([30.0, 31.0, 32.0, 33.0], [10.0, 30.0, 50.0, 70.0]),
        ([20.0, 40.0, 80.0], [20.0, 40.0, 80.0]),
        ([0.0, 159.0, 0.0, 159.0], [0.0, 0.0, 95.0, 95.0]),
    ],
    ids=['one', 'two', 'row', 'nearly a line', 'diagonal', 'corners'],
)
def test_a_handful_of_points_gives_their_depth(estimator, u, v):
    depth, std = estimator().estimate(make_frame(), make_sparse(u, v, 5.0))
    known = np.isfinite(depth)
    assert known[np.rint(v).astype(int), np.rint(u).astype(int)].all()
    np.testing.assert_allclose(depth[known], 5.0, rtol=1e-3)
    assert np.array_equal(known, np.isfinite(std))
    assert (std[known] > 0).all()


def test_of_several_points_in_one_pixel_the_nearest_counts():
    sparse = make_sparse([50.1, 49.9, 50.0], [40.0, 40.2, 39.8], [9.0, 4.0, 7.0])
    assert ClassicalEstimator().estimate(make_frame(), sparse)[0][40, 50] == pytest.approx(4.0)


@pytest.mark.parametrize('pattern', PATTERNS)
@pytest.mark.parametrize('scale', [0.05, 20.0])
def test_depth_scales_with_its_input(pattern, scale):
    u, v = PATTERNS[pattern]()
    image = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    truth = np.where(u < 80, plane_depth(u, v), 30.0)
    depth, std = ClassicalEstimator().estimate(make_frame(image), make_sparse(u, v, truth, std=0.0))
    scaled, scaled_std = ClassicalEstimator().estimate(make_frame(image), make_sparse(u, v, truth * scale, std=0.0))
    np.testing.assert_allclose(scaled, depth * scale, rtol=1e-3)
    np.testing.assert_allclose(scaled_std, std * scale, rtol=0.02, atol=1e-4 * scale)


def test_grey_as_colour_and_as_mono_give_the_same():
    u, v = rings()
    gray = np.random.default_rng(2).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    sparse = make_sparse(u, v, np.where(u < 80, 4.0, 12.0))
    mono, _ = ClassicalEstimator().estimate(make_frame(gray), sparse)
    color, _ = ClassicalEstimator().estimate(make_frame(np.repeat(gray[..., None], 3, axis=2)), sparse)
    np.testing.assert_allclose(mono, color, rtol=1e-4)


def with_focal_length(frame, focal_length):
    return replace(frame, camera=replace(frame.camera, fx=focal_length, fy=focal_length))


def test_std_grows_with_the_angle_between_samples():
    u, v = rings(gap=24)
    sparse = make_sparse(u, v, 10.0)
    wide, narrow = (ClassicalEstimator().estimate(with_focal_length(make_frame(), f), sparse)[1] for f in (100, 400))
    assert np.nanmean(wide) > 1.5 * np.nanmean(narrow)
    fewer = ClassicalEstimator().estimate(make_frame(), make_sparse(u[v < 60], v[v < 60], 10.0))[1]
    np.testing.assert_allclose(fewer[8:30, 20:140], wide[8:30, 20:140], rtol=0.05)  # it is the angle there that counts


def test_std_holds_measurement_distance_spread_and_roughness():
    u, v = rings(gap=24)
    frame = with_focal_length(make_frame(), 400)

    def estimate(depth, std=0.02):
        return ClassicalEstimator().estimate(frame, make_sparse(u, v, depth, std))[1]

    slanted = estimate(plane_depth(u, v))
    assert slanted[44, 20:140].mean() > 1.2 * slanted[32, 20:140].mean()  # between two rings, on a ring
    flat = estimate(np.full(u.shape, 10.0))
    assert flat[:6].mean() > 2 * flat[8:80].mean()  # above the hull, inside
    assert np.nanmin(estimate(np.full(u.shape, 10.0), std=0.5)) >= 0.5
    step = estimate(np.where(v < 50, 20.0, 5.0))
    assert step[44, 20:140].min() > 5 * flat[44, 20:140].max()
    rough = estimate(10.0 + np.random.default_rng(0).normal(0, 0.5, u.shape))
    assert rough[8:80, 20:140].mean() > 3 * flat[8:80, 20:140].mean()


def test_std_holds_most_errors():
    image, truth = _boxes()
    u, v = rings(gap=10)
    depth, std = ClassicalEstimator().estimate(make_frame(image), make_sparse(u, v, _at(truth, u, v)))
    known = np.isfinite(depth)
    share = np.abs(depth - truth)[known] / std[known]
    assert 0.5 < np.mean(share < 1) < 0.999
    assert np.mean(share < 2) > 0.85


@pytest.mark.parametrize('pattern', PATTERNS)
def test_all_methods_cover_the_same_pixels(pattern):
    u, v = PATTERNS[pattern]()
    frame, sparse = make_frame(), make_sparse(u, v, plane_depth(u, v))
    expected = coverage(collect(frame, sparse))
    assert 0.3 < expected.mean()
    for estimator in ALL:
        assert np.array_equal(np.isfinite(estimator().estimate(frame, sparse)[0]), expected), estimator.name


def test_coverage_reaches_one_ring_beyond_the_hull_and_no_farther():
    gap = 12
    u, v = rings(gap)
    lower = v > 40
    mask = coverage(collect(make_frame(), make_sparse(u[lower], v[lower], 5.0)))
    top = int(v[lower].min())
    assert mask[top - gap + 1, 20:140].all()
    assert not mask[: top - 2 * gap].any()


def test_edges_beat_every_yardstick_where_image_and_depth_agree():
    image, truth = _boxes()
    frame = make_frame(image)
    for u, v in (rings(gap=10), scattered()):
        sparse = make_sparse(u, v, _at(truth, u, v))
        error = {}
        for estimator in ALL:
            depth, _ = estimator().estimate(frame, sparse)
            error[estimator.name] = np.nanmean(np.abs(depth - truth))
        assert error['classical'] < 0.85 * min(error['nearest'], error['linear'], error['ip_basic']), error


def test_a_stray_point_stays_local():
    u, v = rings()
    depths = np.full(u.shape, 8.0)
    middle = len(u) // 2 + 25
    depths[middle] = 60.0  # a background point shining through
    depth, _ = ClassicalEstimator().estimate(make_frame(), make_sparse(u, v, depths))
    assert (np.abs(depth[np.isfinite(depth)] - 8.0) > 2.0).sum() < 60


def test_same_input_same_output_and_input_untouched():
    u, v = rings()
    wide = np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH + 6, 4), dtype=np.uint8)
    view = wide[:, 3:-3, 2::-1]  # padded rows, reversed channels: what a message may be
    sparse = make_sparse(u, v, plane_depth(u, v))
    for values in (wide, sparse.u, sparse.v, sparse.depth, sparse.std):
        values.flags.writeable = False
    estimator = ClassicalEstimator()
    first = estimator.estimate(make_frame(view), sparse)
    estimator.estimate(make_frame(), make_sparse(u[:50], v[:50], 3.0))
    second = estimator.estimate(make_frame(view.copy()), sparse)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.shares_memory(one, other)


@pytest.mark.parametrize('shape', [(1, 1), (3, 2), (37, 53), (480, 64)])
def test_any_image_size(shape):
    height, width = shape
    frame = make_frame(np.zeros((height, width), np.uint8))
    v, u = np.mgrid[0:height:5, 0:width:3]
    depth, _ = ClassicalEstimator().estimate(frame, make_sparse(u.ravel(), v.ravel(), 2.0, shape=shape))
    assert depth.shape == shape
    np.testing.assert_allclose(depth[np.isfinite(depth)], 2.0, rtol=1e-3)


def _boxes():
    """Slanted ground before a wall, and two boxes, each in its own colour."""
    truth = np.minimum(plane_depth(0, PIXELS_V), 25.0)
    image = np.full((HEIGHT, WIDTH, 3), (110, 110, 100), np.uint8)
    image[truth >= 25.0] = (200, 210, 230)
    for box, depth, color in (
        (np.s_[20:70, 30:62], 9.0, (30, 60, 160)),
        (np.s_[30:62, 95:120], 11.0, (150, 30, 40)),
    ):
        truth[box] = depth
        image[box] = color
    return image, truth


def _at(truth, u, v):
    return truth[np.rint(v).astype(int), np.rint(u).astype(int)]


def test_planes_are_unknown_where_none_arrives():
    # What stands for 0 in the smoothing must stay below the least weight that counts.
    samples = collect(make_frame(), make_sparse([5.0], [5.0], [250.0]))
    planes = spread_planes(make_frame().image, samples, fit_planes(samples), reach=0.32, step=2)
    assert planes[2, 2] == pytest.approx([1 / 250, 0, 0, 1 / 250], rel=1e-6, abs=1e-9)
    known = np.isfinite(planes[..., 0])
    assert planes[known][:, 3] == pytest.approx(1 / 250, rel=1e-5)
    assert not known[-1, -1]
