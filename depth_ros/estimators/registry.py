"""Estimators by name, imported only when asked for."""

from __future__ import annotations

import importlib
import os

from depth_ros.errors import CheckpointError, MissingDependencyError, SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.settings import METHODS, Settings

_CLASSES = {
    'classical': ('depth_ros.estimators.classical', 'ClassicalEstimator'),
    'network': ('depth_ros.estimators.network', 'NetworkEstimator'),
    'exported': ('depth_ros.estimators.exported', 'ExportedEstimator'),
    'nearest': ('depth_ros.estimators.yardsticks', 'NearestEstimator'),
    'linear': ('depth_ros.estimators.yardsticks', 'LinearEstimator'),
    'ip_basic': ('depth_ros.estimators.yardsticks', 'MorphologicalEstimator'),
}


_LEARNED = ('network', 'exported')


def create_estimator(settings: Settings, method: str = '') -> Estimator:
    """Make an estimator.

    Args:
        settings: all settings; ``estimator.method`` names the method unless ``method`` does.
        method: one of ``settings.METHODS``, or '' for that of the settings.

    Returns:
        A new estimator. In place of one with weights that cannot be used, with ``estimator.fallback``, the classical
        one, whose attribute ``replaces`` says why.

    Raises:
        SettingsError: no such method.
        CheckpointError: the weights cannot be used.
        MissingDependencyError: what runs the weights is not installed.
    """
    name = method or settings.estimator.method
    if name not in _CLASSES:
        raise SettingsError(f'method is {name!r}, expected one of {", ".join(METHODS)}')
    module, class_name = _CLASSES[name]
    if name not in _LEARNED:
        estimator_class = getattr(importlib.import_module(module), class_name)
        return estimator_class(settings.classical) if name == 'classical' else estimator_class()
    try:
        return getattr(importlib.import_module(module), class_name)(settings.estimator)
    except (CheckpointError, MissingDependencyError) as error:
        if not settings.estimator.fallback:
            raise
        estimator = create_estimator(settings, 'classical')
        estimator.replaces = f'{name}: {error}'
        return estimator


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
