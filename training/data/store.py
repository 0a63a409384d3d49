"""Samples in files, one per sample: quick to read in any order, compact, and without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from depth_ros.errors import OutputError, RecordingError
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
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'cannot write samples to {str(folder)!r}: {error.strerror}') from error
        if (self._folder / _INDEX).exists():
            raise OutputError(f'{str(folder)!r} holds samples already; choose another folder')

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            _write(self._folder / _INDEX, json.dumps(self._index, indent=0).encode())

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
        path = self._folder / name
        try:
            with open(path.with_suffix('.part'), 'wb') as file:
                np.savez(file, **parts)
            os.replace(path.with_suffix('.part'), path)
        except OSError as error:
            path.with_suffix('.part').unlink(missing_ok=True)
            raise OutputError(f'cannot write {str(path)!r}: {error.strerror}') from error
        self._index.append({'file': name, 'name': sample.name, 'recording': sample.recording})


class SampleFolder(Sequence):
    """Samples of a folder, read when asked for.

    Attributes:
        groups: the samples by recording.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            RecordingError: there is no complete folder of samples.
        """
        self._folder = Path(folder)
        try:
            self._index = json.loads((self._folder / _INDEX).read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise RecordingError(f'{str(folder)!r} is no complete folder of samples: {error}') from error
        by_recording: dict[str, list[int]] = {}
        for number, entry in enumerate(self._index):
            by_recording.setdefault(entry['recording'], []).append(number)
        self.groups: list[Sequence[Sample]] = [_Part(self, numbers) for numbers in by_recording.values()]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> Sample:
        entry = self._index[number]
        path = self._folder / entry['file']
        try:
            with np.load(path, allow_pickle=False) as parts:
                content = {key: parts[key] for key in parts.files}
        except (OSError, ValueError, EOFError) as error:
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


def _write(path: Path, content: bytes) -> None:
    try:
        path.with_suffix('.part').write_bytes(content)
        os.replace(path.with_suffix('.part'), path)
    except OSError as error:
        raise OutputError(f'cannot write {str(path)!r}: {error.strerror}') from error
