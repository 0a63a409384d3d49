"""L1 of depth."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import per_sample_mean


def depth_l1(log_depth: Tensor, target: Tensor) -> Tensor:
    """Mean of |z - z*|: what MAE measures.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth.
        target: (B, 1, H, W) depth in the same unit, NaN = unknown.

    Returns:
        Scalar, in the unit of depth.
    """
    known = target > 0
    return per_sample_mean((log_depth.exp() - target.where(known, target.new_zeros(()))).abs(), known)
