"""Camera models: pinhole with ``plumb_bob``, ``rational_polynomial`` or ``equidistant`` distortion.

Source: Zhang 2000 and the OpenCV documentation (calib3d, fisheye); coefficients in the order of
``sensor_msgs/CameraInfo``.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from depth_ros.errors import CameraError
from depth_ros.types import Camera

NONE, RADIAL_TANGENTIAL, EQUIDISTANT = 0, 1, 2
_KINDS = {
    'none': NONE,
    'plumb_bob': RADIAL_TANGENTIAL,
    'rational_polynomial': RADIAL_TANGENTIAL,
    'equidistant': EQUIDISTANT,
}
# Lenses see less than this; beyond it polynomials fitted inside the image mean nothing.
_MAX_TANGENT = 20.0


def model_arguments(camera: Camera) -> tuple[int, np.ndarray, np.ndarray, float]:
    """Lay a camera out for the compiled kernels.

    Args:
        camera: any camera.

    Returns:
        kind: NONE, RADIAL_TANGENTIAL or EQUIDISTANT.
        intrinsics: (4,) float64 fx, fy, cx, cy.
        distortion: (14,) float64, missing coefficients zero.
        max_tangent: distance from the axis at z = 1 up to which the distortion is one to one. Beyond it a polynomial
            bends back and would put points from far outside the view into the image.

    Raises:
        CameraError: the model has a tilted sensor.
    """
    distortion = np.zeros(14)
    distortion[: camera.distortion.size] = camera.distortion
    if distortion[12:].any():
        raise CameraError(
            f'distortion {camera.distortion.tolist()} tilts the sensor (13th and 14th coefficient), which is '
            'not supported; '
            'rectify the image first'
        )
    kind = _KINDS[camera.model]
    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    return kind, intrinsics, distortion, _one_to_one_limit(kind, distortion)


def _one_to_one_limit(kind: int, d: np.ndarray) -> float:
    if kind == NONE:
        return np.inf
    tangent = np.linspace(0.0, _MAX_TANGENT, 20001)
    if kind == EQUIDISTANT:
        angle = np.arctan(tangent)
        distorted = angle * (1 + d[0] * angle**2 + d[1] * angle**4 + d[2] * angle**6 + d[3] * angle**8)
    else:
        r2 = tangent**2
        above = 1 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))
        below = 1 + r2 * (d[5] + r2 * (d[6] + r2 * d[7]))
        # A denominator that changes sign has a pole; nothing beyond it is one to one.
        distorted = np.where(
            np.minimum.accumulate(below) > 1e-6, tangent * above / np.where(below > 1e-6, below, 1), -1
        )
    bends = np.flatnonzero(np.diff(distorted) <= 0)
    if bends.size:
        return float(tangent[bends[0]])
    # An angle ends at a right one, but a radius grows on, and what bends it back may come into effect late.
    return np.inf if kind == EQUIDISTANT else _MAX_TANGENT


@njit(nogil=True, cache=True, inline='always')
def distort(kind, d, x, y):
    """Distort one point of the plane z = 1.

    Args:
        kind: RADIAL_TANGENTIAL or EQUIDISTANT.
        d: (14,) coefficients.
        x: x / z.
        y: y / z.

    Returns:
        Distorted x and y.
    """
    r2 = x * x + y * y
    if kind == EQUIDISTANT:
        r = math.sqrt(r2)
        if r < 1e-9:
            return x, y
        a = math.atan(r)
        a2 = a * a
        scale = a * (1 + a2 * (d[0] + a2 * (d[1] + a2 * (d[2] + a2 * d[3])))) / r
        return x * scale, y * scale
    radial = (1 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))) / (1 + r2 * (d[5] + r2 * (d[6] + r2 * d[7])))
    dx = 2 * d[2] * x * y + d[3] * (r2 + 2 * x * x) + r2 * (d[8] + r2 * d[9])
    dy = d[2] * (r2 + 2 * y * y) + 2 * d[3] * x * y + r2 * (d[10] + r2 * d[11])
    # CameraInfo's 13th and 14th coefficients tilt the sensor (Scheimpflug); model_arguments refuses them.
    return x * radial + dx, y * radial + dy


def rays(camera: Camera) -> np.ndarray:
    """Direction of every pixel.

    Args:
        camera: any camera.

    Returns:
        (H, W, 2) float32 x / z and y / z in the axes of the image (optical axes, after the rectification); NaN where no
        direction maps to the pixel.

    Raises:
        CameraError: the distortion cannot be inverted anywhere.
    """
    kind, intrinsics, distortion, max_tangent = model_arguments(camera)
    directions = _rays(kind, intrinsics, distortion, max_tangent, camera.height, camera.width)
    if np.isnan(directions).all():
        raise CameraError(f'{camera.model} distortion {camera.distortion.tolist()} cannot be inverted at any pixel')
    return directions


@njit(nogil=True, cache=True)
def _rays(kind, intrinsics, d, max_tangent, height, width):
    directions = np.empty((height, width, 2), np.float32)
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    tolerance = 0.01 / max(fx, fy)  # a hundredth of a pixel
    step = 1e-6
    for row in range(height):
        for column in range(width):
            goal_x, goal_y = (column - cx) / fx, (row - cy) / fy
            x, y = goal_x, goal_y
            if kind == EQUIDISTANT:
                # The distorted radius is nearly the angle, which may be beyond what the tangent of a pinhole can start
                # from.
                r = math.sqrt(x * x + y * y)
                if r > 1e-9:
                    start = math.tan(min(r, 1.5)) / r
                    x, y = x * start, y * start
            found = kind == NONE
            if not found:
                for _ in range(30):  # Newton, with the Jacobian by differences
                    fx0, fy0 = distort(kind, d, x, y)
                    ex, ey = fx0 - goal_x, fy0 - goal_y
                    if abs(ex) < tolerance and abs(ey) < tolerance:
                        found = x * x + y * y <= max_tangent * max_tangent
                        break
                    fx1, fy1 = distort(kind, d, x + step, y)
                    fx2, fy2 = distort(kind, d, x, y + step)
                    a, b, c, e = (fx1 - fx0) / step, (fx2 - fx0) / step, (fy1 - fy0) / step, (fy2 - fy0) / step
                    determinant = a * e - b * c
                    if abs(determinant) < 1e-12:
                        break
                    dx, dy = (e * ex - b * ey) / determinant, (a * ey - c * ex) / determinant
                    # A full step may jump over the bend of the polynomial; half the radius at a time cannot go far
                    # astray.
                    length, most = math.sqrt(dx * dx + dy * dy), 0.5 * (math.sqrt(x * x + y * y) + 0.1)
                    if length > most:
                        dx, dy = dx * most / length, dy * most / length
                    x, y = x - dx, y - dy
            if found:
                directions[row, column, 0], directions[row, column, 1] = x, y
            else:
                directions[row, column, 0] = directions[row, column, 1] = np.nan
    return directions
