"""Options that name topics and settings, common to the commands that read bags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from depth_ros.bags.select import TopicOverrides
from depth_ros.settings import Settings, from_flat, load_yaml


def add_topic_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--image``, ``--camera-info``, ``--points``, ``--odometry`` and ``--params``."""
    topics = {
        '--image': 'camera images',
        '--camera-info': 'their CameraInfo',
        '--points': 'lidar points',
        '--odometry': 'odometry',
    }
    for option, what in topics.items():
        parser.add_argument(option, default='', metavar='TOPIC', help=f'{what}, in place of what would be chosen')
    parser.add_argument('--params', type=Path, metavar='YAML', help="the node's parameter file")


def overrides(arguments: argparse.Namespace) -> TopicOverrides:
    """Topics that were named on the command line."""
    return TopicOverrides(arguments.image, arguments.camera_info, arguments.points, arguments.odometry)


def inputs(bag: Path | None, *others: Path | None) -> Sequence[Path]:
    """What a command reads and must not write to: a bag, with the folder that a file of it belongs to, and others."""
    given = [path for path in (bag, *others) if path is not None]
    if bag is not None and bag.is_file() and (bag.parent / 'metadata.yaml').exists():
        given.append(bag.parent)
    return given


def settings(arguments: argparse.Namespace) -> Settings:
    """Settings of ``--params``, or the defaults.

    Raises:
        SettingsError: the file cannot be read or holds an unknown or wrong value.
    """
    return from_flat(load_yaml(arguments.params)) if arguments.params else Settings()
