"""``depth_ros_training COMMAND ...``: the commands of the training room."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from depth_ros.cli.main import run_command

# Command -> one line of help; see ``depth_ros.cli.main``.
COMMANDS = {
    'prepare': 'turn bags into a dataset (KITTI depth-completion layout) to train on',
    'inspect': 'say what is in a dataset, and draw a contact sheet',
    'adapt': "fine-tune the network on a robot's own bags, and say whether that made it better",
    'experiment': 'reproduce what a paper claims, at small scale: a grid of trainings, a table and a plot',
    'cache': 'turn bags into a folder of training samples',
    'acceptance': 'judge checkpoints on all recordings kept apart, beside the classical methods, in one table',
    'samples': 'bring recordings of other sensors from public repositories into the form that acceptance judges on',
    'score': 'compare checkpoints with the classical methods on validation images',
    'mean': 'write the mean of the weights of two checkpoints, of which the second came of the first',
    'fit': 'train a network, or go on with an interrupted training',
    'simulate': 'render drives through procedural worlds, with exact truth, into bags',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of ``depth_ros_training``; see ``run_command``."""
    description = 'Simulate, train and adapt depth_ros networks.'
    return run_command('depth_ros_training', description, 'depth_ros_training.cli', COMMANDS, argv)


if __name__ == '__main__':
    sys.exit(main())
