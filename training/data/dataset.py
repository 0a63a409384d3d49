"""Datasets in the KITTI depth-completion convention, with an index.

A folder per recording::

    RECORDING/image_02/data/0000000012.jpg                      the image, as it was recorded
    RECORDING/image_03/data/0000000012.jpg                      that of the right camera, where there is one
    RECORDING/proj_depth/velodyne_raw/image_02/0000000012.png   the sweep of the moment, 16 bit: metres * 256
    RECORDING/proj_depth/groundtruth/image_02/0000000012.png    the sweeps around it, less what moved or is hidden
    RECORDING/points/0000000012.npz                             the sweep: sub-pixel positions, rings, hidden points
    RECORDING/truth/image_02/0000000012.png                     exact depth, of simulated recordings; 65535 = farther
    RECORDING/calib_cam_to_cam.txt, calib_velo_to_cam.txt, poses.txt, image_02/timestamps.txt

``index.jsonl`` names it all: a line for the dataset, then one per frame. It is written last.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numba import njit

from depth_ros.errors import DepthRosError, RecordingError
from depth_ros.files import output_errors
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.geometry.rigid import invert
from depth_ros.types import Camera, Frame, holding_pixel
from depth_ros_training.data.sample import Sample, SourceImage, empty_points

try:
    from isal.isal_zlib import compress
except ImportError:  # of `depth_ros[training]`; preparing does not need the rest of it, and takes longer without this
    from zlib import compress

INDEX = 'index.jsonl'
PARTS = 'parts'  # what is done of a preparation, so that it can go on
FORMAT, VERSION = 'depth_ros_dataset', 1
DEPTH_SCALE = 256.0  # steps per metre, as in the development kit of KITTI depth completion
MAX_STEPS = 65535
SPLITS = ('train', 'val', 'test')
NO_OVERLAP = 'no lidar point in the image'  # what such frames are counted as
_UNFILTERED, _LESS_THE_ROW_ABOVE = 0, 2  # filters of PNG
_DENSE = 0.5  # of the pixels; with fewer, differences take more space than what they are of
_JPEG_QUALITY = 95
_FILES = ('image', 'points', 'velodyne_raw', 'groundtruth', 'truth')  # of a frame, and the right image
_MAGIC = {b'\xff\xd8': '.jpg', b'\x89P': '.png'}


def encode_depth(depth: np.ndarray) -> np.ndarray:
    """Depth as KITTI stores it.

    Args:
        depth: (H, W) float32 metres, NaN = unknown.

    Returns:
        (H, W) uint16, metres * 256 rounded, 0 = unknown; depths that do not fit (256 m and more) are unknown.
    """
    return _steps(np.ascontiguousarray(depth, np.float32))


@njit(nogil=True, cache=True)
def _steps(depth):
    result = np.zeros(depth.shape, np.uint16)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            steps = np.rint(depth[row, column] * np.float32(DEPTH_SCALE))
            if steps >= 1 and steps <= MAX_STEPS:  # NaN is neither
                result[row, column] = np.uint16(steps)
    return result


def encode_truth(depth: np.ndarray) -> np.ndarray:
    """Exact depth as ``encode_depth`` gives it, but with 65535 where it does not fit.

    Where exact depth is unknown there is no surface, only the sky; mountains are not that.
    """
    steps = encode_depth(depth)
    steps[depth >= np.float32(MAX_STEPS / DEPTH_SCALE)] = MAX_STEPS
    return steps


def decode_truth(steps: np.ndarray) -> np.ndarray:
    """Inverse of ``encode_truth``: (H, W) float32 metres, NaN = no surface, inf = farther than fits (REP 117)."""
    depth = decode_depth(steps)
    depth[steps == MAX_STEPS] = np.inf
    return depth


def decode_depth(steps: np.ndarray) -> np.ndarray:
    """Inverse of ``encode_depth``: (H, W) float32 metres, NaN = unknown."""
    depth = steps.astype(np.float32) / np.float32(DEPTH_SCALE)
    depth[steps == 0] = np.nan
    return depth


def write_depth(path: Path, steps: np.ndarray) -> None:
    """Write a 16-bit PNG.

    Args:
        path: the file.
        steps: (H, W) uint16 as of ``encode_depth`` or ``encode_truth``.

    Raises:
        OutputError: it cannot be written.
    """
    _write_bytes(path, _png(steps))


def _png(pixels: np.ndarray) -> bytes:
    """A PNG file of (H, W) uint16, in a fifth of the time of general writers, which OpenCV's is one of."""
    height, width = pixels.shape
    samples = pixels.astype('>u2').view(np.uint8)
    rows = np.empty((height, 1 + 2 * width), np.uint8)
    rows[:, 1:] = samples
    rows[:, 0] = _UNFILTERED
    if np.count_nonzero(pixels) > _DENSE * pixels.size:
        rows[:, 0] = _LESS_THE_ROW_ABOVE
        rows[1:, 1:] -= samples[:-1]
    header = struct.pack('>IIBBBBB', width, height, 16, 0, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', compress(rows, 1)), (b'IEND', b'')
    parts = [b'\x89PNG\r\n\x1a\n']
    for name, content in chunks:
        checksum = zlib.crc32(content, zlib.crc32(name))
        parts += [struct.pack('>I', len(content)), name, content, struct.pack('>I', checksum)]
    return b''.join(parts)


def write_image(stem: Path, frame: Frame) -> Path:
    """Write an image: the file that it came in, or a JPEG.

    Args:
        stem: path without the suffix.
        frame: the image.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written.
    """
    if frame.encoded is not None:
        suffix = _MAGIC.get(bytes(frame.encoded[:2]))
        # What is in a PNG of 16 bits or with alpha is not what the pipeline saw.
        plain = suffix == '.jpg' or (suffix == '.png' and bytes(frame.encoded[24:26]) in (b'\x08\x00', b'\x08\x02'))
        if plain:
            path = stem.with_suffix(suffix)
            _write_bytes(path, frame.encoded)
            return path
    pixels = frame.image if frame.encoding != 'rgb8' else cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
    path = stem.with_suffix('.jpg')
    _write_bytes(path, cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])
    return path


