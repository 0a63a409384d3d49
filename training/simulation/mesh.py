"""Triangle meshes and the shapes that worlds are put together from. z is up, metres; a shape stands on z = 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with what a camera and a lidar need to know of them.

    Attributes:
        vertices: (V, 3) float64 metres.
        triangles: (T, 3) int64 indices of vertices.
        uv: (T, 3, 2) float32 texture coordinates of the corners, metres along the surface.
        normals: (T, 3, 3) float32 unit normals at the corners.
        material: (T,) int32 index of a material.
        semantic: (T,) uint8 index of a class.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    normals: np.ndarray
    material: np.ndarray
    semantic: np.ndarray

    def __len__(self) -> int:
        return len(self.triangles)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> Mesh:
        """Copy, turned about z by ``yaw`` (rad) and then shifted (metres)."""
        return self.placed(turn(yaw), (x, y, z))

    def placed(self, rotation: np.ndarray, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> Mesh:
        """Copy, turned by a (3, 3) rotation and then shifted by metres."""
        return Mesh(
            self.vertices @ rotation.T + np.asarray(shift, float),
            self.triangles,
            self.uv,
            (self.normals @ rotation.T).astype(np.float32),
            self.material,
            self.semantic,
        )

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        """Copy, stretched along the axes."""
        factors = np.array([x, y, z])
        normals = self.normals / factors
        normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-9)
        return Mesh(
            self.vertices * factors, self.triangles, self.uv, normals.astype(np.float32), self.material, self.semantic
        )

    def only(self, keep: np.ndarray) -> Mesh:
        """Mesh with the triangles that a (T,) mask keeps."""
        return Mesh(
            self.vertices,
            self.triangles[keep],
            self.uv[keep],
            self.normals[keep],
            self.material[keep],
            self.semantic[keep],
        )


def turn(yaw: float) -> np.ndarray:
    """(3, 3) rotation about z by ``yaw`` rad."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def tilt(roll: float, pitch: float, yaw: float = 0.0) -> np.ndarray:
    """(3, 3) rotation about x by ``roll``, then y by ``pitch``, then z by ``yaw``, rad."""
    cr, sr, cp, sp = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    return turn(yaw) @ about_y @ about_x


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Put meshes together."""
    meshes = [mesh for mesh in meshes if len(mesh)]
    if not meshes:
        return triangles_mesh(np.zeros((0, 3, 3)), 0, 0)
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]),
        *(
            np.concatenate([getattr(mesh, name) for mesh in meshes])
            for name in ('uv', 'normals', 'material', 'semantic')
        ),
    )


def triangles_mesh(
    corners: np.ndarray,
    material: int | np.ndarray,
    semantic: int | np.ndarray,
    uv: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> Mesh:
    """Mesh of free triangles.

    Args:
        corners: (T, 3, 3) metres.
        material: one or (T,).
        semantic: one or (T,).
        uv: (T, 3, 2) metres; None = the projection along the axis that the triangle faces most.
        normals: (T, 3, 3); None = flat.

    Returns:
        The mesh.
    """
    count = len(corners)
    corners = np.asarray(corners, float).reshape(count, 3, 3)
    faces = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces /= np.maximum(np.linalg.norm(faces, axis=1, keepdims=True), 1e-12)
    if uv is None:
        axis = np.abs(faces).argmax(1)
        first = np.where(axis == 0, 1, 0)
        second = np.where(axis == 2, 1, 2)
        rows = np.arange(count)[:, None]
        uv = np.stack(
            [corners[rows, np.arange(3), first[:, None]], corners[rows, np.arange(3), second[:, None]]], axis=2
        )
    if normals is None:
        normals = np.repeat(faces[:, None], 3, axis=1)
    return Mesh(
        corners.reshape(-1, 3),
        np.arange(3 * count).reshape(-1, 3),
        np.asarray(uv, np.float32),
        np.asarray(normals, np.float32),
        np.broadcast_to(np.asarray(material, np.int32), count).copy(),
        np.broadcast_to(np.asarray(semantic, np.uint8), count).copy(),
    )


def quads(
    corners: np.ndarray, material: int | np.ndarray, semantic: int | np.ndarray, uv: np.ndarray | None = None
) -> Mesh:
    """Quadrilaterals.

    Args:
        corners: (Q, 4, 3) metres, around the outline.
        material: one or (Q,).
        semantic: one or (Q,).
        uv: (Q, 4, 2) metres; None = lengths along the first side and across it.

    Returns:
        The mesh, two triangles each.
    """
    corners = np.asarray(corners, float).reshape(-1, 4, 3)
    if uv is None:
        along = corners[:, 1] - corners[:, 0]
        length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        along = along / length
        delta = corners - corners[:, :1]
        u = np.einsum('qci,qi->qc', delta, along)
        across = delta - u[..., None] * along[:, None]
        uv = np.stack([u, np.linalg.norm(across, axis=2)], axis=2)
    order = np.array([[0, 1, 2], [0, 2, 3]])
    repeat = lambda values: values if np.ndim(values) == 0 else np.repeat(values, 2)  # noqa: E731
    return triangles_mesh(
        corners[:, order].reshape(-1, 3, 3),
        repeat(material),
        repeat(semantic),
        np.asarray(uv)[:, order].reshape(-1, 3, 2),
    )


def box(x: float, y: float, z: float, material: int, semantic: int, top: int | None = None) -> Mesh:
    """Box of the given sizes, centred in x and y.

    Args:
        x: size in metres.
        y: size in metres.
        z: size in metres.
        material: of the sides.
        semantic: class.
        top: material of top and bottom; None = as the sides.

    Returns:
        The mesh.
    """
    a, b = x / 2, y / 2
    p = np.array([[-a, -b, 0], [a, -b, 0], [a, b, 0], [-a, b, 0], [-a, -b, z], [a, -b, z], [a, b, z], [-a, b, z]])
    faces = np.array([[0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7], [4, 5, 6, 7], [3, 2, 1, 0]])
    materials = np.full(6, material)
    if top is not None:
        materials[4:] = top
    return quads(p[faces], materials, semantic)


def cylinder(
    radius: float,
    height: float,
    sides: int,
    material: int,
    semantic: int,
    top_radius: float | None = None,
    cap: bool = True,
) -> Mesh:
    """Upright cylinder, cone or frustum with round shading.

    Args:
        radius: at the bottom, metres.
        height: metres.
        sides: of the polygon.
        material: index.
        semantic: class.
        top_radius: metres; None = ``radius``.
        cap: close top and bottom.

    Returns:
        The mesh.
    """
    top_radius = radius if top_radius is None else top_radius
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    low, high = ring * radius, ring * top_radius + [0, 0, height]
    corners = np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1)
    around = angle * max(radius, top_radius)
    uv = np.stack(
        [
            np.stack([around[:-1], around[1:], around[1:], around[:-1]], 1),
            np.broadcast_to([0, 0, height, height], (sides, 4)),
        ],
        axis=2,
    )
    side = quads(corners, material, semantic, uv)
    slope = np.array([0, 0, (radius - top_radius) / max(height, 1e-9)])
    normal = ring + slope
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    around_quad = np.stack([normal[:-1], normal[1:], normal[1:], normal[:-1]], axis=1)
    side.normals[:] = around_quad[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)
    if not cap:
        return side
    centre = np.zeros((sides, 1, 3))
    lids = [np.concatenate([centre + np.array([0, 0, height]), high[:-1, None], high[1:, None]], axis=1)]
    if radius > 0:
        lids.append(np.concatenate([centre, low[1:, None], low[:-1, None]], axis=1))
    return merge([side, triangles_mesh(np.concatenate(lids), material, semantic)])


def sphere(radius: float, material: int, semantic: int, rings: int = 6, sides: int = 10) -> Mesh:
    """Sphere whose centre is the origin, with round shading."""
    polar = np.linspace(0, np.pi, rings + 1)
    around = np.linspace(0, 2 * np.pi, sides + 1)
    p, a = np.meshgrid(polar, around, indexing='ij')
    grid = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], axis=2)
    patches = np.stack([grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:], grid[:-1, :-1]], axis=2).reshape(-1, 4, 3)
    uv_grid = np.stack([a, p], axis=2) * radius
    uv = np.stack([uv_grid[1:, :-1], uv_grid[1:, 1:], uv_grid[:-1, 1:], uv_grid[:-1, :-1]], axis=2).reshape(-1, 4, 2)
    mesh = quads(patches * radius, material, semantic, uv)
    mesh.normals[:] = patches[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)
    area = np.linalg.norm(_cross(*(np.diff(mesh.vertices[mesh.triangles], axis=1)[:, k] for k in (0, 1))), axis=1)
    return mesh.only(area > 1e-12)


def tube(points: np.ndarray, radius: float | np.ndarray, sides: int, material: int, semantic: int) -> Mesh:
    """Round bar along a line.

    Args:
        points: (P, 3) metres.
        radius: metres, one or (P,).
        sides: of the polygon.
        material: index.
        semantic: class.

    Returns:
        The mesh, open at the ends.
    """
    points = np.asarray(points, float)
    radius = np.broadcast_to(radius, len(points))
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(along[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
    first = _cross(along, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = _cross(along, first)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    normal = np.cos(angle)[None, :, None] * first[:, None] + np.sin(angle)[None, :, None] * second[:, None]
    grid = points[:, None] + normal * radius[:, None, None]
    patch = lambda g: np.stack([g[:-1, :-1], g[:-1, 1:], g[1:, 1:], g[1:, :-1]], axis=2).reshape(-1, 4, 3)  # noqa: E731
    distance = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    uv_grid = np.stack(
        [
            np.broadcast_to(angle * radius.max(), grid.shape[:2]),
            np.broadcast_to(distance[:, None], grid.shape[:2]),
            np.zeros(grid.shape[:2]),
        ],
        axis=2,
    )
    mesh = quads(patch(grid), material, semantic, patch(uv_grid)[..., :2])
    mesh.normals[:] = patch(normal)[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)
    return mesh


def extrude(outline: np.ndarray, width: float, material: int, semantic: int) -> Mesh:
    """Prism: an outline in the x-z plane, made ``width`` wide along y, centred.

    Args:
        outline: (P, 2) x and z in metres, counter-clockwise seen from -y; star-shaped seen from its mean.
        width: metres.
        material: index.
        semantic: class.

    Returns:
        The mesh.
    """
    outline = np.asarray(outline, float)
    count = len(outline)
    p = np.stack([outline[:, 0], np.zeros(count), outline[:, 1]], axis=1)
    half = np.array([0, width / 2, 0])
    following = np.roll(p, -1, axis=0)
    sides = quads(np.stack([p - half, following - half, following + half, p + half], 1), material, semantic)
    centre = np.broadcast_to(p.mean(0), p.shape)
    lids = np.concatenate(
        [
            np.stack([centre - half, p - half, following - half], 1),
            np.stack([centre + half, following + half, p + half], 1),
        ]
    )
    return merge([sides, triangles_mesh(lids, material, semantic)])


def loft(sections: np.ndarray, material: np.ndarray | int, semantic: int, closed: bool = False) -> Mesh:
    """Skin over cross-sections.

    Args:
        sections: (S, P, 3) metres; neighbours are joined.
        material: one, or (S - 1, P - 1) per patch ((S - 1, P) if closed).
        semantic: class.
        closed: join the last point of each section to its first.

    Returns:
        The mesh, open at the first and last section.
    """
    sections = np.asarray(sections, float)
    if closed:
        sections = np.concatenate([sections, sections[:, :1]], axis=1)
    patches = np.stack([sections[:-1, :-1], sections[:-1, 1:], sections[1:, 1:], sections[1:, :-1]], axis=2)
    material = np.broadcast_to(material, patches.shape[:2]).ravel()
    return quads(patches.reshape(-1, 4, 3), material, semantic)


def flakes(
    rng: np.random.Generator,
    centres: np.ndarray,
    size: float,
    material: int | np.ndarray,
    semantic: int,
    outward: np.ndarray | None = None,
) -> Mesh:
    """Leaves: one random triangle at each centre.

    Args:
        rng: random numbers.
        centres: (N, 3) metres.
        size: of a leaf, metres.
        material: one or (N,).
        semantic: class.
        outward: (N, 3) unit normals to shade by, so that a crown looks round; None = of the triangles.

    Returns:
        The mesh.
    """
    count = len(centres)
    corners = centres[:, None] + rng.normal(size=(count, 3, 3)) * (size * rng.uniform(0.5, 1.2, (count, 1, 1)))
    uv = rng.uniform(0, 4, (count, 1, 2)) + rng.uniform(0, size * 2, (count, 3, 2))
    normals = None
    if outward is not None:
        mixed = outward + rng.normal(scale=0.35, size=outward.shape)
        mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
        normals = np.repeat(mixed[:, None], 3, axis=1)
    return triangles_mesh(corners, material, semantic, uv, normals)


def sheet(x: np.ndarray, y: np.ndarray, z: np.ndarray, material: int | np.ndarray, semantic: int | np.ndarray) -> Mesh:
    """Ground over a grid, with round shading; texture coordinates are x and y.

    Args:
        x: (R, C) metres.
        y: (R, C) metres.
        z: (R, C) metres.
        material: one or (R - 1, C - 1).
        semantic: one or (R - 1, C - 1).

    Returns:
        The mesh.
    """
    grid = np.stack([x, y, z], axis=2).astype(float)
    along_rows, along_columns = np.gradient(grid, axis=0), np.gradient(grid, axis=1)
    normal = _cross(along_columns, along_rows)
    normal *= np.where(normal[..., 2:] < 0, -1, 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-12)
    patch = lambda g: np.stack([g[:-1, :-1], g[:-1, 1:], g[1:, 1:], g[1:, :-1]], axis=2).reshape(-1, 4, 3)  # noqa: E731
    shape = (grid.shape[0] - 1, grid.shape[1] - 1)
    corners = patch(grid)
    mesh = quads(
        corners, np.broadcast_to(material, shape).ravel(), np.broadcast_to(semantic, shape).ravel(), corners[..., :2]
    )
    mesh.normals[:] = patch(normal)[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)
    return mesh


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product along the last axis; a tenth of the overhead of NumPy's."""
    x, y, z = (a[..., k] for k in range(3))
    p, q, r = (b[..., k] for k in range(3))
    return np.stack([y * r - z * q, z * p - x * r, x * q - y * p], axis=-1)
