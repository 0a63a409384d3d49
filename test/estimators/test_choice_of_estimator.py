"""Which estimator the default is, what steps in for it, and what happens when memory or numbers fail."""

import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('onnx', reason='networks are exported with onnx')

from broken_networks import changed_graph, greedy_for_wide_images, nan_for_bright_images, set_to_nan

from depth_ros.errors import CheckpointError, FrameRefused, MissingDependencyError
from depth_ros.estimators import learned, registry
from depth_ros.estimators.classical import ClassicalEstimator
from depth_ros.estimators.learned import EngineError, reference_input
from depth_ros.estimators.network_input import encode
from depth_ros.estimators.parts import threads_here
from depth_ros.estimators.registry import create_estimator, method_name, runs_on
from depth_ros.networks.weights import CHECKPOINT, EXPORTED
from depth_ros.settings import EstimatorSettings, Settings
from depth_ros.types import SparseDepth


def settings(**changes):
    return Settings(estimator=EstimatorSettings(device='cpu', **changes))


def hide(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def without_lidar():
    frame, sparse = reference_input()
    none = np.zeros(0, np.float32)
    return frame, SparseDepth(none, none, none, none, sparse.shape)


def test_the_default_is_auto():
    assert Settings().estimator.method == 'auto'


def test_weights_that_are_there_change_the_default(weights, tmp_path):
    estimator = create_estimator(settings(), weights=weights)
    assert estimator.name == 'exported'
    assert not estimator.needs_lidar
    assert method_name(settings(), estimator) == 'auto (exported)'
    assert runs_on(estimator)[1] == ''
    assert create_estimator(settings(), weights=tmp_path).name == 'classical'


def test_without_weights_classical_says_so(tmp_path):
    estimator = create_estimator(settings(), weights=tmp_path)
    assert isinstance(estimator, ClassicalEstimator)
    assert 'holds no weights' in runs_on(estimator)[1]
    with pytest.raises(CheckpointError, match='holds no weights'):
        create_estimator(settings(), 'network', tmp_path)


@pytest.mark.parametrize(('has_cuda', 'kind'), [(False, 'exported'), (True, 'network')])
def test_torch_comes_first_where_it_alone_can_use_the_gpu(weights, monkeypatch, has_cuda, kind):
    torch = pytest.importorskip('torch')
    monkeypatch.setattr(registry, '_GPU_DEVICES', ('/dev/null',))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_cuda)
    made = []
    monkeypatch.setattr(registry, '_class', lambda name: lambda _: made.append(name))
    create_estimator(Settings(estimator=EstimatorSettings(fallback=False, checkpoint='')), 'auto', weights)
    assert made[0] == kind


def test_without_engines_torch_runs_it(weights, monkeypatch):
    hide(monkeypatch, 'openvino', 'onnxruntime')
    assert create_estimator(settings(), weights=weights).name == 'network'


def test_without_anything_that_runs_it_classical_names_what_to_install(weights, monkeypatch):
    hide(monkeypatch, 'openvino', 'onnxruntime', 'torch')
    estimator = create_estimator(settings(), weights=weights)
    assert estimator.name == 'classical'
    assert estimator.needs_lidar
    assert "pip install 'depth_ros[engines]'" in runs_on(estimator)[1]
    with pytest.raises(MissingDependencyError, match='engines'):
        create_estimator(settings(), 'network', weights)


def test_network_is_torch_where_there_is_torch_and_an_engine_where_there_is_none(weights, monkeypatch):
    assert create_estimator(settings(), 'network', weights).name == 'network'
    hide(monkeypatch, 'torch')
    assert create_estimator(settings(), 'network', weights).name == 'exported'


@pytest.mark.parametrize(('file', 'name'), [(EXPORTED.name, 'exported'), (CHECKPOINT.name, 'network')])
def test_a_named_checkpoint_is_run_by_what_it_is_for(weights, tmp_path, file, name):
    assert create_estimator(settings(checkpoint=str(weights / file)), weights=tmp_path).name == name


