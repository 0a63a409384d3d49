"""One look at a sample: a crop at some zoom, some of the points for the network, the rest to judge it."""

from __future__ import annotations

import copy
import dataclasses

import cv2
import numpy as np

from depth_ros.errors import CameraError
from depth_ros.estimators.downscale import downscale_for, shrink
from depth_ros.estimators.learned import BEST_PIXELS
from depth_ros.estimators.network_input import NetworkInput, encode, padded_shape
from depth_ros.geometry.camera import rays
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.settings import ProjectionSettings
from depth_ros.types import Camera, Frame, SparseDepth, holding_pixel
from depth_ros_training.data import virtual_lidar
from depth_ros_training.data.looks import mirror_sky, recolor, repaint_sky
from depth_ros_training.data.sample import Sample, split_points
from depth_ros_training.data.source_views import STEREO, SourceViews, move_points, source_views, unaliased
from depth_ros_training.settings import SelfSupervisionSettings, ViewSettings

# Every k-th ring is given. Half and less of what a sensor has is where a robot's lidar and the image help each other
# most; all of it is what robots have, and there the least error counts.
_THINNING = (1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 8, 8, 12, 16)
_MIN_GIVEN = 8
# Shares of the pixels with truth from which on it judges without the lidar, and from which on it is a surface to draw
# lidars from.
_SOME, _DENSE = 0.1, 0.5
_ALLOWED_DEPTH = 120.0  # metres; farther lidar returns judge nothing
_FARTHEST = 250.0  # metres; farther truth (mountains) would outweigh all that a robot cares for
# Around a measurement that is so much nearer than the truth, pixels, the truth behind it does not judge.
_GAP_MARGIN, _GAP_RADIUS = 0.1, 4


