"""``depth_ros_training simulate``: render drives through procedural worlds into bags."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from depth_ros.errors import OutputError, SettingsError
from depth_ros.estimators.parts import usable_cores
from depth_ros.processes import interrupts_held


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='BAG',
        help='bag to write; with --drives a folder for drive_SEED bags',
    )
    parser.add_argument('--seed', type=int, default=0, help='chooses world, drive and sensors (default 0)')
    parser.add_argument('--frames', type=int, default=100, help='camera frames per drive (default 100)')
    parser.add_argument(
        '--drives',
        type=int,
        default=0,
        metavar='N',
        help='write N drives with seeds from --seed on; finished ones are kept, so an interrupted run resumes',
    )
    parser.add_argument('--world', default='random', help='street, indoor, offroad or random (default)')
    parser.add_argument('--width', type=int, default=0, help='of the image, pixels (default: by the seed)')
    parser.add_argument('--height', type=int, default=0, help='of the image, pixels (default: by the seed)')
    parser.add_argument(
        '--fov', type=float, default=0.0, help='horizontal field of view, degrees (default: by the seed)'
    )
    parser.add_argument(
        '--lidar', default='random', metavar='NAME', help='model of lidar (vlp16, hdl64e, ...) or random (default)'
    )
    parser.add_argument(
        '--robot',
        type=int,
        metavar='SEED',
        help='chooses the sensors in place of --seed, so that all drives are those of one robot',
    )
    parser.add_argument(
        '--lidar-field',
        default='full',
        choices=('full', 'camera'),
        help='whole sweeps, or only beams towards the image, which is quicker (default full)',
    )
    parser.add_argument('--camera-rate', type=float, default=10.0, metavar='HZ', help='default 10')
    parser.add_argument('--lidar-rate', type=float, default=10.0, metavar='HZ', help='default 10')
    parser.add_argument('--textures', default='', metavar='DIR', help='folder of photographs to be used as textures')
    parser.add_argument('--ideal', action='store_true', help='no noise, dropouts, drift or wrong calibration')
    parser.add_argument(
        '--jobs', type=int, default=0, metavar='N', help='processes for --drives (default: as many as cores)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace bags that are there')


def run(arguments: argparse.Namespace) -> None:
    """Render."""
    if min(arguments.seed, arguments.drives, arguments.jobs, arguments.robot or 0) < 0:
        raise SettingsError('--seed, --drives, --jobs and --robot are whole numbers from 0 on')
    from depth_ros_training.simulation.recording import check_settings
    from depth_ros_training.simulation.simulator import SimulationSettings
    from depth_ros_training.simulation.textures import find_photographs

    cores = usable_cores()
    jobs = min(arguments.jobs or cores, max(arguments.drives, 1))
    settings = SimulationSettings(
        world=arguments.world,
        frames=arguments.frames,
        width=arguments.width,
        height=arguments.height,
        fov=arguments.fov,
        lidar=arguments.lidar,
        lidar_field=arguments.lidar_field,
        camera_rate=arguments.camera_rate,
        lidar_rate=arguments.lidar_rate,
        textures=arguments.textures,
        realism=not arguments.ideal,
        threads=cores if jobs == 1 else 1,
        robot=-1 if arguments.robot is None else arguments.robot,
    )
    if settings.textures:
        find_photographs(settings.textures)
    if not arguments.drives:
        work = [(arguments.seed, arguments.out)]
    else:
        if arguments.out.exists() and not arguments.out.is_dir():
            raise OutputError(f'{str(arguments.out)!r} is a file, expected a folder for bags')
        seeds = range(arguments.seed, arguments.seed + arguments.drives)
        work = [(seed, arguments.out / f'drive_{seed:06d}') for seed in seeds]
        if not arguments.overwrite:
            # Bags appear whole or not at all, so one that is there is finished.
            for _, path in work:
                check_settings(path, settings)
            work = [(seed, path) for seed, path in work if not path.exists()]
    bar = _Bar(len(work) * settings.frames, arguments.drives - len(work) if arguments.drives else 0)
    if jobs == 1:
        for index, (seed, path) in enumerate(work):
            before = index * settings.frames
            _drive(seed, settings, path, arguments.overwrite, lambda done, before=before: bar.show(before + done))
    elif work:
        _parallel(work, settings, arguments.overwrite, jobs, bar)
    bar.finish()


def _parallel(work: list[tuple[int, Path]], settings: Any, overwrite: bool, jobs: int, bar: _Bar) -> None:
    context = multiprocessing.get_context('spawn')  # threads of the ray caster do not survive a fork
    frames, stop = context.Value('q', 0), context.Event()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(frames, stop)) as pool:
        try:
            with interrupts_held():  # the workers are told to stop
                waiting = {pool.submit(_drive, seed, settings, path, overwrite, _report) for seed, path in work}
            while waiting:
                done, waiting = wait(waiting, timeout=0.3, return_when=FIRST_EXCEPTION)
                bar.show(frames.value)
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise OutputError(
                'a worker process was killed, for want of memory perhaps; finished bags are kept: '
                'run again with fewer --jobs'
            ) from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _drive(seed: int, settings: Any, path: Path, overwrite: bool, report: Callable[[int], None]) -> None:
    from depth_ros_training.simulation.recording import record
    from depth_ros_training.simulation.simulator import Simulator

    record(Simulator(seed, settings), path, overwrite, report)


_shared: list[Any] = []


def _start_worker(frames: Any, stop: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent gets it too, and says stop
    _shared[:] = [frames, stop]


def _report(_: int) -> None:
    """Count a frame of a worker; leaving through an exception takes the unfinished bag away."""
    frames, stop = _shared
    with frames.get_lock():
        frames.value += 1
    if stop.is_set():
        raise KeyboardInterrupt


class _Bar:
    """Progress on one line of the terminal."""

    def __init__(self, total: int, kept: int) -> None:
        self._total, self._done, self._kept = total, 0, kept
        self._start = self._shown = time.perf_counter()

    def show(self, done: int) -> None:
        self._done = done
        now = time.perf_counter()
        if sys.stderr.isatty() and now - self._shown > 0.2:
            self._shown = now
            share = self._done / self._total
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / max(rate, 1e-9)
            print(
                f'\r[{"#" * int(30 * share):30}] {self._done}/{self._total} frames, {rate:.1f}/s, {left:.0f} s left ',
                end='',
                file=sys.stderr,
            )

    def finish(self) -> None:
        seconds = time.perf_counter() - self._start
        if sys.stderr.isatty():
            print(file=sys.stderr)
        kept = f'; {self._kept} bags were there already' if self._kept else ''
        print(f'{self._done} frames in {seconds:.1f} s ({self._done / max(seconds, 1e-9):.2f} per second){kept}')
