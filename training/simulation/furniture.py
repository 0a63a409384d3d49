"""What stands along streets and in rooms, and things of no kind at all."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation.mesh import (
    Mesh,
    box,
    cylinder,
    loft,
    merge,
    quads,
    sphere,
    tilt,
    triangles_mesh,
    tube,
)
from depth_ros_training.simulation.semantics import (
    BOX,
    FENCE,
    FURNITURE,
    POLE,
    SHELF,
    THING,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    WALL,
)
from depth_ros_training.simulation.textures import Palette


def _steel(rng: np.random.Generator, palette: Palette) -> int:
    return palette.material('metal', rng.uniform(0.08, 0.6) * rng.uniform(0.9, 1, 3), gloss=0.15, photo=False)


def lamp_post(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Street lamp whose arm points to -y."""
    steel, height = _steel(rng, palette), rng.uniform(3.5, 10)
    radius = rng.uniform(0.05, 0.1)
    parts = [cylinder(radius * 1.2, height + 0.5, 8, steel, POLE, radius * 0.6).moved(z=-0.5)]
    if rng.random() < 0.75:
        out = rng.uniform(0.6, 2.5)
        parts.append(
            tube(
                np.array([[0, 0, height - 0.05], [0, -out * 0.5, height + 0.25], [0, -out, height + 0.2]]),
                0.035,
                6,
                steel,
                POLE,
            )
        )
        parts.append(box(0.25, 0.6, 0.12, steel, POLE).moved(0, -out, height + 0.12))
    else:
        parts.append(
            sphere(0.22, palette.material('paint', np.full(3, 0.9), glow=0.3, photo=False), POLE).moved(z=height + 0.15)
        )
    return merge(parts)


