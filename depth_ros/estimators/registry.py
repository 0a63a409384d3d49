"""Estimators by name, imported only when asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import replace
from pathlib import Path

from depth_ros.errors import CheckpointError, MissingDependencyError, SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.fallback import NetworkOrClassical
from depth_ros.networks.weights import CHECKPOINT, EXPORTED, FOLDER
from depth_ros.settings import METHODS, EstimatorSettings, Settings

_CLASSES = {
    'classical': ('depth_ros.estimators.classical', 'ClassicalEstimator'),
    'network': ('depth_ros.estimators.network', 'NetworkEstimator'),
    'exported': ('depth_ros.estimators.exported', 'ExportedEstimator'),
    'nearest': ('depth_ros.estimators.yardsticks', 'NearestEstimator'),
    'linear': ('depth_ros.estimators.yardsticks', 'LinearEstimator'),
    'ip_basic': ('depth_ros.estimators.yardsticks', 'MorphologicalEstimator'),
}
_RUN_BY = {'exported': ('openvino', 'onnxruntime'), 'network': ('torch',)}
_GPU_DEVICES = ('/dev/nvidia0', '/dev/nvhost-gpu', '/dev/nvgpu')  # the last two of Jetsons


def create_estimator(settings: Settings, method: str = '', weights: Path = FOLDER) -> Estimator:
    """Make an estimator.

    Args:
        settings: all settings; ``estimator.method`` names the method unless ``method`` does.
        method: one of ``settings.METHODS``, or '' for that of the settings.
        weights: folder of the weights that are used where the settings name none.

    Returns:
        A new estimator. In place of a network that cannot be used, with ``estimator.fallback`` or as ``auto`` with the
        weights that ship, the classical one, whose attribute ``replaces`` says why.

    Raises:
        SettingsError: no such method.
        CheckpointError: the weights cannot be used.
        MissingDependencyError: what runs the weights is not installed.
    """
    name = method or settings.estimator.method
    if name not in METHODS:
        raise SettingsError(f'method is {name!r}, expected one of {", ".join(METHODS)}')
    if name in ('auto', 'network', 'exported'):
        return _network_or_classical(name, settings, weights)
    return _class(name)(settings.classical) if name == 'classical' else _class(name)()


def method_name(settings: Settings, estimator: Estimator) -> str:
    """Name of the method for people, one that was chosen by ``auto`` beside that."""
    return f'auto ({estimator.name})' if settings.estimator.method == 'auto' else settings.estimator.method


def weights_name(settings: Settings, estimator: Estimator) -> str:
    """Which weights run, for people: a file that was named, or those that ship."""
    if getattr(estimator, 'status', None) is None:
        return 'none'
    return settings.estimator.checkpoint or 'those that ship'


def _class(name: str) -> type:
    module, class_name = _CLASSES[name]
    return getattr(importlib.import_module(module), class_name)


def _network_or_classical(name: str, settings: Settings, weights: Path) -> Estimator:
    gives_way = settings.estimator.fallback or (name == 'auto' and not settings.estimator.checkpoint)
    try:
        kind, checkpoint = _choose(name, settings.estimator, weights)
        network = _class(kind)(replace(settings.estimator, checkpoint=checkpoint))
    except (CheckpointError, MissingDependencyError) as error:
        if not gives_way:
            raise
        estimator = create_estimator(settings, 'classical')
        estimator.replaces = f'{"network" if name == "auto" else name}: {error}'
        return estimator
    return NetworkOrClassical(network, create_estimator(settings, 'classical')) if gives_way else network


def _choose(name: str, settings: EstimatorSettings, weights: Path) -> tuple[str, str]:
    """What runs the network, ``network`` (torch) or ``exported``, and the file with its weights."""
    files = {'exported': weights / EXPORTED.name, 'network': weights / CHECKPOINT.name}
    if settings.checkpoint:
        suffixed = 'exported' if settings.checkpoint.endswith('.onnx') else 'network'
        return name if name == 'exported' else suffixed, settings.checkpoint
    if name == 'exported':
        return name, str(files[name])
    shipped = [kind for kind in ('exported', 'network') if files[kind].is_file()]
    if not shipped:
        raise CheckpointError(
            f'{str(weights)!r} holds no weights; install depth_ros with them, or set estimator.checkpoint'
        )
    usable = [kind for kind in shipped if _installed(*_RUN_BY[kind])]
    if not usable:
        raise MissingDependencyError(
            "nothing that runs the network is installed: pip install 'depth_ros[engines]' (OpenVINO and ONNX Runtime), "
            "or 'depth_ros[network]' (torch)"
        )
    # Asked for by its name it is torch; by itself the engines are quicker, unless only torch knows the GPU.
    torch_first = name == 'network' or (
        'network' in usable and settings.device != 'cpu' and _only_torch_knows_the_gpu()
    )
    kind = 'network' if torch_first and 'network' in usable else usable[0]
    return kind, str(files[kind])


def _installed(*modules: str) -> bool:
    return any(importlib.util.find_spec(module) for module in modules)


def _only_torch_knows_the_gpu() -> bool:
    if not any(os.path.exists(device) for device in _GPU_DEVICES):
        return False
    if _installed('onnxruntime'):
        import onnxruntime

        if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
            return False
    # A torch that was built for CPUs is slower there than the engines.
    import torch

    return torch.cuda.is_available()


def runs_on(estimator: Estimator) -> tuple[str, str]:
    """What runs an estimator, for the diagnostics.

    Returns:
        device: one line.
        warning: what is not as it was asked for, '' if all is.
    """
    status = getattr(estimator, 'status', None)
    if status is None:
        replaces = getattr(estimator, 'replaces', '')
        return f'CPU, {os.cpu_count()} cores', f'{estimator.name} in place of {replaces}' if replaces else ''
    return str(status), str(status) if status.fallback else ''
