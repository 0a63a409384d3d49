"""Trees, bushes, hedges, rocks, grass; and people."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation.mesh import Mesh, box, cylinder, flakes, merge, sphere, tilt, tube
from depth_ros_training.simulation.semantics import PERSON, RIDER, ROCK, TERRAIN, VEGETATION
from depth_ros_training.simulation.textures import Palette
from depth_ros_training.simulation.vehicles import bicycle


def _on_shell(rng: np.random.Generator, count: int, inner: float) -> np.ndarray:
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * np.cbrt(rng.uniform(inner**3, 1, (count, 1)))


def tree(rng: np.random.Generator, palette: Palette, height: float = 0.0, leaves: int = 700) -> Mesh:
    """Broad-leaved tree, conifer or bare tree, standing at the origin.

    Args:
        rng: random numbers.
        palette: materials.
        height: metres; 0 = by chance.
        leaves: triangles of the crown.

    Returns:
        The mesh.
    """
    height = height or float(rng.uniform(4, 14))
    bark = palette.material('bark', rng.uniform(0.6, 1.1, 3), photo=False)
    lean = rng.normal(scale=0.04 * height, size=2)
    radius = height * rng.uniform(0.012, 0.03)
    kind = rng.choice(3, p=[0.65, 0.22, 0.13])
    levels = np.linspace(0, 1, 5)
    top = height * (0.95 if kind == 1 else 0.75)
    stem = np.stack([lean[0] * levels**2, lean[1] * levels**2, top * levels], axis=1)
    stem[0, 2] = -0.3  # rooted in slopes
    parts = [tube(stem, radius * (1.15 - levels), 7, bark, VEGETATION)]
    if kind == 1:
        needles = palette.material('needles', rng.uniform(0.7, 1.2) * np.ones(3), photo=False)
        share = rng.uniform(0.08, 1, leaves) ** 0.7
        angle = rng.uniform(0, 2 * np.pi, leaves)
        out = (1.02 - share) * height * rng.uniform(0.16, 0.26) * np.sqrt(rng.uniform(0.3, 1, leaves))
        centres = np.stack([out * np.cos(angle), out * np.sin(angle), height * share - 0.25 * out], axis=1)
        outward = np.stack([np.cos(angle), np.sin(angle), np.full(leaves, 0.4)], 1)
        parts.append(
            flakes(
                rng,
                centres,
                height * 0.022 * (700 / leaves) ** 0.5,
                needles,
                VEGETATION,
                outward / np.linalg.norm(outward, axis=1, keepdims=True),
            )
        )
        return merge(parts)
    crown = height * rng.uniform(0.25, 0.42)
    middle = np.array([lean[0], lean[1], height - crown * rng.uniform(0.75, 1.0)])
    branches = int(rng.integers(4, 8) if kind == 0 else rng.integers(12, 20))
    tips = middle + _on_shell(rng, branches, 0.6) * crown * [1, 1, 0.8]
    for tip in tips:
        foot = stem[int(rng.integers(2, 4))] + rng.normal(scale=0.02, size=3)
        bend = (foot + tip) / 2 + rng.normal(scale=0.08 * crown, size=3)
        parts.append(tube(np.stack([foot, bend, tip]), radius * np.array([0.45, 0.3, 0.08]), 4, bark, VEGETATION))
        if kind == 2:
            for _ in range(5):
                end = tip + rng.normal(scale=0.25 * crown, size=3)
                parts.append(
                    tube(
                        np.stack([bend, (bend + end) / 2 + rng.normal(scale=0.05, size=3), end]),
                        radius * np.array([0.2, 0.12, 0.04]),
                        3,
                        bark,
                        VEGETATION,
                    )
                )
    if kind == 0:
        lobes = int(rng.integers(2, 7))
        where = rng.integers(0, lobes, leaves)
        lobe = _on_shell(rng, lobes, 0.2) * crown * 0.55
        size = crown * rng.uniform(0.4, 0.7, lobes)
        direction = _on_shell(rng, leaves, 0.55)
        centres = middle + lobe[where] + direction * size[where, None] * [1, 1, rng.uniform(0.6, 1.0)]
        outward = centres - middle
        outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
        material = palette.material('leaves', rng.uniform(0.6, 1.25) * np.ones(3), photo=False)
        parts.append(flakes(rng, centres, crown * 0.045 * (900 / leaves) ** 0.5, material, VEGETATION, outward))
    return merge(parts)


def bush(rng: np.random.Generator, palette: Palette, size: float = 0.0) -> Mesh:
    """Round bush; size in metres, 0 = by chance."""
    size = size or float(rng.uniform(0.3, 1.6))
    count = int(300 + 300 * size)
    direction = _on_shell(rng, count, 0.5)
    centres = direction * size * [0.6, 0.6, 0.5] + [0, 0, size * 0.42]
    material = palette.material('leaves', rng.uniform(0.6, 1.2) * np.ones(3), photo=False)
    return flakes(
        rng, centres, size * 0.055, material, VEGETATION, direction / np.linalg.norm(direction, axis=1, keepdims=True)
    )


def hedge(rng: np.random.Generator, palette: Palette, length: float, height: float, thick: float) -> Mesh:
    """Trimmed hedge along x, from -length / 2."""
    material = palette.material('leaves', rng.uniform(0.6, 1.1) * np.ones(3), photo=False)
    core = box(length, thick, height, material, VEGETATION)
    count = int(60 * length * height)
    centres = rng.uniform(-0.5, 0.5, (count, 3)) * [length, thick, height] + [0, 0, height / 2]
    axis = rng.choice(3, count, p=[0.05, 0.7, 0.25])
    rows = np.arange(count)
    sign = rng.choice([-1.0, 1.0], count)
    side = np.array([length, thick, height]) / 2
    centres[rows, axis] = np.where(axis == 2, height, sign * side[axis])
    outward = np.zeros((count, 3))
    outward[rows, axis] = np.where(axis == 2, 1, sign)
    return merge([core, flakes(rng, centres, 0.07, material, VEGETATION, outward)])


def tuft(rng: np.random.Generator, palette: Palette, material: int, height: float, blades: int = 14) -> Mesh:
    """Tall grass."""
    foot = rng.normal(scale=height * 0.3, size=(blades, 2))
    tip = foot + rng.normal(scale=height * 0.3, size=(blades, 2))
    width = rng.normal(scale=0.012, size=(blades, 2))
    corners = np.zeros((blades, 3, 3))
    corners[:, 0, :2], corners[:, 1, :2], corners[:, 2, :2] = foot - width, foot + width, tip
    corners[:, 2, 2] = height * rng.uniform(0.5, 1.1, blades)
    corners[:, :2, 2] = -0.05
    grass = flakes(rng, np.zeros((blades, 3)), 0.0, material, VEGETATION, np.tile([0.0, 0, 1], (blades, 1)))
    return Mesh(corners.reshape(-1, 3), grass.triangles, grass.uv, grass.normals, grass.material, grass.semantic)


def rock(rng: np.random.Generator, palette: Palette, size: float, semantic: int = ROCK) -> Mesh:
    """Boulder, sunk into the ground a little; size in metres."""
    material = palette.material(
        str(rng.choice(['gravel', 'concrete', 'ground'])), rng.uniform(0.5, 1.0) * rng.uniform(0.9, 1.0, 3)
    )
    stone = sphere(size / 2, material, semantic, 5, 8)
    bumps = rng.normal(size=(4, 3)) * 2.2 / size
    phase = rng.uniform(0, 6, 4)
    radial = 1 + 0.16 * np.sin(stone.vertices @ bumps.T + phase).sum(1)
    vertices = stone.vertices * radial[:, None] * rng.uniform(0.6, 1.2, 3) + [0, 0, size * rng.uniform(0.1, 0.35)]
    return Mesh(vertices, stone.triangles, stone.uv, stone.normals, stone.material, stone.semantic)


def log(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Fallen trunk."""
    radius, length = rng.uniform(0.1, 0.35), rng.uniform(1.5, 6)
    bark = palette.material('bark')
    return cylinder(radius, length, 9, bark, VEGETATION, radius * 0.8).placed(
        tilt(0, np.pi / 2), (-length / 2, 0, radius * 0.9)
    )


