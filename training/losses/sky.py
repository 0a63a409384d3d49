"""Telling the sky from what has a depth."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from depth_ros_training.losses.reduction import per_sample_mean


def sky_cross_entropy(logit: Tensor, sky: Tensor) -> Tensor:
    """Cross entropy of "this pixel shows the sky".

    Only images that show sky and say where can teach it. Pixels that a lidar measured are no sky either; but to learn
    from recordings what is none, and from simulations alone what is, is to learn that recordings have none.

    Args:
        logit: (B, 1, H, W) logit of the sky.
        sky: (B, 1, H, W) 1 = sky, 0 = something, NaN = unknown.

    Returns:
        Scalar, nats.
    """
    known = sky >= 0
    truth = sky.where(known, sky.new_zeros(()))
    return per_sample_mean(functional.binary_cross_entropy_with_logits(logit, truth, reduction='none'), known)
