"""Indoors: halls, warehouses, offices and corridors, carved out of a grid of one metre cells."""

from __future__ import annotations

from collections import deque

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter1d

from depth_ros_training.simulation import furniture, nature
from depth_ros_training.simulation.drive import mover, mover_times
from depth_ros_training.simulation.mesh import Mesh, box, cylinder, merge, quads, tube
from depth_ros_training.simulation.semantics import BUILDING, CEILING, DOOR, FLOOR, LAMP, POLE, THING, WALL
from depth_ros_training.simulation.textures import Palette, noise
from depth_ros_training.simulation.world import Light, Route, World

_STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_MAX_LAMPS = 28


def build_indoor(rng: np.random.Generator, palette: Palette, duration: float) -> World:
    """Make rooms and a way through them.

    Args:
        rng: random numbers.
        palette: materials.
        duration: of the drive, s.

    Returns:
        The world.
    """
    return _Floor(rng, palette, duration).world()


class _Floor:
    def __init__(self, rng: np.random.Generator, palette: Palette, duration: float) -> None:
        self.rng, self.palette, self.duration = rng, palette, duration
        self.speed = float(rng.uniform(0.3, 1.6))
        self.rooms: list[tuple[int, int, int, int]] = []
        self.style = str(rng.choice(['warehouse', 'office', 'hall'], p=[0.35, 0.4, 0.25]))
        self.label = self._plan()
        self.free = self.label >= 0
        count = len(self.rooms)
        base = {'warehouse': (4.5, 10), 'office': (2.4, 3.4), 'hall': (3, 8)}[self.style]
        self.height = np.full(count, rng.uniform(*base))
        self.height[1:] = np.where(rng.random(count - 1) < 0.4, rng.uniform(2.3, 4, count - 1), self.height[0])
        self.parts: list[Mesh] = []
        self.lamps: list[list[float]] = []

    def world(self) -> World:
        rng = self.rng
        length = 1.7 * self.speed * (self.duration + 2) + 2
        route = self._path(length)
        others = [self._path(15.0) for _ in range(int(rng.poisson(1.2)))]
        self.clearance = self._clearance([route, *others])
        self._shell()
        self._fill()
        times = mover_times(self.duration)
        flat = lambda x, y: np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))  # noqa: E731
        movers = []
        for other in others:
            pace, phase = rng.uniform(0.5, 1.5), rng.uniform(0, 60)
            back_and_forth = other.length * (0.5 - 0.5 * np.cos((times * pace + phase) * np.pi / other.length))
            movers.append(mover(nature.person(rng, self.palette), other, flat, back_and_forth, 0 * times))
        return World(
            'indoor', merge(self.parts), movers, self.palette.surfaces(), self._light(), flat, route, 0.3, self.speed
        )

    def _plan(self) -> np.ndarray:
        """(W, H) int room of each cell, -1 = solid."""
        rng = self.rng
        width, height = (int(v) for v in rng.integers(24, 60, 2))
        label = np.full((width, height), -1)

        def carve(x: int, y: int, w: int, h: int) -> None:
            x0, y0 = max(x, 1), max(y, 1)
            x1, y1 = min(x + w, width - 1), min(y + h, height - 1)
            if x1 - x0 < 2 or y1 - y0 < 2:
                return
            region = label[x0:x1, y0:y1]
            region[region < 0] = len(self.rooms)
            self.rooms.append((x0, y0, x1, y1))

        if self.style != 'office':
            w, h = (int(rng.integers(12, size - 4)) for size in (width, height))
            carve(2, 2, w, h)
            for _ in range(int(rng.integers(0, 3))):
                carve(
                    int(rng.integers(2, w)), int(rng.integers(2, h)), int(rng.integers(4, 25)), int(rng.integers(3, 12))
                )
            return label
        x, y, along = 3, height // 2, True
        for _ in range(int(rng.integers(3, 7))):  # corridors, one after the other
            thick, run = int(rng.integers(2, 4)), int(rng.integers(8, 24))
            if along:
                run = run if x + run < width - 2 else -min(run, x - 2)
                carve(min(x, x + run), y, abs(run) + thick, thick)
                x += run
            else:
                run = run if (rng.random() < 0.5 and y + run < height - 2) or y - run < 2 else -run
                carve(x, min(y, y + run), thick, abs(run) + thick)
                y = int(np.clip(y + run, 2, height - 4))
            x = int(np.clip(x, 2, width - 4))
            along = not along
        for _ in range(int(rng.integers(4, 12))):  # rooms that open to them
            cells = np.argwhere(label >= 0)
            cx, cy = cells[int(rng.integers(len(cells)))]
            w, h = (int(v) for v in rng.integers(3, 9, 2))
            carve(int(cx) - int(rng.integers(0, w)), int(cy) - int(rng.integers(0, h)), w, h)
        return label

    def _path(self, length: float) -> Route:
        """Smooth way through free cells, at least as long as asked for where walls allow."""
        rng = self.rng
        safe = binary_erosion(self.free, iterations=1)
        safe = safe if safe.sum() > 6 else self.free
        cells = np.argwhere(safe)
        here = tuple(cells[int(rng.integers(len(cells)))])
        way = [here]
        for _ in range(400):
            if len(way) > length + 6:
                break
            came = self._search(here, safe)
            reachable = [cell for cell in came if abs(cell[0] - here[0]) + abs(cell[1] - here[1]) > 4] or list(came)
            goal = reachable[int(rng.integers(len(reachable)))]
            leg = [goal]
            while leg[-1] != here:
                leg.append(came[leg[-1]])
            way += leg[-2::-1]
            here = goal
        points = np.array(way, float) + 0.5
        if len(way) <= 3:
            points = np.array(way[0]) + np.array([[0.3, 0.5], [0.7, 0.5]])
        step = np.concatenate([[0], np.cumsum(np.maximum(np.linalg.norm(np.diff(points, axis=0), axis=1), 1e-3))])
        at = np.arange(0, step[-1], 0.1)
        fine = np.stack([np.interp(at, step, points[:, k]) for k in (0, 1)], axis=1)
        fine = gaussian_filter1d(fine, 8.0, axis=0, mode='nearest')
        moved = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1) + 1e-6)])
        even = np.arange(0, max(moved[-1], 0.2), 0.1)
        return Route(np.stack([np.interp(even, moved, fine[:, k]) for k in (0, 1)], axis=1), 0.1)

    def _search(self, start: tuple[int, int], safe: np.ndarray) -> dict[tuple[int, int], tuple[int, int]]:
        came = {start: start}
        queue = deque([start])
        steps = [_STEPS[k] for k in self.rng.permutation(4)]
        while queue:
            x, y = queue.popleft()
            for dx, dy in steps:
                cell = (x + dx, y + dy)
                if safe[cell] and cell not in came:
                    came[cell] = (x, y)
                    queue.append(cell)
        return came

    def _clearance(self, routes: list[Route]) -> np.ndarray:
        """(8 W, 8 H) metres to the nearest route or wall, on a grid of 1/8 m; things put down are added."""
        taken = np.repeat(np.repeat(~self.free, 8, axis=0), 8, axis=1)
        ways = np.zeros_like(taken)
        for route in routes:
            index = (route.points * 8).astype(int)
            ways[index[:, 0].clip(0, ways.shape[0] - 1), index[:, 1].clip(0, ways.shape[1] - 1)] = True
        self.way_distance = distance_transform_edt(~ways) / 8
        return distance_transform_edt(~taken) / 8

    def _shell(self) -> None:
        rng, palette, label = self.rng, self.palette, self.label
        count = len(self.height)
        kinds = {
            'warehouse': ['concrete', 'metal', 'bricks', 'paint'],
            'office': ['plaster', 'paint', 'plaster', 'wood'],
            'hall': ['plaster', 'bricks', 'concrete', 'slabs'],
        }[self.style]
        walls = [
            palette.material(str(rng.choice(kinds)), rng.uniform(0.45, 1) * rng.uniform(0.85, 1, 3))
            for _ in range(count)
        ]
        floor_kinds = {
            'warehouse': ['concrete', 'concrete', 'paint'],
            'office': ['slabs', 'wood', 'fabric', 'concrete'],
            'hall': ['slabs', 'wood', 'concrete'],
        }[self.style]
        shared = palette.material(
            str(rng.choice(floor_kinds)),
            rng.uniform(0.35, 1) * rng.uniform(0.9, 1, 3),
            gloss=float(rng.choice([0, rng.uniform(0, 0.6)])),
        )
        floors = [
            shared
            if rng.random() < 0.6
            else palette.material(str(rng.choice(floor_kinds)), rng.uniform(0.3, 1) * rng.uniform(0.85, 1, 3))
            for _ in range(count)
        ]
        ceilings = [
            palette.material(str(rng.choice(['plaster', 'slabs', 'metal', 'paint'])), rng.uniform(0.5, 1) * np.ones(3))
            for _ in range(count)
        ]
        skirting = palette.material('paint', rng.uniform(0.05, 0.8) * np.ones(3), photo=False)
        quad: list[np.ndarray] = []
        material: list[int] = []
        semantic: list[int] = []
        uv: list[np.ndarray] = []

        def add(corners: list[list[float]], m: int, c: int, coordinates: list[list[float]]) -> None:
            quad.append(np.array(corners))
            material.append(m)
            semantic.append(c)
            uv.append(np.array(coordinates))

        for x, y in np.argwhere(self.free):
            room = label[x, y]
            high = self.height[room]
            square = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]]
            add([[*p, 0.0] for p in square], floors[room], FLOOR, square)
            add([[*p, high] for p in square], ceilings[room], CEILING, square)
            for dx, dy in _STEPS:
                beyond = label[x + dx, y + dy]
                low = 0.0 if beyond < 0 else self.height[beyond]
                if low >= high:
                    continue
                # The side of the cell that faces this neighbour.
                px, py = (x + (dx > 0), y) if dx else (x, y + (dy > 0))
                qx, qy = (px, py + 1) if dx else (px + 1, py)
                run = (py, qy) if dx else (px, qx)
                add(
                    [[px, py, low], [qx, qy, low], [qx, qy, high], [px, py, high]],
                    walls[room],
                    WALL,
                    [[run[0], low], [run[1], low], [run[1], high], [run[0], high]],
                )
                if beyond < 0:
                    self._on_wall(px, py, qx, qy, -dx, -dy, high, room, skirting)
        self.parts.append(quads(np.array(quad), np.array(material), np.array(semantic), np.array(uv)))
        self._ceiling_things()

    def _on_wall(
        self, px: int, py: int, qx: int, qy: int, nx: int, ny: int, high: float, room: int, skirting: int
    ) -> None:
        """Door, window, poster, pipe or box on one metre of wall whose normal is (nx, ny)."""
        rng, palette = self.rng, self.palette
        mx, my = (px + qx) / 2, (py + qy) / 2
        along = np.array([qx - px, qy - py], float)

        def panel(a: float, b: float, low: float, top: float, out: float, material: int, semantic: int) -> None:
            first, second = (
                np.array([px, py]) + along * a + np.array([nx, ny]) * out,
                np.array([px, py]) + along * b + np.array([nx, ny]) * out,
            )
            corners = np.array([[*first, low], [*second, low], [*second, top], [*first, top]])
            flat = [[a, low], [b, low], [b, top], [a, top]]
            self.parts.append(quads(corners, material, semantic, np.array([flat])))

        panel(0.0, 1.0, 0.0, 0.1, 0.012, skirting, WALL)
        kind = rng.random()
        if kind < 0.05:
            frame = palette.material('paint', rng.uniform(0.05, 0.9) * np.ones(3), photo=False)
            leaf = palette.material(
                str(rng.choice(['wood', 'paint', 'metal'])), rng.uniform(0.2, 1) * rng.uniform(0.7, 1, 3)
            )
            panel(0.0, 1.0, 0.0, min(2.12, high), 0.03, frame, DOOR)
            panel(0.06, 0.94, 0.0, min(2.06, high - 0.05), 0.045, leaf, DOOR)
            steel = palette.material('metal', gloss=0.5, photo=False)
            centre = np.array([px, py]) + along * 0.85 + np.array([nx, ny]) * 0.09
            self.parts.append(box(0.08, 0.08, 0.03, steel, DOOR).moved(*centre, 1.03))
        elif kind < 0.11 and high > 2.2:
            bright = palette.material(
                'chaos' if rng.random() < 0.3 else 'paint',
                rng.uniform(0.4, 1.0) * np.array([0.9, 1, 1.1]),
                tile=3.0,
                glow=float(rng.uniform(0.8, 3)),
                gloss=0.5,
                reflectivity=0.05,
                glass=0.8,
                photo=False,
            )
            panel(0.05, 0.95, 0.9, min(2.2, high - 0.1), 0.02, bright, BUILDING)
        elif kind < 0.2:
            art = palette.material('poster', rng.uniform(0.5, 1, 3), tile=(0.9, 0.9))
            a, low = rng.uniform(0, 0.4), rng.uniform(0.8, 1.5)
            panel(a, a + rng.uniform(0.3, 0.6), low, min(low + rng.uniform(0.3, 1.0), high), 0.02, art, WALL)
        elif kind < 0.23:
            red = palette.material('paint', rng.uniform(0.02, 0.8, 3))
            self.parts.append(
                box(0.2, 0.2, rng.uniform(0.3, 0.8), red, THING).moved(
                    mx + nx * 0.12, my + ny * 0.12, rng.uniform(0.3, 1.3)
                )
            )
        elif kind < 0.25:
            steel = palette.material('metal', rng.uniform(0.2, 1) * np.ones(3), photo=False)
            self.parts.append(
                cylinder(rng.uniform(0.02, 0.1), high, 8, steel, POLE).moved(mx + nx * 0.12, my + ny * 0.12)
            )

    def _ceiling_things(self) -> None:
        """Lamps, beams, pipes and pillars."""
        rng, palette = self.rng, self.palette
        shine = palette.material('paint', np.ones(3), glow=float(rng.uniform(1.5, 4)), photo=False)
        steel = palette.material('metal', rng.uniform(0.2, 0.9) * np.ones(3), photo=False)
        spacing = float(rng.uniform(2.5, 4.5)) if self.style == 'office' else float(rng.uniform(4, 9))
        long = bool(rng.random() < 0.6)
        pillar = palette.material(
            str(rng.choice(['concrete', 'paint', 'metal', 'bricks'])), rng.uniform(0.4, 1) * np.ones(3)
        )
        for room, (x0, y0, x1, y1) in enumerate(self.rooms):
            high = self.height[room]
            places = [
                (x, y)
                for x in np.arange(x0 + spacing / 2 if x1 - x0 > spacing else (x0 + x1) / 2, x1, spacing)
                for y in np.arange(y0 + spacing / 2 if y1 - y0 > spacing else (y0 + y1) / 2, y1, spacing)
            ]
            for x, y in places:
                if self.label[int(x), int(y)] != room:
                    continue
                drop = 0.1 if high < 4 else rng.uniform(0.3, 1.5)
                lamp = box(1.2 if long else 0.6, 0.15 if long else 0.6, 0.07, shine, LAMP, top=shine)
                self.parts.append(lamp.moved(x, y, high - drop))
                self.lamps.append([x, y, high - drop - 0.05])
            if self.style != 'office':
                for x in np.arange(x0 + 2.5, x1, 5.0):
                    self.parts.append(box(0.2, y1 - y0, 0.3, steel, CEILING).moved(x, (y0 + y1) / 2, high - 0.35))
                if rng.random() < 0.5:
                    grid = float(rng.uniform(4, 8))
                    for x in np.arange(x0 + grid, x1 - 1, grid):
                        for y in np.arange(y0 + grid, y1 - 1, grid):
                            size = rng.uniform(0.25, 0.6)
                            if self._is_clear(x, y, size):
                                self.parts.append(box(size, size, high, pillar, WALL).moved(x, y))
                                self._occupy(x, y, size)
            for _ in range(int(rng.integers(0, 3))):
                z = high - rng.uniform(0.15, 0.5)
                y = rng.uniform(y0 + 0.2, y1 - 0.2)
                self.parts.append(tube(np.array([[x0, y, z], [x1, y, z]]), rng.uniform(0.02, 0.2), 8, steel, CEILING))

    def _fill(self) -> None:
        """Shelves, tables, cupboards, boxes, people, plants and oddities, clear of the ways."""
        rng, palette = self.rng, self.palette
        area = float(self.free.sum())
        density = rng.uniform(0.05, 0.3) if self.style != 'office' else rng.uniform(0.1, 0.45)
        cells = np.argwhere(self.free)
        for _ in range(min(int(area * density), 420)):
            x, y = cells[int(rng.integers(len(cells)))] + rng.random(2)
            room = self.label[int(x), int(y)]
            high = self.height[room]
            shares = {
                'warehouse': [0.4, 0.05, 0.02, 0.08, 0.25, 0.05, 0.1, 0.05],
                'office': [0.1, 0.25, 0.25, 0.2, 0.04, 0.06, 0.06, 0.04],
                'hall': [0.1, 0.18, 0.18, 0.12, 0.12, 0.12, 0.14, 0.04],
            }[self.style]
            kind = int(rng.choice(8, p=shares))
            make = (
                lambda h=high: furniture.shelf(
                    rng,
                    palette,
                    float(rng.uniform(1, 2.8 if self.style == 'office' else 6)),
                    float(min(h - 0.3, rng.uniform(1.2, 6))),
                ),
                lambda: furniture.table(rng, palette),
                lambda: furniture.chair(rng, palette),
                lambda: furniture.cabinet(rng, palette),
                lambda: furniture.pile(rng, palette),
                lambda: nature.person(rng, palette),
                lambda: furniture.oddity(rng, palette, float(np.exp(rng.uniform(-1.6, 0.6)))),
                lambda: nature.bush(rng, palette, rng.uniform(0.4, 1.2)),
            )[kind]
            mesh = make()
            yaw = float(rng.integers(4)) * np.pi / 2 if kind in (0, 1, 3) else rng.uniform(0, 6)
            size = np.abs(mesh.vertices[:, :2]).max(0)
            reach = size if int(round(yaw / (np.pi / 2))) % 2 == 0 else size[::-1]
            reach = reach if kind in (0, 1, 3) else np.full(2, size.max())
            if self._is_clear(x, y, reach):
                self.parts.append(mesh.moved(x, y, 0.0, yaw))
                self._occupy(x, y, reach)

    def _window(self, x: float, y: float, reach: np.ndarray | float) -> tuple[slice, slice]:
        reach = np.broadcast_to(reach, 2)
        return tuple(slice(max(int((p - r) * 8), 0), int((p + r) * 8) + 2) for p, r in zip((x, y), reach, strict=True))

    def _is_clear(self, x: float, y: float, reach: np.ndarray | float) -> bool:
        window = self._window(x, y, reach)
        return bool(self.clearance[window].min() > 0.05 and self.way_distance[window].min() > 0.65)

    def _occupy(self, x: float, y: float, reach: np.ndarray | float) -> None:
        self.clearance[self._window(x, y, reach)] = 0.0

    def _light(self) -> Light:
        rng = self.rng
        lamps = np.array(self.lamps)
        if len(lamps) > _MAX_LAMPS:
            lamps = lamps[rng.permutation(len(lamps))[:_MAX_LAMPS]]
        warm = np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.55, 1.05)])
        high = lamps[:, 2:3] if len(lamps) else np.ones((1, 1))
        power = rng.uniform(0.5, 1.1, (len(lamps), 1)) * high**2 * warm
        ambient = rng.uniform(0.1, 0.4) * (1 - 0.5 * (1 - warm))
        rows = np.concatenate([lamps, power], axis=1).astype(np.float32) if len(lamps) else np.zeros((0, 6), np.float32)
        dark = np.zeros(3)
        clouds = np.zeros_like(noise(rng, 1.0))
        return Light(np.array([0, 0, 1.0]), dark, ambient, ambient * 0.8, ambient, ambient, 1e-5, clouds, rows)
