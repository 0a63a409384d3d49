"""Cameras: rays through pixels, and what lens, sensor and electronics make of the light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.types import Camera
from depth_ros_training.simulation.scene import Scene
from depth_ros_training.simulation.shading import shade
from depth_ros_training.simulation.textures import Surfaces
from depth_ros_training.simulation.world import Light

_CORNERS = ((0.33, 0.12), (-0.12, 0.33), (-0.33, -0.21))  # pixels, where an edge pixel is looked at again


@dataclass(frozen=True)
class Optics:
    """What makes one camera's images differ from another's.

    Attributes:
        exposure: factor on the exposure that would be right.
        white: factors on red, green and blue.
        gamma: of the tone curve.
        shot: share of a full well that noise is at full signal, standard deviation.
        read: share of a full well that noise is in the dark, standard deviation.
        defocus: standard deviation of the blur, pixels.
        shutter: seconds that the shutter is open.
        vignette: share of light lost in the corners.
        jpeg: quality, 0 = not compressed.
        saturation: 0 = grey.
    """

    exposure: float = 1.0
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 2.2
    shot: float = 0.0
    read: float = 0.0
    defocus: float = 0.0
    shutter: float = 0.0
    vignette: float = 0.0
    jpeg: int = 0
    saturation: float = 1.0


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera sees before its sensor does.

    Attributes:
        light: (H, W, 3) float32 linear RGB.
        depth: (H, W) float32 metres along the optical axis, NaN = sky.
        semantic: (H, W) uint8.
        moving: (H, W) bool.
    """

    light: np.ndarray
    depth: np.ndarray
    semantic: np.ndarray
    moving: np.ndarray


def random_optics(rng: np.random.Generator) -> Optics:
    """A camera by chance, from good to poor."""
    return Optics(
        exposure=float(rng.lognormal(0, 0.25)),
        white=tuple(float(v) for v in rng.normal(1, 0.06, 3)),
        gamma=float(rng.uniform(1.8, 2.4)),
        shot=float(rng.uniform(0.003, 0.025)),
        read=float(rng.uniform(0.0005, 0.008)),
        defocus=float(rng.choice([0.0, rng.uniform(0.3, 0.6), rng.uniform(0.5, 1.1)], p=[0.4, 0.4, 0.2])),
        shutter=float(rng.choice([0.0, rng.uniform(0.001, 0.015)])),
        vignette=float(rng.choice([0.0, rng.uniform(0.05, 0.45)])),
        jpeg=int(rng.choice([0, rng.integers(60, 96)], p=[0.6, 0.4])),
        saturation=float(rng.choice([1.0, rng.uniform(0.4, 1.3), 0.0], p=[0.4, 0.5, 0.1])),
    )


def take_picture(
    scene: Scene, surfaces: Surfaces, light: Light, camera: Camera, world_from_camera: np.ndarray, time: float
) -> Picture:
    """Render; pixels at edges are looked at four times.

    Args:
        scene: world.
        surfaces: materials.
        light: light and air.
        camera: pinhole.
        world_from_camera: (3, 4) or (4, 4), optical frame.
        time: s.

    Returns:
        Light and truth; truth is that of the pixel's centre.
    """
    height, width = camera.shape
    v, u = np.divmod(np.arange(height * width), width)
    rays = _rays(camera, world_from_camera, u, v)
    hits = scene.cast(rays, time)
    pixel = 1.0 / camera.fx
    spread = _spread(hits.distance, hits.material, hits.normal, hits.uv, width)
    colour = shade(scene, surfaces, light, rays, hits, spread, time, pixel)
    edge = np.flatnonzero(_edges(hits.distance, hits.material, hits.normal, width))
    for du, dv in _CORNERS:
        again = _rays(camera, world_from_camera, u[edge] + du, v[edge] + dv)
        colour[edge] += shade(scene, surfaces, light, again, scene.cast(again, time), spread[edge], time, pixel)
    colour[edge] /= 1 + len(_CORNERS)
    return Picture(
        colour.reshape(height, width, 3),
        np.where(hits.material >= 0, hits.distance, np.nan).reshape(height, width),
        hits.semantic.reshape(height, width),
        hits.moving.reshape(height, width),
    )


