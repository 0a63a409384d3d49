"""What moves in a street."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation import nature, vehicles
from depth_ros_training.simulation.drive import mover, mover_times, waves
from depth_ros_training.simulation.mesh import Mesh
from depth_ros_training.simulation.scene import Mover
from depth_ros_training.simulation.street_plan import BEHIND, Street


def traffic(street: Street) -> list[Mover]:
    """Vehicles ahead, oncoming and beside; cyclists; people who walk."""
    rng, palette = street.rng, street.palette
    times = mover_times(street.duration)
    busy = rng.uniform(0.0, 1.0)
    movers = []
    cruise = street.speed

    def add(mesh: Mesh, s: np.ndarray, offset: float, lift: float = 0.0) -> None:
        wiggle = 0.15 * waves(rng, times, 5, 20)
        movers.append(mover(mesh, street.route, street.ground, s, offset + wiggle, np.array([0, 0, lift])))

    def maker() -> Mesh:
        kind = rng.choice([vehicles.car, vehicles.van, vehicles.truck, vehicles.bus], p=[0.74, 0.12, 0.09, 0.05])
        return kind(rng, palette)

    for lane in range(street.lanes):
        own = -street.side * street.lane * (lane + 0.5)
        gap = rng.uniform(9, 30)
        for _ in range(int(rng.poisson(2.0 * busy + 0.4))):
            # The one ahead never waits for us, so it keeps a little faster than we ever are.
            speed = 1.62 * cruise if lane == street.lanes - 1 else cruise * rng.uniform(0.9, 1.7)
            start = BEHIND + gap
            s = start + speed * (times + 1.0) * rng.uniform(0.97, 1.0)
            add(maker(), s, own)
            gap += rng.uniform(12, 45)
        oncoming = street.side * street.lane * (lane + 0.5)
        for start in street.scattered(0.022 * busy, street.route.length + street.speed * street.duration):
            add(maker(), start - cruise * rng.uniform(0.95, 1.05) * (times + 1.0), oncoming)
    if street.walk:
        for start in street.scattered(0.03 * busy):
            speed = rng.choice([-1, 1]) * rng.uniform(0.8, 1.8)
            across = rng.choice([-1, 1]) * rng.uniform(street.edge - street.walk + 0.5, street.edge - 0.3)
            add(nature.person(rng, palette), start + speed * (times + 1.0), across, street.kerb)
        for start in street.scattered(0.008 * busy):
            side = rng.choice([-1.0, 1.0])
            add(
                nature.person(rng, palette, riding=True),
                start - street.side * side * rng.uniform(3, 6) * (times + 1.0),
                side * (street.half - street.parking - 0.6),
            )
    return movers
