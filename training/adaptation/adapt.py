"""From recordings of a robot to a network that knows them, and a judgement whether it is better for it.

Stages: prepare a dataset, fine-tune, choose how far to go, evaluate before and after on what was held out, report. Each
leaves what it did in ``OUT/work``, so that an interrupted adaptation goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.bags.companion import TRUTH_TOPIC
from depth_ros.bags.recording import Recording
from depth_ros.errors import BagError, CheckpointError, OutputError, RecordingError, SettingsError
from depth_ros.estimators.downscale import downscale_for
from depth_ros.estimators.learned import BEST_PIXELS
from depth_ros.evaluation.evaluate import EvaluationOptions
from depth_ros.files import output_errors, whole_file
from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.networks.layout import STRIDE
from depth_ros.networks.weights import CHECKPOINT
from depth_ros.settings import Settings, from_flat, to_flat
from depth_ros_training.adaptation.before_after import Comparison, compare, load_network
from depth_ros_training.adaptation.blend import Choice, keep_mean, read_choice
from depth_ros_training.adaptation.choosing import leave_out, open_replay, write_own
from depth_ros_training.adaptation.verdict import AFTER, BEFORE, Row, Verdict, judge
from depth_ros_training.data.dataset import DatasetFolder, Index, read_index
from depth_ros_training.data.plan import BagPlan, PrepareOptions, make_plans
from depth_ros_training.data.prepare import prepare
from depth_ros_training.data.splits import SplitOptions
from depth_ros_training.data.store import SampleFolder
from depth_ros_training.engine.fit import fit
from depth_ros_training.pace import measure_pace
from depth_ros_training.settings import TrainingSettings
from depth_ros_training.systems.registry import SYSTEMS
from depth_ros_training.systems.semi_supervised import BEYOND

ADAPTED, REFUSED = 'adapted.safetensors', 'not_recommended.safetensors'
WORK = 'work'
REPORT, FIGURES_FILE = 'report.html', 'adaptation.json'
_RESULTS = ADAPTED, REFUSED, REPORT, FIGURES_FILE
_REQUEST, _PLAN = 'request.json', 'plan.json'
_BEFORE_FILE, _TUNED_FILE, _AFTER_FILE = 'before.safetensors', 'tuned.safetensors', 'after.safetensors'
_OWN, _REPLAY = 'validation', 'replay_validation'  # samples that choose
# Few images are learnt soon; what is kept beside them takes more.
_REPLAY_SHARE = 0.6
_VALIDATIONS = 5
_BUSY = 0.95  # share of the time that steps and validations may take as measured; over minutes some take longer
_NUM_JUDGED_IMAGES = 60  # per bag and density; more of a recording says little more
_STEPS = 50, 8000  # least and most
# What fine-tuning differs in from the defaults of training. Losses by depth are those of the training that ships: with
# others, what was known changes also where nothing new is learnt. Those by other images have weights beside them as in
# config/training/semi_supervised.yaml, halved: lidar is what judges.
_SETTINGS: dict[str, Any] = {
    'run.keep': 1,
    'data.batch': 2,  # of few frames many small steps learn more per minute than few large ones
    'loss.correction': 0.3,
    'loss.alignment': 1.0,
    'loss.temporal': 0.2,
    'loss.smoothness': 0.01,
    'view.min_zoom': 0.7,  # one robot has one camera
    'view.max_zoom': 1.3,
    'view.min_share': 0.1,  # else images of 960 columns and more would never be seen at their own size
    # A fifth of the training that ships: that ended with steps near 0, and large ones undo what these had found. Steps
    # twice as large gain a little more at all of the way, and for the same gain lose more of what is replayed.
    'optimizer.learning_rate': 0.0003,
    'optimizer.decay_share': 0.7,
}
_OURS = (
    'data.sources', 'data.validation', 'data.held_out', 'data.left_out', 'network.start', 'run.steps',
    'run.steps_per_epoch',
)  # fmt: skip


@dataclass(frozen=True)
class AdaptOptions:
    """What to adapt, and how.

    Attributes:
        checkpoint: network to start from.
        minutes: how long to fine-tune.
        steps: how many steps instead; 0 = by ``minutes``.
        replay: samples or a dataset mixed in, so that what the network knew is not forgotten; None = none.
        also: further bags, not trained on, that must not get worse.
        changes: training settings that differ, ``{'group.field': value}``.
        preparation: what is prepared of the bags.
        split: what is held out.
        jobs: processes that prepare.
    """

    checkpoint: Path = CHECKPOINT
    minutes: float = 20.0
    steps: int = 0
    replay: Path | None = None
    also: tuple[Path, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    preparation: PrepareOptions = field(default_factory=PrepareOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    jobs: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.minutes < math.inf:
            raise SettingsError(f'minutes are {self.minutes}, expected more than 0')
        if self.steps < 0:
            raise SettingsError(f'steps are {self.steps}, expected at least 0')
        ours = sorted(set(self.changes).intersection(_OURS))
        if ours:
            raise SettingsError(f'{", ".join(ours)} cannot be set here: adapt sets it by bags, --minutes and --steps')
        from_flat(self.changes, TrainingSettings())  # before any work


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What came out.

    Attributes:
        checkpoint: the network; its name says whether it is recommended.
        verdict: whether it is, and why.
        rows: figures before and after.
        index: the dataset.
        steps: steps of fine-tuning.
        choice: how far to go to the fine-tuned network.
        notes: what the user should know, one line each.
        pictures: captions and JPEG files, of images before and after.
        folder: of the run: log, TensorBoard, state.
    """

    checkpoint: Path
    verdict: Verdict
    rows: tuple[Row, ...]
    index: Index
    steps: int
    choice: Choice
    notes: tuple[str, ...]
    pictures: tuple[tuple[str, Path], ...]
    folder: Path


