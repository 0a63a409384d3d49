"""Estimators by name, imported only when asked for."""

from __future__ import annotations

import importlib

from depth_ros.errors import SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.settings import METHODS, Settings

_CLASSES = {
    'classical': ('depth_ros.estimators.classical', 'ClassicalEstimator'),
    'nearest': ('depth_ros.estimators.yardsticks', 'NearestEstimator'),
    'linear': ('depth_ros.estimators.yardsticks', 'LinearEstimator'),
    'ip_basic': ('depth_ros.estimators.yardsticks', 'MorphologicalEstimator'),
}


def create_estimator(settings: Settings, method: str = '') -> Estimator:
    """Make an estimator.

    Args:
        settings: all settings; ``estimator.method`` names the method unless ``method`` does.
        method: one of ``settings.METHODS``, or '' for that of the settings.

    Returns:
        A new estimator.

    Raises:
        SettingsError: no such method.
    """
    name = method or settings.estimator.method
    if name not in _CLASSES:
        raise SettingsError(f'method is {name!r}, expected one of {", ".join(METHODS)}')
    module, class_name = _CLASSES[name]
    return getattr(importlib.import_module(module), class_name)()
