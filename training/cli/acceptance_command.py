"""``depth_ros_training acceptance``: the table that says whether checkpoints are good enough to ship."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from depth_ros.errors import SettingsError
from depth_ros.files import whole_file
from depth_ros_training.acceptance import APART, CLASSICAL, GIVEN, OTHER_SENSORS, SETS, acceptance, markdown, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'checkpoints', nargs='+', metavar='[NAME=]FILE', help='checkpoints (.safetensors) or exports (.onnx) to judge'
    )
    parser.add_argument(
        '--data', type=Path, required=True, metavar='DIR',
        help='folder of the recordings: kitti_object_val, splits.json with val_places and val_rigs, '
        'kitti_raw/2011_09_26/2011_09_26_drive_sfnd_sync, other_sensors; those of --sets are enough',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='folder for bags and results; a run goes on in it'
    )
    parser.add_argument(
        '--sets', nargs='+', choices=[*SETS, 'other_sensors'], default=list(APART), metavar='SET',
        help=f'recordings, of {", ".join(SETS)}; other_sensors = all but {", ".join(APART)} (default: those)',
    )  # fmt: skip
    parser.add_argument(
        '--given', nargs='+', choices=GIVEN, default=[], help='what the methods get (default: of every set its own)'
    )
    parser.add_argument(
        '--methods', nargs='+', default=list(CLASSICAL), help='methods beside them (default: all classical ones)'
    )
    parser.add_argument('--every', type=int, default=1, metavar='N', help='only every N-th image')


def run(arguments: argparse.Namespace) -> None:
    """Score, print the table, and write it as JSON and as markdown."""
    rows = []
    sets = [one for name in arguments.sets for one in (OTHER_SENSORS if name == 'other_sensors' else (name,))]
    results = acceptance(
        _named(arguments.checkpoints), arguments.data, arguments.out, arguments.methods, sets,
        arguments.given, arguments.every,
    )  # fmt: skip
    for row in results:
        rows.append(row)
        found = ((name, row.figures[name]) for name in row.ratios)
        errors = '; '.join(f'{name} {number(entry["mae"])}, {number(entry["rmse"])}' for name, entry in found)
        print(f'{row.recordings}, {row.given}: MAE, RMSE (m): {errors}', file=sys.stderr, flush=True)
    table = markdown(rows)
    for name, text in (
        ('acceptance.json', json.dumps([vars(row) for row in rows], indent=1) + '\n'),
        ('acceptance.md', table),
    ):
        with whole_file(arguments.out / name) as path:
            path.write_text(text, encoding='utf-8')
    print(table, end='')


def _named(texts: list[str]) -> dict[str, Path]:
    """Checkpoints by name: as given, else the name of the file."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition('=')
        if not separator:
            name, path = Path(text).stem, text
        if name in found:
            raise SettingsError(f'two checkpoints are called {name!r}; name them NAME=FILE')
        if not Path(path).is_file():
            raise SettingsError(f'checkpoint {path!r} does not exist')
        found[name] = Path(path)
    return found
