"""Sources of samples, and the endless, reproducible stream of views that training takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from depth_ros.errors import SettingsError
from depth_ros_training.data.importers import read_frame, read_split, recordings
from depth_ros_training.data.sample import Sample
from depth_ros_training.data.store import SampleFolder
from depth_ros_training.data.views import make_view
from depth_ros_training.settings import TrainingSettings

Batch = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Source:
    """Samples with a share of the stream.

    Attributes:
        text: as the settings name it.
        weight: share of the samples, relative to that of the others.
        samples: the samples; read when they are asked for.
    """

    text: str
    weight: float
    samples: Sequence[Sample]


def read_source(text: str, root: Path) -> Source:
    """Open one source.

    Args:
        text: ``WEIGHT KIND PATH [SPLIT]`` as in ``data.sources``.
        root: folder that relative paths start from.

    Returns:
        The source.

    Raises:
        SettingsError: the text has another form.
        RecordingError: a frame, split or sample cannot be read.
    """
    words = text.split()
    try:
        weight, kind, path, split = float(words[0]), words[1], root / words[2], ' '.join(words[3:])
    except (IndexError, ValueError):
        weight, kind, path, split = 0.0, '', root, ''
    if kind == 'frames' and split:
        return Source(text, weight, [read_frame(folder) for folder in read_split(path, split)])
    if kind == 'samples' and not split:
        return Source(text, weight, SampleFolder(path))
    raise SettingsError(
        f"data source is {text!r}, expected 'WEIGHT frames SPLITS_FILE SPLIT' or 'WEIGHT samples FOLDER'"
    )


def read_data(settings: TrainingSettings, root: Path) -> tuple[list[Source], list[Sample]]:
    """Open all data of a configuration.

    Args:
        settings: group ``data``.
        root: folder that relative paths start from.

    Returns:
        sources: what is trained on.
        validation: what is validated on: ``data.validation``, and the recordings held out of the sources.

    Raises:
        SettingsError: a source has another form, or a recording to be held out is in none.
        RecordingError: something cannot be read.
    """
    sources = [read_source(text, root) for text in settings.data.sources]
    validation = [sample for text in settings.data.validation for sample in read_source(text, root).samples]
    if not settings.data.held_out:
        return sources, validation
    kept, held_out = [], set()
    for source in sources:
        groups = recordings(source.samples)
        for name in settings.data.held_out:
            if name in groups:
                held_out.add(name)
                validation += groups.pop(name)
        kept.append(Source(source.text, source.weight, [sample for group in groups.values() for sample in group]))
    missing = sorted(set(settings.data.held_out) - held_out)
    if missing:
        raise SettingsError(f'recordings to be held out are in no source: {", ".join(missing)}')
    return kept, validation


class ViewDataset(Dataset):
    """Views by number: view n is a function of the seed and n alone, whatever process makes it."""

    def __init__(self, sources: Sequence[Source], settings: TrainingSettings) -> None:
        """Take sources.

        Raises:
            SettingsError: there is nothing to train on.
        """
        self._groups = []
        for source in sources:
            groups = (
                list(recordings(source.samples).values()) if isinstance(source.samples, list) else source.samples.groups
            )
            self._groups.append(groups)
        weights = np.array([source.weight for source in sources])
        if (
            not len(weights)
            or weights.sum() <= 0
            or any(weight > 0 and not groups for weight, groups in zip(weights, self._groups, strict=True))
        ):
            raise SettingsError('data.sources name nothing to train on, or one of them is empty')
        self._shares = weights / weights.sum()
        self._settings = settings
        self._shape = settings.data.crop_height, settings.data.crop_width

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """View ``number``, a recording drawn first and then a sample of it, so that long recordings count no more."""
        rng = np.random.default_rng([self._settings.run.seed, number])
        groups = self._groups[rng.choice(len(self._shares), p=self._shares)]
        group = groups[rng.integers(len(groups))]
        view = make_view(group[rng.integers(len(group))], self._shape, self._settings.view, rng)
        return {
            'image': np.ascontiguousarray(view.input.image.transpose(2, 0, 1)),
            'rays': view.input.rays,
            'guide': view.input.guide,
            'target': view.target[None],
            'scale': np.float32(view.input.scale),
            'dense': np.float32(view.dense),
            'number': np.int64(number),
        }


class StepSampler(Sampler):
    """Numbers of the views of one epoch, for one of several processes.

    Epoch e of n steps of a global batch b covers the views e n b ... (e + 1) n b - 1; process r of p takes every
    p-th. So
    a run that resumes at an epoch, or that has another number of processes, sees the same views at the same step.
    """

    def __init__(self, steps: int, batch: int, rank: int, processes: int) -> None:
        self._count, self._rank, self._processes = steps * batch, rank, processes
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count // self._processes

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._count
        return iter(range(first + self._rank, first + self._count, self._processes))


def limit_threads(_: int) -> None:
    """Give a loader process one thread: there is one process per core already."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
