"""Point clouds from depth images."""

from __future__ import annotations

import numpy as np
from numba import njit

from depth_ros.errors import ShapeError
from depth_ros.types import Camera

POINT_STEP = 16


def xyzrgb(depth: np.ndarray, rays: np.ndarray, image: np.ndarray, encoding: str, camera: Camera, stride: int,
           out: np.ndarray) -> None:
    """Lift a depth image to coloured points, in the layout of an organised ``xyzrgb`` cloud.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.
        rays: (H, W, 2) float32 from ``camera.rays``.
        image: (H, W, 3) or (H, W) uint8.
        encoding: ``rgb8``, ``bgr8`` or ``mono8``.
        camera: its ``rotation`` takes points back from image axes to the optical frame.
        stride: every n-th row and column becomes a point.
        out: (ceil(H / stride), ceil(W / stride), 4) float32, filled: x, y, z in metres in the optical frame (NaN = unknown)
            and the colour, whose bytes are b, g, r, 0.

    Raises:
        ShapeError: sizes differ.
    """
    height, width = depth.shape
    expected = (-(-height // stride), -(-width // stride), 4)
    if rays.shape != (height, width, 2) or image.shape[:2] != (height, width) or out.shape != expected:
        raise ShapeError(
            f'depth {depth.shape}, rays {rays.shape}, image {image.shape} and out {out.shape} do not fit, expected out '
            f'{expected} at stride {stride}'
        )
    colour = out.view(np.uint32)  # integer writes: a float copy may alter bit patterns that are NaN
    back = np.ascontiguousarray(camera.rotation.T.astype(np.float32))
    turned = not np.array_equal(camera.rotation, np.eye(3))
    if encoding == 'mono8':
        image = image[:, :, None]
    _fill(depth, rays, image, {'rgb8': 0, 'bgr8': 1, 'mono8': 2}[encoding], back, turned, stride, out, colour)


@njit(nogil=True, cache=True)
def _fill(depth, rays, image, order, back, turned, stride, out, colour):
    for r in range(out.shape[0]):
        row = r * stride
        for c in range(out.shape[1]):
            column = c * stride
            z = depth[row, column]
            x, y = rays[row, column, 0] * z, rays[row, column, 1] * z
            if x != x:  # no ray, no point: never a half-known one
                z = x
            if turned:
                x, y, z = (
                    back[0, 0] * x + back[0, 1] * y + back[0, 2] * z,
                    back[1, 0] * x + back[1, 1] * y + back[1, 2] * z,
                    back[2, 0] * x + back[2, 1] * y + back[2, 2] * z,
                )
            out[r, c, 0] = x
            out[r, c, 1] = y
            out[r, c, 2] = z
            first = np.uint32(image[row, column, 0])
            if order == 2:
                colour[r, c, 3] = first << np.uint32(16) | first << np.uint32(8) | first
            else:
                green, third = np.uint32(image[row, column, 1]), np.uint32(image[row, column, 2])
                if order == 0:
                    colour[r, c, 3] = first << np.uint32(16) | green << np.uint32(8) | third
                else:
                    colour[r, c, 3] = third << np.uint32(16) | green << np.uint32(8) | first
