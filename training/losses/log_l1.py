"""L1 of log depth."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import log_error, per_sample_mean


def log_l1(log_depth: Tensor, target: Tensor) -> Tensor:
    """Mean of |log z - log z*|: the relative error for small errors, whatever the unit.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth.
        target: (B, 1, H, W) depth in the same unit, NaN = unknown.

    Returns:
        Scalar, no unit.

    Source: Eigen et al. 2014 use the square of the same difference.
    """
    error, known = log_error(log_depth, target)
    return per_sample_mean(error.abs(), known)
