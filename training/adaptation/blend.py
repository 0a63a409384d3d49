"""How far to go from the network before fine-tuning to the one after it.

The mean of the weights of the two, (1 - s) before + s after, usually keeps most of what was gained at s = 1 and loses
much less of what was known (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). So a few shares s are
tried, and one is kept.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_ros.errors import CheckpointError, SettingsError, TrainingError
from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros_training.adaptation.verdict import percent
from depth_ros_training.data.sample import Sample
from depth_ros_training.engine.keep_best import save_calibrated
from depth_ros_training.engine.system import predict
from depth_ros_training.engine.validation import NUM_SUMS, THINNINGS, Cases, figures, score, std_correction

SHARES = tuple(tenths / 10 for tenths in range(10, 0, -1))
# By how much what was known may get worse: in the mean over the recordings of replay, and on all but a tenth of them.
# The latter looks for the places that suffer, as the verdict does, whose limit it is. The worst of many will not do: it
# is bad by chance, for one where errors are centimetres; nor would a standard deviation, which that one decides.
_MAX_LOSS, _MAX_LIKELY_LOSS = 0.02, 0.05
_MAY_LOSE_MORE = 0.1
# Rings given of what was known. Of a lidar with few rings an eighth is one or none, where a single tree decides.
_KNOWN_THINNINGS = 2, 4


@dataclass(frozen=True)
class Share:
    """How a mean of the weights does.

    Attributes:
        share: s; 0 = the network before.
        score: of the robot's own images that choose, see ``figures``; the lower the better.
        replay: relative change of the score on recordings of replay that were not trained on, their geometric mean
            (0.01 = 1 % worse); None = no such recordings.
        replay_high: what at most a tenth of these recordings exceed; of fewer than ten, that of the worst.
    """

    share: float
    score: float
    replay: float | None = None
    replay_high: float | None = None


@dataclass(frozen=True)
class Choice:
    """Which mean of the weights was kept.

    Attributes:
        share: its s.
        tried: all that were tried, the network before among them; empty if nothing was chosen.
    """

    share: float
    tried: tuple[Share, ...]

    @property
    def text(self) -> str:
        """What was kept and why, one line."""
        found = {entry.share: entry for entry in self.tried}
        before, kept, whole = (found[share] for share in (0.0, self.share, max(SHARES)))

        def changes(entry: Share) -> str:
            known = '' if entry.replay is None else f', {percent(entry.replay)} on recordings of replay left out'
            return f'{percent(entry.score / before.score - 1)} on the own images that choose{known}'

        text = f'{100 * self.share:.0f} % of the way to the fine-tuned network is kept ({changes(kept)}'
        return f'{text})' if kept is whole else f'{text}; all of it: {changes(whole)})'


def blend(before: DepthNet, after: DepthNet, share: float) -> DepthNet:
    """Mean of the weights of two networks of one build.

    Args:
        before: a network.
        after: what fine-tuning made of it.
        share: weight of ``after``, 0..1.

    Returns:
        The mean, on the device of ``before``. What calibrates the stated deviation is as before fine-tuning, which
        leaves it alone: a mean of weights needs a calibration of its own.
    """
    mean = copy.deepcopy(before)
    # Buffers of the network itself; those of its parts are statistics of normalisation, and belong to the weights.
    calibration = {name for name, _ in before.named_buffers(recurse=False)}
    tuned = after.state_dict()
    with torch.no_grad():
        for name, value in mean.state_dict().items():
            if name not in calibration and value.is_floating_point():
                value.lerp_(tuned[name].to(value), share)
    return mean


def choose(tried: Sequence[Share]) -> float:
    """Choose a share.

    Args:
        tried: what was tried; share 0 is there to compare with, and not chosen.

    Returns:
        Of the shares that lose no more than is allowed of what was known, that with the lowest score; if there is
        none, that which loses least. Where nothing says what is lost, the score decides alone.
    """
    able = [entry for entry in tried if entry.share]
    if any(entry.replay is None for entry in able):
        return min(able, key=lambda entry: entry.score).share
    allowed = [entry for entry in able if entry.replay <= _MAX_LOSS and entry.replay_high <= _MAX_LIKELY_LOSS]
    if allowed:
        return min(allowed, key=lambda entry: entry.score).share
    return min(able, key=lambda entry: entry.replay).share


def keep_mean(
    before: Path,
    tuned: Path,
    own: Sequence[Sample],
    replay: Sequence[Sample],
    target: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Try all shares, and write the mean of the weights that is chosen, calibrated anew.

    Args:
        before: checkpoint before fine-tuning.
        tuned: checkpoint after it.
        own: the robot's images that choose.
        replay: images of recordings of replay that were not trained on; may be empty. Where their true depth is known,
            it judges: lidar sees between the leaves what the pixel does not, and nothing beyond its field.
        target: checkpoint to write. Its header names the share, and all that were tried.
        progress: called with images scored and of all; each counts once per density of the lidar.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        RecordingError: an image cannot be read.
        TrainingError: a network has no finite depth somewhere.
        OutputError: the checkpoint cannot be written.
    """
    first, last = load_checkpoint(before)[0], load_checkpoint(tuned)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    networks = {
        share: blend(first, last[0], share).to(device, memory_format=torch.channels_last) for share in (0.0, *SHARES)
    }
    with_lidar = [thinning for thinning in THINNINGS if thinning]
    parts = Cases(own, with_lidar), Cases(replay, _KNOWN_THINNINGS), Cases(own, [0])
    numbers, total = itertools.count(1), sum(map(len, parts))

    def count() -> None:
        progress(next(numbers), total)

    own_sums, known = (_scored(networks, cases, device, count) for cases in parts[:2])
    tried = [
        Share(share, figures(_pooled(own_sums[share]))['score'], *_loss(known[0.0], known[share])) for share in networks
    ]
    share = choose(tried)
    # Images without lidar choose nothing, but headers tell of them.
    rest = _scored({share: networks[share]}, parts[2], device, count)
    sums = _pooled(own_sums[share]) | _pooled(rest[share])
    more = {'share': share, 'shares': [dataclasses.asdict(entry) for entry in tried]}
    _save(blend(first, last[0], share), sums, last[1], more, target)


