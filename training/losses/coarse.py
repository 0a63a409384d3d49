"""Log depth at coarse scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from depth_ros_training.losses.reduction import per_sample_mean


def coarse_l1(coarse: Sequence[Tensor], target: Tensor) -> Tensor:
    """Mean over scales of |log z_s - mean log z*|, the mean over the known pixels of each cell.

    Args:
        coarse: (B, 1, H / k, W / k) logarithm of depth, one per scale.
        target: (B, 1, H, W) depth, NaN = unknown.

    Returns:
        Scalar, no unit.

    Source: deep supervision of every decoder scale, as in Mayer et al. 2016.
    """
    known = (target > 0).to(target.dtype)
    log_target = torch.where(known > 0, target, torch.ones_like(target)).log()
    total = target.new_zeros(())
    for log_depth in coarse:
        stride = target.shape[-1] // log_depth.shape[-1]
        share = functional.avg_pool2d(known, stride)
        mean = functional.avg_pool2d(log_target * known, stride) / share.clamp(min=1e-6)
        total = total + per_sample_mean((log_depth - mean).abs(), share > 0)
    return total / max(len(coarse), 1)
