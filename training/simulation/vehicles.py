"""Cars, vans, trucks, buses, bicycles, built from a few measures: x is forward, the origin on the ground."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation.mesh import Mesh, box, cylinder, loft, merge, quads, tilt, tube
from depth_ros_training.simulation.semantics import BICYCLE, BUS, CAR, MOTORCYCLE, TRUCK
from depth_ros_training.simulation.textures import Palette

# Share of cars by colour, linear RGB: mostly white, black, grey, silver.
_PAINTS = np.array(
    [
        [0.85, 0.85, 0.85],
        [0.02, 0.02, 0.022],
        [0.12, 0.12, 0.13],
        [0.4, 0.41, 0.42],
        [0.25, 0.26, 0.28],
        [0.02, 0.05, 0.25],
        [0.45, 0.02, 0.02],
        [0.05, 0.12, 0.35],
        [0.02, 0.12, 0.05],
        [0.5, 0.42, 0.25],
        [0.7, 0.5, 0.05],
        [0.3, 0.12, 0.02],
    ]
)
_SHARES = np.array([5, 5, 5, 4, 3, 2, 2, 2, 1, 1, 1, 1.0])


def _paint(rng: np.random.Generator, palette: Palette) -> int:
    colour = _PAINTS[rng.choice(len(_PAINTS), p=_SHARES / _SHARES.sum())] * rng.uniform(0.7, 1.2)
    # Black paint swallows the lidar's light, unless its pigments are transparent to infrared.
    dark = 0.03 if rng.random() < 0.7 else 0.2
    reflectivity = float(np.clip(colour.mean() * 0.9 + dark, 0.03, 0.9))
    return palette.material('paint', colour, gloss=float(rng.uniform(0.3, 0.9)), reflectivity=reflectivity, photo=False)


def _glass(rng: np.random.Generator, palette: Palette) -> int:
    return palette.material(
        'paint',
        np.full(3, rng.uniform(0.01, 0.05)),
        gloss=float(rng.uniform(0.8, 2.0)),
        reflectivity=0.05,
        glass=float(rng.uniform(0.6, 0.95)),
        photo=False,
    )


def _wheels(
    rng: np.random.Generator, palette: Palette, axles: np.ndarray, track: float, radius: float, semantic: int
) -> Mesh:
    rubber = palette.material('rubber', np.full(3, 0.35), reflectivity=0.05, photo=False)
    rim = palette.material('metal', np.full(3, rng.uniform(0.15, 0.7)), gloss=0.3, photo=False)
    width = radius * 0.62
    wheel = merge(
        [
            cylinder(radius, width, 16, rubber, semantic),
            cylinder(radius * 0.65, width + 0.02, 12, rim, semantic).moved(z=-0.01),
        ]
    ).placed(tilt(np.pi / 2, 0), (0, width / 2, radius))
    return merge([wheel.moved(x, side * (track / 2 - width / 2)) for x in axles for side in (-1, 1)])


def _shell(stations: np.ndarray, floor: float, paint: int, glass: int, cabin: tuple[int, int], semantic: int) -> Mesh:
    """Body over stations (x, belt height, half width there, roof height, half width there), with windows."""
    sections = []
    for x, belt, half, roof, top in stations:
        right = [[x, -half * 0.97, floor], [x, -half, (floor + belt) * 0.55], [x, -half, belt], [x, -top, roof]]
        sections.append([*right, *([p[0], -p[1], p[2]] for p in reversed(right))])
    material = np.full((len(stations) - 1, 7), paint)
    for k in range(cabin[0], cabin[1]):
        material[k, [2, 4]] = glass
    for k in (cabin[0], cabin[1] - 1):  # windscreen and rear window lie between belt and roof
        material[k, 3] = glass
    sections = np.asarray(sections)
    skin = loft(sections, material, semantic)
    ends = [quads(section[[0, 3, 4, 7]], paint, semantic) for section in (sections[0], sections[-1])]
    lower = [quads(section[[0, 2, 5, 7]], paint, semantic) for section in (sections[0], sections[-1])]
    bottom = quads(np.stack([sections[0][0], sections[0][7], sections[-1][7], sections[-1][0]]), paint, semantic)
    return merge([skin, *ends, *lower, bottom])


def _details(
    rng: np.random.Generator, palette: Palette, length: float, width: float, belt: float, semantic: int
) -> Mesh:
    front = palette.material('paint', np.full(3, 0.8), gloss=1.0, glow=0.3, reflectivity=0.4, photo=False)
    back = palette.material(
        'paint', (0.5, 0.01, 0.01), gloss=0.6, glow=float(rng.uniform(0.2, 1.2)), reflectivity=1.5, photo=False
    )
    plate = palette.material('poster', np.full(3, 0.9), tile=(0.52, 0.12), reflectivity=3.0, photo=False)
    dark = palette.material('rubber', np.full(3, 0.3), reflectivity=0.05, photo=False)
    parts = []
    for x, material in ((length / 2, front), (-length / 2, back)):
        lamp = box(0.06, width * 0.2, float(rng.uniform(0.1, 0.22)), material, semantic)
        parts += [lamp.moved(x, side * width * 0.36, belt * 0.72) for side in (-1, 1)]
        parts.append(box(0.04, 0.52, 0.12, plate, semantic).moved(x + 0.02 * np.sign(x), 0, belt * 0.5))
        parts.append(box(0.1, width * 0.94, 0.16, dark, semantic).moved(x, 0, 0.3))
    mirror = box(0.12, 0.2, 0.14, dark, semantic)
    parts += [mirror.moved(length * 0.17, side * (width / 2 + 0.08), belt + 0.02) for side in (-1, 1)]
    return merge(parts)


def car(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Hatchback, saloon, estate, off-roader or small van, about 4.3 m long."""
    paint, glass = _paint(rng, palette), _glass(rng, palette)
    style = int(rng.integers(5))
    length = rng.uniform(3.6, 4.4) if style == 0 else rng.uniform(4.2, 5.0)
    width, height = rng.uniform(1.65, 1.92), (rng.uniform(1.4, 1.55) if style < 3 else rng.uniform(1.6, 1.95))
    belt, hood = height * rng.uniform(0.6, 0.66), height * rng.uniform(0.5, 0.6)
    half, top = width / 2, width / 2 * rng.uniform(0.72, 0.85)
    a = length / 2
    nose, windscreen, roof_front = a * 0.96, a * rng.uniform(0.38, 0.5), a * rng.uniform(0.02, 0.16)
    if style == 4:
        windscreen, roof_front = a * 0.62, a * 0.35
    roof_back, tail = {0: (-0.75, -0.95), 1: (-0.42, -0.72), 2: (-0.85, -0.96), 3: (-0.88, -0.96), 4: (-0.92, -0.97)}[
        style
    ]
    deck = belt + 0.02
    thin = half * 0.9
    stations = np.array(
        [
            [a, hood * 0.8, half * 0.88, hood * 0.82, thin * 0.9],
            [nose, hood * 0.96, half * 0.97, hood, thin],
            [windscreen, belt, half, belt + 0.02, thin],
            [roof_front, belt, half, height * 0.98, top],
            [(roof_front + roof_back * a) / 2, belt, half, height, top],
            [roof_back * a, belt, half, height * 0.97, top],
            [tail * a, belt, half * 0.98, deck, thin],
            [-a, belt * 0.92, half * 0.92, deck * 0.95, thin * 0.95],
        ]
    )
    floor = 0.18 if style != 3 else 0.26
    radius = rng.uniform(0.3, 0.35) if style != 3 else rng.uniform(0.34, 0.4)
    return merge(
        [
            _shell(stations, floor, paint, glass, (2, 6), CAR),
            _wheels(rng, palette, np.array([a * 0.62, -a * 0.6]), width + 0.02, radius, CAR),
            _details(rng, palette, length, width, belt, CAR),
        ]
    )


