"""Evaluation of one recording: every method on the same points in one pass."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from depth_ros.bags.companion import TRUTH_TOPIC, TrueDepth
from depth_ros.bags.reader import until_damage
from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.errors import BagError, DamagedBagError, FrameRefused, SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.registry import create_estimator, runs_on
from depth_ros.evaluation.holdout import LidarHoldout, fraction_holdout, full_holdout, ring_holdout, ring_step_holdout
from depth_ros.evaluation.metrics import MAX_DEPTH, distance_to_measurement, near_depth_edge, range_edges, sample
from depth_ros.evaluation.replay import Event, ReplayCounts, replay
from depth_ros.evaluation.scoring import MethodScore, percentiles, strict_json
from depth_ros.evaluation.snapshot import Album, take_snapshot
from depth_ros.pipeline import DepthPipeline, Holdout, Transforms, estimate_depth
from depth_ros.settings import Settings, to_flat
from depth_ros.types import DepthEstimate, Frame, LidarScan, Pose, SparseDepth, holding_pixel

DEFAULT_INPUT_FRACTION = 0.9
_SCANS_TO_COUNT_RINGS = 10
_AROUND_NS = 10_000_000_000  # sweeps and poses before and after the images that are answered


class Listener(Protocol):
    """Hears what is replayed."""

    def start(self, transforms: Transforms) -> None:
        """Called once, before all else, with what joins the frames of the recording."""
        ...

    def add_pose(self, pose: Pose) -> None:
        """Called with every pose, before the images that come after it."""
        ...

    def add_estimate(self, estimate: DepthEstimate) -> None:
        """Called with every estimate of the first method."""
        ...



@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate, and how.

    Attributes:
        methods: estimators to compare; () = the one of the settings.
        input_rings: lidar rings given to the estimators, the rest is withheld; 0 = withhold points instead.
        ring_step: every n-th ring is given to the estimators, the rest is withheld; 0 = see ``input_rings``.
        input_fraction: share of the points given to the estimators where both are 0; 0 = no lidar at all is given.
        truth: judge by the true depth on ``/truth/depth``, which simulated recordings have, at every pixel in place of
            withheld points: lidar sees between the leaves what the pixel does not, and nothing beyond its field.
        max_depth: metres; farther truth does not count.
        max_frames: images answered at most; 0 = all.
        every: only every n-th image is answered.
        stamps: only images stamped from the one time to the other, both included, are answered, ns; None = all.
        overrides: topics that the user named.
        pictures: keep snapshots for a report.
    """

    methods: Sequence[str] = ()
    input_rings: int = 0
    ring_step: int = 0
    input_fraction: float = DEFAULT_INPUT_FRACTION
    truth: bool = False
    max_depth: float = MAX_DEPTH
    max_frames: int = 0
    every: int = 1
    stamps: tuple[int, int] | None = None
    overrides: TopicOverrides = field(default_factory=TopicOverrides)
    pictures: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.input_fraction < 1:
            raise SettingsError(f'input fraction is {self.input_fraction}, expected 0 up to, not including, 1')
        for name, least in (('input_rings', 0), ('ring_step', 0), ('max_frames', 0), ('every', 1)):
            if getattr(self, name) < least:
                raise SettingsError(f'{name.replace("_", " ")} is {getattr(self, name)}, expected at least {least}')
        if not 0 < self.max_depth < float('inf'):
            raise SettingsError(f'max depth is {self.max_depth} m, expected a positive depth')
        if self.input_rings and self.ring_step:
            raise SettingsError('input rings and ring step are both given, expected one of them')
        twice = [name for name, count in Counter(self.methods).items() if count > 1]
        if twice:
            raise SettingsError(f'method {twice[0]!r} is asked for twice, expected each once')

    @property
    def gives_lidar(self) -> bool:
        """False if estimators get the image alone, and all points are there to score them."""
        return bool(self.input_rings or self.ring_step or self.input_fraction)


@dataclass(eq=False)
class Evaluation:
    """What came out.

    Attributes:
        document: content of ``metrics.json``, without NaN.
        scores: score of each method, the first method first.
        album: snapshots for pictures.
        interrupted: True if the user stopped it; what was done until then counts.
        damage: why the bag could not be read to its end, '' if it could; what came before counts.
    """

    document: dict[str, Any]
    scores: dict[str, MethodScore]
    album: Album
    interrupted: bool
    damage: str


