"""Squared error of depth."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from depth_ros_training.losses.reduction import per_sample_mean


def depth_l2(log_depth: Tensor, target: Tensor, knee: float = 1.0) -> Tensor:
    """Mean of (z - z*)^2 up to the knee and its tangent beyond: what RMSE measures, kept from outliers (Huber 1964).

    Args:
        log_depth: (B, 1, H, W) logarithm of depth.
        target: (B, 1, H, W) depth in the same unit, NaN = unknown.
        knee: error from which the loss grows linearly, in the unit of depth.

    Returns:
        Scalar, in the squared unit of depth.
    """
    known = target > 0
    difference = log_depth.exp() - target.where(known, target.new_zeros(()))
    values = 2 * functional.huber_loss(
        difference, difference.new_zeros(()).expand_as(difference), reduction='none', delta=knee
    )
    return per_sample_mean(values, known)