@dataclasses.dataclass(frozen=True, eq=False)
class Others:
    """What self-supervision needs beside a view.

    Attributes:
        clean: (H, W, 4) uint8 image of the view before its colours were varied; 0 in the last channel where a pixel has
            no ray.
        sources: the images to compare with, as clean as that.
        partner: the same look at the stereo partner, for the network, with the lidar points as they fall there; None
            where there is no partner. Its camera is the pinhole of ``sources``, without the margin.
    """

    clean: np.ndarray
    sources: SourceViews
    partner: View | None


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What one training step gets of a sample.

    Attributes:
        input: input of the network.
        target: (H, W) float32 depth in multiples of ``input.scale``, NaN = unknown.
        dense: True where the target is a surface, so that its gradients mean something.
        metric: False where the scale of the target means nothing in metres.
        sky: (H, W) float32, 1 where a pixel shows the sky, 0 where it shows something, NaN = unknown.
        exact: True where the sample is a simulated one.
        others: the other images of the scene, if asked for.
        informed: the same view with all points, and neither these nor its colours varied, if asked for.
    """

    input: NetworkInput
    target: np.ndarray
    dense: bool
    metric: bool
    sky: np.ndarray
    exact: bool
    others: Others | None = None
    informed: NetworkInput | None = None


def make_view(
    sample: Sample,
    shape: tuple[int, int],
    settings: ViewSettings,
    rng: np.random.Generator,
    others: SelfSupervisionSettings | None = None,
    informed: bool = False,
) -> View:
    """Vary a sample.

    Args:
        sample: the sample.
        shape: (height, width) of the view in pixels.
        settings: how much to vary.
        rng: source of chance; the same state gives the same view.
        others: how to take the other images of the sample; None = not at all. The view is the same either way.
        informed: also what a network would be given that knows all. The view is the same either way.

    Returns:
        The view.
    """
    zoomed = _zoom_and_crop(sample, shape, settings, rng)
    if len(zoomed.points) == 0 or (_is_dense(zoomed) and rng.random() < settings.virtual):
        zoomed = _with_virtual_lidar(zoomed, settings, rng)
    given = choose_given(zoomed, settings, rng)
    projection = ProjectionSettings()
    if not zoomed.metric:
        projection = dataclasses.replace(projection, range_std=0.0)
    inputs, withheld = split_points(zoomed.points, given, shape, projection.hidden_margin, projection.range_std)
    inputs = _disturb(inputs, settings, rng)
    target = np.full(shape, np.nan, np.float32) if zoomed.truth is None else zoomed.truth.copy()
    sky = np.full(shape, np.nan, np.float32)
    if sample.exact:  # what is known and has no depth has none
        sky[:] = np.isnan(target)
    if zoomed.metric:
        target[target > _FARTHEST] = np.nan
    _forget_gaps(target, zoomed.points)
    # Where the truth is known, lidar errors (noise, mixed pixels) need not judge.
    at = withheld.row, withheld.column
    judging = (withheld.depth <= _ALLOWED_DEPTH) & ~np.isfinite(target[at]) & (sky[at] != 1)
    target[withheld.row[judging], withheld.column[judging]] = withheld.depth[judging]
    image = zoomed.image
    if (sky == 1).any() and rng.random() < settings.sky:
        image = repaint_sky(image, sky == 1, rng)
    # Asked first, so that views without it are as they always were.
    if settings.mirrors and sample.exact and rng.random() < settings.mirrors:
        image = mirror_sky(image, sky == 0, rng)
    look = copy.deepcopy(rng)
    image = recolor(image, settings, rng)
    directions = _directions(zoomed.camera)
    mirrored = bool(rng.random() < settings.flip)
    encoded = _encode(zoomed.camera, image, directions, inputs, mirrored)
    target, sky = _turned(target, mirrored), _turned(sky, mirrored)
    dense = zoomed.truth is not None and bool(np.isfinite(zoomed.truth).mean() > _SOME)
    # Without lidar nothing tells the scale of a sample that has none.
    metric = zoomed.metric or len(inputs) > 0
    if not metric:
        target[:] = np.nan
    view = View(encoded, target / np.float32(encoded.scale), dense, metric, sky, sample.exact)
    if informed:
        everything = _all_points(zoomed.points, shape, projection)
        taught = _encode(zoomed.camera, zoomed.image, directions, everything, mirrored)
        view = dataclasses.replace(view, informed=taught)
    if others is None:
        return view
    return dataclasses.replace(
        view, others=_others(sample, zoomed, given, mirrored, others, settings, look, rng, informed)
    )


def _all_points(points: ProjectedPoints, shape: tuple[int, int], projection: ProjectionSettings) -> SparseDepth:
    """What an estimator would be given if nothing were withheld."""
    everything = np.ones(len(points), np.bool_)
    return split_points(points, everything, shape, projection.hidden_margin, projection.range_std)[0]


def _forget_gaps(target: np.ndarray, points: ProjectedPoints) -> None:
    """Make the truth unknown where the lidar met something nearer.

    Between the leaves of a bush and the boards of a fence a pixel shows what is behind, and calibration puts the edge
    of a car beside it. Whoever learns the depth there learns to look past what was measured, and does so on every other
    edge and with every other lidar as well. Measurements that are not given judge there, as on recordings.
    """
    shape = target.shape
    row, column = holding_pixel(points.v), holding_pixel(points.u)
    before = points.depth < (1 - _GAP_MARGIN) * target[row, column]
    if not before.any():
        return
    measured = np.full(shape, np.inf, np.float32)
    np.minimum.at(measured, (row[before], column[before]), points.depth[before])
    around = cv2.erode(measured, np.ones((2 * _GAP_RADIUS + 1,) * 2, np.uint8))
    target[around < (1 - _GAP_MARGIN) * target] = np.nan


def _encode(
    camera: Camera, image: np.ndarray, directions: np.ndarray, inputs: SparseDepth, mirrored: bool
) -> NetworkInput:
    """Input of the network for an image, mirrored or as it is."""
    if mirrored:
        image = _turned(image, mirrored)
        directions = directions[:, ::-1] * np.array([-1, 1], np.float32)
        camera = dataclasses.replace(camera, cx=camera.width - 1 - camera.cx)
        # Pixels hold their left edge and not their right one, which is the other way round in a mirror.
        last = np.nextafter(np.float32(camera.width - 0.5), np.float32(0))
        u = np.clip(np.float32(camera.width - 1) - inputs.u, np.float32(-0.5), last)
        inputs = SparseDepth(u, inputs.v, inputs.depth, inputs.std, inputs.shape)
    directions = np.ascontiguousarray(np.nan_to_num(directions, nan=0.0))
    return encode(Frame(1, image, 'rgb8', camera), inputs, directions)


def _turned(pixels: np.ndarray, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels


def _others(
    sample: Sample,
    zoomed: Sample,
    given: np.ndarray,
    mirrored: bool,
    others: SelfSupervisionSettings,
    settings: ViewSettings,
    look: np.random.Generator,
    rng: np.random.Generator,
    informed: bool,
) -> Others:
    """The other images of a sample beside its view; ``look`` is the chance that the colours of the view came from."""
    sources = source_views(sample, zoomed.camera, others.neighbors, others.margin)
    directions = _directions(zoomed.camera)
    clean = np.dstack([zoomed.image, np.where(np.isfinite(directions).all(axis=2), 255, 0).astype(np.uint8)])
    partner = None
    if sources.present[STEREO]:
        camera, shape = _pinhole(zoomed.camera), zoomed.camera.shape
        points, index = move_points(zoomed.points, directions, camera, sources.transforms[STEREO, :, 3])
        projection = ProjectionSettings()
        inputs, withheld = split_points(points, given[index], shape, projection.hidden_margin, projection.range_std)
        target = np.full(shape, np.nan, np.float32)
        judging = withheld.depth <= _ALLOWED_DEPTH
        target[withheld.row[judging], withheld.column[judging]] = withheld.depth[judging]
        rows, columns = (slice(others.margin, others.margin + size) for size in shape)
        image, directions = np.ascontiguousarray(sources.images[STEREO, rows, columns, :3]), rays(camera)
        everything = _all_points(points, shape, projection)
        taught = _encode(camera, image, directions, everything, mirrored) if informed else None
        image = recolor(image, settings, look)
        encoded = _encode(camera, image, directions, _disturb(inputs, settings, rng), mirrored)
        target = _turned(target, mirrored) / np.float32(encoded.scale)
        sky = np.full(shape, np.nan, np.float32)
        partner = View(encoded, target, False, True, sky, sample.exact, informed=taught)
    if mirrored:
        return Others(cv2.flip(clean, 1), sources.mirrored(), partner)
    return Others(clean, sources, partner)


def _directions(camera: Camera) -> np.ndarray:
    """As ``rays``; all NaN where a part of a fisheye's image is beside all that its lens shows."""
    try:
        return rays(camera)
    except CameraError:
        return np.full((*camera.shape, 2), np.nan, np.float32)