def heap(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Heap of earth or gravel."""
    size = rng.uniform(0.8, 3.5)
    material = palette.material(str(rng.choice(['ground', 'gravel'])))
    return cylinder(size, size * rng.uniform(0.35, 0.6), 12, material, TERRAIN, size * 0.1)


def person(rng: np.random.Generator, palette: Palette, riding: bool = False) -> Mesh:
    """Pedestrian in mid-stride, facing x; or a rider on a bicycle or motorcycle."""
    semantic = RIDER if riding else PERSON
    height = rng.uniform(1.5, 1.95) if riding or rng.random() < 0.88 else rng.uniform(0.95, 1.4)
    h = height / 1.75
    trousers = palette.material('fabric', rng.uniform(0.03, 0.6) * rng.uniform(0.5, 1, 3))
    jacket = palette.material('fabric', rng.uniform(0.05, 1.0, 3) * rng.uniform(0.3, 1))
    skin = palette.material('paint', np.array([0.55, 0.36, 0.26]) * rng.uniform(0.35, 1.2), photo=False)
    hair = palette.material('fabric', np.array([0.12, 0.08, 0.05]) * rng.uniform(0.2, 3), photo=False)
    stride, lean = rng.uniform(0.0, 0.45), (0.35 if riding else rng.normal(scale=0.05))
    hip, shoulder = (0.95 if riding else 0.9) * h, 1.42 * h
    if riding:
        shoulder = hip + 0.5 * h
    ahead = lean * (shoulder - hip) / 0.5
    parts = []
    for side in (-1, 1):
        y = side * 0.1 * h
        if riding:
            knee, foot = np.array([0.25, y, hip - 0.2]), np.array([0.05, y, 0.3 + side * 0.12])
        else:
            knee, foot = (
                np.array([side * stride * 0.4 + 0.05, y, 0.48 * h]),
                np.array([side * stride * 0.7 - 0.05, y, 0.06]),
            )
        parts.append(
            tube(
                np.stack([[-0.15 if riding else 0, y, hip], knee, foot]),
                np.array([0.095, 0.07, 0.05]) * h,
                7,
                trousers,
                semantic,
            )
        )
        parts.append(box(0.25 * h, 0.09, 0.08, hair, semantic).moved(foot[0] + 0.06, y, foot[2] - 0.06))
        swing = -side * stride * 0.5
        elbow = np.array([swing * 0.5 + ahead, side * 0.26 * h, shoulder - 0.3 * h])
        hand = (
            np.array([0.35, side * 0.25, 1.03])
            if riding
            else np.array([swing + 0.08, side * 0.25 * h, shoulder - 0.55 * h])
        )
        parts.append(
            tube(
                np.stack([[ahead, side * 0.2 * h, shoulder - 0.04], elbow, hand]),
                np.array([0.065, 0.05, 0.04]) * h,
                6,
                jacket,
                semantic,
            )
        )
    foot = -0.15 if riding else 0.0
    levels = np.array(
        [
            [foot, 0, hip - 0.08 * h],
            [foot + ahead * 0.4, 0, (hip + shoulder) / 2],
            [ahead, 0, shoulder],
            [ahead, 0, shoulder + 0.05],
        ]
    )
    torso = tube(levels, np.array([0.17, 0.19, 0.2, 0.07]) * h, 9, jacket, semantic).scaled(0.75, 1.1, 1.0)
    parts.append(torso)
    parts.append(sphere(0.115 * h, skin, semantic, 6, 9).moved(ahead * 1.05, 0, shoulder + 0.2 * h))
    parts.append(
        sphere(0.12 * h, hair, semantic, 6, 9).scaled(1, 1, 0.75).moved(ahead * 1.05 - 0.025, 0, shoulder + 0.235 * h)
    )
    if rng.random() < 0.35 and not riding:
        bag = palette.material('fabric', rng.uniform(0.05, 0.8, 3))
        parts.append(box(0.18, 0.3, 0.42, bag, semantic).moved(-0.22, 0, shoulder - 0.45 * h))
    if riding:
        parts.append(bicycle(rng, palette, motor=bool(rng.random() < 0.25)))
    return merge(parts)
