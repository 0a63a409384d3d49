"""Keeps the best checkpoints, as the robot takes them."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import lightning

from depth_ros.estimators.learned import make_reference
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.files import whole_file
from depth_ros.networks.checkpoint import save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros_training.engine.system import DepthSystem


def save_calibrated(path: Path, network: DepthNet, correction: float, facts: dict[str, Any]) -> None:
    """Write a network as the robot takes it: with honest deviations, and a reference for its self-check.

    Args:
        path: the checkpoint.
        network: on the CPU; its deviations are changed in place.
        correction: factor, see ``std_correction``.
        facts: what else to say of it.

    Raises:
        OutputError: it cannot be written.
    """
    network.std_factor *= correction
    reference = make_reference(NetworkEstimator.of(network))
    save_checkpoint(path, network, {**facts, 'std_correction': correction, 'reference': reference})


class KeepBest(lightning.Callback):
    """After each validation writes the running mean of the weights, if it is among the k best by ``val/score``.

    ``best.safetensors`` is a copy of the best, ``last.safetensors`` that of the last epoch.
    """

    def __init__(self, folder: Path, count: int, facts: dict[str, Any]) -> None:
        """Keep ``count`` checkpoints in ``folder``; ``facts`` go into their headers."""
        self._folder, self._count, self._facts = folder, count, facts
        self._kept: list[tuple[float, str]] = []

    def state_dict(self) -> dict[str, Any]:
        """What has been kept, for resuming."""
        return {'kept': [list(entry) for entry in self._kept]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; files that are gone are forgotten."""
        self._kept = [(score, name) for score, name in state_dict['kept'] if (self._folder / name).exists()]

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Have the last steps validated, too, where they are less than an epoch: the trainer would just end."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write, and drop the worst."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DepthSystem)
        values = {
            name.removeprefix('val/'): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith('val/')
        }
        facts = {**self._facts, 'step': trainer.global_step, 'validation': values}
        last = self._folder / 'last.safetensors'
        save_calibrated(last, copy.deepcopy(pl_module.average).cpu(), pl_module.std_correction, facts)
        name = f'step_{trainer.global_step:08d}.safetensors'
        self._kept = sorted([*(entry for entry in self._kept if entry[1] != name), (values['score'], name)])
        for _, worse in self._kept[self._count :]:
            (self._folder / worse).unlink(missing_ok=True)
        self._kept = self._kept[: self._count]
        if any(kept == name for _, kept in self._kept):
            self._copy(last, name)
        if self._kept[0][1] == name:
            self._copy(last, 'best.safetensors')
            with whole_file(self._folder / 'best.json') as path:
                path.write_text(json.dumps({'step': trainer.global_step, **values}, indent=1), encoding='utf-8')

    def _copy(self, checkpoint: Path, name: str) -> None:
        with whole_file(self._folder / name) as path:
            shutil.copyfile(checkpoint, path)
