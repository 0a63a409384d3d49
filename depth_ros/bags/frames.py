"""Folders of public frames, one per moment: image, calibration, lidar, some with a right image and true disparity.

A frame is a folder with ``image.jpg``, ``calib.json`` (``width height K camera_from_lidar``; with a right image
``right_K left_from_right_baseline_m``) and ``points.npz`` (``points``, x y z and perhaps intensity, metres; perhaps
``ring``, the beam of each), and, where there are, ``right.jpg`` and ``gt_disp.png`` (uint16, 1/256 px, 0 = unknown).
Recordings of many cars fit into it.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_ros.bags.companion import TRUTH_TOPIC
from depth_ros.bags.importing import (
    MOMENTS_NOTE,
    Images,
    ImportReport,
    Job,
    Progress,
    image_job,
    lidar_scan,
    moment_ns,
    scan_job,
    write_bag,
)
from depth_ros.bags.kitti_files import rigid_4x4
from depth_ros.errors import RecordingError
from depth_ros.geometry.rigid import invert
from depth_ros.messages.image import file_pixels
from depth_ros.types import Camera, LidarScan

_LIDAR_TOPIC = '/lidar/points'
_CALIBRATION, _IMAGE, _RIGHT, _POINTS, _DISPARITY = 'calib.json', 'image.jpg', 'right.jpg', 'points.npz', 'gt_disp.png'
_DISPARITY_SCALE = 256.0  # KITTI 2015
_MOST_RINGS = 32767  # training keeps them as int16
_MAX_SKEW = 1e-3  # of a rotation as printed in a file


def read_split(splits: Path, name: str) -> list[Path]:
    """Folders of one split.

    Args:
        splits: JSON file that maps names to lists of folders beside it.
        name: which of them.

    Returns:
        The folders.

    Raises:
        RecordingError: no such file or split.
    """
    try:
        content = json.loads(Path(splits).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise RecordingError(f'cannot read splits {str(splits)!r}: {error}') from error
    if not isinstance(content, dict) or name not in content:
        known = ', '.join(content) if isinstance(content, dict) else 'none: it is no JSON object'
        raise RecordingError(f'{splits} has no split {name!r}, expected one of {known}')
    folders = content[name]
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise RecordingError(f'split {name!r} of {splits} is {folders!r:.80}, expected a list of folders')
    return [Path(splits).parent / folder for folder in folders]


def read_calibration(folder: Path) -> dict[str, Any]:
    """Content of ``calib.json``.

    Raises:
        RecordingError: it is missing, or no JSON object.
    """
    try:
        content = json.loads((folder / _CALIBRATION).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise RecordingError(f'{folder}: cannot read {_CALIBRATION}: {error}') from error
    if not isinstance(content, dict):
        raise RecordingError(f'{folder}: {_CALIBRATION} holds a {type(content).__name__}, expected an object')
    return content


def read_points(folder: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Points of the lidar.

    Returns:
        points: (N, 3) float32 metres in the frame of the lidar, in the order of the recording.
        intensity: (N,) float32 as shipped, or None.
        ring: (N,) uint16, or None where the file does not say.

    Raises:
        RecordingError: the file is missing or damaged, or holds something else.
    """
    try:
        with np.load(folder / _POINTS, allow_pickle=False) as content:
            points = content['points'].astype(np.float32)
            ring = content.get('ring')
    # A TypeError: it is an array (.npy) by another name.
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordingError(f'{folder}: cannot read {_POINTS}: {error}') from error
    if points.ndim != 2 or points.shape[1] not in (3, 4):
        raise RecordingError(f'{folder}: points of {_POINTS} have shape {points.shape}, expected (N, 3) or (N, 4)')
    if ring is not None:
        is_number = ring.dtype.kind in 'iu' and ring.shape == (len(points),)
        if not is_number or (ring.size and not 0 <= ring.min() <= ring.max() <= _MOST_RINGS):
            raise RecordingError(
                f'{folder}: ring of {_POINTS} is {ring.dtype} of shape {ring.shape}, expected a whole number from 0 to '
                f'{_MOST_RINGS} for each of {len(points)} points'
            )
        ring = ring.astype(np.uint16)
    return np.ascontiguousarray(points[:, :3]), points[:, 3].copy() if points.shape[1] == 4 else None, ring


