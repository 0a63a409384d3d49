"""Sequences of the KITTI odometry benchmark to bags.

Poses and calibration are about the left grey camera; ``base_link`` is on the ground below it. Sweeps are as at the time
of the image: the benchmark has taken the motion of the car out of them (readme of its development kit).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_ros.bags.importing import (
    NOMINAL_START_NS,
    Images,
    ImportReport,
    Job,
    Progress,
    lidar_scan,
    nominal_ns,
    read_image,
    scan_job,
    write_bag,
)
from depth_ros.bags.kitti import BASE_FRAME, LIDAR_FRAME, LIDAR_TOPIC, ODOM_FRAME, ODOMETRY_TOPIC
from depth_ros.bags.kitti_files import (
    RectifiedCamera,
    matrix,
    numbered_files,
    offset_from_left,
    read_calibration,
    read_scan,
    read_table,
    rectified_camera,
    rigid_4x4,
)
from depth_ros.bags.writer import BagWriter
from depth_ros.errors import RecordingError
from depth_ros.geometry.rigid import invert
from depth_ros.messages.odometry import fill_odometry
from depth_ros.types import LidarScan, Pose

# Folders of the left and the right images -> (their name, projection matrix of the left and of the right one).
_PAIRS = {
    ('image_2', 'image_3'): ('color', 'P2', 'P3'),
    ('image_0', 'image_1'): ('gray', 'P0', 'P1'),
    ('image_l', 'image_r'): ('gray', 'P0', 'P1'),
}
_IMAGES, _SCANS = ('.png', '.jpg'), ('.bin',)
_CAMERA_HEIGHT = 1.65  # metres above the ground, from the sensor setup of the car (Geiger et al. 2013, figure 3)
_BASE_FROM_REFERENCE = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, _CAMERA_HEIGHT], [0, 0, 0, 1.0]])
# A sweep is complete half a turn after the image.
_SWEEP_END_NS = 50_000_000
_ORTHOGONAL = 1e-2  # of rotations that are printed with few digits


def import_kitti_odometry(
    folder: Path | str,
    out: Path | str,
    compressed: str = 'png',
    jpeg_quality: int = 95,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Turn a sequence of the odometry benchmark into a bag.

    Args:
        folder: the sequence, with ``calib.txt`` and ``image_2`` and ``image_3`` or ``image_0`` and ``image_1`` (or the
            excerpts' ``image_l`` and ``image_r``), and ``times.txt`` and ``velodyne`` as far as present; poses in
            ``poses.txt`` or two folders up in ``poses/NN.txt``. Of two whole pairs the one in colour is taken.
        out: folder of the bag.
        compressed: ``png``, ``jpeg`` or ``none``.
        jpeg_quality: 1 to 100.
        overwrite: replace the bag that is there.
        progress: called as it goes.

    Returns:
        What was written and what was assumed.

    Raises:
        RecordingError: the folder has another layout, or a file is damaged.
        OutputError: the bag cannot be written.
    """
    sequence = _Sequence(Path(folder))
    jobs = sequence.jobs(Images(compressed, jpeg_quality))
    source = f'KITTI odometry {sequence.folder.resolve().name}'
    return write_bag(jobs, sequence.transforms(), sequence.notes, source, out, overwrite, progress)


