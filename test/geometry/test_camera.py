"""Camera models against OpenCV and against themselves."""

import cv2
import numpy as np
import pytest

from depth_ros.errors import CameraError
from depth_ros.geometry.camera import model_arguments, rays
from depth_ros.geometry.motion import PointMotion
from depth_ros.geometry.projection import project
from depth_ros.types import Camera, LidarScan

PLUMB_BOB = [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05, 0.01]
RATIONAL = [0.3, -0.2, 0.001, -0.0005, 0.05, 0.6, -0.1, 0.02]
EQUIDISTANT = [-0.0108, 0.0076, -0.0059, 0.0017]
CAMERAS = {
    'none': Camera(160, 120, 90.0, 95.0, 80.3, 58.7),
    'plumb_bob': Camera(160, 120, 97.0, 96.0, 78.0, 61.0, model='plumb_bob', distortion=np.array(PLUMB_BOB)),
    'rational_polynomial': Camera(
        160, 120, 97.0, 96.0, 78.0, 61.0, model='rational_polynomial', distortion=np.array(RATIONAL)
    ),
    'equidistant': Camera(160, 120, 60.0, 60.0, 80.0, 60.0, model='equidistant', distortion=np.array(EQUIDISTANT)),
}
AT_CAMERA = PointMotion(np.eye(4)[None, :3], 0, 1, 'assumed_static')


def project_all(points, camera):
    return project(LidarScan(0, points.astype(np.float32), 'lidar'), AT_CAMERA, camera, 0.1, 100.0)


@pytest.mark.parametrize('model', CAMERAS)
def test_projection_agrees_with_opencv(model):
    camera = CAMERAS[model]
    random = np.random.default_rng(0)
    points = np.stack([random.uniform(-2, 2, 500), random.uniform(-1, 1, 500), random.uniform(3, 9, 500)], axis=1)
    zero = np.zeros(3)
    if model == 'equidistant':
        expected, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, camera.matrix, camera.distortion)
    else:
        expected, _ = cv2.projectPoints(points, zero, zero, camera.matrix, camera.distortion)
    expected = expected.reshape(-1, 2)
    found = project_all(points, camera)
    inside = ((expected >= -0.5) & (expected < [camera.width - 0.5, camera.height - 0.5])).all(axis=1)
    assert len(found) == inside.sum() > 100
    np.testing.assert_allclose(np.stack([found.u, found.v], axis=1), expected[found.index], atol=2e-3)
    np.testing.assert_allclose(found.depth, points[found.index, 2], rtol=1e-6)


@pytest.mark.parametrize('model', CAMERAS)
def test_rays_are_the_inverse_of_projection(model):
    camera = CAMERAS[model]
    xy = rays(camera)
    known = np.isfinite(xy).all(axis=-1)
    assert known.mean() > 0.9
    points = np.concatenate([xy, np.ones((*camera.shape, 1), np.float32)], axis=-1)[known] * 7.0
    found = project_all(points, camera)
    v, u = np.nonzero(known)
    assert len(found) > 0.99 * len(points)
    np.testing.assert_allclose(found.u, u[found.index], atol=0.02)
    np.testing.assert_allclose(found.v, v[found.index], atol=0.02)


def test_points_far_outside_the_view_do_not_fold_back_into_the_image():
    camera = Camera(160, 120, 97.0, 96.0, 78.0, 61.0, model='plumb_bob', distortion=np.array([-0.35, 0.03, 0, 0, 0]))
    limit = model_arguments(camera)[3]
    # This polynomial bends back at 1.07 focal lengths from the middle, and reaches the middle again at 2.4.
    tangent = np.linspace(limit * 1.05, 2.7, 200)
    points = np.stack([tangent, np.zeros(200), np.ones(200)], axis=1)
    folded, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, camera.distortion)
    assert ((folded[..., 0] > 0) & (folded[..., 0] < camera.width)).any(), 'the case does not test what it says'
    assert len(project_all(points, camera)) == 0


def test_a_weak_distortion_that_folds_back_at_the_very_side_does_not_either():
    # This one bends back at 25.8 focal lengths, 88 degrees from the axis, and is in the middle again at 44.7.
    camera = Camera(160, 120, 97.0, 96.0, 78.0, 61.0, model='plumb_bob', distortion=np.array([-0.0005, 0, 0, 0, 0]))
    tangent = np.linspace(21, 60, 1000)
    points = 0.22 * np.stack([tangent, np.zeros(1000), np.ones(1000)], axis=1)
    folded, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, camera.distortion)
    assert ((folded[..., 0] > 0) & (folded[..., 0] < camera.width)).any(), 'the case does not test what it says'
    assert len(project_all(points, camera)) == 0


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'fx': 0.0}, 'positive focal'),
        ({'fy': float('nan')}, 'finite'),
        ({'cx': float('inf')}, 'finite'),
        ({'width': 0}, 'positive width'),
        ({'model': 'thin_prism'}, 'unknown'),
        ({'model': 'plumb_bob', 'distortion': np.zeros(3)}, '4 or 5'),
        ({'rotation': np.zeros((3, 3))}, 'no rotation'),
        ({'rotation': np.diag([1.0, 1.0, -1.0])}, 'determinant 1'),
    ],
)
def test_unusable_cameras_are_refused(change, text):
    arguments = {'width': 10, 'height': 10, 'fx': 10.0, 'fy': 10.0, 'cx': 5.0, 'cy': 5.0, **change}
    with pytest.raises(CameraError, match=text):
        Camera(**arguments)


def test_a_tilted_sensor_is_refused_not_ignored():
    camera = Camera(
        10, 10, 10.0, 10.0, 5.0, 5.0, model='rational_polynomial', distortion=np.array([0.0] * 12 + [0.01, 0.0])
    )
    with pytest.raises(CameraError, match='tilts'):
        model_arguments(camera)


def test_rectification_turns_points_and_depth_is_along_the_turned_axis():
    angle = 0.1
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    camera = Camera(160, 120, 90.0, 90.0, 80.0, 60.0, rotation=rotation)
    point = np.array([[0.3, 0.2, 5.0]])
    found = project_all(point, camera)
    expected = rotation @ point[0]
    assert found.depth[0] == pytest.approx(expected[2], rel=1e-6)
    assert found.u[0] == pytest.approx(90 * expected[0] / expected[2] + 80, abs=1e-4)
