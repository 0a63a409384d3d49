"""Being like another network."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import per_sample_mean


def teacher_l1(log_depth: Tensor, taught: Tensor) -> Tensor:
    """Mean of |log z - log z_T| over all pixels, z_T the depth that the teacher says.

    A teacher has an answer everywhere, also where nothing was measured, and for images that nothing is known of.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth.
        taught: (B, 1, H, W) logarithm of depth in the same unit, NaN = unknown.

    Returns:
        Scalar, no unit.

    Source: Hinton et al. 2015 (distillation), here of a regression.
    """
    known = taught.isfinite()
    return per_sample_mean((log_depth - taught.where(known, log_depth.detach())).abs(), known)
