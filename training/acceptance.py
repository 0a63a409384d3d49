"""The acceptance table: checkpoints beside the classical methods on recordings that no training ever saw."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_ros.bags.frames import import_frames, read_split
from depth_ros.bags.kitti import import_kitti_object, import_kitti_raw
from depth_ros.errors import OutputError, SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.registry import create_estimator
from depth_ros.evaluation.evaluate import EvaluationOptions, evaluate
from depth_ros.files import output_errors, whole_file
from depth_ros.settings import EstimatorSettings, Settings

CLASSICAL = ('classical', 'linear', 'nearest', 'ip_basic')
# What is given -> options. Of a lidar with 64 rings the first are 32, 16, 8 and 4 rings.
GIVEN: dict[str, dict[str, Any]] = {
    '1/2 of the rings': {'ring_step': 2},
    '1/4 of the rings': {'ring_step': 4},
    '1/8 of the rings': {'ring_step': 8},
    '1/16 of the rings': {'ring_step': 16},
    '90 % of the points': {'input_fraction': 0.9},
    '10 % of the points': {'input_fraction': 0.1},
    '3 % of the points': {'input_fraction': 0.03},
    'no lidar': {'input_fraction': 0.0},
}
_SPLITS = 'splits.json'
_OBJECT, _DRIVE = 'kitti_object_val', 'kitti_raw/2011_09_26/2011_09_26_drive_sfnd_sync'


@dataclass(frozen=True)
class Recordings:
    """What is judged on.

    Attributes:
        make_bag: makes a bag of them, given the folder of the data and the bag.
        given: some of ``GIVEN``: what methods are given of them, unless another choice is asked for.
    """

    make_bag: Callable[[Path, Path], Any]
    given: tuple[str, ...]


_RINGS = '1/2 of the rings', '1/4 of the rings', '1/8 of the rings', '1/16 of the rings'
_APART = *_RINGS, '90 % of the points', 'no lidar'
SETS = {
    'kitti_object_val': Recordings(lambda data, bag: import_kitti_object(data / _OBJECT, bag), _APART),
    'val_places': Recordings(lambda data, bag: import_frames(read_split(data / _SPLITS, 'val_places'), bag), _APART),
    # Its lidars have fewer rings.
    'val_rigs': Recordings(
        lambda data, bag: import_frames(read_split(data / _SPLITS, 'val_rigs'), bag),
        tuple(given for given in _APART if given != '1/16 of the rings'),
    ),
    'drive_sfnd': Recordings(lambda data, bag: import_kitti_raw(data / _DRIVE, bag, frames=(40, 50)), _APART),
}
APART = tuple(SETS)
"""Kept apart from all that trains networks, or chooses between them."""
OTHER_SENSORS = {
    'view_of_delft': _RINGS[:3],
    'pandaset': _RINGS[:3],
    'nuscenes': _RINGS[:2],
    'rellis_os1': _RINGS[:2],
    'rellis_ultra_puck': _RINGS[:2],
    'tri_dgp': ('10 % of the points', '3 % of the points'),
}
"""Samples that chose between networks; as `depth_ros_training samples` writes them into `other_sensors` of the data."""
SETS |= {
    name: Recordings(lambda data, bag, name=name: import_frames([data / 'other_sensors' / name], bag), given)
    for name, given in OTHER_SENSORS.items()
}
_UNCERTAINTY = (
    'within_1_sigma', 'within_2_sigma', 'ause_abs_rel', 'distance_ause_abs_rel', 'ause_rmse', 'distance_ause_rmse',
    'flying_share', 'flying_dropped_at_5_percent', 'max_relative_std_for_5_percent',
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Figures of all methods on one set with one density, over the points that all of them cover.

    Attributes:
        recordings: name of the set.
        given: what the methods got.
        num_truth: points scored.
        figures: method -> ``mae``, ``rmse`` (m), ``abs_rel``, ``delta1``, ``coverage`` and the figures of its
            uncertainty.
        ratios: checkpoint -> ``mae`` and ``rmse`` as shares of those of the best classical method, each of its own;
            None where none of them has an answer.
    """

    recordings: str
    given: str
    num_truth: int
    figures: Mapping[str, Mapping[str, float | None]]
    ratios: Mapping[str, Mapping[str, float | None]]


