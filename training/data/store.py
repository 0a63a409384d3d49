"""Samples in files, one per sample: quick to read in any order, compact, and without pickle."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from depth_ros.errors import OutputError, RecordingError
from depth_ros.files import output_errors, whole_file
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera
from depth_ros_training.data.sample import Sample, SourceImage

_INDEX = 'index.json'
_JPEG_QUALITY = 95


def fingerprint(folders: Iterable[Path]) -> str:
    """Hash of the files in some folders: their names and what they hold.

    Raises:
        RecordingError: a folder or file cannot be read.
    """
    total = hashlib.sha256()
    try:
        for path in (path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()):
            total.update(f'{path.parent.name}/{path.name}\n{_digest(path)}\n'.encode())
    except OSError as error:
        raise RecordingError(f'cannot read {error.filename!r}: {error.strerror}') from error
    return total.hexdigest()[:16]


def _digest(path: Path) -> str:
    with path.open('rb') as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


class SampleWriter:
    """Writes samples to a folder. Use it as a context manager; only then is the folder complete."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            OutputError: it cannot be made, or holds samples already.
        """
        self._folder = Path(folder)
        self._index: list[dict[str, str]] = []
        with output_errors(folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / _INDEX).exists():
            raise OutputError(f'{str(folder)!r} holds samples already; choose another folder')

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with whole_file(self._folder / _INDEX) as path:
                path.write_text(json.dumps(self._index, indent=0), encoding='utf-8')
        else:
            with suppress(OSError):  # where there is nothing in it, nothing is left of it
                self._folder.rmdir()

    def add(self, sample: Sample) -> None:
        """Write one sample.

        Raises:
            OutputError: the disk is full or not writable; nothing half-written is left.
        """
        name = f'{len(self._index):06d}.npz'
        parts = {
            **_image_parts('', sample.image, sample.camera),
            'u': sample.points.u,
            'v': sample.points.v,
            'depth': sample.points.depth,
            'index': sample.points.index,
            'slide': sample.points.slide.astype(np.float16),
            'ring': sample.ring,
            'metric': np.array(sample.metric),
            'exact': np.array(sample.exact),
        }
        if sample.truth is not None:
            parts['truth'] = sample.truth.astype(np.float16) if np.nanmax(sample.truth) < 6e4 else sample.truth
        for number, other in enumerate(sample.others):
            prefix = f'other_{number}_'
            parts |= _image_parts(prefix, other.image, other.camera)
            parts[prefix + 'camera_from_reference'] = other.camera_from_reference
            parts[prefix + 'kind'] = np.array(other.kind)
            parts[prefix + 'offset_ns'] = np.array(other.offset_ns)
        with whole_file(self._folder / name) as path, open(path, 'wb') as file:
            np.savez(file, **parts)
        entry = {'file': name, 'name': sample.name, 'recording': sample.recording}
        self._index.append({**entry, 'sha256': _digest(self._folder / name)})


class SampleFolder(Sequence):
    """Samples of a folder, read when asked for.

    Attributes:
        groups: the samples by recording.
        fingerprint: hash of the index and of what all samples hold.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            RecordingError: there is no complete folder of samples.
        """
        self._folder = Path(folder)
        try:
            content = (self._folder / _INDEX).read_bytes()
            self._index = json.loads(content)
        except (OSError, ValueError) as error:
            raise RecordingError(f'{str(folder)!r} is no complete folder of samples: {error}') from error
        by_recording: dict[str, list[int]] = {}
        for number, entry in enumerate(self._index):
            by_recording.setdefault(entry['recording'], []).append(number)
        try:
            # Indices of earlier releases hold no hashes of the samples.
            contents = [entry.get('sha256') or _digest(self._folder / entry['file']) for entry in self._index]
        except OSError as error:
            raise RecordingError(f'sample {error.filename!r} is missing: {error.strerror}') from error
        names = [[entry['file'], entry['name'], entry['recording']] for entry in self._index]
        self.fingerprint = hashlib.sha256(json.dumps([names, contents]).encode()).hexdigest()[:16]
        self.groups: dict[str, Sequence[Sample]] = {
            name: _Part(self, numbers) for name, numbers in by_recording.items()
        }

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> Sample:
        entry = self._index[number]
        path = self._folder / entry['file']
        try:
            with np.load(path, allow_pickle=False) as parts:
                content = {key: parts[key] for key in parts.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise RecordingError(f'sample {str(path)!r} is missing or damaged: {error}') from error
        image, camera = _image_of(content, '')
        points = ProjectedPoints(
            content['u'], content['v'], content['depth'], content['index'], content['slide'].astype(np.float32)
        )
        truth = content['truth'].astype(np.float32) if 'truth' in content else None
        others = []
        while (prefix := f'other_{len(others)}_') + 'image' in content:
            transform, kind = content[prefix + 'camera_from_reference'], str(content[prefix + 'kind'])
            others.append(SourceImage(*_image_of(content, prefix), transform, kind, int(content[prefix + 'offset_ns'])))
        return Sample(
            entry['name'],
            entry['recording'],
            image,
            camera,
            points,
            content['ring'],
            truth,
            bool(content['metric']),
            tuple(others),
            bool(content.get('exact', False)),  # samples of earlier releases do not say
        )


class _Part(Sequence):
    """Some samples of a folder."""

    def __init__(self, folder: SampleFolder, numbers: list[int]) -> None:
        self._folder, self._numbers = folder, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Sample:
        return self._folder[self._numbers[number]]


def _image_parts(prefix: str, image: np.ndarray, camera: Camera) -> dict[str, np.ndarray]:
    """An image and its camera as arrays."""
    return {
        prefix + 'image': cv2.imencode('.jpg', image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1],
        prefix + 'size': np.array([camera.width, camera.height]),
        prefix + 'intrinsics': np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
        prefix + 'model': np.array(camera.model),
        prefix + 'distortion': camera.distortion,
        prefix + 'rotation': camera.rotation,
    }


def _image_of(content: Mapping[str, np.ndarray], prefix: str) -> tuple[np.ndarray, Camera]:
    """The image and its camera that ``_image_parts`` laid out."""
    width, height = (int(value) for value in content[prefix + 'size'])
    fx, fy, cx, cy = (float(value) for value in content[prefix + 'intrinsics'])
    camera = Camera(
        width,
        height,
        fx,
        fy,
        cx,
        cy,
        model=str(content[prefix + 'model']),
        distortion=content[prefix + 'distortion'],
        rotation=content[prefix + 'rotation'],
    )
    return cv2.cvtColor(cv2.imdecode(content[prefix + 'image'], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), camera
