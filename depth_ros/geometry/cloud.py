"""Point clouds from depth images."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit, prange

from depth_ros.errors import ShapeError
from depth_ros.geometry.parallel import kernel_threads
from depth_ros.geometry.streaming import stream_point
from depth_ros.types import Camera

POINT_STEP = 16
_NO_RAYS = np.zeros((1, 1, 2), np.float32)
_CHANNELS = {'rgb8': (0, 1, 2), 'bgr8': (2, 1, 0), 'mono8': (0, 0, 0)}  # of red, green and blue


def xyzrgb(
    depth: np.ndarray,
    rays: np.ndarray | None,
    image: np.ndarray,
    encoding: str,
    camera: Camera,
    stride: int,
    out: np.ndarray,
) -> None:
    """Lift a depth image to coloured points, in the layout of an organised ``xyzrgb`` cloud.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.
        rays: (H, W, 2) float32 from ``camera.rays``; may be None for cameras without distortion, which do not need it.
        image: (H, W, 3) or (H, W) uint8.
        encoding: ``rgb8``, ``bgr8`` or ``mono8``.
        camera: its ``rotation`` takes points back from image axes to the optical frame.
        stride: every n-th row and column becomes a point.
        out: (ceil(H / stride), ceil(W / stride), 4) float32, filled: x, y, z in metres in the optical frame (NaN =
            unknown) and the colour, whose bytes are b, g, r, 0.

    Raises:
        ShapeError: sizes differ, or rays are missing.
    """
    height, width = depth.shape
    expected = (-(-height // stride), -(-width // stride), 4)
    if not out.flags.c_contiguous or out.ctypes.data % POINT_STEP or out.dtype != np.float32:
        raise ShapeError(f'out is {out.dtype}, expected contiguous float32 aligned to {POINT_STEP} bytes (numpy.empty)')
    if image.shape[:2] != (height, width) or out.shape != expected:
        raise ShapeError(
            f'depth {depth.shape}, image {image.shape} and out {out.shape} do not fit, expected out {expected} '
            f'at stride {stride}'
        )
    pinhole = camera.model == 'none'
    if not pinhole and (rays is None or rays.shape != (height, width, 2)):
        raise ShapeError(
            f'rays are {None if rays is None else rays.shape}, expected {(height, width, 2)} for {camera.model}'
        )
    if pinhole:
        rays = _NO_RAYS
    if encoding == 'mono8':
        image = image[:, :, None]
    intrinsics, back, turned = _layout(camera)
    with kernel_threads():
        _fill(depth, rays, pinhole, intrinsics, image, _CHANNELS[encoding], back, turned, stride, out)


@lru_cache(maxsize=16)
def _layout(camera: Camera) -> tuple[np.ndarray, np.ndarray, bool]:
    """A camera as the kernel takes it: 1 / fx, 1 / fy, cx, cy; the way back from image axes; whether there is any."""
    intrinsics = np.array([1 / camera.fx, 1 / camera.fy, camera.cx, camera.cy], np.float32)
    back = np.ascontiguousarray(camera.rotation.T.astype(np.float32))
    return intrinsics, back, not np.array_equal(camera.rotation, np.eye(3))


@njit(nogil=True, cache=True, inline='always')
def _colour(image, row, column, red, green, blue):
    # Unsigned, so that no index can be negative and count from the end.
    i, j = np.uintp(row), np.uintp(column)
    return (
        np.uint32(image[i, j, red]) << np.uint32(16)
        | np.uint32(image[i, j, green]) << np.uint32(8)
        | np.uint32(image[i, j, blue])
    )


@njit(nogil=True, cache=True, parallel=True)
def _fill(depth, rays, pinhole, intrinsics, image, order, back, turned, stride, out):
    # Numbers, not elements of an array that a store might alter: they stay in registers.
    per_fx, per_fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    columns = out.shape[1]
    red, green, blue = np.uintp(order[0]), np.uintp(order[1]), np.uintp(order[2])
    for r in prange(out.shape[0]):
        row = r * stride
        ray_y = (np.float32(row) - cy) * per_fy
        if pinhole and not turned:  # the common case, without a decision per pixel
            for c in range(columns):
                column = c * stride
                z = depth[np.uintp(row), np.uintp(column)]
                x = (np.float32(column) - cx) * per_fx * z
                stream_point(out, r * columns + c, x, ray_y * z, z, _colour(image, row, column, red, green, blue))
        else:
            for c in range(columns):
                column = c * stride
                z = depth[row, column]
                if pinhole:
                    x, y = (np.float32(column) - cx) * per_fx * z, ray_y * z
                else:
                    x, y = rays[row, column, 0] * z, rays[row, column, 1] * z
                    if x != x:  # no ray, no point: never a half-known one
                        z = x
                if turned:
                    x, y, z = (
                        back[0, 0] * x + back[0, 1] * y + back[0, 2] * z,
                        back[1, 0] * x + back[1, 1] * y + back[1, 2] * z,
                        back[2, 0] * x + back[2, 1] * y + back[2, 2] * z,
                    )
                stream_point(out, r * columns + c, x, y, z, _colour(image, row, column, red, green, blue))
