"""Does stereo help where lidar is scarce? The claim of Kuznietsov, Stueckler and Leibe 2017, at small scale.

A network that sees the image alone, as in the paper, learns from lidar on some of the frames, from the right images of
all frames, or from both; it is judged by exact depth on recordings that it never saw.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from depth_ros.errors import RecordingError, SettingsError
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.evaluation.metrics import MAX_DEPTH, DepthSums
from depth_ros.evaluation.metrics import sample as score_points
from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.settings import from_flat
from depth_ros.types import SparseDepth
from depth_ros_training.data.dataset import INDEX, DatasetFolder
from depth_ros_training.data.importers import read_frame, read_split
from depth_ros_training.data.sample import Sample, empty_points
from depth_ros_training.data.splits import evenly
from depth_ros_training.data.store import SampleFolder, SampleWriter, fingerprint
from depth_ros_training.engine.fit import fit
from depth_ros_training.experiments.cells import Cell
from depth_ros_training.experiments.small_samples import resize, stored_samples
from depth_ros_training.pace import Pace, measure_pace
from depth_ros_training.settings import TrainingSettings
from depth_ros_training.systems.semi_supervised import SemiSupervisedSystem

SPLITS_FILE = 'splits.json'
TRAIN_SPLIT, TEST_SPLIT = 'train', 'val_places'  # of the splits file
MODES = ('supervised', 'self', 'semi', 'shuffled')
FIGURES = ('abs_rel', 'rmse', 'mae', 'delta1')
# (share of the frames with lidar, share of their points), in percent; those that tell most come first.
LIDAR = ((20, 100), (12.5, 100), (100, 100), (5, 100), (1, 100), (100, 10), (100, 1))
_SHUFFLED = ((20, 100),)
_MAX_TRAIN, _MAX_TEST = 200, 60
_STEPS = 200, 6000  # least and most
_BUSY = 0.85  # share of the time that goes into steps; the rest starts, judges and writes
_BY_DEPTH = {'loss.berhu_depth': 1.0, 'loss.coarse': 0.2, 'loss.likelihood': 0.1}
_BY_IMAGES = {'loss.alignment': 2.0, 'loss.smoothness': 0.02}
# Differences from the defaults, weights as in config/training/semi_supervised.yaml. Nothing is chosen by validation:
# that would be supervision. The last weights count.
_SETTINGS: dict[str, Any] = {
    'data.validation': ['1 samples validation'],
    'data.crop_height': 64,
    'data.crop_width': 224,
    'data.batch': 2,  # many small steps: what is compared shows late
    'data.workers': 0,  # as many cells at a time as there are cores
    'view.min_zoom': 0.9,
    'view.max_zoom': 1.2,
    'view.no_lidar': 1.0,  # the network sees the image alone, all lidar points judge
    'view.virtual': 0.0,
    'loss.log_l1': 0.0,
    'loss.depth_l1': 0.0,
    'loss.depth_l2': 0.0,
    'loss.gradient': 0.0,
    'loss.coarse': 0.0,
    'loss.likelihood': 0.0,
    'self_supervision.fade_in': 10.0,
    'self_supervision.neighbors': 0,
    'self_supervision.levels': 4,  # ours; the paper aligns at one size
    'optimizer.learning_rate': 0.0004,
    'optimizer.average': 0.99,
    'run.system': 'semi_supervised',
    'run.keep': 1,
    'run.pictures': 0,
    'run.threads': 1,
}


@dataclass(frozen=True)
class Arm:
    """Recordings of one kind.

    Attributes:
        name: of the arm.
        path: a prepared dataset of simulated bags, or a folder with a splits file of real frames.
    """

    name: str
    path: Path


def find_arms(paths: Sequence[Path]) -> list[Arm]:
    """Say what there is to learn from.

    Raises:
        RecordingError: a folder is neither a dataset nor one with a splits file.
        SettingsError: two have one name.
    """
    arms = []
    for path in paths:
        if (path / INDEX).is_file():
            arms.append(Arm(path.resolve().name, path))
        elif (path / SPLITS_FILE).is_file():
            arms.append(Arm('real', path))
        else:
            raise RecordingError(
                f'{str(path)!r} is neither a dataset (`depth_ros_training prepare`) nor a folder with {SPLITS_FILE}'
            )
    if len({arm.name for arm in arms}) < len(arms):
        raise SettingsError(f'two of the data folders have one name: {", ".join(arm.name for arm in arms)}')
    return arms


def make_cells(arms: Sequence[Arm], num_seeds: int) -> list[Cell]:
    """All cells, those that tell most first: 20 % lidar in all modes with all seeds, and the control."""
    cells = []
    for place, (frames, points) in enumerate(LIDAR):
        modes = ['supervised', 'semi']
        if place == 0:
            modes.insert(1, 'self')  # for which lidar makes no difference
        if (frames, points) in _SHUFFLED:
            modes.append('shuffled')
        for arm in arms:
            for seed in range(num_seeds):
                for mode in modes:
                    lidar = (0, 0) if mode == 'self' else (frames, points)
                    name = f'{arm.name}_{mode}_f{lidar[0]:g}_p{lidar[1]:g}_s{seed}'
                    facts = {'arm': arm.name, 'mode': mode, 'frames': lidar[0], 'points': lidar[1], 'seed': seed}
                    cells.append(Cell(name, facts))
    return cells


def store_arm(arm: Arm, out: Path) -> dict[str, Any]:
    """Bring the images of an arm to the size of the experiment, once.

    Returns:
        What is in it: ``train`` and ``test`` with counts, recordings and fingerprints.

    Raises:
        RecordingError: nothing can be trained or judged on, or something cannot be read.
        OutputError: it cannot be written.
    """
    facts: dict[str, Any] = {'path': str(arm.path)}
    for part in ('train', 'test'):
        read = functools.partial(_samples, arm.path, part)
        stored = stored_samples(out / 'data' / arm.name / part, _fingerprint(arm.path, part), read)
        if not len(stored):
            what = 'a right image and lidar to train on' if part == 'train' else 'exact depth to judge by'
            raise RecordingError(f'no frame of {str(arm.path)!r} has {what}')
        facts[part] = {
            'frames': len(stored), 'recordings': sorted(stored.groups), 'fingerprint': stored.fingerprint,
        }  # fmt: skip
    _keep_apart(
        facts['train']['recordings'], facts['test']['recordings'], arm.path,
        'split by recording (`depth_ros_training prepare --split recording`)',
    )  # fmt: skip
    return facts


def more_stereo(paths: Sequence[Path], stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Look at datasets whose frames with a right image are to join what all arms learn from images.

    Args:
        paths: prepared datasets; frames of all their splits count, since none of them judges.
        stored: what ``store_arm`` says of each arm.

    Returns:
        ``datasets`` (path to fingerprint), ``frames``, ``recordings``.

    Raises:
        RecordingError: a folder is no dataset, has too few frames with a right image, or one that judges an arm.
        SettingsError: a dataset is named twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise SettingsError(f'a dataset of {", ".join(map(str, paths))} is named twice, expected each once')
    facts: dict[str, Any] = {'datasets': {}, 'frames': 0, 'recordings': []}
    for path in paths:
        dataset = DatasetFolder(path)
        pairs = _pairs(dataset)
        if len(pairs) < 2:  # the control gives each the right image of another one
            raise RecordingError(f'{len(pairs)} frames of {str(path)!r} have a right image, expected at least 2')
        names = sorted({dataset.entry(number)['recording'] for number in pairs})
        for arm, of_arm in stored.items():
            _keep_apart(names, of_arm['test']['recordings'], path, f'leave out what {arm} is judged on')
        facts['datasets'][str(path)] = dataset.fingerprint
        facts['frames'] += len(pairs)
        facts['recordings'] += names
    return facts


def store_more_stereo(paths: Sequence[Path], out: Path) -> Path:
    """Bring the frames with a right image of some datasets to the size of the experiment, once.

    Args:
        paths: the datasets.
        out: folder of the experiment; ``claim`` sees to it that they are always the same.

    Returns:
        Folder of the samples, which have neither lidar nor true depth.

    Raises:
        RecordingError: an image cannot be read.
        OutputError: they cannot be written.
    """
    folder = out / 'data' / 'more_stereo'
    of = ' '.join(DatasetFolder(path).fingerprint for path in paths)
    stored_samples(folder, of, functools.partial(_blind_pairs, paths))
    return folder


def _blind_pairs(paths: Sequence[Path]) -> Iterator[Sample]:
    for path in paths:
        dataset = DatasetFolder(path)
        for number in _pairs(dataset):
            yield _blind(dataclasses.replace(dataset[number], truth=None, exact=False))


def _pairs(dataset: DatasetFolder) -> list[int]:
    return [number for number in range(len(dataset)) if 'P' in dataset.entry(number)['classes']]


def _keep_apart(training: Sequence[str], judging: Sequence[str], path: Path, todo: str) -> None:
    both = sorted(set(training) & set(judging))
    if both:
        raise RecordingError(f'{", ".join(both)} of {str(path)!r} would train and judge; {todo}')


def _fingerprint(path: Path, part: str) -> str:
    if (path / INDEX).is_file():
        return DatasetFolder(path, part, exact=True).fingerprint
    return fingerprint(_split_folders(path, part))


def _split_folders(path: Path, part: str) -> list[Path]:
    return read_split(path / SPLITS_FILE, TRAIN_SPLIT if part == 'train' else TEST_SPLIT)


def _samples(path: Path, part: str) -> list[Sample]:
    if (path / INDEX).is_file():
        # What other sweeps say would tell of frames that are to have no lidar.
        dataset = DatasetFolder(path, part, exact=True)
        wanted = [k for k in range(len(dataset)) if part == 'test' or {'L', 'P'} <= set(dataset.entry(k)['classes'])]
        most = _MAX_TRAIN if part == 'train' else _MAX_TEST
        return [dataset[wanted[place]] for place in evenly(len(wanted), most)]
    needed = ('points.npz', 'right.jpg') if part == 'train' else ('gt_disp.png',)
    folders = _split_folders(path, part)
    return [read_frame(folder) for folder in folders if all((folder / name).exists() for name in needed)]


def training_samples(samples: Sequence[Sample], facts: Mapping[str, Any]) -> list[Sample]:
    """What a cell learns from: exact depth is gone, and lidar and right images are as the cell has them.

    Frames and points with lidar are drawn by the seed; fewer of them are a part of more of them.

    Args:
        samples: all frames.
        facts: of the cell.

    Returns:
        The samples. Supervised training gets the frames with lidar alone: others would only cost it steps.
    """
    mode, seed = facts['mode'], facts['seed']
    order = np.random.default_rng([seed, 0]).permutation(len(samples))
    with_lidar = set(order[: math.ceil(len(samples) * facts['frames'] / 100 - 1e-9)].tolist())
    # A cycle through all frames: none keeps its own right image.
    cycle = np.random.default_rng([seed, 1]).permutation(len(samples))
    partner = dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
    chosen = []
    for number, sample in enumerate(samples):
        sample = dataclasses.replace(sample, truth=None, exact=False)
        if number in with_lidar:
            share = np.random.default_rng([seed, 2, number]).random(len(sample.points))
            kept = share < facts['points'] / 100
            sample = dataclasses.replace(sample, points=sample.points.take(kept), ring=sample.ring[kept])
        elif mode == 'supervised':
            continue
        else:
            sample = _blind(sample)
        if mode == 'shuffled':
            right, foreign = sample.others[0], samples[partner[number]].others[0]
            image = resize(foreign.image, right.camera)
            sample = dataclasses.replace(sample, others=(dataclasses.replace(right, image=image),))
        chosen.append(sample)
    return chosen


def _blind(sample: Sample) -> Sample:
    return dataclasses.replace(sample, points=empty_points(), ring=np.zeros(0, np.int16))


def divided(chosen: Sequence[Sample], more: Sequence[Sample] = ()) -> dict[str, list[Sample]]:
    """Divide the samples of a cell into ``labelled`` ones and ``unlabelled`` ones, which are without lidar.

    Where all have lidar, the unlabelled ones are the same without: so modes differ in what lidar tells, and not in how
    much images count beside it. Those of ``--more-stereo`` join them and never take their place: with lidar on all
    frames a cell would else learn from right images of others alone.

    Args:
        chosen: samples of the arm, as the cell has them.
        more: those of ``--more-stereo``, likewise.

    Returns:
        The two parts.
    """
    labelled = [sample for sample in chosen if len(sample.points)]
    unlabelled = [sample for sample in chosen if not len(sample.points)]
    return {'labelled': labelled, 'unlabelled': [*(unlabelled or [_blind(sample) for sample in labelled]), *more]}


def _folders(facts: Mapping[str, Any]) -> list[str]:
    """Where the samples of a cell are, half of them each: ``labelled`` have lidar."""
    names = []
    if facts['mode'] != 'self':
        names.append('labelled')
    if facts['mode'] != 'supervised':
        names.append('unlabelled')
    return names


def cell_settings(facts: Mapping[str, Any], steps: int, encoder: str, changes: Mapping[str, Any]) -> TrainingSettings:
    """Settings of a cell.

    Args:
        facts: of the cell.
        steps: how many.
        encoder: ``network.encoder``; one with published weights starts from them, as the paper's does.
        changes: further differences.
    """
    by_depth, by_images = facts['mode'] != 'self', facts['mode'] != 'supervised'
    # Lidar in half of the samples, however many frames have it; else a tenth of the steps would see any.
    sources = [f'1 samples {name}' for name in _folders(facts)]
    values = {
        **_SETTINGS,
        'data.sources': sources,
        'network.encoder': encoder,
        'network.pretrained': encoder != 'conv',
        **(_BY_DEPTH if by_depth else {}),
        **(_BY_IMAGES if by_images else {}),
        'optimizer.warmup_steps': min(100, steps // 4),
        'run.steps': steps,
        'run.steps_per_epoch': -(-steps // 3),
        'run.seed': facts['seed'],
        **changes,
    }
    return from_flat(values, TrainingSettings())


def measure(arm: Arm, out: Path, encoder: str, changes: Mapping[str, Any]) -> Pace:
    """How long a step of the costliest mode takes here, with one thread."""
    facts = {'mode': 'semi', 'frames': 100, 'points': 100, 'seed': 0}
    folder = out / 'data' / arm.name / 'pace'
    _write(folder, SampleFolder(out / 'data' / arm.name / 'train'), facts)
    return measure_pace(SemiSupervisedSystem, cell_settings(facts, 100, encoder, changes), folder)


def num_steps(pace: Pace, minutes: float, jobs: int, num_cells: int) -> int:
    """Steps per cell, for all cells to fit into the time."""
    return int(np.clip(_BUSY * 60 * minutes * jobs / (num_cells * pace.step), *_STEPS))


def run_cell(
    cell: Cell, folder: Path, out: Path, steps: int, encoder: str, changes: Mapping[str, Any], more: Path | None = None
) -> dict:
    """Train a cell, or go on with it, and judge it.

    Args:
        cell: the cell.
        folder: its folder.
        out: folder of the experiment.
        steps: how many.
        encoder: ``network.encoder``.
        changes: further differences of the settings.
        more: samples of ``store_more_stereo``, which join those of the arm.

    Returns:
        ``FIGURES`` over all pixels with exact depth up to 80 m, and what they were made from.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    data = out / 'data' / cell.facts['arm']
    further = SampleFolder(more) if more else ()
    with_lidar = _write(folder, SampleFolder(data / 'train'), cell.facts, further)
    settings = cell_settings(cell.facts, steps, encoder, changes)
    fit(SemiSupervisedSystem, settings, folder, folder / 'run', progress=False)
    network, header = load_checkpoint(folder / 'run' / 'last.safetensors')
    test = SampleFolder(data / 'test')
    figures = judge(NetworkEstimator.of(network), test)
    # Samples and the state to resume from take a hundred times the space of what came of them.
    for name in ('labelled', 'unlabelled', 'validation', 'run/state'):
        shutil.rmtree(folder / name, ignore_errors=True)
    return {**figures, 'steps': header['step'], 'frames_with_lidar': with_lidar, 'test_frames': len(test)}


