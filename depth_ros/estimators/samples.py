"""What every estimator needs to know of its measurements: where they are, how far apart, and how far they reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numba import njit

from depth_ros.errors import ShapeError
from depth_ros.estimators.triangulation import Mesh, spans_bay, subdivision, triangulate
from depth_ros.geometry.projection import nearest_per_pixel
from depth_ros.types import Frame, SparseDepth

# A disc around each point of the hull stands for the reach of its measurement; so many corners draw it.
_DISC_CORNERS = 16
_MAX_SPACING = 1.5  # times the median; a sample farther from its neighbours has them across a void
_MAX_OUTLINE = 1.5  # times the spacing: a longer side of the outline spans a bay of the measurements
NEAREST_STEP = 4  # pixels per cell of the grid of nearest samples
_CORNER_TOLERANCE = 1.0  # pixels by which the outline may be simpler than the convex hull
_POLYGON_SHIFT = 4  # fractional bits of polygon corners


@dataclass(frozen=True, eq=False)
class Samples:
    """Measurements, at most one per pixel. Their Delaunay mesh is made when it is asked for.

    Attributes:
        u: (N,) float32 column in pixels.
        v: (N,) float32 row in pixels.
        depth: (N,) float32 metres.
        std: (N,) float32 metres.
        column: (N,) int32 column of the pixel that holds the point.
        row: (N,) int32 row of the pixel that holds the point.
        shape: (height, width) of the image in pixels.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    std: np.ndarray
    column: np.ndarray
    row: np.ndarray
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.depth)

    @cached_property
    def mesh(self) -> Mesh:
        """Triangles between the points."""
        return triangulate(*self._grid)

    @cached_property
    def triangles(self) -> np.ndarray:
        """(T, 3) int32 triangles of the mesh between whose corners depth may be interpolated: none across a bay."""
        return self.mesh.triangles[~self._spans_bay]

    @property
    def bays(self) -> np.ndarray:
        """(B, 3) int32 the other triangles of the mesh, which span bays of the measurements."""
        return self.mesh.triangles[self._spans_bay]

    @cached_property
    def nearest(self) -> np.ndarray:
        """(h, w) int32 index of the sample nearest to every cell of ``NEAREST_STEP`` pixels."""
        shape = -(-self.shape[0] // NEAREST_STEP), -(-self.shape[1] // NEAREST_STEP)
        index = np.full(shape, -1, dtype=np.int32)
        index[self.row // NEAREST_STEP, self.column // NEAREST_STEP] = np.arange(len(self), dtype=np.int32)
        empty = (index < 0).astype(np.uint8)
        _, labels = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        by_label = np.zeros(labels.max() + 1, dtype=np.int32)
        occupied = empty == 0
        by_label[labels[occupied]] = index[occupied]
        return by_label[labels]

    @cached_property
    def _spans_bay(self) -> np.ndarray:
        return spans_bay(self.mesh, self.u, self.v, np.float32(_MAX_OUTLINE) * self.spacing)

    @property
    def mesh_u(self) -> np.ndarray:
        """(N,) float32 column of the point in the mesh, rounded to its grid."""
        return self._rounded(0)

    @property
    def mesh_v(self) -> np.ndarray:
        """(N,) float32 row of the point in the mesh, rounded to its grid."""
        return self._rounded(1)

    @cached_property
    def spacing(self) -> np.ndarray:
        """(N,) float32 pixels, distance to the farthest neighbour in the mesh.

        That is the gap between rings for a spinning lidar, the mean distance for a random pattern. Limited where a
        neighbour lies across a void; 0 for a lone point.
        """
        return _spacing(self.u, self.v, self.mesh)

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        steps, half = subdivision(self.shape), np.float32(0.5)
        return tuple(np.floor((place + half) * steps).astype(np.int32) for place in (self.u, self.v))

    def _rounded(self, axis: int) -> np.ndarray:
        # The middle of a step stands for all of it; binary fractions, so still exact.
        half = np.float32(0.5)
        return (self._grid[axis].astype(np.float32) + half) / subdivision(self.shape) - half


def collect(frame: Frame, sparse: SparseDepth) -> Samples:
    """Check the measurements of a frame.

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
    return Samples(
        sparse.u[keep], sparse.v[keep], sparse.depth[keep], sparse.std[keep], column[keep], row[keep], shape
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
    corners = cv2.convexHull(np.stack([samples.u, samples.v], axis=1))
    corners = cv2.approxPolyDP(corners, _CORNER_TOLERANCE, closed=True).reshape(-1, 2)
    gap = _gap_inward(samples.u, samples.v, corners)
    # A side of the hull that spans a void (sky, glass) says nothing about the spacing of samples.
    gap = np.minimum(gap, np.float32(_MAX_SPACING) * np.median(gap))
    angle = np.arange(_DISC_CORNERS) * (2 * np.pi / _DISC_CORNERS)
    # Circumscribed, so that the polygon holds the disc.
    radius = gap / np.cos(np.pi / _DISC_CORNERS)
    x = corners[:, :1] + radius[:, None] * np.cos(angle)
    y = corners[:, 1:] + radius[:, None] * np.sin(angle)
    polygon = cv2.convexHull(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
    outline = np.rint(polygon * (1 << _POLYGON_SHIFT)).astype(np.int32)
    mask = np.zeros(samples.shape, dtype=np.uint8)
    cv2.fillConvexPoly(mask, outline, 1, lineType=cv2.LINE_8, shift=_POLYGON_SHIFT)
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
def _gap_inward(u, v, corners):
    """(K,) float32 pixels: from each corner of the hull to the next sample inward, at right angles to one of its sides.

    For a corner on the outermost ring of a lidar that is the gap to the next ring. Inward is within 45 degrees of the
    inner normal of the side; where there is nothing, the nearest other sample counts.
    """
    count = len(corners)
    gap = np.zeros(count, np.float32)
    for k in range(count):
        here_u, here_v = corners[k, 0], corners[k, 1]
        for side in range(2):
            other = (k + 1) % count if side == 0 else k - 1
            along_u, along_v = corners[other, 0] - here_u, corners[other, 1] - here_v
            length = math.sqrt(along_u * along_u + along_v * along_v)
            if length == 0:
                continue
            along_u, along_v = along_u / length, along_v / length
            inside, anywhere = np.inf, np.inf
            # All samples lie on one side of a side of the hull, so the sign of the normal does not matter.
            for i in range(len(u)):
                du, dv = u[i] - here_u, v[i] - here_v
                square = du * du + dv * dv
                if 0 < square < max(inside, anywhere):
                    anywhere = min(anywhere, square)
                    if abs(du * along_u + dv * along_v) <= abs(dv * along_u - du * along_v):
                        inside = min(inside, square)
            nearest = inside if inside < np.inf else anywhere
            if nearest < np.inf:
                gap[k] = max(gap[k], math.sqrt(nearest))
    return gap


@njit(nogil=True, cache=True)
def _farthest_neighbor(u, v, triangles, opposite):
    """Longest edge at each point; edges of the hull, which skip over bays, count only for points without others."""
    # Squares of lengths until the end.
    inner = np.zeros(len(u), np.float32)
    outer = np.zeros(len(u), np.float32)
    for half in range(len(opposite)):
        t, i = half // 3, half % 3
        a, b = triangles[t, i], triangles[t, (i + 1) % 3]
        square = (u[a] - u[b]) ** 2 + (v[a] - v[b]) ** 2
        if opposite[half] >= 0:  # the other half is for b
            inner[a] = max(inner[a], square)
        else:
            outer[a] = max(outer[a], square)
            outer[b] = max(outer[b], square)
    for i in range(len(u)):
        inner[i] = np.sqrt(inner[i] if inner[i] > 0 else outer[i])
    return inner
