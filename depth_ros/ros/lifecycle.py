"""Running a node to its end: transitions that say what went wrong, and processes that end with a meaningful code."""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from depth_ros.errors import DepthRosError
from depth_ros.ros.transport import prepare_process


def transition(
    callback: Callable[[Any, LifecycleState], None]
) -> Callable[[Any, LifecycleState], TransitionCallbackReturn]:
    """Make a transition callback of a method that returns nothing.

    rclpy swallows what a callback raises. Here a ``DepthRosError`` is logged in one line and fails the transition;
    anything else is logged with its traceback and sends the node to error processing.
    """

    @functools.wraps(callback)
    def wrapped(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback(node, state)
        except DepthRosError as error:
            node.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:
            node.get_logger().error(f'{callback.__name__}: {traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    return wrapped


def run_node(create: Callable[[], Node], args: Sequence[str] | None, start: Callable[[Any], bool]) -> int:
    """Make a node and spin it until SIGINT or SIGTERM.

    Args:
        create: makes the node, which has a ``close()``.
        args: command line; None = that of the process.
        start: called with the node before it spins; False = it could not start, and has said why.

    Returns:
        Exit code: 0, or 2 for an error that has been said in one line.
    """
    started = True

    def run() -> None:
        nonlocal started
        with ros_process(args) as notes:
            node = create()
            try:
                for note in notes:
                    node.get_logger().warning(note)
                started = start(node)
                if started:
                    _spin(node)
            finally:
                ignore_signals()
                node.close()
                node.destroy_node()

    code = exit_code(run)
    return code if started else 2


def own_arguments(parser: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    """Parse what a command line holds beside ROS arguments.

    Args:
        parser: of those; ends the process, with exit code 2 and one line, where the command line is wrong.
        args: command line; None = that of the process.
    """
    try:
        own = remove_ros_args([parser.prog, *(sys.argv[1:] if args is None else args)])[1:]
    except RuntimeError as error:
        parser.error(' '.join(str(error).split()))
    return parser.parse_args(own)


@contextmanager
def ros_process(args: Sequence[str] | None) -> Iterator[list[str]]:
    """Set the process up, initialise ROS, and shut it down at the end.

    Args:
        args: command line; None = that of the process.

    Yields:
        What could not be set up, one sentence each.

    Raises:
        DepthRosError: the ROS arguments or a parameter file cannot be read.
    """
    notes = prepare_process()
    try:
        rclpy.init(args=None if args is None else list(args))
    except RuntimeError as error:
        raise DepthRosError(' '.join(str(error).split())) from error
    try:
        with shutdown_by_its_name():
            yield notes
    finally:
        ignore_signals()
        rclpy.try_shutdown()


@contextmanager
def shutdown_by_its_name() -> Iterator[None]:
    """Raise ``ExternalShutdownException`` also where a signal took the middleware away from under its caller."""
    try:
        yield
    except rclpy_implementation.RCLError as error:
        if rclpy.ok():
            raise
        raise ExternalShutdownException from error


def exit_code(run: Callable[[], None]) -> int:
    """Run a process to its end.

    Returns:
        0, also after SIGINT and SIGTERM; 2 for an error, which is said in one line.
    """
    try:
        run()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (DepthRosError, ParameterException) as error:
        print(f'{Path(sys.argv[0]).stem}: {error}', file=sys.stderr)
        return 2
    return 0


def ignore_signals() -> None:
    """From here on the process only cleans up: a second Ctrl-C must not cut that short, and launch sends several."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _spin(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while node.context.ok():
        _spin_until_error(node, executor)


def _spin_until_error(node: Node, executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        raise
    except Exception:
        # A message that cannot even be deserialised raises here; the next one may be whole.
        if node.context.ok():
            node.get_logger().error(traceback.format_exc(), throttle_duration_sec=5.0)
            _let_go(node)


def _let_go(node: Node) -> None:
    """Free what rclpy was taking when that raised: it stays locked, and with it all else of its callback group."""
    for entity in (*node.subscriptions, *node.timers, *node.services, *node.clients, *node.waitables):
        if getattr(entity, '_executor_event', False):
            entity._executor_event = False
            entity.callback_group.ending_execution(entity)
