"""The command line as a user meets it: help, one line for an error, exit codes."""

import json

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
    ['demo', 'no_such_bag'],
])  # fmt: skip
def test_an_error_is_one_line_and_exit_code_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f'depth_ros {arguments[0]}: ')
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], 'nothing half-written is left'


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
