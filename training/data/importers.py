"""Reads public frames (one folder each: image, calibration, lidar or depth) as training samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_ros.bags.frames import (
    frame_camera,
    lidar_pose,
    read_baseline,
    read_calibration,
    read_points,
    read_split,
    read_true_depth,
)
from depth_ros.errors import DepthRosError, RecordingError
from depth_ros.geometry.motion import PointMotion
from depth_ros.geometry.projection import project
from depth_ros.settings import ProjectionSettings
from depth_ros.types import Camera, LidarScan
from depth_ros_training.data.sample import Sample, SourceImage, empty_points, rings_of

# Focal length of a camera that nobody calibrated, in units of its longer side: a horizontal view of 60 degrees.
_ASSUMED_FOCAL = 0.87
# Points and calibration are of the pixels as they are stored, whatever a viewer is told to turn.
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

__all__ = ['read_frame', 'read_split', 'recordings']


def read_frame(folder: Path, projection: ProjectionSettings = ProjectionSettings()) -> Sample:  # noqa: B008 (frozen)
    """Read one frame.

    Args:
        folder: ``image.jpg`` and ``calib.json`` with either ``points.npz`` (lidar; ``gt_disp.png`` adds true disparity,
            ``right.jpg`` a stereo partner) or ``depth.png`` or ``disparity.png``.
        projection: which points count.

    Returns:
        The sample, named after its folder.

    Raises:
        RecordingError: a file is missing or damaged, or the calibration lacks something or is of another image.
    """
    folder = Path(folder)
    calibration = read_calibration(folder)
    image = _read_image(folder / 'image.jpg', _COLOR)[:, :, ::-1]
    height, width = image.shape[:2]
    size = calibration.get('width', width), calibration.get('height', height)
    if size != (width, height):
        raise RecordingError(
            f'{folder}: image.jpg is {width}x{height}, the calibration is for {size[0]}x{size[1]}; images must not be '
            'resized'
        )
    try:
        camera = _camera(folder, calibration, image.shape[:2])
        if (folder / 'points.npz').exists():
            return _lidar_frame(folder, calibration, np.ascontiguousarray(image), camera, projection)
        return _dense_frame(folder, calibration, np.ascontiguousarray(image), camera)
    except RecordingError:
        raise
    except DepthRosError as error:
        raise RecordingError(f'{folder}: {error}') from error
    except KeyError as error:
        raise RecordingError(f'{folder}: calib.json lacks {error}') from error
    except (TypeError, ValueError) as error:
        raise RecordingError(f'{folder}: calib.json is wrong: {error}') from error


def _camera(folder: Path, calibration: dict[str, Any], shape: tuple[int, int]) -> Camera:
    height, width = shape
    if calibration.get('K') is None:
        focal = _ASSUMED_FOCAL * max(shape)
        return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return frame_camera(folder, calibration, shape)


def _lidar_frame(
    folder: Path, calibration: dict[str, Any], image: np.ndarray, camera: Camera, projection: ProjectionSettings
) -> Sample:
    xyz, _, known = read_points(folder)
    camera_from_lidar = lidar_pose(folder, calibration)
    motion = PointMotion(camera_from_lidar[None, :3], 0, 1, 'assumed_static')
    scan = LidarScan(1, xyz, 'lidar', ring=known)
    points = project(scan, motion, camera, projection.min_depth, projection.max_depth)
    truth = read_true_depth(folder, calibration, camera.fx)
    return Sample(
        _name(folder),
        _drive(folder, calibration['drive_or_place']),
        image,
        camera,
        points,
        rings_of(scan, points),
        truth,
        others=_right_image(folder, calibration),
    )


def _right_image(folder: Path, calibration: dict[str, Any]) -> tuple[SourceImage, ...]:
    """The right image of a rectified pair, if there is one."""
    if not (folder / 'right.jpg').exists():
        return ()
    image = np.ascontiguousarray(_read_image(folder / 'right.jpg', _COLOR)[:, :, ::-1])
    camera = frame_camera(folder, calibration, image.shape[:2], 'right_K')
    right_from_left = np.eye(4)
    right_from_left[0, 3] = -read_baseline(folder, calibration)
    return (SourceImage(image, camera, right_from_left, 'stereo'),)


def _dense_frame(folder: Path, calibration: dict[str, Any], image: np.ndarray, camera: Camera) -> Sample:
    metric = bool(calibration['metric'])
    if (folder / 'depth.png').exists():
        depth = _read_image(folder / 'depth.png', cv2.IMREAD_UNCHANGED) / np.float32(calibration['depth_scale'])
    else:
        disparity = _read_image(folder / 'disparity.png', cv2.IMREAD_UNCHANGED).astype(np.float32)
        with np.errstate(divide='ignore'):
            depth = np.float32(calibration['disparity_scale'] * camera.fx) / disparity
        metric = False
    truth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)
    if truth.shape != camera.shape:
        raise RecordingError(f'{folder}: depth is {truth.shape}, the image {camera.shape}')
    return Sample(
        _name(folder), str(calibration['scene']), image, camera, empty_points(), np.zeros(0, np.int16), truth, metric
    )


def _name(folder: Path) -> str:
    return '/'.join(folder.parts[-2:])


def _drive(folder: Path, place: str) -> str:
    """Part of KITTI's free text that names the drive, so that its frames in different sources stay together."""
    if not isinstance(place, str):
        raise RecordingError(f'{folder}: drive_or_place of calib.json is {place!r:.80}, expected a text')
    for word in place.replace('(', ' ').replace(')', ' ').split():
        if '_drive_' in word:
            return word.removesuffix('_sync')
    return place


def _read_image(path: Path, flags: int) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise RecordingError(f'cannot read image {str(path)!r}; missing or damaged')
    return image


def recordings(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples by the recording that they belong to."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.recording, []).append(sample)
    return groups
