"""``depth_ros demo``: processes on a real graph play a bag, estimate its depth and record it; then it is evaluated."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from depth_ros.bags.inspection import Inspection, inspect_bag
from depth_ros.bags.reader import BagReader
from depth_ros.bags.select import TopicOverrides
from depth_ros.cli.evaluate_command import (
    METRICS_NAME,
    OVERVIEW_NAME,
    REPORT_NAME,
    RESULT_NAMES,
    table,
    write_results,
)
from depth_ros.cli.evaluate_command import add_arguments as add_evaluate_arguments
from depth_ros.cli.inspect_command import write_node_params
from depth_ros.cli.playback import input_topics
from depth_ros.cli.private_graph import private_graph
from depth_ros.errors import BagError, DamagedBagError, DepthRosError, MissingDependencyError, SettingsError
from depth_ros.estimators.registry import create_estimator, method_name, runs_on
from depth_ros.evaluation.output import OutputFolder
from depth_ros.messages.header import stamp_ns
from depth_ros.settings import Settings

SAMPLE_BAG = Path(__file__).resolve().parents[2] / 'data/sample_bag'
_OUTPUTS = ('/depth/image', '/depth/std', '/depth/camera_info', '/depth/image_colored', '/diagnostics')
_METHODS = ('classical', 'linear', 'nearest', 'ip_basic')
_INPUT_RINGS = '16'
_PARAMS, _RECORDED, _CLOUD = 'node.yaml', 'recorded_bag', 'cloud.ply'  # in the folder of results
_PLAY_MARGIN_S = 300  # for processes to start and find each other, and for a slow machine
_RECORD_TIMEOUT_S = 120
_IDLE_S = '4'
_END_TIMEOUT_S = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bag', type=Path, nargs='?', default=SAMPLE_BAG, metavar='BAG', help='default: the sample bag')
    parser.add_argument('--out', type=Path, default=Path('demo_output'), metavar='DIR', help='default: %(default)s')
    parser.add_argument(
        '--rate', type=float, default=0.25, help='seconds of the recording per second (default: %(default)g)'
    )


def run(arguments: argparse.Namespace) -> None:
    """Play, record, evaluate, and say where to look.

    Raises:
        SettingsError: a rate that cannot be played.
        MissingDependencyError: rclpy is not installed.
        BagError: the bag cannot be used.
        DepthRosError: a process failed.
    """
    if not 0.01 <= arguments.rate <= 100:
        raise SettingsError(f'--rate is {arguments.rate:g}, expected 0.01 to 100 seconds of the recording per second')
    if importlib.util.find_spec('rclpy') is None:
        raise MissingDependencyError("rclpy is not installed; source ROS 2, or pip install 'depth_ros[ros]'")
    found = inspect_bag(arguments.bag, TopicOverrides(), Settings())
    lacking = [role for role in ('image', 'camera_info', 'points') if not getattr(found.selection, role)]
    if lacking:
        raise BagError(f'bag {str(arguments.bag)!r} lacks {", ".join(lacking)}; a demo needs them')
    settings = Settings()
    estimator = create_estimator(settings)
    device, warning = runs_on(estimator)
    num_images = next(topic.count for topic in found.topics if topic.name == found.selection.image)
    with OutputFolder(arguments.out, (*RESULT_NAMES, _PARAMS, _RECORDED, _CLOUD), overwrite=True) as folder:
        params = folder / _PARAMS
        write_node_params(found, params)
        print(f'the node estimates by {method_name(settings, estimator)}: {warning or device}')
        print(f'[1/3] playing {arguments.bag} through depth_node, recording what it publishes', flush=True)
        started = time.monotonic()
        _play(found, params, folder / _RECORDED, arguments.rate)
        live = _live_result(folder / _RECORDED)
        print(f'      {live["images"]} of {num_images} images came back as depth, {time.monotonic() - started:.0f} s')
        methods = _METHODS if estimator.needs_lidar else ('network', *_METHODS)
        print(f'[2/3] evaluating {", ".join(methods)} with {_INPUT_RINGS} rings given', flush=True)
        damage = _evaluate(arguments.bag, folder, methods)
    if damage:
        raise DamagedBagError(f'{damage}; the results are those of the images before the damage')
    out = arguments.out
    print('[3/3] where to look')
    for name, what in (
        (REPORT_NAME, 'the report; open it in a browser'),
        (OVERVIEW_NAME, f'pictures of a typical image, {methods[0]} and {methods[1]}'),
        (_CLOUD, 'one frame as a coloured cloud (CloudCompare, MeshLab, Open3D)'),
        (_RECORDED, 'what the node published, as a bag (ros2 bag play, Foxglove, RViz)'),
        (METRICS_NAME, 'all figures'),
        (_PARAMS, "the node's parameters: the transforms of the bag"),
    ):
        print(f'      {out / name}: {what}')
    scores = json.loads((out / METRICS_NAME).read_text(encoding='utf-8'))['methods']
    figures = [
        f'{name} {scores[name]["pooled_common"]["mae"]:.2f} / {scores[name]["pooled_common"]["rmse"]:.2f} m'
        for name in methods[: methods.index('linear') + 1]
    ]
    print(
        f'found: MAE / RMSE on the withheld lidar points that all methods cover: {", ".join(figures)}. '
        f'Live grade by the node itself: {live["grade"]}.'
    )


def _play(found: Inspection, params: Path, recorded: Path, rate: float) -> None:
    selection = found.selection
    image = selection.image.removesuffix('/compressed')
    remaps = {'image': image, 'camera_info': selection.camera_info, 'points': selection.points}
    if selection.odometry:
        remaps['odometry'] = selection.odometry
    node = ['depth_node', '--ros-args', '--params-file', str(params), '-p', 'use_sim_time:=true', '--log-level', 'warn']
    # A robot would rather lose images that come while it is busy; here each of them is wanted, on slow machines too.
    node += ['-p', 'input.max_delay:=10.0', '-p', 'pairing.queue_size:=100']
    for name, topic in remaps.items():
        node += ['-r', f'{name}:={topic}']
    with (
        _process(node) as node_process,
        _process(['bag_recorder', str(recorded), *_OUTPUTS, '--idle', _IDLE_S, '--ros-args', '--log-level', 'warn'])
        as recorder,
    ):
        # The recorder subscribes to the outputs, so the node has work; the node subscribes to the inputs, so the player
        # can tell when it is ready.
        waited_for = [selection.image, selection.points, selection.camera_info, *_OUTPUTS[:3]]
        play = ['bag_player', str(found.path), '--rate', str(rate), '--start-delay', '2']
        play += ['--topics', *input_topics(found), '--wait-for', *waited_for]
        with _process(play) as player:
            _wait(player, _time_limit_s(found.duration_s, rate), node_process)
        # The last images are still on their way.
        _wait(recorder, _RECORD_TIMEOUT_S, node_process)
        _end(node_process)
    if not recorded.exists():
        raise DepthRosError('the recorder left no bag; see what the processes said above')


def _time_limit_s(duration_s: float, rate: float) -> float:
    return duration_s / rate + _PLAY_MARGIN_S


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    name, *arguments = command
    # What goes wrong comes by standard error; what the recorder says of its hidden folder would only confuse.
    process = subprocess.Popen(
        [sys.executable, '-m', f'depth_ros.nodes.{name}', *arguments], env=private_graph(), stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(waited_for: subprocess.Popen[bytes], timeout_s: float, *others: subprocess.Popen[bytes]) -> None:
    """Wait until a process is done; any other process that ends meanwhile is a failure."""
    until = time.monotonic() + timeout_s
    while waited_for.poll() is None:
        for process in others:
            if process.poll() is not None:
                raise DepthRosError(f'{process.args[2]} ended with code {process.returncode}; see above')
        if time.monotonic() > until:
            raise DepthRosError(f'{waited_for.args[2]} did not end within {timeout_s:.0f} s')
        time.sleep(0.1)
    if waited_for.returncode:
        raise DepthRosError(f'{waited_for.args[2]} ended with code {waited_for.returncode}; see above')


def _evaluate(bag: Path, folder: Path, methods: Sequence[str]) -> str:
    """Evaluate into the folder; returns what is damaged of the bag, if anything is."""
    results = folder / 'evaluation'
    parser = argparse.ArgumentParser()
    add_evaluate_arguments(parser)
    evaluation = write_results(
        parser.parse_args(
            [str(bag), '--method', ','.join(methods), '--input-rings', _INPUT_RINGS, '--out', str(results), '--cloud',
             str(folder / _CLOUD)]
        )
    )  # fmt: skip
    if evaluation.interrupted:
        raise KeyboardInterrupt  # part of the images is no demo: earlier results stay
    print(table(evaluation))
    for file in results.iterdir():
        file.replace(folder / file.name)
    results.rmdir()
    return evaluation.damage


def _live_result(recorded: Path) -> dict[str, object]:
    """What the recorded bag says: images that came back, and the last grade that the node gave itself."""
    images, grade = set(), 'none'
    with BagReader(recorded) as bag:
        for item in bag.messages(['/depth/image', '/diagnostics']):
            if item.topic == '/depth/image':
                images.add(stamp_ns(item.message))
                continue
            for status in item.message.status:
                if status.name.endswith(': grade') and status.values:
                    grade = status.message
    return {'images': len(images), 'grade': grade}
