"""The training systems by the names that ``run.system`` gives them."""

from __future__ import annotations

from depth_ros_training.engine.system import DepthSystem
from depth_ros_training.systems.semi_supervised import SemiSupervisedSystem
from depth_ros_training.systems.supervised import SupervisedSystem

SYSTEMS: dict[str, type[DepthSystem]] = {
    'supervised': SupervisedSystem,
    'semi_supervised': SemiSupervisedSystem,
}
