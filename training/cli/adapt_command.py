"""``depth_ros_training adapt``: fine-tune the network on a robot's own bags, and say whether that made it better."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from depth_ros.cli.evaluate_command import Progress
from depth_ros.cli.topic_arguments import add_topic_arguments, settings
from depth_ros.errors import MissingDependencyError, TrainingError
from depth_ros.estimators.parts import usable_cores
from depth_ros.files import whole_file
from depth_ros.networks.weights import CHECKPOINT
from depth_ros.settings import load_yaml
from depth_ros_training.cli.fit_command import change
from depth_ros_training.cli.prepare_command import add_preparation_arguments, preparation, split_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='recordings with camera and lidar')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='folder for network and report; run it again to go on'
    )
    parser.add_argument(
        '--checkpoint', type=Path, default=CHECKPOINT, help='network to start from (default: the one that ships)'
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        '--minutes', type=float, default=20.0, help='how long to fine-tune (default: %(default)g); the rest is extra'
    )
    length.add_argument('--steps', type=int, default=0, metavar='N', help='how many steps to fine-tune instead')
    parser.add_argument(
        '--replay',
        type=Path,
        metavar='FOLDER',
        help='samples or a dataset, of simulated drives say, that are mixed in so that nothing is forgotten',
    )
    parser.add_argument(
        '--also', type=Path, nargs='+', default=[], metavar='BAG',
        help='other bags that must not get worse; simulated ones are judged by their exact depth',
    )  # fmt: skip
    parser.add_argument('--config', type=Path, metavar='YAML', help='training settings that differ')
    parser.add_argument('--set', action='append', default=[], metavar='GROUP.FIELD=VALUE', help='change one of them')
    add_topic_arguments(parser)
    add_preparation_arguments(parser)
    parser.add_argument('--overwrite', action='store_true', help='begin anew if there is an adaptation')


def run(arguments: argparse.Namespace) -> None:
    """Adapt, write the report, and refuse to recommend what is not better.

    Raises:
        DepthRosError: see ``adapt``.
        TrainingError: the adapted network is not better. It is written all the same, under a name that says so.
        KeyboardInterrupt: interrupted.
    """
    try:
        from depth_ros_training.adaptation.adapt import FIGURES_FILE, REPORT, AdaptOptions, adapt
        from depth_ros_training.adaptation.report import build_report
    except ImportError as error:
        if isinstance(error, MissingDependencyError):
            raise
        raise MissingDependencyError(f"{error}; training needs more: pip install 'depth_ros[training]'") from error

    changes = load_yaml(arguments.config) if arguments.config else {}
    changes.update(change(text) for text in arguments.set)
    options = AdaptOptions(
        arguments.checkpoint, arguments.minutes, arguments.steps, arguments.replay, tuple(arguments.also), changes,
        preparation(arguments), split_options(arguments), arguments.jobs or usable_cores(),
    )  # fmt: skip
    stages = _Stages()
    try:
        result = adapt(
            arguments.bags, arguments.out, options, settings(arguments), arguments.overwrite, stages.say,
            stages.progress, sys.stderr.isatty(),
        )  # fmt: skip
    except KeyboardInterrupt:
        print(f'\nwhat was done is in {arguments.out}; the same command goes on', file=sys.stderr)
        raise
    finally:
        stages.close()
    figures = {
        'recommended': result.verdict.better,
        'verdict': result.verdict.text,
        'steps': result.steps,
        'share': result.choice.share,
        'shares': [vars(entry) for entry in result.choice.tried],
        'notes': result.notes,
        'rows': [{**vars(row)} for row in result.rows],
    }
    for name, text in (
        (FIGURES_FILE, json.dumps(figures, indent=1, ensure_ascii=False) + '\n'),
        (REPORT, build_report(result)),
    ):
        with whole_file(arguments.out / name) as path:
            path.write_text(text, encoding='utf-8')
    for note in result.notes:
        print(f'note: {note}')
    for row in result.rows:
        for name in ('mae', 'rmse'):
            print(
                f'{row.recordings}, given {row.given}: {name.upper()} {row.before[name]:.3f} m before, '
                f'{row.after[name]:.3f} m after ({100 * row.change(name):+.1f} %), {row.num_images} images'
            )
    print(f'report:     {arguments.out / REPORT}')
    if not result.verdict.better:
        raise TrainingError(f'not recommended: {result.verdict.text}; kept as {result.checkpoint}')
    print(f'checkpoint: {result.checkpoint}')
    print(result.verdict.text)
    print(f'use it:     estimator.checkpoint: {result.checkpoint.resolve()}')
    onnx = result.checkpoint.with_suffix('.onnx')
    again = ' --overwrite' if onnx.exists() else ''
    print(f'no torch?   depth_ros export {result.checkpoint} --out {onnx}{again}')
    print(f'            and estimator.checkpoint: {onnx.resolve()}')


class _Stages:
    """Says which stage it is, with a bar of its own for each."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def say(self, text: str) -> None:
        self.close()
        print(text, file=sys.stderr, flush=True)

    def progress(self, done: int, total: int) -> None:
        self._bar = self._bar or Progress()
        self._bar(done, total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
