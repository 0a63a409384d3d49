"""The acceptance table is made of what `depth_ros evaluate` finds, and goes on where it stopped."""

import json
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='checkpoints need torch')

import torch

from depth_ros.cli.main import main as depth_ros
from depth_ros.errors import OutputError, SettingsError
from depth_ros.estimators.learned import make_reference
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.networks.checkpoint import save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros_training import acceptance as module
from depth_ros_training.acceptance import acceptance, markdown
from depth_ros_training.cli.main import main

RINGS, SHAPE = 32, (64, 160)
GIVEN = ['1/4 of the rings', 'no lidar']
METHODS = ['linear', 'nearest']


def write_frame(folder, seed):
    """A room with a slanted floor, seen by camera and lidar at one place."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    elevation, azimuth = (grid.ravel() for grid in np.meshgrid(
        np.radians(np.linspace(8, -20, RINGS)), np.radians(np.linspace(-40, 40, 160)), indexing='ij'
    ))
    direction = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    distance = np.minimum((12 + seed) / direction[:, 0], 1.6 / np.maximum(-direction[:, 2], 1e-3))
    points = (direction * distance[:, None]).astype(np.float32)
    np.savez(folder / 'points.npz', points=points)
    cv2.imwrite(str(folder / 'image.jpg'), random.integers(0, 255, (*SHAPE, 3), np.uint8))
    (folder / 'calib.json').write_text(json.dumps({
        'width': SHAPE[1], 'height': SHAPE[0], 'K': [[100, 0, 79.5], [0, 100, 25], [0, 0, 1]],
        'camera_from_lidar': [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]],
    }))  # fmt: skip


def write_checkpoint(path, seed):
    torch.manual_seed(seed)
    network = DepthNet().eval()
    torch.nn.init.normal_(network.head.weight, std=0.02)
    save_checkpoint(path, network, {'reference': make_reference(NetworkEstimator.of(network))})
    return path


@pytest.fixture
def data(tmp_path):
    for seed in range(2):
        write_frame(tmp_path / 'data' / 'places' / f'{seed:03d}', seed)
    (tmp_path / 'data' / 'splits.json').write_text(json.dumps({'val_places': ['places/000', 'places/001']}))
    write_checkpoint(tmp_path / 'net.safetensors', 0)
    return tmp_path


def rows_of(data, **checkpoints):
    named = {name: data / path for name, path in (checkpoints or {'net': 'net.safetensors'}).items()}
    return list(acceptance(named, data / 'data', data / 'out', METHODS, ['val_places'], GIVEN))


def test_the_command_prints_what_evaluate_finds(data, capsys):
    command = ['acceptance', str(data / 'net.safetensors'), '--data', str(data / 'data'), '--out', str(data / 'out')]
    assert main([*command, '--sets', 'val_places', '--given', *GIVEN, '--methods', *METHODS]) == 0
    table = capsys.readouterr().out
    assert (data / 'out' / 'acceptance.md').read_text() == table
    rows = json.loads((data / 'out' / 'acceptance.json').read_text())
    assert [row['given'] for row in rows] == GIVEN
    again = ['evaluate', str(data / 'out' / 'bags' / 'val_places'), '--out', str(data / 'alone'), '--no-report']
    assert depth_ros([*again, '--method', ','.join(METHODS), '--ring-step', '4']) == 0
    alone = json.loads((data / 'alone' / 'metrics.json').read_text())['methods']
    for name in METHODS:
        assert rows[0]['figures'][name]['mae'] == pytest.approx(alone[name]['pooled']['mae'])
        assert f'{alone[name]["pooled"]["mae"]:.3f} / {alone[name]["pooled"]["rmse"]:.3f}' in table
    best = min(alone[name]['pooled']['rmse'] for name in METHODS)
    assert rows[0]['ratios']['net']['rmse'] == pytest.approx(rows[0]['figures']['net']['rmse'] / best)
    # Without lidar only the network has an answer, and all points judge it.
    assert list(rows[1]['figures']) == ['net']
    assert rows[1]['ratios']['net'] == {'mae': None, 'rmse': None}
    assert rows[1]['num_truth'] > rows[0]['num_truth']
    assert '| val_places | no lidar | net |' in table


def test_it_goes_on_where_it_stopped_and_does_anew_what_changed(data, monkeypatch):
    calls = []

    def evaluate(*arguments, **options):
        calls.append(arguments)
        return real(*arguments, **options)

    real = module.evaluate
    monkeypatch.setattr(module, 'evaluate', evaluate)
    first = rows_of(data)
    (data / 'out' / 'cells' / 'val_places_no_lidar.json').unlink()
    assert rows_of(data) == first
    assert len(calls) == 3
    write_checkpoint(data / 'net.safetensors', 1)
    assert rows_of(data) != first
    assert len(calls) == 5


def test_results_of_other_recordings_are_not_given_out_for_these(data):
    first = rows_of(data)
    shutil.copytree(data / 'data', data / 'elsewhere')
    checkpoints = {'net': data / 'net.safetensors'}
    with pytest.raises(OutputError, match=r'of the data in .*data.*elsewhere'):
        list(acceptance(checkpoints, data / 'elsewhere', data / 'out', METHODS, ['val_places'], GIVEN))
    assert rows_of(data) == first


def test_what_is_named_twice_is_judged_once(data):
    checkpoints = {'net': data / 'net.safetensors'}
    rows = acceptance(checkpoints, data / 'data', data / 'out', METHODS, ['val_places'] * 2, GIVEN[:1] * 2)
    assert len(list(rows)) == 1


def test_recordings_on_which_no_point_judges_have_no_figures(data, capsys):
    for path in (data / 'data').rglob('points.npz'):
        np.savez(path, points=np.load(path)['points'] * np.float32([20, 20, 20]))
    words = ['acceptance', str(data / 'net.safetensors'), '--data', str(data / 'data'), '--out', str(data / 'out')]
    assert main([*words, '--sets', 'val_places', '--given', GIVEN[0], '--methods', *METHODS]) == 0
    assert '–' in capsys.readouterr().out
    json.loads((data / 'out' / 'acceptance.json').read_text(), parse_constant=pytest.fail)


def test_several_checkpoints_are_compared_in_one_table(data):
    write_checkpoint(data / 'other.safetensors', 1)
    rows = rows_of(data, simulation='net.safetensors', both='other.safetensors')
    assert list(rows[0].ratios) == ['simulation', 'both']
    assert list(rows[0].figures) == [*METHODS, 'simulation', 'both']
    text = markdown(rows).splitlines()
    assert len({line.count('|') for line in text[:3]}) == 1


def test_names_that_clash_or_are_unknown_are_refused(data, capsys):
    with pytest.raises(SettingsError, match='names two methods'):
        rows_of(data, linear='net.safetensors')
    with pytest.raises(SettingsError, match='unknown'):
        list(acceptance({}, data, data / 'out', METHODS, ['nowhere']))
    path = str(data / 'net.safetensors')
    assert main(['acceptance', path, path, '--data', '.', '--out', str(data / 'out')]) == 2
    assert main(['acceptance', 'nowhere.safetensors', '--data', '.', '--out', str(data / 'out')]) == 2
    assert 'nowhere.safetensors' in capsys.readouterr().err
    assert not (data / 'out').exists()