def develop(
    picture: Picture, optics: Optics, gain: float, flow: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Expose a picture.

    Args:
        picture: light.
        optics: camera.
        gain: factor of the automatic exposure, see ``metered_gain``.
        flow: (H, W, 2) float32 pixels that things move while the shutter is open; None = none.
        rng: random numbers.

    Returns:
        (H, W, 3) uint8, red first.
    """
    image = picture.light * np.asarray(optics.white, np.float32) * np.float32(gain * optics.exposure)
    height, width = image.shape[:2]
    if flow is not None:
        blurred = np.empty_like(image)
        _smear(np.minimum(image, 8), flow, blurred)
        image = blurred
    if optics.defocus:
        image = cv2.GaussianBlur(np.minimum(image, 8), (0, 0), optics.defocus)
    if optics.vignette:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        square = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 2
        image *= (1 - np.float32(optics.vignette) * square)[..., None]
    if optics.saturation != 1.0:
        grey = image @ np.array([0.3, 0.59, 0.11], np.float32)
        image = grey[..., None] + np.float32(optics.saturation) * (image - grey[..., None])
    image = np.clip(image, 0, 1)
    if optics.shot or optics.read:
        spread = np.sqrt(np.float32(optics.shot**2) * image + np.float32(optics.read**2))
        image += spread * rng.standard_normal(image.shape, np.float32)
    image = np.clip(image, 0, 1)
    table = np.round(255 * np.power(np.arange(4096) / 4095, 1 / optics.gamma)).astype(np.uint8)
    developed = table[(image * 4095).astype(np.int16)]
    if optics.jpeg:
        _, data = cv2.imencode('.jpg', developed, [cv2.IMWRITE_JPEG_QUALITY, optics.jpeg])
        developed = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return developed


def metered_gain(picture: Picture, last: float | None) -> float:
    """Gain of an automatic exposure that follows slowly.

    Args:
        picture: light.
        last: gain of the image before, None = the first.

    Returns:
        Factor that makes the lower two thirds of the image a middle grey.
    """
    height = picture.light.shape[0]
    level = float(np.exp(np.log(picture.light[height // 3 :: 4, ::4, 1] + 0.01).mean()))
    wanted = 0.17 / level
    return wanted if last is None else last * (wanted / last) ** 0.3


def image_flow(
    depth: np.ndarray, camera: Camera, world_from_camera: np.ndarray, world_from_camera_later: np.ndarray
) -> np.ndarray:
    """Pixels that still things move between two poses of a camera.

    Args:
        depth: (H, W) float32 metres, NaN = infinitely far.
        camera: pinhole.
        world_from_camera: (3, 4).
        world_from_camera_later: (3, 4).

    Returns:
        (H, W, 2) float32.
    """
    later, now = world_from_camera_later, world_from_camera
    rotation = later[:, :3].T @ now[:, :3]
    shift = later[:, :3].T @ (now[:, 3] - later[:, 3])
    v, u = np.mgrid[: camera.height, : camera.width].astype(np.float32)
    z = np.where(np.isnan(depth), np.float32(1e4), depth)
    points = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], axis=2)
    moved = points @ rotation.T.astype(np.float32) + shift.astype(np.float32)
    front = np.maximum(moved[..., 2], 0.1)
    return np.stack(
        [moved[..., 0] / front * camera.fx + camera.cx - u, moved[..., 1] / front * camera.fy + camera.cy - v], axis=2
    )


def _rays(camera: Camera, world_from_camera: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    rays = np.empty((len(u), 6), np.float32)
    pose = np.ascontiguousarray(world_from_camera[:3])
    _point(pose, camera.fx, camera.fy, camera.cx, camera.cy, np.asarray(u, float), np.asarray(v, float), rays)
    return rays


@njit(nogil=True, cache=True)
def _point(pose, fx, fy, cx, cy, u, v, rays):
    for n in range(len(u)):
        x, y = (u[n] - cx) / fx, (v[n] - cy) / fy
        for k in range(3):
            rays[n, k] = pose[k, 3]
            rays[n, 3 + k] = pose[k, 0] * x + pose[k, 1] * y + pose[k, 2]


@njit(nogil=True, cache=True)
def _edges(distance, material, normal, width):
    """Pixels beside another surface."""
    count = len(distance)
    edge = np.zeros(count, np.bool_)
    for n in range(count):
        for shift in (1, width):
            m = n + shift
            if m >= count or (shift == 1 and m % width == 0):
                continue
            differs = material[n] != material[m]
            if not differs and material[n] >= 0:
                a, b = distance[n], distance[m]
                same_way = normal[n, 0] * normal[m, 0] + normal[n, 1] * normal[m, 1] + normal[n, 2] * normal[m, 2]
                differs = abs(a - b) > 0.1 * min(a, b) or same_way < 0.8
            if differs:
                edge[n] = True
                edge[m] = True
    return edge


@njit(nogil=True, cache=True)
def _spread(distance, material, normal, uv, width):
    """Texture coordinates from each pixel to its neighbours on the same surface; see ``shading.shade``."""
    count = len(distance)
    out = np.full((count, 4), np.nan, np.float32)
    for n in range(count):
        if material[n] < 0:
            continue
        known = 0
        for axis in range(2):
            shift = 1 if axis == 0 else width
            for m in (n + shift, n - shift):
                if m < 0 or m >= count or material[m] != material[n] or (axis == 0 and m // width != n // width):
                    continue
                same_way = normal[n, 0] * normal[m, 0] + normal[n, 1] * normal[m, 1] + normal[n, 2] * normal[m, 2]
                if same_way > 0.95 and abs(distance[n] - distance[m]) < 0.2 * distance[n]:
                    out[n, 2 * axis] = uv[m, 0] - uv[n, 0]
                    out[n, 2 * axis + 1] = uv[m, 1] - uv[n, 1]
                    known += 1
                    break
        if known < 2:
            out[n] = np.nan
    return out


@njit(nogil=True, cache=True)
def _smear(image, flow, out):
    """Mean along the flow, five samples."""
    height, width = image.shape[:2]
    for r in range(height):
        for c in range(width):
            for k in range(3):
                out[r, c, k] = 0
            for step in range(-2, 3):
                x = c + flow[r, c, 0] * step / 4
                y = r + flow[r, c, 1] * step / 4
                i = min(max(int(round(y)), 0), height - 1)
                j = min(max(int(round(x)), 0), width - 1)
                for k in range(3):
                    out[r, c, k] += image[i, j, k] / 5