def pole(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Bollard, mast or wooden pole."""
    height = float(rng.choice([rng.uniform(0.6, 1.1), rng.uniform(2, 4), rng.uniform(6, 10)]))
    radius = float(rng.uniform(0.02, 0.14))
    material = palette.material('bark', photo=False) if rng.random() < 0.4 else _steel(rng, palette)
    return cylinder(radius, height + 0.4, 8, material, POLE).moved(z=-0.4)


def traffic_sign(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Sign on a pole; it faces -x."""
    steel = _steel(rng, palette)
    grey = palette.material('metal', np.full(3, 0.4), photo=False)
    bottom, size = rng.uniform(1.6, 2.6), rng.uniform(0.45, 0.9)
    parts = []
    for _ in range(int(rng.integers(1, 3))):
        face = palette.material(
            'poster', rng.uniform(0.6, 1, 3), tile=size, reflectivity=float(rng.uniform(2, 8)), photo=False
        )
        red = palette.material('paint', (0.6, 0.02, 0.02), reflectivity=4.0, photo=False)
        shape = int(rng.integers(4))
        sides = (24, 3, 8, 4)[shape]
        angle = np.arange(sides) / sides * 2 * np.pi + (np.pi / 2 if sides == 3 else np.pi / sides)
        r = size / 2 * (1.4 if sides == 4 else 1)
        for radius, x, material in ((r, -0.06, red), (r * 0.8, -0.064, face)):
            rim = np.stack([np.full(sides, x), radius * np.cos(angle), radius * np.sin(angle) + bottom + size / 2], 1)
            middle = np.broadcast_to([x, 0, bottom + size / 2], rim.shape)
            corners = np.stack([middle, rim, np.roll(rim, -1, axis=0)], axis=1)
            parts.append(triangles_mesh(corners, material, TRAFFIC_SIGN, corners[..., 1:] - [0, bottom]))
        back = np.stack([np.full(sides, -0.05), r * np.cos(angle), r * np.sin(angle) + bottom + size / 2], 1)
        middle = np.broadcast_to([-0.05, 0, bottom + size / 2], back.shape)
        parts.append(triangles_mesh(np.stack([middle, np.roll(back, -1, axis=0), back], axis=1), grey, TRAFFIC_SIGN))
        bottom += size * 1.1
    parts.append(cylinder(0.03, bottom + 0.5, 8, steel, POLE).moved(z=-0.4))
    return merge(parts)


def gantry(rng: np.random.Generator, palette: Palette, span: float) -> Mesh:
    """Sign bridge across x, ``span`` metres along y."""
    steel = _steel(rng, palette)
    top = rng.uniform(5.2, 6.5)
    sign = palette.material('poster', rng.uniform(0.4, 1, 3), tile=(3.0, 2.0), reflectivity=3.0)
    parts = [cylinder(0.15, top + 0.5, 10, steel, POLE).moved(0, side * span / 2, -0.5) for side in (-1, 1)]
    parts += [box(0.25, span, 0.25, steel, POLE).moved(z=top - dz) for dz in (0.0, 0.8)]
    for y in rng.uniform(-span / 3, span / 3, int(rng.integers(1, 3))):
        parts.append(
            box(0.1, rng.uniform(2, 3.5), rng.uniform(1.2, 2.2), sign, TRAFFIC_SIGN).moved(-0.25, y, top - 0.9)
        )
    return merge(parts)


def traffic_light(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Traffic light that faces -x."""
    steel = _steel(rng, palette)
    dark = palette.material('rubber', np.full(3, 0.3), photo=False)
    height = rng.uniform(2.4, 3.4)
    parts = [cylinder(0.06, height + 0.4, 8, steel, POLE).moved(z=-0.4)]
    places = [(0.0, height - 0.9)]
    if rng.random() < 0.4:
        parts.append(tube(np.array([[0, 0, height - 0.1], [0, 0, 5.4], [0, -4, 5.6]]), 0.07, 7, steel, POLE))
        places.append((-3.8, 4.6))
    colours = np.array([[0.8, 0.02, 0.01], [0.8, 0.4, 0.02], [0.02, 0.6, 0.2]])
    shining = int(rng.integers(3))
    for y, z in places:
        parts.append(box(0.28, 0.32, 0.95, dark, TRAFFIC_LIGHT).moved(-0.12, y, z))
        for k in range(3):
            glow = 2.5 if k == shining else 0.0
            bulb = palette.material('paint', colours[k] * (1 if k == shining else 0.15), glow=glow, photo=False)
            parts.append(box(0.02, 0.2, 0.2, bulb, TRAFFIC_LIGHT).moved(-0.27, y, z + 0.68 - 0.3 * k))
    return merge(parts)


def fence(rng: np.random.Generator, palette: Palette, length: float) -> Mesh:
    """Pickets, rails, mesh, wall or guard rail along x, centred."""
    kind = int(rng.integers(5))
    if kind == 4:
        wall = palette.material(
            str(rng.choice(['bricks', 'concrete', 'plaster', 'slabs'])), rng.uniform(0.4, 1.0) * np.ones(3)
        )
        return box(length, rng.uniform(0.12, 0.4), rng.uniform(0.6, 2.4) + 0.5, wall, WALL).moved(z=-0.5)
    material = palette.material('wood', rng.uniform(0.3, 1.0) * np.ones(3)) if kind < 2 else _steel(rng, palette)
    height = rng.uniform(0.8, 1.9)
    step = rng.uniform(1.5, 2.8)
    parts = [
        box(0.09, 0.09, height + 0.5, material, FENCE).moved(x, 0, -0.5)
        for x in np.arange(-length / 2, length / 2 + 0.01, step)
    ]
    if kind == 3:
        profile = np.array([[0, 0.45], [-0.06, 0.5], [-0.02, 0.58], [-0.06, 0.68], [0, 0.75]])
        sections = [[[x, y - 0.06, z] for y, z in profile] for x in (-length / 2, length / 2)]
        return merge(
            [loft(np.array(sections), material, FENCE), *(part.scaled(1, 1, 0.75 / (height + 0.5)) for part in parts)]
        )
    levels = (0.25, height * 0.9) if kind < 2 else (0.1, height - 0.04)
    parts += [box(length, 0.04, 0.06, material, FENCE).moved(0, 0, z) for z in levels]
    gap, wide = (
        (rng.uniform(0.12, 0.3), rng.uniform(0.05, 0.11))
        if kind < 2
        else (rng.uniform(0.1, 0.2), rng.uniform(0.012, 0.03))
    )
    x = np.arange(-length / 2, length / 2, gap)
    corners = np.array(
        [
            [
                [p - wide / 2, 0.03, 0.08],
                [p + wide / 2, 0.03, 0.08],
                [p + wide / 2, 0.03, height],
                [p - wide / 2, 0.03, height],
            ]
            for p in x
        ]
    )
    parts.append(quads(corners, material, FENCE))
    return merge(parts)


def bench(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Bench that faces -y."""
    wood, steel = palette.material('wood', rng.uniform(0.4, 1) * np.ones(3)), _steel(rng, palette)
    length = rng.uniform(1.2, 2.2)
    parts = [box(length, 0.12, 0.04, wood, FURNITURE).moved(0, y, 0.44) for y in (-0.2, -0.05, 0.1)]
    parts += [box(length, 0.04, 0.12, wood, FURNITURE).moved(0, 0.22, z) for z in (0.6, 0.78)]
    parts += [box(0.06, 0.45, 0.44, steel, FURNITURE).moved(x, 0, 0) for x in (-length * 0.4, length * 0.4)]
    return merge(parts)


def street_clutter(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Bin, cone, hydrant, box of electricity, barrier, container."""
    kind = int(rng.integers(7))
    colour = rng.uniform(0.03, 0.8, 3)
    paint = palette.material('paint', colour)
    if kind == 0:
        return cylinder(0.3, rng.uniform(0.7, 1.1), 14, paint, THING, 0.34)
    if kind == 1:
        orange = palette.material('paint', (0.9, 0.2, 0.03), photo=False)
        return merge([cylinder(0.18, 0.7, 12, orange, THING, 0.03), box(0.45, 0.45, 0.04, orange, THING)])
    if kind == 2:
        return merge([cylinder(0.12, 0.7, 10, paint, THING), sphere(0.13, paint, THING).moved(z=0.7)])
    if kind == 3:
        return box(
            rng.uniform(0.5, 1.4),
            0.4,
            rng.uniform(0.8, 1.5),
            palette.material('metal', rng.uniform(0.3, 0.8, 3)),
            THING,
        )
    if kind == 4:
        stripes = palette.material('fabric', (1.0, 0.3, 0.2), tile=0.6)
        legs = [box(0.06, 0.5, 1.0, stripes, THING).moved(x, 0, 0) for x in (-0.8, 0.8)]
        return merge([box(1.8, 0.06, 0.25, stripes, THING).moved(z=z) for z in (0.5, 0.85)] + legs)
    if kind == 5:
        return box(rng.uniform(2, 6), 2.4, 2.5, palette.material('metal', colour), THING)
    wheels = [
        cylinder(0.08, 0.06, 8, palette.material('rubber', photo=False), THING).placed(
            tilt(np.pi / 2, 0), (x, 0.3, 0.08)
        )
        for x in (-0.2, 0.2)
    ]
    return merge(
        [box(0.6, 0.65, 1.0, paint, THING).moved(z=0.1), box(0.64, 0.7, 0.06, paint, THING).moved(z=1.1), *wheels]
    )


def oddity(rng: np.random.Generator, palette: Palette, size: float) -> Mesh:
    """Thing of no kind: boxes, balls, pipes and their composites, so that a network cannot know shapes by heart."""
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        material = palette.material(
            str(rng.choice(['chaos', 'poster', 'paint', 'wood', 'metal', 'fabric'])),
            rng.uniform(0.1, 1, 3),
            tile=float(rng.uniform(0.3, 3)),
            gloss=float(rng.choice([0, rng.uniform(0, 1)])),
        )
        measure = size * rng.uniform(0.15, 1.0, 3)
        kind = int(rng.integers(5))
        if kind == 0:
            part = box(*measure, material, THING)
        elif kind == 1:
            part = sphere(measure[0] / 2, material, THING, 8, 12).moved(z=measure[0] / 2)
        elif kind == 2:
            part = cylinder(
                measure[0] / 2,
                measure[1],
                int(rng.choice([5, 6, 16])),
                material,
                THING,
                measure[2] / 2 * rng.integers(2),
            )
        elif kind == 3:
            steps = np.cumsum(rng.normal(scale=size * 0.35, size=(5, 3)), axis=0)
            steps[:, 2] = np.abs(steps[:, 2])
            part = tube(steps, size * rng.uniform(0.01, 0.08), 7, material, THING)
        else:
            part = triangles_mesh(
                rng.normal(scale=size * 0.5, size=(2, 3, 3)) + np.array([0, 0, size * 0.5]), material, THING
            )
        turned = (
            tilt(*rng.uniform(-0.6, 0.6, 2), rng.uniform(0, 6)) if rng.random() < 0.5 else tilt(0, 0, rng.uniform(0, 6))
        )
        parts.append(
            part.placed(turned, (*rng.normal(scale=size * 0.3, size=2), rng.uniform(0, size * 0.5) * rng.integers(2)))
        )
    return merge(parts)


def shelf(rng: np.random.Generator, palette: Palette, length: float, height: float) -> Mesh:
    """Rack along x with boxes in it; open towards both sides."""
    frame = palette.material(
        'metal', rng.choice([[0.03, 0.08, 0.4], [0.6, 0.2, 0.03], [0.5, 0.5, 0.5]]) * rng.uniform(0.6, 1.2)
    )
    board = palette.material('wood')
    deep, levels = rng.uniform(0.4, 1.2), max(int(height / rng.uniform(0.5, 1.8)), 2)
    parts = [
        box(0.06, 0.06, height, frame, SHELF).moved(x, y, 0)
        for x in np.linspace(-length / 2, length / 2, max(int(length / 2.5), 1) + 1)
        for y in (-deep / 2, deep / 2)
    ]
    goods = [
        palette.material(
            str(rng.choice(['cardboard', 'cardboard', 'paint', 'poster', 'wood'])),
            rng.uniform(0.3, 1) * rng.uniform(0.6, 1, 3),
        )
        for _ in range(4)
    ]
    step = height / levels
    for level in range(levels):
        z = level * step + 0.08
        parts.append(box(length, deep, 0.05, board, SHELF).moved(z=z))
        x = -length / 2 + 0.1
        while x < length / 2 - 0.3:
            wide = rng.uniform(0.2, 0.9)
            if rng.random() < 0.75 and x + wide < length / 2:
                tall = rng.uniform(0.3, 0.92) * (step - 0.08)
                parts.append(
                    box(wide, deep * rng.uniform(0.5, 0.95), tall, goods[int(rng.integers(4))], BOX).moved(
                        x + wide / 2, rng.normal(scale=0.03), z + 0.05
                    )
                )
            x += wide + rng.uniform(0.01, 0.2)
    return merge(parts)


def table(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Table or desk with things on it."""
    top, leg = palette.material('wood', rng.uniform(0.4, 1.1) * np.ones(3)), _steel(rng, palette)
    x, y, z = rng.uniform(0.8, 2.4), rng.uniform(0.5, 1.2), rng.uniform(0.45, 1.05)
    parts = [box(x, y, 0.04, top, FURNITURE).moved(z=z)]
    parts += [
        box(0.05, 0.05, z, leg, FURNITURE).moved(sx * (x / 2 - 0.06), sy * (y / 2 - 0.06), 0)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    for _ in range(int(rng.integers(0, 6))):
        thing = oddity(rng, palette, rng.uniform(0.1, 0.4))
        parts.append(thing.moved(rng.uniform(-0.4, 0.4) * x, rng.uniform(-0.35, 0.35) * y, z + 0.04))
    return merge(parts)


def chair(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Chair that faces -y."""
    seat, leg = (
        palette.material(str(rng.choice(['fabric', 'wood', 'paint'])), rng.uniform(0.05, 1, 3)),
        _steel(rng, palette),
    )
    parts = [
        box(0.46, 0.46, 0.06, seat, FURNITURE).moved(z=0.44),
        box(0.44, 0.05, 0.5, seat, FURNITURE).moved(0, 0.22, 0.5),
    ]
    if rng.random() < 0.5:
        parts += [box(0.03, 0.03, 0.45, leg, FURNITURE).moved(x, y, 0) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
    else:
        parts += [
            cylinder(0.03, 0.45, 8, leg, FURNITURE),
            *(
                box(0.3, 0.04, 0.04, leg, FURNITURE).moved(0.15, 0, 0.02).moved(yaw=a)
                for a in np.arange(5) * 2 * np.pi / 5
            ),
        ]
    return merge(parts)


def cabinet(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Cupboard, sofa or machine."""
    material = palette.material(
        str(rng.choice(['wood', 'metal', 'paint', 'fabric'])), rng.uniform(0.2, 1) * rng.uniform(0.6, 1, 3)
    )
    if rng.random() < 0.3:
        long = rng.uniform(0.9, 2.3)
        return merge(
            [
                box(long, 0.85, 0.42, material, FURNITURE),
                box(long, 0.25, 0.85, material, FURNITURE).moved(0, 0.35),
                *(box(0.2, 0.85, 0.6, material, FURNITURE).moved(s * long / 2) for s in (-1, 1)),
            ]
        )
    x, y, z = rng.uniform(0.5, 1.8), rng.uniform(0.35, 0.7), rng.uniform(0.7, 2.1)
    edge = palette.material('paint', np.full(3, 0.05), photo=False)
    lines = [
        box(0.012, y + 0.01, z * 0.94, edge, FURNITURE).moved(p, 0, 0.03 * z)
        for p in np.linspace(-x / 2, x / 2, int(rng.integers(2, 5)))[1:-1]
    ]
    return merge([box(x, y, z, material, FURNITURE), *lines])


def pile(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Pallet with boxes, or boxes on the floor."""
    wood = palette.material('wood', np.full(3, 0.8))
    parts = [box(1.2, 0.1, 0.02, wood, BOX).moved(0, y, 0.12) for y in np.linspace(-0.35, 0.35, 5)]
    parts += [box(0.1, 0.8, 0.12, wood, BOX).moved(x) for x in (-0.55, 0, 0.55)]
    cardboard = palette.material('cardboard', rng.uniform(0.6, 1.1) * np.ones(3))
    nx, ny, nz = rng.integers(1, 4), rng.integers(1, 3), rng.integers(1, 5)
    size = np.array([1.15 / nx, 0.78 / ny, rng.uniform(0.2, 0.45)])
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if k < nz - 1 or rng.random() < 0.7:
                    parts.append(
                        box(*(size * 0.97), cardboard, BOX).moved(
                            (i + 0.5) * size[0] - 0.575,
                            (j + 0.5) * size[1] - 0.39,
                            0.14 + k * size[2],
                            rng.normal(scale=0.02),
                        )
                    )
    return merge(parts)