def write_mean(
    before: Path,
    tuned: Path,
    share: float,
    samples: Sequence[Sample],
    target: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    by_truth: bool = False,
) -> float:
    """Write one mean of the weights, calibrated anew.

    Args:
        before: a checkpoint.
        tuned: what came of it.
        share: weight of ``tuned``, 0..1.
        samples: images that were not trained on; their errors calibrate the stated deviation.
        target: checkpoint to write. Its header names the share.
        progress: called with the number of images done and of all; each counts once per number of rings given.
        by_truth: whether their errors are those by their true depth, where they have it.

    Returns:
        The factor that the stated deviations were multiplied by.

    Raises:
        CheckpointError: a checkpoint cannot be used, or the two are not of one build.
        SettingsError: the share is not between 0 and 1, or no image has lidar with rings.
        RecordingError: an image cannot be read.
        TrainingError: the mean has no finite depth somewhere.
        OutputError: the checkpoint cannot be written.
    """
    if not 0 <= share <= 1:
        raise SettingsError(f'share is {share}, expected 0 to 1')
    first, last = load_checkpoint(before)[0], load_checkpoint(tuned)
    builds = [f'{network.size} with encoder {network.encoder_name}' for network in (first, last[0])]
    if builds[0] != builds[1]:
        raise CheckpointError(
            f'{str(before)!r} is {builds[0]}, {str(tuned)!r} is {builds[1]}; a mean needs two of one build'
        )
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    mean = blend(first, last[0], share).to(device, memory_format=torch.channels_last)
    cases = Cases(samples, by_truth=by_truth)
    if not len(cases):
        raise SettingsError('no image to calibrate with has lidar; name some in data.validation or data.held_out')
    numbers = itertools.count(1)
    sums = _pooled(_scored({share: mean}, cases, device, lambda: progress(next(numbers), len(cases)))[share])
    return _save(mean.cpu(), sums, last[1], {'share': share}, target)


def _save(
    mean: DepthNet, sums: dict[int, np.ndarray], facts: Mapping[str, Any], more: Mapping[str, Any], target: Path
) -> float:
    """Write a mean with honest deviations; ``facts`` are those of the checkpoint after fine-tuning."""
    correction = std_correction(sums)
    known = {name: facts[name] for name in ('training', 'data', 'step') if name in facts}
    save_calibrated(target, mean, correction, {**known, 'validation': figures(sums, correction), **more})
    return correction


def read_choice(checkpoint: Path) -> Choice:
    """Read what ``keep_mean`` chose.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    facts = load_checkpoint(checkpoint)[1]
    # Earlier releases went all of the way.
    return Choice(facts.get('share', 1.0), tuple(Share(**entry) for entry in facts.get('shares', ())))


# Recording -> thinning -> sums of errors.
_Sums = Mapping[str, Mapping[int, np.ndarray]]


def _scored(
    networks: Mapping[float, DepthNet], cases: Cases, device: torch.device, count: Callable[[], None]
) -> dict[float, _Sums]:
    """Sums of the errors of several networks on the same cases; what enters them is made once."""
    found: dict[float, dict[str, dict[int, np.ndarray]]] = {share: {} for share in networks}
    for case in cases:
        judging = case.judging
        for share, network in networks.items():
            depth, std = predict(network, case, device)
            if not np.isfinite(depth).all():
                raise TrainingError(
                    f'with share {share:g} of the fine-tuned weights the network has no finite depth somewhere in '
                    f'{case.sample.name!r}; lower optimizer.learning_rate and begin anew (--overwrite)'
                )
            parts = found[share].setdefault(case.sample.recording, {})
            parts[case.thinning] = parts.get(case.thinning, np.zeros(NUM_SUMS)) + score(depth, std, judging)
        count()
    return found


def _pooled(parts: _Sums) -> dict[int, np.ndarray]:
    """Sums by thinning, over all recordings."""
    total: dict[int, np.ndarray] = {}
    for sums in parts.values():
        for thinning, values in sums.items():
            total[thinning] = total.get(thinning, 0) + values
    return total


def _loss(before: _Sums, after: _Sums) -> tuple[float | None, float | None]:
    """Relative change of the score, each recording alike: its mean, and what at most a tenth of them exceed."""
    logs = [math.log(figures(after[name])['score'] / figures(sums)['score']) for name, sums in before.items()]
    logs = [value for value in logs if math.isfinite(value)]  # where no point judges, there is no score
    if not logs:
        return None, None
    high = sorted(logs, reverse=True)[int(_MAY_LOSE_MORE * len(logs))]
    return math.expm1(statistics.fmean(logs)), math.expm1(high)
