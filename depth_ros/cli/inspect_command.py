"""``depth_ros inspect``: what is in a bag, which topics would be used and why, and what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import yaml

from depth_ros.bags.inspection import Inspection, inspect_bag
from depth_ros.cli.topic_arguments import add_topic_arguments, inputs, overrides, settings
from depth_ros.errors import BagError, SettingsError
from depth_ros.files import check_file, whole_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='.bag, .db3 or .mcap, or the folder of a ROS 2 bag')
    add_topic_arguments(parser)
    parser.add_argument(
        '--node-params',
        type=Path,
        metavar='OUT.yaml',
        help='write the transforms as a parameter file, for a node without TF',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace the parameter file that is there')


def run(arguments: argparse.Namespace) -> None:
    """Print what was found.

    Raises:
        DepthRosError: the bag cannot be read, or the file not written.
    """
    if arguments.overwrite and not arguments.node_params:
        raise SettingsError('--overwrite replaces a parameter file; name it with --node-params')
    if arguments.node_params:
        check_file(arguments.node_params, arguments.overwrite, inputs(arguments.bag, arguments.params))
    found = inspect_bag(arguments.bag, overrides(arguments), settings(arguments))
    for line in describe(found):
        print(line)
    if arguments.node_params:
        write_node_params(found, arguments.node_params)
        print(f'\nwrote {arguments.node_params}')


def write_node_params(found: Inspection, path: Path) -> None:
    """Write the transforms of a bag as parameters of the node.

    Raises:
        BagError: the bag has no transforms.
        OutputError: the file cannot be written.
    """
    lines = found.fixed.text()
    if not lines:
        raise BagError(f'bag {str(found.path)!r} has no static transforms, so there are no parameters to write')
    parameters = {'/**': {'ros__parameters': {'transforms': {'static': lines}}}}
    content = f'# Static transforms of {found.path.name}: parent child x y z qx qy qz qw\n'
    resting = [' '.join(pair) for pair in found.fixed.pairs if pair in found.transforms.resting]
    if resting:
        content += f'# Of /tf, where it did not move; leave out what is a joint: {", ".join(resting)}\n'
    content += yaml.safe_dump(parameters, width=200, sort_keys=False)
    with whole_file(path) as temporary:
        temporary.write_text(content, 'utf-8')


def describe(found: Inspection) -> Iterator[str]:
    """Yield the lines of the answer."""
    count = sum(topic.count for topic in found.topics)
    yield f'{found.path}: {found.duration_s:.1f} s, {count} messages on {len(found.topics)} topics'
    yield from (f'  note: {note}' for note in found.notes)
    yield ''
    width = max(len(topic.name) for topic in found.topics)
    yield f'{"topic":{width}}  {"count":>7}  {"Hz":>6}  {"stamp to record":>16}  type'
    for topic in found.topics:
        rate = f'{found.rate_hz[topic.name]:6.1f}' if topic.name in found.rate_hz else '     -'
        late = '{:+.0f} ({:+.0f}) ms'.format(*found.latency_ms[topic.name]) if topic.name in found.latency_ms else ''
        yield f'{topic.name:{width}}  {topic.count:7d}  {rate}  {late:>16}  {topic.type}'
    yield ''
    yield 'would use'
    for role in ('image', 'camera_info', 'points', 'odometry'):
        topic, reason = getattr(found.selection, role), found.selection.reasons[role]
        if role == 'odometry' and found.poses_from_tf:
            topic, reason = '/tf', f'{found.poses_from_tf}, because there is no nav_msgs/Odometry'
        others = [name for name in found.selection.candidates[role] if name != topic]
        yield f'  {role:12} {topic or "-"}  ({reason}{"; others: " + ", ".join(others) if others else ""})'
    yield ''
    yield from _sensors(found)
    if found.problems:
        yield ''
        yield 'missing or wrong'
        yield from (f'  {problem}' for problem in found.problems)


def _sensors(found: Inspection) -> Iterator[str]:
    if found.image:
        camera = found.image.camera
        kind = 'rectified' if found.image.rectified else f'raw, {camera.model}'
        yield (
            f'camera   {camera.width}x{camera.height} {found.image.encoding}, {kind}, fx {camera.fx:.1f} '
            f'fy {camera.fy:.1f} cx {camera.cx:.1f} cy {camera.cy:.1f}, frame {camera.frame_id}'
        )
    if found.lidar:
        lidar = found.lidar
        rings = f'{lidar.num_rings} rings ({lidar.rings_from})' if lidar.num_rings else 'no rings'
        times = 'no point times' if lidar.time_span_ms is None else f'point times over {lidar.time_span_ms:.1f} ms'
        yield f'lidar    {lidar.num_points} points a sweep, {rings}, {times}, frame {lidar.frame_id}'
        yield from (f'         {note}' for note in lidar.notes)
    if found.chain:
        x, y, z = found.transforms.lookup(found.chain[0], found.chain[-1])[:3, 3]
        yield f'frames   {" <- ".join(found.chain)}; the lidar is at x {x:+.3f} y {y:+.3f} z {z:+.3f} m in the camera'
    elif found.joints:
        yield f'frames   camera and lidar are joined by what moves on /tf, at the time of each image: {found.joints}'
    others = [frame for frame in found.transforms.frames if frame not in found.chain]
    if others:
        shown = ', '.join(others[:10]) + (f' and {len(others) - 10} more' if len(others) > 10 else '')
        yield f'         other frames: {shown}'
    if found.pairing:
        pairing = found.pairing
        yield (
            f'pairing  {pairing.num_with_lidar} of {pairing.num_images} images have a sweep near enough; its middle '
            f'is {pairing.median_ms:.1f} ms away (median), {pairing.worst_ms:.1f} ms (worst)'
        )
