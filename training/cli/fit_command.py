"""``depth_ros_training fit``: train a network, or go on with an interrupted training."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from depth_ros.errors import SettingsError
from depth_ros_training.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--config', type=Path, required=True, help='training configuration, YAML (config/training/...)')
    parser.add_argument(
        '--data', type=Path, default=Path(), help='folder that the paths in the configuration start from'
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder for checkpoints, logs and the state to resume from'
    )
    parser.add_argument('--set', action='append', default=[], metavar='GROUP.FIELD=VALUE', help='change one setting')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    settings = load(arguments.config, dict(change(text) for text in arguments.set))
    # torch and Lightning take seconds to load.
    from depth_ros_training.engine.fit import fit
    from depth_ros_training.systems.registry import SYSTEMS

    best = fit(SYSTEMS[settings.run.system], settings, arguments.data, arguments.out, not arguments.quiet)
    print(f'best checkpoint: {best}')


def change(text: str) -> tuple[str, object]:
    """What one ``--set`` says."""
    name, sign, value = text.partition('=')
    if not sign:
        raise SettingsError(f'--set is {text!r}, expected GROUP.FIELD=VALUE')
    try:
        return name, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # also what Python says of dates that are none
        raise SettingsError(f'--set is {text!r}: the value is no YAML') from error