def write_points(path: Path, points: ProjectedPoints, ring: np.ndarray) -> None:
    """Write projected points, those that others hide too.

    Args:
        path: npz file.
        points: the points.
        ring: (M,) int16.

    Raises:
        OutputError: it cannot be written.
    """
    with _written(path), open(path, 'wb') as file:
        np.savez(
            file, u=points.u, v=points.v, depth=points.depth, slide=points.slide.astype(np.float16),
            ring=ring.astype(np.int16),
        )  # fmt: skip


def camera_entry(camera: Camera) -> dict[str, Any]:
    """A camera as the index holds it."""
    return {
        'width': camera.width,
        'height': camera.height,
        'intrinsics': [camera.fx, camera.fy, camera.cx, camera.cy],
        'frame_id': camera.frame_id,
        'model': camera.model,
        'distortion': camera.distortion.tolist(),
        'rotation': camera.rotation.ravel().tolist(),
    }


def matrix_entry(matrix: np.ndarray) -> list[float]:
    """The upper three rows of a transform, row by row, as KITTI writes poses."""
    return [float(value) for value in matrix[:3].ravel()]


def entry_matrix(values: Sequence[float]) -> np.ndarray:
    """Inverse of ``matrix_entry``: (4, 4) float64."""
    return np.vstack([np.reshape(np.asarray(values, np.float64), (3, 4)), [0, 0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Index:
    """What a dataset holds.

    Attributes:
        folder: the dataset.
        head: facts of the dataset; ``recordings`` maps names to facts of each.
        frames: facts of each frame, in order.
        fingerprint: hash of it all.
    """

    folder: Path
    head: dict[str, Any]
    frames: list[dict[str, Any]]
    fingerprint: str

    def camera(self, recording: str, number: int) -> Camera:
        """A camera of a recording."""
        entry = self.head['recordings'][recording]['cameras'][number]
        return Camera(
            entry['width'],
            entry['height'],
            *entry['intrinsics'],
            frame_id=entry['frame_id'],
            model=entry['model'],
            distortion=np.array(entry['distortion']),
            rotation=np.reshape(entry['rotation'], (3, 3)),
        )


def lost_files(folder: Path, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Files of some frames that are gone or empty.

    Args:
        folder: the dataset.
        entries: facts of the frames.

    Returns:
        Their names, relative to the folder.
    """
    lost = []
    for entry in entries:
        names = [entry[key] for key in _FILES if key in entry]
        names += [entry['right']['image']] if 'right' in entry else []
        for name in names:
            path = folder / name
            if not path.is_file() or not path.stat().st_size:
                lost.append(name)
    return lost


def read_index(folder: Path) -> Index:
    """Read the index of a dataset.

    Raises:
        RecordingError: there is no whole dataset, or one of another convention.
    """
    path = Path(folder) / INDEX
    try:
        content = path.read_bytes()
    except OSError as error:
        unfinished = (Path(folder) / PARTS).is_dir()
        todo = 'its preparation was not finished: run the same command again' if unfinished else (
            'expected a folder that `depth_ros_training prepare` wrote'
        )  # fmt: skip
        raise RecordingError(f'{str(folder)!r} is no whole dataset, it has no {INDEX}; {todo}') from error
    try:
        lines = [json.loads(line) for line in content.decode('utf-8').splitlines()]
        head, frames = lines[0], lines[1:]
        kind = head['format'], head['version'], head['depth_scale']
        count = head['num_frames']
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RecordingError(f'{str(path)!r} is damaged: {error!r}; prepare the dataset again') from error
    if kind != (FORMAT, VERSION, DEPTH_SCALE):
        raise RecordingError(
            f'{str(folder)!r} follows another convention: {kind[0]} version {kind[1]} with {kind[2]} steps per metre, '
            f'expected {FORMAT} version {VERSION} with {DEPTH_SCALE}; prepare it again with this release'
        )
    if count != len(frames):
        raise RecordingError(f'{str(path)!r} is cut off: {len(frames)} of {count} frames; prepare the dataset again')
    return Index(Path(folder), head, frames, hashlib.sha256(content).hexdigest()[:16])


class DatasetFolder(Sequence):
    """Samples of a dataset, read when asked for.

    Attributes:
        index: what the dataset holds.
        groups: the samples by recording.
        fingerprint: hash of the index and of the part that is taken.
    """

    def __init__(self, folder: Path, split: str = '', exact: bool = False) -> None:
        """Read the index.

        Args:
            folder: the dataset.
            split: train, val or test; '' = all frames, those between two splits too.
            exact: the truth is the exact depth, which simulated recordings carry, in the place of what the sweeps
                before and after show.

        Raises:
            RecordingError: there is no whole dataset, or nothing in it is of the split, or it has no exact depth.
        """
        self.index = read_index(folder)
        self._exact = exact
        self._frames = [entry for entry in self.index.frames if split in ('', entry['split'])]
        if not self._frames:
            raise RecordingError(f'dataset {str(folder)!r} has no frame in split {split!r}, expected one of {SPLITS}')
        if exact and not all('truth' in entry for entry in self._frames):
            raise RecordingError(f'dataset {str(folder)!r} has no exact depth; only simulated recordings carry it')
        self._by_name = {(entry['recording'], entry['frame']): entry for entry in self.index.frames}
        self.fingerprint = f'{self.index.fingerprint}{split}{"exact" if exact else ""}'
        by_recording: dict[str, list[int]] = {}
        for number, entry in enumerate(self._frames):
            by_recording.setdefault(entry['recording'], []).append(number)
        self.groups: dict[str, Sequence[Sample]] = {
            name: _Part(self, numbers) for name, numbers in by_recording.items()
        }

    def __len__(self) -> int:
        return len(self._frames)

    def entry(self, number: int) -> dict[str, Any]:
        """What the index says of a sample."""
        return self._frames[number]

    def __getitem__(self, number: int) -> Sample:
        """Read a sample.

        Raises:
            RecordingError: a file is missing or damaged.
        """
        entry = self._frames[number]
        recording = entry['recording']
        camera = self.index.camera(recording, entry['camera'])
        image = self._image(entry['image'], camera)
        points, ring = empty_points(), np.zeros(0, np.int16)
        if 'points' in entry:
            points, ring = read_points(self.index.folder / entry['points'])
        truth = None
        name = 'truth' if self._exact else 'groundtruth'
        if name in entry:
            steps = _read_steps(self.index.folder / entry[name], camera.shape)
            truth = decode_truth(steps) if self._exact else decode_depth(steps)
        if truth is not None and not self._exact:
            # It holds the points of the sweep as well, and of those each may either be given or judge.
            truth[holding_pixel(points.v), holding_pixel(points.u)] = np.nan
        try:
            return Sample(
                f'{recording}/{entry["frame"]}', recording, image, camera, points, ring, truth, True,
                tuple(self._others(entry)), self._exact,
            )  # fmt: skip
        except DepthRosError as error:
            raise RecordingError(
                f'dataset {str(self.index.folder)!r}: {error}; prepare it anew (--overwrite)'
            ) from error

    def _others(self, entry: dict[str, Any]) -> Iterator[SourceImage]:
        recording = entry['recording']
        if 'right' in entry:
            right = entry['right']
            camera = self.index.camera(recording, right['camera'])
            yield SourceImage(
                self._image(right['image'], camera), camera, entry_matrix(right['right_from_left']), 'stereo'
            )
        for name in entry['neighbours']:
            other = self._by_name[recording, name]
            camera = self.index.camera(recording, other['camera'])
            other_from_this = invert(entry_matrix(other['pose'])) @ entry_matrix(entry['pose'])
            offset = other['stamp_ns'] - entry['stamp_ns']
            yield SourceImage(self._image(other['image'], camera), camera, other_from_this, 'temporal', offset)

    def _image(self, name: str, camera: Camera) -> np.ndarray:
        path = self.index.folder / name
        image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None or image.shape[:2] != camera.shape:
            raise RecordingError(
                f'image {str(path)!r} is missing, damaged or of another size than {camera.width}x{camera.height}; '
                'delete it and prepare the dataset again, which makes it anew'
            )
        return np.ascontiguousarray(image[:, :, ::-1])


class _Part(Sequence):
    """Some samples of a dataset."""

    def __init__(self, dataset: DatasetFolder, numbers: list[int]) -> None:
        self._dataset, self._numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Sample:
        return self._dataset[self._numbers[number]]


def read_depth(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a 16-bit PNG: (H, W) float32 metres, NaN = unknown.

    Raises:
        RecordingError: missing, damaged, or of another size or kind.
    """
    return decode_depth(_read_steps(path, shape))


def _read_steps(path: Path, shape: tuple[int, int]) -> np.ndarray:
    steps = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if steps is None or steps.dtype != np.uint16 or steps.shape != shape:
        what = 'missing or damaged' if steps is None else f'{steps.dtype} {steps.shape}'
        raise RecordingError(
            f'depth image {str(path)!r} is {what}, expected uint16 {shape}; delete it and prepare the dataset '
            'again, which makes it anew'
        )
    return steps


def read_points(path: Path) -> tuple[ProjectedPoints, np.ndarray]:
    """Read what ``write_points`` wrote.

    Returns:
        points: the points.
        ring: (M,) int16.

    Raises:
        RecordingError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as parts:
            u, v, depth, slide, ring = (parts[name] for name in ('u', 'v', 'depth', 'slide', 'ring'))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RecordingError(
            f'points {str(path)!r} are missing or damaged: {error}; delete them and prepare the dataset again, which '
            'makes them anew'
        ) from error
    points = ProjectedPoints(u, v, depth, np.arange(len(u), dtype=np.int32), slide.astype(np.float32))
    return points, ring


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Write a file of a frame, in place: what is half written is in no part that is done, and is written again."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise


def _write_bytes(path: Path, content: np.ndarray | bytes) -> None:
    with _written(path):
        path.write_bytes(content if isinstance(content, bytes) else memoryview(np.ascontiguousarray(content)))
