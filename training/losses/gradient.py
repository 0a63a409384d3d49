"""Gradients of log depth."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import per_sample_mean

STEPS = (1, 2, 4, 8)


def gradient_l1(log_depth: Tensor, target: Tensor, dense: Tensor) -> Tensor:
    """Mean of |D e| over steps of 1, 2, 4 and 8 pixels right and down, e = log z - log z*: shapes and edges, not level.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth.
        target: (B, 1, H, W) depth in the same unit, NaN = unknown.
        dense: (B,) 1 where the target is a surface, 0 where it is scattered points.

    Returns:
        Scalar, no unit; sum over both directions, mean over steps.

    Source: multi-scale gradient matching of Li and Snavely 2018 (MegaDepth), section 4.2, with differences taken over
    longer steps in place of smaller images, since a target with holes cannot be averaged.
    """
    known = (target > 0) & (dense > 0.5).view(-1, 1, 1, 1)
    error = log_depth - target.where(known, target.new_ones(())).log()
    total = error.new_zeros(())
    for step in STEPS:
        right = (error[..., step:] - error[..., :-step]).abs()
        down = (error[..., step:, :] - error[..., :-step, :]).abs()
        total = total + per_sample_mean(right, known[..., step:] & known[..., :-step])
        total = total + per_sample_mean(down, known[..., step:, :] & known[..., :-step, :])
    return total / len(STEPS)
