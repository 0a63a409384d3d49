"""What stands between road and fronts: parked cars, trees, lamps, signs, clutter, people, wires."""

from __future__ import annotations

import itertools

import numpy as np

from depth_ros_training.simulation import furniture, nature, vehicles
from depth_ros_training.simulation.mesh import Mesh, tube
from depth_ros_training.simulation.semantics import POLE
from depth_ros_training.simulation.street_plan import Street


def add_kerbside(street: Street, side: float) -> None:
    """Parked cars, trees, lamps, signs, clutter and people between road and fronts."""
    rng, palette = street.rng, street.palette
    if street.parking > 1:
        s, share = 5.0, rng.uniform(0.1, 0.9)
        while s < street.route.length:
            maker = rng.choice([vehicles.car, vehicles.van, vehicles.truck], p=[0.86, 0.11, 0.03])
            mesh = maker(rng, palette)
            length = float(np.ptp(mesh.vertices[:, 0]))
            if rng.random() < share and not street.crosses(s + length / 2, length / 2 + 3):
                facing = 0.0 if (side == -street.side) ^ (rng.random() < 0.15) else np.pi
                street.place(
                    mesh,
                    s + length / 2,
                    side * (street.half - 1.15 + rng.normal(scale=0.08)),
                    facing + rng.normal(scale=0.02),
                )
            s += length + rng.uniform(0.5, 2.5)
    spacing = rng.uniform(7, 30)
    trees = rng.random() < (0.6 if street.style != 'motorway' else 0.2)
    line = street.edge - street.walk + 0.3 if street.walk else street.edge + 0.6
    first = rng.uniform(0, spacing)
    for s in np.arange(first, street.route.length, spacing):
        if trees and not street.crosses(s, 3):
            street.place(
                nature.tree(rng, palette, rng.uniform(4, 11), 1200), s, side * line, rng.uniform(0, 6), street.kerb
            )
    for s in np.arange(rng.uniform(0, 30), street.route.length, rng.uniform(18, 45)):
        street.place(
            furniture.lamp_post(rng, palette), s, side * (line + 0.2), 0.0 if side > 0 else np.pi, street.kerb
        )
    density = {'city': 1.0, 'suburb': 0.6, 'country': 0.25, 'motorway': 0.25}[street.style]
    for s in street.scattered(0.12 * density):
        thing, across = _roadside_thing(street, side)
        if not street.crosses(s, 1):
            street.place(thing, s, side * across, (0.0 if side < 0 else np.pi) + rng.normal(scale=0.15), street.kerb)
    for s in street.scattered(0.05 * density if street.walk else 0.004):
        across = side * rng.uniform(street.edge - max(street.walk, 0.5), street.edge)
        street.place(nature.person(rng, palette), s, across, rng.uniform(0, 6), street.kerb)
    for s in street.scattered(0.025):
        size = float(np.exp(rng.uniform(np.log(0.3), np.log(4))))
        lift = float(rng.choice([0.0, rng.uniform(0.5, 5)], p=[0.75, 0.25]))
        street.place(
            furniture.oddity(rng, palette, size),
            s,
            side * (street.edge + rng.uniform(-0.5, 8)),
            rng.uniform(0, 6),
            lift,
        )
    if street.style in ('country', 'motorway') and rng.random() < 0.6:
        for s in np.arange(10, street.route.length, 12.0):
            if not street.crosses(s, 8):
                street.place(furniture.fence(np.random.default_rng(2), palette, 12.0), s, side * (street.half + 0.6))
    if rng.random() < 0.3:
        _wires(street, side)


def _roadside_thing(street: Street, side: float) -> tuple[Mesh, float]:
    rng, palette = street.rng, street.palette
    kind = int(rng.choice(6, p=[0.3, 0.08, 0.2, 0.2, 0.12, 0.1]))
    near, far = street.half + 0.5, max(street.edge - 0.3, street.half + 0.6)
    if kind == 0:
        return furniture.traffic_sign(rng, palette), near
    if kind == 1:
        return furniture.traffic_light(rng, palette), near
    if kind == 2:
        return furniture.street_clutter(rng, palette), far
    if kind == 3:
        return furniture.pole(rng, palette), rng.uniform(near, far)
    if kind == 4:
        return vehicles.bicycle(rng, palette, bool(rng.random() < 0.3)), far
    return furniture.bench(rng, palette), far


def _wires(street: Street, side: float) -> None:
    rng, palette = street.rng, street.palette
    wood = palette.material('bark', photo=False)
    offset, height, step = side * (street.edge + 0.4), rng.uniform(6, 9), rng.uniform(25, 40)
    stations = np.arange(0, street.route.length, step)
    tops = []
    for s in stations:
        x, y = street.route.at(s, offset)
        z = float(street.ground(x, y))
        street.parts.append(tube(np.array([[x, y, z - 0.5], [x, y, z + height + 0.3]]), 0.12, 7, wood, POLE))
        tops.append([x, y, z + height])
    share = np.linspace(0, 1, 6)[:, None]
    for first, second in itertools.pairwise(tops):
        line = np.array(first) * (1 - share) + np.array(second) * share
        for lower in range(int(2 + height % 2)):
            street.parts.append(
                tube(line - [0, 0, 1] * (0.8 * 4 * share * (1 - share) + 0.4 * lower), 0.012, 3, wood, POLE)
            )
