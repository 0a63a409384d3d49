"""``depth_ros_training inspect``: what is in a dataset, and a contact sheet of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.errors import RecordingError, SettingsError
from depth_ros.files import check_file
from depth_ros_training.data.contact_sheet import SHEET, write_contact_sheet
from depth_ros_training.data.dataset import DatasetFolder, Index, lost_files, read_depth

_MEANING = 'L lidar, U no lidar, P stereo partner, T neighbours in time with motion'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('dataset', type=Path, metavar='DATASET', help='folder that `depth_ros_training prepare` wrote')
    sheet = parser.add_mutually_exclusive_group()
    sheet.add_argument(
        '--sheet', type=Path, metavar='PNG', help=f'where the contact sheet goes (default: {SHEET} in DATASET)'
    )
    sheet.add_argument('--no-sheet', action='store_true', help='draw none')
    parser.add_argument('--overwrite', action='store_true', help='replace the file that --sheet names')
    parser.add_argument('--check', action='store_true', help='read every file, not only look whether it is there')


def run(arguments: argparse.Namespace) -> None:
    """Print what is there, and draw.

    Raises:
        SettingsError: the sheet is to be no PNG, or there is none to replace.
        RecordingError: a file of the dataset is missing or damaged.
        OutputError: the sheet cannot be written, or must not be where it is to go.
    """
    dataset = DatasetFolder(arguments.dataset)
    _check_sheet(arguments, dataset)
    _check(dataset, arguments.check)
    for line in describe(dataset.index):
        print(line)
    if not arguments.no_sheet:
        sheet = arguments.sheet or arguments.dataset / SHEET
        write_contact_sheet(dataset, sheet)
        print(f'\ncontact sheet: {sheet}')


def _check_sheet(arguments: argparse.Namespace, dataset: DatasetFolder) -> None:
    if arguments.sheet is None:
        if arguments.overwrite:
            raise SettingsError('--overwrite replaces a picture; name it with --sheet')
        return
    if arguments.sheet.suffix.lower() != '.png':
        raise SettingsError(f'--sheet is {str(arguments.sheet)!r}, expected a name that ends in .png')
    recordings = [dataset.index.folder / name for name in dataset.index.head['recordings']]
    check_file(arguments.sheet, arguments.overwrite, recordings)


def _check(dataset: DatasetFolder, read: bool) -> None:
    lost = lost_files(dataset.index.folder, dataset.index.frames)
    if lost:
        more = f' and {len(lost) - 1} more' if len(lost) > 1 else ''
        raise RecordingError(
            f'dataset {str(dataset.index.folder)!r} lacks {lost[0]}{more}; prepare it again, which makes that anew'
        )
    if read:
        for number in range(len(dataset)):
            sample, entry = dataset[number], dataset.entry(number)
            for name in ('velodyne_raw', 'truth'):  # which samples are not made of
                if name in entry:
                    read_depth(dataset.index.folder / entry[name], sample.camera.shape)


def describe(index: Index) -> Iterator[str]:
    """Yield the lines of the answer."""
    frames = index.frames
    recordings = index.head['recordings']
    yield f'{index.folder}: {len(frames)} frames of {len(recordings)} recordings, fingerprint {index.fingerprint}'
    yield f'classes   {_counts(entry["classes"] for entry in frames)}   ({_MEANING})'
    yield f'splits    {_counts(entry["split"] or "gap" for entry in frames)}   ({index.head["split"]})'
    yield ''
    names = ['all', *recordings] if len(recordings) > 1 else list(recordings)
    width = max(len(name) for name in names)
    yield (
        f'{"recording":{width}}  {"frames":>6}  {"lidar":>6}  {"right":>6}  {"motion":>6}  {"rings":>5}  '
        f'{"points":>7}  {"depth 1, 50, 99 %":>20}  {"lidar":>6}  {"superv.":>7}  poses'
    )
    for name in names:
        some = [entry for entry in frames if name in ('all', entry['recording'])]
        poses = '' if name == 'all' and len(names) > 1 else recordings[name]['poses']
        yield f'{name:{width}}  {_figures(some)}  {poses}'
    yield from _filter_lines(frames)
    yield from _problem_lines(index)


def _counts(values: Iterator[str]) -> str:
    return ', '.join(f'{name} {count}' for name, count in sorted(Counter(values).items()))


def _figures(frames: list[dict[str, Any]]) -> str:
    lidar = [entry for entry in frames if 'points' in entry]
    right = sum('P' in entry['classes'] for entry in frames)
    motion = sum('T' in entry['classes'] for entry in frames)
    start = f'{len(frames):6d}  {len(lidar):6d}  {right:6d}  {motion:6d}'
    if not lidar:
        return f'{start}  {"-":>5}  {"-":>7}  {"-":>20}  {"-":>6}  {"-":>7}'
    rings, points = (int(np.median([entry[key] for entry in lidar])) for key in ('num_rings', 'num_points'))
    near, middle, far = np.median([entry['depth'] for entry in lidar], axis=0)
    raw, dense = 100 * np.mean([entry['density'] for entry in lidar], axis=0)
    depths = f'{near:.1f}, {middle:.1f}, {far:.1f} m'
    return f'{start}  {rings or "-":>5}  {points:7d}  {depths:>20}  {raw:4.1f} %  {dense:5.1f} %'


def _filter_lines(frames: list[dict[str, Any]]) -> Iterator[str]:
    """How well moved and hidden points were left out, where simulated recordings carry the exact depth."""
    judged = [entry['filter'] for entry in frames if 'filter' in entry]
    if not judged:
        return
    removed, kept, own = np.sum(judged, axis=0)
    wrong, all_wrong = removed[1:].sum(), removed[1:].sum() + kept[1:].sum()
    yield ''
    yield f'filter of neighbouring sweeps, by the exact depth of {len(judged)} frames (right: within 3 % + 0.1 m)'
    yield f'  points that are right        {_share(removed[0] + kept[0], removed.sum() + kept.sum())}'
    yield f'  of those kept                {_share(kept[0], kept.sum())}'
    yield f'  of the sweep of the moment   {_share(own[0], own.sum())}'
    yield f'  right points kept            {_share(kept[0], kept[0] + removed[0])}'
    yield f'  wrong points left out        {_share(wrong, all_wrong)} (recall)'
    yield f'    too near, as what moved    {_share(removed[1], removed[1] + kept[1])}'
    yield f'    too far, as what is hidden {_share(removed[2], removed[2] + kept[2])}'
    yield f'  wrong of those left out      {_share(wrong, removed.sum())} (precision)'


def _share(part: float, whole: float) -> str:
    return f'{100 * part / whole:.1f} %' if whole else '-'


def _problem_lines(index: Index) -> Iterator[str]:
    lines = []
    for name, facts in index.head['recordings'].items():
        fits = facts['edge_agreement']
        if fits['problem']:
            lines.append(f'{name}: {fits["problem"]}')
        lines += [f'{name}: {text} ({count} times)' for text, count in facts['counts'].items()]
    if lines:
        yield ''
        yield 'missing or wrong'
        yield from (f'  {line}' for line in lines)
