import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='checkpoints are made with torch')
pytest.importorskip('onnx', reason='exporting needs onnx')

import onnx
import torch

from depth_ros.cli.main import main
from depth_ros.errors import CheckpointError, FrameRefused, MissingDependencyError
from depth_ros.estimators import exported
from depth_ros.estimators.classical import ClassicalEstimator
from depth_ros.estimators.export import export
from depth_ros.estimators.exported import ExportedEstimator, engine_key
from depth_ros.estimators.learned import reference_input
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.estimators.registry import create_estimator
from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.weights import EXPORTED
from depth_ros.settings import EstimatorSettings, Settings
from depth_ros.types import Camera, Frame, SparseDepth

ROOT = Path(__file__).parents[2]
ENGINES = [name for name in ('openvino', 'onnxruntime') if __import__('importlib').util.find_spec(name)]


def changed_metadata(path, change):
    model = onnx.load(path)
    entry = next(item for item in model.metadata_props if item.key == exported.METADATA_KEY)
    facts = json.loads(entry.value)
    change(facts)
    entry.value = json.dumps(facts)
    onnx.save(model, path)


@pytest.fixture(scope='module')
def files(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    for file in weights.iterdir():
        shutil.copy(file, folder / f'net{file.suffix}')
    return folder


@pytest.fixture
def onnx_file(files, tmp_path):
    return Path(shutil.copy(files / 'net.onnx', tmp_path))


def settings(path, **changes):
    return EstimatorSettings(checkpoint=str(path), device='cpu', **changes)


@pytest.mark.parametrize('engine', ['openvino', 'onnxruntime'])
@pytest.mark.parametrize('shape', [(96, 192), (375, 1242)])
def test_engines_give_what_torch_gives(files, onnx_file, engine, shape, monkeypatch):
    if engine not in ENGINES:
        pytest.skip(f'{engine} is not installed')
    monkeypatch.setitem(sys.modules, {'openvino': 'onnxruntime', 'onnxruntime': 'openvino'}[engine], None)
    frame, sparse = reference_input()
    if shape != frame.camera.shape:
        import cv2

        image = cv2.resize(frame.image, shape[::-1])
        frame = Frame(1, image, 'rgb8', Camera(shape[1], shape[0], 700.0, 700.0, 620.0, 187.0))
        sparse = SparseDepth(sparse.u * 6, sparse.v * 3, sparse.depth, sparse.std, shape)
    estimator = ExportedEstimator(settings(onnx_file))
    assert estimator.status.engine == engine
    assert not estimator.status.fallback
    expected = NetworkEstimator(settings(files / 'net.safetensors')).estimate(frame, sparse)
    for found, wanted in zip(estimator.estimate(frame, sparse), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_weights_that_half_precision_holds_take_half_the_space_and_change_nothing(files, tmp_path, onnx_file):
    network, facts = load_checkpoint(files / 'net.safetensors')
    assert onnx_file.stat().st_size < 1.1 * (files / 'net.safetensors').stat().st_size
    with torch.no_grad():
        network.encoder[0].down.weight[0, 0, 0, 0] *= 1 + 2**-20  # beyond half precision
    save_checkpoint(tmp_path / 'exact.safetensors', network, {'reference': facts['reference']})
    export(tmp_path / 'exact.safetensors', tmp_path / 'exact.onnx')
    model = onnx.load(tmp_path / 'exact.onnx')
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert kinds['network.encoder.0.down.weight'] == onnx.TensorProto.FLOAT
    assert kinds['network.encoder.1.down.weight_f16'] == onnx.TensorProto.FLOAT16


def test_results_do_not_change_when_the_next_frame_comes(onnx_file):
    frame, sparse = reference_input()
    estimator = ExportedEstimator(settings(onnx_file))
    depth, std = estimator.estimate(frame, sparse)
    before = depth.copy(), std.copy()
    estimator.estimate(type(frame)(2, 255 - frame.image, 'rgb8', frame.camera), sparse)
    np.testing.assert_array_equal(depth, before[0])
    np.testing.assert_array_equal(std, before[1])


def test_two_threads_get_the_depth_of_their_own_image(onnx_file):
    frame, sparse = reference_input()
    frames = [frame, type(frame)(2, 255 - frame.image, 'rgb8', frame.camera)]
    estimator = ExportedEstimator(settings(onnx_file))
    expected = [estimator.estimate(each, sparse) for each in frames]
    real, meeting = estimator._run, threading.Barrier(2)

    def run_and_wait_for_the_other(inputs):
        result = real(inputs)
        try:
            meeting.wait(0.5)
        except threading.BrokenBarrierError:
            meeting.reset()
        return result

    estimator._run = run_and_wait_for_the_other
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda each: estimator.estimate(each, sparse), frames))
    np.testing.assert_array_equal(found, expected)


