"""Building blocks of the networks.

None normalises: statistics of a batch would tie a frame's depth to its neighbours in the batch, and those of the
training data to its mixture of indoor and outdoor scenes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


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
