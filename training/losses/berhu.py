"""The reverse Huber loss, of depth and of inverse depth."""

from __future__ import annotations

import torch
from torch import Tensor

from depth_ros_training.losses.reduction import per_sample_mean

SHARE = 0.2


def depth_error(log_depth: Tensor, target: Tensor) -> Tensor:
    """(B, 1, H, W) z - z*, in the unit of the target; 0 where the target is unknown."""
    known = target > 0
    zero = target.new_zeros(())
    return (log_depth.exp() - target.where(known, zero)).where(known, zero)


def inverse_depth_error(log_depth: Tensor, target: Tensor) -> Tensor:
    """(B, 1, H, W) 1 / z - 1 / z*, in the inverse unit of the target; 0 where it is unknown. Favours near range."""
    known = target > 0
    return ((-log_depth).exp() - 1 / target.where(known, target.new_ones(()))).where(known, target.new_zeros(()))


def knee(*errors: Tensor) -> Tensor:
    """0.2 times the largest absolute error of a batch (of all its views), a constant for the gradient."""
    return SHARE * torch.stack([error.detach().abs().amax() for error in errors if error.numel()]).amax()


def berhu(error: Tensor, target: Tensor, delta: Tensor) -> Tensor:
    """Mean of |e| where |e| <= delta, of (e^2 + delta^2) / (2 delta) beyond, over the known pixels.

    Args:
        error: (B, 1, H, W) ``depth_error`` or ``inverse_depth_error``.
        target: (B, 1, H, W) depth, NaN = unknown.
        delta: scalar in the unit of the error, from ``knee``: of the whole batch, over all processes.

    Returns:
        Scalar, in the unit of the error.

    Source: Kuznietsov et al. 2017, eq. (4) and (5); Laina et al. 2016.
    """
    size = error.abs()
    # Without any error there is no knee; all are below it then.
    safe = delta.clamp(min=torch.finfo(error.dtype).tiny ** 0.5)
    values = torch.where(size <= delta, size, (error * error + delta * delta) / (2 * safe))
    return per_sample_mean(values, target > 0)
