"""Z-buffer, hidden points, motion: scenes with exact answers."""

import dataclasses

import numpy as np
import pytest

from depth_ros.errors import ShapeError
from depth_ros.geometry.motion import PointMotion, Trajectory, point_motion
from depth_ros.geometry.projection import ProjectedPoints, nearest_per_pixel, project, visible
from depth_ros.geometry.rigid import rigid
from depth_ros.types import Camera, LidarScan, Pose

CAMERA = Camera(320, 240, 200.0, 200.0, 160.0, 120.0)
OPTICAL_FROM_BODY = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)


def scan_of(points, **fields):
    return LidarScan(1_000_000_000, np.asarray(points, dtype=np.float32), 'lidar', **fields)


def points_at(u, v, depth, slide=(0.0, 0.0)):
    u, v, depth = (np.atleast_1d(np.asarray(x, dtype=np.float32)) for x in (u, v, depth))
    slides = np.broadcast_to(np.asarray(slide, np.float32), (len(u), 2)).copy()
    return ProjectedPoints(u, v, depth, np.arange(len(u), dtype=np.int32), slides)


def test_points_behind_outside_and_not_finite_are_skipped():
    points = [[5, 0, 0], [-5, 0, 0], [5, 50, 0], [np.nan, 0, 0], [np.inf, 0, 0], [0.05, 0, 0], [500, 0, 0]]
    motion = PointMotion(OPTICAL_FROM_BODY[None, :3], 0, 1, 'assumed_static')
    found = project(scan_of(points), motion, CAMERA, 0.2, 100.0)
    assert found.index.tolist() == [0]
    assert (found.u[0], found.v[0], found.depth[0]) == (160.0, 120.0, 5.0)


def test_a_point_at_the_camera_is_skipped_whatever_the_least_depth():
    motion = PointMotion(OPTICAL_FROM_BODY[None, :3], 0, 1, 'assumed_static')
    found = project(scan_of([[0, 0, 0], [5, 0, 0]]), motion, CAMERA, 0.0, 100.0)
    assert found.index.tolist() == [1]


def test_a_beam_without_a_return_is_no_point_where_the_lidar_stands():
    ahead = OPTICAL_FROM_BODY.copy()
    ahead[2, 3] = 2.0
    motion = PointMotion(ahead[None, :3], 0, 1, 'assumed_static')
    found = project(scan_of([[0, 0, 0], [5, 0, 0], [0, 0, 0.1]]), motion, CAMERA, 0.2, 100.0)
    assert found.index.tolist() == [1, 2]


def test_strided_views_of_a_message_project_like_copies():
    random = np.random.default_rng(0)
    raw = random.uniform(1, 20, (500, 6)).astype(np.float32)
    raw[:, 1:3] -= 10
    motion = PointMotion(OPTICAL_FROM_BODY[None, :3], 0, 1, 'assumed_static')
    view = project(LidarScan(0, raw[:, :3], 'lidar'), motion, CAMERA, 0.2, 100.0)
    copy = project(LidarScan(0, raw[:, :3].copy(), 'lidar'), motion, CAMERA, 0.2, 100.0)
    assert len(view) > 20
    np.testing.assert_array_equal(view.u, copy.u)


def test_the_nearest_point_of_a_pixel_wins():
    points = points_at([10.1, 10.3, 9.6, 20], [5, 5.2, 4.8, 5], [8, 3, 5, 7])
    assert nearest_per_pixel(points, (240, 320)).tolist() == [1, 3]


def test_pixel_borders_stay_inside_the_image():
    points = points_at([-0.5, 319.49], [-0.5, 239.49], [3, 4])
    assert nearest_per_pixel(points, (240, 320)).tolist() == [0, 1]


def test_a_point_that_rounds_to_the_border_is_outside():
    # In float32, as pixels are stored, this is 319.5: column 320 of an image of 320 columns.
    camera = dataclasses.replace(CAMERA, cx=319.5 - 1e-9)
    motion = PointMotion(OPTICAL_FROM_BODY[None, :3], 0, 1, 'assumed_static')
    assert len(project(scan_of([[5, 0, 0]]), motion, camera, 0.2, 100.0)) == 0


