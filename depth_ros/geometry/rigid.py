"""Rigid transforms, and the tree that joins frames. Named as equations: ``p_camera = camera_from_lidar @ p_lidar``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numba import njit

from depth_ros.errors import SettingsError, ShapeError, TransformError


def quaternion_to_rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix of a quaternion.

    Args:
        quaternion: (4,) x, y, z, w as in ROS; any non-zero length.

    Returns:
        (3, 3) float64.

    Raises:
        ShapeError: it has zero or non-finite length.
    """
    quaternion = np.asarray(quaternion, dtype=np.float64)
    length = np.linalg.norm(quaternion)
    if not np.isfinite(length) or length < 1e-9:
        raise ShapeError(f'quaternion {quaternion.tolist()} has no direction, expected x y z w of length 1')
    return _rotation(quaternion / length)


@njit(nogil=True, cache=True)
def _rotation(quaternion):
    x, y, z, w = quaternion
    rotation = np.empty((3, 3))
    rotation[0, 0] = 1 - 2 * (y * y + z * z)
    rotation[0, 1] = 2 * (x * y - z * w)
    rotation[0, 2] = 2 * (x * z + y * w)
    rotation[1, 0] = 2 * (x * y + z * w)
    rotation[1, 1] = 1 - 2 * (x * x + z * z)
    rotation[1, 2] = 2 * (y * z - x * w)
    rotation[2, 0] = 2 * (x * z - y * w)
    rotation[2, 1] = 2 * (y * z + x * w)
    rotation[2, 2] = 1 - 2 * (x * x + y * y)
    return rotation


def rotation_to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """Quaternion of a rotation matrix.

    Args:
        rotation: (3, 3).

    Returns:
        (4,) float64 x, y, z, w of length 1, w >= 0.

    Source: Shepperd 1978, the largest of the four squared components first.
    """
    return _quaternion(np.ascontiguousarray(rotation, np.float64))


@njit(nogil=True, cache=True)
def _quaternion(r):
    trace = r[0, 0] + r[1, 1] + r[2, 2]
    largest, i = trace, 3
    for axis in range(3):
        if 2 * r[axis, axis] - trace > largest:
            largest, i = 2 * r[axis, axis] - trace, axis
    quaternion = np.empty(4)
    if i == 3:
        quaternion[0], quaternion[1], quaternion[2] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
        quaternion[3] = 1 + trace
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        quaternion[i] = 1 + largest
        quaternion[j] = r[j, i] + r[i, j]
        quaternion[k] = r[k, i] + r[i, k]
        quaternion[3] = r[k, j] - r[j, k]
    quaternion /= math.sqrt((quaternion * quaternion).sum())
    return quaternion if quaternion[3] >= 0 else -quaternion


def rigid(translation: Iterable[float], quaternion: Iterable[float]) -> np.ndarray:
    """(4, 4) float64 transform from a translation in metres and a quaternion x, y, z, w."""
    matrix = np.eye(4)
    matrix[:3, :3] = quaternion_to_rotation(np.asarray(tuple(quaternion)))
    matrix[:3, 3] = tuple(translation)
    if not np.isfinite(matrix).all():
        raise ShapeError(f'translation {matrix[:3, 3].tolist()} is not finite')
    return matrix


