"""Grids of trainings: each cell a folder of its own, so that an interruption loses one cell at most."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_ros.errors import OutputError, TrainingError
from depth_ros.files import output_errors, whole_file
from depth_ros.processes import hear_interrupts, interrupts_held

_RESULT, _LOCK = 'result.json', 'lock'
_EXPERIMENT = 'experiment.json'


@dataclass(frozen=True)
class Cell:
    """One training of a grid.

    Attributes:
        name: of its folder.
        facts: what makes it this cell, JSON.
    """

    name: str
    facts: Mapping[str, Any]


# Trains and judges one cell in its folder, and returns figures.
Work = Callable[[Cell, Path], Mapping[str, Any]]


def claim(out: Path, facts: Mapping[str, Any], decide: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Make the folder of an experiment, or check that it holds this one.

    Args:
        out: the folder.
        facts: what all cells have in common, JSON.
        decide: called once, when the folder is made, for what is measured rather than given.

    Returns:
        facts, and what was decided.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    path = out / _EXPERIMENT
    facts = json.loads(json.dumps(facts))
    if path.is_file():
        found = json.loads(path.read_text(encoding='utf-8'))
        differing = [name for name, value in facts.items() if found.get(name) != value]
        if differing:
            raise OutputError(
                f'{str(out)!r} holds an experiment that differs in {", ".join(differing)}; name another folder'
            )
        return found
    facts |= decide()
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding='utf-8')
    return facts


def results(cells: Sequence[Cell], out: Path) -> dict[str, dict[str, Any]]:
    """Figures of the cells that are done, by name."""
    found = {}
    for cell in cells:
        path = out / 'cells' / cell.name / _RESULT
        if path.is_file():
            found[cell.name] = json.loads(path.read_text(encoding='utf-8'))
    return found


def run_cells(cells: Sequence[Cell], out: Path, work: Work, jobs: int, say: Callable[[str], None]) -> None:
    """Run the cells that are not done, in their order.

    Other processes, of other sessions too, may run cells of the same folder at the same time: a cell that one of them
    is at is left to it.

    Args:
        cells: the cells.
        out: folder of the experiment.
        work: what to do; with more than one job it has to be importable by name.
        jobs: cells at a time.
        say: called with a line per cell that is done.

    Raises:
        DepthRosError: of ``work``; cells that were done are kept.
        TrainingError: a process with cells ended before its time.
        KeyboardInterrupt: likewise.
    """
    if jobs == 1:
        _run_some(cells, out, work, say)
        return
    context = multiprocessing.get_context('spawn')
    lines = context.SimpleQueue()
    processes = [context.Process(target=_run_in_process, args=(cells, out, work, lines)) for _ in range(jobs)]
    try:
        with interrupts_held():
            for process in processes:
                process.start()
        running, failure = jobs, None
        while running:
            while lines.empty() and any(process.is_alive() for process in processes):
                time.sleep(0.1)
            if lines.empty():
                raise TrainingError('a process with cells was killed, for want of memory perhaps; run it again')
            line = lines.get()
            if isinstance(line, str):
                say(line)
            else:
                running, failure = running - 1, failure or line[0]
        if failure is not None:
            raise failure
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _run_in_process(cells: Sequence[Cell], out: Path, work: Work, lines: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    failure: BaseException | None = None
    try:
        hear_interrupts()
        _run_some(cells, out, work, lines.put)
    except Exception as error:
        failure = error
    except KeyboardInterrupt as error:
        failure = error
    try:
        lines.put((failure,))
    except Exception:
        lines.put((TrainingError(str(failure)),))  # one that cannot travel between processes


def _end_with_parent() -> None:
    # A parent that is killed cannot end its processes: they would train on for hours, unseen.
    multiprocessing.parent_process().join()
    os._exit(1)


def _run_some(cells: Sequence[Cell], out: Path, work: Work, say: Callable[[str], None]) -> None:
    took: list[float] = []
    for cell in cells:
        folder = out / 'cells' / cell.name
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / _LOCK) as ours:
            if not ours or (folder / _RESULT).is_file():
                continue
            started = time.monotonic()
            figures = work(cell, folder)
            took.append(time.monotonic() - started)
            content = {**cell.facts, **figures, 'seconds': round(took[-1], 1)}
            with whole_file(folder / _RESULT) as path:
                path.write_text(json.dumps(content, indent=1), encoding='utf-8')
            left = sum(not (out / 'cells' / other.name / _RESULT).is_file() for other in cells)
            say(f'{cell.name}: {_text(figures)} ({took[-1]:.0f} s; {left} of {len(cells)} left, '
                f'{left * sum(took) / len(took) / 60:.0f} min one after the other)')  # fmt: skip


def _text(figures: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {value:.4g}' for name, value in figures.items() if isinstance(value, float))


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the cell is ours; the system gives the lock back when the process ends, however it ends."""
    with output_errors(path), open(path, 'w', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