def box_and_wall(lidar_height):
    """A lidar above (+) or below (-) the camera sees a box 4 m away in front of a wall at 20 m, on a fine grid."""
    lidar = np.array([0.0, -lidar_height, 0.0])  # optical axes: y down
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-30, 30, 0.25)), np.radians(np.arange(-25, 25, 0.5)))
    direction = np.stack(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1
    )
    direction = direction.reshape(-1, 3)
    on_box = lidar + direction * (4.0 / direction[:, 2:])
    hits_box = (np.abs(on_box[:, 0]) < 0.8) & (np.abs(on_box[:, 1]) < 0.8)
    on_wall = lidar + direction * (20.0 / direction[:, 2:])
    points = np.where(hits_box[:, None], on_box, on_wall)
    motion = PointMotion(np.hstack([np.eye(3), lidar[:, None]])[None], 0, 1, 'assumed_static')
    found = project(scan_of(points - lidar), motion, CAMERA, 0.2, 100.0)
    at_four = np.stack([(found.u - 160) / 200 * 4, (found.v - 120) / 200 * 4], axis=1)
    behind_box = (found.depth > 10) & (np.abs(at_four) < 0.8).all(axis=1)
    return found, behind_box


@pytest.mark.parametrize('lidar_height', [0.3, -0.3])
def test_points_that_the_box_hides_from_the_camera_are_found_and_others_kept(lidar_height):
    found, behind_box = box_and_wall(lidar_height)
    assert behind_box.sum() > 100, 'the case does not test what it says'
    seen = visible(found, found, CAMERA.shape, 0.08)
    assert seen[behind_box].mean() < 0.05
    assert seen[found.depth < 10].all()
    assert seen[(found.depth > 10) & ~behind_box].mean() > 0.98


def test_a_lidar_at_the_camera_has_no_hidden_points():
    found, behind_box = box_and_wall(0.0)
    assert not behind_box.any()
    assert visible(found, found, CAMERA.shape, 0.08).all()


def test_a_margin_that_is_no_share_is_refused():
    points = points_at(1, 1, 1)
    with pytest.raises(ShapeError, match='margin'):
        visible(points, points, (240, 320), 1.5)


def drive(speed, turn_rate, stamps_ns):
    trajectory = Trajectory()
    for stamp in stamps_ns:
        t = stamp / 1e9
        half = turn_rate * t / 2
        pose = rigid([speed * t, 0, 0], [0, 0, np.sin(half), np.cos(half)])
        trajectory.add(Pose(stamp, pose, 'odom', 'base_link'))
    return trajectory


def test_deskew_puts_each_point_where_it_was_measured():
    """Points of a static world, measured one by one from a moving robot, fall together at the time of the image."""
    speed, turn_rate, image_ns = 10.0, 0.5, 1_050_000_000
    trajectory = drive(speed, turn_rate, range(0, 2_000_000_001, 20_000_000))
    random = np.random.default_rng(3)
    world = np.stack([random.uniform(20, 40, 400), random.uniform(-8, 8, 400), random.uniform(-3, 3, 400)], axis=1)
    offsets = np.sort(random.integers(0, 100_000_000, 400)).astype(np.int32)
    homogeneous = np.hstack([world, np.ones((400, 1))])

    def body_at(ns):
        half = turn_rate * ns / 1e9 / 2
        return rigid([speed * ns / 1e9, 0, 0], [0, 0, np.sin(half), np.cos(half)])

    measured = np.array(
        [(np.linalg.inv(body_at(1_000_000_000 + int(dt))) @ p)[:3] for dt, p in zip(offsets, homogeneous, strict=True)]
    )
    expected = (OPTICAL_FROM_BODY @ np.linalg.inv(body_at(image_ns)) @ homogeneous.T).T
    scan = scan_of(measured, time_offset_ns=offsets)
    errors = {}
    for deskew in (True, False):
        motion = point_motion(scan, image_ns, OPTICAL_FROM_BODY, np.eye(4), trajectory, 100_000_000, deskew)
        found = project(scan, motion, CAMERA, 0.2, 100.0)
        errors[motion.kind] = np.abs(found.depth - expected[found.index, 2]).max()
    assert errors['deskewed'] < 2e-3
    assert errors['compensated'] > 0.2


