"""Telling the sky from what has a depth."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from depth_ros_training.losses.reduction import per_sample_mean


def sky_cross_entropy(logit: Tensor, empty: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of "this pixel shows the sky".

    Pixels with a depth show none, whatever measured it. That some show the sky is known where the truth is exact; to
    lidars it looks like dark things and glass.

    Args:
        logit: (B, 1, H, W) logit of the sky.
        empty: (B, 1, H, W) bool, True = sky.
        target: (B, 1, H, W) depth, NaN = unknown.

    Returns:
        Scalar, nats.
    """
    values = functional.binary_cross_entropy_with_logits(logit, empty.to(logit.dtype), reduction='none')
    return per_sample_mean(values, empty | (target > 0))
