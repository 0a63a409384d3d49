import dataclasses
from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='training needs lightning')

from depth_ros_training import pace
from depth_ros_training.engine.fit import PREFETCH
from depth_ros_training.settings import TrainingSettings


class System:
    def on_train_batch_end(self, *arguments):
        pass

    on_validation_epoch_start = on_validation_epoch_end = on_train_batch_end


@pytest.mark.parametrize('workers', [0, 2])
def test_steps_beside_which_no_samples_are_made_do_not_count(monkeypatch, workers):
    """The first and the last ones take 0.1 s, those between, beside which samples are made, 2 s; a validation 5 s."""
    now = [0.0]
    ahead = PREFETCH * workers

    def fit(system_class, settings, data, out, progress):
        assert settings.data.workers == workers  # the processes that will take time from the layers
        assert settings.run.steps == settings.run.steps_per_epoch
        system = system_class()
        for step in range(settings.run.steps):
            now[0] += 2.0 if ahead < step < settings.run.steps - ahead else 0.1
            system.on_train_batch_end()
        system.on_validation_epoch_start()
        now[0] += 5.0
        system.on_validation_epoch_end()

    monkeypatch.setattr(pace, 'fit', fit)
    monkeypatch.setattr(pace.time, 'perf_counter', lambda: now[0])
    defaults = TrainingSettings()
    settings = dataclasses.replace(defaults, data=dataclasses.replace(defaults.data, workers=workers))
    assert pace.measure_pace(System, settings, Path()) == pace.Pace(pytest.approx(2.0), pytest.approx(5.0))
