"""What errors of depth are, and how every loss is averaged."""

from __future__ import annotations

from torch import Tensor


def per_sample_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the known pixels of each sample, then over all samples.

    Args:
        values: (B, ...) any finite value where unknown.
        known: (B, ...) bool.

    Returns:
        Scalar; a sample without a known pixel counts as 0.
    """
    weight = known.to(values.dtype).flatten(1)
    return ((values.flatten(1) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)).mean()


def log_error(log_depth: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Error of log depth, and where it is known.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth.
        target: (B, 1, H, W) depth in the same unit, NaN = unknown.

    Returns:
        error: (B, 1, H, W) log z - log z*; finite and without meaning where unknown.
        known: (B, 1, H, W) bool.
    """
    known = target > 0
    return log_depth - target.where(known, target.new_ones(())).log(), known
