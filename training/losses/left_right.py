"""Agreement of the depths of a stereo pair."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import per_sample_mean


def left_right_l1(transformed: Tensor, found: Tensor, seen: Tensor) -> Tensor:
    """Mean of |1 / z'(x) - 1 / z_o(w(x))|: what one view says of the depth from the other camera, and what it says.

    The loss of a pair is the sum of both directions.

    Args:
        transformed: (B, 1, H, W) inverse depth from the other camera, by the depth of this view.
        found: (B, 1, H, W) inverse depth that the other view predicts, read where the pixels of this one lie in it.
        seen: (B, 1, H, W) bool, True where the other view shows the pixel.

    Returns:
        Scalar, in the unit of the arguments.

    Source: Godard et al. 2017, eq. (4); inverse depth in place of disparity, which is proportional to it, so that it
    holds for cameras that do not stand side by side.
    """
    return per_sample_mean((transformed - found).abs(), seen)
