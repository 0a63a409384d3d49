"""``depth_ros_training COMMAND ...``: finds the command, runs it, and turns errors into one line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from depth_ros.errors import DepthRosError

# Command -> one line of help. Each lives in the module of its name with ``add_arguments(parser)`` and ``run(arguments)``,
# imported only when it is called.
COMMANDS = {
    'cache': 'turn bags into a folder of training samples',
    'score': 'compare checkpoints with the classical methods on validation images',
    'fit': 'train a network, or go on with an interrupted training',
    'simulate': 'render drives through procedural worlds, with exact truth, into bags',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None = those of the process.

    Returns:
        0, 2 for an error that has been said in one line, 130 for an interrupt.
    """
    parser = argparse.ArgumentParser(prog='depth_ros_training', description='Simulate, train and adapt depth_ros networks.')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    argv = list(sys.argv[1:] if argv is None else argv)
    wanted = next((word for word in argv if not word.startswith('-')), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + '.')
        if name == wanted:
            module = importlib.import_module(f'depth_ros_training.cli.{name}_command')
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except DepthRosError as error:
        if arguments.debug:
            raise
        print(f'depth_ros_training {arguments.command}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'depth_ros_training {arguments.command}: interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
