"""Likelihood of the stated uncertainty, for Gaussian errors."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import log_error, per_sample_mean


def gaussian_nll(log_depth: Tensor, log_std: Tensor, target: Tensor) -> Tensor:
    """Mean of log s + (log z - log z*)^2 / (2 s^2): negative log likelihood of a Gaussian, less a constant.

    The gradient reaches the deviation alone, as in ``laplace_nll``, of which this is the alternative: the deviation it
    teaches is the root mean square of the errors, outliers and all.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth; taken as constant.
        log_std: (B, 1, H, W) logarithm of the standard deviation s of ``log_depth``.
        target: (B, 1, H, W) depth, NaN = unknown.

    Returns:
        Scalar, no unit.

    Source: Kendall and Gal 2017, eq. (8).
    """
    error, known = log_error(log_depth.detach(), target)
    return per_sample_mean(log_std + error * error * (-2 * log_std).exp() / 2, known)
