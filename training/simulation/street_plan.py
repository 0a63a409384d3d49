"""The plan of a street: its course, lanes and crossings, and what stands where."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation.mesh import Mesh
from depth_ros_training.simulation.textures import Palette
from depth_ros_training.simulation.world import Ground, Route, rolling_ground, winding_route

BEHIND, _AHEAD = 70.0, 260.0
"""Metres of street behind the start of a drive, and beyond its end."""


class Street:
    """A plan, and the parts that were put up along it.

    Attributes:
        rng: random numbers.
        palette: materials.
        duration: of the drive, s.
        style: ``city``, ``suburb``, ``country`` or ``motorway``.
        speed: usual speed, m/s.
        route: middle of the road.
        ground: height function.
        side: side of oncoming traffic, 1 = left.
        lane: width of a lane, metres.
        lanes: number of lanes per direction.
        parking: width for parked cars, metres.
        walk: width of a sidewalk, metres.
        kerb: height of the kerb, metres.
        verge: width of the green between kerb and sidewalk, metres.
        half: metres from the middle to the kerb.
        edge: metres from the middle to the fronts.
        crossings: middle and half width of roads that join, metres along.
        parts: meshes so far.
    """

    def __init__(self, rng: np.random.Generator, palette: Palette, duration: float) -> None:
        self.rng, self.palette, self.duration = rng, palette, duration
        self.style = str(rng.choice(['city', 'suburb', 'country', 'motorway'], p=[0.4, 0.3, 0.2, 0.1]))
        self.speed = float(
            {
                'city': rng.uniform(4, 11),
                'suburb': rng.uniform(5, 12),
                'country': rng.uniform(8, 18),
                'motorway': rng.uniform(12, 25),
            }[self.style]
        )
        length = BEHIND + _AHEAD + 1.7 * self.speed * (duration + 2)
        sharpest = {'city': 1 / 120, 'suburb': 1 / 70, 'country': 1 / 90, 'motorway': 1 / 400}[self.style]
        self.route: Route = winding_route(rng, length, sharpest, float(rng.uniform(40, 90)))
        self.ground: Ground = rolling_ground(rng, rng.uniform(0.2, 5), (60, 300), float(rng.choice([0.01, 0.03, 0.06])))
        self.side = 1.0 if rng.random() < 0.8 else -1.0  # drive on the right, or on the left
        self.lane = float(rng.uniform(2.8, 3.6))
        self.lanes = {
            'city': int(rng.choice([1, 1, 2])),
            'suburb': 1,
            'country': 1,
            'motorway': int(rng.choice([2, 3])),
        }[self.style]
        self.parking = 2.2 if self.style in ('city', 'suburb') and rng.random() < 0.7 else 0.3
        self.walk = float(rng.uniform(1.4, 4.5)) if self.style in ('city', 'suburb') else 0.0
        self.kerb = float(rng.uniform(0.06, 0.18)) if self.walk else 0.0
        self.verge = float(rng.choice([0.0, rng.uniform(0.5, 4)]))
        self.half = self.lanes * self.lane + self.parking
        self.edge = self.half + 0.2 + self.verge + self.walk
        self.crossings = self._crossings(length)
        self.parts: list[Mesh] = []

    def _crossings(self, length: float) -> list[tuple[float, float]]:
        if self.style == 'motorway':
            return []
        at, found = self.rng.uniform(20, 120), []
        while at < length:
            found.append((at, float(self.rng.uniform(3, 6))))
            at += self.rng.uniform(60, 250)
        return found

    def crosses(self, s: np.ndarray | float, margin: float = 0.0) -> np.ndarray:
        """Whether a road joins within ``margin`` metres of ``s``."""
        s = np.asarray(s, float)
        inside = np.zeros(s.shape, bool)
        for at, half in self.crossings:
            inside |= np.abs(s - at) < half + margin
        return inside

    def place(self, mesh: Mesh, s: float, offset: float, yaw: float = 0.0, lift: float = 0.0) -> None:
        """Put a mesh beside the road; its x axis runs along the road, for ``yaw`` = 0."""
        x, y = self.route.at(s, offset)
        height = float(self.ground(x, y)) + lift
        self.parts.append(mesh.moved(float(x), float(y), height, float(self.route.heading(s)) + yaw))

    def scattered(self, density: float, length: float | None = None) -> np.ndarray:
        """Places by chance, so many per metre, in order; ``length`` in metres, None = of the route."""
        length = self.route.length if length is None else length
        return np.sort(self.rng.uniform(0, length, int(self.rng.poisson(length * density))))
