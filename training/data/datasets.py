"""Sources of samples, and the endless, reproducible stream of views that training takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from depth_ros.errors import DepthRosError, RecordingError, SettingsError
from depth_ros_training.data.dataset import SPLITS, DatasetFolder
from depth_ros_training.data.importers import read_frame, read_split, recordings
from depth_ros_training.data.sample import Sample
from depth_ros_training.data.splits import evenly
from depth_ros_training.data.store import SampleFolder, fingerprint
from depth_ros_training.data.views import Others, View, make_view
from depth_ros_training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class Source:
    """Samples with a share of the stream.

    Attributes:
        text: as the settings name it.
        weight: share of the samples, relative to that of the others.
        groups: samples by recording; those of a folder are read when they are asked for.
        fingerprint: hash of what the source holds.
    """

    text: str
    weight: float
    groups: Mapping[str, Sequence[Sample]]
    fingerprint: str


def read_source(text: str, root: Path) -> Source:
    """Open one source.

    Args:
        text: ``WEIGHT KIND PATH [SPLIT] [exact]`` as in ``data.sources``.
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
    if not (math.isfinite(weight) and weight >= 0):
        raise SettingsError(f'data source is {text!r}: the weight is {weight:g}, expected 0 or more')
    if kind == 'frames' and split:
        folders = read_split(path, split)
        samples = [read_frame(folder) for folder in folders]
        return Source(text, weight, recordings(samples), fingerprint(folders))
    if kind == 'samples' and not split:
        folder = SampleFolder(path)
        return Source(text, weight, folder.groups, folder.fingerprint)
    exact = words[3:] and words[-1] == 'exact'
    part = split.removesuffix('exact').strip() if exact else split
    if kind == 'dataset' and part in ('', *SPLITS):
        dataset = DatasetFolder(path, part, bool(exact))
        return Source(text, weight, dataset.groups, dataset.fingerprint)
    raise SettingsError(
        f"data source is {text!r}, expected 'WEIGHT frames SPLITS_FILE SPLIT', 'WEIGHT samples FOLDER' or "
        "'WEIGHT dataset FOLDER [train|val|test] [exact]'"
    )


def read_data(settings: TrainingSettings, root: Path) -> tuple[list[Source], list[Sample], dict[str, str]]:
    """Open all data of a configuration.

    Args:
        settings: group ``data``.
        root: folder that relative paths start from.

    Returns:
        sources: what is trained on.
        validation: what is validated on: of ``data.validation`` and of the recordings held out of the sources at most
            ``data.validation_images`` each, without their other images.
        fingerprints: hash of what each source and each of ``data.validation`` holds, by its text.

    Raises:
        SettingsError: a source has another form, or a recording to be held out or left out is in none.
        RecordingError: something cannot be read.
    """
    sources = [read_source(text, root) for text in settings.data.sources]
    judges = [read_source(text, root) for text in settings.data.validation]
    left_out = set(settings.data.left_out)
    held_out = set(settings.data.held_out) - left_out
    missing = sorted((held_out | left_out).difference(*(source.groups for source in sources)))
    if missing:
        raise SettingsError(f'recordings to be held out or left out are in no source: {", ".join(missing)}')
    kept = [
        dataclasses.replace(
            source, groups={name: group for name, group in source.groups.items() if name not in held_out | left_out}
        )
        for source in sources
    ]
    some = [group for source in judges for group in source.groups.values()]
    others = [group for source in sources for name, group in source.groups.items() if name in held_out]
    validation = [
        dataclasses.replace(group[number], others=())
        for groups in (some, others)
        for group, number in _spread(groups, settings.data.validation_images)
    ]
    return kept, validation, {source.text: source.fingerprint for source in (*sources, *judges)}


def _spread(groups: Sequence[Sequence[Sample]], most: int) -> list[tuple[Sequence[Sample], int]]:
    """At most so many of all samples; none of them is read for that."""
    places = [(group, number) for group in groups for number in range(len(group))]
    return [places[place] for place in evenly(len(places), most)]


