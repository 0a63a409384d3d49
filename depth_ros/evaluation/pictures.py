"""Pictures for people: depth, standard deviation, errors, and the cloud from where nobody stood."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from depth_ros.errors import CameraError
from depth_ros.evaluation.metrics import ScoredPoints
from depth_ros.evaluation.snapshot import Snapshot
from depth_ros.geometry.camera import rays

UNKNOWN = (236, 238, 241)
ERROR_LIMIT = 0.2
CLOUD_MAX_RELATIVE_STD = 0.15
_NICE = (1.0, 2.0, 5.0)
_CLOUD_BACKGROUND = (13, 17, 23)


@dataclass(frozen=True)
class ColourScale:
    """Values to colours, evenly per factor (logarithmic), so that near things show as much structure as far ones.

    Attributes:
        low: value at the start of the scale, > 0.
        high: value at its end.
        colour_map: OpenCV colour map.
        reverse: use the map from its end.
    """

    low: float
    high: float
    colour_map: int
    reverse: bool = False

    def table(self) -> np.ndarray:
        """(256, 3) uint8 RGB from low to high."""
        ramp = np.arange(256, dtype=np.uint8)[:, None]
        colours = cv2.applyColorMap(ramp[::-1] if self.reverse else ramp, self.colour_map)
        return np.ascontiguousarray(colours[:, 0, ::-1])

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Colour an array.

        Args:
            values: (...) float, NaN = unknown; beyond the ends the colour of the end.

        Returns:
            (..., 3) uint8 RGB, ``UNKNOWN`` where the value is not finite or not positive.
        """
        known = np.isfinite(values) & (values > 0)
        share = np.log(np.where(known, values, self.low) / self.low) / math.log(self.high / self.low)
        painted = self.table()[np.clip(share * 255, 0, 255).astype(np.uint8)]
        painted[~known] = UNKNOWN
        return painted

    def ticks(self) -> list[tuple[float, str]]:
        """(place from 0 to 1, label) of round values on the scale."""
        first = math.floor(math.log10(self.low))
        values = [digit * 10.0**power for power in range(first, first + 6) for digit in _NICE]
        span = math.log(self.high / self.low)
        return [
            (math.log(value / self.low) / span, f'{value:g}')
            for value in values if self.low * 0.999 <= value <= self.high * 1.001
        ]


def depth_scale(snapshots: list[Snapshot]) -> ColourScale:
    """A scale that spans what was measured in these images, warm near and cold far."""
    depths = np.concatenate([snapshot.measured[:, 2] for snapshot in snapshots])
    low, high = np.percentile(depths, (1, 99)) if len(depths) else (1.0, 80.0)
    low = max(float(low), 0.05)
    return ColourScale(low, max(float(high), 1.5 * low), cv2.COLORMAP_TURBO, reverse=True)


def std_scale(snapshots: list[Snapshot]) -> ColourScale:
    """A scale that spans the standard deviations stated by the first method."""
    stated = [next(iter(snapshot.std.values())) for snapshot in snapshots]
    values = np.concatenate([std[np.isfinite(std) & (std > 0)] for std in stated]) if stated else np.zeros(0)
    low, high = np.percentile(values, (1, 99)) if len(values) else (0.01, 10.0)
    low = max(float(low), 1e-3)
    return ColourScale(low, max(float(high), 3 * low), cv2.COLORMAP_VIRIDIS)


def overlay(snapshot: Snapshot, scale: ColourScale) -> np.ndarray:
    """(h, w, 3) uint8 RGB: the image, darker, with the measurements that the methods got, coloured by depth."""
    canvas = _dimmed(snapshot.image, 0.55)
    points = snapshot.measured
    _dots(canvas, points[:, 0], points[:, 1], scale.paint(points[:, 2]), _dot_radius(len(points), canvas))
    return canvas


