"""Whether lidar and image fit together: do edges in depth lie on edges in the image?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.geometry.projection import ProjectedPoints

# Shifts that are tried, pixels of an image 1242 wide.
_SHIFTS_U, _SHIFTS_V = np.arange(-48, 49, 3), np.arange(-16, 17, 8)
_REFERENCE_WIDTH = 1242
# A depth edge: the next point of the ring is farther by this.
_JUMP_SHARE, _JUMP = 0.15, 0.5  # of the depth; metres
_SMOOTH = 0.03  # of the depth, between neighbours on one surface
_MAX_GAP = 4.0  # of the spacing of points along the ring
_MIN_EDGES = 300
# The best shift is told from chance if it stands out by this many deviations of the others.
_MIN_CONTRAST = 2.0
_TOLERANCE = 9.0  # pixels of an image 1242 wide


@dataclass(frozen=True)
class Agreement:
    """How well depth edges and image edges agree.

    Attributes:
        num_edges: depth edges that were looked at.
        best_shift: (columns, rows) in pixels by which the lidar would have to move to agree best.
        contrast: by how many deviations the agreement at the best shift stands out.
        score: agreement without a shift, as a share of that at the best; 1 = best as it is, 0 = as by chance.
        problem: what is wrong, one line; '' if nothing is, or too little was seen to tell.
    """

    num_edges: int
    best_shift: tuple[float, float]
    contrast: float
    score: float
    problem: str


class EdgeAgreement:
    """Sums over images how much image gradient lies at the edges of depth, for shifts of the lidar.

    After Levinson and Thrun 2013 (edges of depth on distance-blurred edges of the image), with shifts in the image in
    the place of changes of the extrinsics: small turns of the lidar are shifts.
    """

    def __init__(self) -> None:
        self.sums = np.zeros((len(_SHIFTS_V), len(_SHIFTS_U)))
        self.num_edges = 0
        self.width = 0

    def add(self, gray: np.ndarray, points: ProjectedPoints, ring: np.ndarray) -> None:
        """Look at one image.

        Args:
            gray: (H, W) uint8.
            points: the sweep of the moment.
            ring: (M,) beam of each point, negative = unknown.
        """
        self.width = gray.shape[1]
        u, v = _depth_edges(points, ring)
        scale = self.width / _REFERENCE_WIDTH
        if len(u) == 0:
            return
        gradient = np.abs(cv2.Sobel(cv2.GaussianBlur(gray, (0, 0), 1.0 * max(scale, 0.5)), cv2.CV_32F, 1, 0))
        gradient = cv2.blur(gradient, (3, 3))
        # Strong edges of shadows and signs must not outvote all others.
        gradient = np.minimum(gradient, np.percentile(gradient, 95))
        gradient = gradient / max(float(gradient.mean()), 1e-6)
        _add_shifted(gradient, u, v, _SHIFTS_U * scale, _SHIFTS_V * scale, self.sums)
        self.num_edges += len(u)

    def merge(self, sums: np.ndarray, num_edges: int, width: int) -> None:
        """Add what another process saw."""
        self.sums += sums
        self.num_edges += num_edges
        self.width = max(self.width, width)

    def result(self) -> Agreement:
        """Say how well lidar and image fit together."""
        if self.num_edges < _MIN_EDGES:
            return Agreement(self.num_edges, (0.0, 0.0), 0.0, 1.0, '')
        mean = self.sums / self.num_edges
        # Some heights of an image have more edges than others, whatever the lidar sees there.
        mean = mean - np.median(mean, axis=1, keepdims=True)
        i, j = np.unravel_index(np.argmax(mean), mean.shape)
        middle = float(np.median(mean))
        deviation = 1.4826 * float(np.median(np.abs(mean - middle))) + 1e-6
        contrast = (float(mean[i, j]) - middle) / deviation
        here = float(mean[len(_SHIFTS_V) // 2, len(_SHIFTS_U) // 2])
        score = (here - middle) / (float(mean[i, j]) - middle + 1e-9)
        scale = self.width / _REFERENCE_WIDTH
        shift = float(_SHIFTS_U[j] * scale), float(_SHIFTS_V[i] * scale)
        problem = ''
        if contrast < _MIN_CONTRAST:
            problem = (
                'edges in depth do not lie on edges in the image, whatever the shift: check the transform between '
                'lidar and camera, and their clocks'
            )
        elif max(abs(_SHIFTS_U[j]), abs(_SHIFTS_V[i])) > _TOLERANCE:
            problem = (
                f'edges in depth would lie on those in the image {shift[0]:+.0f} columns and {shift[1]:+.0f} rows '
                'from where they are: check the transform between lidar and camera, and their clocks'
            )
        return Agreement(self.num_edges, shift, contrast, score, problem)


@njit(nogil=True, cache=True)
def _add_shifted(gradient, u, v, shifts_u, shifts_v, sums):
    height, width = gradient.shape
    for i in range(shifts_v.shape[0]):
        for j in range(shifts_u.shape[0]):
            total = 0.0
            for k in range(u.shape[0]):
                column, row = int(np.rint(u[k] + shifts_u[j])), int(np.rint(v[k] + shifts_v[i]))
                if 0 <= column < width and 0 <= row < height:
                    total += gradient[row, column]
                else:  # outside of the image there is as much as anywhere
                    total += 1.0
            sums[i, j] += total


def _depth_edges(points: ProjectedPoints, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the near sides of jumps in depth along rings."""
    known = ring >= 0
    if known.sum() < 2:
        return np.zeros(0), np.zeros(0)
    u, v, depth, ring = points.u[known], points.v[known], points.depth[known], ring[known]
    order = np.lexsort((u, ring))
    u, v, depth, ring = u[order], v[order], depth[order], ring[order]
    gap = np.diff(u)
    along = np.median(gap[(ring[1:] == ring[:-1]) & (gap > 0)]) if (ring[1:] == ring[:-1]).any() else 1.0
    beside = (ring[1:] == ring[:-1]) & (gap < _MAX_GAP * along)
    nearer = np.minimum(depth[1:], depth[:-1])
    jump = beside & (np.abs(np.diff(depth)) > _JUMP + _JUMP_SHARE * nearer)
    # Steps between two surfaces; leaves and grass have jumps everywhere, and no edges to go with them.
    smooth = np.concatenate([[False], beside & (np.abs(np.diff(depth)) < _SMOOTH * nearer), [False]])
    jump[1:-1] &= smooth[1:-3] & smooth[3:-1] if len(jump) > 2 else False
    left = np.flatnonzero(jump)
    near = np.where(depth[left] < depth[left + 1], left, left + 1)
    return u[near], v[near]
