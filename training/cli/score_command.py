"""``depth_ros_training score``: checkpoints beside the classical methods on validation images, some rings given."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from depth_ros.errors import SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.downscale import estimate_downscaled
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.estimators.registry import create_estimator
from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.settings import Settings
from depth_ros_training.data.datasets import read_data
from depth_ros_training.data.importers import read_frame, read_split
from depth_ros_training.engine.validation import COUNT, NUM_SUMS, THINNINGS, Cases, figures, score
from depth_ros_training.settings import load

_PERFECT = 'true depth'
_COLUMNS = ('mae', 'rmse', 'abs_rel', 'within_1_sigma', 'within_2_sigma')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('checkpoints', type=Path, nargs='*', help='checkpoints to score (.safetensors)')
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument('--config', type=Path, help='training configuration whose validation images are used')
    images.add_argument('--frames', nargs=2, metavar=('SPLITS', 'SPLIT'), help='a split of a splits file, in its place')
    parser.add_argument('--data', type=Path, help='folder that paths of the configuration start from (default: this)')
    parser.add_argument('--methods', nargs='*', default=['linear', 'classical'], help='methods to compare with')
    parser.add_argument(
        '--thinning',
        type=thinning_of,
        nargs='*',
        help='every k-th ring given; 0 = none; below 1 = that share of the points (default: 2 4 8 16, and 0 where a '
        'method needs no lidar)',
    )
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        '--truth', action='store_true', help='judge by the true depth of images that have it, not by withheld points'
    )
    truth.add_argument(
        '--perfect',
        action='store_true',
        help='judge the true depth of images that have it by withheld points, too: as a method that makes no error',
    )


def run(arguments: argparse.Namespace) -> None:
    """Score all, and print a table; methods are judged where all of them have an estimate."""
    if arguments.frames:
        if arguments.data is not None:
            raise SettingsError('--data goes with --config; a splits file says itself where its frames are')
        samples = [read_frame(folder) for folder in read_split(Path(arguments.frames[0]), arguments.frames[1])]
    else:
        _, samples, _ = read_data(load(arguments.config), arguments.data or Path())
    if not samples:
        raise SettingsError('there is no image to score; name another split or configuration')
    if 1 in (arguments.thinning or ()) and not arguments.truth:
        raise SettingsError('--thinning 1 gives all points, so that none is left to judge by; judge by --truth')
    if arguments.truth or arguments.perfect:
        samples = [sample for sample in samples if sample.truth is not None and len(sample.ring)]
        if not samples:
            asked = '--truth' if arguments.truth else '--perfect'
            raise SettingsError(f'{asked}: no image with lidar has true depth; leave it out, or name other images')
    estimators: dict[str, Estimator] = {name: create_estimator(Settings(), name) for name in arguments.methods}
    learned = {str(path): NetworkEstimator.of(load_checkpoint(path)[0]) for path in arguments.checkpoints}
    downscale = Settings().estimator.downscale
    sighted = {name: method for name, method in {**estimators, **learned}.items() if not method.needs_lidar}
    thinnings = arguments.thinning or [thinning for thinning in THINNINGS if thinning or sighted]
    if 0 in thinnings and not sighted:
        raise SettingsError('--thinning 0 gives no lidar, and no method here does without; name a network')
    print(f'{len(samples)} images')
    width = max(len(name) for name in (*estimators, *learned, _PERFECT))
    print(f'{"rings":>8} {"method":<{width}}' + ''.join(f'{name:>16}' for name in _COLUMNS))
    for thinning in thinnings:
        # Without lidar only a network has an answer.
        methods = sighted if thinning == 0 else {**estimators, **learned}
        sums = {name: np.zeros(NUM_SUMS) for name in (*methods, *([_PERFECT] if arguments.perfect else ()))}
        for case in Cases(samples, [thinning]):
            judge = case.sample.true_points() if arguments.truth else case.withheld
            frame = case.sample.frame()
            results = {
                name: estimate_downscaled(method, frame, case.given, downscale) for name, method in methods.items()
            }
            if arguments.perfect:
                results[_PERFECT] = case.sample.truth, np.full_like(case.sample.truth, np.nan)
            known = np.logical_and.reduce([np.isfinite(depth) for depth, _ in results.values()])
            for name, (depth, std) in results.items():
                sums[name] += score(np.where(known, depth, np.nan), std, judge)
        for name, total in sums.items():
            values = figures({thinning: total})
            cells = ''.join(f'{values[f"{key}_{thinning}"]:>16.3f}' for key in _COLUMNS)
            share = 'none' if thinning == 0 else f'{100 * thinning:g} %' if thinning < 1 else f'1/{thinning}'
            judged = cells if total[COUNT] else '   no point that all methods cover is left to judge by'
            print(f'{share:>8} {name:<{width}}{judged}', flush=True)


def thinning_of(text: str) -> float:
    """Read one value of ``--thinning``."""
    value = float(text)
    if value < 0 or not math.isfinite(value) or (value > 1 and not value.is_integer()):
        raise argparse.ArgumentTypeError(f'{text!r}, expected 0, a share of the points below 1, or a whole number')
    return int(value) if value.is_integer() else value
