"""``depth_ros_training experiment``: a grid of small trainings that shows whether what a paper claims holds here."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import json
import math
import sys
from pathlib import Path

from depth_ros.errors import MissingDependencyError, SettingsError
from depth_ros.estimators.parts import usable_cores
from depth_ros.files import whole_file
from depth_ros_training.cli.fit_command import change


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('experiment', choices=['semi_supervised'], help='which: Kuznietsov et al. 2017')
    parser.add_argument(
        '--data', type=Path, nargs='+', required=True, metavar='FOLDER',
        help='prepared datasets of simulated bags, and folders with a splits.json of real frames',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder; run it again to go on')
    parser.add_argument(
        '--more-stereo', type=Path, nargs='+', default=[], metavar='DATASET',
        help='prepared datasets; those of their frames that have a right image join, without lidar, where right images '
        'are learned from',
    )  # fmt: skip
    parser.add_argument(
        '--minutes', type=float, default=120.0, help='for all cells; says how many steps each gets (default: 120)'
    )
    parser.add_argument('--steps', type=int, default=0, metavar='N', help='steps per cell instead')
    parser.add_argument('--seeds', type=int, default=3, metavar='N', help='how many (default: 3)')
    parser.add_argument(
        '--encoder', default='efficientnet_lite0',
        help='image encoder, starting from published weights; conv = none (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument('--jobs', type=int, default=0, metavar='N', help='cells at a time (default: one per core)')
    parser.add_argument(
        '--cells', default='', metavar='N|PATTERN',
        help='only the first N, which tell most, or those with such names; the table holds what there is',
    )  # fmt: skip
    parser.add_argument('--list', action='store_true', help='only say which cells there are, and which are done')
    parser.add_argument('--set', action='append', default=[], metavar='GROUP.FIELD=VALUE', help='training setting')


def run(arguments: argparse.Namespace) -> None:
    """Run what is not done, then write the table and the plot of what there is."""
    for name, least in (('seeds', 1), ('steps', 0), ('jobs', 0)):
        if getattr(arguments, name) < least:
            raise SettingsError(f'--{name} is {getattr(arguments, name)}, expected at least {least}')
    if not 0 < arguments.minutes < math.inf:
        raise SettingsError(f'--minutes is {arguments.minutes}, expected a number above 0')
    try:
        from depth_ros_training.experiments import cells as grid
        from depth_ros_training.experiments import semi_supervised as experiment
    except ImportError as error:
        if isinstance(error, MissingDependencyError):
            raise
        raise MissingDependencyError(f"{error}; training needs more: pip install 'depth_ros[training]'") from error

    out, jobs = arguments.out, arguments.jobs or usable_cores()
    arms = experiment.find_arms(arguments.data)
    cells = experiment.make_cells(arms, arguments.seeds)
    chosen = _chosen(cells, arguments.cells)
    if arguments.list:
        found = grid.results(cells, out)
        for cell in chosen:
            print(f'{cell.name}  {"done" if cell.name in found else "-"}')
        return
    changes = _changes(arguments.set)
    print('bringing the images to size', file=sys.stderr, flush=True)
    stored = {arm.name: experiment.store_arm(arm, out) for arm in arms}
    more = experiment.more_stereo(arguments.more_stereo, stored) if arguments.more_stereo else None

    def decide() -> dict[str, object]:
        print('measuring how long a step takes here', file=sys.stderr, flush=True)
        pace = experiment.measure(arms[0], out, arguments.encoder, changes)
        steps = arguments.steps or experiment.num_steps(pace, arguments.minutes, jobs, len(cells))
        return {'pace': dataclasses.asdict(pace), 'steps': steps, 'jobs': jobs}

    facts = grid.claim(out, {
        'experiment': arguments.experiment, 'arms': stored, 'num_seeds': arguments.seeds, 'encoder': arguments.encoder,
        'minutes': arguments.minutes, 'steps_asked_for': arguments.steps, 'settings': changes, 'more_stereo': more,
    }, decide)  # fmt: skip
    more_samples = experiment.store_more_stereo(arguments.more_stereo, out) if more else None
    print(
        f'{len(chosen)} cells of {facts["steps"]} steps, {facts["pace"]["step"]:.3f} s each with one thread, {jobs} at '
        'a time', file=sys.stderr, flush=True,
    )  # fmt: skip
    work = functools.partial(
        experiment.run_cell, out=out, steps=facts['steps'], encoder=arguments.encoder, changes=changes,
        more=more_samples,
    )  # fmt: skip
    try:
        grid.run_cells(chosen, out, work, jobs, functools.partial(print, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print('cells that are done are kept; the same command goes on', file=sys.stderr)
        raise
    finally:
        _write(arguments, cells, facts)
    print((out / 'table.md').read_text(encoding='utf-8'), end='')


def _changes(texts: list[str]) -> dict[str, object]:
    """What ``--set`` says; a checkpoint to start from is looked for here, each cell has a folder of its own."""
    changes = dict(change(text) for text in texts)
    if changes.get('network.start'):
        changes['network.start'] = str(Path(str(changes['network.start'])).absolute())
    return changes


def _chosen(cells: list, text: str) -> list:
    if text.isdecimal():
        return cells[: int(text)]
    found = [cell for cell in cells if fnmatch.fnmatch(cell.name, text)] if text else cells
    if not found:
        raise SettingsError(f'--cells {text!r} fits none of {len(cells)} cells; see --list')
    return found


def _write(arguments: argparse.Namespace, cells: list, facts: dict) -> None:
    """Table, as markdown, CSV and JSON, and plot of all that is done."""
    from depth_ros_training.experiments import cells as grid
    from depth_ros_training.experiments import semi_supervised as experiment
    from depth_ros_training.experiments import table

    out = arguments.out
    found = grid.results(cells, out)
    names = ' '.join(path.name for path in arguments.data)
    command = f'depth_ros_training experiment {arguments.experiment} --data {names} --out {out.name}'
    if arguments.more_stereo:
        command += f' --more-stereo {" ".join(path.name for path in arguments.more_stereo)}'
    command += f' --seeds {arguments.seeds} --encoder {arguments.encoder}'
    if arguments.steps:
        command += f' --steps {arguments.steps}'
    command += ''.join(f' --set {text}' for text in arguments.set)
    changes = _changes(arguments.set)
    settings = experiment.cell_settings(cells[0].facts, facts['steps'], arguments.encoder, changes)
    for name, text in (
        ('table.md', table.markdown(cells, found, {**facts, 'batch': settings.data.batch}, command)),
        ('table.csv', table.write_csv(cells, found)),
        ('table.json', json.dumps({'of': facts, 'cells': found}, indent=1) + '\n'),
    ):
        with whole_file(out / name) as path:
            path.write_text(text, encoding='utf-8')
    try:
        table.plot(cells, found, out / 'plot.png')
    except MissingDependencyError as error:
        print(f'no plot: {error}', file=sys.stderr)
