"""Files of the KITTI recordings: calibration, timestamps, scans, oxts packets, tables.

Source: the readme and the development kit of the raw recordings (cvlibs.net/datasets/kitti); Geiger et al. 2013.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_ros.errors import RecordingError

_EARTH_RADIUS = 6378137.0
_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class RectifiedCamera:
    """One camera of the rig, after rectification.

    Attributes:
        matrix: (3, 3) float64 pinhole matrix.
        camera_from_rig: (4, 4) float64, metres, from the frame in which the reference camera was placed (that of the
            lidar, as a rule) to the optical frame of this camera.
        offset_x: metres, position of the reference camera along x in this camera's frame.
    """

    matrix: np.ndarray
    camera_from_rig: np.ndarray
    offset_x: float


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """Read ``NAME: numbers`` lines.

    Returns:
        name -> (N,) float64; lines that hold no numbers (dates) are left out.

    Raises:
        RecordingError: the file cannot be read.
    """
    values = {}
    for line in _text(path).splitlines():
        name, separator, numbers = line.partition(':')
        if not separator:
            continue
        try:
            values[name.strip()] = np.array([float(number) for number in numbers.split()])
        except ValueError:
            continue
    return values


def matrix(values: Mapping[str, np.ndarray], names: tuple[str, ...], shape: tuple[int, int], path: Path) -> np.ndarray:
    """Take a matrix out of a calibration under the first of its names that is there.

    Raises:
        RecordingError: none is there, or it has another size, or is not finite.
    """
    found = next((values[name] for name in names if name in values), None)
    if found is None or found.size != shape[0] * shape[1] or not np.isfinite(found).all():
        got = 'none' if found is None else f'{found.size} numbers'
        raise RecordingError(f'{path}: {" or ".join(names)} has {got}, expected {shape[0] * shape[1]} finite numbers')
    return found.reshape(shape)


def rigid_4x4(rotation: np.ndarray, translation: np.ndarray | None = None) -> np.ndarray:
    """(4, 4) float64 transform of a rotation as printed in a file, made exactly orthogonal, and a translation."""
    u, _, vt = np.linalg.svd(rotation)
    result = np.eye(4)
    result[:3, :3] = u @ vt
    if translation is not None:
        result[:3, 3] = translation.ravel()
    return result


def rectified_camera(projection: np.ndarray, rectification: np.ndarray, camera_from_rig: np.ndarray) -> RectifiedCamera:
    """Resolve ``pixel = P R_rect Tr X`` into a pinhole and the pose of its optical frame.

    P = K [I | t]: a camera whose axes are those of the rectified reference camera, and which stands at -t.

    Args:
        projection: (3, 4) P of this camera.
        rectification: (3, 3) R_rect of the reference camera.
        camera_from_rig: (4, 4) of the reference camera before the rectification.
    """
    pinhole = projection[:, :3]
    offset = np.linalg.solve(pinhole, projection[:, 3])
    pose = rigid_4x4(np.eye(3), offset) @ rigid_4x4(rectification) @ camera_from_rig
    return RectifiedCamera(pinhole, pose, float(offset[0]))


def offset_from_left(camera: RectifiedCamera, left: RectifiedCamera | None) -> float:
    """Where the left camera of a pair stands in the frame of its right one, along x, metres; 0 for a left camera."""
    return 0.0 if left is None else camera.offset_x - left.offset_x


def numbered_files(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files that are named by the number of their frame, in order; none where there is no such folder."""
    if not folder.is_dir():
        return {}
    return {
        int(path.stem): path for path in sorted(folder.iterdir()) if path.suffix in suffixes and path.stem.isdigit()
    }