def error_picture(snapshot: Snapshot, points: ScoredPoints) -> np.ndarray:
    """(h, w, 3) uint8 RGB: signed relative error at scored points, blue too near, red too far, on a faint image."""
    grey = cv2.cvtColor(snapshot.image, cv2.COLOR_RGB2GRAY)
    canvas = cv2.cvtColor((grey * 0.35 + 20).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    points = points.take(points.covered)
    error = (points.depth - points.truth) / points.truth
    # Large errors last, so that small ones around do not bury them.
    order = np.argsort(np.abs(error))
    colours = error_table()[np.clip((error / ERROR_LIMIT + 1) * 127.5, 0, 255).astype(np.uint8)]
    _dots(canvas, points.u[order], points.v[order], colours[order], _dot_radius(len(points), canvas))
    return canvas


def overview(snapshot: Snapshot, methods: Sequence[str]) -> np.ndarray:
    """Show around what came of one image.

    Args:
        snapshot: the image.
        methods: those to show, the first with its standard deviation.

    Returns:
        ((1 + methods) h, 2 w, 3) uint8 RGB: what goes in and the standard deviation, then per method depth and the
        error at scored points.
    """
    scale, first = depth_scale([snapshot]), methods[0]
    rows = [[
        _labelled(overlay(snapshot, scale), 'given'),
        _labelled(std_scale([snapshot]).paint(snapshot.std[first]), f'{first}: standard deviation'),
    ]]  # fmt: skip
    rows += [
        [
            _labelled(scale.paint(snapshot.depth[method]), f'{method}: depth'),
            _labelled(error_picture(snapshot, snapshot.scored[method]), f'{method}: error at scored points'),
        ]
        for method in methods
    ]
    return np.vstack([np.hstack(row) for row in rows])


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    out = np.ascontiguousarray(picture)
    size = max(picture.shape[1] / 1200, 0.35)
    x, y = round(12 * size) + 2, round(34 * size) + 2
    # A thicker outline would be wider than the text in OpenCV 5.
    for place in ((x - 1, y - 1), (x + 1, y - 1), (x - 1, y + 1), (x + 1, y + 1)):
        cv2.putText(out, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(out, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def error_table() -> np.ndarray:
    """(256, 3) uint8 RGB from -``ERROR_LIMIT`` (blue) over 0 (pale) to ``ERROR_LIMIT`` (red)."""
    anchors = np.array([[33, 102, 216], [120, 178, 240], [238, 240, 232], [247, 150, 110], [214, 40, 40]], np.float64)
    places = np.linspace(0, 255, len(anchors))
    return np.stack([np.interp(np.arange(256), places, anchors[:, c]) for c in range(3)], axis=1).astype(np.uint8)


def cloud_views(snapshot: Snapshot, method: str, size: tuple[int, int], num_views: int) -> list[np.ndarray]:
    """Render the coloured cloud of an image from above and behind the camera, from several sides.

    Args:
        snapshot: the image.
        method: whose depth; pixels whose standard deviation is over ``CLOUD_MAX_RELATIVE_STD`` of it are left out.
        size: (height, width) of the pictures in pixels.
        num_views: how many, swinging from left to right around the middle of the scene.

    Returns:
        Pictures, (height, width, 3) uint8 RGB; none where the camera model cannot be inverted or no depth is left.
    """
    depth, std = snapshot.depth[method], snapshot.std[method]
    try:
        directions = rays(snapshot.camera)
    except CameraError:
        return []
    with np.errstate(invalid='ignore'):
        known = np.isfinite(directions[..., 0]) & (std <= CLOUD_MAX_RELATIVE_STD * depth)
    if not known.any():
        return []
    z = depth[known].astype(np.float64)
    points = np.stack([directions[known][:, 0] * z, directions[known][:, 1] * z, z], axis=1)
    middle = float(np.median(z))
    target = np.array([0.0, 0.1 * middle, 1.3 * middle])
    swings = np.radians(np.linspace(-16, 16, num_views)) if num_views > 1 else np.zeros(1)
    distance, pitch = 2.2 * middle, math.radians(16)
    # The nearer part of the view from straight behind is put into the middle of the picture; far points are few and
    # wide.
    seen = _turned(points[z < 1.5 * middle], target, distance, 0.0, pitch)
    seen = seen[seen[:, 2] > 0.1 * distance]
    middle_ray = [np.percentile(seen[:, axis] / seen[:, 2], (3, 97)).mean() for axis in (0, 1)] if len(seen) else [0, 0]
    middle_ray[1] -= 0.09
    return [
        _render(
            _turned(points, target, distance, swing, pitch), snapshot.image[known], z / snapshot.camera.fx, distance,
            middle_ray, size,
        ) for swing in swings
    ]


def _turned(points: np.ndarray, target: np.ndarray, distance: float, swing: float, pitch: float) -> np.ndarray:
    """(N, 3) points of an optical frame as seen from ``distance`` behind ``target``, turned by two angles in rad."""
    forward = np.array([math.sin(swing) * math.cos(pitch), math.sin(pitch), math.cos(swing) * math.cos(pitch)])
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    return (points - (target - distance * forward)) @ np.stack([right, np.cross(forward, right), forward]).T


def _render(
    seen: np.ndarray, colours: np.ndarray, width_seen: np.ndarray, distance: float, middle_ray: list[float],
    size: tuple[int, int],
) -> np.ndarray:
    """Paint points, given in the frame of the view, each as large as what its pixel saw (``width_seen``, metres)."""
    height, width = size
    in_front = seen[:, 2] > 0.1 * distance
    # Painted from far to near, so that near points cover far ones.
    order = np.flatnonzero(in_front)[np.argsort(-seen[in_front, 2])]
    seen, colours, width_seen = seen[order], colours[order], width_seen[order]
    focal = 1.05 * width
    u = np.round(focal * (seen[:, 0] / seen[:, 2] - middle_ray[0]) + width / 2).astype(np.int32)
    v = np.round(focal * (seen[:, 1] / seen[:, 2] - middle_ray[1]) + height / 2).astype(np.int32)
    # A little more than its share, so that surfaces stay closed.
    reach = np.clip(np.ceil(1.4 * focal * width_seen / seen[:, 2]), 1, 4).astype(np.int32)
    # What is far fades, as the eye expects.
    fade = np.clip((seen[:, 2:] / distance - 1.2) / 6.0, 0, 0.7)
    shaded = (colours * (1 - fade) + np.array(_CLOUD_BACKGROUND) * fade).astype(np.uint8)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = _CLOUD_BACKGROUND
    _splat(canvas, u, v, reach, shaded)
    return canvas


@njit(nogil=True, cache=True)
def _splat(canvas, u, v, reach, colours):
    height, width = canvas.shape[:2]
    for i in range(u.shape[0]):
        for row in range(max(v[i], 0), min(v[i] + reach[i], height)):
            for column in range(max(u[i], 0), min(u[i] + reach[i], width)):
                canvas[row, column] = colours[i]


def data_uri(picture: np.ndarray, quality: int = 80) -> str:
    """JPEG of an RGB picture as a ``data:`` address for an HTML page."""
    _, encoded = cv2.imencode('.jpg', picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return 'data:image/jpeg;base64,' + base64.b64encode(encoded.tobytes()).decode('ascii')


def _dimmed(image: np.ndarray, share: float) -> np.ndarray:
    return (image * share).astype(np.uint8)


def _dot_radius(count: int, canvas: np.ndarray) -> int:
    """Half-size of dots that neither drown in the picture nor cover it."""
    return int(np.clip(math.sqrt(0.12 * canvas.shape[0] * canvas.shape[1] / max(count, 1)) / 2, 1, 3))


def _dots(canvas: np.ndarray, u: np.ndarray, v: np.ndarray, colours: np.ndarray, radius: int) -> None:
    sizes = np.full(len(u), 2 * radius, np.int32)
    corner = radius - 1
    _splat(canvas, np.round(u).astype(np.int32) - corner, np.round(v).astype(np.int32) - corner, sizes, colours)