def adapt(
    bags: Sequence[Path],
    out: Path,
    options: AdaptOptions,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    bar: bool = False,
) -> Adaptation:
    """Adapt a network to recordings, or go on with an interrupted adaptation.

    Args:
        bags: recordings with camera and lidar; some may be without lidar.
        out: folder for the network and all that led to it; of one adaptation only.
        options: what to adapt, and how.
        settings: of the pipeline, as the robot has them.
        overwrite: begin anew if there is an adaptation.
        say: called with a line per stage, and with what the user should know.
        progress: called with images done and of all, by stages that go through images.
        bar: whether fine-tuning shows a bar.

    Returns:
        What came out. Whether the network is better is for the caller to act on.

    Raises:
        DepthRosError: bags, checkpoint or settings cannot be used, or something cannot be written. What was done is
            kept, and the same call goes on from it.
        KeyboardInterrupt: likewise.
    """
    return _Adapting([Path(bag) for bag in bags], Path(out), options, settings, say, progress, bar).run(overwrite)


class _Adapting:
    """State of one adaptation."""

    def __init__(
        self,
        bags: list[Path],
        out: Path,
        options: AdaptOptions,
        settings: Settings,
        say: Callable[[str], None],
        progress: Callable[[int, int], None],
        bar: bool,
    ) -> None:
        self.bags, self.out, self.options, self.settings = bags, out, options, settings
        self.say, self.progress, self.bar = say, progress, bar
        self.work = out / WORK
        self.notes: list[str] = []
        self._exact: set[Path] = set()  # other bags with true depth

    def run(self, overwrite: bool) -> Adaptation:
        start = self._start()
        plans = make_plans(self.bags, self.options.preparation, self.settings)
        if not any(plan.points for plan in plans):
            raise BagError(
                f'no lidar in {", ".join(str(plan.path) for plan in plans)}: nothing could judge the network; adapt '
                'with at least one bag with sensor_msgs/PointCloud2, or name its topic (--points)'
            )
        self._check_what_is_read_late()
        self._claim(start, overwrite)
        if not (self.work / _BEFORE_FILE).is_file():
            with whole_file(self.work / _BEFORE_FILE) as path:
                path.write_bytes(start)
        index = self._prepare()
        self._note_differences(index)
        training, steps = self._training(index)
        choice = self._fine_tune(training)
        compared = self._evaluate(plans, index)
        verdict = judge(compared.rows)
        checkpoint = self._keep(verdict)
        notes = tuple(dict.fromkeys(self.notes))
        return Adaptation(
            checkpoint, verdict, compared.rows, index, steps, choice, notes, compared.pictures, self.work / 'run'
        )

    def _start(self) -> bytes:
        """The checkpoint to start from, which has to be one."""
        path = self.options.checkpoint
        if path == CHECKPOINT and not path.is_file():
            raise CheckpointError('this installation holds no weights; name a checkpoint to start from (--checkpoint)')
        if path.suffix == '.onnx':
            raise CheckpointError(f'{str(path)!r} is an export, which cannot be trained; name the .safetensors file')
        load_checkpoint(path)
        # Whether it gives what it gave when it was made: fine-tuning first would be in vain.
        load_network(path, self.settings)
        return path.read_bytes()

    def _check_what_is_read_late(self) -> None:
        """Other bags are read after the training only, which would be in vain if one of them could not be."""
        for bag in self.options.also:
            with Recording(bag, settings=self.settings) as recording:
                if not recording.selection.points:
                    raise BagError(f'bag {str(bag)!r} (--also) has no lidar, so nothing could judge; leave it out')
                if recording.reader.has(TRUTH_TOPIC):
                    self._exact.add(bag)
        if self.options.replay is not None:
            open_replay(self.options.replay)

    def _claim(self, start: bytes, overwrite: bool) -> None:
        """Make the folder, or check that what is in it is this adaptation."""
        options = self.options
        facts = {
            'bags': [str(bag.resolve()) for bag in self.bags],
            'checkpoint': hashlib.sha256(start).hexdigest(),
            'minutes or steps': options.steps or f'{options.minutes:g} min',
            'replay': None if options.replay is None else str(options.replay.resolve()),
            'settings': dict(options.changes),
            'preparation': dataclasses.asdict(options.preparation),
            'split': dataclasses.asdict(options.split),
            # What the robot runs until then makes no difference: it is set to the result afterwards.
            'pipeline': {**to_flat(self.settings), 'estimator.checkpoint': ''},
        }
        facts = json.loads(json.dumps(facts))
        path = self.work / _REQUEST
        with output_errors(self.out):
            if self.out.exists() and not self.out.is_dir():
                raise OutputError(f'{str(self.out)!r} is no folder; name another one')
            if self.out.is_dir() and any(self.out.iterdir()) and not path.is_file():
                raise OutputError(f'{str(self.out)!r} holds other files; name a new folder with --out')
            if overwrite:
                self._remove()
            self.work.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            found = json.loads(path.read_text(encoding='utf-8'))
            differing = [name for name, value in facts.items() if found.get(name, value) != value]
            if differing:
                raise OutputError(
                    f'{str(self.out)!r} holds an adaptation that differs in {", ".join(differing)}; name another '
                    'folder, or begin anew (--overwrite)'
                )
            return
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(facts, indent=1), encoding='utf-8')

    def _remove(self) -> None:
        """Take away what an earlier run made here, and no more."""
        options = self.options
        for path in (*self.bags, *options.also, *((options.replay,) if options.replay else ()), options.checkpoint):
            if path.resolve().is_relative_to(self.work.resolve()):
                raise OutputError(f'{str(path)!r} is part of what --overwrite would remove; name another --out')
        for name in _RESULTS:
            (self.out / name).unlink(missing_ok=True)
        if self.work.exists():
            shutil.rmtree(self.work)

    def _prepare(self) -> Index:
        folder = self.work / 'dataset'
        try:
            index = read_index(folder)
            self.notes += json.loads((self.work / 'notes.json').read_text(encoding='utf-8'))
        except (RecordingError, OSError, ValueError):
            self.say('preparing the recordings')
            report = prepare(
                self.bags, folder, self.options.preparation, self.options.split, self.settings, self.options.jobs,
                progress=self.progress,
            )  # fmt: skip
            self._write_json('notes.json', list(report.warnings))
            self.notes += report.warnings
            index = read_index(folder)
        for split, what in (('train', 'to train on'), ('val', 'to choose by'), ('test', 'to judge by')):
            frames = [entry for entry in index.frames if entry['split'] == split]
            if not any('points' in entry for entry in frames):
                raise SettingsError(
                    f'none of the {len(frames)} images {what} has lidar; split otherwise (--split, --shares), or add '
                    'bags'
                )
        return index

    def _note_differences(self, index: Index) -> None:
        sizes = {
            (camera['width'], camera['height'], round(camera['intrinsics'][0]))
            for facts in index.head['recordings'].values()
            for camera in facts['cameras'][:1]
        }
        if len(sizes) > 1:
            text = ', '.join(f'{width}x{height} with focal length {focal} px' for width, height, focal in sorted(sizes))
            self.notes.append(f'recordings of different cameras ({text}): the network is adapted to all of them')

    def _training(self, index: Index) -> tuple[TrainingSettings, int]:
        """All settings of the fine-tuning; how many steps is measured once and kept."""
        trained = [entry for entry in index.frames if entry['split'] == 'train']
        cameras = [camera for facts in index.head['recordings'].values() for camera in facts['cameras'][:1]]
        downscale = min(
            downscale_for(BEST_PIXELS, (camera['height'], camera['width']), self.settings.estimator.downscale)
            for camera in cameras
        )
        height, width = (
            min(camera[key] for camera in cameras) // downscale // STRIDE * STRIDE for key in ('height', 'width')
        )
        values = {
            **_SETTINGS,
            # Images of the size at which the robot's network gets them.
            **{name: _SETTINGS[name] / downscale for name in ('view.min_zoom', 'view.max_zoom')},
            'data.crop_height': max(min(224, height), STRIDE),
            'data.crop_width': max(min(480, width), STRIDE),
            'data.workers': min(2, os.cpu_count() or 1),
            'network.start': _BEFORE_FILE,
            'data.validation': [f'1 samples {_OWN}'],
            'data.sources': ['1 dataset dataset train'],
        }
        if self.options.replay is not None:
            values['data.sources'] = [f'{1 - _REPLAY_SHARE:g} dataset dataset train', self._replay()]
            values['data.left_out'] = leave_out(self.options.replay, self.work / _REPLAY, index.head['recordings'])
            if not values['data.left_out']:
                self.notes.append(
                    'too few recordings of --replay have lidar to leave one out of training: how far to go is chosen '
                    'without regard to what is forgotten'
                )
        if not any('P' in entry['classes'] for entry in trained):
            values['loss.alignment'] = 0.0
            self.notes.append('no right images: nothing is learnt from stereo')
        if not any('T' in entry['classes'] for entry in trained):
            values['loss.temporal'] = 0.0
            self.notes.append('no images before and after with motion: nothing is learnt from them')
        elif all('L' in entry['classes'] for entry in trained):
            # Beside lidar they changed no figure by more than 0.1 %, and took a third of the time.
            values['loss.temporal'] = 0.0
            self.notes.append('every image has lidar, which teaches more in the same time than images before and after')
        if not values['loss.alignment'] and not values['loss.temporal']:
            values['loss.smoothness'] = 0.0
        settings = from_flat({**values, **self.options.changes}, TrainingSettings())
        if 'run.system' not in self.options.changes and any(getattr(settings.loss, name) for name in BEYOND):
            # Only then: it reads the other images even if nothing is learnt from them.
            settings = dataclasses.replace(settings, run=dataclasses.replace(settings.run, system='semi_supervised'))
        write_own(self.work / 'dataset', self.work / _OWN)
        plan = self._plan(settings)
        steps, epoch = plan['steps'], plan['steps_per_epoch']
        # What is not set by the user follows the length.
        by_length = {
            'average': min(settings.optimizer.average, 1 - 10 / max(steps, 20)),
            'warmup_steps': min(settings.optimizer.warmup_steps, steps // 10),
        }
        free = {name: value for name, value in by_length.items() if f'optimizer.{name}' not in self.options.changes}
        return dataclasses.replace(
            settings,
            run=dataclasses.replace(settings.run, steps=steps, steps_per_epoch=epoch),
            optimizer=dataclasses.replace(settings.optimizer, **free),
        ), steps

    def _replay(self) -> str:
        """The samples to be mixed in, as a source. Paths in sources have no spaces, hence the link."""
        link = self.work / 'replay'
        with output_errors(link):
            if not link.is_symlink():
                link.symlink_to(self.options.replay.resolve())
        prepared = isinstance(open_replay(self.options.replay), DatasetFolder)
        kind, split = ('dataset', ' train') if prepared else ('samples', '')
        return f'{_REPLAY_SHARE:g} {kind} replay{split}'

    def _plan(self, settings: TrainingSettings) -> dict[str, Any]:
        """How many steps."""
        path = self.work / _PLAN
        if not path.is_file():
            plan: dict[str, Any] = {'steps': self.options.steps}
            if not plan['steps']:
                self.say('measuring how long a step takes here')
                pace = measure_pace(SYSTEMS[settings.run.system], settings, self.work)
                seconds = _BUSY * 60 * self.options.minutes - _VALIDATIONS * pace.validation
                plan = {'steps': int(np.clip(seconds / pace.step, *_STEPS)), 'pace': dataclasses.asdict(pace)}
            plan['steps_per_epoch'] = -(-plan['steps'] // _VALIDATIONS)
            self._write_json(_PLAN, plan)
        return json.loads(path.read_text(encoding='utf-8'))

    def _fine_tune(self, settings: TrainingSettings) -> Choice:
        """Train, and keep as much of it as does good."""
        before, tuned, after = (self.work / name for name in (_BEFORE_FILE, _TUNED_FILE, _AFTER_FILE))
        if not (tuned.is_file() or after.is_file()):
            self.say(f'fine-tuning: {settings.run.steps} steps')
            best = fit(SYSTEMS[settings.run.system], settings, self.work, self.work / 'run', self.bar)
            with whole_file(tuned) as path:
                shutil.copyfile(best, path)
        if not after.is_file():
            self.say('choosing how far to go')
            replay = SampleFolder(self.work / _REPLAY) if settings.data.left_out else ()
            keep_mean(before, tuned, SampleFolder(self.work / _OWN), replay, after, self.progress)
        choice = read_choice(after)
        if choice.tried:
            self.notes.append(choice.text)
        return choice

    def _evaluate(self, plans: list[BagPlan], index: Index) -> Comparison:
        """Before and after, on what was held out and on the other bags."""
        held_out = [entry for entry in index.frames if entry['split'] == 'test']
        rings = np.median([entry['num_rings'] for entry in held_out if 'points' in entry])
        own: dict[Path, EvaluationOptions] = {}
        for plan in plans:
            frames = [entry for entry in held_out if entry['recording'] == plan.name]
            if frames and plan.points:
                own[plan.path] = EvaluationOptions(
                    every=max(-(-len(frames) * self.options.preparation.every // _NUM_JUDGED_IMAGES), 1),
                    stamps=(frames[0]['stamp_ns'], frames[-1]['stamp_ns']),
                    overrides=self.options.preparation.overrides,
                )
        # What is known of simulated ones is exact, and everywhere.
        also = {bag: EvaluationOptions(truth=bag in self._exact) for bag in self.options.also}
        if self._exact:
            self.notes.append(f'judged by exact depth: {", ".join(sorted(bag.name for bag in self._exact))}')
        checkpoints = {BEFORE: self.work / _BEFORE_FILE, AFTER: self.work / _AFTER_FILE}
        found = compare(
            own, also, rings > 16, checkpoints, self.work / 'evaluation', self.settings, self.say, self.progress
        )
        self.notes += found.notes
        return found

    def _keep(self, verdict: Verdict) -> Path:
        """Put the network where the user looks for it, by a name that tells whether to use it."""
        names = (ADAPTED, REFUSED) if verdict.better else (REFUSED, ADAPTED)
        with whole_file(self.out / names[0]) as path:
            shutil.copyfile(self.work / _AFTER_FILE, path)
        (self.out / names[1]).unlink(missing_ok=True)
        return self.out / names[0]

    def _write_json(self, name: Path | str, content: Any) -> None:
        with whole_file(self.work / name) as path:
            path.write_text(json.dumps(content, indent=1), encoding='utf-8')

