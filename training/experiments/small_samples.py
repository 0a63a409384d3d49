"""Samples at the size of an experiment, kept until their data change."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from depth_ros.errors import RecordingError
from depth_ros.files import whole_file
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.types import Camera
from depth_ros_training.data.sample import Sample, SourceImage
from depth_ros_training.data.store import SampleFolder, SampleWriter

WIDTH = 256
"""Pixels of the images that all of an experiment is done on."""


def stored_samples(folder: Path, of: str, read: Callable[[], Iterable[Sample]]) -> SampleFolder:
    """Samples at the size of the experiment; what is not there, or of other data, is read and written.

    Args:
        folder: where they are kept; beside it stands what they are of.
        of: fingerprint of the data.
        read: gives the samples at their own size.

    Raises:
        RecordingError: of ``read``.
        OutputError: they cannot be written.
    """
    said = folder.with_name(f'{folder.name}.txt')
    with suppress(RecordingError, OSError):
        if said.read_text(encoding='utf-8') == of:
            return SampleFolder(folder)
    samples = read()
    shutil.rmtree(folder, ignore_errors=True)
    with SampleWriter(folder) as writer:
        for sample in samples:
            writer.add(shrunk(sample, WIDTH))
    with whole_file(said) as path:
        path.write_text(of, encoding='utf-8')
    return SampleFolder(folder)


def shrunk(sample: Sample, width: int) -> Sample:
    """A sample at another size; images before and after are left out.

    Args:
        sample: the sample.
        width: of its image, pixels.

    Returns:
        The sample; true depth is picked, not averaged.
    """
    camera = _resized(sample.camera, width)
    zoom_u, zoom_v = camera.width / sample.camera.width, camera.height / sample.camera.height
    points, truth = sample.points, sample.truth
    moved = ProjectedPoints(
        (points.u + np.float32(0.5)) * np.float32(zoom_u) - np.float32(0.5),
        (points.v + np.float32(0.5)) * np.float32(zoom_v) - np.float32(0.5),
        points.depth, points.index, points.slide * np.array([zoom_u, zoom_v], np.float32),
    )  # fmt: skip
    if truth is not None:
        columns, rows = (
            np.clip(np.rint((np.arange(new) + 0.5) * old / new - 0.5).astype(np.int64), 0, old - 1)
            for new, old in ((camera.width, sample.camera.width), (camera.height, sample.camera.height))
        )
        truth = np.ascontiguousarray(truth[rows[:, None], columns[None, :]])
    others = tuple(
        SourceImage(
            resize(other.image, resized), resized, other.camera_from_reference, other.kind, other.offset_ns
        )
        for other in sample.others
        if other.kind == 'stereo'
        for resized in [_resized(other.camera, width)]
    )
    return dataclasses.replace(
        sample, image=resize(sample.image, camera), camera=camera, points=moved, truth=truth, others=others
    )


def _resized(camera: Camera, width: int) -> Camera:
    height = max(round(camera.height * width / camera.width), 1)
    zoom_u, zoom_v = width / camera.width, height / camera.height
    return dataclasses.replace(
        camera, width=width, height=height, fx=camera.fx * zoom_u, fy=camera.fy * zoom_v,
        cx=(camera.cx + 0.5) * zoom_u - 0.5, cy=(camera.cy + 0.5) * zoom_v - 0.5,
    )  # fmt: skip


def resize(image: np.ndarray, camera: Camera) -> np.ndarray:
    """An image at the size of a camera."""
    return cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
