"""Supervised training: dense truth and withheld lidar points judge DepthNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from depth_ros.networks.depth_net import Prediction
from depth_ros_training.engine.system import DepthSystem
from depth_ros_training.losses.coarse import coarse_l1
from depth_ros_training.losses.correction import correction_l1
from depth_ros_training.losses.coverage import coverage_quantile
from depth_ros_training.losses.depth_l1 import depth_l1
from depth_ros_training.losses.depth_l2 import depth_l2
from depth_ros_training.losses.gradient import gradient_l1
from depth_ros_training.losses.laplace import laplace_nll
from depth_ros_training.losses.log_l1 import log_l1
from depth_ros_training.losses.sky import sky_cross_entropy
from depth_ros_training.losses.teacher import teacher_l1


class SupervisedSystem(DepthSystem):
    """Some points of each sample go into the network; the others, and the true depth where there is one, supervise."""

    def losses(self, prediction: Prediction, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by the names of ``LossSettings``, before weighting."""
        target = batch['target']
        losses = {
            'log_l1': log_l1(prediction.log_depth, target),
            'depth_l1': depth_l1(prediction.log_depth, target),
            'depth_l2': depth_l2(prediction.log_depth, target),
            'gradient': gradient_l1(prediction.log_depth, target, batch['dense']),
            'coarse': coarse_l1(prediction.coarse, target),
            'correction': correction_l1(prediction.correction, batch['guide']),
            'likelihood': laplace_nll(prediction.log_depth, prediction.log_std, target),
            'coverage': coverage_quantile(prediction.log_depth, prediction.log_std, target, self._margin(batch)),
            'sky': sky_cross_entropy(prediction.sky, batch['sky']),
        }
        if self.teachers and 'teacher' in self._weights:
            losses['teacher'] = teacher_l1(prediction.log_depth, self.taught(batch))
        return losses

    def _margin(self, batch: dict[str, Any]) -> Tensor:
        """(B,) how many times as large errors count for the deviation."""
        return torch.where(batch['exact'] > 0, 1.0, self._settings.data.error_margin)
