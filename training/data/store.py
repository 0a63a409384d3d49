"""Samples in files, one per sample: quick to read in any order, compact, and without pickle."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from depth_ros.errors import OutputError, RecordingError
from depth_ros.files import output_errors, whole_file
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera
from depth_ros_training.data.sample import Sample

_INDEX = 'index.json'
_JPEG_QUALITY = 95


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

    def add(self, sample: Sample) -> None:
        """Write one sample.

        Raises:
            OutputError: the disk is full or not writable; nothing half-written is left.
        """
        name = f'{len(self._index):06d}.npz'
        camera = sample.camera
        parts = {
            'image': cv2.imencode('.jpg', sample.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1],
            'size': np.array([camera.width, camera.height]),
            'intrinsics': np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            'model': np.array(camera.model),
            'distortion': camera.distortion,
            'rotation': camera.rotation,
            'u': sample.points.u,
            'v': sample.points.v,
            'depth': sample.points.depth,
            'index': sample.points.index,
            'slide': sample.points.slide.astype(np.float16),
            'ring': sample.ring,
            'metric': np.array(sample.metric),
        }
        if sample.truth is not None:
            parts['truth'] = sample.truth.astype(np.float16) if np.nanmax(sample.truth) < 6e4 else sample.truth
        with whole_file(self._folder / name) as path, open(path, 'wb') as file:
            np.savez(file, **parts)
        self._index.append({'file': name, 'name': sample.name, 'recording': sample.recording})


class SampleFolder(Sequence):
    """Samples of a folder, read when asked for.

    Attributes:
        groups: the samples by recording.
        fingerprint: hash of the index.
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
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]
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
        width, height = (int(value) for value in content['size'])
        fx, fy, cx, cy = (float(value) for value in content['intrinsics'])
        camera = Camera(
            width,
            height,
            fx,
            fy,
            cx,
            cy,
            model=str(content['model']),
            distortion=content['distortion'],
            rotation=content['rotation'],
        )
        points = ProjectedPoints(
            content['u'], content['v'], content['depth'], content['index'], content['slide'].astype(np.float32)
        )
        image = np.ascontiguousarray(cv2.imdecode(content['image'], cv2.IMREAD_COLOR)[:, :, ::-1])
        truth = content['truth'].astype(np.float32) if 'truth' in content else None
        return Sample(
            entry['name'], entry['recording'], image, camera, points, content['ring'], truth, bool(content['metric'])
        )


class _Part(Sequence):
    """Some samples of a folder."""

    def __init__(self, folder: SampleFolder, numbers: list[int]) -> None:
        self._folder, self._numbers = folder, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Sample:
        return self._folder[self._numbers[number]]