def read_table(path: Path, columns: int) -> np.ndarray:
    """Read rows of numbers.

    Returns:
        (N, columns) float64.

    Raises:
        RecordingError: the file cannot be read, or a row holds something else.
    """
    rows = []
    for number, line in enumerate(_text(path).rstrip().splitlines(), start=1):
        try:
            row = [float(word) for word in line.split()]
        except ValueError as error:
            raise RecordingError(f'{path}: row {number}: {error}; expected {columns} numbers') from error
        if len(row) != columns or not np.isfinite(row).all():
            raise RecordingError(f'{path}: row {number} has {len(row)} numbers, expected {columns} finite ones')
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def read_timestamps(path: Path) -> list[int | None]:
    """Stamps of all frames in ns (local time, taken as UTC); None for an empty line (a frame that was lost).

    Raises:
        RecordingError: a line is no time.
    """
    stamps: list[int | None] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            stamps.append(None)
            continue
        try:
            whole, _, fraction = line.strip().partition('.')
            seconds = calendar.timegm(time.strptime(whole, '%Y-%m-%d %H:%M:%S'))
            stamps.append(seconds * _NS + int(fraction.ljust(9, '0')[:9] or 0))
        except ValueError as error:
            expected = "'2011-09-26 13:02:25.951199337'"
            raise RecordingError(f'{path}: line {number} is {line!r}, expected {expected}') from error
    return stamps


def read_scan(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a Velodyne scan.

    Returns:
        points: (N, 3) float32 metres, x forward, y left, z up.
        reflectance: (N,) float32, or None where the file holds none (x y z alone, or all zero).

    Raises:
        RecordingError: the size of the file makes no points, or reflectances are beyond 1.
    """
    try:
        values = np.fromfile(path, np.float32)
        size = path.stat().st_size
    except OSError as error:
        raise RecordingError(f'cannot read {path}: {error.strerror}') from error
    if size % 16 == 0 and size:
        points = values.reshape(-1, 4)
        reflectance = points[:, 3]
        if np.isfinite(reflectance).all() and reflectance.min() >= 0:
            if reflectance.max() > 1:  # of coordinates, in points of 12 bytes, some would be negative
                raise RecordingError(
                    f'{path} has reflectances up to {reflectance.max():g}, expected 0 to 1 as in KITTI; scale them'
                )
            return np.ascontiguousarray(points[:, :3]), (reflectance.copy() if reflectance.any() else None)
    # Of coordinates in points of 12 bytes every fourth would not always be a reflectance.
    fourth = values[3::4]
    cut_off = size % 16 and len(fourth) and bool(((fourth >= 0) & (fourth <= 1)).all())
    if size % 12 == 0 and size and not cut_off:
        return values.reshape(-1, 3), None
    raise RecordingError(
        f'{path} has {size} bytes, expected points of 16 (x y z reflectance) or 12 bytes; is it cut off?'
    )


def read_oxts(path: Path) -> np.ndarray:
    """(30,) or longer float64: one packet of the GPS/IMU unit.

    Raises:
        RecordingError: the packet is short or not finite.
    """
    try:
        values = np.array([float(word) for word in _text(path).split()])
    except ValueError as error:
        raise RecordingError(f'{path}: {error}; expected 30 numbers') from error
    if values.size < 30 or not np.isfinite(values[:30]).all():
        raise RecordingError(f'{path} has {values.size} numbers, expected 30 finite ones')
    return values


def oxts_pose(packet: np.ndarray, latitude: float) -> np.ndarray:
    """Pose of the GPS/IMU unit on the Mercator map.

    Args:
        packet: from ``read_oxts``.
        latitude: degrees, of the first packet of the drive; sets the scale.

    Returns:
        (4, 4) float64 map (x east, y north, z up) from imu.

    Source: the development kit of the raw recordings (latlonToMercator, convertOxtsToPose).
    """
    scale = np.cos(np.radians(latitude))
    roll, pitch, yaw = packet[3:6]
    rx = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
    ry = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    rz = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    x = scale * _EARTH_RADIUS * np.radians(packet[1])
    y = scale * _EARTH_RADIUS * np.log(np.tan(np.pi / 4 + np.radians(packet[0]) / 2))
    return rigid_4x4(rz @ ry @ rx, np.array([x, y, packet[2]]))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except OSError as error:
        raise RecordingError(f'cannot read {path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise RecordingError(f'{path} is no text') from error
