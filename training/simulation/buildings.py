"""Houses and blocks with real windows, balconies, doors and roofs; bridges. The front faces -y and stands on y = 0."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation.mesh import Mesh, box, extrude, merge, quads, tube
from depth_ros_training.simulation.semantics import BRIDGE, BUILDING
from depth_ros_training.simulation.textures import Palette

_BELOW = 2.5  # metres that walls go into the ground, for slopes


def building(
    rng: np.random.Generator, palette: Palette, width: float, depth: float, height: float, house: bool = False
) -> Mesh:
    """A building.

    Args:
        rng: random numbers.
        palette: materials.
        width: along x, metres, centred.
        depth: along y, metres, from the front at y = 0.
        height: of the walls, metres.
        house: with a gable roof.

    Returns:
        The mesh.
    """
    if rng.random() < 0.25 and not house:
        return _office(rng, palette, width, depth, height)
    kind = str(
        rng.choice(
            ['plaster', 'bricks', 'concrete', 'plaster', 'slabs', 'wood']
            if house
            else ['plaster', 'bricks', 'concrete', 'plaster', 'slabs']
        )
    )
    tint = rng.uniform(0.35, 1.0) * rng.uniform(0.7, 1.0, 3)
    wall = palette.material(kind, tint)
    frame = palette.material('paint', rng.uniform(0.05, 0.9) * np.ones(3), photo=False)
    pane = _pane(rng, palette)
    storey = rng.uniform(2.6, 3.6)
    floors = max(int(height / storey), 1)
    storey = height / floors
    bay = rng.uniform(1.8, 4.0)
    columns = max(int(width / bay), 1)
    bay = width / columns
    shop = not house and floors > 1 and rng.random() < 0.35
    parts = [_front(rng, palette, width, floors, columns, storey, bay, wall, frame, pane, shop)]
    back, left, right = -width / 2, -width / 2, width / 2
    other = wall if rng.random() < 0.6 else palette.material('facade', tint, tile=(bay * 3, storey * 3))
    corners = np.array(
        [
            [[right, 0, -_BELOW], [right, depth, -_BELOW], [right, depth, height], [right, 0, height]],
            [[left, depth, -_BELOW], [left, 0, -_BELOW], [left, 0, height], [left, depth, height]],
            [[right, depth, -_BELOW], [back, depth, -_BELOW], [back, depth, height], [right, depth, height]],
        ]
    )
    parts.append(quads(corners, other, BUILDING))
    parts.append(_roof(rng, palette, width, depth, height, house, wall))
    return merge(parts)


def _pane(rng: np.random.Generator, palette: Palette) -> int:
    return palette.material(
        'paint',
        rng.uniform(0.01, 0.12) * rng.uniform(0.8, 1.1, 3),
        gloss=float(rng.uniform(0.6, 2.0)),
        reflectivity=0.06,
        glass=float(rng.uniform(0.5, 0.9)),
        photo=False,
    )


def _front(rng, palette, width, floors, columns, storey, bay, wall, frame, pane, shop):
    """Wall with recessed windows, and what hangs on it."""
    w, h = bay * rng.uniform(0.3, 0.7), storey * rng.uniform(0.4, 0.62)
    sill, recess = storey * rng.uniform(0.22, 0.34), rng.uniform(0.05, 0.3)
    h = min(h, storey - sill - 0.2)
    parts, walls, reveals, panes, frames = [], [], [], [], []
    left = -width / 2
    door_column = int(rng.integers(columns))
    balconies = rng.random() < 0.35
    rail = palette.material('metal', rng.uniform(0.05, 0.6) * np.ones(3), photo=False)
    for floor in range(floors):
        z0, z1 = floor * storey, (floor + 1) * storey
        for column in range(columns):
            x0, x1 = left + column * bay, left + (column + 1) * bay
            a, b = (x0 + x1 - w) / 2, (x0 + x1 + w) / 2
            low, high = z0 + sill, z0 + sill + h
            if floor == 0 and shop:
                a, b, low, high = x0 + 0.2, x1 - 0.2, z0 + 0.35, z1 - 0.6
            if floor == 0 and column == door_column:
                low, high = z0 + 0.1, z0 + min(2.3, storey - 0.2)
                a, b = (x0 + x1) / 2 - 0.5, (x0 + x1) / 2 + 0.5
            base = -_BELOW if floor == 0 else z0
            for p, q, r, s in ((x0, x1, base, low), (x0, x1, high, z1), (x0, a, low, high), (b, x1, low, high)):
                walls.append([[p, 0, r], [q, 0, r], [q, 0, s], [p, 0, s]])
            y = recess
            for (p, r), (q, s) in (
                ((a, low), (b, low)),
                ((b, low), (b, high)),
                ((b, high), (a, high)),
                ((a, high), (a, low)),
            ):
                reveals.append([[p, 0, r], [q, 0, s], [q, y, s], [p, y, r]])
            panes.append([[a, y, low], [b, y, low], [b, y, high], [a, y, high]])
            middle = (a + b) / 2
            frames.append(
                [
                    [middle - 0.04, y - 0.03, low],
                    [middle + 0.04, y - 0.03, low],
                    [middle + 0.04, y - 0.03, high],
                    [middle - 0.04, y - 0.03, high],
                ]
            )
            if balconies and floor > 0 and rng.random() < 0.6:
                parts.append(_balcony(rng, a - 0.4, b + 0.4, z0 + 0.05, wall, rail))
            elif floor > 0 and rng.random() < 0.05:
                parts.append(box(0.8, 0.35, 0.6, rail, BUILDING).moved(middle, -0.2, z0 + 0.3))  # air conditioner
    parts += [
        quads(np.array(walls), wall, BUILDING, np.array(walls)[..., [0, 2]]),
        quads(np.array(reveals), wall, BUILDING),
        quads(np.array(panes), pane, BUILDING),
        quads(np.array(frames), frame, BUILDING),
    ]
    if shop:
        sign = palette.material('poster', rng.uniform(0.5, 1, 3), tile=(width / int(rng.integers(1, 4)), 0.7))
        parts.append(box(width * 0.95, 0.15, 0.6, sign, BUILDING).moved(0, -0.08, storey - 0.65))
        if rng.random() < 0.4:
            awning = palette.material('fabric', rng.uniform(0.2, 1, 3))
            parts.append(
                quads(
                    np.array(
                        [
                            [left, 0, storey - 0.7],
                            [-left, 0, storey - 0.7],
                            [-left, -1.3, storey - 1.1],
                            [left, -1.3, storey - 1.1],
                        ]
                    ),
                    awning,
                    BUILDING,
                )
            )
    if rng.random() < 0.4:
        for x in (left + 0.15, -left - 0.15):
            parts.append(tube(np.array([[x, -0.08, -0.5], [x, -0.08, floors * storey]]), 0.06, 6, rail, BUILDING))
    return merge(parts)


def _balcony(rng, x0, x1, z, wall, rail):
    out = rng.uniform(0.8, 1.4)
    parts = [box(x1 - x0, out, 0.15, wall, BUILDING).moved((x0 + x1) / 2, -out / 2, z)]
    top = z + 1.1
    line = np.array([[x0, 0, top], [x0, -out, top], [x1, -out, top], [x1, 0, top]])
    parts.append(tube(line, 0.025, 4, rail, BUILDING))
    if rng.random() < 0.3:
        parts.append(quads(np.array([[x0, -out, z], [x1, -out, z], [x1, -out, top], [x0, -out, top]]), wall, BUILDING))
    else:
        bar = box(0.03, 0.03, 1.0, rail, BUILDING)
        parts += [bar.moved(x, -out, z + 0.1) for x in np.arange(x0, x1, 0.25)]
    return merge(parts)


def _office(rng, palette, width, depth, height):
    """Block with bands of glass."""
    wall = palette.material(
        str(rng.choice(['concrete', 'metal', 'slabs'])), rng.uniform(0.3, 1.0) * rng.uniform(0.85, 1, 3)
    )
    pane = _pane(rng, palette)
    storey = rng.uniform(3.0, 3.8)
    floors = max(int(height / storey), 1)
    parts = [box(width - 0.2, depth - 0.2, floors * storey + _BELOW, pane, BUILDING).moved(0, depth / 2, -_BELOW)]
    band = storey * rng.uniform(0.25, 0.5)
    slab = box(width, depth, band, wall, BUILDING)
    parts += [slab.moved(0, depth / 2, floor * storey - band / 2) for floor in range(floors + 1)]
    parts.append(box(width, depth, _BELOW, wall, BUILDING).moved(0, depth / 2, -_BELOW))
    pier = box(0.18, 0.3, floors * storey, wall, BUILDING)
    parts += [pier.moved(x) for x in np.linspace(-width / 2, width / 2, max(int(width / rng.uniform(1.2, 6)), 1) + 1)]
    return merge(parts)


def _roof(rng, palette, width, depth, height, house, wall):
    if not house and rng.random() < 0.6:
        top = palette.material('gravel', np.full(3, 0.6))
        parts = [
            quads(
                np.array(
                    [
                        [-width / 2, 0, height],
                        [width / 2, 0, height],
                        [width / 2, depth, height],
                        [-width / 2, depth, height],
                    ]
                ),
                top,
                BUILDING,
            )
        ]
        for y, d in ((0.1, 0.2), (depth - 0.1, 0.2)):
            parts.append(box(width, d, 0.5, wall, BUILDING).moved(0, y, height))
        if rng.random() < 0.5:
            parts.append(box(2.5, 2.5, 2.0, wall, BUILDING).moved(rng.uniform(-0.3, 0.3) * width, depth / 2, height))
        return merge(parts)
    tiles = palette.material('rooftiles', rng.uniform(0.5, 1.0) * np.ones(3))
    rise, over = depth * rng.uniform(0.2, 0.45), rng.uniform(0.1, 0.6)
    parts = []
    if rng.random() < 0.6:  # ridge along the front
        outline = np.array(
            [[-depth / 2 - over, height - over * 0.5], [depth / 2 + over, height - over * 0.5], [0, height + rise]]
        )
        parts.append(
            extrude(outline, width + over, tiles, BUILDING).placed(
                np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), (0, depth / 2, 0)
            )
        )
    else:
        rise = width * rng.uniform(0.25, 0.5)
        outline = np.array(
            [[-width / 2 - over, height - over * 0.5], [width / 2 + over, height - over * 0.5], [0, height + rise]]
        )
        parts.append(extrude(outline, depth + over, tiles, BUILDING).moved(0, depth / 2, 0))
    if rng.random() < 0.6:
        parts.append(
            box(0.6, 0.6, rise + 0.8, wall, BUILDING).moved(rng.uniform(-0.3, 0.3) * width, depth * 0.55, height)
        )
    return merge(parts)


def bridge(rng: np.random.Generator, palette: Palette, span: float, clearance: float) -> Mesh:
    """Bridge across x: spans ``span`` metres along y, ``clearance`` metres above the ground."""
    wall = palette.material(str(rng.choice(['concrete', 'bricks', 'metal'])), rng.uniform(0.3, 0.9) * np.ones(3))
    width, thick = rng.uniform(2.5, 10), rng.uniform(0.6, 1.5)
    parts = [box(width, span * 3, thick, wall, BRIDGE).moved(0, 0, clearance)]
    for side in (-1, 1):
        parts.append(box(0.15, span * 3, 1.0, wall, BRIDGE).moved(side * width / 2, 0, clearance + thick))
        parts.append(box(width * 0.8, 0.8, clearance + 3, wall, BRIDGE).moved(0, side * span / 2, -3))
    return merge(parts)
