"""``depth_ros_training samples``: recordings of other sensors from public repositories, to judge networks on."""

from __future__ import annotations

import argparse
from pathlib import Path

from depth_ros_training.public_samples.collect import SAMPLES, collect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description += (
        ' Clones of '
        + ', '.join(dict.fromkeys(name for samples in SAMPLES.values() for name in samples.repositories))
        + ' (all on GitHub) are read; nothing of them is run.'
    )
    parser.add_argument('clones', type=Path, metavar='FOLDER', help='where the clones are, each under its own name')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR',
        help='folder; each set becomes a folder of frames in it, as `depth_ros import frames` takes them',
    )  # fmt: skip
    parser.add_argument('--sets', nargs='+', choices=SAMPLES, default=list(SAMPLES), help='which (default: all)')


def run(arguments: argparse.Namespace) -> None:
    """Write what is not there yet."""
    collect(arguments.clones, arguments.out, arguments.sets)
    for name in arguments.sets:
        print(f'{arguments.out / name}: {sum(1 for _ in (arguments.out / name).iterdir())} frames')
