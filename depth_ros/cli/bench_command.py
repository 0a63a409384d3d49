"""``depth_ros bench``: how fast every stage is on this machine, as JSON."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.cli.private_graph import private_graph
from depth_ros.cli.topic_arguments import inputs
from depth_ros.errors import DepthRosError, MissingDependencyError, SettingsError
from depth_ros.evaluation.benchmark import SIZES, bench_peer, bench_stages, machine, measure, summary, transforms
from depth_ros.evaluation.engines import NETWORK_SIZES, bench_engines, engines_table
from depth_ros.files import check_file, whole_file
from depth_ros.settings import METHODS

_ALL_OUTPUTS = ('depth/image', 'depth/std', 'depth/points')
_TIMEOUT_S = 1800
_MIN_SOAK = 100  # memory is noted every 50 images, and two notes are compared
# What says something about each thing to measure; '' = the stages.
_OPTIONS = {
    'live': (),
    'soak': (),
    'bag': (),
    'peer': ('frames',),
    'engines': ('sizes', 'frames', 'threads', 'compiled'),
    '': ('sizes', 'method', 'frames', 'rings', 'no_node'),
}
_DEFAULTS = {
    'sizes': None,
    'method': ['classical', 'nearest'],
    'frames': 100,
    'rings': 64,
    'no_node': False,
    'threads': 0,
    'compiled': False,
}
_ENGINE_SIZES = ('1242x375', '1280x720')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--sizes', nargs='+', metavar='WxH', help='image sizes')
    parser.add_argument('--method', nargs='+', choices=METHODS, help='estimators to time (default: classical nearest)')
    parser.add_argument('--frames', type=int, help='timed runs per stage or engine (default: 100)')
    parser.add_argument('--rings', type=int, help='beams of the lidar, 120,000 points in all (default: 64)')
    parser.add_argument(
        '--no-node', action='store_true', help='leave out what needs ROS: publish and the whole callback'
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        '--live', action='store_true', help='instead: 1280x720 at 30 Hz and clouds at 10 Hz between two processes'
    )
    instead.add_argument('--soak', type=int, metavar='FRAMES', help='instead: memory of the node over so many frames')
    instead.add_argument('--bag', type=Path, help='instead: reading this bag, against the bare library')
    instead.add_argument(
        '--peer',
        type=Path,
        metavar='FILE',
        help='instead: the classical estimator against depth_map_utils.py of IP-Basic',
    )
    instead.add_argument(
        '--engines',
        nargs='*',
        metavar='SIZE',
        help='instead: the network (small, base) in every engine of this machine, and what it costs',
    )
    parser.add_argument('--threads', type=int, help='of engines on CPUs (default: one per core)')
    parser.add_argument('--compiled', action='store_true', help='with torch.compile among the engines: slow to start')
    parser.add_argument('--out', type=Path, help='write the JSON here as well')
    parser.add_argument('--overwrite', action='store_true', help='replace the file that is there')


def run(arguments: argparse.Namespace) -> None:
    """Measure and print.

    Raises:
        SettingsError: an option out of its range, or one that says nothing about what is measured.
        DepthRosError: something cannot be measured, or the file not written.
    """
    _settle_options(arguments)
    for name, least in (('frames', 1), ('rings', 1), ('threads', 0), ('soak', _MIN_SOAK)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise SettingsError(f'--{name} is {value}, expected at least {least}')
    result: dict[str, Any] = {'machine': machine()}
    if arguments.live:
        result['live'] = _node_under_load(1280, 720, 'nearest', 600, ['--image-rate', '30'])
    elif arguments.soak:
        result['soak'] = _soak(arguments.soak)
    elif arguments.bag:
        result['replay'] = _bench_reading(arguments.bag)
    elif arguments.peer:
        result['peer'] = bench_peer(arguments.peer, arguments.frames)
    elif arguments.engines is not None:
        sizes = [_parse_size(size) for size in arguments.sizes or _ENGINE_SIZES]
        result['engines'] = bench_engines(
            arguments.engines or NETWORK_SIZES, sizes, arguments.frames, arguments.threads, arguments.compiled, _say
        )
        print(engines_table(result['engines']), file=sys.stderr)
    else:
        sizes = arguments.sizes or [f'{width}x{height}' for width, height in SIZES]
        result['sizes'] = {size: _bench_size(*_parse_size(size), arguments) for size in sizes}
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        with whole_file(arguments.out) as path:
            path.write_text(text + '\n', encoding='utf-8')


def _settle_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would be ignored, and fill in the others."""
    kind = next((kind for kind in _OPTIONS if _is_given(getattr(arguments, kind, None))), '')
    for name, default in _DEFAULTS.items():
        given = _is_given(getattr(arguments, name))
        if given and name not in _OPTIONS[kind]:
            option, what = name.replace('_', '-'), f'--{kind}' if kind else 'the stages'
            uses = ', '.join(f'--{used.replace("_", "-")}' for used in _OPTIONS[kind]) or 'no further options'
            raise SettingsError(f'--{option} says nothing about {what}, expected {uses}; leave it out')
        if not given:
            setattr(arguments, name, default)
    if arguments.overwrite and not arguments.out:
        raise SettingsError('--overwrite replaces a file; name it with --out')
    if arguments.out:
        check_file(arguments.out, arguments.overwrite, inputs(arguments.bag, arguments.peer))


