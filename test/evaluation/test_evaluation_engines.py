"""Engines are timed and compared with each other on this machine."""

import importlib.util
import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='engines are compared with torch')
pytest.importorskip('onnx', reason='exporting needs onnx')

import torch
from damaged_bags import damage
from street import write_street

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.cli.main import main
from depth_ros.errors import CheckpointError
from depth_ros.estimators.learned import make_reference
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.evaluation import engines as module
from depth_ros.evaluation.engines import Engine, engines, engines_table
from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.depth_net import DepthNet

if not any(importlib.util.find_spec(name) for name in ('openvino', 'onnxruntime')):
    pytest.skip('neither openvino nor onnxruntime is installed', allow_module_level=True)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'net.safetensors'
    torch.manual_seed(0)
    network = DepthNet().eval()
    torch.nn.init.normal_(network.head.weight, std=0.02)
    save_checkpoint(path, network, {'reference': make_reference(NetworkEstimator.of(network))})
    return path


def test_eager_torch_comes_first_and_every_engine_is_there_once():
    found = engines(compiled=True)
    assert found[0] == Engine('torch', 'cpu', 'f32')
    assert len(set(found)) == len(found)
    assert ('OpenVINO' in {engine.name for engine in found}) == bool(importlib.util.find_spec('openvino'))
    assert Engine('torch compiled', 'cpu', 'f32') in found


def test_the_bench_times_networks_in_processes_of_their_own(monkeypatch, capsys, tmp_path):
    chosen = [engine for engine in engines() if engine.precision == 'f32'][:2]
    monkeypatch.setattr(module, 'engines', lambda compiled: chosen)
    out = tmp_path / 'bench.json'
    arguments = ['bench', '--engines', 'small', '--sizes', '128x96', '--frames', '2', '--threads', '1']
    assert main([*arguments, '--out', str(out)]) == 0
    result = json.loads(out.read_text())['engines']
    entry = result['networks']['small']['128x96']
    first, second = (entry['engines'][engine.text] for engine in chosen)
    assert first['speed_up'] == pytest.approx(1)
    assert second['speed_up'] == pytest.approx(first['median_ms'] / second['median_ms'])
    assert first['roofline_share'] == pytest.approx(first['roofline_ms'] / first['median_ms'])
    assert first['resident_mb'] > first['without_engine_mb'] > 10
    assert second['resident_mb'] < first['resident_mb'], 'an exported engine loads no torch'
    assert entry['gflops'] > 0.1
    assert entry['jetson_orin_estimate_ms']['Orin Nano 8GB'] > entry['jetson_orin_estimate_ms']['AGX Orin 64GB'] > 0
    assert result['input']['128x96']['num_points'] > 1000
    table = engines_table(result)
    assert table in capsys.readouterr().err
    assert chosen[1].text in table


def test_a_process_that_dies_costs_its_row_only():
    assert module._apart(module.os._exit, 1) == {'failed': 'the process died'}
    assert module._apart(abs, -3) == 3


def test_engines_are_compared_on_a_recording(checkpoint, street, capsys):
    assert main(['export', str(checkpoint), '--check', str(street)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if '(5 images)' in line]
    found = {line[:34].strip(): [float(word) for word in line[34:].split('(')[0].split()] for line in lines}
    exact = [errors for name, errors in found.items() if name.endswith('f32')]
    assert exact
    assert all(largest < 1e-3 for _, _, largest, _ in exact)
    assert max(median for median, *_ in exact) < found['torch cpu bf16'][0] < 0.05


def test_engines_are_compared_on_what_a_damaged_recording_still_gives(checkpoint, tmp_path, capsys):
    bag = write_street(tmp_path / 'bag', count=12, compress=True)
    damage(bag)
    assert main(['export', str(checkpoint), '--check', str(bag)]) == 0
    assert '(5 images)' in capsys.readouterr().out


def test_a_recording_of_which_no_image_can_be_answered_compares_nothing(checkpoint, tmp_path, capsys):
    with BagReader(write_street(tmp_path / 'whole')) as reader, BagWriter(tmp_path / 'bag') as writer:
        for item in reader.messages():
            if item.topic != '/tf_static':
                writer.write(item.topic, item.message, item.log_ns)
    assert main(['export', str(checkpoint), '--check', str(tmp_path / 'bag')]) == 2
    assert 'nothing to compare' in capsys.readouterr().err


def test_an_engine_that_falls_back_is_not_measured_as_what_it_is_not(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('depth_ros.estimators.network.TOLERANCES', {'f32': 1e-3, 'bf16': 0.0})
    with pytest.raises(CheckpointError, match='fell back to f32'):
        Engine('torch', 'cpu', 'bf16').load(checkpoint, tmp_path, 1)


def test_a_checkpoint_is_halved(checkpoint, tmp_path, capsys):
    out = tmp_path / 'half.safetensors'
    assert main(['export', str(checkpoint), '--out', str(out)]) == 0
    assert out.stat().st_size < 0.6 * checkpoint.stat().st_size
    full, half = (NetworkEstimator(module.EstimatorSettings(checkpoint=str(path), device='cpu'))
                  for path in (checkpoint, out))  # fmt: skip
    assert half.status.max_relative_error < 1e-3
    found, expected = (np.array(make_reference(estimator)) for estimator in (half, full))
    assert 0 < np.abs(found / expected - 1).max() < 0.02
    assert load_checkpoint(out)[1]['stored'] == 'f16'


@pytest.mark.parametrize('arguments', [[], ['--out', 'net.pt']])
def test_an_export_needs_something_to_do(checkpoint, arguments, capsys):
    assert main(['export', str(checkpoint), *arguments]) == 2
    assert 'expected' in capsys.readouterr().err


@pytest.mark.parametrize('options', [
    ['--out', 'small.safetensors', '--precision', 'fp16'],
    ['--check', 'bag', '--precision', 'fp16'],
    ['--check', 'bag', '--overwrite'],
])  # fmt: skip
def test_options_of_an_export_that_would_be_ignored_are_refused(checkpoint, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['export', str(checkpoint), *options]) == 2
    assert options[2] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_nothing_unasked_and_never_its_checkpoint(checkpoint, tmp_path, capsys):
    whole, out = tmp_path / 'net.safetensors', tmp_path / 'half.safetensors'
    whole.write_bytes(checkpoint.read_bytes())
    out.write_text('mine')
    assert main(['export', str(whole), '--out', str(whole), '--overwrite']) == 2
    assert 'is the input' in capsys.readouterr().err
    assert whole.read_bytes() == checkpoint.read_bytes()
    assert main(['export', str(whole), '--out', str(out)]) == 2
    assert 'say --overwrite' in capsys.readouterr().err
    assert out.read_text() == 'mine'
    assert main(['export', str(whole), '--out', str(out), '--overwrite']) == 0
    assert load_checkpoint(out)[1]['stored'] == 'f16'
