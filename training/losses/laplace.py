"""Likelihood of the stated uncertainty."""

from __future__ import annotations

import math

from torch import Tensor

from depth_ros_training.losses.reduction import log_error, per_sample_mean


def laplace_nll(log_depth: Tensor, log_std: Tensor, target: Tensor) -> Tensor:
    """Mean of log s + sqrt(2) |log z - log z*| / s: negative log likelihood of a Laplace distribution, less a constant.

    The gradient reaches the deviation alone: otherwise pixels with a large deviation would stop learning their depth
    (Seitzer et al. 2022). Laplace, because errors of depth have longer tails than a Gaussian.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth; taken as constant.
        log_std: (B, 1, H, W) logarithm of the standard deviation s of ``log_depth``.
        target: (B, 1, H, W) depth, NaN = unknown.

    Returns:
        Scalar, no unit.

    Source: Kendall and Gal 2017, eq. (8), with the Laplace density.
    """
    error, known = log_error(log_depth.detach(), target)
    return per_sample_mean(log_std + math.sqrt(2.0) * error.abs() * (-log_std).exp(), known)