@pytest.mark.parametrize('span_ns', [100_000_000, 99_999_937])
def test_poses_need_reach_no_farther_than_the_sweep(span_ns):
    trajectory = drive(10.0, 0.0, [1_000_000_000, 1_000_000_000 + span_ns])
    scan = scan_of([[5, 0, 0], [5, 0, 0]], time_offset_ns=np.array([0, span_ns], np.int32))
    motion = point_motion(scan, 1_050_000_000, OPTICAL_FROM_BODY, np.eye(4), trajectory, 0, True)
    assert motion.kind == 'deskewed'
    found = project(scan, motion, CAMERA, 0.2, 100.0)
    np.testing.assert_allclose(found.depth, [4.5, 5.5], atol=1e-5)


def test_without_poses_at_these_times_the_sweep_is_taken_as_it_is():
    trajectory = drive(10.0, 0.0, [0, 20_000_000])
    scan = scan_of([[5, 0, 0]])
    motion = point_motion(scan, 1_000_000_000, OPTICAL_FROM_BODY, np.eye(4), trajectory, 100_000_000, True)
    assert motion.kind == 'assumed_static'
    np.testing.assert_array_equal(motion.knots[0], OPTICAL_FROM_BODY[:3])


def test_poses_are_continued_only_a_little_and_gaps_are_not_bridged():
    trajectory = drive(10.0, 0.0, [0, 100_000_000, 5_000_000_000, 5_100_000_000])
    assert trajectory.at(5_150_000_000, 100_000_000)[0, 3] == pytest.approx(51.5)
    assert trajectory.at(5_300_000_000, 100_000_000) is None
    assert trajectory.at(2_000_000_000, 100_000_000) is None
    assert trajectory.at(50_000_000, 100_000_000)[0, 3] == pytest.approx(0.5)


def test_without_extrapolation_poses_are_still_joined():
    trajectory = drive(10.0, 0.0, [0, 20_000_000, 40_000_000, 5_000_000_000])
    assert trajectory.at(30_000_000, 0)[0, 3] == pytest.approx(0.3)
    assert trajectory.at(-1, 0) is None
    assert trajectory.at(5_000_000_001, 0) is None
    assert trajectory.at(2_000_000_000, 0) is None


@pytest.mark.parametrize('mirrored', [False, True])
def test_motion_is_not_continued_at_the_noise_of_two_poses_of_nearly_one_time(mirrored):
    trajectory, sign = Trajectory(), -1 if mirrored else 1
    stamps = [0, 20_000_000, 40_000_000, 40_001_000]
    for stamp, x in zip(stamps, (0.0, 0.02, 0.04, 0.041), strict=True):  # 1 m/s, and a millimetre of noise
        trajectory.add(Pose(sign * stamp, rigid([sign * x, 0, 0], [0, 0, 0, 1]), 'odom', 'base_link'))
    assert trajectory.at(sign * 90_000_000, 100_000_000)[0, 3] == pytest.approx(sign * 0.09, abs=0.005)


def test_a_trajectory_forgets_and_takes_poses_in_any_order():
    trajectory = Trajectory(keep_ns=1_000_000_000)
    stamps = list(range(0, 20_000_000_000, 10_000_000))
    for stamp in stamps[::2] + stamps[1::2]:
        trajectory.add(Pose(stamp, np.eye(4), 'odom', 'base_link'))
    assert len(trajectory._stamps) < 400
    assert trajectory._stamps == sorted(trajectory._stamps)