def evaluate(
    bag: Path, settings: Settings, options: EvaluationOptions,
    progress: Callable[[int, int], None] = lambda done, total: None, listeners: Sequence[Listener] = (),
    estimators: Mapping[str, Estimator] | None = None,
) -> Evaluation:
    """Replay a bag, withhold lidar points, and score every method on them.

    Every image is decoded, paired and projected once; all methods get the same points. ``grading.withhold``, by which
    the live node grades itself, is replaced by the hold-out of the options.

    Args:
        bag: the recording.
        settings: as the node would have them.
        options: what to evaluate, and how.
        progress: called with the number of images answered or refused, and how many there are.
        listeners: told of every estimate of the first method and of every pose, in the order of the replay.
        estimators: by any names, in place of the methods of the options: to compare several checkpoints.

    Returns:
        The result; after an interrupt (SIGINT) that of the images done so far, of a damaged bag that of the images
        before the damage.

    Raises:
        BagError: the bag cannot be read, has no camera or lidar, or no image could be answered or scored.
        SettingsError: options or settings do not fit the recording.
        KeyboardInterrupt: it was interrupted before the first image was answered.
    """
    if estimators is None:
        estimators = _estimators(settings, options)
    blind = [name for name, estimator in estimators.items() if estimator.needs_lidar]
    if blind and not options.gives_lidar:
        raise SettingsError(
            f'method {blind[0]!r} needs lidar and none is to be given; leave it out, or give some rings or points'
        )
    with Recording(bag, options.overrides, settings) as recording:
        if not recording.selection.points:
            raise BagError(
                f'bag {str(bag)!r} has no lidar to use ({recording.selection.reasons["points"]}); '
                'name its topic with --points'
            )
        if options.truth and not recording.reader.has(TRUTH_TOPIC):
            raise BagError(
                f'bag {str(bag)!r} has no true depth ({TRUTH_TOPIC}), as simulated recordings have; leave out --truth'
            )
        holdout = _holdout(bag, settings, options)
        run = _Run(recording, settings, options, estimators, holdout, progress, listeners)
        if options.truth:
            with closing(TrueDepth(bag)) as run.truth:
                run.play()
        else:
            run.play()
        if run.interrupted and not run.answered:
            raise KeyboardInterrupt
        if not run.answered:
            raise DamagedBagError(run.damage) if run.damage else BagError(run.nothing_text(bag))
        document = run.document(bag, _holdout_facts(holdout, options))
    return Evaluation(strict_json(document), run.scores, run.album, run.interrupted, run.damage)


def _estimators(settings: Settings, options: EvaluationOptions) -> dict[str, Estimator]:
    estimators: dict[str, Estimator] = {}
    for method in options.methods or (settings.estimator.method,):
        estimator = create_estimator(settings, method)
        name = estimator.name if method == 'auto' else method
        if name in estimators:
            raise SettingsError(f"method 'auto' is {name!r} here, and that is asked for as well; leave out one")
        estimators[name] = estimator
    return estimators


def _holdout(bag: Path, settings: Settings, options: EvaluationOptions) -> Holdout:
    if not options.gives_lidar:
        return full_holdout
    if not options.input_rings and not options.ring_step:
        return fraction_holdout(1 - options.input_fraction)
    with Recording(bag, options.overrides, settings) as ahead:
        events = until_damage(ahead.events(), lambda damage: None)
        scans = list(islice((item for _, item in events if isinstance(item, LidarScan)), _SCANS_TO_COUNT_RINGS))
    if options.ring_step:
        return LidarHoldout(partial(ring_step_holdout, options.ring_step), scans)
    return LidarHoldout(partial(ring_holdout, options.input_rings), scans)


def _holdout_facts(holdout: Holdout, options: EvaluationOptions) -> dict[str, Any]:
    """What to say about the hold-out, once the recording has been replayed."""
    if not options.gives_lidar:
        text = 'no lidar was given: depth comes from the image alone; all lidar points were withheld'
        return {'kind': 'all', 'text': text}
    if not isinstance(holdout, LidarHoldout):
        given = f'{100 * options.input_fraction:.3g} %'
        share = f'{100 * (1 - options.input_fraction):.3g} %'
        text = f'{share} of the lidar points, scattered, were withheld; {given} were given'
        return {'kind': 'fraction', 'input_fraction': options.input_fraction, 'text': text}
    counts = sorted({lidar.num_rings for lidar in holdout.lidars.values()})
    of = f'{counts[0]}' if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'
    if options.ring_step:
        text = f'one lidar ring in {options.ring_step} (of {of}) was given, the other rings withheld'
    else:
        text = f'{options.input_rings} of {of} lidar rings were given, the other rings withheld'
    rules = sorted({lidar.inferred for lidar in holdout.lidars.values()} - {''})
    if rules:
        every = all(lidar.inferred for lidar in holdout.lidars.values())
        text += f' ({"the" if every else "some"} clouds name no rings; they were inferred from {" and ".join(rules)})'
    return {
        'kind': 'rings',
        'input_rings': options.input_rings or None,
        'ring_step': options.ring_step or None,
        'lidars': {
            frame: {'rings': lidar.num_rings, 'kept': lidar.kept.tolist(), 'inferred_from': lidar.inferred or None}
            for frame, lidar in holdout.lidars.items()
        },
        'text': text,
    }


