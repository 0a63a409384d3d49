"""The command line as a user meets it: help, one line for an error, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from depth_ros.cli.main import COMMANDS, main


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, '--help'])
    assert ended.value.code == 0
    assert 'usage: depth_ros' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [
    ['inspect', 'no_such_bag'],
    ['evaluate', 'no_such_bag', '--out', 'somewhere'],
    ['bench', '--sizes', '12', '--no-node'],
    ['bench', '--peer', 'no_such_file.py'],
    ['bench', '--frames', '0', '--no-node'],
    ['bench', '--rings', '0', '--no-node'],
    ['bench', '--soak', '10'],
    ['bench', '--soak', '0'],
    ['bench', '--bag', 'no_such_bag', '--sizes', 'foo'],
    ['bench', '--live', '--no-node'],
    ['bench', '--threads', '2', '--no-node'],
    ['bench', '--compiled', '--no-node'],
    ['bench', '--overwrite', '--no-node'],
    ['import', 'kitti-object', '.', '--out', 'bag', '--jpeg-quality', '3'],
    ['import', 'frames', '.', '--out', 'bag', '--jpeg-quality', '3', '--compressed', 'png'],
    ['demo', 'no_such_bag'],
])  # fmt: skip
def test_an_error_is_one_line_and_exit_code_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f'depth_ros {arguments[0]}: ')
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], 'nothing half-written is left'


@pytest.mark.parametrize('module', ['rosbags', 'numba'])
def test_a_module_that_is_not_installed_is_one_line(module):
    program = (
        f'import sys; sys.modules[{module!r}] = None; from depth_ros.cli.main import main; '
        "sys.exit(main(['inspect', 'bag']))"
    )
    ended = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == f"depth_ros inspect: needs the Python module {module!r}, which is not installed\n"


@pytest.mark.parametrize(('arguments', 'said'), [
    (['bench', '--bag', 'bag', '--frames', '9'], '--frames says nothing about --bag'),
    (['bench', '--threads', '2', '--no-node'], '--threads says nothing about the stages'),
    (['bench', '--engines', '--no-node'], '--no-node says nothing about --engines'),
    (['import', 'kitti-object', '.', '--out', 'bag', '--jpeg-quality', '3'], 'stored as png'),
    (['inspect', 'bag', '--overwrite'], 'name it with --node-params'),
])  # fmt: skip
def test_options_that_would_be_ignored_are_refused(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_two_things_to_measure_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['bench', '--bag', 'bag', '--engines', 'nonsense'])
    assert ended.value.code == 2
    assert 'not allowed with' in capsys.readouterr().err


def test_bench_keeps_the_file_that_is_there(capsys, tmp_path):
    (tmp_path / 'bench.json').write_text('mine')
    assert main(['bench', '--no-node', '--out', str(tmp_path / 'bench.json')]) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert (tmp_path / 'bench.json').read_text() == 'mine'


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='there is no /dev/full')
@pytest.mark.parametrize('count', [1, 200_000])
def test_an_answer_that_cannot_be_printed_is_one_line(count):
    done = run_printing(count, '> /dev/full')
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert 'cannot print the answer: No space left on device' in done.stderr


@pytest.mark.parametrize('closed', ['>&-', '>&- 2>&-', '| head -c 1'])
def test_nobody_has_to_read_the_answer(closed):
    done = run_printing(200_000, closed)
    assert done.returncode == 0
    assert done.stderr == ''


def run_printing(count, into):
    """A command that prints so many letters."""
    code = (
        'import sys\nfrom depth_ros.cli import main, params_command\n'
        f"params_command.text_lines = lambda: ['x' * {count}]\nsys.exit(main.main(['params']))"
    )
    command = f'set -o pipefail; "$0" -c "$1" {into}'
    return subprocess.run(['bash', '-c', command, sys.executable, code], capture_output=True, text=True, check=False)


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match='no_such_bag'):
        main(['--debug', 'inspect', 'no_such_bag'])


def test_bench_prints_json_with_machine_and_ratios(capsys, tmp_path):
    out = tmp_path / 'bench.json'
    assert main(['bench', '--no-node', '--sizes', '160x120', '--frames', '3', '--rings', '16', '--out', str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    stages = result['sizes']['160x120']
    assert result['machine']['cores'] >= 1
    for name in ('decode_image', 'decode_cloud', 'project', 'cloud'):
        assert stages[name]['ratio'] == pytest.approx(stages[name]['median_ms'] / stages[name]['memcpy_ms'])
    assert set(stages['estimate']) == {'classical', 'nearest'}
