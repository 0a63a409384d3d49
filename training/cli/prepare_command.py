"""``depth_ros_training prepare``: bags as a dataset in the KITTI depth-completion convention."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from depth_ros.bags.recording import Recording
from depth_ros.cli.evaluate_command import Progress
from depth_ros.cli.topic_arguments import add_topic_arguments, overrides, settings
from depth_ros.errors import SettingsError
from depth_ros.estimators.parts import usable_cores
from depth_ros.evaluation.benchmark import machine
from depth_ros.types import Frame
from depth_ros_training.data.companions import companions
from depth_ros_training.data.dataset import read_index
from depth_ros_training.data.plan import POSES, PrepareOptions
from depth_ros_training.data.prepare import Report, prepare
from depth_ros_training.data.splits import SplitOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='bags that `depth_ros inspect` understands')
    out = parser.add_mutually_exclusive_group(required=True)
    out.add_argument(
        '--out', type=Path, metavar='DATASET', help='folder of the dataset; run it again to go on'
    )
    out.add_argument(
        '--bench', action='store_true', help='write nothing that stays; compare with bare reading and decoding, as JSON'
    )
    add_topic_arguments(parser)
    add_preparation_arguments(parser)
    parser.add_argument('--overwrite', action='store_true', help='begin anew if there is a dataset')


def add_preparation_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``preparation`` and ``split_options`` read, and ``--jobs``."""
    parser.add_argument('--right', default='', metavar='TOPIC', help='images of the right camera, if not named like it')
    parser.add_argument(
        '--every', type=int, default=1, metavar='N', help='only every N-th image, counted anew in each part of 5 s'
    )
    parser.add_argument(
        '--reach', type=float, default=0.5, metavar='S', help='sweeps up to this far in time supervise (default 0.5 s)'
    )
    parser.add_argument(
        '--poses', choices=POSES, default='auto', help='auto: odometry or TF in the bag, else lidar odometry (KISS-ICP)'
    )
    parser.add_argument(
        '--split',
        choices=('auto', 'recording', 'time'),
        default='auto',
        help='by recording or by blocks of time; auto: by recording from three recordings on',
    )
    parser.add_argument(
        '--shares',
        type=float,
        nargs=3,
        default=[0.7, 0.1, 0.2],
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='of the frames (default 0.7 0.1 0.2)',
    )
    parser.add_argument(
        '--gap', type=float, default=-1.0, metavar='S', help='between blocks of time (default 2 s, or a tenth of a bag)'
    )
    parser.add_argument(
        '--jobs', type=int, default=0, metavar='N', help='processes that prepare (default: as many as cores)'
    )


def preparation(arguments: argparse.Namespace) -> PrepareOptions:
    """What to prepare."""
    if arguments.jobs < 0:
        raise SettingsError(f'jobs are {arguments.jobs}, expected at least 1')
    return PrepareOptions(arguments.reach, arguments.every, arguments.poses, arguments.right, overrides(arguments))


def split_options(arguments: argparse.Namespace) -> SplitOptions:
    """How to divide frames."""
    return SplitOptions(arguments.split, tuple(arguments.shares), arguments.gap)


def run(arguments: argparse.Namespace) -> None:
    """Prepare, and say what came out."""
    if arguments.bench:
        print(json.dumps(_bench(arguments), indent=2))
        return
    report = _prepare(arguments, arguments.out)
    for line in describe(report):
        print(line)
    for warning in report.warnings:
        print(f'warning: {warning}', file=sys.stderr)


def _prepare(arguments: argparse.Namespace, out: Path) -> Report:
    progress = Progress()
    try:
        return prepare(
            arguments.bags,
            out,
            preparation(arguments),
            split_options(arguments),
            settings(arguments),
            arguments.jobs or usable_cores(),
            arguments.overwrite,
            progress,
        )
    finally:
        progress.close()


def describe(report: Report) -> Iterator[str]:
    """Yield the lines of the answer."""
    index = read_index(report.folder)
    classes = Counter(entry['classes'] for entry in index.frames)
    splits = Counter(entry['split'] or 'gap' for entry in index.frames)
    kept = f'; {report.num_kept} images were done already' if report.num_kept else ''
    yield f'{report.folder}: {len(index.frames)} frames of {len(index.head["recordings"])} recordings{kept}'
    yield 'classes   ' + ', '.join(f'{name} {count}' for name, count in sorted(classes.items()))
    yield 'splits    ' + ', '.join(f'{name} {count}' for name, count in splits.items()) + f' ({report.head["split"]})'
    for name, facts in report.head['recordings'].items():
        yield f'{name}: {facts["num_frames"]} frames, poses: {facts["poses"]}'


def _bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time preparing, by one process and by all, against reading and decoding the same messages in one process."""
    jobs = arguments.jobs or usable_cores()
    result: dict[str, Any] = {'machine': machine(), 'processes': jobs}

    def bare() -> float:
        started = time.perf_counter()
        for bag in arguments.bags:
            with Recording(bag, overrides(arguments), settings(arguments)) as recording:
                camera = None
                for _, item in recording.events():
                    if camera is None and isinstance(item, Frame):
                        camera = item.camera
                if camera is not None:
                    for _ in companions(recording, camera, settings(arguments), arguments.right):
                        pass
        return time.perf_counter() - started

    def ours(jobs: int) -> float:
        with tempfile.TemporaryDirectory(prefix='depth_ros_bench_') as folder:
            arguments.jobs = jobs
            started = time.perf_counter()
            report = _prepare(arguments, Path(folder) / 'dataset')
            took = time.perf_counter() - started
            result['images'] = report.head['num_frames']
            return took

    # What runs for the first time is compiled.
    bare()
    ours(1)
    result['bare_reading_one_process_s'] = bare()
    for name, number in (('one_process', 1), ('all_processes', jobs)):
        result[f'prepare_{name}_s'] = ours(number)
        result[f'prepare_{name}_ratio'] = result[f'prepare_{name}_s'] / result['bare_reading_one_process_s']
    return result
