"""``depth_ros_training mean``: the mean of the weights of two checkpoints, with honest deviations."""

from __future__ import annotations

import argparse
from pathlib import Path

from depth_ros.cli.evaluate_command import Progress
from depth_ros.errors import OutputError
from depth_ros.files import check_file
from depth_ros_training.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('before', type=Path, metavar='BEFORE', help='a checkpoint (.safetensors)')
    parser.add_argument('after', type=Path, metavar='AFTER', help='what further training made of it')
    parser.add_argument('--share', type=float, required=True, metavar='S', help='weight of AFTER, 0 to 1')
    parser.add_argument(
        '--config',
        type=Path,
        required=True,
        help='training configuration whose validation images calibrate the stated deviation',
    )
    parser.add_argument('--data', type=Path, default=Path(), help='folder that paths of the configuration start from')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='checkpoint to write')
    parser.add_argument('--overwrite', action='store_true', help='replace the checkpoint that is there')


def run(arguments: argparse.Namespace) -> None:
    """Write it."""
    out = arguments.out.resolve()
    if out.suffix != '.safetensors' or out in (arguments.before.resolve(), arguments.after.resolve()):
        raise OutputError(f'--out is {str(arguments.out)!r}, expected another .safetensors file than BEFORE and AFTER')
    check_file(arguments.out, arguments.overwrite, [arguments.config])
    settings = load(arguments.config)
    # torch takes seconds to load.
    from depth_ros_training.adaptation.blend import write_mean
    from depth_ros_training.data.datasets import read_data

    _, samples, _ = read_data(settings, arguments.data)
    progress = Progress()
    try:
        factor = write_mean(
            arguments.before, arguments.after, arguments.share, samples, arguments.out, progress,
            settings.data.validation_truth,
        )  # fmt: skip
    finally:
        progress.close()
    print(f'{arguments.out}: {100 * arguments.share:g} % of {arguments.after}; deviations times {factor:.3g}')