def _pinhole(camera: Camera) -> Camera:
    """The camera without its lens."""
    return dataclasses.replace(camera, model='none', distortion=np.zeros(0))


def choose_given(sample: Sample, settings: ViewSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw the points that the network is given.

    Returns:
        (M,) bool. Some rings of a spinning lidar, of these sometimes every n-th point, sometimes with a hole; of a
        lidar without rings a share of the points; or none.
    """
    count = len(sample.points)
    if rng.random() < settings.no_lidar:
        return np.zeros(count, np.bool_)
    ring = sample.ring
    judged_otherwise = sample.truth is not None and np.isfinite(sample.truth).mean() > _SOME
    if (count and ring.min() < 0) or rng.random() < settings.scattered:
        share = np.exp(rng.uniform(np.log(0.02), np.log(0.9)))
        given = rng.random(count) < share
    else:
        thinning = int(rng.choice(_THINNING))
        # A lidar with few rings is not thinned to nothing.
        while thinning > 1 and len(np.unique(ring)) / thinning < 3:
            thinning -= 1
        given = (ring + rng.integers(thinning)) % thinning == 0
        if thinning == 1 and not judged_otherwise:
            given &= rng.random(count) > rng.uniform(0.05, 0.5)
    if rng.random() < 0.25:  # dropped at random, as on dark and wet surfaces
        given &= rng.random(count) < rng.uniform(0.3, 1.0)
    if rng.random() < 0.1:  # dropped in a block
        u, v = sample.points.u, sample.points.v
        width, height = sample.camera.width * rng.uniform(0.05, 0.3), sample.camera.height * rng.uniform(0.1, 0.6)
        left, top = rng.uniform(0, sample.camera.width - width), rng.uniform(0, sample.camera.height - height)
        given &= ~((u > left) & (u < left + width) & (v > top) & (v < top + height))
    if given.sum() < _MIN_GIVEN:
        given[:] = False
    return given


def _zoom_and_crop(sample: Sample, shape: tuple[int, int], settings: ViewSettings, rng: np.random.Generator) -> Sample:
    height, width = shape
    camera = sample.camera
    # The image has to fill the view.
    smallest = max(height / camera.height, width / camera.width)
    zoom = max(np.exp(rng.uniform(np.log(settings.min_zoom), np.log(settings.max_zoom))), smallest)
    # A narrow camera seen from afar would fill the view with a few surfaces.
    zoom = min(zoom, max(smallest / settings.min_share, settings.min_zoom))
    size = max(round(camera.width * zoom), width), max(round(camera.height * zoom), height)
    zoom_u, zoom_v = size[0] / camera.width, size[1] / camera.height
    left, top = int(rng.integers(size[0] - width + 1)), int(rng.integers(size[1] - height + 1))
    # Only the part that is seen is resized.
    u0, v0 = left / zoom_u, top / zoom_v
    matrix = np.array([[1 / zoom_u, 0, u0 + 0.5 / zoom_u - 0.5], [0, 1 / zoom_v, v0 + 0.5 / zoom_v - 0.5]])
    source = unaliased(sample.image, zoom)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(source, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    truth = None
    if sample.truth is not None:
        columns = np.clip(np.rint((np.arange(width) + left + 0.5) / zoom_u - 0.5).astype(np.int64), 0, camera.width - 1)
        rows = np.clip(np.rint((np.arange(height) + top + 0.5) / zoom_v - 0.5).astype(np.int64), 0, camera.height - 1)
        truth = sample.truth[rows[:, None], columns[None, :]]
    points = sample.points
    u = (points.u + np.float32(0.5)) * np.float32(zoom_u) - np.float32(0.5 + left)
    v = (points.v + np.float32(0.5)) * np.float32(zoom_v) - np.float32(0.5 + top)
    inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    slide = points.slide * np.array([zoom_u, zoom_v], np.float32)
    points = ProjectedPoints(u[inside], v[inside], points.depth[inside], points.index[inside], slide[inside])
    view_camera = Camera(
        width,
        height,
        camera.fx * zoom_u,
        camera.fy * zoom_v,
        (camera.cx + 0.5) * zoom_u - 0.5 - left,
        (camera.cy + 0.5) * zoom_v - 0.5 - top,
        camera.frame_id,
        camera.model,
        camera.distortion,
        camera.rotation,
    )
    return Sample(sample.name, sample.recording, image, view_camera, points, sample.ring[inside], truth, sample.metric)


def _is_dense(sample: Sample) -> bool:
    return sample.truth is not None and bool(np.isfinite(sample.truth).mean() > _DENSE)


def _with_virtual_lidar(sample: Sample, settings: ViewSettings, rng: np.random.Generator) -> Sample:
    if sample.truth is None or not np.isfinite(sample.truth).any():
        return sample
    draw = virtual_lidar.rosette if rng.random() < settings.rosette else virtual_lidar.spinning
    points, ring = draw(sample.truth, sample.camera, rng)
    return dataclasses.replace(sample, points=points, ring=ring)


def _disturb(sparse: SparseDepth, settings: ViewSettings, rng: np.random.Generator) -> SparseDepth:
    """Shift, blur in range and corrupt the points that are given."""
    if len(sparse) == 0:
        return sparse
    u, v, depth = sparse.u, sparse.v, sparse.depth
    if rng.random() < settings.miscalibrated:
        u = u + np.float32(rng.uniform(-settings.max_shift, settings.max_shift))
        v = v + np.float32(rng.uniform(-settings.max_shift, settings.max_shift))
    if rng.random() < 0.3:
        noise = rng.uniform(0.0, 0.01) * rng.standard_normal(len(depth))
        depth = (depth * np.exp(noise)).astype(np.float32)
    if rng.random() < settings.outliers:
        wrong = rng.random(len(depth)) < rng.uniform(0.0, 0.01)
        depth = np.where(wrong, depth * np.exp(rng.normal(0.0, 0.7, len(depth))), depth).astype(np.float32)
    height, width = sparse.shape
    inside = (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    return SparseDepth(u[inside], v[inside], depth[inside], sparse.std[inside], sparse.shape)


def whole_view(sample: Sample, given: np.ndarray) -> tuple[NetworkInput, SparseDepth, SparseDepth]:
    """Take a sample as it is, for validation; what the network sees is as large as on a robot.

    Args:
        sample: the sample.
        given: (M,) bool, points for the network.

    Returns:
        input: input of the network.
        inputs: the points given, as estimators take them.
        withheld: the points that judge.
    """
    projection = ProjectionSettings()
    inputs, withheld = split_points(
        sample.points, given, sample.camera.shape, projection.hidden_margin, projection.range_std
    )
    downscale = downscale_for(BEST_PIXELS, sample.camera.shape)
    return encode(*shrink(sample.frame(), inputs, downscale)), inputs, withheld


def check_shape(shape: tuple[int, int]) -> bool:
    """Whether views of this (height, width) need no padding."""
    return padded_shape(shape) == shape
