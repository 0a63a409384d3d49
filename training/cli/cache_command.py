"""``depth_ros_training cache``: bags as a folder of training samples, quick to read in any order."""

from __future__ import annotations

import argparse
from pathlib import Path

from depth_ros_training.data.bags import read_bag
from depth_ros_training.data.store import SampleWriter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='bags to read')
    parser.add_argument('--out', type=Path, required=True, help='new folder for the samples')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='only every n-th image')


def run(arguments: argparse.Namespace) -> None:
    """Read all bags."""
    count = 0
    with SampleWriter(arguments.out) as writer:
        for bag in arguments.bags:
            for sample in read_bag(bag, arguments.every):
                writer.add(sample)
                count += 1
    print(f'{arguments.out}: {count} samples of {len(arguments.bags)} recordings')