def test_a_named_checkpoint_that_is_broken_is_refused_and_gives_way_only_if_set(tmp_path):
    (tmp_path / 'net.onnx').write_bytes(b'onnx' * 100)
    named = settings(checkpoint=str(tmp_path / 'net.onnx'))
    with pytest.raises(CheckpointError, match='damaged'):
        create_estimator(named)
    estimator = create_estimator(Settings(estimator=replace(named.estimator, fallback=True)))
    assert 'damaged' in runs_on(estimator)[1]


def test_weights_that_ship_and_are_broken_give_way_to_classical_with_a_warning(tmp_path):
    (tmp_path / EXPORTED.name).write_text('version https://git-lfs.github.com/spec/v1')
    pytest.importorskip('onnxruntime')
    assert 'damaged' in runs_on(create_estimator(settings(), weights=tmp_path))[1]


@pytest.mark.parametrize('method', ['network', 'exported'])
def test_without_lidar_depth_comes_from_the_image_and_the_deviation_is_honest_about_it(weights, method):
    estimator = create_estimator(settings(), method, weights)
    depth, std = estimator.estimate(*without_lidar())
    assert np.isfinite(depth).all()
    assert (depth > 0).all()
    assert (std > 0).all()


@pytest.mark.parametrize('text', [
    'CUDA out of memory. Tried to allocate 2.00 GiB', '[Error Code 2: OutOfMemory (no further information)]',
    'CUDNN_STATUS_ALLOC_FAILED', 'std::bad_alloc',
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4611686018427387904 bytes.",
    'bfc_arena.cc:360 void* AllocateRawInternal Failed to allocate memory for requested buffer of size 5',
    'cpu_memory.cpp:257: Failed to allocate 140737488355328 bytes of memory',
])
def test_errors_that_say_that_memory_ran_out_are_known(text):
    assert EngineError(RuntimeError(text)).out_of_memory
    assert EngineError(MemoryError()).out_of_memory
    assert not EngineError(RuntimeError('illegal memory access was encountered')).out_of_memory


def greedy(estimator, precisions):
    """Let the network ask for more than any machine has, while it runs in one of these precisions."""
    import torch

    def ask(module, inputs):
        if estimator.status.precision in precisions:
            torch.empty(2**60)

    estimator._network.register_forward_pre_hook(ask)


def test_out_of_memory_goes_on_in_half_precision_and_says_so(weights):
    estimator = create_estimator(settings(), 'network', weights)
    frame, sparse = reference_input()
    before, _ = estimator.estimate(frame, sparse)
    greedy(estimator, ('f32',))
    after, _ = estimator.estimate(frame, sparse)
    assert estimator.status.precision == 'bf16'
    assert 'f32 ran out of memory' in runs_on(estimator)[1]
    assert 0 < estimator.status.max_relative_error < 0.1
    np.testing.assert_allclose(after, before, rtol=0.1)


def test_out_of_memory_in_every_precision_is_a_refusal_or_classical_if_set(weights):
    estimator = create_estimator(settings(), 'network', weights)
    greedy(estimator, ('f32', 'bf16'))
    with pytest.raises(FrameRefused, match=r'192x96; set estimator\.downscale') as caught:
        estimator.estimate(*reference_input())
    assert caught.value.reason == 'out_of_memory'
    estimator = create_estimator(settings(fallback=True), 'network', weights)
    greedy(estimator._current, ('f32', 'bf16'))
    expected = ClassicalEstimator().estimate(*reference_input())
    np.testing.assert_array_equal(estimator.estimate(*reference_input()), expected)
    assert estimator.name == 'classical'
    assert estimator.needs_lidar
    assert 'no memory left' in runs_on(estimator)[1]
    np.testing.assert_array_equal(estimator.estimate(*reference_input()), expected)


def test_a_smaller_precision_that_fails_its_check_answers_no_image(weights):
    estimator = create_estimator(settings(), 'network', weights)
    greedy(estimator, ('f32',))
    estimator.facts['reference'] = [2 * value for value in estimator.facts['reference']]
    for _ in range(2):
        with pytest.raises(FrameRefused, match='self-check') as caught:
            estimator.estimate(*reference_input())
        assert caught.value.reason == 'out_of_memory'