def write_frame(
    folder: Path,
    image: bytes,
    k: np.ndarray,
    camera_from_lidar: np.ndarray,
    points: np.ndarray,
    ring: np.ndarray | None = None,
) -> None:
    """Write a frame with lidar and one image.

    Args:
        folder: new, of the frame.
        image: a JPEG file.
        k: (3, 3) matrix of the pinhole, pixels.
        camera_from_lidar: (4, 4) pose of the lidar in the optical frame of the camera, metres.
        points: (N, 3) or (N, 4) x y z in metres in the frame of the lidar, and intensity.
        ring: (N,) unsigned whole numbers, the beam of each point, or None.

    Raises:
        RecordingError: the image cannot be read.
    """
    pixels = file_pixels(np.frombuffer(image, np.uint8))
    if pixels is None:
        raise RecordingError(f'image of {folder.name} is damaged, expected a JPEG file')
    folder.mkdir(parents=True)
    (folder / _IMAGE).write_bytes(image)
    calibration = {
        'width': pixels.shape[1],
        'height': pixels.shape[0],
        'K': np.asarray(k, np.float64).tolist(),
        'camera_from_lidar': np.asarray(camera_from_lidar, np.float64).tolist(),
    }
    (folder / _CALIBRATION).write_text(json.dumps(calibration), encoding='utf-8')
    arrays = {'points': np.asarray(points, np.float32)} | ({} if ring is None else {'ring': ring.astype(np.uint16)})
    np.savez_compressed(folder / _POINTS, **arrays)


def read_true_depth(folder: Path, calibration: Mapping[str, Any], focal: float) -> np.ndarray | None:
    """True depth from the true disparity of a frame.

    Args:
        folder: of the frame.
        calibration: from ``read_calibration``.
        focal: horizontal focal length, pixels.

    Returns:
        (H, W) float32 metres, NaN = unknown; None where there is no disparity.

    Raises:
        RecordingError: the file is damaged.
        KeyError: the calibration lacks the baseline.
    """
    path = folder / _DISPARITY
    if not path.exists():
        return None
    disparity = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if disparity is None or disparity.ndim != 2:
        raise RecordingError(f'{path} is damaged, expected a grey image of disparities')
    disparity = disparity.astype(np.float32) / _DISPARITY_SCALE
    numerator = np.float32(focal * read_baseline(folder, calibration))
    return np.where(disparity > 0, numerator / np.maximum(disparity, 1e-3), np.float32(np.nan))


def read_baseline(folder: Path, calibration: Mapping[str, Any]) -> float:
    """How far the right camera of a rectified pair is to the right of the left one, metres.

    Raises:
        RecordingError: it is not a length.
        KeyError: the calibration lacks it.
        ValueError: it is not a number.
    """
    baseline = float(calibration['left_from_right_baseline_m'])
    if not 0 < baseline < math.inf:
        raise RecordingError(f'{folder}: left_from_right_baseline_m is {baseline}, expected metres above 0')
    return baseline


