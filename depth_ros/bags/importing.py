"""What all imports of public recordings share: images and sweeps as messages, and a bag written in order of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_ros.bags.writer import BagWriter
from depth_ros.errors import RecordingError
from depth_ros.geometry.rings import infer_rings
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.header import set_body, set_stamp
from depth_ros.messages.image import file_pixels, fill_image
from depth_ros.messages.odometry import fill_transform
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.types import Camera, LidarScan

COMPRESSIONS = ('png', 'jpeg', 'none')
Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""

_NO_RINGS = 'the rings of some scans cannot be told; they have no ring field'
MOMENTS_NOTE = 'frames are independent moments; their stamps, 10 s apart, are nominal'
NOMINAL_START_NS = 1_317_000_000_000_000_000
_MOMENTS_APART_NS = 10_000_000_000
_PERIOD_NS = 100_000_000
# What a driver and a recorder need to hand an image on.
_IMAGE_LATENCY_NS = 5_000_000


def moment_ns(index: int) -> int:
    """Nominal stamp of one of several independent moments, far enough apart not to be paired, ns."""
    return NOMINAL_START_NS + index * _MOMENTS_APART_NS


def nominal_ns(index: int) -> int:
    """Stamp of a frame of a drive whose times are not known, at 10 Hz, ns."""
    return NOMINAL_START_NS + index * _PERIOD_NS


@dataclass(frozen=True)
class ImportReport:
    """What an import made.

    Attributes:
        counts: messages per topic.
        notes: what was assumed or left out, one sentence each; also in the metadata of the bag.
    """

    counts: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Something to be written at its time.

    Attributes:
        log_ns: when it was recorded.
        write: writes it.
    """

    log_ns: int
    write: Callable[[BagWriter], None]


class Images:
    """Makes image messages of one kind of compression."""

    def __init__(self, compressed: str, jpeg_quality: int) -> None:
        if compressed not in COMPRESSIONS:
            raise RecordingError(f'compression is {compressed!r}, expected one of {", ".join(COMPRESSIONS)}')
        self._compressed = compressed
        self._quality = jpeg_quality

    def job(self, namespace: str, frame: str, pinhole: np.ndarray, path: Path, stamp_ns: int,
            size: tuple[int, int] | None = None, offset_x: float = 0.0) -> Job:
        """Make the job of one rectified image and its CameraInfo.

        Args:
            namespace: of the topics.
            frame: optical frame.
            pinhole: (3, 3) float64 matrix.
            path: file.
            stamp_ns: time of exposure.
            size: (width, height) that the calibration is for, None = not known.
            offset_x: metres, position of the left camera of the pair along x in this camera's frame (negative for a
                right one, 0 for all others).

        Raises:
            RecordingError: the file cannot be read, or has another size (when the job is done).
        """
        topic = f'{namespace}/image_rect' + ('' if self._compressed == 'none' else '/compressed')
        log_ns = stamp_ns + _IMAGE_LATENCY_NS

        def write(writer: BagWriter) -> None:
            data, pixels = read_image(path)
            height, width = pixels.shape[:2]
            if size is not None and size != (width, height):
                raise RecordingError(
                    f'{path} is {width}x{height}, the calibration is for {size[0]}x{size[1]}; images must not be '
                    'resized'
                )
            k = pinhole
            model = Camera(width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2], frame)
            info = fill_camera_info(writer.message('sensor_msgs/msg/CameraInfo'), model, stamp_ns)
            info.p[3] = k[0, 0] * offset_x
            writer.write(f'{namespace}/camera_info', info, log_ns)
            writer.write(topic, self._message(writer, path.suffix, data, pixels, frame, stamp_ns), log_ns)

        return Job(log_ns, write)

    def _message(self, writer: BagWriter, suffix: str, data: np.ndarray, pixels: np.ndarray, frame: str,
                 stamp_ns: int) -> object:
        encoding = 'mono8' if pixels.ndim == 2 else 'bgr8'
        if self._compressed == 'none':
            return fill_image(writer.message('sensor_msgs/msg/Image'), pixels, encoding, frame, stamp_ns)
        if {'.png': 'png', '.jpg': 'jpeg'}[suffix] != self._compressed:
            options = [cv2.IMWRITE_JPEG_QUALITY, self._quality] if self._compressed == 'jpeg' else []
            data = cv2.imencode(f'.{self._compressed}', pixels, options)[1].ravel()
        message = writer.message('sensor_msgs/msg/CompressedImage')
        set_stamp(message.header.stamp, stamp_ns)
        message.header.frame_id = frame
        message.format = f'{encoding}; {self._compressed} compressed {encoding}'
        set_body(message, data)
        return message


