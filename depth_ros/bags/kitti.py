"""KITTI recordings to bags, as a robot would have recorded them.

The Velodyne turns counter-clockwise ten times a second and triggers the cameras when it looks straight ahead (readme
of the raw recordings). A sweep therefore starts and ends behind the car, and in its middle all cameras expose. The
cameras' own timestamps are taken when their images arrive, 10 to 20 ms later, so images are stamped with the time of
the trigger: the middle of the sweep.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_ros.bags.importing import (
    MOMENTS_NOTE,
    Images,
    ImportReport,
    Job,
    Progress,
    lidar_scan,
    moment_ns,
    nominal_ns,
    scan_job,
    write_bag,
)
from depth_ros.bags.kitti_files import (
    RectifiedCamera,
    matrix,
    numbered_files,
    offset_from_left,
    oxts_pose,
    read_calibration,
    read_oxts,
    read_scan,
    read_timestamps,
    rectified_camera,
    rigid_4x4,
)
from depth_ros.bags.writer import BagWriter
from depth_ros.errors import RecordingError
from depth_ros.geometry.rigid import invert
from depth_ros.messages.odometry import fill_odometry
from depth_ros.types import LidarScan, Pose

# Camera of the rig -> (name, camera whose pair it is the right one of).
_CAMERAS = {'00': ('gray/left', ''), '01': ('gray/right', '00'), '02': ('color/left', ''), '03': ('color/right', '02')}
_OBJECT_CAMERAS = {'2': ('left', ''), '3': ('right', '2')}
BASE_FRAME, LIDAR_FRAME, ODOM_FRAME = 'base_link', 'velodyne', 'odom'
LIDAR_TOPIC, ODOMETRY_TOPIC = '/velodyne/points', '/odometry'
_IMU_FRAME = 'imu'
# Heights above the ground, metres, from the sensor setup of the car (Geiger et al. 2013, figure 3).
_IMU_HEIGHT, _LIDAR_HEIGHT = 0.93, 1.73
_SWEEP_NS = 100_000_000
_TIME_STEP_NS = 10_000


def import_kitti_raw(
    folder: Path | str,
    out: Path | str,
    compressed: str = 'png',
    jpeg_quality: int = 95,
    frames: tuple[int | None, int | None] = (None, None),
    calibration: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Turn a drive of the raw recordings (synced and rectified) into a bag.

    Args:
        folder: the drive, with ``image_00`` to ``image_03``, ``velodyne_points``, ``oxts`` as far as present.
        out: folder of the bag.
        compressed: ``png``, ``jpeg`` or ``none``.
        jpeg_quality: 1 to 100.
        frames: first frame, and the one after the last; None = open.
        calibration: folder of the ``calib_*.txt`` files; None = the drive's folder or its parent.
        overwrite: replace the bag that is there.
        progress: called as it goes.

    Returns:
        What was written and what was assumed.

    Raises:
        RecordingError: the folder has another layout, or a file is damaged.
        OutputError: the bag cannot be written.
    """
    drive = _RawDrive(Path(folder), calibration, frames)
    jobs = drive.jobs(Images(compressed, jpeg_quality))
    return write_bag(jobs, drive.transforms(), drive.notes, f'KITTI {drive.folder.name}', out, overwrite, progress)


