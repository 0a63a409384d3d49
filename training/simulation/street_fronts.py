"""What stands along a street: houses, gardens, woods, walls, open land, car parks."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation import buildings, furniture, nature, vehicles
from depth_ros_training.simulation.street_plan import Street


def add_fronts(street: Street, side: float) -> None:
    """Fronts: houses, woods, walls, open land; a character for every 40 to 120 metres."""
    rng = street.rng
    s = 0.0
    setback = rng.uniform(0.0, 3.0) if street.style == 'city' else rng.uniform(3, 9)
    while s < street.route.length:
        until = s + rng.uniform(40, 120)
        shares = {
            'city': [0.72, 0.08, 0.08, 0.06, 0.06],
            'suburb': [0.6, 0.15, 0.1, 0.08, 0.07],
            'country': [0.06, 0.44, 0.08, 0.37, 0.05],
            'motorway': [0.05, 0.35, 0.3, 0.3, 0.0],
        }[street.style]
        add = (_house, _wood, _wall, _open, _park_lot)[int(rng.choice(5, p=shares))]
        storeys = rng.uniform(2, 7)
        while s < until:
            s = add(street, s, side, setback, storeys)


def _house(street: Street, s: float, side: float, setback: float, storeys: float) -> float:
    rng, palette = street.rng, street.palette
    house = street.style != 'city' or rng.random() < 0.1
    width = rng.uniform(8, 15) if house else rng.uniform(10, 30)
    gap = rng.uniform(2, 12) if house else float(rng.choice([0.0, 0.0, rng.uniform(1, 6)]))
    middle = s + width / 2
    if not street.crosses(middle, width / 2 + 3.5):
        height = rng.uniform(2.7, 6.5) if house else 3.1 * max(round(storeys + rng.normal(scale=0.8)), 1)
        back = max(setback + rng.normal(scale=0.8 if house else 0.15), 0.05)
        mesh = buildings.building(
            rng, palette, width, rng.uniform(7, 11) if house else rng.uniform(9, 15), height, house
        )
        # The front faces the road, which is straight for the building and bends for us.
        street.place(mesh, middle, side * (street.edge + back + 0.3), 0.0 if side > 0 else np.pi, street.kerb)
        if setback > 2 and rng.random() < 0.7:
            _garden(street, s, width + gap, side, setback)
    return s + width + gap


def _garden(street: Street, s: float, length: float, side: float, setback: float) -> None:
    rng, palette = street.rng, street.palette
    kind = rng.random()
    middle = s + length / 2
    if kind < 0.35:
        street.place(
            nature.hedge(rng, palette, length * rng.uniform(0.5, 0.9), rng.uniform(0.5, 2.0), 0.6),
            middle,
            side * (street.edge + 0.6),
        )
    elif kind < 0.8:
        street.place(
            furniture.fence(rng, palette, length * rng.uniform(0.6, 1.0)),
            middle,
            side * (street.edge + 0.3),
            lift=street.kerb,
        )
    for _ in range(int(rng.integers(0, 4))):
        plant = nature.bush(rng, palette) if rng.random() < 0.6 else nature.tree(rng, palette, rng.uniform(2.5, 7))
        street.place(
            plant,
            s + rng.uniform(0, length),
            side * (street.edge + rng.uniform(0.8, max(setback, 1.0))),
            rng.uniform(0, 6),
            street.kerb,
        )
    if rng.random() < 0.3:
        street.place(
            vehicles.car(rng, palette),
            s + rng.uniform(0, length),
            side * (street.edge + 3),
            np.pi / 2 * rng.choice([1, -1]),
            street.kerb,
        )


def _wood(street: Street, s: float, side: float, setback: float, storeys: float) -> float:
    rng, palette = street.rng, street.palette
    for _ in range(3):
        at, away = s + rng.uniform(0, 7), street.edge + 0.8 + rng.exponential(6)
        if street.crosses(at, 4):
            continue
        plant = (
            nature.bush(rng, palette, rng.uniform(0.5, 2.5))
            if rng.random() < 0.4
            else nature.tree(rng, palette, 0.0, 700)
        )
        street.place(plant, at, side * min(away, street.edge + 32), rng.uniform(0, 6), street.kerb)
    return s + rng.uniform(4, 9)


def _wall(street: Street, s: float, side: float, setback: float, storeys: float) -> float:
    rng, palette = street.rng, street.palette
    length = rng.uniform(4, 14)
    if not street.crosses(s + length / 2, length / 2 + 2):
        mesh = furniture.fence(rng, palette, length)
        street.place(mesh, s + length / 2, side * (street.edge + 0.2), lift=street.kerb)
        if rng.random() < 0.7:
            _wood(street, s, side, setback, storeys)
    return s + length


def _open(street: Street, s: float, side: float, setback: float, storeys: float) -> float:
    rng, palette = street.rng, street.palette
    if rng.random() < 0.25 and not street.crosses(s, 4):
        thing = nature.rock(rng, palette, rng.uniform(0.3, 2)) if rng.random() < 0.4 else nature.bush(rng, palette)
        street.place(thing, s, side * (street.edge + rng.exponential(8)), rng.uniform(0, 6))
    return s + rng.uniform(5, 20)


def _park_lot(street: Street, s: float, side: float, setback: float, storeys: float) -> float:
    rng, palette = street.rng, street.palette
    for row in range(int(rng.integers(1, 3))):
        if rng.random() < 0.7 and not street.crosses(s + 1.3, 3.5):
            street.place(
                vehicles.car(rng, palette),
                s + 1.3,
                side * (street.edge + 4 + 7.5 * row),
                np.pi / 2 * rng.choice([1, -1]),
                street.kerb,
            )
    return s + rng.uniform(2.5, 3.2)
