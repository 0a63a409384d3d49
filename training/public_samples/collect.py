"""Which samples there are, and how to get them all."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from depth_ros.errors import RecordingError
from depth_ros.files import output_errors
from depth_ros_training.public_samples import nuscenes, pandaset, rellis, tri_dgp, view_of_delft


@dataclass(frozen=True)
class PublicSamples:
    """A few moments of one set of sensors.

    Attributes:
        repositories: where they are, OWNER/NAME on GitHub.
        write: writes the frames, given the folders of the repositories in this order and a folder for the frames.
    """

    repositories: tuple[str, ...]
    write: Callable[..., None]


SAMPLES = {
    'view_of_delft': PublicSamples(('tudelft-iv/view-of-delft-dataset',), view_of_delft.write),
    'pandaset': PublicSamples(
        ('shafiqulislamsumon/Pandaset_Point_Cloud_Semantic_Segmentation', 'scaleapi/pandaset-devkit'), pandaset.write
    ),
    'nuscenes': PublicSamples(('open-mmlab/mmdetection3d',), nuscenes.write),
    'rellis_os1': PublicSamples(('unmannedlab/RELLIS-3D',), rellis.write_os1),
    'rellis_ultra_puck': PublicSamples(('unmannedlab/RELLIS-3D',), rellis.write_ultra_puck),
    'tri_dgp': PublicSamples(('TRI-ML/dgp',), tri_dgp.write),
}


# What reading damaged files, or pointers in their place (Git LFS), ends with.
_DAMAGED = (
    LookupError, TypeError, ValueError, EOFError, FileNotFoundError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error,
    cv2.error,
)  # fmt: skip


def collect(clones: Path, out: Path, names: Sequence[str] = tuple(SAMPLES)) -> None:
    """Write samples as frames, ``out / NAME / FRAME``. Nothing of the repositories is run.

    Args:
        clones: folder with clones of the repositories, each under its name.
        out: folder; what is there of earlier calls stays as it is.
        names: some of ``SAMPLES``.

    Raises:
        RecordingError: a repository is not there, or not as expected.
        OutputError: a folder cannot be written.
    """
    for name in names:
        for repository in SAMPLES[name].repositories:
            clone = clones / Path(repository).name
            if not clone.is_dir():
                raise RecordingError(f'{clone} is not there; git clone https://github.com/{repository} {clone}')
    for name in names:
        target = out / name
        if target.exists():
            continue
        samples = SAMPLES[name]
        folders = [clones / Path(repository).name for repository in samples.repositories]
        with output_errors(target):
            out.mkdir(parents=True, exist_ok=True)
            # All of it or nothing: half a set would give figures of its own.
            with tempfile.TemporaryDirectory(prefix=f'.{name}_', dir=out) as work:
                frames = Path(work) / 'frames'
                try:
                    samples.write(*folders, frames)
                except _DAMAGED as error:
                    raise RecordingError(
                        f'{", ".join(map(str, folders))}: the samples of {name} are not as they were when this was '
                        f'written: {error}'
                    ) from error
                shutil.move(frames, target)
