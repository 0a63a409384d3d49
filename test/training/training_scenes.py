"""Scenes with exact depth for training: a floor and coloured boxes before a wall, camera and 32-ring lidar."""

import numpy as np

from depth_ros.geometry.camera import rays
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera
from depth_ros_training.data.sample import Sample, SourceImage
from depth_ros_training.data.store import SampleWriter

WIDTH, HEIGHT, FOCAL = 192, 96, 110.0


def scene(seed, lidar=True, recording=None):
    rng = np.random.default_rng(seed)
    camera = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, HEIGHT * 0.4)
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    down = (v - camera.cy) / FOCAL
    depth = np.minimum(np.where(down > 0, 1.6 / np.maximum(down, 1e-6), np.inf), 40.0)
    image = np.where(depth[..., None] < 40, [110, 105, 100], [150, 180, 220]).astype(np.float64)
    for _ in range(6):
        z = rng.uniform(4, 25)
        left, width, top = rng.uniform(-20, WIDTH), rng.uniform(10, 50), rng.uniform(0, HEIGHT * 0.5)
        bottom = camera.cy + FOCAL * 1.6 / z
        inside = (u >= left) & (u < left + width) & (v >= top) & (v < bottom) & (depth > z)
        depth = np.where(inside, z, depth)
        image = np.where(inside[..., None], rng.uniform(0, 255, 3), image)
    image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    depth = depth.astype(np.float32)
    row, column = (grid.ravel() for grid in np.mgrid[2:HEIGHT:3, 1:WIDTH:2])
    count = len(row) if lidar else 0
    row, column = row[:count], column[:count]
    points = ProjectedPoints(
        column.astype(np.float32),
        row.astype(np.float32),
        depth[row, column],
        np.arange(count, dtype=np.int32),
        np.zeros((count, 2), np.float32),
    )
    truth = None if lidar else depth
    name = f'scene_{seed}'
    return Sample(name, recording or name, image, camera, points, (row // 3).astype(np.int16), truth)


def write_scenes(folder, count, lidar=True):
    with SampleWriter(folder) as writer:
        for seed in range(count):
            writer.add(scene(seed, lidar))
    return folder


# Table-top size: all is nearer than where the network starts, so that auto-masks leave it something to learn.
_RIGHT = (0.05, 0.0, 0.0)  # where the right camera stands, metres
_MOTION = (0.015, 0.005, 0.05)  # of the camera per frame, metres
_TURN = 0.02  # radians to the right per frame


def render(camera, camera_from_world, seed=0):
    """Ray-cast a floor, a wall and boards, smoothly coloured: exact depth and an image nearly free of aliasing.

    Returns:
        image: (H, W, 3) uint8.
        depth: (H, W) float32 metres.
    """
    rng = np.random.default_rng(seed)
    rotation, origin = camera_from_world[:3, :3].T, -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]
    directions = rays(camera)
    directions = np.dstack([directions, np.ones(camera.shape)]) @ (rotation @ camera.rotation.T).T
    depth, color = np.full(camera.shape, np.inf), np.zeros((*camera.shape, 3))
    boards = [(1, 0.2, None), (2, 1.6, None)]  # axis, place, and for boards the range of x and y
    for _ in range(5):
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.2, 0.05)
        boards.append((2, rng.uniform(0.6, 1.2), (x, x + rng.uniform(0.15, 0.4), y, 0.2)))
    for axis, place, box in boards:
        waves, phases = rng.uniform(-20, 20, (3, 4, 3)), rng.uniform(0, 6, (3, 4))
        with np.errstate(divide='ignore', invalid='ignore'):
            distance = (place - origin[axis]) / directions[..., axis]
            point = origin + distance[..., None] * directions
            hit = (distance > 0.02) & (distance < depth)
            if box is not None:
                hit &= (point[..., 0] > box[0]) & (point[..., 0] < box[1])
                hit &= (point[..., 1] > box[2]) & (point[..., 1] < box[3])
            wave = np.sin(np.einsum('hwj,ckj->hwck', point, waves) + phases).mean(axis=3)
        depth[hit] = distance[hit]
        color[hit] = 128 + 110 * wave[hit]
    return np.clip(np.rint(color), 0, 255).astype(np.uint8), depth.astype(np.float32)


def pose(place, turn=0.0):
    """camera_from_world of a camera at a place, turned to the right."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ np.asarray(place, float)
    return matrix


def rig_scene(seed, lidar=True, stereo=True, temporal=True, camera=None, right_camera=None):
    """A sample with other views of the same scene, all exact."""
    camera = camera or Camera(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, HEIGHT * 0.4)
    reference = pose((0, 0, 0), 0.1 * seed)
    image, depth = render(camera, reference, seed)
    row, column = (grid.ravel() for grid in np.mgrid[2:HEIGHT:3, 1:WIDTH:2])
    count = len(row) if lidar else 0
    row, column = row[:count], column[:count]
    points = ProjectedPoints(
        column.astype(np.float32),
        row.astype(np.float32),
        depth[row, column],
        np.arange(count, dtype=np.int32),
        np.zeros((count, 2), np.float32),
    )
    others = []
    wanted = [('stereo', pose(_RIGHT), 0)] * stereo
    for sign in (-1, 1) if temporal else ():
        wanted.append(('temporal', pose(sign * np.array(_MOTION), sign * _TURN), sign * 100_000_000))
    for kind, other_from_reference, offset in wanted:
        other = (right_camera if kind == 'stereo' else None) or camera
        seen, _ = render(other, other_from_reference @ reference, seed)
        others.append(SourceImage(seen, other, other_from_reference, kind, offset))
    name = f'rig_{seed}'
    return Sample(name, name, image, camera, points, (row // 3).astype(np.int16), None, True, tuple(others)), depth
