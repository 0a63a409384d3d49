"""How every loss is averaged."""

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