def test_images_of_ever_new_sizes_do_not_fill_the_memory(onnx_file, monkeypatch):
    openvino = pytest.importorskip('openvino', reason='OpenVINO is not installed')
    alive, real = weakref.WeakSet(), openvino.CompiledModel.create_infer_request

    def watched(compiled):
        request = real(compiled)
        alive.add(request)
        return request

    monkeypatch.setattr(exported, 'MAX_CAMERAS', 2)
    monkeypatch.setattr(openvino.CompiledModel, 'create_infer_request', watched)
    estimator = ExportedEstimator(settings(onnx_file), 'OpenVINO')
    for width in (32, 64, 96):
        camera = Camera(width, 32, 50.0, 50.0, width / 2, 16.0)
        frame = Frame(1, np.zeros((32, width, 3), np.uint8), 'rgb8', camera)
        none = SparseDepth(*(np.zeros(0, np.float32) for _ in range(4)), shape=camera.shape)
        assert estimator.estimate(frame, none)[0].shape == camera.shape
    assert len(alive) == 2


def test_half_precision_is_smaller_and_close(files, tmp_path):
    estimator = export(files / 'net.safetensors', tmp_path / 'half.onnx', 'fp16')
    assert (tmp_path / 'half.onnx').stat().st_size < 1.1 * (files / 'net.safetensors').stat().st_size
    assert 0 < estimator.status.max_relative_error < 0.02
    assert estimator.status.precision == 'f16'


def test_an_engine_that_gives_something_else_is_refused(onnx_file):
    changed_metadata(onnx_file, lambda facts: facts.update(reference=[1.01 * value for value in facts['reference']]))
    with pytest.raises(CheckpointError, match=r'self-check: it differs from the reference by 0\.9'):
        ExportedEstimator(settings(onnx_file))


def test_a_precision_that_the_engine_cannot_do_is_a_fallback(onnx_file):
    status = ExportedEstimator(settings(onnx_file, precision='f16')).status
    assert status.precision == 'f32'
    assert status.fallback
    assert 'f16, which is asked for' in str(status)


def test_an_engine_that_fails_is_passed_over_and_named(onnx_file, monkeypatch):
    def broken(*_):
        raise RuntimeError('illegal instruction')

    real = exported._candidates(settings(onnx_file))
    monkeypatch.setattr(exported, '_candidates', lambda _: [('TensorRT', broken), *real])
    estimator = ExportedEstimator(settings(onnx_file))
    assert estimator.status.fallback
    assert 'TensorRT: illegal instruction' in str(estimator.status)


def test_a_file_without_reference_is_refused(onnx_file):
    changed_metadata(onnx_file, lambda facts: facts.pop('reference'))
    with pytest.raises(CheckpointError, match='no reference output'):
        ExportedEstimator(settings(onnx_file))


def test_input_that_has_changed_since_the_export_is_refused(onnx_file):
    changed_metadata(onnx_file, lambda facts: facts['input'].update(version=99))
    with pytest.raises(CheckpointError, match='input version 99'):
        ExportedEstimator(settings(onnx_file))


@pytest.mark.parametrize('reference', ['abc', {'a': 1}, [[1, 2], [3]]])
def test_a_reference_that_is_no_list_of_numbers_is_refused(onnx_file, files, tmp_path, reference):
    changed_metadata(onnx_file, lambda facts: facts.update(reference=reference))
    with pytest.raises(CheckpointError, match='no list of numbers; export it again'):
        ExportedEstimator(settings(onnx_file))
    network, _ = load_checkpoint(files / 'net.safetensors')
    save_checkpoint(tmp_path / 'net.safetensors', network, {'reference': reference})
    with pytest.raises(CheckpointError, match='no list of numbers; export it again'):
        NetworkEstimator(settings(tmp_path / 'net.safetensors'))


@pytest.mark.parametrize('text', ['[]', '"x"', '3', '[' * 100_000, '{"input": null}', '{"input": 3}'])
def test_metadata_of_another_kind_is_refused(tmp_path, text):
    model = onnx.ModelProto()
    entry = model.metadata_props.add()
    entry.key, entry.value = exported.METADATA_KEY, text
    (tmp_path / 'net.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r'damaged|input version None'):
        ExportedEstimator(settings(tmp_path / 'net.onnx'))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'\x80\x02}', b'onnx' * 100])
def test_files_that_are_no_export_are_refused(tmp_path, content):
    (tmp_path / 'net.onnx').write_bytes(content)
    with pytest.raises(CheckpointError, match=r'damaged|pickle'):
        ExportedEstimator(settings(tmp_path / 'net.onnx'))


