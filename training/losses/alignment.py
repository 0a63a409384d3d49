"""Direct image alignment."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from depth_ros_training.losses.reduction import per_sample_mean


def alignment_l1(image: Tensor, warped: Tensor, seen: Tensor) -> Tensor:
    """Mean of |G I(x) - G J(w(x))| over the pixels that the other image shows, and over the channels.

    The loss of a stereo pair is the sum of both directions: left with right warped to it, right with left.

    Args:
        image: (B, C, H, W) intensities 0..1 of the image, smoothed (``smooth``).
        warped: (B, C, H, W) the other image, smoothed and then read where the pixels of the first lie in it.
        seen: (B, 1, H, W) bool, True where the other image shows the pixel.

    Returns:
        Scalar, in the unit of intensities.

    Source: Kuznietsov et al. 2017, eq. (6) and (7), as a mean over pixels.
    """
    return per_sample_mean((image - warped).abs().mean(dim=1, keepdim=True), seen)


def smooth(image: Tensor, sigma: float = 1.0) -> Tensor:
    """Gaussian smoothing G of images, edges repeated.

    Args:
        image: (B, C, H, W).
        sigma: standard deviation in pixels; Kuznietsov et al. 2017 take 1.

    Returns:
        (B, C, H, W). The kernel reaches three deviations and sums to 1.
    """
    reach = max(int(3 * sigma + 0.5), 1)
    position = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = (-(position**2) / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    channels = image.shape[1]
    padded = functional.pad(image, (reach,) * 4, mode='replicate')
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