def acceptance(
    checkpoints: Mapping[str, Path],
    data: Path,
    out: Path,
    methods: Sequence[str] = CLASSICAL,
    sets: Sequence[str] = APART,
    given: Sequence[str] = (),
    every: int = 1,
) -> Iterator[Row]:
    """Score checkpoints and classical methods on every set with all that they are given of it.

    Each cell is one evaluation as `depth_ros evaluate` makes it, of a bag as `depth_ros import` makes it. Bags and
    finished cells are kept in ``out``, so that an interrupted run goes on where it stopped; a cell is made anew where
    checkpoints or methods have changed.

    Args:
        checkpoints: name -> ``.safetensors`` file, or ``.onnx`` file to judge an export.
        data: folder of the recordings.
        out: folder for bags and results.
        methods: classical methods beside them.
        sets: some of ``SETS``.
        given: some of ``GIVEN``; none = of every set what it says.
        every: only every n-th image.

    Yields:
        The rows, as they are done.

    Raises:
        SettingsError: a name is unknown or used twice.
        CheckpointError: a checkpoint cannot be used.
        RecordingError: a recording is not there.
        OutputError: ``out`` holds results of other recordings, or cannot be written.
    """
    for name, known in [*((name, SETS) for name in sets), *((name, GIVEN) for name in given)]:
        if name not in known:
            raise SettingsError(f'{name!r} is unknown, expected one of {", ".join(known)}')
    estimators: dict[str, Estimator] = {name: create_estimator(Settings(), name) for name in methods}
    what = {name: name for name in methods}
    for name, path in checkpoints.items():
        if name in estimators:
            raise SettingsError(f'{name!r} names two methods; name checkpoints NAME=PATH')
        method = 'exported' if path.suffix == '.onnx' else 'network'
        estimators[name] = create_estimator(Settings(estimator=EstimatorSettings(checkpoint=str(path))), method)
        what[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for recordings in dict.fromkeys(sets):
        bag = _bag(out, recordings, data)
        for density in dict.fromkeys(given or SETS[recordings].given):
            able = {
                name: estimator
                for name, estimator in estimators.items()
                if GIVEN[density].get('input_fraction') != 0 or not estimator.needs_lidar
            }
            wanted = {'methods': {name: what[name] for name in able}, 'every': every}
            cell = out / 'cells' / f'{recordings}_{_slug(density)}.json'
            document = _kept(cell, wanted)
            if document is None:
                options = EvaluationOptions(pictures=False, every=every, **GIVEN[density])
                evaluation = evaluate(bag, Settings(), options, estimators=able)
                if evaluation.interrupted:
                    raise KeyboardInterrupt
                document = evaluation.document
                with whole_file(cell) as path:
                    path.write_text(json.dumps({'of': wanted, 'metrics': document}, indent=1), encoding='utf-8')
            yield _row(recordings, density, document, tuple(checkpoints))


def markdown(rows: Sequence[Row]) -> str:
    """Rows as tables: errors, ratios to the best classical method, uncertainty."""
    if not rows:
        return ''
    methods, checkpoints = list(max(rows, key=lambda row: len(row.figures)).figures), list(rows[0].ratios)
    blind = [row for row in rows if len(row.figures) < len(methods)]
    rows = [row for row in rows if row not in blind]
    lines = _table(
        ['set', 'given', 'points', *(f'{name} MAE / RMSE (m)' for name in methods), *(
            f'{name} / best classical, MAE and RMSE' for name in checkpoints
        )],
        [
            [row.recordings, row.given, f'{row.num_truth:,}', *(
                f'{number(row.figures[name]["mae"])} / {number(row.figures[name]["rmse"])}' for name in methods
            ), *(
                f'{number(row.ratios[name]["mae"], 2)}, {number(row.ratios[name]["rmse"], 2)}' for name in checkpoints
            )]
            for row in rows
        ],
    )  # fmt: skip
    lines += ['', *_table(
        ['set', 'given', 'method', 'covered', 'within 1, 2 σ', 'AUSE AbsRel (by distance)',
         'AUSE RMSE (by distance)', 'flying pixels', 'dropped with 5 % of the points'],
        [
            [row.recordings, row.given, name, _percent(entry['coverage']),
             f'{_percent(entry["within_1_sigma"])}, {_percent(entry["within_2_sigma"])}',
             f'{number(entry["ause_abs_rel"])} ({number(entry["distance_ause_abs_rel"])})',
             f'{number(entry["ause_rmse"])} ({number(entry["distance_ause_rmse"])})',
             _percent(entry['flying_share']), _percent(entry['flying_dropped_at_5_percent'])]
            for row in rows for name, entry in row.figures.items() if name in (*checkpoints, 'classical')
        ],
    )]  # fmt: skip
    if blind:
        lines += ['', *_table(
            ['set', 'given', 'method', 'points', 'AbsRel', 'MAE (m)', 'RMSE (m)', 'δ1', 'within 1, 2 σ'],
            [
                [row.recordings, row.given, name, f'{row.num_truth:,}', number(entry['abs_rel']), number(entry['mae']),
                 number(entry['rmse']), _percent(entry['delta1']),
                 f'{_percent(entry["within_1_sigma"])}, {_percent(entry["within_2_sigma"])}']
                for row in blind for name, entry in row.figures.items()
            ],
        )]  # fmt: skip
    return '\n'.join(lines) + '\n'


def _bag(out: Path, recordings: str, data: Path) -> Path:
    """Bag of a set, made if it is not there.

    Raises:
        OutputError: the one that is there is of other data.
    """
    bag, source = out / 'bags' / recordings, out / 'bags' / f'{recordings}.json'
    if not bag.exists():
        SETS[recordings].make_bag(data, bag)
        source.unlink(missing_ok=True)
    asked = str(data.resolve())
    with output_errors(source):
        if not source.is_file():
            with whole_file(source) as path:
                path.write_text(json.dumps({'data': asked}), encoding='utf-8')
        found = json.loads(source.read_text(encoding='utf-8'))['data']
    if found != asked:
        raise OutputError(
            f'{str(out)!r} holds {recordings} of the data in {found!r}, asked for that in {asked!r}; name another --out'
        )
    return bag


def _kept(cell: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Result of an earlier run, None if there is none of these methods."""
    try:
        content = json.loads(cell.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content['metrics'] if content.get('of') == wanted else None


def _row(recordings: str, given: str, document: Mapping[str, Any], checkpoints: Sequence[str]) -> Row:
    figures, errors = {}, {}
    num_truth = 0
    for name, entry in document['methods'].items():
        common = entry['pooled_common']
        num_truth = common['num_truth']
        errors[name] = {key: math.nan if common[key] is None else common[key] for key in ('mae', 'rmse')}
        figures[name] = {
            'mae': common['mae'], 'rmse': common['rmse'], 'abs_rel': common['abs_rel'], 'delta1': common['delta1'],
            'coverage': entry['pooled']['coverage'],
            **{key: entry['uncertainty']['pooled'][key] for key in _UNCERTAINTY},
        }  # fmt: skip
    ratios = {}
    for name in checkpoints:
        others = [error for other, error in errors.items() if other not in checkpoints]
        ratios[name] = {
            key: errors[name][key] / min(error[key] for error in others) if others and num_truth else None
            for key in ('mae', 'rmse')
        }
    return Row(recordings, given, num_truth, figures, ratios)


def _slug(text: str) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in text)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f'| {" | ".join(line)} |' for line in (heads, ['---'] * len(heads), *rows)]


def number(value: float | None, digits: int = 3) -> str:
    """A figure as text; None is a dash."""
    return '–' if value is None else f'{value:.{digits}f}'


def _percent(value: float | None) -> str:
    return '–' if value is None else f'{100 * value:.1f} %'