class SampleError(RecordingError):
    """A sample cannot be made.

    Loader processes hand errors on as a text with a traceback around it; this one finds its own line in that.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.rpartition(f'{type(self).__name__}: ')[2].strip())


class ViewDataset(Dataset):
    """Views by number: view n is a function of the seed and n alone, whatever process makes it."""

    def __init__(self, sources: Sequence[Source], settings: TrainingSettings, others: bool = False) -> None:
        """Take sources; ``others``: with the other images of the samples, for self-supervision.

        Raises:
            SettingsError: there is nothing to train on.
        """
        self._groups = [list(source.groups.values()) for source in sources]
        weights = np.array([source.weight for source in sources])
        if (
            not len(weights)
            or weights.sum() <= 0
            or any(weight > 0 and not groups for weight, groups in zip(weights, self._groups, strict=True))
        ):
            raise SettingsError('data.sources name nothing to train on, or one of them is empty')
        self._shares = weights / weights.sum()
        self._settings = settings
        self._others = settings.self_supervision if others else None
        self._informed = settings.loss.teacher > 0 and settings.network.teachers_see == 'all_points'
        self._shape = settings.data.crop_height, settings.data.crop_width

    def __getitem__(self, number: int) -> dict[str, Any]:
        """View ``number``, a recording drawn first and then a sample of it, so that long recordings count no more.

        Raises:
            SampleError: it cannot be made, of a damaged file for one.
        """
        try:
            return self._view(number)
        except DepthRosError as error:
            raise SampleError(str(error)) from error

    def _view(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng([self._settings.run.seed, number])
        groups = self._groups[rng.choice(len(self._shares), p=self._shares)]
        group = groups[rng.integers(len(groups))]
        sample = group[rng.integers(len(group))]
        view = make_view(sample, self._shape, self._settings.view, rng, self._others, self._informed)
        item = {**_arrays(view), 'number': np.int64(number)}
        return item if view.others is None else {**item, **_other_arrays(view.others, item)}


def _arrays(view: View) -> dict[str, np.ndarray]:
    arrays = {
        'image': view.input.image,
        'rays': view.input.rays,
        'guide': view.input.guide,
        'target': view.target[None],
        'scale': np.float32(view.input.scale),
        'dense': np.float32(view.dense),
        'sky': view.sky[None],
        'exact': np.float32(view.exact),
    }
    if view.informed is not None:
        # A depth of 1 of what the teachers say is so much of what this network says.
        unit = view.informed.scale / view.input.scale if view.metric else math.nan
        arrays |= {
            'informed_image': view.informed.image,
            'informed_guide': view.informed.guide,
            'informed_unit': np.float32(unit),
        }
    return arrays


def _other_arrays(others: Others, item: dict[str, np.ndarray]) -> dict[str, Any]:
    """What self-supervision needs; of a partner that there is not, zeros, so that all samples fit into one batch."""
    absent = others.partner is None
    partner = (
        {key: np.zeros_like(value) for key, value in item.items() if key != 'number'}
        if absent
        else _arrays(others.partner)
    )
    return {
        'clean': others.clean,
        'sources': {
            'images': others.sources.images,
            'intrinsics': others.sources.intrinsics,
            'transforms': others.sources.transforms,
            'present': others.sources.present,
        },
        'partner': partner,
    }


class StepSampler(Sampler):
    """Numbers of the views of one epoch, for one of several processes.

    Step s of a global batch b takes the views s b ... (s + 1) b - 1; process r of p takes every p-th of them. So a
    run that resumes, or that has another number of processes, sees the same views at the same step.
    """

    def __init__(self, steps: int, batch: int, rank: int, processes: int, done: Callable[[], int]) -> None:
        """Cover ``steps`` steps per epoch; ``done`` tells, when an epoch begins, how many steps have been made."""
        self._steps, self._batch, self._rank, self._processes, self._done = steps, batch, rank, processes, done

    def __len__(self) -> int:
        return self._steps * self._batch // self._processes

    def __iter__(self) -> Iterator[int]:
        first = self._done() * self._batch
        return iter(range(first + self._rank, first + self._steps * self._batch, self._processes))


def limit_threads(_: int) -> None:
    """Give a loader process one thread: there is one process per core already."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
