"""Streets: urban canyons, suburbs, avenues, country roads and motorways, block by block along a winding road."""

from __future__ import annotations

import numpy as np

from depth_ros_training.simulation import buildings, furniture, nature
from depth_ros_training.simulation.kerbside import add_kerbside
from depth_ros_training.simulation.mesh import merge, sheet
from depth_ros_training.simulation.semantics import ROAD, SIDEWALK, TERRAIN
from depth_ros_training.simulation.street_fronts import add_fronts
from depth_ros_training.simulation.street_plan import BEHIND, Street
from depth_ros_training.simulation.textures import Palette
from depth_ros_training.simulation.traffic import traffic
from depth_ros_training.simulation.world import Route, World, daylight, distance_to_route, rolling_ground


def build_street(rng: np.random.Generator, palette: Palette, duration: float) -> World:
    """Make a street long enough for a drive.

    Args:
        rng: random numbers.
        palette: materials.
        duration: of the drive, s.

    Returns:
        The world.
    """
    street = Street(rng, palette, duration)
    _road(street)
    _land(street)
    for side in (-1.0, 1.0):
        add_fronts(street, side)
        add_kerbside(street, side)
    _across(street)
    movers = traffic(street)
    offset = (
        -street.side
        * street.lane
        * (street.lanes - 0.5 if street.lanes < 3 or rng.random() < 0.5 else street.lanes - 1.5)
    )
    route = Route(street.route.at(np.arange(0, street.route.length, 0.5), offset), 0.5)
    return World(
        'street',
        merge(street.parts),
        movers,
        palette.surfaces(),
        daylight(rng),
        street.ground,
        _resampled(route),
        BEHIND,
        street.speed,
    )


def _road(street: Street) -> None:
    rng, palette = street.rng, street.palette
    grey = rng.uniform(0.5, 1.3) * rng.uniform(0.95, 1.05, 3)
    asphalt = palette.material('asphalt', grey)
    if rng.random() < 0.6:  # mended
        patch = palette.material('asphalt', grey * rng.uniform(0.75, 1.2))
        asphalt = palette.mixed(asphalt, patch, rng.uniform(0.05, 0.4))
    paint = palette.material('paint', np.full(3, rng.uniform(0.35, 0.9)), reflectivity=0.8, photo=False)
    stone = palette.material('concrete', np.full(3, rng.uniform(0.6, 1.0)))
    walk = palette.material(
        str(rng.choice(['slabs', 'asphalt', 'concrete', 'slabs'])), rng.uniform(0.6, 1.1) * np.ones(3)
    )
    green = palette.material(str(rng.choice(['grass', 'grass', 'gravel', 'ground'])))
    green = palette.mixed(green, palette.material(str(rng.choice(['ground', 'grass']))), rng.uniform(0.0, 0.5))
    s = np.arange(0, street.route.length + 1e-6, 1.5)
    centre = (s[:-1] + s[1:]) / 2
    crossing = street.crosses(centre)
    dashed = {True: (np.floor(s[:-1] / 1.5) % int(rng.integers(3, 7))) < 2, False: np.ones(len(centre), bool)}
    line = float(rng.uniform(0.1, 0.18))
    bands: list[tuple[float, float, np.ndarray, np.ndarray, float, float]] = []

    def band(
        a: float, b: float, material: np.ndarray | int, semantic: int, za: float = 0.0, zb: float = 0.0
    ) -> None:
        material = np.where(crossing, asphalt, np.broadcast_to(material, crossing.shape))
        bands.append((a, b, material, np.where(crossing, ROAD, semantic), za, zb))

    lines = [(k * street.lane, True) for k in range(-street.lanes + 1, street.lanes)]
    if street.style in ('country', 'motorway') or rng.random() < 0.4:
        lines += [(-street.lanes * street.lane, False), (street.lanes * street.lane, False)]
    if street.style == 'suburb' and rng.random() < 0.5:
        lines = []
    at = -street.half
    for middle, dash in sorted(lines):
        band(at, middle - line / 2, asphalt, ROAD)
        band(middle - line / 2, middle + line / 2, np.where(dashed[dash], paint, asphalt), ROAD)
        at = middle + line / 2
    band(at, street.half, asphalt, ROAD)
    far = {'city': 30.0, 'suburb': 35.0, 'country': 25.0, 'motorway': 25.0}[street.style]
    for side in (-1.0, 1.0):
        k, h = street.kerb, street.half
        profile = [(h, h + 0.01, stone, SIDEWALK, 0.0, k), (h + 0.01, h + 0.2, stone, SIDEWALK, k, k)]
        if street.verge:
            profile.append((h + 0.2, h + 0.2 + street.verge, green, TERRAIN, k, k))
        if street.walk:
            profile.append((street.edge - street.walk, street.edge, walk, SIDEWALK, k, k))
        front = palette.material(
            str(
                rng.choice(
                    ['grass', 'slabs', 'grass', 'gravel', 'asphalt'] if street.walk else ['grass', 'ground', 'grass']
                )
            )
        )
        profile += [
            (street.edge, street.edge + 12, front, TERRAIN, k, k),
            (street.edge + 12, street.edge + far, green, TERRAIN, k, -0.1),
            (street.edge + far, street.edge + far + 3, green, TERRAIN, -0.1, -1.5),
        ]
        for a, b, material, semantic, za, zb in profile:
            band(*((a, b) if side > 0 else (-b, -a)), material, semantic, *((za, zb) if side > 0 else (zb, za)))
    flat = 1.0 - street.crosses(s)  # no kerb where a road joins
    for a, b, material, semantic, za, zb in bands:
        steps = max(int((b - a) / 6), 1)
        grid_d = np.linspace(a, b, steps + 1)
        rise = np.linspace(za, zb, steps + 1)
        points = street.route.at(s[:, None], grid_d[None])
        z = street.ground(points[..., 0], points[..., 1]) + np.where(rise > 0, rise * flat[:, None], rise)
        strip = sheet(
            points[..., 0],
            points[..., 1],
            z,
            np.repeat(material[:, None], steps, 1),
            np.repeat(semantic[:, None], steps, 1),
        )
        along = np.broadcast_to(s[:, None], z.shape)
        across = np.broadcast_to(grid_d[None], z.shape)
        uv = np.stack([along, across], 2)
        corners = np.stack([uv[:-1, :-1], uv[:-1, 1:], uv[1:, 1:], uv[1:, :-1]], axis=2).reshape(-1, 4, 2)
        strip.uv[:] = corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2)
        street.parts.append(strip)