def van(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Delivery van, about 5.5 m long."""
    paint, glass = _paint(rng, palette), _glass(rng, palette)
    length, width, height = rng.uniform(4.8, 6.5), rng.uniform(1.9, 2.1), rng.uniform(1.95, 2.7)
    a, half, belt = length / 2, width / 2, 1.15
    stations = np.array(
        [
            [a, 0.75, half * 0.9, 0.78, half * 0.85],
            [a * 0.95, 1.0, half, 1.05, half * 0.9],
            [a * 0.72, belt, half, belt + 0.05, half * 0.9],
            [a * 0.48, belt, half, height * 0.97, half * 0.88],
            [a * 0.1, belt, half, height, half * 0.9],
            [-a * 0.98, belt, half, height, half * 0.9],
            [-a, belt, half * 0.97, height * 0.97, half * 0.88],
        ]
    )
    return merge(
        [
            _shell(stations, 0.22, paint, glass, (2, 4), CAR),
            _wheels(rng, palette, np.array([a * 0.62, -a * 0.58]), width, 0.34, CAR),
            _details(rng, palette, length, width, 1.1, CAR),
        ]
    )


def truck(rng: np.random.Generator, palette: Palette) -> Mesh:
    """Cab and box, tank or flat bed, 6 to 14 m long."""
    paint, glass = _paint(rng, palette), _glass(rng, palette)
    length, width, height = rng.uniform(6, 14), 2.5, rng.uniform(3.0, 4.0)
    cab, cab_height = 2.0, min(height, rng.uniform(2.5, 3.6))
    front = length / 2
    dark = palette.material('metal', np.full(3, 0.08), photo=False)
    cargo = palette.material(
        str(rng.choice(['metal', 'paint', 'poster'])), rng.uniform(0.3, 1.0, 3), tile=float(rng.uniform(2, 6))
    )
    parts = [
        box(cab, width * 0.96, cab_height - 0.5, paint, TRUCK).moved(front - cab / 2, 0, 0.5),
        quads(
            np.array([[front + 0.01, y, z] for y, z in ((-1.05, 1.5), (1.05, 1.5), (1.0, 2.35), (-1.0, 2.35))]),
            glass,
            TRUCK,
        ),
        box(length, 0.9, 0.25, dark, TRUCK).moved(0, 0, 0.7),
    ]
    for side in (-1, 1):
        y = side * (width * 0.48 + 0.005)
        parts.append(
            quads(
                np.array([[front - 1.2, y, 1.5], [front - 0.3, y, 1.5], [front - 0.35, y, 2.2], [front - 1.2, y, 2.2]]),
                glass,
                TRUCK,
            )
        )
    bed, middle = length - cab - 0.4, front - cab - 0.4 - (length - cab - 0.4) / 2
    kind = rng.random()
    if kind < 0.6:
        parts.append(box(bed, width, height - 1.0, cargo, TRUCK).moved(middle, 0, 1.0))
    elif kind < 0.8:
        tank = cylinder(1.1, bed, 18, cargo, TRUCK).placed(tilt(0, np.pi / 2), (middle - bed / 2, 0, 2.1))
        parts.append(tank)
    else:
        parts.append(box(bed, width, 0.2, dark, TRUCK).moved(middle, 0, 1.0))
        parts += [box(bed, 0.05, 0.6, cargo, TRUCK).moved(middle, side * width / 2, 1.2) for side in (-1, 1)]
    axles = np.array([front - 1.2, *np.linspace(-front + 1.0, -front + 2.3, 2)])
    parts += [_wheels(rng, palette, axles, width, 0.5, TRUCK), _details(rng, palette, length, width, 1.3, TRUCK)]
    return merge(parts)


def bus(rng: np.random.Generator, palette: Palette) -> Mesh:
    """City bus or tram, 10 to 13 m long."""
    paint, glass = _paint(rng, palette), _glass(rng, palette)
    length, width, height = rng.uniform(10, 13), 2.5, rng.uniform(2.9, 3.3)
    a = length / 2
    parts = [
        box(length, width, 0.9, paint, BUS).moved(z=0.3),
        box(length, width, 0.4, paint, BUS).moved(z=height - 0.4),
    ]
    parts.append(box(length - 0.02, width - 0.06, height - 1.6, glass, BUS).moved(z=1.2))
    post = box(0.12, width, height - 1.6, paint, BUS)
    parts += [post.moved(x, 0, 1.2) for x in np.linspace(-a + 0.06, a - 0.06, int(length / 1.4))]
    parts += [
        _wheels(rng, palette, np.array([a * 0.6, -a * 0.5]), width, 0.48, BUS),
        _details(rng, palette, length, width, 1.2, BUS),
    ]
    return merge(parts)


def bicycle(rng: np.random.Generator, palette: Palette, motor: bool = False) -> Mesh:
    """Bicycle, or motorcycle."""
    semantic = MOTORCYCLE if motor else BICYCLE
    frame = _paint(rng, palette)
    rubber = palette.material('rubber', np.full(3, 0.3), reflectivity=0.05, photo=False)
    radius, base = (0.31, 0.7) if motor else (0.34, 0.52)
    angle = np.linspace(0, 2 * np.pi, 17)
    ring = np.stack([np.cos(angle) * radius, 0 * angle, np.sin(angle) * radius + radius], 1)
    thick = 0.055 if motor else 0.018
    parts = [tube(ring + np.array([x, 0, 0]), thick, 6, rubber, semantic) for x in (-base, base)]
    for k in range(0, 16, 4 if motor else 2):
        spoke = tube(np.array([[0, 0, radius], ring[k]]), 0.012 if motor else 0.004, 3, rubber, semantic)
        parts += [spoke.moved(x) for x in (-base, base)]
    joints = {
        'rear': (-base, radius),
        'pedal': (-0.05, 0.28),
        'saddle': (-0.2, 0.85),
        'head': (0.36, 0.85),
        'front': (base, radius),
        'bar': (0.33, 1.02),
    }
    bar = 0.018 if not motor else 0.04
    for first, second in (
        ('rear', 'pedal'),
        ('pedal', 'saddle'),
        ('rear', 'saddle'),
        ('saddle', 'head'),
        ('pedal', 'head'),
        ('head', 'front'),
        ('head', 'bar'),
    ):
        line = np.array([[joints[k][0], 0, joints[k][1]] for k in (first, second)])
        parts.append(tube(line, bar, 5, frame, semantic))
    parts.append(tube(np.array([[0.33, -0.28, 1.02], [0.33, 0.28, 1.02]]), bar, 5, rubber, semantic))
    parts.append(box(0.26, 0.14, 0.06, rubber, semantic).moved(-0.22, 0, 0.88))
    if motor:
        parts.append(box(0.75, 0.32, 0.42, frame, semantic).moved(0, 0, 0.36))
        parts.append(box(0.5, 0.26, 0.2, frame, semantic).moved(0.1, 0, 0.78))
    return merge(parts)
