"""``depth_ros COMMAND ...``: finds the command, runs it, and turns errors into one line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from depth_ros.errors import DepthRosError, OutputError

# Command -> one line of help. Each lives in the module of its name with ``add_arguments(parser)`` and
# ``run(arguments)``, imported only when it is called, so that ``--help`` stays quick and a missing extra breaks only
# its own command.
COMMANDS = {
    'inspect': 'say what is in a bag, which topics would be used and why',
    'import': 'turn a recording (KITTI, or folders of frames) into a bag',
    'evaluate': 'replay a bag and say how good the depth is',
    'bench': 'measure every stage on this machine, as JSON',
    'export': 'write a checkpoint as an ONNX file or in half precision, and compare engines',
    'params': 'list, or write to a file, the parameters of the node',
    'demo': 'play the sample bag through the live node and evaluate it',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of ``depth_ros``; see ``run_command``."""
    return run_command(
        'depth_ros', 'Dense metric depth from a camera and a sparse lidar.', 'depth_ros.cli', COMMANDS, argv
    )


def run_command(
    program: str, description: str, package: str, commands: Mapping[str, str], argv: Sequence[str] | None
) -> int:
    """Find one of a program's commands, run it, and turn errors into one line.

    Args:
        program: name of the program.
        description: one sentence about it.
        package: where the modules of the commands are.
        commands: command -> one line of help.
        argv: arguments without the program's name; None = those of the process.

    Returns:
        0, 2 for an error that has been said in one line, 130 for an interrupt.
    """
    # Closed from outside (>&-): what is said goes nowhere, and no file that is opened takes the place of the stream.
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), 'w'))
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    argv = list(sys.argv[1:] if argv is None else argv)
    wanted = next((word for word in argv if not word.startswith('-')), None)
    for name, text in commands.items():
        command = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + '.')
        if name == wanted:
            try:
                module = importlib.import_module(f'{package}.{name}_command')
            except ModuleNotFoundError as error:
                if '--debug' in argv:
                    raise
                return _missing(program, name, error)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    # Ended from outside, a command cleans up as after Ctrl-C: no half-written file stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with redirect_stdout(_Answer(sys.stdout)) as answer:
            arguments.run(arguments)
            answer.flush()
    except BrokenPipeError:
        pass  # the reader of our output (head, less) has seen enough
    except DepthRosError as error:
        if arguments.debug:
            raise
        print(f'{program} {arguments.command}: {error}', file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if arguments.debug:
            raise
        return _missing(program, arguments.command, error)
    except KeyboardInterrupt:
        print(f'{program} {arguments.command}: interrupted', file=sys.stderr)
        return 130
    return 0


def _missing(program: str, command: str, error: ModuleNotFoundError) -> int:
    """Say what is not installed: much of it is needed by some commands only."""
    module = (error.name or str(error)).partition('.')[0]
    print(f'{program} {command}: needs the Python module {module!r}, which is not installed', file=sys.stderr)
    return 2


class _Answer:
    """What a command prints to; one that does not take it, as on a full disk, is an error of the output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._errors():
            self._stream.flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python would complain once more when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f'cannot print the answer: {error.strerror}; print it to another place') from error


if __name__ == '__main__':
    sys.exit(main())
