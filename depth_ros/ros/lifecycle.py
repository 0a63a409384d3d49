"""Running a node to its end: transitions that say what went wrong, and processes that end with a meaningful code."""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

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


def run_node(
    create: Callable[[], Node], args: Sequence[str] | None = None, start: Callable[[Any], bool] | None = None
) -> int:
    """Make a node and spin it until SIGINT, SIGTERM or its own end.

    Args:
        create: makes the node, which has a ``close()``.
        args: command line; None = that of the process.
        start: called with the node before it spins; False = it could not start, and has said why.

    Returns:
        Exit code: 0, or 2 for an error that has been said in one line.
    """
    notes = prepare_process()
    node, code = None, 0
    try:
        _init(args)
        node = create()
        for note in notes:
            node.get_logger().warning(note)
        if start is not None and not start(node):
            code = 2
        else:
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (DepthRosError, ParameterException) as error:
        print(f'{sys.argv[0].rsplit("/", 1)[-1]}: {error}', file=sys.stderr)
        code = 2
    finally:
        # A second Ctrl-C must not cut the cleaning up short; launch and shells often send several.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code


def _init(args: Sequence[str] | None) -> None:
    try:
        rclpy.init(args=None if args is None else list(args))
    except RuntimeError as error:  # unreadable parameter files, malformed --ros-args
        raise DepthRosError(' '.join(str(error).split())) from error