def test_a_truncated_export_is_refused(onnx_file):
    onnx_file.write_bytes(onnx_file.read_bytes()[:-20_000])
    with pytest.raises(CheckpointError):
        ExportedEstimator(settings(onnx_file))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_frame_with_values_that_are_not_finite_is_refused(files, value, monkeypatch):
    estimator = NetworkEstimator(settings(files / 'net.safetensors'))
    real = estimator.run

    def broken(network_input):
        depth, std = (array.copy() for array in real(network_input))
        depth[3, 5] = value
        return depth, std

    monkeypatch.setattr(estimator, 'run', broken)
    with pytest.raises(FrameRefused, match='1 pixels') as refusal:
        estimator.estimate(*reference_input())
    assert refusal.value.reason == 'not_finite'


def test_a_checkpoint_whose_output_has_changed_is_refused(files, tmp_path):
    network, facts = load_checkpoint(files / 'net.safetensors')
    with torch.no_grad():
        network.head.bias += 0.1
    save_checkpoint(tmp_path / 'net.safetensors', network, {'reference': facts['reference']})
    with pytest.raises(CheckpointError, match='self-check'):
        NetworkEstimator(settings(tmp_path / 'net.safetensors'))


def test_classical_steps_in_only_if_it_is_set_and_says_why(tmp_path):
    missing = str(tmp_path / 'nowhere.safetensors')
    with pytest.raises(CheckpointError, match='nowhere'):
        create_estimator(Settings(estimator=EstimatorSettings(method='network', checkpoint=missing)))
    given = Settings(estimator=EstimatorSettings(method='network', checkpoint=missing, fallback=True))
    estimator = create_estimator(given)
    assert isinstance(estimator, ClassicalEstimator)
    assert 'nowhere' in estimator.replaces


def test_cuda_that_is_not_there_is_named(files):
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(CheckpointError, match='no CUDA device'):
        NetworkEstimator(EstimatorSettings(checkpoint=str(files / 'net.safetensors'), device='cuda'))
    if ENGINES and 'CUDAExecutionProvider' not in exported_providers():
        with pytest.raises(MissingDependencyError, match='onnxruntime-gpu'):
            ExportedEstimator(EstimatorSettings(checkpoint=str(files / 'net.onnx'), device='cuda'))


def exported_providers():
    onnxruntime = pytest.importorskip('onnxruntime')
    return onnxruntime.get_available_providers()


def test_a_robot_needs_no_torch_for_an_export(onnx_file):
    program = (
        "import sys\nfor name in ('torch', 'onnx', 'safetensors', 'rclpy'): sys.modules[name] = None\n"
        'from depth_ros.estimators.registry import create_estimator\n'
        'from depth_ros.estimators.learned import reference_input\n'
        'from depth_ros.settings import EstimatorSettings, Settings\n'
        f"settings = EstimatorSettings(method='exported', checkpoint={str(onnx_file)!r})\n"
        'print(create_estimator(Settings(estimator=settings)).estimate(*reference_input())[0].shape)\n'
    )
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == '(96, 192)', done.stderr


def test_built_engines_are_kept_apart_by_model_gpu_and_version():
    keys = {
        engine_key(b'a', 'Orin', '10'), engine_key(b'b', 'Orin', '10'), engine_key(b'a', 'H200', '10'),
        engine_key(b'a', 'Orin', '8'), engine_key(b'a', 'Orin1', '0'),
    }  # fmt: skip
    assert len(keys) == 5
    assert engine_key(b'a', 'Orin', '10') in keys


def test_the_command_exports_and_says_what_is_wrong(files, tmp_path, capsys):
    assert main(['export', str(files / 'net.safetensors'), '--out', str(tmp_path / 'a.onnx')]) == 0
    assert 'differs from the reference by at most' in capsys.readouterr().out
    (tmp_path / 'bad.safetensors').write_bytes(b'nothing')
    assert main(['export', str(tmp_path / 'bad.safetensors'), '--out', str(tmp_path / 'b.onnx')]) == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert not (tmp_path / 'b.onnx').exists()


def test_an_interrupt_after_engines_are_gone_is_an_interrupt(weights):
    pytest.importorskip('openvino', reason='OpenVINO is not installed')
    program = (
        'import gc, signal, sys\n'
        'from depth_ros.estimators.exported import ExportedEstimator\n'
        'from depth_ros.settings import EstimatorSettings\n'
        "settings = EstimatorSettings(checkpoint=sys.argv[1], device='cpu')\n"
        "first, second = (ExportedEstimator(settings, 'OpenVINO') for _ in range(2))\n"
        'del first\n'
        'gc.collect()\n'
        'del second\n'
        'gc.collect()\n'
        'try:\n'
        '    signal.raise_signal(signal.SIGINT)\n'
        'except KeyboardInterrupt:\n'
        "    print('interrupted')\n"
    )
    arguments = [sys.executable, '-c', program, str(weights / EXPORTED.name)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, 'interrupted\n'), done.stderr