def test_an_engine_that_cannot_be_built_again_keeps_saying_why(weights, tmp_path):
    pytest.importorskip('openvino')
    file = changed_graph(weights / EXPORTED.name, tmp_path / 'greedy.onnx', greedy_for_wide_images)
    estimator = create_estimator(settings(checkpoint=str(file)))
    file.unlink()
    frame, sparse = reference_input()
    camera = replace(frame.camera, width=256)
    wide = replace(frame, image=np.zeros((96, 256, 3), np.uint8), camera=camera), replace(sparse, shape=camera.shape)
    for given in (wide, (frame, sparse)):
        with pytest.raises(FrameRefused, match='cannot be built in bf16') as caught:
            estimator.estimate(*given)
        assert caught.value.reason == 'out_of_memory'


def test_out_of_memory_at_an_image_without_lidar_refuses_it(weights):
    estimator = create_estimator(settings(fallback=True), 'network', weights)
    greedy(estimator._current, ('f32', 'bf16'))
    with pytest.raises(FrameRefused, match='classical needs lidar') as caught:
        estimator.estimate(*without_lidar())
    assert caught.value.reason == 'no_lidar'


@pytest.mark.parametrize('engine', ['openvino', 'onnxruntime'])
def test_weights_that_are_nan_are_refused_at_the_start(weights, tmp_path, monkeypatch, engine):
    pytest.importorskip(engine)
    hide(monkeypatch, *({'openvino', 'onnxruntime'} - {engine}))
    file = changed_graph(weights / EXPORTED.name, tmp_path / 'nan.onnx', set_to_nan)
    with pytest.raises(CheckpointError, match='18432 pixels that are not finite'):
        create_estimator(settings(checkpoint=str(file)))


@pytest.mark.parametrize('engine', ['openvino', 'onnxruntime'])
def test_nan_from_an_engine_refuses_the_image_and_the_next_one_is_answered(weights, tmp_path, monkeypatch, engine):
    pytest.importorskip(engine)
    hide(monkeypatch, *({'openvino', 'onnxruntime'} - {engine}))
    file = changed_graph(weights / EXPORTED.name, tmp_path / 'nan.onnx', nan_for_bright_images)
    estimator = create_estimator(settings(checkpoint=str(file)))
    frame, sparse = reference_input()
    with pytest.raises(FrameRefused, match='18432 pixels') as caught:
        estimator.estimate(replace(frame, image=np.full_like(frame.image, 200)), sparse)
    assert caught.value.reason == 'not_finite'
    assert np.isfinite(estimator.estimate(frame, sparse)[0]).all()


@pytest.mark.parametrize(('engine', 'precision'), [('openvino', 'bf16'), ('onnxruntime', 'f32')])
def test_an_engine_without_memory_is_told_from_one_that_fails(weights, tmp_path, monkeypatch, engine, precision):
    pytest.importorskip(engine)
    hide(monkeypatch, *({'openvino', 'onnxruntime'} - {engine}))
    file = changed_graph(weights / EXPORTED.name, tmp_path / 'greedy.onnx', greedy_for_wide_images)
    estimator = create_estimator(settings(checkpoint=str(file)))
    frame, sparse = reference_input()
    camera = replace(frame.camera, width=256)
    wide = replace(frame, image=np.zeros((96, 256, 3), np.uint8), camera=camera), replace(sparse, shape=camera.shape)
    with pytest.raises(FrameRefused, match='256x96') as caught:
        estimator.estimate(*wide)
    assert caught.value.reason == 'out_of_memory'
    assert estimator.status.precision == precision
    assert np.isfinite(estimator.estimate(frame, sparse)[0]).all(), 'what fits is answered'


@pytest.mark.parametrize('method', ['network', 'exported'])
def test_as_many_threads_make_the_input_as_are_set(weights, monkeypatch, method):
    asked = []

    def noted(*arguments):
        asked.append(arguments[3])
        return encode(*arguments)

    monkeypatch.setattr(learned, 'encode', noted)
    for threads, expected in ((3, 3), (0, threads_here())):
        estimator = create_estimator(settings(method=method, threads=threads), weights=weights)
        estimator.estimate(*reference_input())
        assert set(asked) == {expected}
        asked.clear()
