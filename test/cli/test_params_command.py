"""``depth_ros params``: the table and the file say what ``settings.py`` says; every shipped YAML loads."""

from pathlib import Path

import pytest

from depth_ros.cli.main import main
from depth_ros.settings import Settings, from_flat, load_yaml, parameters

CONFIG = Path(__file__).resolve().parents[2] / 'config'


@pytest.mark.parametrize('option', [[], ['--markdown']])
def test_every_parameter_is_listed(capsys, option):
    assert main(['params', *option]) == 0
    lines = capsys.readouterr().out.splitlines()
    for spec in parameters():
        assert sum(spec.name in line for line in lines) == 1
        assert any(spec.doc in line for line in lines)


def test_the_file_holds_the_defaults(tmp_path):
    path = tmp_path / 'node.yaml'
    assert main(['params', '--out', str(path)]) == 0
    assert load_yaml(path).keys() == {spec.name for spec in parameters()}
    assert from_flat(load_yaml(path)) == Settings()


def test_a_file_that_is_there_is_kept(tmp_path, capsys):
    path = tmp_path / 'node.yaml'
    path.write_text('mine')
    assert main(['params', '--out', str(path)]) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert path.read_text() == 'mine'


@pytest.mark.parametrize(('options', 'said'), [
    (['--markdown', '--out', 'node.yaml'], '--markdown prints'),
    (['--overwrite'], 'name it with --out'),
])  # fmt: skip
def test_options_that_would_be_ignored_are_refused(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    assert main(['params', *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('path', sorted(CONFIG.glob('*.yaml')), ids=lambda path: path.name)
def test_shipped_node_files_load(path):
    from_flat(load_yaml(path))
