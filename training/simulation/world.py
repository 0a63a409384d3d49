"""What a world is: geometry, surfaces, light, and the way through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from depth_ros_training.simulation.mesh import Mesh
from depth_ros_training.simulation.scene import Mover
from depth_ros_training.simulation.textures import Surfaces, noise

Ground = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Height of the ground in metres at x and y."""


@dataclass(frozen=True, eq=False)
class Light:
    """Light and air. Colours are linear RGB; 1 is a white surface in full sun.

    Attributes:
        sun_direction: (3,) unit, towards the sun.
        sun: (3,) colour, 0 = none.
        above: (3,) ambient light from above.
        below: (3,) ambient light from below.
        zenith: (3,) sky overhead.
        horizon: (3,) sky at the horizon, also the colour of haze.
        haze: share of light lost per metre.
        clouds: (256, 256) float32 cover, 0 to 1.
        lamps: (L, 6) float32 position and colour times square metres; they shine downwards.
    """

    sun_direction: np.ndarray
    sun: np.ndarray
    above: np.ndarray
    below: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    haze: float
    clouds: np.ndarray
    lamps: np.ndarray


@dataclass(frozen=True, eq=False)
class Route:
    """A smooth line on the map, by arc length.

    Attributes:
        points: (P, 2) metres, equally spaced.
        spacing: metres between points.
    """

    points: np.ndarray
    spacing: float

    @property
    def length(self) -> float:
        """Metres."""
        return (len(self.points) - 1) * self.spacing

    def at(self, s: np.ndarray | float, offset: np.ndarray | float = 0.0) -> np.ndarray:
        """Points on the map.

        Args:
            s: metres along; continued straight beyond the ends.
            offset: metres to the left.

        Returns:
            (..., 2) metres.
        """
        s, offset = np.broadcast_arrays(np.asarray(s, float), np.asarray(offset, float))
        inside = np.clip(s, 0, self.length)
        along = np.arange(len(self.points)) * self.spacing
        line = np.stack([np.interp(inside, along, self.points[:, k]) for k in (0, 1)], axis=-1)
        heading = self.heading(inside)
        forward = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        left = np.stack([-forward[..., 1], forward[..., 0]], axis=-1)
        return line + (s - inside)[..., None] * forward + offset[..., None] * left

    def heading(self, s: np.ndarray | float) -> np.ndarray:
        """Direction in rad at ``s`` metres along."""
        steps = np.diff(self.points, axis=0)
        heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        return np.interp(s, (np.arange(len(heading)) + 0.5) * self.spacing, heading)


@dataclass(frozen=True, eq=False)
class World:
    """A place to drive through.

    Attributes:
        kind: ``street``, ``indoor`` or ``offroad``.
        static: all that stands still.
        movers: all that moves.
        surfaces: materials.
        light: light and air.
        ground: height of what wheels stand on.
        route: where the robot drives.
        start: metres along the route where it starts.
        speed: usual speed, m/s.
    """

    kind: str
    static: Mesh
    movers: list[Mover]
    surfaces: Surfaces
    light: Light
    ground: Ground
    route: Route
    start: float
    speed: float


def winding_route(rng: np.random.Generator, length: float, sharpest: float, wavelength: float) -> Route:
    """Route whose curvature wanders.

    Args:
        rng: random numbers.
        length: metres.
        sharpest: largest curvature, 1/m.
        wavelength: metres over which the curvature changes.

    Returns:
        The route, from the origin.
    """
    spacing = 0.5
    s = np.arange(0, length + spacing, spacing)
    knots = np.arange(-wavelength, length + 2 * wavelength, wavelength)
    values = rng.uniform(-1, 1, len(knots)) * sharpest * (rng.random(len(knots)) < 0.7)
    window = max(int(wavelength / spacing), 3)
    curvature = np.convolve(np.interp(s, knots, values), np.ones(window) / window, mode='same')
    # A road does not come back to where it was: pull the heading to its start.
    heading = np.cumsum(curvature) * spacing + rng.uniform(-np.pi, np.pi)
    heading = heading[0] + 1.1 * np.tanh((heading - heading[0]) / 1.1)
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * spacing
    return Route(points - points[0], spacing)


def rolling_ground(rng: np.random.Generator, height: float, wavelengths: tuple[float, float], slope: float) -> Ground:
    """Hills as a sum of waves.

    Args:
        rng: random numbers.
        height: metres, about the amplitude of the longest wave.
        wavelengths: shortest and longest, metres.
        slope: largest slope that the waves may add up to.

    Returns:
        The height function.
    """
    waves = 9
    length = np.geomspace(wavelengths[1], wavelengths[0], waves) * rng.uniform(0.8, 1.25, waves)
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    amplitude = height * (length / length[0]) ** 1.2 * rng.uniform(0.4, 1, waves)
    kx, ky = 2 * np.pi / length * np.cos(angle), 2 * np.pi / length * np.sin(angle)
    amplitude *= min(1.0, slope / max(float(np.sqrt(np.sum((amplitude * np.hypot(kx, ky)) ** 2))), 1e-9))

    def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = np.asarray(x, float)[..., None], np.asarray(y, float)[..., None]
        return (amplitude * np.sin(kx * x + ky * y + phase)).sum(-1)

    return ground


def distance_to_route(route: Route, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Metres from points on the map to the route, same shape."""
    flat = np.stack([np.ravel(x), np.ravel(y)], axis=1)
    return cKDTree(route.points[::4]).query(flat)[0].reshape(np.shape(x))


def daylight(rng: np.random.Generator) -> Light:
    """Weather and time of day by chance: from clear to overcast, from low sun to noon, from clear air to mist."""
    elevation = np.deg2rad(rng.uniform(8, 70))
    azimuth = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    overcast = float(np.clip(rng.normal(0.15, 0.45), 0, 1))
    warm = np.exp(-elevation * 3)
    sun = np.array([1.0, 1 - 0.25 * warm, 1 - 0.55 * warm]) * rng.uniform(1.3, 2.4) * (1 - overcast) ** 1.5
    zenith = np.array([0.35, 0.58, 1.0]) * rng.uniform(0.25, 0.6) * (1 - overcast) + rng.uniform(0.5, 0.9) * overcast
    horizon = np.array([0.8, 0.9, 1.0]) * rng.uniform(0.45, 0.9) * (1 - overcast) + rng.uniform(0.6, 1.0) * overcast
    above = (0.6 * zenith + 0.4 * horizon) * rng.uniform(0.5, 0.8) + 0.2 * overcast
    below = above * rng.uniform(0.35, 0.6) + 0.1 * sun * np.sin(elevation)
    haze = (
        float(np.exp(rng.uniform(np.log(1 / 4000), np.log(1 / 500))))
        if rng.random() < 0.85
        else 1 / rng.uniform(80, 400)
    )
    clouds = np.clip(noise(rng, 1.2) * rng.uniform(0.3, 0.8) + rng.uniform(-0.6, 0.6), 0, 1).astype(np.float32)
    return Light(direction, sun, above, below, zenith, horizon, haze, clouds, np.zeros((0, 6), np.float32))
