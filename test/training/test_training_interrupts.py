"""A command that is interrupted while its processes start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prepared_bags import rewrite

ROOT = Path(__file__).parents[2]
TRAINING = [sys.executable, '-m', 'depth_ros_training.cli.main']
CELLS = f"""
import sys
from pathlib import Path
from depth_ros_training.experiments.cells import Cell, run_cells
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training_cells import wait_for
try:
    run_cells([Cell(name, {{}}) for name in 'ab'], Path(sys.argv[2]), wait_for, 2, print)
except KeyboardInterrupt:
    sys.exit(130)
"""


def is_spawned(folder, group):
    try:
        return os.getpgid(int(folder.name)) == group and b'spawn_main' in (folder / 'cmdline').read_bytes()
    except OSError:  # it ended meanwhile
        return False


@pytest.mark.parametrize(
    'command',
    [
        [sys.executable, '-m', 'depth_ros.cli.main', 'bench', '--engines', 'small'],
        [*TRAINING, 'prepare', 'BAG', 'OTHER', '--out', 'OUT', '--jobs', '2', '--split', 'time'],
        [*TRAINING, 'simulate', '--out', 'OUT', '--drives', '2', '--jobs', '2'],
        [sys.executable, '-c', CELLS, 'cells', 'OUT'],
    ],
    ids=lambda command: command[3],
)
def test_a_command_is_interrupted_in_one_line_while_its_processes_start(command, bag, tmp_path):
    other = rewrite(bag, tmp_path / 'other')
    command = [{'BAG': str(bag), 'OTHER': str(other), 'OUT': str(tmp_path / 'out')}.get(part, part) for part in command]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not any(is_spawned(folder, process.pid) for folder in Path('/proc').glob('[0-9]*')):
            assert process.poll() is None
            assert time.monotonic() < deadline
        time.sleep(0.3)  # they import
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert 'Traceback' not in said
