"""How a robot moves through a world, and what its odometry says of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_ros.geometry.rigid import invert
from depth_ros_training.simulation.mesh import Mesh, tilt
from depth_ros_training.simulation.scene import Mover, Track
from depth_ros_training.simulation.world import Ground, Route, World

_STEP = 0.005
_MOVER_START, _MOVER_STEP = -1.0, 0.05
_TURN = 11  # poses
_MARGIN = 0.6  # seconds of motion before the first and after the last frame


@dataclass(frozen=True)
class OdometryErrors:
    """How odometry drifts.

    Attributes:
        scale: share by which distances are wrong.
        yaw_bias: rad/s.
        yaw_walk: rad per square root of a second.
        slip: metres per square root of a metre.
    """

    scale: float
    yaw_bias: float
    yaw_walk: float
    slip: float


def follow(
    route: Route,
    ground: Ground,
    s: np.ndarray,
    offset: np.ndarray,
    start: float,
    step: float,
    wobble: np.ndarray | float = 0.0,
) -> Track:
    """Track of a body that follows a route on the ground.

    Args:
        route: the way.
        ground: height function.
        s: (K,) metres along the route at each step.
        offset: (K,) metres to the left of it.
        start: time of the first pose, s.
        step: seconds between poses.
        wobble: (K, 3) roll, pitch in rad and heave in metres on top of the ground's; 0 = none.

    Returns:
        The track; the body's origin is on the ground, x forward, which is against the route where ``s`` falls.
    """
    position = route.at(s, offset)
    along = np.gradient(s)
    backwards = along < 0
    # Who turns round takes some steps for it.
    turned = np.convolve(np.pad(backwards.astype(float), _TURN // 2, mode='edge'), np.full(_TURN, 1 / _TURN), 'valid')
    sideways = np.where(backwards, -1, 1) * np.arctan2(np.gradient(offset), np.maximum(abs(along), 1e-4))
    heading = route.heading(s) + np.pi * turned + sideways
    forward = np.stack([np.cos(heading), np.sin(heading)], 1)
    left = np.stack([-forward[:, 1], forward[:, 0]], 1)
    ahead, behind = position + 1.3 * forward, position - 1.3 * forward
    port, starboard = position + 0.8 * left, position - 0.8 * left
    pitch = -np.arctan2(ground(*ahead.T) - ground(*behind.T), 2.6)
    roll = np.arctan2(ground(*port.T) - ground(*starboard.T), 1.6)
    wobble = np.broadcast_to(wobble, (len(s), 3))
    roll, pitch = roll + wobble[:, 0], pitch + wobble[:, 1]
    poses = np.empty((len(s), 3, 4))
    for k in range(len(s)):
        poses[k, :, :3] = tilt(roll[k], pitch[k], heading[k])
    poses[:, :2, 3] = position
    poses[:, 2, 3] = ground(*position.T) + wobble[:, 2]
    return Track(start, step, poses)


def mover_times(duration: float) -> np.ndarray:
    """Times of the poses of what moves in a world, s: from a second before a drive to one after it."""
    return np.arange(_MOVER_START, duration + 1 + _MOVER_STEP, _MOVER_STEP)


def mover(
    mesh: Mesh, route: Route, ground: Ground, s: np.ndarray, offset: np.ndarray, wobble: np.ndarray | float = 0.0
) -> Mover:
    """Something that follows a route; ``s`` and ``offset`` are at ``mover_times``, all else as in ``follow``."""
    return Mover(mesh, follow(route, ground, s, offset, _MOVER_START, _MOVER_STEP, wobble))


def robot_track(world: World, duration: float, rng: np.random.Generator, shaking: float) -> Track:
    """Drive of the robot: speed changes, weaving, springs.

    Args:
        world: where.
        duration: seconds from the first to the last frame.
        rng: random numbers.
        shaking: strength of roll, pitch and heave, 1 = a car on a good road.

    Returns:
        World from ``base_link``, whose origin is on the ground below the robot.
    """
    times = np.arange(-_MARGIN, duration + _MARGIN + _STEP, _STEP)
    speed = world.speed * np.clip(1 + 0.35 * waves(rng, times, 4.0, 15.0), 0.15, 1.6)
    if rng.random() < 0.2:  # a stop
        middle, width = rng.uniform(0, max(duration, 1.0)), rng.uniform(1.0, 3.0)
        speed *= 1 - np.exp(-(((times - middle) / width) ** 4))
    s = world.start + np.concatenate([[0], np.cumsum(speed[:-1] * _STEP)])
    s = np.minimum(s, world.route.length - 0.1)
    offset = (0.25 if world.kind == 'street' else 0.1) * waves(rng, s / max(world.speed, 0.3), 4.0, 12.0)
    wobble = np.stack(
        [
            shaking * 0.006 * waves(rng, times, 0.5, 3.0),
            shaking * 0.008 * waves(rng, times, 0.5, 3.0),
            shaking * 0.012 * waves(rng, times, 0.4, 2.0),
        ],
        axis=1,
    )
    return follow(world.route, world.ground, s, offset, -_MARGIN, _STEP, wobble)


def waves(rng: np.random.Generator, times: np.ndarray, shortest: float, longest: float) -> np.ndarray:
    """Smooth random function of time with standard deviation near 1 and periods in the given range, s."""
    periods = np.exp(rng.uniform(np.log(shortest), np.log(longest), 6))
    phase, size = rng.uniform(0, 2 * np.pi, 6), rng.normal(size=6)
    return (np.sin(2 * np.pi * times[..., None] / periods + phase) * size).sum(-1) / np.sqrt(3)


def drifting_odometry(track: Track, times: np.ndarray, errors: OdometryErrors, rng: np.random.Generator) -> np.ndarray:
    """What odometry says, from the identity.

    Args:
        track: true motion.
        times: (K,) increasing, s.
        errors: how it drifts.
        rng: random numbers.

    Returns:
        (K, 4, 4) float64 odom from body.
    """
    true = np.tile(np.eye(4), (len(times), 1, 1))
    true[:, :3] = track.at(times)
    result = np.empty_like(true)
    result[0] = np.eye(4)
    for k in range(1, len(times)):
        step = invert(true[k - 1]) @ true[k]
        gap = times[k] - times[k - 1]
        moved = float(np.linalg.norm(step[:3, 3]))
        step[:3, 3] = step[:3, 3] * (1 + errors.scale) + rng.normal(scale=errors.slip * np.sqrt(moved), size=3)
        yaw = errors.yaw_bias * gap + rng.normal(scale=errors.yaw_walk * np.sqrt(gap))
        step[:3, :3] = step[:3, :3] @ tilt(0, 0, yaw)
        result[k] = result[k - 1] @ step
    return result
