"""Building blocks of the networks.

None normalises: statistics of a batch would tie a frame's depth to its neighbours in the batch, and those of the
training data to its mixture of indoor and outdoor scenes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

_SKY_WIDTH = 16
_NO_SKY = -4.0  # logit before training: no sky anywhere


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size (or halves it, by stride), initialised for ReLU (He et al. 2015)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation)
    nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), the identity at the start.

    Source: He et al. 2016 (pre-activation); zero start of the last layer in place of normalisation: Zhang et al. 2019
    (Fixup).
    """

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv(channels, channels, dilation=dilation)
        self.second = conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class ResidualConv(nn.Module):
    """x + conv(relu(x)), the identity at the start: half a ``ResidualBlock``, for the decoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.second = conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + self.second(functional.relu(x))


class Level(nn.Module):
    """One resolution of the encoder: halve, then residual blocks."""

    def __init__(self, inputs: int, outputs: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.down = conv(inputs, outputs, stride=2)
        self.blocks = nn.Sequential(*(ResidualBlock(outputs, dilation) for dilation in dilations))

    def forward(self, x: Tensor, extra: Tensor | None) -> Tensor:
        """(B, C, H, W) to (B, D, H / 2, W / 2); ``extra``, features of another encoder, is added before the blocks."""
        x = self.down(functional.relu(x))
        return self.blocks(x if extra is None else x + extra)


class UpLevel(nn.Module):
    """One resolution of the decoder: double, add the long skip, then residual convolutions."""

    def __init__(self, inputs: int, skip: int, outputs: int, num_convs: int) -> None:
        super().__init__()
        self.up = conv(inputs, outputs, kernel=1)
        self.skip = conv(skip, outputs, kernel=1)
        self.blocks = nn.Sequential(*(ResidualConv(outputs) for _ in range(num_convs)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H, W) and (B, S, 2 H, 2 W) to (B, D, 2 H, 2 W)."""
        x = functional.interpolate(self.up(functional.relu(x)), scale_factor=2, mode='nearest')
        return self.blocks(x + self.skip(functional.relu(skip)))


class SkyHead(nn.Module):
    """Finds the sky by coarse features of the scene, and its outline by fine ones of the image.

    Whether a plain patch is sky or a wall shows in what is around it, farther than fine features see.
    """

    def __init__(self, widths: Sequence[int], fine: int) -> None:
        """Take ``widths``, the channels at strides 4, 8, ..., and ``fine``, those at stride 2."""
        super().__init__()
        self.scene = nn.ModuleList(conv(width, _SKY_WIDTH, kernel=1) for width in widths)
        self.outline = conv(fine, _SKY_WIDTH, kernel=1)
        self.last = conv(_SKY_WIDTH, 4, kernel=1)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, _NO_SKY)

    def forward(self, scene: Sequence[Tensor], fine: Tensor) -> Tensor:
        """Give the logits of the sky.

        Args:
            scene: (B, C, H / s, W / s), s = 4, 8, ...
            fine: (B, C, H / 2, W / 2).

        Returns:
            (B, 4, H / 2, W / 2) of the four pixels of a cell.
        """
        *finer, x = (layer(functional.relu(level)) for layer, level in zip(self.scene, scene, strict=True))
        for level in reversed(finer):
            x = level + functional.interpolate(x, scale_factor=2, mode='bilinear')
        x = self.outline(functional.relu(fine)) + functional.interpolate(x, scale_factor=2, mode='bilinear')
        return self.last(functional.relu(x))
