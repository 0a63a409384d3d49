"""The best of several source images, for video."""

from __future__ import annotations

from torch import Tensor

from depth_ros_training.losses.reduction import per_sample_mean


def minimum_error(errors: Tensor, still: Tensor, seen: Tensor, present: Tensor) -> Tensor:
    """Mean of [min_s e_s(x) < min_s i_s(x)] min_s e_s(x) over the pixels that any source image shows.

    The minimum takes each pixel from the image in which it is not hidden. The bracket (auto-mask) leaves out pixels
    that match better without any motion: the camera stands, or the thing moves along with it.

    Args:
        errors: (B, S, H, W) error per pixel against each warped source image, S at least 1.
        still: (B, S, H, W) error per pixel against each source image as it is.
        seen: (B, S, H, W) bool, True where the warped source image shows the pixel.
        present: (B, S) bool, True where there is such a source image.

    Returns:
        Scalar, in the unit of the errors.

    Source: Godard et al. 2019, eq. (4) and (5).
    """
    infinite = errors.new_full((), float('inf'))
    seen = seen & present[:, :, None, None]
    any_seen = seen.any(dim=1, keepdim=True)
    best = errors.where(seen, infinite).amin(dim=1, keepdim=True)
    rest = still.where(present[:, :, None, None], infinite).amin(dim=1, keepdim=True)
    moving = any_seen & (best < rest)
    return per_sample_mean(best.where(moving, errors.new_zeros(())), any_seen)
