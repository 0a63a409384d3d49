"""What came out of the experiment: a table, the claims one by one, and a plot; cells that are not done say so."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from depth_ros.errors import MissingDependencyError
from depth_ros.files import whole_file
from depth_ros_training.experiments.cells import Cell
from depth_ros_training.experiments.semi_supervised import FIGURES, LIDAR

_NAMES = {'supervised': 'supervised', 'self': 'self-supervised', 'semi': 'semi-supervised',
          'shuffled': 'semi-supervised, right images shuffled'}  # fmt: skip
_HEADS = {'abs_rel': 'AbsRel', 'rmse': 'RMSE (m)', 'mae': 'MAE (m)', 'delta1': 'δ1'}
_SCARCE = 20  # percent of the frames, up to which the paper's claim is about
_MISSING = 'missing'

Results = Mapping[str, Mapping[str, Any]]


def write_csv(cells: Sequence[Cell], found: Results) -> str:
    """All cells, a line each; figures of those that are not done are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    names = ['arm', 'mode', 'frames', 'points', 'seed']
    writer.writerow([*names, *FIGURES, 'steps', 'frames_with_lidar', 'test_frames', 'seconds'])
    for cell in cells:
        result = found.get(cell.name, {})
        more = [result.get(name, '') for name in ('steps', 'frames_with_lidar', 'test_frames', 'seconds')]
        writer.writerow([*(cell.facts[name] for name in names), *(result.get(name, '') for name in FIGURES), *more])
    return out.getvalue()


def markdown(cells: Sequence[Cell], found: Results, facts: Mapping[str, Any], command: str) -> str:
    """The table, the claims, and what all of it was made from."""
    arms = list(dict.fromkeys(cell.facts['arm'] for cell in cells))
    lines = [f'{len(found)} of {len(cells)} cells are done.', '']
    for arm in arms:
        data = facts['arms'][arm]
        lines += [
            f'### {arm}', '',
            f'Trained on {data["train"]["frames"]} frames of {len(data["train"]["recordings"])} recordings, judged on '
            f'{data["test"]["frames"]} frames of {len(data["test"]["recordings"])} others. Mean of the seeds, and in '
            'brackets from the best to the worst of them.', '',
            f'| lidar on | mode | seeds | {" | ".join(_HEADS.values())} |', f'|---|---|---|{"---|" * len(_HEADS)}',
        ]  # fmt: skip
        groups: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in cells:
            if cell.facts['arm'] == arm:
                key = tuple(cell.facts[name] for name in ('frames', 'points', 'mode'))
                groups.setdefault(key, []).append(cell)
        for key in sorted(groups, key=lambda key: (key[1] not in (0, 100), *key[:2])):
            done = [found[cell.name] for cell in groups[key] if cell.name in found]
            texts = [_spread([result[name] for result in done]) for name in _HEADS]
            seeds = f'{len(done)} of {len(groups[key])}'
            lines.append(f'| {_lidar(*key[:2])} | {_NAMES[key[2]]} | {seeds} | {" | ".join(texts)} |')
        lines += ['', *(f'- {text}' for text in claims(arm, cells, found)), '']
    more = facts.get('more_stereo')
    if more:
        lines += [
            f'Where right images are learned from, {more["frames"]} frames of {len(more["recordings"])} further '
            'recordings join, without lidar.', '',
        ]  # fmt: skip
    pace = facts['pace']
    seeds = ', '.join(map(str, range(facts['num_seeds'])))
    budget = '' if facts['steps_asked_for'] else (
        f'Budget: {facts["minutes"]:g} minutes with {facts["jobs"]} cells at a time. '
    )
    lines += [
        f'Made by `{command}`. Every cell: {facts["steps"]} steps of {facts["batch"]} crops, encoder '
        f'{facts["encoder"]}, the image alone as input, no choice by validation. Seeds {seeds} draw weights, samples '
        'and the frames with lidar. '
        f'{budget}A step takes {pace["step"]:.3f} s of one thread.'
    ]
    return '\n'.join(lines) + '\n'


def _lidar(frames: float, points: float) -> str:
    if not frames:
        return 'no frame'
    return f'{frames:g} % of the frames' + ('' if points == 100 else f', {points:g} % of the points')


def _spread(values: Sequence[float]) -> str:
    if not values:
        return _MISSING
    mean = f'{sum(values) / len(values):.3f}'
    return mean if len(values) == 1 else f'{mean} ({min(values):.3f} to {max(values):.3f})'