def _is_given(value: object) -> bool:
    return value is not None and value is not False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse_size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.split('x'))
    except ValueError as error:
        raise SettingsError(f'size is {text!r}, expected WIDTHxHEIGHT as in 1280x720') from error
    if not (32 <= width <= 8192 and 32 <= height <= 8192):
        raise SettingsError(f'size is {text!r}, expected 32 to 8192 pixels each way')
    return width, height


def _bench_size(width: int, height: int, arguments: argparse.Namespace) -> dict[str, Any]:
    print(f'{width}x{height}: stages', file=sys.stderr)
    result = bench_stages(width, height, tuple(arguments.method), arguments.frames, arguments.rings, 1.0)
    if arguments.no_node:
        return result
    if importlib.util.find_spec('rclpy') is None:
        print('rclpy is not installed: publish and the whole callback are left out', file=sys.stderr)
        return result
    print(f'{width}x{height}: node', file=sys.stderr)
    # Slow enough that nothing queues: what is measured is the callback, not the load.
    load = ['--image-rate', '8', '--outputs', *_ALL_OUTPUTS]
    node = _node_under_load(width, height, arguments.method[0], arguments.frames, load)
    stages = node['stages']
    num_bytes = node['bytes_in_out']
    without = stages['processing']['p50_ms'] - stages['estimate']['p50_ms']
    result['publish'] = stages['publish']
    result['callback'] = {
        'method': arguments.method[0],
        'median_ms': stages['processing']['p50_ms'],
        'p99_ms': stages['processing']['p99_ms'],
        'stages': stages,
        'latency': node['outputs'],
        'minus_estimator': summary([without], num_bytes)
        | {'note': 'median of the callback minus that of the estimator'},
    }
    # One number, the difference of two medians: it has no percentiles.
    del result['callback']['minus_estimator']['p99_ms']
    return result


def _soak(frames: int) -> dict[str, Any]:
    load = ['--image-rate', '15', '--outputs', *_ALL_OUTPUTS]
    result = _node_under_load(640, 480, 'classical', frames, load)
    resident = [megabytes for _, megabytes in result['resident_mb']]
    # In the first tenth the heap grows to the size that the largest messages need.
    tenth = max(len(resident) // 10, 1)
    before, after = sum(resident[tenth : 2 * tenth]) / tenth, sum(resident[-tenth:]) / tenth
    return result | {'second_tenth_mb': before, 'last_tenth_mb': after, 'growth': after / before - 1}


def _node_under_load(width: int, height: int, method: str, frames: int, load: list[str]) -> dict[str, Any]:
    """Run the node and a load generator as processes; return what the generator found."""
    if importlib.util.find_spec('rclpy') is None:
        raise MissingDependencyError("rclpy is not installed; source ROS 2, or pip install 'depth_ros[ros]'")
    static = json.dumps(transforms().text())
    domain = private_graph()
    node = subprocess.Popen(
        [sys.executable, '-m', 'depth_ros.nodes.depth_node', '--ros-args', '--log-level', 'error',
         '-p', f'estimator.method:={method}', '-p', f'transforms.static:={static}', '-p', 'camera.images:=rectified'],
        env=domain, stdout=sys.stderr,
    )  # fmt: skip
    generator = subprocess.Popen(
        [sys.executable, '-m', 'depth_ros.nodes.load_generator', '--width', str(width), '--height', str(height),
         '--frames', str(frames), '--pid', str(node.pid), *load],
        env=domain, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + _TIMEOUT_S
        while generator.poll() is None:
            if node.poll() is not None:
                raise DepthRosError(f'the node ended with code {node.returncode}; see above')
            if time.monotonic() > until:
                raise DepthRosError(f'no result within {_TIMEOUT_S} s')
            time.sleep(0.2)
        output = generator.stdout.read().strip()
    finally:
        for process in (generator, node):
            process.terminate()
            process.wait(timeout=20)
    if generator.returncode or not output:
        raise DepthRosError(f'the load generator ended with code {generator.returncode} and no result')
    return json.loads(output.splitlines()[-1])


def _bench_reading(path: Path) -> dict[str, Any]:
    """Time reading and decoding a bag against the bare library's reading of the same messages."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with Recording(path) as recording:
        selection = recording.selection
    topics = {selection.image, selection.camera_info, selection.points, selection.odometry} - {''}

    def bare() -> None:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            wanted = [connection for connection in reader.connections if connection.topic in topics]
            for connection, _, data in reader.messages(wanted):
                reader.deserialize(data, connection.msgtype)

    def ours() -> None:
        with BagReader(path) as reader:
            for _ in reader.messages(topics):
                pass

    runs = 5
    bare_ms, ours_ms = [], []
    for _ in range(runs):  # alternating, so that a busy moment hits both
        bare_ms += measure(bare, 1, 0)
        ours_ms += measure(ours, 1, 0)
    result = {'bare': summary(bare_ms), 'ours': summary(ours_ms)}
    result['ratio'] = result['ours']['median_ms'] / result['bare']['median_ms']
    started = time.perf_counter()
    with Recording(path) as recording:
        count = sum(1 for _ in recording.events())
    result['events'] = {'count': count, 'ms': (time.perf_counter() - started) * 1e3}
    return result
