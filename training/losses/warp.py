"""Where the pixels of one image lie in another, given their depth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_NEAREST = 1e-3  # metres; what is nearer to the other camera, or behind it, is not seen by it


class Projection(NamedTuple):
    """Pixels of a reference image in a source image.

    Attributes:
        pixels: (B, H, W, 2) column and row in the source image, pixel centres at whole numbers.
        depth: (B, 1, H, W) depth from the source camera, in the unit of the depth that was projected; positive.
        in_front: (B, 1, H, W) bool, False = behind the source camera; pixels and depth mean nothing there.
    """

    pixels: Tensor
    depth: Tensor
    in_front: Tensor


def project(depth: Tensor, rays: Tensor, transform: Tensor, intrinsics: Tensor) -> Projection:
    """Project the pixels of a reference image into a source image: pi(K (R z(x) r(x) + t)).

    Written out in elements, since mixed precision would round a matrix product.

    Args:
        depth: (B, 1, H, W) metres along the axis of the reference image.
        rays: (B, H, W, 2) x / z and y / z of the pixels of the reference image, whatever its camera model.
        transform: (B, 3, 4) [R t], source from reference, metres.
        intrinsics: (B, 4) fx, fy, cx, cy of the source image, a pinhole.

    Returns:
        The pixels. Gradients reach the depth (and the transform).

    Source: Zhou et al. 2017, eq. (2).
    """
    z = depth[:, 0]
    point = (rays[..., 0] * z, rays[..., 1] * z, z)
    rows = transform[:, :, :, None, None]
    x, y, z = (
        rows[:, i, 0] * point[0] + rows[:, i, 1] * point[1] + rows[:, i, 2] * point[2] + rows[:, i, 3] for i in range(3)
    )
    in_front = z > _NEAREST
    z = z.clamp(min=_NEAREST)
    fx, fy, cx, cy = (intrinsics[:, i, None, None] for i in range(4))
    pixels = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    return Projection(pixels, z[:, None], in_front[:, None])


def invert(transform: Tensor) -> Tensor:
    """Inverse of rigid transforms, (B, 3, 4) to (B, 3, 4)."""
    rotation = transform[:, :, :3].transpose(1, 2)
    translation = -(rotation * transform[:, None, :, 3]).sum(dim=2)
    return torch.cat([rotation, translation[:, :, None]], dim=2)


def sample(image: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Read an image between its pixels.

    Args:
        image: (B, C, h, w).
        pixels: (B, H, W, 2) column and row.

    Returns:
        values: (B, C, H, W) bilinear; those of the nearest pixel outside of the image.
        inside: (B, 1, H, W) bool, True where all four pixels around exist.

    Source: Jaderberg et al. 2015, section 3.3.
    """
    height, width = image.shape[-2:]
    last = pixels.new_tensor([width - 1, height - 1])
    inside = ((pixels >= 0) & (pixels <= last)).all(dim=-1)
    # Far outside the value is the same, and numbers stay small.
    grid = (2 * pixels / last.clamp(min=1) - 1).clamp(-2, 2)
    values = functional.grid_sample(image, grid, mode='bilinear', padding_mode='border', align_corners=True)
    return values, inside[:, None]