def image_job(topic: str, pixels: np.ndarray, encoding: str, frame: str, stamp_ns: int) -> Job:
    """Make the job of one image that is in memory, stored as it is."""
    log_ns = stamp_ns + _IMAGE_LATENCY_NS

    def write(writer: BagWriter) -> None:
        message = fill_image(writer.message('sensor_msgs/msg/Image'), pixels, encoding, frame, stamp_ns)
        writer.write(topic, message, log_ns)

    return Job(log_ns, write)


def scan_job(read: Callable[[], LidarScan], log_ns: int, topic: str) -> Job:
    """Make the job of one sweep; ``read`` is called when it is written."""

    def write(writer: BagWriter) -> None:
        message = fill_lidar_cloud(
            writer.message('sensor_msgs/msg/PointCloud2'), writer.type('sensor_msgs/msg/PointField'), read()
        )
        writer.write(topic, message, log_ns)

    return Job(log_ns, write)


def lidar_scan(stamp_ns: int, points: np.ndarray, frame: str, notes: list[str],
               time_offset_ns: np.ndarray | None = None, intensity: np.ndarray | None = None,
               ring: np.ndarray | None = None) -> LidarScan:
    """Make a sweep, with rings where they are known or can be told; else a note says so.

    Args:
        stamp_ns: of the message, ns.
        points: (N, 3) float32 metres in ``frame``.
        frame: of the lidar.
        notes: for the report; may be added to.
        time_offset_ns: (N,) int32 after the stamp, None = all at the stamp.
        intensity: (N,) float32, or None.
        ring: (N,) uint16, or None to tell it by how the points lie.
    """
    if ring is None:
        found = infer_rings(points)
        ring = None if found is None else found[0]
    if ring is None and _NO_RINGS not in notes:
        notes.append(_NO_RINGS)
    return LidarScan(stamp_ns, points, frame, time_offset_ns, ring, intensity)


def write_bag(jobs: list[Job], transforms: list[tuple[str, str, np.ndarray]], notes: list[str], source: str,
              out: Path | str, overwrite: bool, progress: Progress | None) -> ImportReport:
    """Write everything, each thing at its time.

    Args:
        jobs: what to write.
        transforms: static transforms: parent, child, (4, 4) parent from child.
        notes: for the report and the metadata of the bag; jobs may add to them.
        source: where the recording is from, for the metadata.
        out: folder of the bag.
        overwrite: replace the bag that is there.
        progress: called as it goes.

    Raises:
        RecordingError: a file cannot be read.
        OutputError: the bag cannot be written.
    """
    jobs.sort(key=lambda job: job.log_ns)
    with BagWriter(out, overwrite=overwrite, compress=True) as writer:
        message = writer.message('tf2_msgs/msg/TFMessage')
        message.transforms = [
            fill_transform(writer.message('geometry_msgs/msg/TransformStamped'), *item, jobs[0].log_ns)
            for item in transforms
        ]
        writer.write('/tf_static', message, jobs[0].log_ns)
        for done, job in enumerate(jobs):
            if progress:
                progress(done, len(jobs))
            job.write(writer)
        if progress:
            progress(len(jobs), len(jobs))
        writer.note('source', f'{source}, imported by depth_ros')
        writer.note('notes', '; '.join(notes))
    return ImportReport(writer.counts, tuple(notes))


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of an image file, and its (H, W) or (H, W, 3) uint8 pixels.

    Raises:
        RecordingError: it cannot be read, or holds other pixels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise RecordingError(f'cannot read {path}: {error.strerror}') from error
    pixels = file_pixels(data)
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)):
        raise RecordingError(f'{path} ({data.size} bytes) is no whole 8-bit colour or grey image')
    return data, pixels
