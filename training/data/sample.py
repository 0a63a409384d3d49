"""What a network is trained on: one image and everything that was measured of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_ros.errors import ShapeError
from depth_ros.geometry.projection import ProjectedPoints, nearest_per_pixel, visible
from depth_ros.geometry.rings import infer_rings
from depth_ros.types import Camera, Frame, LidarScan, SparseDepth

UNKNOWN_RING = -1
SOURCE_KINDS = ('stereo', 'temporal')


@dataclass(frozen=True, eq=False)
class SourceImage:
    """Another view of the scene of a sample, to compare it with.

    Attributes:
        image: (H, W, 3) uint8, red first.
        camera: model of its camera.
        camera_from_reference: (4, 4) float64, takes points of the optical frame of the sample's camera, at the time
            of its image, to the optical frame of this camera, at the time of this image; metres.
        kind: ``stereo`` (same time, another camera) or ``temporal`` (another time).
        offset_ns: time of this image minus that of the sample's, ns; negative = before.

    Raises:
        ShapeError: image and camera do not fit together, the transform is not rigid, or there is no such kind.
    """

    image: np.ndarray
    camera: Camera
    camera_from_reference: np.ndarray
    kind: str
    offset_ns: int = 0

    def __post_init__(self) -> None:
        if self.kind not in SOURCE_KINDS:
            raise ShapeError(f'kind of a source image is {self.kind!r}, expected one of {SOURCE_KINDS}')
        if self.image.shape != (*self.camera.shape, 3) or self.image.dtype != np.uint8:
            raise ShapeError(
                f'{self.kind} source image is {self.image.dtype} {self.image.shape}, expected uint8 '
                f'{(*self.camera.shape, 3)}'
            )
        matrix = np.asarray(self.camera_from_reference, dtype=np.float64)
        rigid = (
            matrix.shape == (4, 4)
            and np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9)
            and np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-4)
            and np.linalg.det(matrix[:3, :3]) > 0
        )
        if not rigid:
            raise ShapeError(f'{self.kind} source camera_from_reference {matrix.tolist()} is no rigid transform')
        object.__setattr__(self, 'camera_from_reference', matrix)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image, its lidar points and, where it is known, its true depth.

    Points are kept as projected, before anything hides them: which points are hidden depends on which are given to the
    network, and that is drawn anew each time the sample is used.

    Attributes:
        name: unique within its source.
        recording: drive or scene it belongs to; splits go by it.
        image: (H, W, 3) uint8, red first.
        camera: model of the camera.
        points: lidar points inside the image; none where a virtual lidar is to be drawn from ``truth``.
        ring: (M,) int16 beam of each point, ``UNKNOWN_RING`` where the lidar names none.
        truth: (H, W) float32 metres, NaN = unknown, inf = too far to be stored; None where nothing but the lidar says
            anything.
        metric: False where depths are known up to a factor only.
        others: the same scene from elsewhere, for self-supervision. Transforms are in metres.
        exact: True where ``truth`` is what each pixel shows, without error, as a simulation knows it. Then it judges,
            and not the lidar: that sees between leaves and past edges what the pixel does not, and nothing outside its
            field.

    Raises:
        ShapeError: sizes do not fit together.
    """

    name: str
    recording: str
    image: np.ndarray
    camera: Camera
    points: ProjectedPoints
    ring: np.ndarray
    truth: np.ndarray | None = None
    metric: bool = True
    others: tuple[SourceImage, ...] = ()
    exact: bool = False

    def __post_init__(self) -> None:
        if self.image.shape != (*self.camera.shape, 3) or self.image.dtype != np.uint8:
            raise ShapeError(
                f'{self.name}: image is {self.image.dtype} {self.image.shape}, expected uint8 {(*self.camera.shape, 3)}'
            )
        if self.ring.shape != (len(self.points),):
            raise ShapeError(f'{self.name}: {self.ring.shape} rings for {len(self.points)} points')
        if self.truth is not None and (self.truth.shape != self.camera.shape or self.truth.dtype != np.float32):
            raise ShapeError(
                f'{self.name}: true depth is {self.truth.dtype} {self.truth.shape}, expected float32 '
                f'{self.camera.shape}'
            )

    def frame(self) -> Frame:
        """Return the image as estimators take it."""
        return Frame(1, self.image, 'rgb8', self.camera)

    def true_points(self) -> SparseDepth:
        """Return the known part of ``truth`` as measurements without error; nothing where there is none."""
        return SparseDepth.from_image(np.zeros(self.camera.shape, np.float32) if self.truth is None else self.truth)


def empty_points() -> ProjectedPoints:
    """No point at all."""
    nothing = np.zeros(0, np.float32)
    return ProjectedPoints(nothing, nothing, nothing, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))


def split_points(
    points: ProjectedPoints, given: np.ndarray, shape: tuple[int, int], hidden_margin: float, std: float
) -> tuple[SparseDepth, SparseDepth]:
    """Divide points into those given to an estimator and those that judge it, as ``DepthPipeline`` does.

    Hidden points are removed from the former by what is given alone, from the latter by all points.

    Args:
        points: projected points.
        given: (M,) bool, True = given.
        shape: (height, width) of the image.
        hidden_margin: ``projection.hidden_margin``.
        std: standard deviation of a measurement, metres.

    Returns:
        given: measurements for the estimator.
        withheld: measurements that judge it.
    """
    inputs = points.take(given)
    inputs = inputs.take(nearest_per_pixel(inputs, shape))
    withheld = points.take(~given)
    withheld = withheld.take(nearest_per_pixel(withheld, shape))
    seen = visible(withheld, points.take(nearest_per_pixel(points, shape)), shape, hidden_margin)
    parts = inputs.take(visible(inputs, inputs, shape, hidden_margin)), withheld.take(seen)
    return tuple(SparseDepth(part.u, part.v, part.depth, np.full(len(part), std, np.float32), shape) for part in parts)


def rings_of(scan: LidarScan, points: ProjectedPoints) -> np.ndarray:
    """(M,) int16 beam of each projected point, ``UNKNOWN_RING`` where the lidar names none and none can be found."""
    if scan.ring is not None:
        return scan.ring[points.index].astype(np.int16)
    found = infer_rings(scan.points)
    if found is None:
        return np.full(len(points), UNKNOWN_RING, np.int16)
    return found[0][points.index].astype(np.int16)
