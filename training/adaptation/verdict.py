"""Is an adapted network better than the one it came from, on what neither of them was trained on?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEFORE, AFTER = 'before', 'after'
FIGURES = ('mae', 'rmse', 'abs_rel', 'delta1', 'within_1_sigma', 'within_2_sigma')
_OF_SIGMA = FIGURES[4:]
_JUDGING = ('mae', 'rmse')
# Less than this is within what another seed would give.
_MIN_GAIN = 0.02
_MAX_LOSS = 0.05
MIN_POINTS = 1000  # with fewer, a single pole decides
_MAX_LOST = 0.001  # of the points; a network answers everywhere or refuses the image


@dataclass(frozen=True)
class Row:
    """Figures before and after on some recordings, pooled over the points that both cover.

    Attributes:
        recordings: what was judged on.
        held_out: True for the part of the recordings that was kept from training, False for other bags.
        given: what the network got.
        num_images: images.
        num_points: points scored.
        before: name -> value, of ``FIGURES``.
        after: likewise.
        coverage: share of the points that each of the two had an answer for, all images counted.
    """

    recordings: str
    held_out: bool
    given: str
    num_images: int
    num_points: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    coverage: tuple[float, float]

    def change(self, name: str) -> float:
        """Relative change of a figure: -0.1 = 10 % lower."""
        return self.after[name] / self.before[name] - 1 if self.before[name] > 0 else math.nan


def pool(recordings: str, held_out: bool, given: str, documents: Sequence[Mapping[str, Any]]) -> Row | None:
    """Pool evaluations of several bags with methods ``before`` and ``after``; None where no point was scored."""
    # Where one of them has no answer, the points that both cover do not show it.
    coverage = tuple(
        sum(entry['methods'][method]['points']['num_covered'] for entry in documents)
        / max(sum(entry['methods'][method]['points']['num_truth'] for entry in documents), 1)
        for method in (BEFORE, AFTER)
    )
    documents = [entry for entry in documents if entry['methods'][BEFORE]['pooled_common']['num_truth']]
    counts = [entry['methods'][BEFORE]['pooled_common']['num_truth'] for entry in documents]
    if not counts:
        return None
    values = {
        method: {name: _pooled(name, [entry['methods'][method] for entry in documents], counts) for name in FIGURES}
        for method in (BEFORE, AFTER)
    }
    images = sum(entry['methods'][BEFORE]['points']['num_images'] for entry in documents)
    return Row(recordings, held_out, given, images, sum(counts), values[BEFORE], values[AFTER], coverage)


def _pooled(name: str, methods: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> float:
    """Mean over points; of squares where the figure is a root mean square."""
    parts = [entry['uncertainty']['pooled'] if name in _OF_SIGMA else entry['pooled_common'] for entry in methods]
    power = 2 if name == 'rmse' else 1
    total = sum(count * part[name] ** power for part, count in zip(parts, counts, strict=True))
    return (total / sum(counts)) ** (1 / power)


@dataclass(frozen=True)
class Verdict:
    """Whether to use the adapted network.

    Attributes:
        better: True = yes.
        text: why, one line.
    """

    better: bool
    text: str


def judge(rows: Sequence[Row]) -> Verdict:
    """Recommend, or not.

    MAE and RMSE of what was held out have to be lower, by 2 % in the geometric mean over all that was given, and none
    of them may be more than 5 % higher; nor may the mean of any other recordings that were to be looked at. No points
    may be left without an answer that had one before. Of what was held out, ``MIN_POINTS`` have to judge.
    """
    held_out = [row for row in rows if row.held_out]
    if max(row.num_points for row in held_out) < MIN_POINTS:
        return Verdict(False, f'what was held out has fewer than {MIN_POINTS} points to judge by; add recordings')
    changes = {(row.given, name): row.change(name) for row in held_out for name in _JUDGING}
    mean = _mean(held_out)
    worst = max(changes, key=lambda key: changes[key])
    text = '; '.join(
        f'with {row.given} MAE {percent(row.change("mae"))} and RMSE {percent(row.change("rmse"))}'
        for row in held_out
    )
    for row in rows:
        if row.coverage[1] < row.coverage[0] - _MAX_LOST:
            return Verdict(
                False,
                f'with {row.given} {100 * row.coverage[1]:.1f} % of the points of {row.recordings} get a depth, before '
                f'{100 * row.coverage[0]:.1f} %',
            )
    if not mean <= -_MIN_GAIN:  # NaN is no gain
        return Verdict(False, f'not better on what was held out ({text}; {percent(-_MIN_GAIN)} in the mean is asked)')
    if changes[worst] > _MAX_LOSS:
        return Verdict(False, f'worse in one figure of what was held out ({text}; {percent(_MAX_LOSS)} is the limit)')
    for name in dict.fromkeys(row.recordings for row in rows if not row.held_out):
        change = _mean([row for row in rows if row.recordings == name and not row.held_out])
        if change > _MAX_LOSS:
            return Verdict(False, f'better on what was held out ({text}), yet {percent(change)} in the mean on {name}')
    return Verdict(True, f'better on what was held out: {text}')


def _mean(rows: Sequence[Row]) -> float:
    """Geometric mean of the changes of MAE and RMSE."""
    logs = [math.log(max(1 + row.change(name), 1e-9)) for row in rows for name in _JUDGING]
    return math.exp(sum(logs) / len(logs)) - 1


def percent(change: float) -> str:
    """A relative change as text."""
    return f'{100 * change:+.1f} %'.replace('-', '−')
