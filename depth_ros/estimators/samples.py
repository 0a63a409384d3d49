"""What every estimator needs to know of its measurements: where they are, how far apart, and how far they reach."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.errors import ShapeError
from depth_ros.estimators.triangulation import Mesh, subdivision, triangulate
from depth_ros.geometry.projection import nearest_per_pixel
from depth_ros.types import Frame, SparseDepth

# A disc around each point of the hull stands for the reach of its measurement; so many corners draw it.
_DISC_CORNERS = 16
_MAX_SPACING = 1.5  # times the median; a sample farther from its neighbours has them across a void
_POLYGON_SHIFT = 4  # fractional bits of polygon corners


@dataclass(frozen=True, eq=False)
class Samples:
    """Measurements, at most one per pixel, with their Delaunay mesh.

    Attributes:
        u: (N,) float32 column in pixels.
        v: (N,) float32 row in pixels.
        depth: (N,) float32 metres.
        std: (N,) float32 metres.
        column: (N,) int32 column of the pixel that holds the point.
        row: (N,) int32 row of the pixel that holds the point.
        mesh: triangles between the points.
        mesh_u: (N,) float32 column of the point in the mesh, rounded to its grid.
        mesh_v: (N,) float32 row of the point in the mesh, rounded to its grid.
        spacing: (N,) float32 pixels, distance to the farthest neighbour in the mesh: the gap between rings for a
            spinning lidar, the mean distance for a random pattern. Limited where a neighbour lies across a void; 0 for
            a lone point.
        shape: (height, width) of the image in pixels.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    std: np.ndarray
    column: np.ndarray
    row: np.ndarray
    mesh: Mesh
    mesh_u: np.ndarray
    mesh_v: np.ndarray
    spacing: np.ndarray
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.depth)


def collect(frame: Frame, sparse: SparseDepth) -> Samples:
    """Check the measurements of a frame and triangulate them.

    Args:
        frame: the image.
        sparse: its measurements; of several in one pixel the nearest counts.

    Returns:
        The samples.

    Raises:
        ShapeError: no measurement, another image size, or a measurement outside of the image or without a depth.
    """
    shape = frame.camera.shape
    if tuple(sparse.shape) != shape:
        raise ShapeError(f'sparse depth is for an image of {tuple(sparse.shape)}, the frame has {shape}')
    if len(sparse) == 0:
        raise ShapeError('sparse depth holds no measurement, expected at least one; does the lidar see this image?')
    row, column = sparse.row, sparse.column
    if min(row.min(), column.min()) < 0 or row.max() >= shape[0] or column.max() >= shape[1]:
        raise ShapeError(
            f'measurements reach from pixel ({column.min()}, {row.min()}) to ({column.max()}, {row.max()}), outside of '
            f'the image of {shape[1]} x {shape[0]}'
        )
    if not (np.isfinite(sparse.depth).all() and sparse.depth.min() > 0 and np.isfinite(sparse.std).all()):
        raise ShapeError('a measurement has no finite, positive depth or no finite std; drop it before')
    keep = nearest_per_pixel(sparse, shape)
    u, v = sparse.u[keep], sparse.v[keep]
    steps = subdivision(shape)
    x = np.floor((u + np.float32(0.5)) * steps).astype(np.int32)
    y = np.floor((v + np.float32(0.5)) * steps).astype(np.int32)
    mesh = triangulate(x, y)
    # The middle of a step stands for all of it; binary fractions, so still exact.
    mesh_u, mesh_v = ((step.astype(np.float32) + np.float32(0.5)) / steps - np.float32(0.5) for step in (x, y))
    return Samples(
        u, v, sparse.depth[keep], sparse.std[keep], column[keep], row[keep], mesh, mesh_u, mesh_v, _spacing(u, v, mesh),
        shape,
    )


def coverage(samples: Samples) -> np.ndarray:
    """Where the measurements reach: their convex hull, grown by the local spacing of samples.

    The next ring of a lidar would lie about one spacing outside of the hull, and what the lidar sees there is about
    what it sees at the hull. Farther out nothing is known.

    Args:
        samples: the measurements.

    Returns:
        (H, W) bool, True inside. The pixels of the measurements always are.
    """
    angle = np.arange(_DISC_CORNERS) * (2 * np.pi / _DISC_CORNERS)
    hull = samples.mesh.hull
    # Circumscribed, so that the polygon holds the disc.
    radius = samples.spacing[hull] / np.cos(np.pi / _DISC_CORNERS)
    x = samples.u[hull, None] + radius[:, None] * np.cos(angle)
    y = samples.v[hull, None] + radius[:, None] * np.sin(angle)
    polygon = cv2.convexHull(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
    corners = np.rint(polygon * (1 << _POLYGON_SHIFT)).astype(np.int32)
    mask = np.zeros(samples.shape, dtype=np.uint8)
    cv2.fillConvexPoly(mask, corners, 1, lineType=cv2.LINE_8, shift=_POLYGON_SHIFT)
    mask[samples.row, samples.column] = 1
    return mask.view(np.bool_)


def _spacing(u: np.ndarray, v: np.ndarray, mesh: Mesh) -> np.ndarray:
    """(N,) float32 pixels, see ``Samples.spacing``."""
    if len(mesh.triangles) == 0:
        # On a line the neighbours are those before and behind.
        order = np.lexsort((v, u))
        gap = np.hypot(np.diff(u[order]), np.diff(v[order])).astype(np.float32)
        spacing = np.zeros(len(u), dtype=np.float32)
        spacing[order[1:]] = gap
        spacing[order[:-1]] = np.maximum(spacing[order[:-1]], gap)
    else:
        spacing = _farthest_neighbor(u, v, mesh.triangles, mesh.opposite)
    # Edges across voids (sky, glass) say nothing about the spacing of samples.
    return np.minimum(spacing, np.float32(_MAX_SPACING) * np.median(spacing))


@njit(nogil=True, cache=True)
def _farthest_neighbor(u, v, triangles, opposite):
    """Longest edge at each point; edges of the hull, which skip over bays, count only for points without others."""
    inner = np.zeros(len(u), np.float32)
    outer = np.zeros(len(u), np.float32)
    for half in range(len(opposite)):
        t, i = half // 3, half % 3
        a, b = triangles[t, i], triangles[t, (i + 1) % 3]
        length = np.float32(np.hypot(u[a] - u[b], v[a] - v[b]))
        longest = inner if opposite[half] >= 0 else outer
        longest[a] = max(longest[a], length)
        longest[b] = max(longest[b], length)
    for i in range(len(u)):
        if inner[i] == 0:
            inner[i] = outer[i]
    return inner
