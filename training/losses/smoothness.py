"""Smooth surfaces, edges where the image has them."""

from __future__ import annotations

from torch import Tensor


def smoothness(log_depth: Tensor, image: Tensor, eta: float = 1.0) -> Tensor:
    """Mean of |d_x r| exp(-eta |d_x I|) + |d_y r| exp(-eta |d_y I|), r inverse depth over its mean in the image.

    Over its mean, since it would otherwise shrink when everything moves away.

    Args:
        log_depth: (B, 1, H, W) logarithm of depth, any unit.
        image: (B, C, H, W) intensities 0..1; |d I| is the mean over the channels.
        eta: how much of an edge in the image allows one in depth; Kuznietsov et al. 2017 take 1 / 255 for 0..255.

    Returns:
        Scalar, no unit.

    Source: Kuznietsov et al. 2017, eq. (8), with the sum of absolute values for the absolute value of the sum, as
    Godard et al. 2017, eq. (3); over the mean as Wang et al. 2018 (DDVO).
    """
    inverse = (-log_depth).exp()
    inverse = inverse / inverse.mean(dim=(1, 2, 3), keepdim=True)
    right = (inverse[..., 1:] - inverse[..., :-1]).abs()
    down = (inverse[..., 1:, :] - inverse[..., :-1, :]).abs()
    edge_right = (image[..., 1:] - image[..., :-1]).abs().mean(dim=1, keepdim=True)
    edge_down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(dim=1, keepdim=True)
    return (right * (-eta * edge_right).exp()).mean() + (down * (-eta * edge_down).exp()).mean()
