"""How many of the errors lie within the stated uncertainty."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from depth_ros_training.losses.reduction import log_error, per_sample_mean

# Shares of a Gaussian within 1 and 2 standard deviations.
_SHARES = {1: math.erf(1 / math.sqrt(2)), 2: math.erf(2 / math.sqrt(2))}
_SMALLEST = 1e-4  # error of log depth; its logarithm has to be finite


def coverage_quantile(log_depth: Tensor, log_std: Tensor, target: Tensor, margin: Tensor | float = 1.0) -> Tensor:
    """Mean of q(log |e| - log s, 0.68) + q(log |e| - log 2 s, 0.95), e = log z - log z*, q(u, p) = max(p u, (p - 1) u).

    The first alone makes s the quantile below which 68 % of the errors of such pixels lie, the second makes 2 s that of
    95 %; together they miss the one by as much as the other. Likelihoods (``laplace_nll``, ``gaussian_nll``) make s a
    mean of the errors, which few large ones decide: most errors are then far smaller than is stated. The gradient
    reaches the deviation alone, as there.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth; taken as constant.
        log_std: (B, 1, H, W) logarithm of the standard deviation s of ``log_depth``.
        target: (B, 1, H, W) depth, NaN = unknown.
        margin: number or (B,), errors count as that many times as large.

    Returns:
        Scalar, no unit.

    Source: regression of quantiles, Koenker and Bassett 1978, eq. (3.1).
    """
    error, known = log_error(log_depth.detach(), target)
    margin = torch.as_tensor(margin, dtype=error.dtype, device=error.device).view(-1, 1, 1, 1)
    excess = (margin * error.abs()).clamp(min=_SMALLEST).log() - log_std
    total = torch.zeros_like(excess)
    for times, share in _SHARES.items():
        beyond = excess - math.log(times)
        total = total + torch.maximum(share * beyond, (share - 1) * beyond)
    return per_sample_mean(total, known)