def claims(arm: str, cells: Sequence[Cell], found: Results) -> list[str]:
    """What the paper says, and in how many of the seeds that are done it is so."""

    def value(mode: str, frames: float, points: float, seed: int, name: str) -> float:
        for cell in cells:
            facts = cell.facts
            if (facts['arm'], facts['mode'], facts['frames'], facts['points'], facts['seed']) == (
                arm, mode, frames, points, seed,
            ):  # fmt: skip
                return found.get(cell.name, {}).get(name, math.nan)
        return math.nan

    seeds = sorted({cell.facts['seed'] for cell in cells})
    lines = []
    scarce = [(frames, points) for frames, points in LIDAR if frames <= _SCARCE and points == 100]
    lines.append(_count(
        f'semi-supervised is below supervised in AbsRel, lidar on {_SCARCE} % of the frames and less',
        [(value('semi', *lidar, s, 'abs_rel'), value('supervised', *lidar, s, 'abs_rel'))
         for lidar in scarce for s in seeds],
    ))  # fmt: skip
    lines.append(_count(
        'semi-supervised is below self-supervised in RMSE, whatever the lidar',
        [(value('semi', *lidar, s, 'rmse'), value('self', 0, 0, s, 'rmse')) for lidar in LIDAR for s in seeds],
    ))  # fmt: skip
    gains = []
    for frames, points in sorted(lidar for lidar in LIDAR if lidar[1] == 100):
        pairs = [(value('supervised', frames, points, s, 'abs_rel'), value('semi', frames, points, s, 'abs_rel'))
                 for s in seeds]  # fmt: skip
        some = [before - after for before, after in pairs if not math.isnan(before - after)]
        gains.append(f'{frames:g} %: {f"{sum(some) / len(some):+.3f}" if some else _MISSING}')
    lines.append(f'gain in AbsRel by lidar (the paper: it shrinks as lidar grows): {", ".join(gains)}')
    twenty = (_SCARCE, 100)
    lines.append(_count(
        f'with right images shuffled the gain at {_SCARCE} % is gone: not below supervised in AbsRel',
        [(value('supervised', *twenty, s, 'abs_rel'), value('shuffled', *twenty, s, 'abs_rel')) for s in seeds],
    ))  # fmt: skip
    eighth, whole = (12.5, 100), (100, 100)
    shares, level = [], 0
    for seed in seeds:
        few, some, many = (value('supervised', *eighth, seed, 'abs_rel'), value('semi', *eighth, seed, 'abs_rel'),
                           value('supervised', *whole, seed, 'abs_rel'))  # fmt: skip
        if few > many and not math.isnan(some):
            shares.append(f'{100 * (few - some) / (few - many):.0f} %')
        elif few <= many:
            level += 1
    lines.append(
        'of the gap in AbsRel between supervised with lidar on one frame in eight and on all of them, semi-supervised '
        f'recovers {", ".join(shares) or _MISSING} (by seed; at least 50 % is asked for)'
        + (f'; with {level} of {len(seeds)} seeds there is no gap' if level else '')
    )
    return lines


def _count(text: str, pairs: Sequence[tuple[float, float]]) -> str:
    """In how many pairs the first is at most the second."""
    known = [(low, high) for low, high in pairs if not math.isnan(low + high)]
    if not known:
        return f'{text}: {_MISSING}'
    missing = len(pairs) - len(known)
    return f'{text}: in {sum(low < high for low, high in known)} of {len(known)}' + (
        f', {missing} {_MISSING}' if missing else ''
    )


def plot(cells: Sequence[Cell], found: Results, path: Path) -> None:
    """Draw AbsRel and RMSE over the share of the frames with lidar, a row per arm.

    Args:
        cells: all cells.
        found: those that are done.
        path: PNG file.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError('the plot needs Matplotlib: pip install matplotlib') from error
    arms = list(dict.fromkeys(cell.facts['arm'] for cell in cells))
    figure = Figure(figsize=(10, 3.8 * len(arms)), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(arms), 2, squeeze=False)
    colors = {'supervised': '#e07b39', 'self': '#6b7680', 'semi': '#0b6bcb', 'shuffled': '#c0475b'}
    for row, arm in zip(axes, arms, strict=True):
        for axis, name in zip(row, ('abs_rel', 'rmse'), strict=True):
            for mode, color in colors.items():
                points: dict[float, list[float]] = {}
                for cell in cells:
                    of_line = cell.facts['arm'] == arm and cell.facts['mode'] == mode
                    if of_line and cell.facts['points'] in (0, 100) and cell.name in found:
                        points.setdefault(cell.facts['frames'], []).append(found[cell.name][name])
                if not points:
                    continue
                if mode == 'self':
                    axis.axhline(sum(points[0]) / len(points[0]), color=color, ls='--', lw=1.5, label=_NAMES[mode])
                    axis.axhspan(min(points[0]), max(points[0]), color=color, alpha=0.15, lw=0)
                    continue
                x = sorted(points)
                means = [sum(points[share]) / len(points[share]) for share in x]
                marker = 's' if mode == 'shuffled' else 'o'
                axis.plot(x, means, f'{marker}-', color=color, lw=2, ms=6, label=_NAMES[mode])
                axis.plot(
                    [share for share in x for _ in points[share]], [value for share in x for value in points[share]],
                    '.', color=color, ms=4, alpha=0.6,
                )  # fmt: skip
            axis.set_xscale('log')
            ticks = sorted({frames for frames, share in LIDAR if share == 100})
            axis.set_xticks(ticks, [f'{tick:g}' for tick in ticks], minor=False)
            axis.set_xticks([], minor=True)
            axis.set_xlim(0.8, 125)
            axis.set_xlabel('frames with lidar (%)')
            axis.set_ylabel(_HEADS[name])
            axis.set_title(arm, fontsize=10)
            axis.grid(alpha=0.3)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
