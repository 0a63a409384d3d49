"""The processes of the demo: a graph of their own, and time for the whole recording."""

import os
from types import SimpleNamespace

import pytest

from depth_ros.cli import demo_command
from depth_ros.cli.main import main
from depth_ros.cli.private_graph import private_graph


@pytest.mark.parametrize('pid', [1, 99, 100, 101, 4_194_300])
def test_the_domain_is_neither_that_of_the_robot_nor_out_of_range(monkeypatch, pid):
    monkeypatch.setattr(os, 'getpid', lambda: pid)
    assert 1 <= int(private_graph()['ROS_DOMAIN_ID']) <= 101


def test_a_long_recording_has_the_time_that_playing_it_takes():
    assert demo_command._time_limit_s(duration_s=3600, rate=0.25) > 4 * 3600 + 60
    assert demo_command._time_limit_s(duration_s=4, rate=1.0) > 60


@pytest.mark.parametrize('rate', ['0', '-1', 'nan', '1000'])
def test_a_rate_that_cannot_be_played_is_refused_before_anything_starts(rate, tmp_path, capsys):
    assert main(['demo', '--rate', rate, '--out', str(tmp_path / 'out')]) == 2
    assert f'--rate is {float(rate):g}, expected 0.01 to 100' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_evaluation_that_was_interrupted_or_found_damage_is_said(tmp_path, monkeypatch):
    (tmp_path / 'evaluation').mkdir()
    ended = SimpleNamespace(interrupted=True, damage='')
    monkeypatch.setattr(demo_command, 'write_results', lambda arguments: ended)
    monkeypatch.setattr(demo_command, 'table', lambda evaluation: '')
    with pytest.raises(KeyboardInterrupt):
        demo_command._evaluate(tmp_path / 'bag', tmp_path, ['nearest'])
    ended.interrupted, ended.damage = False, 'damaged after 3 s'
    assert demo_command._evaluate(tmp_path / 'bag', tmp_path, ['nearest']) == 'damaged after 3 s'
