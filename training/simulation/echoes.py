"""What comes back to a lidar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from depth_ros_training.simulation.lidar_models import LidarModel
from depth_ros_training.simulation.scene import Scene
from depth_ros_training.simulation.textures import Surfaces


@dataclass(frozen=True, eq=False)
class Echoes:
    """What came back.

    Attributes:
        range: (N,) float32 metres, NaN = nothing.
        intensity: (N,) float32, 0 to 255.
    """

    range: np.ndarray
    intensity: np.ndarray


def measure(
    scene: Scene,
    surfaces: Surfaces,
    model: LidarModel,
    rays: np.ndarray,
    times: np.ndarray,
    beside: int,
    rng: np.random.Generator | None,
) -> Echoes:
    """Cast a sweep and imitate the receiver.

    A beam is a cone: where its neighbours see another distance, four more rays are cast at its rim. Echoes closer
    together than a pulse is long merge to one in between (mixed pixels), others leave the strongest. An echo is seen if
    its power, as reflectivity x cosine / distance squared (a diffuse surface that fills the beam), is above the
    receiver's threshold, which is set by the range at which a surface that reflects 10 % is seen half of the time.
    Glass lets most of the light through.

    Args:
        scene: world.
        surfaces: materials.
        model: the lidar.
        rays: (N, 6) float32 unit directions, world.
        times: (N,) s.
        beside: see ``beams.Firing``.
        rng: random numbers; None = an ideal receiver: every surface within ``max_range`` is seen, exactly.

    Returns:
        The echoes.
    """
    hits = scene.cast(rays, times)
    distance, material = hits.distance, hits.material
    cosine = -np.einsum('ni,ni->n', rays[:, 3:], hits.normal)
    if rng is None:
        seen = (distance <= model.max_range) & (distance >= model.min_range)
        echo = np.clip(surfaces.reflectivity[material] * cosine * 255, 0, 255).astype(np.float32)
        return Echoes(np.where(seen, distance, np.nan).astype(np.float32), np.where(seen, echo, 0).astype(np.float32))
    power = _power(surfaces, material, cosine, distance)
    passing = np.flatnonzero((material >= 0) & (rng.random(len(rays), np.float32) < surfaces.glass[material]))
    if len(passing):
        behind = rays[passing].copy()
        behind[:, :3] += behind[:, 3:] * (distance[passing, None] + 0.02)
        further = scene.cast(behind, times[passing])
        distance[passing] += further.distance + np.float32(0.02)
        power[passing] = 0.6 * _power(
            surfaces, further.material, -np.einsum('ni,ni->n', behind[:, 3:], further.normal), distance[passing]
        )
    edge = np.flatnonzero(_at_edge(distance, beside))
    if len(edge):
        rim, at = _cone(rays[edge], model.divergence), np.repeat(times[edge], 4)
        around = scene.cast(rim, at)
        strength = _power(surfaces, around.material, -np.einsum('ni,ni->n', rim[:, 3:], around.normal), around.distance)
        distances = np.concatenate([distance[edge, None], around.distance.reshape(-1, 4)], axis=1)
        strengths = np.concatenate([power[edge, None], strength.reshape(-1, 4)], axis=1)
        pulse = float(rng.uniform(0.4, 1.5))
        distance[edge], power[edge] = _merge_echoes(distances.astype(np.float64), strengths.astype(np.float64), pulse)
    with np.errstate(divide='ignore', invalid='ignore'):
        margin = np.log(power / (0.1 / model.range_dark**2)) + rng.normal(scale=0.5, size=len(rays))
    seen = np.isfinite(distance) & (margin > 0)
    seen &= rng.random(len(rays), np.float32) > 0.004
    spread = model.range_std * (1 + 1.5 * np.exp(-np.clip(margin, 0, 10)))
    with np.errstate(invalid='ignore'):
        measured = distance + rng.standard_normal(len(rays), np.float32) * spread
        measured = np.round(measured / model.quantum) * model.quantum
        seen &= (measured <= model.max_range) & (measured >= model.min_range)
    false = np.flatnonzero(rng.random(len(rays), np.float32) < 2e-4)
    reach = np.where(np.isfinite(distance[false]), distance[false], model.max_range)
    measured[false] = model.min_range + rng.random(len(false)) * np.maximum(reach - model.min_range, 0)
    seen[false] = True
    with np.errstate(invalid='ignore'):
        intensity = np.clip(255 * power * np.square(distance), 0, 255)
    return Echoes(
        np.where(seen, measured, np.nan).astype(np.float32),
        np.where(seen & np.isfinite(intensity), np.round(intensity), 0).astype(np.float32),
    )


def _power(surfaces: Surfaces, material: np.ndarray, cosine: np.ndarray, distance: np.ndarray) -> np.ndarray:
    with np.errstate(divide='ignore', invalid='ignore'):
        value = surfaces.reflectivity[material] * np.clip(cosine, 0.0, 1) / np.square(distance)
    # What glass and polish send back goes elsewhere, but at right angles.
    glossy = surfaces.glass[material] > 0
    value = np.where(glossy, value * (0.05 + 5 * (cosine > 0.985)), value)
    return np.where(material >= 0, value, 0).astype(np.float32)


def _cone(rays: np.ndarray, divergence: float) -> np.ndarray:
    direction = rays[:, 3:]
    helper = np.where(np.abs(direction[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
    first = np.cross(direction, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(direction, first)
    out = np.repeat(rays[:, None], 4, axis=1)
    out[..., 3:] += 0.35 * divergence * np.stack([first, -first, second, -second], axis=1)
    return np.ascontiguousarray(out.reshape(-1, 6))


@njit(nogil=True, cache=True)
def _at_edge(distance, beside):
    """Beams whose neighbours see something else than a smooth surface."""
    count = len(distance)
    edge = np.zeros(count, np.bool_)
    for across in range(2):
        shift = 1 if across else beside
        if across and beside == 1:
            break
        # Rings are far apart on the ground, neighbours in azimuth are not.
        absolute, relative = (0.3, 0.06) if across else (0.15, 0.01)
        for n in range(count - shift):
            a, b = distance[n], distance[n + shift]
            if a == b:  # both infinite
                continue
            if abs(a - b) > absolute + relative * min(a, b) or not (np.isfinite(a) and np.isfinite(b)):
                edge[n] = True
                edge[n + shift] = True
    return edge


@njit(nogil=True, cache=True)
def _merge_echoes(distances, strengths, pulse):
    """Strongest group of echoes that one pulse cannot tell apart: its mean distance and its power."""
    count, rays = distances.shape
    result, power = np.empty(count, np.float32), np.empty(count, np.float32)
    for n in range(count):
        best, where = 0.0, distances[n, 0]
        for k in range(rays):
            if strengths[n, k] <= 0:
                continue
            total, mean = 0.0, 0.0
            for j in range(rays):
                weight = 0.4 if j == 0 else 0.15  # the middle of a beam is brighter than its rim
                if strengths[n, j] > 0 and abs(distances[n, j] - distances[n, k]) < pulse:
                    total += weight * strengths[n, j]
                    mean += weight * strengths[n, j] * distances[n, j]
            if total > best:
                best, where = total, mean / total
        result[n] = where
        power[n] = best
    return result, power
