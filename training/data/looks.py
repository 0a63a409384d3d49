"""How the look of an image is varied: light and shade, colours, blur, noise."""

from __future__ import annotations

import cv2
import numpy as np

from depth_ros_training.settings import ViewSettings

# Of the size of the image: how far from the sky, how large, and how many.
_MIRROR_MARGIN, _MIRROR_SIZES, _MOST_MIRRORS = 0.05, (0.02, 0.25), 12


def recolor(image: np.ndarray, settings: ViewSettings, rng: np.random.Generator) -> np.ndarray:
    """Show an image as another camera would, at another time of the day.

    Args:
        image: (H, W, 3) uint8, red first; not changed.
        settings: how often.
        rng: source of chance.

    Returns:
        Another of the same shape.
    """
    if rng.random() < settings.shade:
        image = _shade(image, rng)
    if rng.random() < settings.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < settings.gray:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < settings.color:
        values = np.arange(256, dtype=np.float32) / 255
        table = np.empty((256, 3), np.float32)
        gain, offset, gamma = rng.uniform(0.7, 1.3), rng.uniform(-0.1, 0.1), np.exp(rng.uniform(-0.4, 0.4))
        for channel in range(3):
            table[:, channel] = (values**gamma) * gain * rng.uniform(0.9, 1.1) + offset
        table = (np.clip(table, 0, 1) * 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
        saturation = np.float32(rng.uniform(0.3, 1.5))
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        image = cv2.addWeighted(image, float(saturation), gray, float(1 - saturation), 0)
    if rng.random() < settings.noise:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 10.0))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


def repaint_sky(image: np.ndarray, empty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Show an image under another sky: clear, overcast, glowing, too bright for the camera.

    Args:
        image: (H, W, 3) uint8, red first; not changed.
        empty: (H, W) bool, True where there is sky.
        rng: source of chance.

    Returns:
        Another of the same shape.
    """
    sky = _sky(*empty.shape, rng)
    share = cv2.GaussianBlur(empty.astype(np.float32), (0, 0), rng.uniform(0.3, 1.0))[..., None]
    return (image + share * np.float32(rng.uniform(0.6, 1.0)) * (sky - image)).astype(np.uint8)


def mirror_sky(image: np.ndarray, solid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let parts of what is no sky look like it, as windows, wet roads and sunlit paint do.

    Args:
        image: (H, W, 3) uint8, red first; not changed.
        solid: (H, W) bool, True where there is something. Beside the sky nothing is changed: there not even what is
            around it tells a mirror from the sky.
        rng: source of chance.

    Returns:
        Another of the same shape.
    """
    height, width = solid.shape
    radius = max(round(_MIRROR_MARGIN * height), 1)
    within = cv2.erode(solid.astype(np.uint8), np.ones((2 * radius + 1,) * 2, np.uint8))
    sky = _sky(height, width, rng)
    mask = _polygons(height, width, rng, _MIRROR_SIZES, _MOST_MIRRORS)
    share = (within * cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 1.5)))[..., None]
    share *= np.float32(rng.uniform(0.3, 1.0))
    return (image + share * (sky - image)).astype(np.uint8)


def _sky(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) float32, 0..255: some sky, as wide as the image."""
    above, below = (_sky_color(rng) for _ in range(2))
    rise = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** np.float32(np.exp(rng.uniform(-1.0, 1.0)))
    sky = above + rise * (below - above)
    clouds = _noise(height, width, rng) * np.float32(rng.uniform(0.0, 40.0))
    return np.clip(sky + clouds[..., None], 0, 255)


def _sky_color(rng: np.random.Generator) -> np.ndarray:
    """(3,) float32, red first, 0..255."""
    gray = np.full(3, rng.uniform(100, 255))
    tint = np.array([(-110, -50, 20), (-40, -15, 30), (40, 0, -50)][rng.integers(3)]) * rng.uniform(0.0, 1.0)
    return np.clip(gray + tint, 0, 255).astype(np.float32)


def _shade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put parts of an image into the shade, whatever is there.

    Edges of shadows are the strongest that images have and mean nothing for depth. Those that the sun casts in the
    training data lie where few kinds of places have them.
    """
    height, width = image.shape[:2]
    shaded = _polygons(height, width, rng) if rng.random() < 0.5 else _blotches(height, width, rng)
    if rng.random() < 0.5:
        shaded = 1 - shaded
    shaded = cv2.GaussianBlur(shaded, (0, 0), np.exp(rng.uniform(np.log(0.4), np.log(4.0))))
    # The sky, which lights the shade, is blue.
    dark = np.float32(rng.uniform(0.15, 0.8)) * (1 + rng.uniform(0.0, 0.2) * np.array([-1, 0, 1], np.float32))
    # Cameras expose for the shade as well as for the sun.
    exposure = dark.mean() ** np.float32(-rng.uniform(0.0, 0.8))
    factor = exposure * (1 - shaded[..., None] * (1 - dark))
    return np.minimum(image * factor, 255).astype(np.uint8)


def _polygons(
    height: int,
    width: int,
    rng: np.random.Generator,
    sizes: tuple[float, float] = (0.02, 0.5),
    most: int = 4,
) -> np.ndarray:
    """Such shapes as walls, vehicles, poles and windows have: (H, W) float32, 1 in some polygons, 0 elsewhere.

    ``sizes`` are shares of the image, ``most`` is how many there are at most.
    """
    mask = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, most + 1)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        size = np.exp(rng.uniform(*np.log(sizes), 2)) * (width, height)
        corners = rng.uniform(0, 1, 2) * (width, height) + size * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
    return mask


def _blotches(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Shadows of trees: (H, W) float32, 1 in blotches, on the ground flatter than wide, 0 elsewhere."""
    return (_noise(height, width, rng) > rng.uniform(-0.5, 0.5)).astype(np.float32)


def _noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 smooth noise of about unit deviation, of some scale, wider than high."""
    across = np.exp(rng.uniform(np.log(3.0), np.log(60.0)))
    down = across * height / width * rng.uniform(1.0, 4.0)
    noise = rng.standard_normal((max(round(down), 2), max(round(across), 2)), dtype=np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
