"""Off-road: rolling terrain with trails, woods, rocks, bushes, tall grass and what people leave behind."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation import buildings, furniture, nature, vehicles
from depth_ros_training.simulation.drive import mover, mover_times
from depth_ros_training.simulation.mesh import Mesh, merge, sheet
from depth_ros_training.simulation.semantics import TERRAIN
from depth_ros_training.simulation.textures import Palette
from depth_ros_training.simulation.world import (
    Ground,
    Route,
    World,
    daylight,
    distance_to_route,
    rolling_ground,
    winding_route,
)

_BEHIND, _AHEAD, _FINE = 30.0, 130.0, 24.0


def build_offroad(rng: np.random.Generator, palette: Palette, duration: float) -> World:
    """Make a trail long enough for a drive.

    Args:
        rng: random numbers.
        palette: materials.
        duration: of the drive, s.

    Returns:
        The world.
    """
    speed = float(rng.uniform(0.8, 5))
    route = winding_route(
        rng, _BEHIND + _AHEAD + 1.7 * speed * (duration + 2), 1 / rng.uniform(12, 40), float(rng.uniform(12, 40))
    )
    hills = rolling_ground(rng, rng.uniform(0.5, 14), (18, 220), float(rng.uniform(0.05, 0.3)))
    bumps = rolling_ground(rng, rng.uniform(0.02, 0.12), (1.5, 9), 0.12)

    def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return hills(x, y) + bumps(x, y)

    parts = _terrain(rng, palette, route, ground)

    def place(mesh: Mesh, s: float, offset: float, yaw: float, lift: float = 0.0) -> None:
        x, y = (float(value) for value in route.at(s, offset))
        # A trail that bends may come back to where an offset leads.
        if distance_to_route(route, np.array([x]), np.array([y]))[0] > min(abs(offset), 2.0) * 0.8:
            parts.append(mesh.moved(x, y, float(ground(x, y)) + lift, yaw))

    wooded, bushy, rocky, grassy = rng.uniform(0, 1, 4) ** 1.5
    trail = rng.uniform(1.3, 3.0)
    blades = palette.material('grass', rng.uniform(0.7, 1.3) * np.ones(3), photo=False)
    kinds = (
        (0.9 * wooded, lambda: nature.tree(rng, palette, 0.0, 600), 14.0),
        (1.0 * bushy, lambda: nature.bush(rng, palette), 8.0),
        (0.8 * rocky, lambda: nature.rock(rng, palette, float(np.exp(rng.uniform(-1.5, 1.2)))), 9.0),
        (6.0 * grassy, lambda: nature.tuft(rng, palette, blades, rng.uniform(0.15, 0.8)), 4.0),
        (0.04, lambda: nature.log(rng, palette), 6.0),
        (0.03, lambda: nature.heap(rng, palette), 8.0),
        (0.03, lambda: furniture.fence(rng, palette, rng.uniform(3, 20)), 9.0),
        (0.04, lambda: furniture.pole(rng, palette), 6.0),
        (0.015, lambda: vehicles.car(rng, palette), 8.0),
        (0.02, lambda: nature.person(rng, palette), 5.0),
        (
            0.008,
            lambda: buildings.building(rng, palette, rng.uniform(5, 10), rng.uniform(5, 8), rng.uniform(2.5, 4), True),
            22.0,
        ),
        (0.05, lambda: furniture.oddity(rng, palette, float(np.exp(rng.uniform(-1, 1.3)))), 6.0),
    )
    for density, make, spread in kinds:
        for s in rng.uniform(0, route.length, min(int(rng.poisson(density * route.length)), 2500)):
            mesh = make()
            wide = float(np.abs(mesh.vertices[:, :2]).max()) if spread != 14.0 else 0.3
            away = trail + min(wide, 6.0) * 0.8 + rng.exponential(spread)
            place(mesh, s, rng.choice([-1, 1]) * min(away, 90.0), rng.uniform(0, 6))
    movers = []
    times = mover_times(duration)
    for _ in range(int(rng.poisson(0.7))):
        start, pace = rng.uniform(_BEHIND + 5, route.length), rng.choice([-1, 1]) * rng.uniform(0.6, 1.6)
        side = rng.choice([-1, 1]) * rng.uniform(1.5, 4)
        movers.append(
            mover(nature.person(rng, palette), route, ground, start + pace * (times + 1), side + 0 * times)
        )
    return World('offroad', merge(parts), movers, palette.surfaces(), daylight(rng), ground, route, _BEHIND, speed)


def _terrain(rng: np.random.Generator, palette: Palette, route: Route, ground: Ground) -> list[Mesh]:
    def soil(*kinds: str) -> int:
        return palette.material(str(rng.choice(kinds)), rng.uniform(0.55, 1.15) * np.ones(3))

    trail, field, patch = (
        soil('ground', 'gravel', 'grass'),
        soil('grass', 'ground', 'leaves', 'grass'),
        soil('grass', 'gravel', 'ground'),
    )
    land = palette.mixed(field, patch, rng.uniform(0.05, 0.6))
    # From the middle of the trail outwards its soil shows in ever smaller patches.
    materials = np.array(
        [palette.mixed(field, trail, share) for share in (0.97, 0.85, 0.68, 0.5, 0.32, 0.16, 0.06)] + [land]
    )
    low, high = route.points.min(0), route.points.max(0)
    width = rng.uniform(0.7, 1.8)
    parts = []
    for step, margin in ((0.6, _FINE), (6.0, 260.0)):
        x, y = np.meshgrid(*(np.arange(low[k] - margin, high[k] + margin, step) for k in (0, 1)), indexing='ij')
        away = distance_to_route(route, x, y)
        z = ground(x, y)
        if step > 1:
            rise = rolling_ground(rng, rng.uniform(0, 40), (60, 300), 0.35)(x, y) + rng.uniform(0, 15)
            z = z - 0.25 + rise * np.clip((away - 45) / 150, 0, 1) ** 1.3
        mesh = sheet(x, y, z, 0, TERRAIN)
        centre = mesh.vertices[mesh.triangles].mean(1)
        aside = distance_to_route(route, centre[:, 0], centre[:, 1])
        mesh.material[:] = materials[np.clip((aside / width * 3).astype(int), 0, 7)]
        parts.append(mesh.only(aside < _FINE if step < 1 else aside > _FINE - 9))
    return parts
