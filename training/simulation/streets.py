"""Streets: urban canyons, suburbs, avenues, country roads and motorways, block by block along a winding road."""

from __future__ import annotations

import itertools

import numpy as np

from depth_ros_training.simulation import buildings, furniture, nature, vehicles
from depth_ros_training.simulation.drive import follow, waves
from depth_ros_training.simulation.mesh import Mesh, merge, sheet, tilt, tube
from depth_ros_training.simulation.scene import Mover
from depth_ros_training.simulation.semantics import POLE, ROAD, SIDEWALK, TERRAIN
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

_BEHIND, _AHEAD = 70.0, 260.0


def build_street(rng: np.random.Generator, palette: Palette, duration: float) -> World:
    """Make a street long enough for a drive.

    Args:
        rng: random numbers.
        palette: materials.
        duration: of the drive, s.

    Returns:
        The world.
    """
    return _Street(rng, palette, duration).world()


class _Street:
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
        length = _BEHIND + _AHEAD + 1.7 * self.speed * (duration + 2)
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

    def world(self) -> World:
        self._road()
        self._land()
        for side in (-1.0, 1.0):
            self._blocks(side)
            self._kerbside(side)
        self._across()
        movers = self._traffic()
        offset = (
            -self.side
            * self.lane
            * (self.lanes - 0.5 if self.lanes < 3 or self.rng.random() < 0.5 else self.lanes - 1.5)
        )
        route = Route(self.route.at(np.arange(0, self.route.length, 0.5), offset), 0.5)
        return World(
            'street',
            merge(self.parts),
            movers,
            self.palette.surfaces(),
            daylight(self.rng),
            self.ground,
            _resampled(route),
            _BEHIND,
            self.speed,
        )

    def _crossings(self, length: float) -> list[tuple[float, float]]:
        if self.style == 'motorway':
            return []
        at, found = self.rng.uniform(20, 120), []
        while at < length:
            found.append((at, float(self.rng.uniform(3, 6))))
            at += self.rng.uniform(60, 250)
        return found

    def _crossing(self, s: np.ndarray | float, margin: float = 0.0) -> np.ndarray:
        s = np.asarray(s, float)
        inside = np.zeros(s.shape, bool)
        for at, half in self.crossings:
            inside |= np.abs(s - at) < half + margin
        return inside

    def _place(self, mesh: Mesh, s: float, offset: float, yaw: float = 0.0, lift: float = 0.0) -> None:
        """Put a mesh beside the road; its x axis runs along the road, for ``yaw`` = 0."""
        x, y = self.route.at(s, offset)
        height = float(self.ground(x, y)) + lift
        self.parts.append(mesh.moved(float(x), float(y), height, float(self.route.heading(s)) + yaw))

    def _road(self) -> None:
        rng, palette = self.rng, self.palette
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
        s = np.arange(0, self.route.length + 1e-6, 1.5)
        centre = (s[:-1] + s[1:]) / 2
        crossing = self._crossing(centre)
        dashed = {True: (np.floor(s[:-1] / 1.5) % int(rng.integers(3, 7))) < 2, False: np.ones(len(centre), bool)}
        line = float(rng.uniform(0.1, 0.18))
        bands: list[tuple[float, float, np.ndarray, np.ndarray, float, float]] = []

        def band(
            a: float, b: float, material: np.ndarray | int, semantic: int, za: float = 0.0, zb: float = 0.0
        ) -> None:
            material = np.where(crossing, asphalt, np.broadcast_to(material, crossing.shape))
            bands.append((a, b, material, np.where(crossing, ROAD, semantic), za, zb))

        lines = [(k * self.lane, True) for k in range(-self.lanes + 1, self.lanes)]
        if self.style in ('country', 'motorway') or rng.random() < 0.4:
            lines += [(-self.lanes * self.lane, False), (self.lanes * self.lane, False)]
        if self.style == 'suburb' and rng.random() < 0.5:
            lines = []
        at = -self.half
        for middle, dash in sorted(lines):
            band(at, middle - line / 2, asphalt, ROAD)
            band(middle - line / 2, middle + line / 2, np.where(dashed[dash], paint, asphalt), ROAD)
            at = middle + line / 2
        band(at, self.half, asphalt, ROAD)
        far = {'city': 30.0, 'suburb': 35.0, 'country': 25.0, 'motorway': 25.0}[self.style]
        for side in (-1.0, 1.0):
            k, h = self.kerb, self.half
            profile = [(h, h + 0.01, stone, SIDEWALK, 0.0, k), (h + 0.01, h + 0.2, stone, SIDEWALK, k, k)]
            if self.verge:
                profile.append((h + 0.2, h + 0.2 + self.verge, green, TERRAIN, k, k))
            if self.walk:
                profile.append((self.edge - self.walk, self.edge, walk, SIDEWALK, k, k))
            front = palette.material(
                str(
                    rng.choice(
                        ['grass', 'slabs', 'grass', 'gravel', 'asphalt'] if self.walk else ['grass', 'ground', 'grass']
                    )
                )
            )
            profile += [
                (self.edge, self.edge + 12, front, TERRAIN, k, k),
                (self.edge + 12, self.edge + far, green, TERRAIN, k, -0.1),
                (self.edge + far, self.edge + far + 3, green, TERRAIN, -0.1, -1.5),
            ]
            for a, b, material, semantic, za, zb in profile:
                band(*((a, b) if side > 0 else (-b, -a)), material, semantic, *((za, zb) if side > 0 else (zb, za)))
        flat = 1.0 - self._crossing(s)  # no kerb where a road joins
        for a, b, material, semantic, za, zb in bands:
            steps = max(int((b - a) / 6), 1)
            grid_d = np.linspace(a, b, steps + 1)
            rise = np.linspace(za, zb, steps + 1)
            points = self.route.at(s[:, None], grid_d[None])
            z = self.ground(points[..., 0], points[..., 1]) + np.where(rise > 0, rise * flat[:, None], rise)
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
            self.parts.append(strip)

    def _land(self) -> None:
        """Country far from the road, up to the hills on the horizon."""
        rng = self.rng
        low, high = self.route.points.min(0) - 320, self.route.points.max(0) + 320
        x, y = np.meshgrid(np.arange(low[0], high[0], 10.0), np.arange(low[1], high[1], 10.0), indexing='ij')
        away = distance_to_route(self.route, x, y)
        hills = rolling_ground(rng, rng.uniform(2, 40), (60, 400), 0.3)(x, y)
        z = self.ground(x, y) - 0.6 + (hills + rng.uniform(-5, 12)) * np.clip((away - 60) / 120, 0, 1) ** 1.5
        near = away < self.edge + 14
        z = np.where(near, z - 1.5, z)
        material = self.palette.material(
            str(rng.choice(['grass', 'grass', 'ground', 'leaves'])), rng.uniform(0.5, 1) * np.ones(3), tile=9.0
        )
        self.parts.append(sheet(x, y, z, material, TERRAIN))
        for _ in range(int(rng.integers(10, 60))):  # silhouettes
            s, side = rng.uniform(0, self.route.length), rng.choice([-1.0, 1.0])
            offset = side * rng.uniform(self.edge + 45, 160)
            if self.style == 'city' or (self.style != 'country' and rng.random() < 0.5):
                block = buildings.building(
                    rng, self.palette, rng.uniform(12, 40), rng.uniform(10, 20), rng.uniform(8, 45)
                )
                self._place(block, s, offset, rng.uniform(0, 6), -0.5)
            else:
                self._place(nature.tree(rng, self.palette, rng.uniform(8, 20), 250), s, offset, rng.uniform(0, 6), -0.6)

    def _blocks(self, side: float) -> None:
        """Fronts: houses, woods, walls, open land; a character for every 40 to 120 metres."""
        rng = self.rng
        s = 0.0
        setback = rng.uniform(0.0, 3.0) if self.style == 'city' else rng.uniform(3, 9)
        while s < self.route.length:
            until = s + rng.uniform(40, 120)
            shares = {
                'city': [0.72, 0.08, 0.08, 0.06, 0.06],
                'suburb': [0.6, 0.15, 0.1, 0.08, 0.07],
                'country': [0.06, 0.44, 0.08, 0.37, 0.05],
                'motorway': [0.05, 0.35, 0.3, 0.3, 0.0],
            }[self.style]
            kind = int(rng.choice(5, p=shares))
            storeys = rng.uniform(2, 7)
            while s < until:
                s = {0: self._house, 1: self._wood, 2: self._wall, 3: self._open, 4: self._park_lot}[kind](
                    s, side, setback, storeys
                )

    def _house(self, s: float, side: float, setback: float, storeys: float) -> float:
        rng, palette = self.rng, self.palette
        house = self.style != 'city' or rng.random() < 0.1
        width = rng.uniform(8, 15) if house else rng.uniform(10, 30)
        gap = rng.uniform(2, 12) if house else float(rng.choice([0.0, 0.0, rng.uniform(1, 6)]))
        middle = s + width / 2
        if not self._crossing(middle, width / 2 + 3.5):
            height = rng.uniform(2.7, 6.5) if house else 3.1 * max(round(storeys + rng.normal(scale=0.8)), 1)
            back = max(setback + rng.normal(scale=0.8 if house else 0.15), 0.05)
            mesh = buildings.building(
                rng, palette, width, rng.uniform(7, 11) if house else rng.uniform(9, 15), height, house
            )
            # The front faces the road, which is straight for the building and bends for us.
            self._place(mesh, middle, side * (self.edge + back + 0.3), 0.0 if side > 0 else np.pi, self.kerb)
            if setback > 2 and rng.random() < 0.7:
                self._garden(s, width + gap, side, setback)
        return s + width + gap

    def _garden(self, s: float, length: float, side: float, setback: float) -> None:
        rng, palette = self.rng, self.palette
        kind = rng.random()
        middle = s + length / 2
        if kind < 0.35:
            self._place(
                nature.hedge(rng, palette, length * rng.uniform(0.5, 0.9), rng.uniform(0.5, 2.0), 0.6),
                middle,
                side * (self.edge + 0.6),
            )
        elif kind < 0.8:
            self._place(
                furniture.fence(rng, palette, length * rng.uniform(0.6, 1.0)),
                middle,
                side * (self.edge + 0.3),
                lift=self.kerb,
            )
        for _ in range(int(rng.integers(0, 4))):
            plant = nature.bush(rng, palette) if rng.random() < 0.6 else nature.tree(rng, palette, rng.uniform(2.5, 7))
            self._place(
                plant,
                s + rng.uniform(0, length),
                side * (self.edge + rng.uniform(0.8, max(setback, 1.0))),
                rng.uniform(0, 6),
                self.kerb,
            )
        if rng.random() < 0.3:
            self._place(
                vehicles.car(rng, palette),
                s + rng.uniform(0, length),
                side * (self.edge + 3),
                np.pi / 2 * rng.choice([1, -1]),
                self.kerb,
            )

    def _wood(self, s: float, side: float, setback: float, storeys: float) -> float:
        rng, palette = self.rng, self.palette
        for _ in range(3):
            at, away = s + rng.uniform(0, 7), self.edge + 0.8 + rng.exponential(6)
            if self._crossing(at, 4):
                continue
            plant = (
                nature.bush(rng, palette, rng.uniform(0.5, 2.5))
                if rng.random() < 0.4
                else nature.tree(rng, palette, 0.0, 700)
            )
            self._place(plant, at, side * min(away, self.edge + 32), rng.uniform(0, 6), self.kerb)
        return s + rng.uniform(4, 9)

    def _wall(self, s: float, side: float, setback: float, storeys: float) -> float:
        rng, palette = self.rng, self.palette
        length = rng.uniform(4, 14)
        if not self._crossing(s + length / 2, length / 2 + 2):
            mesh = furniture.fence(rng, palette, length)
            self._place(mesh, s + length / 2, side * (self.edge + 0.2), lift=self.kerb)
            if rng.random() < 0.7:
                self._wood(s, side, setback, storeys)
        return s + length

    def _open(self, s: float, side: float, setback: float, storeys: float) -> float:
        rng, palette = self.rng, self.palette
        if rng.random() < 0.25 and not self._crossing(s, 4):
            thing = nature.rock(rng, palette, rng.uniform(0.3, 2)) if rng.random() < 0.4 else nature.bush(rng, palette)
            self._place(thing, s, side * (self.edge + rng.exponential(8)), rng.uniform(0, 6))
        return s + rng.uniform(5, 20)

    def _park_lot(self, s: float, side: float, setback: float, storeys: float) -> float:
        rng, palette = self.rng, self.palette
        for row in range(int(rng.integers(1, 3))):
            if rng.random() < 0.7 and not self._crossing(s + 1.3, 3.5):
                self._place(
                    vehicles.car(rng, palette),
                    s + 1.3,
                    side * (self.edge + 4 + 7.5 * row),
                    np.pi / 2 * rng.choice([1, -1]),
                    self.kerb,
                )
        return s + rng.uniform(2.5, 3.2)

    def _kerbside(self, side: float) -> None:
        """Parked cars, trees, lamps, signs, clutter and people between road and fronts."""
        rng, palette = self.rng, self.palette
        if self.parking > 1:
            s, share = 5.0, rng.uniform(0.1, 0.9)
            while s < self.route.length:
                maker = rng.choice([vehicles.car, vehicles.van, vehicles.truck], p=[0.86, 0.11, 0.03])
                mesh = maker(rng, palette)
                length = float(np.ptp(mesh.vertices[:, 0]))
                if rng.random() < share and not self._crossing(s + length / 2, length / 2 + 3):
                    facing = 0.0 if (side == -self.side) ^ (rng.random() < 0.15) else np.pi
                    self._place(
                        mesh,
                        s + length / 2,
                        side * (self.half - 1.15 + rng.normal(scale=0.08)),
                        facing + rng.normal(scale=0.02),
                    )
                s += length + rng.uniform(0.5, 2.5)
        spacing = rng.uniform(7, 30)
        trees = rng.random() < (0.6 if self.style != 'motorway' else 0.2)
        line = self.edge - self.walk + 0.3 if self.walk else self.edge + 0.6
        first = rng.uniform(0, spacing)
        for s in np.arange(first, self.route.length, spacing):
            if trees and not self._crossing(s, 3):
                self._place(
                    nature.tree(rng, palette, rng.uniform(4, 11), 1200), s, side * line, rng.uniform(0, 6), self.kerb
                )
        for s in np.arange(rng.uniform(0, 30), self.route.length, rng.uniform(18, 45)):
            self._place(
                furniture.lamp_post(rng, palette), s, side * (line + 0.2), 0.0 if side > 0 else np.pi, self.kerb
            )
        density = {'city': 1.0, 'suburb': 0.6, 'country': 0.25, 'motorway': 0.25}[self.style]
        for s in _scattered(rng, self.route.length, 0.12 * density):
            thing, across = self._roadside_thing(side)
            if not self._crossing(s, 1):
                self._place(thing, s, side * across, (0.0 if side < 0 else np.pi) + rng.normal(scale=0.15), self.kerb)
        for s in _scattered(rng, self.route.length, 0.05 * density if self.walk else 0.004):
            across = side * rng.uniform(self.edge - max(self.walk, 0.5), self.edge)
            self._place(nature.person(rng, palette), s, across, rng.uniform(0, 6), self.kerb)
        for s in _scattered(rng, self.route.length, 0.025):
            size = float(np.exp(rng.uniform(np.log(0.3), np.log(4))))
            lift = float(rng.choice([0.0, rng.uniform(0.5, 5)], p=[0.75, 0.25]))
            self._place(
                furniture.oddity(rng, palette, size),
                s,
                side * (self.edge + rng.uniform(-0.5, 8)),
                rng.uniform(0, 6),
                lift,
            )
        if self.style in ('country', 'motorway') and rng.random() < 0.6:
            for s in np.arange(10, self.route.length, 12.0):
                if not self._crossing(s, 8):
                    self._place(furniture.fence(np.random.default_rng(2), palette, 12.0), s, side * (self.half + 0.6))
        if rng.random() < 0.3:
            self._wires(side)

    def _roadside_thing(self, side: float) -> tuple[Mesh, float]:
        rng, palette = self.rng, self.palette
        kind = int(rng.choice(6, p=[0.3, 0.08, 0.2, 0.2, 0.12, 0.1]))
        near, far = self.half + 0.5, max(self.edge - 0.3, self.half + 0.6)
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

    def _wires(self, side: float) -> None:
        rng, palette = self.rng, self.palette
        wood = palette.material('bark', photo=False)
        offset, height, step = side * (self.edge + 0.4), rng.uniform(6, 9), rng.uniform(25, 40)
        stations = np.arange(0, self.route.length, step)
        tops = []
        for s in stations:
            x, y = self.route.at(s, offset)
            z = float(self.ground(x, y))
            self.parts.append(tube(np.array([[x, y, z - 0.5], [x, y, z + height + 0.3]]), 0.12, 7, wood, POLE))
            tops.append([x, y, z + height])
        share = np.linspace(0, 1, 6)[:, None]
        for first, second in itertools.pairwise(tops):
            line = np.array(first) * (1 - share) + np.array(second) * share
            for lower in range(int(2 + height % 2)):
                self.parts.append(
                    tube(line - [0, 0, 1] * (0.8 * 4 * share * (1 - share) + 0.4 * lower), 0.012, 3, wood, POLE)
                )

    def _across(self) -> None:
        rng, palette = self.rng, self.palette
        for s in _scattered(rng, self.route.length, 1 / 350):
            if rng.random() < 0.5:
                mesh = buildings.bridge(rng, palette, 2 * self.edge + rng.uniform(1, 10), rng.uniform(4.6, 7))
                self._place(mesh, s, 0.0, rng.normal(scale=0.15))
            else:
                self._place(furniture.gantry(rng, palette, 2 * self.half + 1.5), s, 0.0)

    def _traffic(self) -> list[Mover]:
        """Vehicles ahead, oncoming and beside; cyclists; people who walk."""
        rng, palette = self.rng, self.palette
        times = np.arange(-1.0, self.duration + 1.05, 0.05)
        busy = rng.uniform(0.0, 1.0)
        movers = []
        cruise = self.speed

        def add(mesh: Mesh, s: np.ndarray, offset: float, lift: float = 0.0) -> None:
            wiggle = 0.15 * waves(rng, times, 5, 20)
            track = follow(self.route, self.ground, s, offset + wiggle, -1.0, 0.05, np.array([0, 0, lift]))
            if s[-1] < s[0]:  # towards us
                track.poses[:] = track.poses @ np.block([[tilt(0, 0, np.pi), np.zeros((3, 1))], [np.zeros((1, 3)), 1]])
            movers.append(Mover(mesh, track))

        def maker() -> Mesh:
            kind = rng.choice([vehicles.car, vehicles.van, vehicles.truck, vehicles.bus], p=[0.74, 0.12, 0.09, 0.05])
            return kind(rng, palette)

        for lane in range(self.lanes):
            own = -self.side * self.lane * (lane + 0.5)
            gap = rng.uniform(9, 30)
            for _ in range(int(rng.poisson(2.0 * busy + 0.4))):
                # The one ahead never waits for us, so it keeps a little faster than we ever are.
                speed = 1.62 * cruise if lane == self.lanes - 1 else cruise * rng.uniform(0.9, 1.7)
                start = _BEHIND + gap
                s = start + speed * (times + 1.0) * rng.uniform(0.97, 1.0)
                add(maker(), s, own)
                gap += rng.uniform(12, 45)
            oncoming = self.side * self.lane * (lane + 0.5)
            for start in _scattered(rng, self.route.length + self.speed * self.duration, 0.022 * busy):
                add(maker(), start - cruise * rng.uniform(0.95, 1.05) * (times + 1.0), oncoming)
        if self.walk:
            for start in _scattered(rng, self.route.length, 0.03 * busy):
                speed = rng.choice([-1, 1]) * rng.uniform(0.8, 1.8)
                across = rng.choice([-1, 1]) * rng.uniform(self.edge - self.walk + 0.5, self.edge - 0.3)
                add(nature.person(rng, palette), start + speed * (times + 1.0), across, self.kerb)
            for start in _scattered(rng, self.route.length, 0.008 * busy):
                side = rng.choice([-1.0, 1.0])
                add(
                    nature.person(rng, palette, riding=True),
                    start - self.side * side * rng.uniform(3, 6) * (times + 1.0),
                    side * (self.half - self.parking - 0.6),
                )
        return movers


def _scattered(rng: np.random.Generator, length: float, density: float) -> np.ndarray:
    return np.sort(rng.uniform(0, length, int(rng.poisson(length * density))))


def _resampled(route: Route) -> Route:
    """Same line with points at equal distances."""
    step = np.linalg.norm(np.diff(route.points, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(step)])
    at = np.arange(0, along[-1], route.spacing)
    return Route(np.stack([np.interp(at, along, route.points[:, k]) for k in (0, 1)], axis=1), route.spacing)