def _write(
    folder: Path, samples: Sequence[Sample], facts: Mapping[str, Any], more: Sequence[Sample] = ()
) -> int:
    """Write the samples of a cell; returns how many have lidar."""
    samples = [samples[number] for number in range(len(samples))]
    without_lidar = {**facts, 'frames': 0, 'points': 0}
    parts = {
        **divided(training_samples(samples, facts), training_samples(more, without_lidar)),
        # Training wants something to validate on; nothing is chosen by it.
        'validation': [dataclasses.replace(_with_rings(samples), others=())],
    }
    for name in (*_folders(facts), 'validation'):
        if not (folder / name / 'index.json').is_file():
            with SampleWriter(folder / name) as writer:
                for sample in parts[name]:
                    writer.add(sample)
    return len(parts['labelled'])


def _with_rings(samples: Sequence[Sample]) -> Sample:
    found = next((sample for sample in samples if len(sample.ring) and sample.ring.min() >= 0), None)
    if found is None:
        raise RecordingError('no training frame has a lidar whose rings are known, expected at least one')
    return dataclasses.replace(found, truth=None, exact=False)


def judge(estimator: NetworkEstimator, samples: Sequence[Sample]) -> dict[str, float]:
    """Figures of a network that gets the image alone, over all pixels of all images with exact depth up to 80 m."""
    total = DepthSums()
    for number in range(len(samples)):
        sample = samples[number]
        nothing = np.zeros(0, np.float32)
        sparse = SparseDepth(nothing, nothing, nothing, nothing, sample.camera.shape)
        depth, std = estimator.estimate(sample.frame(), sparse)
        points = sample.true_points()
        total = total + score_points(depth, std, points, MAX_DEPTH).sums()
    figures = total.metrics()
    return {name: figures[name] for name in FIGURES}
