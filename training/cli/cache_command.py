"""``depth_ros_training cache``: bags as a folder of training samples, quick to read in any order."""

from __future__ import annotations

import argparse
from pathlib import Path

from depth_ros.bags.recording import Recording
from depth_ros.cli.evaluate_command import Progress
from depth_ros.cli.topic_arguments import inputs
from depth_ros.evaluation.output import OutputFolder
from depth_ros.files import check_apart
from depth_ros_training.data.bags import read_bag
from depth_ros_training.data.plan import check_every, recording_names
from depth_ros_training.data.store import SampleWriter

_INDEX = 'index.json'  # what a whole folder of samples holds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='bags to read')
    parser.add_argument('--out', type=Path, required=True, help='new folder for the samples')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='only every n-th image')
    parser.add_argument('--overwrite', action='store_true', help='replace the samples that are there')


def run(arguments: argparse.Namespace) -> None:
    """Read all bags; the folder is there when all are read.

    Raises:
        SettingsError: an option is out of its range, or two bags go by one name.
        BagError: a bag cannot be read, or makes no sample; nothing is written.
        OutputError: the folder cannot be written.
    """
    check_every(arguments.every)
    names = recording_names(arguments.bags)
    for bag in arguments.bags:
        check_apart(arguments.out, inputs(bag))
    total = sum(_num_images(bag, arguments.every) for bag in arguments.bags)
    done = num_samples = 0
    progress = Progress()

    def count(number: int) -> None:
        nonlocal done
        done += number
        progress(done, total)

    old = (path.name for path in arguments.out.glob('[0-9]*.npz'))
    try:
        with OutputFolder(arguments.out, (_INDEX, *old), arguments.overwrite) as folder, SampleWriter(folder) as writer:
            for bag, name in zip(arguments.bags, names, strict=True):
                for sample in read_bag(bag, arguments.every, name=name, count=count):
                    writer.add(sample)
                    num_samples += 1
    finally:
        progress.close()
    print(f'{arguments.out}: {num_samples} samples of {len(arguments.bags)} recordings')


def _num_images(bag: Path, every: int) -> int:
    with Recording(bag) as recording:
        return -(-recording.num_frames // every)
