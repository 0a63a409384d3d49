"""From bags to a dataset: in chunks, by several processes, and where it was interrupted it goes on."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.errors import BagError, OutputError, TransformError
from depth_ros.files import check_apart, output_errors, whole_file
from depth_ros.processes import interrupts_held
from depth_ros.settings import Settings, to_flat
from depth_ros.types import LidarScan
from depth_ros_training.data.chunk import Chunks
from depth_ros_training.data.contact_sheet import SHEET
from depth_ros_training.data.dataset import DEPTH_SCALE, FORMAT, INDEX, PARTS, VERSION, lost_files
from depth_ros_training.data.finish import finish
from depth_ros_training.data.plan import BagPlan, PrepareOptions, check_split, make_plans, sweeps
from depth_ros_training.data.poses import LIDAR_ODOMETRY_FILE, lidar_odometry, smoothed, write_poses
from depth_ros_training.data.splits import SplitOptions

# So many that a process whose part is soon done can help the others, and so few that little is read twice.
_RUNS_PER_PROCESS = 2
# Settings that say what a frame is made of.
_GROUPS = ('pairing', 'motion', 'projection', 'camera', 'transforms')
# All that the folder of a recording may hold.
_OF_RECORDING = (
    'image_02', 'image_03', 'proj_depth', 'points', 'truth', 'calib_cam_to_cam.txt', 'calib_velo_to_cam.txt',
    'poses.txt', LIDAR_ODOMETRY_FILE,
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What came out.

    Attributes:
        folder: the dataset.
        head: first line of its index.
        num_kept: images that an earlier run had prepared.
        warnings: what is wrong with the recordings, one line each.
    """

    folder: Path
    head: dict[str, Any]
    num_kept: int
    warnings: tuple[str, ...]


