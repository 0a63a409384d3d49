"""``depth_ros_training fit``: train a network, or go on with an interrupted training."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import yaml

from depth_ros.errors import SettingsError
from depth_ros_training.settings import load

_SYSTEMS = {
    'supervised': ('depth_ros_training.systems.supervised', 'SupervisedSystem'),
    'semi_supervised': ('depth_ros_training.systems.semi_supervised', 'SemiSupervisedSystem'),
}


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
    module, name = _SYSTEMS[settings.run.system]
    from depth_ros_training.engine.fit import fit  # torch and Lightning take seconds to load

    best = fit(
        getattr(importlib.import_module(module), name), settings, arguments.data, arguments.out, not arguments.quiet
    )
    print(f'best checkpoint: {best}')


def change(text: str) -> tuple[str, object]:
    """What one ``--set`` says."""
    name, sign, value = text.partition('=')
    if not sign:
        raise SettingsError(f'--set is {text!r}, expected GROUP.FIELD=VALUE')
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f'--set is {text!r}: the value is no YAML') from error
