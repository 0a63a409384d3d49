"""Other images of the scene as a view of a sample needs them: at its zoom, turned as it is, and somewhat wider.

Each becomes the image of a pinhole camera that looks along the axis of the view, with the intrinsics of the view, from
where the other camera stood. So lenses and rotations are gone, what is left between the images is parallax, and images
of all samples fit into one batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.geometry.camera import NONE, distort, model_arguments
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera
from depth_ros_training.data.sample import Sample, SourceImage

REFERENCE, STEREO, TEMPORAL = 0, 1, 2  # slots; from TEMPORAL on, as many as there are
_SLACK = 0.005  # pixels; the reciprocal of a zoom is no binary fraction, and rounding no step outside
_SHRUNK = 0.9  # zoom below which images are blurred against aliasing


@dataclass(frozen=True, eq=False)
class SourceViews:
    """The images of one sample that its view is compared with, in slots.

    Attributes:
        images: (S, H + 2 margin, W + 2 margin, 4) uint8 red, green, blue, and 255 where the image has content, else 0.
            Slot ``REFERENCE`` is the sample itself, for the other view of a pair to be compared with.
        intrinsics: (4,) float32 fx, fy, cx, cy of all of them, pixels.
        transforms: (S, 3, 4) float32, points in the axes of the view to those of each image, metres.
        present: (S,) bool, False = this slot is empty.
    """

    images: np.ndarray
    intrinsics: np.ndarray
    transforms: np.ndarray
    present: np.ndarray

    def mirrored(self) -> SourceViews:
        """The same scene seen in a mirror, left for right."""
        width = self.images.shape[2]
        intrinsics = self.intrinsics.copy()
        intrinsics[2] = width - 1 - intrinsics[2]
        mirror = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
        rotation = mirror @ self.transforms[:, :, :3] @ mirror
        transforms = np.concatenate([rotation, mirror @ self.transforms[:, :, 3:]], axis=2)
        images = np.zeros_like(self.images)
        for slot in np.flatnonzero(self.present):
            cv2.flip(self.images[slot], 1, images[slot])
        return SourceViews(images, intrinsics, transforms, self.present)


def source_views(sample: Sample, camera: Camera, neighbors: int, margin: int) -> SourceViews:
    """Take the other images of a sample: a stereo partner and the nearest in time.

    Args:
        sample: the sample; its transforms mean nothing if it is not metric.
        camera: camera of the view.
        neighbors: number of slots for images before and after.
        margin: pixels on every side.

    Returns:
        The images.
    """
    shape = camera.height + 2 * margin, camera.width + 2 * margin
    intrinsics = np.array([camera.fx, camera.fy, camera.cx + margin, camera.cy + margin])
    slots = TEMPORAL + neighbors
    images = np.zeros((slots, *shape, 4), np.uint8)
    transforms = np.tile(np.eye(3, 4, dtype=np.float32), (slots, 1, 1))
    present = np.zeros(slots, np.bool_)
    zoom = camera.fx / sample.camera.fx
    turn = sample.camera.rotation @ camera.rotation.T
    images[REFERENCE] = _resample(unaliased(sample.image, zoom), sample.camera, turn, intrinsics, shape)
    present[REFERENCE] = True
    for slot, other in _slots(sample.others, neighbors) if sample.metric else ():
        rotation, translation = other.camera_from_reference[:3, :3], other.camera_from_reference[:3, 3]
        turn = other.camera.rotation @ rotation @ camera.rotation.T
        zoom = camera.fx / other.camera.fx
        images[slot] = _resample(unaliased(other.image, zoom), other.camera, turn, intrinsics, shape)
        transforms[slot, :, 3] = camera.rotation @ rotation.T @ translation
        present[slot] = True
    return SourceViews(images, intrinsics.astype(np.float32), transforms, present)


def unaliased(image: np.ndarray, zoom: float) -> np.ndarray:
    """Blur an image that is to be resized by ``zoom``, so that what cannot be shown any more makes no patterns."""
    return cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(1 / zoom**2 - 1)) if zoom < _SHRUNK else image


def move_points(
    points: ProjectedPoints, rays: np.ndarray, camera: Camera, translation: np.ndarray
) -> tuple[ProjectedPoints, np.ndarray]:
    """Project points of a view into the view of a pinhole camera beside it, with the same axes and intrinsics.

    Args:
        points: points in the view, with their parallax from the lidar.
        rays: (H, W, 2) float32 x / z and y / z of the pixels of the view, NaN = none.
        camera: camera of the view.
        translation: (3,) metres, from a point's place in the view to that beside it.

    Returns:
        points: those inside the image beside it.
        index: (K,) int64 which ones they are.
    """
    x, y = _directions(points.u, points.v, rays)
    depth = points.depth.astype(np.float64)
    moved = np.stack([x * depth, y * depth, depth]) + np.asarray(translation, np.float64)[:, None]
    with np.errstate(divide='ignore', invalid='ignore'):
        moved_x, moved_y = moved[0] / moved[2], moved[1] / moved[2]
        u, v = camera.fx * moved_x + camera.cx, camera.fy * moved_y + camera.cy
        inside = (moved[2] > 0) & (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
    index = np.flatnonzero(inside)
    # The direction of a line of sight of the lidar, and so its vanishing point, is the same for both cameras.
    step = np.stack([camera.fx * (x - moved_x), camera.fy * (y - moved_y)], axis=1)
    values = u[index], v[index], moved[2][index]
    u, v, depth = (part.astype(np.float32) for part in values)
    # Rounding may put a point onto the edge.
    u, v = np.minimum(u, np.float32(camera.width - 0.501)), np.minimum(v, np.float32(camera.height - 0.501))
    slide = points.slide[index] + step[index].astype(np.float32)
    return ProjectedPoints(u, v, depth, points.index[index], slide), index


def _slots(others: Sequence[SourceImage], neighbors: int) -> list[tuple[int, SourceImage]]:
    stereo = [other for other in others if other.kind == 'stereo'][:1]
    temporal = sorted((other for other in others if other.kind == 'temporal'), key=lambda other: abs(other.offset_ns))
    return [(STEREO, other) for other in stereo] + list(enumerate(temporal[:neighbors], TEMPORAL))


def _resample(
    image: np.ndarray, camera: Camera, turn: np.ndarray, intrinsics: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Image of a pinhole camera at the same place.

    Args:
        image: (H, W, 3) uint8.
        camera: its camera.
        turn: (3, 3) axes of the image from those of the pinhole camera.
        intrinsics: (4,) of the pinhole camera.
        shape: (height, width) of the pinhole image.

    Returns:
        (height, width, 4) uint8, 0 in the last channel where the image does not reach.
    """
    kind, source, distortion, max_tangent = model_arguments(camera)
    grid = np.empty((*shape, 2), np.float32)
    content = np.empty(shape, np.uint8)
    last = float(camera.width - 1), float(camera.height - 1)
    _map(kind, source, distortion, max_tangent, np.ascontiguousarray(turn), intrinsics, last, grid, content)
    colors = cv2.remap(image, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.merge([*cv2.split(colors), content])


@njit(nogil=True, cache=True)
def _map(kind, source, d, max_tangent, turn, intrinsics, last, grid, content):
    limit2 = max_tangent * max_tangent
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            rx, ry = (column - intrinsics[2]) / intrinsics[0], (row - intrinsics[3]) / intrinsics[1]
            z = turn[2, 0] * rx + turn[2, 1] * ry + turn[2, 2]
            grid[row, column, 0] = grid[row, column, 1] = -10.0
            content[row, column] = 0
            if z <= 1e-6:
                continue
            x = (turn[0, 0] * rx + turn[0, 1] * ry + turn[0, 2]) / z
            y = (turn[1, 0] * rx + turn[1, 1] * ry + turn[1, 2]) / z
            if x * x + y * y > limit2:
                continue
            if kind != NONE:
                x, y = distort(kind, d, x, y)
            u, v = source[0] * x + source[2], source[1] * y + source[3]
            grid[row, column, 0], grid[row, column, 1] = u, v
            if -_SLACK <= u <= last[0] + _SLACK and -_SLACK <= v <= last[1] + _SLACK:
                content[row, column] = 255


@njit(nogil=True, cache=True)
def _directions(u, v, rays):
    """Rays at points between pixels, bilinear, the outermost pixels continued."""
    height, width = rays.shape[0], rays.shape[1]
    x, y = np.empty(u.shape[0]), np.empty(u.shape[0])
    for i in range(u.shape[0]):
        column = min(max(int(math.floor(u[i])), 0), width - 2)
        row = min(max(int(math.floor(v[i])), 0), height - 2)
        a, b = np.float64(u[i]) - column, np.float64(v[i]) - row
        top = (1 - a) * rays[row, column] + a * rays[row, column + 1]
        bottom = (1 - a) * rays[row + 1, column] + a * rays[row + 1, column + 1]
        x[i], y[i] = (1 - b) * top[0] + b * bottom[0], (1 - b) * top[1] + b * bottom[1]
    return x, y