def _land(street: Street) -> None:
    """Country far from the road, up to the hills on the horizon."""
    rng = street.rng
    low, high = street.route.points.min(0) - 320, street.route.points.max(0) + 320
    x, y = np.meshgrid(np.arange(low[0], high[0], 10.0), np.arange(low[1], high[1], 10.0), indexing='ij')
    away = distance_to_route(street.route, x, y)
    hills = rolling_ground(rng, rng.uniform(2, 40), (60, 400), 0.3)(x, y)
    z = street.ground(x, y) - 0.6 + (hills + rng.uniform(-5, 12)) * np.clip((away - 60) / 120, 0, 1) ** 1.5
    near = away < street.edge + 14
    z = np.where(near, z - 1.5, z)
    material = street.palette.material(
        str(rng.choice(['grass', 'grass', 'ground', 'leaves'])), rng.uniform(0.5, 1) * np.ones(3), tile=9.0
    )
    street.parts.append(sheet(x, y, z, material, TERRAIN))
    for _ in range(int(rng.integers(10, 60))):  # silhouettes
        s, side = rng.uniform(0, street.route.length), rng.choice([-1.0, 1.0])
        offset = side * rng.uniform(street.edge + 45, 160)
        if street.style == 'city' or (street.style != 'country' and rng.random() < 0.5):
            block = buildings.building(
                rng, street.palette, rng.uniform(12, 40), rng.uniform(10, 20), rng.uniform(8, 45)
            )
            street.place(block, s, offset, rng.uniform(0, 6), -0.5)
        else:
            street.place(nature.tree(rng, street.palette, rng.uniform(8, 20), 250), s, offset, rng.uniform(0, 6), -0.6)


def _across(street: Street) -> None:
    rng, palette = street.rng, street.palette
    for s in street.scattered(1 / 350):
        if rng.random() < 0.5:
            mesh = buildings.bridge(rng, palette, 2 * street.edge + rng.uniform(1, 10), rng.uniform(4.6, 7))
            street.place(mesh, s, 0.0, rng.normal(scale=0.15))
        else:
            street.place(furniture.gantry(rng, palette, 2 * street.half + 1.5), s, 0.0)


def _resampled(route: Route) -> Route:
    """Same line with points at equal distances."""
    step = np.linalg.norm(np.diff(route.points, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(step)])
    at = np.arange(0, along[-1], route.spacing)
    return Route(np.stack([np.interp(at, along, route.points[:, k]) for k in (0, 1)], axis=1), route.spacing)
