"""Rays into a world: what they hit, whether light gets through. The engine is Open3D's ``RaycastingScene`` (Embree).

Moving objects are not moved: their rays are, into the object's own frame at the ray's own time. So a sweep of a lidar
sees them where they were at each point's time, without rebuilding anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from depth_ros.open3d_library import load_open3d
from depth_ros_training.simulation.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Track:
    """Where a body is over time.

    Attributes:
        start: time of the first pose, s.
        step: seconds between poses.
        poses: (K, 3, 4) float64 world from body; between them matrices are blended linearly.
    """

    start: float
    step: float
    poses: np.ndarray

    def at(self, times: np.ndarray | float) -> np.ndarray:
        """(..., 3, 4) float64 poses at times in s; the first and last hold outside."""
        share = np.clip((np.asarray(times) - self.start) / self.step, 0, len(self.poses) - 1)
        index = np.minimum(share.astype(np.int64), max(len(self.poses) - 2, 0))
        following = np.minimum(index + 1, len(self.poses) - 1)
        share = (share - index)[..., None, None]
        return self.poses[index] * (1 - share) + self.poses[following] * share


@dataclass(frozen=True, eq=False)
class Mover:
    """An object that moves: its mesh in its own frame, and its track."""

    mesh: Mesh
    track: Track


@dataclass(frozen=True, eq=False)
class Hits:
    """What rays hit first.

    Attributes:
        distance: (N,) float32 in units of the direction's length; inf = nothing.
        material: (N,) int32, -1 = nothing.
        semantic: (N,) uint8, 255 = nothing.
        normal: (N, 3) float32 unit, towards the ray's origin.
        uv: (N, 2) float32 metres.
        moving: (N,) bool, part of a mover.
    """

    distance: np.ndarray
    material: np.ndarray
    semantic: np.ndarray
    normal: np.ndarray
    uv: np.ndarray
    moving: np.ndarray


class Scene:
    """A world made ready for rays."""

    def __init__(self, static: Mesh, movers: list[Mover], threads: int = 1) -> None:
        """Build the search structures.

        Args:
            static: all that stands still.
            movers: all that moves.
            threads: for casting.

        Raises:
            MissingDependencyError: Open3D is not installed.
        """
        self._o3d = load_open3d('simulation', '"depth_ros[training]"')
        self._threads = threads
        self._static = self._engine(static)
        self._movers = movers
        self._moving = [self._engine(mover.mesh) for mover in movers]
        self._radii = [float(np.linalg.norm(mover.mesh.vertices, axis=1).max()) for mover in movers]
        meshes = [static, *(mover.mesh for mover in movers)]
        self._starts = np.cumsum([0] + [len(mesh) for mesh in meshes])
        self._uv = np.concatenate([mesh.uv for mesh in meshes])
        self._normals = np.concatenate([mesh.normals for mesh in meshes])
        self._material = np.concatenate([mesh.material for mesh in meshes])
        self._semantic = np.concatenate([mesh.semantic for mesh in meshes])

    def cast(self, rays: np.ndarray, times: np.ndarray | float) -> Hits:
        """Find what rays hit first.

        Args:
            rays: (N, 6) float32 origin and direction, world, metres.
            times: (N,) or one, s.

        Returns:
            The hits.
        """
        count = len(rays)
        found = self._static.cast_rays(self._tensor(rays), nthreads=self._threads)
        distance = found['t_hit'].numpy()
        triangle = found['primitive_ids'].numpy().astype(np.int64)
        triangle[~np.isfinite(distance)] = -1
        bary = found['primitive_uvs'].numpy()
        rotation = np.full(count, -1, np.int32)  # row of the table of rotations, -1 = identity
        for index, (mover, engine) in enumerate(zip(self._movers, self._moving, strict=True)):
            local, which = self._local(rays, times, mover, self._radii[index], distance)
            if not len(which):
                continue
            nearer = engine.cast_rays(self._tensor(local), nthreads=self._threads)
            t = nearer['t_hit'].numpy()
            closer = t < distance[which]
            rows = which[closer]
            distance[rows] = t[closer]
            triangle[rows] = nearer['primitive_ids'].numpy()[closer].astype(np.int64) + self._starts[index + 1]
            bary[rows] = nearer['primitive_uvs'].numpy()[closer]
            rotation[rows] = index
        time = float(np.mean(times)) if len(rays) else 0.0
        turned = np.stack([np.eye(3), *(mover.track.at(time)[:, :3] for mover in self._movers)])
        normal, uv = np.empty((count, 3), np.float32), np.empty((count, 2), np.float32)
        _attributes(triangle, bary, rotation, turned.astype(np.float32), rays, self._normals, self._uv, normal, uv)
        hit = triangle >= 0
        return Hits(
            distance,
            np.where(hit, self._material[triangle], -1),
            np.where(hit, self._semantic[triangle], 255).astype(np.uint8),
            normal,
            uv,
            rotation >= 0,
        )

    def free(self, rays: np.ndarray, reach: float, times: float) -> np.ndarray:
        """Whether light gets through.

        Args:
            rays: (N, 6) float32.
            reach: how far along, in units of the direction's length.
            times: s.

        Returns:
            (N,) bool.
        """
        if not len(rays):
            return np.zeros(0, bool)
        blocked = self._static.test_occlusions(self._tensor(rays), tfar=reach, nthreads=self._threads).numpy()
        far = np.where(blocked, np.float32(0), np.float32(reach))
        for mover, engine, radius in zip(self._movers, self._moving, self._radii, strict=True):
            local, which = self._local(rays, times, mover, radius, far)
            if len(which):
                behind = engine.test_occlusions(self._tensor(local), tfar=reach, nthreads=self._threads).numpy()
                blocked[which[behind]] = True
                far[which[behind]] = 0
        return ~blocked

    def _local(
        self, rays: np.ndarray, times: np.ndarray | float, mover: Mover, radius: float, distance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        track = mover.track
        if np.ndim(times) == 0:
            poses, start, step, per_ray = track.at(times)[None], 0.0, 1.0, np.zeros(1)
        else:
            poses, start, step, per_ray = track.poses, track.start, track.step, np.asarray(times, np.float64)
        local, which = np.empty((len(rays), 6), np.float32), np.empty(len(rays), np.int64)
        used = _into_frame(rays, per_ray, poses, start, step, radius, distance, local, which)
        return local[:used], which[:used]

    def _engine(self, mesh: Mesh) -> Any:
        engine = self._o3d.t.geometry.RaycastingScene(nthreads=self._threads)
        engine.add_triangles(
            self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.triangles.astype(np.uint32))
        )
        return engine

    def _tensor(self, values: np.ndarray) -> Any:
        return self._o3d.core.Tensor.from_numpy(np.ascontiguousarray(values))


@njit(nogil=True, cache=True)
def _into_frame(rays, times, poses, start, step, radius, distance, local, which):
    """Write the rays that may hit a sphere around a body, in its frame; returns how many."""
    used = 0
    last = len(poses) - 1
    k, m, a = 0, 0, 0.0
    px, py, pz = 0.0, 0.0, 0.0
    for n in range(len(rays)):
        if n == 0 or len(times) > 1:
            share = min(max((times[n] - start) / step, 0.0), float(last))
            k = min(int(share), max(last - 1, 0))
            m = min(k + 1, last)
            a = share - k
            px = poses[k, 0, 3] * (1 - a) + poses[m, 0, 3] * a
            py = poses[k, 1, 3] * (1 - a) + poses[m, 1, 3] * a
            pz = poses[k, 2, 3] * (1 - a) + poses[m, 2, 3] * a
        cx, cy, cz = px - rays[n, 0], py - rays[n, 1], pz - rays[n, 2]
        dx, dy, dz = rays[n, 3], rays[n, 4], rays[n, 5]
        square = dx * dx + dy * dy + dz * dz
        dot = cx * dx + cy * dy + cz * dz
        away = cx * cx + cy * cy + cz * cz - radius * radius
        # Inside the sphere every ray may hit; outside, those that point at it.
        if away > 0 and (dot < 0 or dot * dot < away * square):
            continue
        if dot - radius * square**0.5 > distance[n] * square:
            continue
        for i in range(3):
            o, d = 0.0, 0.0
            for j in range(3):
                r = poses[k, j, i] * (1 - a) + poses[m, j, i] * a
                o -= r * (cx if j == 0 else (cy if j == 1 else cz))
                d += r * rays[n, 3 + j]
            local[used, i] = o
            local[used, 3 + i] = d
        which[used] = n
        used += 1
    return used


@njit(nogil=True, cache=True)
def _attributes(triangle, bary, mover, turned, rays, normals, uvs, normal, uv):
    """Interpolate normals and texture coordinates; normals are turned to face the ray."""
    for n in range(len(triangle)):
        t = triangle[n]
        if t < 0:
            normal[n] = 0
            uv[n] = 0
            continue
        b, c = bary[n, 0], bary[n, 1]
        a = 1 - b - c
        for k in range(2):
            uv[n, k] = a * uvs[t, 0, k] + b * uvs[t, 1, k] + c * uvs[t, 2, k]
        x = a * normals[t, 0, 0] + b * normals[t, 1, 0] + c * normals[t, 2, 0]
        y = a * normals[t, 0, 1] + b * normals[t, 1, 1] + c * normals[t, 2, 1]
        z = a * normals[t, 0, 2] + b * normals[t, 1, 2] + c * normals[t, 2, 2]
        if mover[n] >= 0:
            r = turned[mover[n] + 1]
            x, y, z = (
                r[0, 0] * x + r[0, 1] * y + r[0, 2] * z,
                r[1, 0] * x + r[1, 1] * y + r[1, 2] * z,
                r[2, 0] * x + r[2, 1] * y + r[2, 2] * z,
            )
        length = (x * x + y * y + z * z) ** 0.5
        if rays[n, 3] * x + rays[n, 4] * y + rays[n, 5] * z > 0:
            length = -length
        if length == 0:
            length = 1.0
        normal[n, 0], normal[n, 1], normal[n, 2] = x / length, y / length, z / length