def prepare(
    bags: list[Path],
    out: Path,
    options: PrepareOptions = PrepareOptions(),  # noqa: B008 (frozen)
    split: SplitOptions = SplitOptions(),  # noqa: B008 (frozen)
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    jobs: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Make a dataset of bags.

    Images go through the robot's pipeline (same settings). What is done is kept: an interrupted preparation goes on
    where it stopped, further bags join those that are there, and what was lost of a dataset is made anew.

    Args:
        bags: bags that ``depth_ros inspect`` understands.
        out: folder of the dataset.
        options: what is prepared.
        split: how frames are divided.
        settings: of the pipeline.
        jobs: processes.
        overwrite: begin anew if there is a dataset; what else is in its folder stays.
        progress: called with the number of images done and of all.

    Returns:
        What came out.

    Raises:
        BagError: a bag cannot be read, or nothing can be learnt from it; nothing is written.
        MissingDependencyError: lidar odometry is needed and not installed; nothing is written.
        SettingsError: the split is not possible; what was done is kept for the next run.
        OutputError: the dataset cannot be written, which keeps what was done too, or must not be: another one, or a
            bag, is in its place.
    """
    out = Path(out)
    plans = make_plans(bags, options, settings)
    _check_places(out, plans)
    made = _open_folder(out, plans, options, split, settings, overwrite)
    work = _runs(plans, out, jobs)
    total = sum(plan.num_frames for plan in plans)
    left = round(sum(len(run) * plan.num_frames / plan.num_chunks for plan, run in work))
    kept = max(total - left, 0)
    without = [plan for plan in plans if plan.poses == 'lidar odometry']
    without = [plan for plan in without if not (out / plan.name / LIDAR_ODOMETRY_FILE).exists()]
    try:
        _run(
            [(_localise, (plan, out, settings)) for plan in without],
            [(_prepare_chunks, (plan, run, out, options, settings)) for plan, run in work],
            jobs,
            lambda done: progress(min(kept + done, total), total),
        )
        head, warnings = finish(out, options, split, settings)
    except BagError:
        if made:
            with suppress(OSError):
                _remove(out)
                out.rmdir()
        raise
    progress(total, total)
    return Report(out, head, kept, tuple([note for plan in plans for note in plan.notes] + warnings))


def _runs(plans: list[BagPlan], out: Path, jobs: int) -> list[tuple[BagPlan, range]]:
    """Chunks that are to be done, in runs that are read at one go: some for each process, and as few as will do."""
    missing = [
        (plan, [number for number in range(plan.num_chunks) if not _is_done(out, _part(out, plan.name, number))])
        for plan in plans
    ]
    most = sum(len(numbers) for _, numbers in missing)
    if jobs > 1:
        most = -(-most // (_RUNS_PER_PROCESS * jobs))
    runs: list[tuple[BagPlan, range]] = []
    for plan, numbers in missing:
        for number in numbers:
            last = runs[-1][1] if runs and runs[-1][0] is plan else range(0)
            if last and last.stop == number and len(last) < most:
                runs[-1] = plan, range(last.start, number + 1)
            else:
                runs.append((plan, range(number, number + 1)))
    return runs


def _is_done(out: Path, part: Path) -> bool:
    """Whether a chunk was prepared, and nothing of it was lost since."""
    return part.exists() and not lost_files(out, json.loads(part.read_text(encoding='utf-8'))['frames'])


def _part(out: Path, name: str, number: int) -> Path:
    return out / PARTS / name / f'{number:06d}.json'


def _check_places(out: Path, plans: list[BagPlan]) -> None:
    """Make sure that what is written does not mix with what is read."""
    check_apart(out, [plan.path for plan in plans])
    for plan in plans:
        if plan.name == PARTS:
            raise OutputError(f'the bag {str(plan.path)!r} has the name of a folder that datasets keep; rename it')
        if plan.path.resolve().is_relative_to(out.resolve()):
            raise OutputError(f'{str(out)!r} holds the bag {str(plan.path)!r}, which must stay; choose another folder')


def _open_folder(
    out: Path, plans: list[BagPlan], options: PrepareOptions, split: SplitOptions, settings: Settings, overwrite: bool
) -> bool:
    """Make the folder, or check that what is in it goes together with what is to come; True if it was made.

    A dataset that is there stays whole, as it was, until the new index takes the place of the old one.
    """
    facts = {
        'format': [FORMAT, VERSION, DEPTH_SCALE],
        'chunk_ns': plans[0].chunk_ns,
        'options': {**dataclasses.asdict(options), 'overrides': dataclasses.asdict(options.overrides)},
        'settings': {name: value for name, value in to_flat(settings).items() if name.split('.')[0] in _GROUPS},
    }
    del facts['options']['overrides'], facts['options']['right']  # of single bags
    made, parts = not out.exists(), out / PARTS
    with output_errors(out):
        if not made and (not out.is_dir() or (any(out.iterdir()) and not _is_begun(parts))):
            raise OutputError(f'{str(out)!r} holds something that is no dataset; choose another folder')
        begun = [] if overwrite or not parts.is_dir() else sorted(parts.glob('*/recording.json'))
        spans = {path.parent.name: json.loads(path.read_text(encoding='utf-8')) for path in begun}
        spans |= {plan.name: plan.facts for plan in plans}
        check_split({name: (entry['start_ns'], entry['end_ns']) for name, entry in spans.items()}, split)
        if overwrite and parts.is_dir():
            _remove(out)
        otherwise = f'{str(out)!r} was begun with other options or another release'
        new = {parts / 'dataset.json': _agreed(parts / 'dataset.json', facts, otherwise)}
        for plan in plans:
            path, otherwise = parts / plan.name / 'recording.json', f'{str(out)!r} holds another recording named'
            new[path] = _agreed(path, plan.facts, f'{otherwise} {plan.name!r}')
        for path, text in new.items():
            if not path.exists():
                with whole_file(path) as temporary:
                    temporary.write_text(text, encoding='utf-8')
    return made


def _is_begun(parts: Path) -> bool:
    return parts.is_dir() and ((parts / 'dataset.json').is_file() or not any(parts.iterdir()))


def _agreed(path: Path, facts: dict[str, Any], otherwise: str) -> str:
    """Facts as they are written down, which have to be those that were written down before."""
    text = json.dumps(facts, sort_keys=True)
    if path.exists() and path.read_text(encoding='utf-8') != text:
        raise OutputError(f'{otherwise}; choose another folder, or begin anew (--overwrite)')
    return text


def _remove(out: Path) -> None:
    """Take away a dataset and its contact sheet, and no more."""
    (out / INDEX).unlink(missing_ok=True)
    for folder in [out / path.name for path in (out / PARTS).iterdir() if path.is_dir()]:
        for name in _OF_RECORDING:
            _remove_path(folder / name)
        with suppress(OSError):  # the user keeps something there
            folder.rmdir()
    for name in (SHEET, PARTS):
        _remove_path(out / name)


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


_shared: list[Any] = []


def _start_worker(count: Any, stop: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    _shared[:] = [count, stop]


def _count_in_worker(number: int) -> None:
    count, stop = _shared
    with count.get_lock():
        count.value += number
    if stop.is_set():
        raise KeyboardInterrupt


def _in_worker(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        function(*arguments, _count_in_worker)
    except TransformError as error:  # cannot travel between processes
        raise BagError(str(error)) from None


_Work = list[tuple[Callable[..., None], tuple[Any, ...]]]


def _run(first: _Work, then: _Work, jobs: int, progress: Callable[[int], None]) -> None:
    """Call functions, the ones first and the others when those are done, with one argument more: counts images."""
    if jobs == 1 or len(first) + len(then) <= 1:
        done = 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            progress(done)

        for function, arguments in (*first, *then):
            function(*arguments, count)
        return
    context = multiprocessing.get_context('spawn')
    counter, stop = context.Value('q', 0), context.Event()
    workers = min(jobs, max(len(first), len(then)))
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(counter, stop)) as pool:
        try:
            for work in (first, then):
                with interrupts_held():  # the workers are told to stop
                    waiting = {pool.submit(_in_worker, function, arguments) for function, arguments in work}
                while waiting:
                    finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
                    progress(counter.value)
                    for future in finished:
                        future.result()
        except BrokenProcessPool as error:
            raise OutputError(
                'a worker process was killed, for want of memory perhaps; what was done is kept: run the same command '
                'again, with fewer --jobs'
            ) from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _localise(plan: BagPlan, out: Path, settings: Settings, count: Callable[[int], None]) -> None:
    """Lidar odometry of a recording."""

    def counted() -> Iterator[LidarScan]:
        with suppress(BagError):  # damaged from here on; what follows has no poses
            for scan in sweeps(recording, settings):
                count(0)
                yield scan

    with Recording(plan.path, TopicOverrides(**plan.facts['topics']), settings) as recording:
        write_poses(out / plan.name / LIDAR_ODOMETRY_FILE, smoothed(list(lidar_odometry(counted()))))


def _prepare_chunks(
    plan: BagPlan, run: range, out: Path, options: PrepareOptions, settings: Settings, count: Callable[[int], None]
) -> None:
    """Write the frames of consecutive chunks, and a part of the index for each when all are there."""
    chunks = Chunks(plan, run, out, options, settings)
    try:
        for number, part in chunks.prepare(count):
            with whole_file(_part(out, plan.name, number)) as path:
                path.write_text(json.dumps(part), encoding='utf-8')
    finally:
        chunks.close()
