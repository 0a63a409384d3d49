"""How far the network goes beyond choosing among the depths that the lidar supports."""

from __future__ import annotations

from torch import Tensor

from depth_ros.networks.layout import REACHED
from depth_ros_training.losses.reduction import per_sample_mean


def correction_l1(correction: Tensor, guide: Tensor) -> Tensor:
    """Mean of |c| over the pixels that the lidar reaches, c the correction of log depth.

    Beside errors that count by their absolute value, a weight of w times theirs lets a correction grow only where more
    than (1 + w) / 2 of the errors that it is to mend have one sign: what the images of one kind of camera and lidar
    suggest but faintly is left alone.

    Args:
        correction: (B, 1, H, W) no unit.
        guide: (B, H, W, C) as in ``networks.layout``.

    Returns:
        Scalar, no unit. Samples without lidar count as 0: there the correction is all there is.

    Source: ours.
    """
    return per_sample_mean(correction.abs(), guide[..., REACHED].unsqueeze(1) > 0)
