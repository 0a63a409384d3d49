"""Units and invalid values, and clouds that agree with the pinhole formula."""

import numpy as np
import pytest

from depth_ros.errors import MessageError, ShapeError
from depth_ros.geometry.camera import rays
from depth_ros.geometry.cloud import xyzrgb
from depth_ros.geometry.depth_image import from_metres, to_metres
from depth_ros.types import Camera


def test_millimetres_round_and_never_clip():
    metres = np.array([[np.nan, 0.0004, 0.0006, 1.2344, 65.535, 65.536, 80.0, np.inf]], np.float32)
    assert from_metres(metres, '16UC1').tolist() == [[0, 0, 1, 1234, 65535, 0, 0, 0]]


def test_what_is_no_surface_is_unknown():
    depth = np.array([[0.0, -1.0, np.inf, -np.inf, np.nan, 2.5]], np.float32)
    np.testing.assert_array_equal(to_metres(depth, '32FC1'), [[np.nan] * 5 + [2.5]])
    np.testing.assert_array_equal(to_metres(np.array([[0, 1500]], np.uint16), '16UC1'), [[np.nan, np.float32(1.5)]])


def test_round_trip_in_millimetres():
    mm = np.arange(0, 65536, 7, dtype=np.uint16).reshape(1, -1)
    np.testing.assert_array_equal(from_metres(to_metres(mm, '16UC1'), '16UC1'), mm)


def test_another_encoding_is_refused():
    with pytest.raises(MessageError, match='64FC1'):
        from_metres(np.zeros((1, 1), np.float32), '64FC1')


@pytest.mark.parametrize(('encoding', 'order'), [('rgb8', [2, 1, 0]), ('bgr8', [0, 1, 2]), ('mono8', None)])
@pytest.mark.parametrize('stride', [1, 3])
def test_cloud(encoding, order, stride):
    camera = Camera(31, 20, 25.0, 24.0, 15.2, 9.7)
    random = np.random.default_rng(0)
    depth = random.uniform(1, 30, camera.shape).astype(np.float32)
    depth[3, 3] = np.nan
    image = random.integers(0, 256, (*camera.shape, 3) if order else camera.shape, dtype=np.uint8)
    out = np.empty((-(-20 // stride), -(-31 // stride), 4), np.float32)
    xyzrgb(depth, rays(camera), image, encoding, camera, stride, out)
    v, u = np.mgrid[0:20:stride, 0:31:stride]
    z = depth[::stride, ::stride]
    np.testing.assert_allclose(out[..., 0], (u - 15.2) / 25.0 * z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out[..., 1], (v - 9.7) / 24.0 * z, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(out[..., 2], z)
    bgr0 = out[..., 3:].copy().view(np.uint8)
    expected = image[::stride, ::stride]
    np.testing.assert_array_equal(
        bgr0[..., :3], expected[..., order] if order else np.repeat(expected[..., None], 3, -1)
    )
    assert np.isnan(out[3 // stride, 3 // stride, :3]).all()


def test_cloud_is_in_the_optical_frame_also_when_the_image_was_rectified_by_a_turn():
    angle = 0.05
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    camera = Camera(8, 6, 10.0, 10.0, 4.0, 3.0, rotation=rotation)
    depth = np.full(camera.shape, 5.0, np.float32)
    out = np.empty((6, 8, 4), np.float32)
    xyzrgb(depth, rays(camera), np.zeros(camera.shape, np.uint8), 'mono8', camera, 1, out)
    turned = out[..., :3] @ rotation.T
    np.testing.assert_allclose(turned[..., 2], 5.0, rtol=1e-5)


def test_sizes_that_differ_are_refused():
    camera = Camera(8, 6, 10.0, 10.0, 4.0, 3.0)
    with pytest.raises(ShapeError, match='do not fit'):
        xyzrgb(
            np.zeros((6, 7), np.float32),
            rays(camera),
            np.zeros((6, 8), np.uint8),
            'mono8',
            camera,
            1,
            np.zeros((6, 8, 4), np.float32),
        )
