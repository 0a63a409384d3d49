"""RELLIS-3D: a robot off-road with an Ouster OS1 of 64 rings and a Velodyne Ultra Puck of 32, one moment."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from depth_ros.bags.frames import write_frame
from depth_ros.geometry.rigid import invert, rigid

_FOLDER, _NAME = 'utils/example', '000104'
# Radial and tangential, as the repository's notebook that projects lidar into this image has them.
_DISTORTION = np.array([-0.134313, -0.025905, 0.002181, 0.00084, 0.0])
_PLY_END = b'end_header\n'
_PLY = np.dtype([
    ('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('intensity', '<f4'), ('t', '<u4'), ('reflectivity', '<u2'),
    ('ring', 'u1'), ('noise', '<u2'), ('range', '<u4'),
])  # fmt: skip
_JPEG_QUALITY = 95


def write_os1(rellis: Path, out: Path) -> None:
    """Write the image with the points of the OS1."""
    image, k, camera_from_os1 = _camera(rellis / _FOLDER)
    (path,) = (rellis / _FOLDER).glob(f'frame{_NAME}-*.ply')
    content = path.read_bytes()
    table = np.frombuffer(content[content.index(_PLY_END) + len(_PLY_END) :], _PLY)
    points = np.stack([table[name] for name in ('x', 'y', 'z', 'intensity')], axis=1)
    hit = (points[:, :3] != 0).any(axis=1)
    write_frame(out / _NAME, image, k, camera_from_os1, points[hit], table['ring'][hit])


def write_ultra_puck(rellis: Path, out: Path) -> None:
    """Write the image with the points of the Ultra Puck, whose rings show in the points."""
    image, k, camera_from_os1 = _camera(rellis / _FOLDER)
    points = np.fromfile(rellis / _FOLDER / f'vel{_NAME}.bin', np.float32).reshape(-1, 4)
    write_frame(out / _NAME, image, k, camera_from_os1 @ _pose(rellis / _FOLDER / 'vel2os1.yaml'), points)


def _camera(folder: Path) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Rectified image, its matrix, and the pose of the OS1 in its frame."""
    fx, fy, cx, cy = (float(word) for word in (folder / 'camera_info.txt').read_text(encoding='utf-8').split())
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    (path,) = folder.glob(f'frame{_NAME}-*.jpg')
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    rectified = cv2.undistort(pixels, k, _DISTORTION)
    image = cv2.imencode('.jpg', rectified, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return image, k, invert(_pose(folder / 'transforms.yaml'))


def _pose(path: Path) -> np.ndarray:
    """(4, 4) of a file with one transform: q of w x y z, then t of x y z."""
    values: dict[str, list[float]] = {}
    for line in path.read_text(encoding='utf-8').splitlines():
        name, _, number = line.strip().partition(':')
        if number.strip():
            values.setdefault(name, []).append(float(number))
    (w,), (qx, x), (qy, y), (qz, z) = (values[name] for name in 'wxyz')
    return rigid((x, y, z), (qx, qy, qz, w))