def invert(matrix: np.ndarray) -> np.ndarray:
    """(4, 4) inverse of a (4, 4) rigid transform."""
    inverse = np.eye(4)
    inverse[:3, :3] = matrix[:3, :3].T
    inverse[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return inverse


def interpolate(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Pose between two poses: straight line, great arc; beyond them for a share outside [0, 1].

    Args:
        before: (4, 4) pose at share 0.
        after: (4, 4) pose at share 1.
        share: where, in units of the step.

    Returns:
        (4, 4) float64.

    Source: Shoemake 1985 (slerp).
    """
    return _interpolate(np.ascontiguousarray(before), np.ascontiguousarray(after), float(share))


@njit(nogil=True, cache=True)
def _interpolate(before, after, share):
    q0, q1 = _quaternion(before[:3, :3]), _quaternion(after[:3, :3])
    cosine = (q0 * q1).sum()
    if cosine < 0:
        q1, cosine = -q1, -cosine
    angle = math.acos(min(cosine, 1.0))
    if angle < 1e-6:
        quaternion = q0 + share * (q1 - q0)
    else:
        quaternion = (math.sin((1 - share) * angle) * q0 + math.sin(share * angle) * q1) / math.sin(angle)
    pose = np.eye(4)
    pose[:3, :3] = _rotation(quaternion / math.sqrt((quaternion * quaternion).sum()))
    pose[:3, 3] = before[:3, 3] + share * (after[:3, 3] - before[:3, 3])
    return pose


def parse_transform(line: str) -> tuple[str, str, np.ndarray]:
    """Read ``parent child x y z qx qy qz qw``.

    Returns:
        parent: frame.
        child: frame.
        parent_from_child: (4, 4) float64, metres.

    Raises:
        SettingsError: the line has another form.
    """
    parts = line.split()
    try:
        parent, child = (frame.lstrip('/') for frame in parts[:2])
        values = [float(part) for part in parts[2:]]
        if len(values) != 7:
            raise ValueError
        return parent, child, rigid(values[:3], values[3:])
    except ValueError as error:
        raise SettingsError(
            f"static transform is {line!r}, expected 'parent child x y z qx qy qz qw' (metres, quaternion)"
        ) from error


class TransformTree:
    """Static transforms between named frames, from TF messages, parameters or an importer."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, np.ndarray]] = {}
        self._named: dict[tuple[str, str], None] = {}  # parent and child, in the order in which they came
        self._cache: dict[tuple[str, str], np.ndarray] = {}

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames, sorted."""
        return tuple(sorted(self._edges))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Parent and child of every transform, as they were given."""
        return tuple(self._named)

    def add(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Set the transform of ``child`` in ``parent``; a later one replaces an earlier one.

        Args:
            parent: frame; a leading slash (ROS 1) is dropped.
            child: frame.
            parent_from_child: (4, 4) rigid transform, metres.
        """
        parent, child = parent.lstrip('/'), child.lstrip('/')
        self._edges.setdefault(parent, {})[child] = np.asarray(parent_from_child, dtype=np.float64)
        self._edges.setdefault(child, {})[parent] = invert(parent_from_child)
        self._named.pop((child, parent), None)
        self._named[parent, child] = None
        self._cache.clear()

    def add_text(self, line: str) -> None:
        """Add a line as ``parse_transform`` reads it; raises ``SettingsError`` as that does."""
        self.add(*parse_transform(line))

    def text(self) -> list[str]:
        """Return every transform once, parent and child as they were given, in the form that ``add_text`` takes."""
        lines = []
        for parent, child in self._named:
            matrix = self._edges[parent][child]
            numbers = [*matrix[:3, 3], *rotation_to_quaternion(matrix[:3, :3])]
            lines.append(' '.join([parent, child, *(f'{number:.9g}' for number in numbers)]))
        return lines

    def lookup(self, target: str, source: str, stamp_ns: int = 0) -> np.ndarray:
        """Transform that takes points of ``source`` to ``target``.

        Args:
            target: frame of the result.
            source: frame of the points.
            stamp_ns: when; all the same here, where nothing moves.

        Returns:
            (4, 4) float64 ``target_from_source``.

        Raises:
            TransformError: no chain joins the two.
        """
        target, source = target.lstrip('/'), source.lstrip('/')
        if target == source:
            return np.eye(4)
        if (target, source) not in self._cache:
            self._cache[target, source] = self._search(target, source)
        return self._cache[target, source]

    def chain(self, target: str, source: str) -> tuple[str, ...]:
        """Names of the frames from ``target`` to ``source``, both included; raises ``TransformError`` as ``lookup``."""
        target, source = target.lstrip('/'), source.lstrip('/')
        towards = {target: target}
        frontier = [target]
        while source not in towards and frontier:
            frame = frontier.pop(0)
            for neighbour in self._edges.get(frame, {}):
                if neighbour not in towards:
                    towards[neighbour] = frame
                    frontier.append(neighbour)
        if source not in towards:
            raise TransformError(target, source, self.frames)
        frames = [source]
        while frames[-1] != target:
            frames.append(towards[frames[-1]])
        return tuple(reversed(frames))

    def _search(self, target: str, source: str) -> np.ndarray:
        result = np.eye(4)
        for frame, neighbour in pairwise(self.chain(target, source)):
            result = result @ self._edges[frame][neighbour]
        return result
