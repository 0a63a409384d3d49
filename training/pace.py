"""How long training takes on this machine, measured before it is planned."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_ros_training.engine.fit import PREFETCH, fit
from depth_ros_training.engine.system import DepthSystem
from depth_ros_training.settings import TrainingSettings

_STEPS = 16  # samples differ in what they cost


@dataclass(frozen=True)
class Pace:
    """Wall time, seconds.

    Attributes:
        step: of a step, the data for it included.
        validation: of a validation.
    """

    step: float
    validation: float


def measure_pace(system_class: type[DepthSystem], settings: TrainingSettings, data: Path) -> Pace:
    """Train for a few steps, and throw the result away.

    Args:
        system_class: how to train.
        settings: all settings; how many steps they name does not matter.
        data: folder that the paths in the settings start from.

    Returns:
        The pace.

    Raises:
        DepthRosError: see ``fit``.
    """
    steps: list[float] = []
    validation: list[float] = []

    class Timed(system_class):
        def on_train_batch_end(self, *arguments: Any) -> None:
            super().on_train_batch_end(*arguments)
            steps.append(time.perf_counter())

        def on_validation_epoch_start(self) -> None:
            super().on_validation_epoch_start()
            validation.append(time.perf_counter())

        def on_validation_epoch_end(self) -> None:
            super().on_validation_epoch_end()
            validation.append(time.perf_counter())

    # With the processes that will make the samples, since they take time from the layers. What these have made before
    # the first step is over makes as many steps seem quicker than all the others will be, and so does at the end that
    # they have nothing more to make.
    ahead = PREFETCH * settings.data.workers
    count = ahead + 1 + _STEPS + ahead
    some = dataclasses.replace(
        settings, run=dataclasses.replace(settings.run, steps=count, steps_per_epoch=count, keep=1, pictures=0)
    )
    with tempfile.TemporaryDirectory(prefix='depth_ros_pace_') as folder:
        fit(Timed, some, data, Path(folder) / 'run', progress=False)
    # The first step also compiles and allocates.
    return Pace((steps[ahead + _STEPS] - steps[ahead]) / _STEPS, validation[1] - validation[0])
