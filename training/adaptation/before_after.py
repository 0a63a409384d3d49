"""The network before and after fine-tuning, evaluated side by side as ``depth_ros evaluate`` does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2

from depth_ros.errors import SettingsError, TrainingError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.registry import create_estimator
from depth_ros.evaluation.evaluate import EvaluationOptions, evaluate
from depth_ros.evaluation.holdout import NoRingsError
from depth_ros.evaluation.pictures import overview
from depth_ros.files import whole_file
from depth_ros.settings import Settings
from depth_ros_training.adaptation.verdict import AFTER, BEFORE, MIN_POINTS, Row, pool

# What the networks get of the lidar, and are judged on the rest.
_FEW_RINGS, _FEWER_RINGS, _MOST_POINTS = '16 rings', 'every second ring', '90 % of the points'
_GIVEN = {_FEW_RINGS: {'input_rings': 16}, _FEWER_RINGS: {'ring_step': 2}, _MOST_POINTS: {}}


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        rows: figures before and after; those of what was held out are pooled.
        notes: what the user should know, one line each.
        pictures: captions and JPEG files.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    pictures: tuple[tuple[str, Path], ...]


def compare(
    own: Mapping[Path, EvaluationOptions],
    also: Mapping[Path, EvaluationOptions],
    many_rings: bool,
    checkpoints: Mapping[str, Path],
    folder: Path,
    settings: Settings,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Comparison:
    """Evaluate two networks, or take what an interrupted comparison found.

    Args:
        own: bags of which a part was held out, and which part.
        also: other bags.
        many_rings: whether the own lidar has more than 16 rings; else every second one is given.
        checkpoints: of ``BEFORE`` and ``AFTER``.
        folder: where evaluations are kept, one file each.
        settings: of the pipeline, as the robot has them.
        say: called with a line per evaluation.
        progress: called with images done and of all.

    Returns:
        The comparison.

    Raises:
        DepthRosError: a bag or network cannot be used, or something cannot be written.
        TrainingError: nothing judges what was held out.
        KeyboardInterrupt: interrupted; what was evaluated whole is kept.
    """
    comparing = _Comparing(checkpoints, folder, settings, say, progress)
    given = (_FEW_RINGS if many_rings else _FEWER_RINGS), _MOST_POINTS
    documents: dict[tuple[str, bool, str], list[Any]] = {}
    names = _told_apart(also)
    pictures = []
    for held_out, parts in ((True, own), (False, also)):
        for bag, base in parts.items():
            for text in given:
                text, document, picture = comparing.cell(bag, held_out, text, base)
                if document is not None:
                    name = 'held out' if held_out else names[bag]
                    documents.setdefault((name, held_out, text), []).append(document)
                if picture is not None:
                    pictures.append((f'{bag.stem}, given {text}', picture))
    found = (pool(*key, some) for key, some in documents.items())
    rows = tuple(row for row in found if row is not None)
    if not any(row.held_out for row in rows):
        raise TrainingError(
            'no withheld lidar point falls into a held-out image, so nothing says whether the network is better; '
            'look at the overlay of `depth_ros evaluate`'
        )
    few = [
        f'{row.recordings}: only {row.num_points} points judge, given {row.given}; below {MIN_POINTS} a single pole '
        'decides'
        for row in rows
        if row.num_points < MIN_POINTS
    ]
    return Comparison(rows, (*comparing.notes, *few), tuple(pictures))


def _told_apart(bags: Iterable[Path]) -> dict[Path, str]:
    """Names of bags, with as many of the folders that they are in as tell them apart."""
    whole = {bag: bag.resolve().parts for bag in bags}
    for count in range(1, max(map(len, whole.values()), default=1) + 1):
        names = {bag: '/'.join(parts[-count:]) for bag, parts in whole.items()}
        if len(set(names.values())) == len(set(whole.values())):
            break
    return names


def load_network(checkpoint: Path, settings: Settings) -> Estimator:
    """A network as the robot runs it, which never falls back to another estimator.

    Raises:
        CheckpointError: it cannot be used, or does not give what it gave when it was made.
    """
    estimator = dataclasses.replace(settings.estimator, checkpoint=str(checkpoint), fallback=False)
    return create_estimator(dataclasses.replace(settings, estimator=estimator), 'network')


@dataclass(eq=False)
class _Comparing:
    """Evaluations of two networks, with what ``compare`` was called with."""

    checkpoints: Mapping[str, Path]
    folder: Path
    settings: Settings
    say: Callable[[str], None]
    progress: Callable[[int, int], None]
    notes: list[str] = field(default_factory=list)

    def cell(
        self, bag: Path, held_out: bool, given: str, base: EvaluationOptions
    ) -> tuple[str, dict[str, Any] | None, Path | None]:
        """Evaluate a bag, or take what an earlier run found; a lidar with few rings is given every second one."""
        options = dataclasses.replace(base, **_GIVEN[given])
        name = hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:8]
        stem = self.folder / f'{bag.stem}_{name}_{"own" if held_out else "also"}_{given.split()[0]}'
        path, picture = stem.with_name(f'{stem.name}.json'), stem.with_name(f'{stem.name}.jpg')
        if not path.is_file():
            self.say(f'evaluating {bag.name}, given {given}')
            try:
                evaluation = evaluate(bag, self.settings, options, self.progress, estimators=self._estimators)
            except (SettingsError, NoRingsError) as error:
                if given == _FEW_RINGS:
                    return self.cell(bag, held_out, _FEWER_RINGS, base)
                self.notes.append(f'{bag.name}: not evaluated given {given}: {error}')
                return given, None, None
            if evaluation.interrupted:
                raise KeyboardInterrupt
            chosen = evaluation.album.chosen()
            if chosen:
                pixels = overview(chosen[0][1], [BEFORE, AFTER])
                with whole_file(picture) as temporary:
                    encoded = cv2.imencode('.jpg', pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
                    temporary.write_bytes(encoded.tobytes())
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps(evaluation.document, indent=1), encoding='utf-8')
        document = json.loads(path.read_text(encoding='utf-8'))
        if damage := document.get('damage'):
            self.notes.append(f'{bag.name}: given {given}, judged on the images before the damage: {damage}')
        return given, document, picture if picture.is_file() else None

    @cached_property
    def _estimators(self) -> dict[str, Estimator]:
        return {name: load_network(path, self.settings) for name, path in self.checkpoints.items()}