class _Sequence:
    """One sequence."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        if not folder.is_dir():
            raise RecordingError(f'{folder} is no folder, expected a sequence of the odometry benchmark (sequences/00)')
        self._find_images()
        self._scans = numbered_files(folder / 'velodyne', _SCANS)
        if not self._scans:
            self.notes.append('there is no lidar (velodyne)')
        self._read_calibration()
        self._read_times()
        self._read_poses()

    def transforms(self) -> list[tuple[str, str, np.ndarray]]:
        """Static transforms: parent, child, (4, 4) parent from child."""
        cameras = [(BASE_FRAME, self._frame(side), invert(camera.camera_from_rig))
                   for side, camera in self._cameras.items()]
        if self._reference_from_lidar is None:
            return cameras
        return [(BASE_FRAME, LIDAR_FRAME, _BASE_FROM_REFERENCE @ self._reference_from_lidar), *cameras]

    def jobs(self, images: Images) -> list[Job]:
        """Everything that is to be written, in any order."""
        size = read_image(next(iter(self._images['left'].values())))[1].shape[1::-1]
        jobs = []
        for side, camera in self._cameras.items():
            for index, path in self._images[side].items():
                jobs.append(images.job(f'/camera/{self._name}/{side}', self._frame(side), camera.matrix, path,
                                       self._stamp(index), size, self._offsets[side]))
        jobs += [self._scan_job(self._stamp(index), path) for index, path in self._scans.items()]
        return jobs + [self._odometry_job(self._stamp(index), pose) for index, pose in self._poses.items()]

    def _find_images(self) -> None:
        found = []
        for pair, (name, *projections) in _PAIRS.items():
            left, right = (numbered_files(self.folder / side, _IMAGES) for side in pair)
            if left:
                found.append((pair, name, projections, left, right))
        if not found:
            raise RecordingError(
                f'{self.folder} has no left images, expected image_2/000000.png, image_0/000000.png or '
                'image_l/000000.png and so on'
            )
        pair, self._name, self._projections, left, right = max(found, key=lambda item: bool(item[4]))
        self._images = {'left': left, 'right': right} if right else {'left': left}
        if not right:
            self.notes.append(f'there are no right images ({pair[1]})')
        elif left.keys() != right.keys():
            alone = min(left.keys() ^ right.keys())
            raise RecordingError(
                f'{self.folder} has {len(left)} images in {pair[0]} and {len(right)} in {pair[1]}, expected pairs; '
                f'number {alone} has no partner'
            )

    def _read_calibration(self) -> None:
        path = self.folder / 'calib.txt'
        if not path.is_file():
            raise RecordingError(f'{path} is missing, expected lines P0: to P3: (and Tr:) of 12 numbers')
        values = read_calibration(path)
        if not values:  # excerpts have bare rows
            values = {f'P{number}': row for number, row in enumerate(read_table(path, 12))}
        self._cameras: dict[str, RectifiedCamera] = {}
        self._offsets: dict[str, float] = {}
        for side, name in zip(self._images, self._projections, strict=False):
            projection = matrix(values, (name,), (3, 4), path)
            fx, fy = projection[0, 0], projection[1, 1]
            if not (min(fx, fy) > 0 and np.array_equal(projection[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1])):
                raise RecordingError(
                    f'{path}: {name} is {projection.round(3).tolist()}, expected the projection matrix of a rectified '
                    'camera'
                )
            camera = rectified_camera(projection, np.eye(3), invert(_BASE_FROM_REFERENCE))
            offset = offset_from_left(camera, self._cameras.get('left'))
            if side == 'right' and not offset < 0:
                raise RecordingError(
                    f'{path}: the camera of {name} stands {-offset:.3f} m to the right of that of '
                    f'{self._projections[0]}, expected more than 0'
                )
            self._cameras[side], self._offsets[side] = camera, offset
        self._reference_from_lidar = None
        if self._scans:
            self._reference_from_lidar = _rigid(matrix(values, ('Tr',), (3, 4), path), f'{path}: Tr')

    def _read_times(self) -> None:
        path = self.folder / 'times.txt'
        self._times: np.ndarray | None = None
        if not path.is_file():
            self.notes.append('stamps are nominal, 10 Hz, because times.txt is missing')
            return
        self._times = read_table(path, 1)[:, 0]
        late = np.flatnonzero(np.diff(self._times) <= 0)
        if len(late):
            raise RecordingError(f'{path}: row {late[0] + 2} is not later than the row before it')
        self.notes.append('stamps are times.txt after a nominal start')

    def _stamp(self, index: int) -> int:
        if self._times is None:
            return nominal_ns(index)
        if index >= len(self._times):
            raise RecordingError(
                f'{self.folder / "times.txt"} has {len(self._times)} times, none for frame {index} (row {index + 1})'
            )
        return NOMINAL_START_NS + int(np.rint(self._times[index] * 1e9))

    def _read_poses(self) -> None:
        """(4, 4) ``odom`` from ``base_link`` of each left image."""
        whole = self.folder.resolve()
        places = self.folder / 'poses.txt', whole.parent.parent / 'poses' / f'{whole.name}.txt'
        path = next((place for place in places if place.is_file()), None)
        self._poses: dict[int, np.ndarray] = {}
        if path is None:
            self.notes.append(f'there is no odometry (poses.txt or poses/{whole.name}.txt)')
            return
        rows = read_table(path, 12).reshape(-1, 3, 4)
        last = max(self._images['left'])
        if last >= len(rows):
            raise RecordingError(f'{path} has {len(rows)} poses, none for image {last}; expected one for each image')
        first_from_world = None
        for index in self._images['left']:
            world_from_reference = _rigid(rows[index], f'{path}: row {index + 1}')
            if first_from_world is None:
                first_from_world = invert(world_from_reference)
            first_from_reference = first_from_world @ world_from_reference
            self._poses[index] = _BASE_FROM_REFERENCE @ first_from_reference @ invert(_BASE_FROM_REFERENCE)

    def _scan_job(self, stamp: int, path: Path) -> Job:
        def read() -> LidarScan:
            points, reflectance = read_scan(path)
            return lidar_scan(stamp, points, LIDAR_FRAME, self.notes, intensity=reflectance)

        return scan_job(read, stamp + _SWEEP_END_NS, LIDAR_TOPIC)

    def _odometry_job(self, stamp: int, odom_from_base: np.ndarray) -> Job:
        def write(writer: BagWriter) -> None:
            pose = Pose(stamp, odom_from_base, ODOM_FRAME, BASE_FRAME)
            writer.write(ODOMETRY_TOPIC, fill_odometry(writer.message('nav_msgs/msg/Odometry'), pose), stamp)

        return Job(stamp, write)

    def _frame(self, side: str) -> str:
        return f'camera_{self._name}_{side}_optical'


def _rigid(values: np.ndarray, what: str) -> np.ndarray:
    rotation = values[:, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=_ORTHOGONAL) or np.linalg.det(rotation) < 0:
        raise RecordingError(f'{what} is no pose: its first three columns are {rotation.tolist()}, expected a rotation')
    return rigid_4x4(rotation, values[:, 3])