def import_kitti_object(
    folder: Path | str,
    out: Path | str,
    compressed: str = 'png',
    jpeg_quality: int = 95,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Turn frames of the object benchmark into a bag of independent moments, 10 s apart.

    Every frame has its own calibration, so it has frames of its own (``velodyne_000031``,
    ``camera_000031_left_optical``).

    Args:
        folder: with ``image_2`` (and ``image_3``), ``velodyne``, ``calib``; or a folder with ``training`` in it.
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
    folder = Path(folder)
    if not (folder / 'image_2').is_dir() and (folder / 'training').is_dir():
        folder = folder / 'training'
    for name in ('image_2', 'velodyne', 'calib'):
        if not (folder / name).is_dir():
            raise RecordingError(
                f'{folder} has no folder {name}, expected image_2, velodyne and calib as in the object benchmark'
            )
    images = Images(compressed, jpeg_quality)
    notes = [f'{MOMENTS_NOTE}, and so are the times in a sweep of 100 ms']
    transforms, jobs = [], []
    names = sorted(path.stem for path in (folder / 'image_2').iterdir() if path.suffix in ('.png', '.jpg'))
    if not names:
        raise RecordingError(f'{folder / "image_2"} holds no images, expected NNNNNN.png')
    for index, name in enumerate(names):
        calibration = folder / 'calib' / f'{name}.txt'
        scan = folder / 'velodyne' / f'{name}.bin'
        if not scan.is_file():
            raise RecordingError(f'{scan} is missing, expected a scan for each image in image_2')
        values = read_calibration(calibration)
        tr = matrix(values, ('Tr_velo_to_cam', 'Tr_velo_cam'), (3, 4), calibration)
        rectification = matrix(values, ('R0_rect', 'R_rect'), (3, 3), calibration)
        reference = rigid_4x4(tr[:, :3], tr[:, 3])
        stamp = moment_ns(index)
        lidar_frame = f'velodyne_{name}'
        cameras: dict[str, RectifiedCamera] = {}
        for number, (side, left) in _OBJECT_CAMERAS.items():
            image = _image_file(folder / f'image_{number}', name)
            if image is None:
                continue
            projection = matrix(values, (f'P{number}',), (3, 4), calibration)
            camera = cameras[number] = rectified_camera(projection, rectification, reference)
            frame = f'camera_{name}_{side}_optical'
            transforms.append((lidar_frame, frame, invert(camera.camera_from_rig)))
            offset = offset_from_left(camera, cameras.get(left))
            jobs.append(images.job(f'/camera/color/{side}', frame, camera.matrix, image, stamp, offset_x=offset))
        jobs.append(_scan_job(scan, lidar_frame, stamp - _SWEEP_NS // 2, stamp + _SWEEP_NS // 2, notes))
    return write_bag(jobs, transforms, notes, f'KITTI {folder.name}', out, overwrite, progress)


class _RawDrive:
    """One drive of the raw recordings."""

    def __init__(self, folder: Path, calibration: Path | str | None, frames: tuple[int | None, int | None]) -> None:
        self.folder = folder
        self.notes: list[str] = []
        if not folder.is_dir():
            raise RecordingError(
                f'{folder} is no folder, expected a drive of the KITTI raw recordings (2011_09_26_drive_0005_sync)'
            )
        first, end = frames
        self._range = range(first or 0, 10**10 if end is None else end)
        self.images = {number: self._files(f'image_{number}/data', ('.png', '.jpg')) for number in _CAMERAS}
        self.images = {number: files for number, files in self.images.items() if files}
        if not self.images:
            chosen = '' if frames == (None, None) else f' within frames {first or 0}:{"" if end is None else end}'
            raise RecordingError(f'{folder} has no images{chosen}, expected image_02/data/0000000000.png and the like')
        self.scans = self._files('velodyne_points/data', ('.bin',))
        self.packets = self._files('oxts/data', ('.txt',))
        if not self.scans:
            self.notes.append('there is no lidar (velodyne_points/data)')
        if not self.packets:
            self.notes.append('there is no odometry (oxts/data)')
        self._read_calibration(Path(calibration) if calibration else None)
        self._read_stamps()

    def transforms(self) -> list[tuple[str, str, np.ndarray]]:
        """Static transforms: parent, child, (4, 4) parent from child."""
        transforms = [(BASE_FRAME, LIDAR_FRAME, self._base_from_lidar)]
        if self._base_from_imu is not None:
            transforms.append((BASE_FRAME, _IMU_FRAME, self._base_from_imu))
        return transforms + [
            (LIDAR_FRAME, _optical_frame(number), invert(self._cameras[number].camera_from_rig))
            for number in self.images
        ]

    def jobs(self, images: Images) -> list[Job]:
        """Everything that is to be written, in any order."""
        jobs = []
        for number, files in self.images.items():
            name, left = _CAMERAS[number]
            for index, path in files.items():
                camera = self._cameras[number]
                jobs.append(images.job(f'/camera/{name}', _optical_frame(number), camera.matrix, path,
                                       self._image_stamp(number, index), self._sizes[number],
                                       offset_from_left(camera, self._cameras.get(left))))
        for index, path in self.scans.items():
            jobs.append(_scan_job(path, LIDAR_FRAME, *self._sweep(index), self.notes))
        return jobs + self._odometry_jobs()

    def _files(self, inside: str, suffixes: tuple[str, ...]) -> dict[int, Path]:
        files = numbered_files(self.folder / inside, suffixes)
        return {number: path for number, path in files.items() if number in self._range}

    def _read_calibration(self, given: Path | None) -> None:
        places = [given] if given else [self.folder, self.folder.parent]
        place = next((place for place in places if (place / 'calib_cam_to_cam.txt').is_file()), None)
        if place is None:
            raise RecordingError(
                f'calib_cam_to_cam.txt is missing in {" and ".join(map(str, places))}; get the calibration of the date '
                'of this drive'
            )
        path = place / 'calib_cam_to_cam.txt'
        values = read_calibration(path)
        rectification = matrix(values, ('R_rect_00',), (3, 3), path)
        velodyne = place / 'calib_velo_to_cam.txt'
        if self.scans or velodyne.is_file():
            to_camera = read_calibration(velodyne)
            reference = rigid_4x4(
                matrix(to_camera, ('R',), (3, 3), velodyne), matrix(to_camera, ('T',), (3, 1), velodyne)
            )
        else:
            raise RecordingError(f'{velodyne} is missing; the frames of the cameras rest on it')
        self._cameras, self._sizes = {}, {}
        for number in self.images:
            projection = matrix(values, (f'P_rect_{number}',), (3, 4), path)
            self._cameras[number] = rectified_camera(projection, rectification, reference)
            width, height = matrix(values, (f'S_rect_{number}',), (1, 2), path)[0]
            self._sizes[number] = (int(width), int(height))
        imu = place / 'calib_imu_to_velo.txt'
        self._base_from_imu = None
        self._base_from_lidar = rigid_4x4(np.eye(3), np.array([0, 0, _LIDAR_HEIGHT]))
        if imu.is_file():
            to_lidar = read_calibration(imu)
            lidar_from_imu = rigid_4x4(matrix(to_lidar, ('R',), (3, 3), imu), matrix(to_lidar, ('T',), (3, 1), imu))
            self._base_from_imu = rigid_4x4(np.eye(3), np.array([0, 0, _IMU_HEIGHT]))
            self._base_from_lidar = self._base_from_imu @ invert(lidar_from_imu)
        elif self.packets:
            raise RecordingError(f'{imu} is missing; odometry (oxts) needs it')

    def _read_stamps(self) -> None:
        self._stamps = {}
        for name in ('velodyne_points/timestamps_start', 'velodyne_points/timestamps_end', 'velodyne_points/timestamps',
                     'oxts/timestamps', *(f'image_{number}/timestamps' for number in self.images)):
            path = self.folder / f'{name}.txt'
            if path.is_file():
                self._stamps[name] = read_timestamps(path)
        used = [f'image_{number}/timestamps' for number in self.images]
        used += ['velodyne_points/timestamps'] if self.scans else []
        # All streams or none: a nominal clock and the true one in one bag would be hours apart.
        self._nominal = any(name not in self._stamps for name in used)
        if self._nominal:
            missing = ', '.join(f'{name}.txt' for name in used if name not in self._stamps)
            self.notes.append(f'stamps are nominal, 10 Hz, because {missing} is missing')
        elif self.scans:
            self.notes.append(
                'images are stamped with the trigger of the cameras (the lidar facing forward); the stamps in their '
                'own files are taken when they arrive'
            )

    def _stamp(self, name: str, index: int) -> int:
        stamps = self._stamps[name]
        if index >= len(stamps) or stamps[index] is None:
            raise RecordingError(f'{self.folder / name}.txt has no time for frame {index} (line {index + 1})')
        return stamps[index]

    def _image_stamp(self, number: str, index: int) -> int:
        if self._nominal:
            return nominal_ns(index)
        if index in self.scans:
            start, end = self._sweep(index)
            return (start + end) // 2
        return self._stamp(f'image_{number}/timestamps', index)

    def _sweep(self, index: int) -> tuple[int, int]:
        """Start and end of a sweep, ns."""
        middle = nominal_ns(index) if self._nominal else self._stamp('velodyne_points/timestamps', index)
        names = ('velodyne_points/timestamps_start', 'velodyne_points/timestamps_end')
        if not self._nominal and all(name in self._stamps for name in names):
            start, end = (self._stamp(name, index) for name in names)
            # A sweep with lost packets spans more than one turn; its points then have no known times but the nominal.
            if abs(end - start - _SWEEP_NS) < _SWEEP_NS // 5:
                return start, end
        return middle - _SWEEP_NS // 2, middle + _SWEEP_NS // 2

    def _odometry_jobs(self) -> list[Job]:
        if not self.packets:
            return []
        if not self._nominal and 'oxts/timestamps' not in self._stamps:
            raise RecordingError(
                f'{self.folder / "oxts/timestamps.txt"} is missing while the other streams have theirs'
            )
        first = read_oxts(next(iter(self.packets.values())))
        map_from_odom = oxts_pose(first, first[0]) @ invert(self._base_from_imu)

        def job(index: int, path: Path) -> Job:
            stamp = nominal_ns(index) if self._nominal else self._stamp('oxts/timestamps', index)

            def write(writer: BagWriter) -> None:
                packet = read_oxts(path)
                pose = invert(map_from_odom) @ oxts_pose(packet, first[0]) @ invert(self._base_from_imu)
                message = fill_odometry(
                    writer.message('nav_msgs/msg/Odometry'), Pose(stamp, pose, ODOM_FRAME, BASE_FRAME)
                )
                linear, angular = message.twist.twist.linear, message.twist.twist.angular
                turn = packet[17:20]
                velocity = packet[8:11] - np.cross(turn, self._base_from_imu[:3, 3])
                linear.x, linear.y, linear.z = map(float, velocity)
                angular.x, angular.y, angular.z = map(float, turn)
                writer.write(ODOMETRY_TOPIC, message, stamp)

            return Job(stamp, write)

        return [job(index, path) for index, path in self.packets.items()]


def _scan_job(path: Path, frame: str, start_ns: int, end_ns: int, notes: list[str]) -> Job:
    def read() -> LidarScan:
        points, reflectance = read_scan(path)
        return lidar_scan(start_ns, points, frame, notes, _point_times(points, end_ns - start_ns), reflectance)

    return scan_job(read, end_ns, LIDAR_TOPIC)


def _point_times(points: np.ndarray, duration_ns: int) -> np.ndarray:
    """(N,) int32 ns after the start of the sweep: counter-clockwise from straight behind over straight ahead.

    In steps of 10 us, a fifth of the time between two firings: finer digits would say nothing and cannot be compressed.
    """
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    share = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
    return (np.rint(np.nan_to_num(share, nan=0.5) * (duration_ns / _TIME_STEP_NS)) * _TIME_STEP_NS).astype(np.int32)


def _optical_frame(number: str) -> str:
    return f'camera_{_CAMERAS[number][0].replace("/", "_")}_optical'


def _image_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f'{name}.png', folder / f'{name}.jpg') if path.is_file()), None)