class _Run:
    """State of one evaluation."""

    def __init__(
        self, recording: Recording, settings: Settings, options: EvaluationOptions,
        estimators: Mapping[str, Estimator], holdout: Holdout, progress: Callable[[int, int], None],
        listeners: Sequence[Listener],
    ) -> None:
        self.recording, self.settings, self.options = recording, settings, options
        self.estimators, self.progress, self.listeners = estimators, progress, listeners
        self.first = next(iter(estimators))
        self.pipeline = DepthPipeline(settings, recording.transforms, estimators[self.first], holdout)
        self.scores = {name: MethodScore(name, range_edges(options.max_depth)) for name in estimators}
        self.truth: TrueDepth | None = None
        self.album = Album()
        self.counts = ReplayCounts()
        self.refused: Counter[str] = Counter()
        self.refusals: dict[str, str] = {}
        self.motion: Counter[str] = Counter()
        self.stages: dict[str, list[int]] = {}
        self.ages_ns: list[int] = []
        self.without_lidar = 0
        self.without_truth = 0
        self.odometry_unused = 0
        self.why_unused = ''
        self.answered = 0
        self.interrupted = False
        self.damage = ''

    def play(self) -> None:
        total = -(-self.recording.num_frames // self.options.every)
        total = min(total, self.options.max_frames or total)
        done = 0
        for listener in self.listeners:
            listener.start(self.recording.transforms)
        try:
            for answer in replay(self._heard(), self.pipeline, self.counts, self.options.every):
                if isinstance(answer, FrameRefused):
                    self.refused[answer.reason] += 1
                    self.refusals.setdefault(answer.reason, str(answer))
                else:
                    self._take(answer)
                done += 1
                self.progress(done, total)
                if self.options.max_frames and done >= self.options.max_frames:
                    break
        except KeyboardInterrupt:
            self.interrupted = True

    def _heard(self) -> Iterator[Event]:
        stamps, reader = self.options.stamps, self.recording.reader
        span: tuple[int, int] | tuple[()] = ()
        # Where stamps and log go by one clock, the rest need not be read.
        if stamps is not None and reader.start_ns - _AROUND_NS <= stamps[0] and stamps[1] <= reader.end_ns + _AROUND_NS:
            span = stamps[0] - _AROUND_NS, stamps[1] + _AROUND_NS
        for log_ns, item in until_damage(self.recording.events(*span), partial(setattr, self, 'damage')):
            if stamps is not None and isinstance(item, Frame) and not stamps[0] <= item.stamp_ns <= stamps[1]:
                continue
            if isinstance(item, Pose):
                for listener in self.listeners:
                    listener.add_pose(item)
            yield log_ns, item

    def _take(self, estimate: DepthEstimate) -> None:
        depth, std, times = {}, {}, {}
        for name, estimator in self.estimators.items():
            if name == self.first:
                depth[name], std[name], times[name] = estimate.depth, estimate.std, estimate.stage_ns['estimate']
            else:
                started = time.perf_counter_ns()
                depth[name], std[name] = self._beside(name, estimator, estimate)
                times[name] = time.perf_counter_ns() - started
        truth = self._judging(estimate)
        scored = {name: sample(depth[name], std[name], truth, self.options.max_depth) for name in depth}
        some = scored[self.first]
        common = np.logical_and.reduce([points.covered for points in scored.values()])
        columns, rows = holding_pixel(some.u), holding_pixel(some.v)
        distance = distance_to_measurement(estimate.sparse)[rows, columns]
        edge = near_depth_edge(estimate.sparse, truth)[rows, columns]
        frame = estimate.frame
        for name, points in scored.items():
            self.scores[name].add(frame.stamp_ns, frame.camera.shape, points, distance, edge, common, times[name])
        quality = self.scores[self.first].images[-1]['abs_rel']
        if self.options.pictures and self.album.wants(self.answered, quality):
            self.album.add(take_snapshot(self.answered, estimate, depth, std, scored, quality))
        for listener in self.listeners:
            listener.add_estimate(estimate)
        self.answered += 1
        self.motion[estimate.basis.motion] += 1
        if estimate.basis.num_scans:
            self.ages_ns.append(estimate.basis.lidar_age_ns)
        self.without_lidar += not estimate.basis.num_points
        if self.pipeline.odometry_unused:
            self.odometry_unused += 1
            self.why_unused = self.why_unused or self.pipeline.odometry_unused
        for stage, duration in estimate.stage_ns.items():
            if stage != 'estimate':
                self.stages.setdefault(stage, []).append(duration)

    def _judging(self, estimate: DepthEstimate) -> SparseDepth:
        """What estimates of an image are compared with."""
        if self.truth is None:
            judging = estimate.withheld
        else:
            depth = self.truth.depth_at(estimate.frame.stamp_ns, estimate.frame.camera.frame_id)
            judging = None if depth is None else SparseDepth.from_image(depth)
            self.without_truth += judging is None
        if judging is not None:
            return judging
        return SparseDepth.from_image(np.zeros(estimate.frame.camera.shape, np.float32))

    def _beside(self, name: str, estimator: Estimator, estimate: DepthEstimate) -> tuple[np.ndarray, np.ndarray]:
        """What another method makes of the same input; unknown everywhere where it has no answer."""
        try:
            if len(estimate.sparse) == 0 and estimator.needs_lidar:
                raise FrameRefused('no_lidar', estimate.basis.without_lidar)
            return estimate_depth(estimator, estimate.frame, estimate.sparse, self.settings)
        except FrameRefused as refusal:
            reason = f'{name}: {refusal.reason}'
            self.refused[reason] += 1
            self.refusals.setdefault(reason, str(refusal))
            unknown = np.full(estimate.frame.camera.shape, np.nan, np.float32)
            return unknown, unknown

    def nothing_text(self, bag: Path) -> str:
        """Why there is no result at all."""
        reasons = {**self.refusals}
        for reason, _ in self.recording.refused.most_common(1):
            reasons.setdefault('messages', reason)
        said = '; '.join(f'{self.refused[key] or "some"} x {text}' for key, text in reasons.items())
        return f'no image of bag {str(bag)!r} could be answered: {said or "it has none"}'

    def document(self, bag: Path, holdout: dict[str, Any]) -> dict[str, Any]:
        """Content of ``metrics.json``."""
        shared = {'read': percentiles(self.counts.read_ns)}
        shared.update({stage: percentiles(times) for stage, times in self.stages.items()})
        methods = {name: score.document() for name, score in self.scores.items()}
        for name, entry in methods.items():
            entry['latency_ms'] = {**shared, **entry['latency_ms']}
            entry['runs_on'], entry['warning'] = runs_on(self.estimators[name])
        chosen, reader = self.recording.selection, self.recording.reader
        ages = np.abs(self.ages_ns) if self.ages_ns else np.full(1, np.nan)
        untrue = [f'{self.without_truth} of {self.answered} images have no true depth'] if self.without_truth else []
        unused = [f'{self.why_unused} ({self.odometry_unused} of {self.answered} images)'] if self.why_unused else []
        return {
            'methods': methods,
            'bag': {
                'path': str(bag),
                'topics': {role: getattr(chosen, role) for role in ('image', 'camera_info', 'points', 'odometry')},
            },
            'settings': to_flat(self.settings),
            'holdout': holdout,
            'judged_by': f'pixels of {TRUTH_TOPIC}' if self.options.truth else 'withheld points',
            'max_depth': self.options.max_depth,
            'partial': bool(self.interrupted or self.damage),
            'interrupted': self.interrupted,
            'damage': self.damage or None,
            'notes': [*reader.notes, *unused, *untrue],
            'counts': {
                'images': self.counts.num_frames,
                'images_in_bag': self.recording.num_frames,
                'answered': self.answered,
                'answered_without_lidar': self.without_lidar,
                'refused': dict(self.refused),
                'refused_because': self.refusals,
                'dropped_from_queue': self.counts.num_dropped,
                'skipped_by_every': self.counts.num_skipped,
                'scans': self.counts.num_scans,
                'poses': self.counts.num_poses,
                'odometry_unused': self.odometry_unused,
                'undecodable': dict(self.recording.refused),
                'damaged_messages': reader.num_damaged,
                'time_jumps_back': self.pipeline.num_resets,
                'motion': dict(self.motion),
                'lidar_age_ms': {'p50': float(np.median(ages)) / 1e6, 'max': float(ages.max()) / 1e6},
            },
            'units': {
                'mae, rmse, sq_rel, ause_rmse, from, to, max_depth': 'm', 'imae, irmse': '1/km',
                'latency_ms, lidar_age_ms': 'ms',
                'all others': '1',
            },
        }
