"""What every training system of DepthNet shares: optimisation, running mean of the weights, validation, guards."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from depth_ros.errors import SettingsError, TrainingError
from depth_ros.estimators.downscale import enlarge
from depth_ros.networks.depth_net import DepthNet, Prediction
from depth_ros.networks.efficientnet_lite import EfficientNetLite
from depth_ros_training.engine.validation import NUM_SUMS, Case, figures, score, std_correction
from depth_ros_training.settings import TrainingSettings


class DepthSystem(lightning.LightningModule):
    """A network, its running mean, and losses by name. A system adds ``losses``.

    Attributes:
        uses_others: whether batches are to hold the other images of the samples (see ``ViewDataset``).
        teachers: the networks that this one is to be like, if there are any.
    """

    uses_others = False

    def __init__(
        self, network: DepthNet, settings: TrainingSettings, cases: Sequence[Case], teachers: Sequence[DepthNet] = ()
    ) -> None:
        """Take a network to train, what to validate it on, and the networks that it is to be like, if any."""
        super().__init__()
        self.network = network
        self.teachers = torch.nn.ModuleList(teachers).requires_grad_(False)
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self.register_buffer('updates', torch.zeros((), dtype=torch.int64))
        self._settings = settings
        self._cases = cases
        weights = dataclasses.asdict(settings.loss)
        self._weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self._weights:
            raise SettingsError('all weights of loss are 0, so that there is nothing to learn; set one of them')
        # Several processes wait for the gradient of every parameter that is to be trained.
        network.coarse_heads.requires_grad_('coarse' in self._weights)
        network.sky.requires_grad_('sky' in self._weights)
        for value in self._published():
            value.requires_grad_(True)
        self._freeze(settings.optimizer.only)
        if not any(value.requires_grad for value in network.parameters()):
            raise SettingsError(
                f'optimizer.only is {settings.optimizer.only}, and no loss with a weight is of these layers: nothing '
                'would be trained'
            )
        self._views: list[int] = []
        self._sums: dict[int, np.ndarray] = {}
        # Set by each validation; checkpoints are written with it, training goes on without.
        self.std_correction = 1.0

    def _published(self) -> set[torch.nn.Parameter]:
        """Weights of the encoder that have a learning rate of their own; none while they stay as they are."""
        rate = self._settings.optimizer.encoder_rate
        if not rate:
            return set()
        if not isinstance(self.network.backbone, EfficientNetLite):
            raise SettingsError(
                f'optimizer.encoder_rate is {rate}, but encoder {self.network.encoder_name!r} has no layers that are '
                'frozen; set it to 0'
            )
        return set(self.network.backbone.published())

    def _freeze(self, only: Sequence[str]) -> None:
        """Train nothing but the layers whose names start with one of ``only``, if there is any."""
        if not only:
            return
        for start in only:
            if not any(name.startswith(start) for name, _ in self.network.named_parameters()):
                raise SettingsError(f'optimizer.only names {start!r}, which no layer of the network starts with')
        for name, value in self.network.named_parameters():
            if not name.startswith(tuple(only)):
                value.requires_grad_(False)
        if self._settings.optimizer.encoder_rate and not any(value.requires_grad for value in self._published()):
            raise SettingsError(
                'optimizer.encoder_rate is for layers that optimizer.only leaves out; set it to 0, or name backbone '
                'there'
            )

    def losses(self, prediction: Prediction, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by the names of ``LossSettings``, before weighting."""
        raise NotImplementedError

    def run_network(self, batch: dict[str, Any]) -> Prediction:
        """What ``losses`` judges: the prediction for the images of a batch."""
        return self.network(batch['image'], batch['rays'], batch['guide'])

    def taught(self, batch: dict[str, Any]) -> Tensor:
        """(B, 1, H, W) log depth / scale that the teachers say, in the mean, for the images of a batch.

        NaN where that is unknown: what they see has no scale that this network could know.
        """
        informed = 'informed_image' in batch
        image, guide = ('informed_image', 'informed_guide') if informed else ('image', 'guide')
        given = batch[image], batch['rays'], batch[guide]
        with torch.no_grad():
            # As the network itself is run here: while training nothing limits its corrections.
            said = torch.stack([teacher.train()(*given).log_depth for teacher in self.teachers]).mean(0)
        return said + batch['informed_unit'].log().view(-1, 1, 1, 1) if informed else said

    def loss_weights(self) -> dict[str, float]:
        """Weights of the losses in this step; those of the settings unless a system has a schedule."""
        return self._weights

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """Weighted sum of the losses of one batch."""
        self._views = batch['number'].tolist()
        prediction = self.run_network(batch)
        losses = self.losses(prediction, batch)
        unused = sorted(self._weights.keys() - losses.keys())
        if unused:
            raise SettingsError(
                f'losses with a weight that {type(self).__name__} does not have: {", ".join(unused)}; set them to 0'
            )
        total = sum(weight * losses[name] for name, weight in self.loss_weights().items())
        if not torch.isfinite(total):
            raise self._diverged(
                f'the loss is {float(total.detach())}',
                str({name: float(value.detach()) for name, value in losses.items()}),
            )
        self.log_dict({f'train/{name}': losses[name].detach() for name in self._weights})
        # Of all processes together, so that the curve is the same however many there are.
        self.log('train/loss', total.detach(), prog_bar=True, sync_dist=True)
        return total

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by the norm over all parameters.

        Raises:
            TrainingError: it is not finite: one step later all weights would be NaN.
        """
        trained = [value for group in optimizer.param_groups for value in group['params']]
        norm = torch.nn.utils.clip_grad_norm_(trained, gradient_clip_val or math.inf)
        # In half precision gradients overflow now and then; their scaler leaves such a step out.
        if not torch.isfinite(norm) and self._settings.run.precision != '16-mixed':
            raise self._diverged(f'the gradient is {float(norm)}', 'the loss is finite')

    def _diverged(self, what: str, details: str) -> TrainingError:
        return TrainingError(
            f'{what} at step {self.global_step} ({details}); lower optimizer.learning_rate, or look for the sample '
            f'that does it: views {self._views}'
        )

    def on_train_batch_start(self, *_: Any) -> None:
        """Log at the steps that were made: the trainer counts one more with each time it resumes."""
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the running mean."""
        self.updates += 1
        # Early on the mean is over the few steps there are.
        decay = min(self._settings.optimizer.average, float(1 + self.updates) / float(10 + self.updates))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mean.copy_(value)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self._sums = {}

    def validation_step(self, number: int, _: int) -> None:
        """Add up the errors of the running mean on one case."""
        case = self._cases[number]
        depth, std = predict(self.average, case, self.device)
        lost = int(np.count_nonzero(~np.isfinite(depth)))
        if lost:
            raise TrainingError(
                f'the network has no finite depth at {lost} pixels of {case.sample.name!r} at step {self.global_step}; '
                'lower optimizer.learning_rate; the checkpoints before it are as they were'
            )
        total = self._sums.setdefault(case.thinning, np.zeros(NUM_SUMS))
        total += score(depth, std, case.judging)

    def on_validation_epoch_end(self) -> None:
        """Log the figures over all processes."""
        sums = self._sums
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, sums)
            sums = {}
            for part in gathered:
                for thinning, values in part.items():
                    sums[thinning] = sums.get(thinning, 0) + values
        self.std_correction = std_correction(sums)
        # As the checkpoint will say it.
        values = figures(dict(sorted(sums.items())), self.std_correction)
        self.log_dict({f'val/{name}': value for name, value in values.items()}, rank_zero_only=True)
        self.log('score', values['score'], prog_bar=True, logger=False)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a warm-up, a constant part and a linear decay: longer runs share the first part."""
        settings, run = self._settings.optimizer, self._settings.run
        published = self._published()
        trained = [value for value in self.network.parameters() if value.requires_grad]
        groups = [
            {
                'params': [v for v in trained if (v.ndim > 1) == is_matrix and (v in published) == is_published],
                'weight_decay': settings.weight_decay if is_matrix else 0.0,
                'lr': settings.learning_rate * (settings.encoder_rate if is_published else 1.0),
            }
            for is_published in ((False, True) if published else (False,))
            for is_matrix in (True, False)
        ]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        decay_steps = max(settings.decay_share * run.steps, 1.0)

        def factor(step: int) -> float:
            return min((step + 1) / (settings.warmup_steps + 1), (run.steps - step) / decay_steps, 1.0)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}


def predict(network: DepthNet, case: Case, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Depth and standard deviation of one case, (H, W) float32 metres."""
    height, width = case.input.shape
    arrays = case.input.image, case.input.rays, case.input.guide
    tensors = (torch.from_numpy(array)[None].to(device) for array in arrays)
    with torch.inference_mode():
        prediction = network(*tensors)
        depth = prediction.log_depth.exp() * case.input.scale
        std = depth * prediction.log_std.exp()
    found = (values[0, 0, :height, :width].float().cpu().numpy() for values in (depth, std))
    return enlarge(*found, case.sample.camera.shape)