def import_frames(
    folders: Sequence[Path],
    out: Path | str,
    compressed: str = 'jpeg',
    jpeg_quality: int = 95,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Turn frames into a bag of independent moments, 10 s apart; each has a calibration, and so frames, of its own.

    True disparity becomes depth on ``/truth/depth`` (32FC1, NaN = unknown).

    Args:
        folders: frames, or folders with frames somewhere below.
        out: folder of the bag.
        compressed: ``png``, ``jpeg`` (kept as it is) or ``none``.
        jpeg_quality: 1 to 100, for what is compressed anew.
        overwrite: replace the bag that is there.
        progress: called as it goes.

    Returns:
        What was written and what was assumed.

    Raises:
        RecordingError: there are no frames with lidar, or a file of one is missing or damaged.
        OutputError: the bag cannot be written.
    """
    if not folders:
        raise RecordingError('no folders of frames were named (an empty split?), expected some')
    images = Images(compressed, jpeg_quality)
    notes = [MOMENTS_NOTE]
    jobs: list[Job] = []
    transforms: list[tuple[str, str, np.ndarray]] = []
    names: set[str] = set()
    blind = 0
    for folder in _frames(folders):
        if not (folder / _POINTS).exists():
            blind += 1
            continue
        name = '_'.join(folder.absolute().parts[-2:])
        if name in names:
            raise RecordingError(f'two frames are called {name}, expected each once; {folder} is the second')
        stamp = moment_ns(len(names))
        names.add(name)
        try:
            frame_jobs, frame_transforms = _moment(folder, name, stamp, images, notes)
        except RecordingError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingError(f'{folder}: {_CALIBRATION} lacks something or is wrong: {error}') from error
        jobs += frame_jobs
        transforms += frame_transforms
    if not jobs:
        others = f' and {len(folders) - 1} more' if len(folders) > 1 else ''
        raise RecordingError(
            f'{folders[0]}{others}: no frame with {_CALIBRATION} and {_POINTS} in it or below, expected some'
        )
    if blind:
        notes.append(f'{blind} frames without lidar were left out')
    return write_bag(jobs, transforms, notes, f'{len(names)} frames', out, overwrite, progress)


def _frames(folders: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RecordingError(f'{folder} is no folder, expected a frame or a folder of frames')
        found += [path.parent for path in sorted(folder.rglob(_CALIBRATION))]
    return found


def _moment(
    folder: Path, name: str, stamp: int, images: Images, notes: list[str]
) -> tuple[list[Job], list[tuple[str, str, np.ndarray]]]:
    """What is to be written of one frame, and its transforms."""
    calibration = read_calibration(folder)
    lidar, left, right = f'lidar_{name}', f'camera_{name}_left_optical', f'camera_{name}_right_optical'
    camera_from_lidar = lidar_pose(folder, calibration)
    pose = rigid_4x4(camera_from_lidar[:3, :3], camera_from_lidar[:3, 3])
    pinhole = _pinhole(folder, calibration, 'K')
    size = int(calibration['width']), int(calibration['height'])
    jobs = [images.job('/camera/color/left', left, pinhole, folder / _IMAGE, stamp, size)]
    transforms = [(lidar, left, invert(pose))]
    if (folder / _RIGHT).exists():
        baseline = read_baseline(folder, calibration)
        right_pinhole = _pinhole(folder, calibration, 'right_K')
        jobs.append(
            images.job('/camera/color/right', right, right_pinhole, folder / _RIGHT, stamp, offset_x=-baseline)
        )
        transforms.append((left, right, rigid_4x4(np.eye(3), np.array([baseline, 0.0, 0.0]))))
    truth = read_true_depth(folder, calibration, pinhole[0, 0])
    if truth is not None:
        jobs.append(image_job(TRUTH_TOPIC, truth, '32FC1', left, stamp))

    def read() -> LidarScan:
        points, intensity, ring = read_points(folder)
        return lidar_scan(stamp, points, lidar, notes, intensity=intensity, ring=ring)

    jobs.append(scan_job(read, stamp, _LIDAR_TOPIC))
    return jobs, transforms


def _pinhole(folder: Path, calibration: Mapping[str, Any], name: str) -> np.ndarray:
    matrix = np.array(calibration[name], dtype=np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise RecordingError(f'{folder}: {name} has shape {matrix.shape}, expected (3, 3) finite numbers')
    return matrix


def frame_camera(folder: Path, calibration: Mapping[str, Any], shape: tuple[int, int], name: str = 'K') -> Camera:
    """Camera of a calibrated frame.

    Args:
        folder: of the frame, for messages.
        calibration: from ``read_calibration``.
        shape: (height, width) of the image.
        name: of the matrix of the pinhole.

    Raises:
        RecordingError: the matrix is none of a pinhole.
        KeyError, TypeError, ValueError: it is missing, or no matrix of numbers.
    """
    k = _pinhole(folder, calibration, name)
    return Camera(shape[1], shape[0], float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))


def lidar_pose(folder: Path, calibration: Mapping[str, Any]) -> np.ndarray:
    """Pose of the lidar in the optical frame of the camera, (4, 4) float64, as a calibration gives it.

    Raises:
        RecordingError: it is no rigid transform.
        KeyError, TypeError, ValueError: it is missing, or no matrix of numbers.
    """
    pose = np.array(calibration['camera_from_lidar'], dtype=np.float64)
    if pose.shape != (4, 4):
        raise RecordingError(f'{folder}: camera_from_lidar has shape {pose.shape}, expected (4, 4)')
    rotation = pose[:3, :3]
    is_rigid = np.isfinite(pose).all() and np.allclose(pose[3], (0, 0, 0, 1), rtol=0, atol=_MAX_SKEW)
    is_rigid = is_rigid and np.allclose(rotation @ rotation.T, np.eye(3), rtol=0, atol=_MAX_SKEW)
    if not is_rigid or np.linalg.det(rotation) < 0:
        raise RecordingError(
            f'{folder}: camera_from_lidar is {pose.round(3).tolist()}, expected a rotation and metres, over 0 0 0 1'
        )
    return pose
