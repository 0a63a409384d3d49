"""Scenes with exact depth for training: a floor and coloured boxes before a wall, camera and 32-ring lidar."""

import numpy as np

from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera
from depth_ros_training.data.sample import Sample
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
