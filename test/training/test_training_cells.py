"""Cells of an experiment are run once each, by several processes, none of which outlives the command."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

from depth_ros.errors import SettingsError
from depth_ros_training.experiments.cells import Cell, claim, results, run_cells

ROOT = Path(__file__).parents[2]


def wait_for(cell, folder):
    (folder / 'begun.part').write_text(str(os.getpid()))
    (folder / 'begun.part').rename(folder / 'begun')
    time.sleep(60)
    return {}


def name_length(cell, folder):
    return {'length': float(len(cell.name))}


@contextmanager
def another_process(out, jobs, names):
    """A process that is at cells of these names."""
    code = (
        f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n'
        'from test_training_cells import wait_for\n'
        'from depth_ros_training.experiments.cells import Cell, run_cells\n'
        'from pathlib import Path\n'
        f'run_cells([Cell(name, {{}}) for name in {names}], Path({str(out)!r}), wait_for, {jobs}, print)'
    )
    with subprocess.Popen([sys.executable, '-c', code], cwd=ROOT) as other:
        while not all((out / 'cells' / name / 'begun').exists() for name in names):
            assert other.poll() is None
            time.sleep(0.05)
        yield other


def is_running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_a_killed_experiment_leaves_no_process_behind(tmp_path):
    names = ['a', 'bb']
    with another_process(tmp_path, 2, names) as other:
        workers = [int((tmp_path / 'cells' / name / 'begun').read_text()) for name in names]
        other.kill()
        other.wait()
    deadline = time.monotonic() + 20
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_cell_that_another_process_is_at_is_left_to_it(tmp_path):
    cells = [Cell(name, {'name': name}) for name in ('a', 'bb', 'ccc')]
    with another_process(tmp_path, 1, ['bb']) as other:
        run_cells(cells, tmp_path, name_length, 1, print)
        assert set(results(cells, tmp_path)) == {'a', 'ccc'}
        other.kill()
        other.wait()
    # Killed, it holds nothing any longer.
    run_cells(cells, tmp_path, name_length, 1, print)
    assert results(cells, tmp_path)['bb']['length'] == 2


def fail(cell, folder):
    raise SettingsError(f'{cell.name} cannot be')


def test_several_cells_at_a_time(tmp_path):
    cells = [Cell('a' * (number + 1), {'number': number}) for number in range(5)]
    said = []
    run_cells(cells, tmp_path, name_length, 2, said.append)
    assert {name: found['number'] + 1 for name, found in results(cells, tmp_path).items()} == {
        cell.name: len(cell.name) for cell in cells
    }
    assert len(said) == 5
    with pytest.raises(SettingsError, match='x cannot be'):
        run_cells([Cell('x', {})], tmp_path, fail, 2, said.append)
    assert not results([Cell('x', {})], tmp_path)


def test_what_was_measured_is_measured_once(tmp_path):
    assert claim(tmp_path, {'seeds': 3}, lambda: {'steps': 10})['steps'] == 10
    assert claim(tmp_path, {'seeds': 3}, lambda: {'steps': 20})['steps'] == 10
