"""DepthNet: an image and whatever lidar there is, to metric depth and its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_ros.errors import SettingsError
from depth_ros.networks.blocks import Level, SkyHead, UpLevel, conv
from depth_ros.networks.encoders import create_encoder
from depth_ros.networks.layout import (
    CANDIDATES,
    FAR,
    FARTHER,
    GUIDE_CHANNELS,
    LINEAR,
    MEAN,
    NEAR,
    NEARER,
    NEAREST,
    PER_PIXEL,
    PLANE,
)

NAME = 'DepthNet'


@dataclass(frozen=True)
class Size:
    """Widths and depths of a network.

    Attributes:
        widths: channels at strides 2, 4, 8, 16, 32.
        encoder: dilations of the residual blocks at strides 4, 8, 16, 32.
        decoder: number of residual convolutions at strides 16, 8, 4, 2.
        last: channels of the decoder at stride 2.
    """

    widths: tuple[int, int, int, int, int]
    encoder: tuple[tuple[int, ...], ...]
    decoder: tuple[int, int, int, int]
    last: int


SIZES = {
    'small': Size((24, 48, 80, 128, 160), ((1,), (1,), (1,), (1, 2)), (1, 1, 1, 2), 16),
    'base': Size((48, 96, 160, 256, 320), ((1, 1), (1, 1, 1), (1, 1, 2), (1, 2, 1)), (3, 3, 3, 1), 32),
}

# Logits of the candidates before training: mostly the plane that the image allows, then linear interpolation.
_FIRST_LOGITS = {
    LINEAR: 1.0, PLANE: 1.5, MEAN: -1.0, NEAR: -2.0, FAR: -2.0, NEAREST: -2.0, NEARER: -4.0, FARTHER: -4.0,
}  # fmt: skip
_FIRST_LOG_STD = -2.5
# Channels of the last layer: logits, correction, log deviation, each for the four pixels of a cell at stride 2.
_OUTPUTS = [4 * len(CANDIDATES), 4, 4]
# Channels of the guide: the first candidate, the others, ``DISTANCE``, ``SPACING``, ``REACHED``.
_GUIDE = [1, len(CANDIDATES) - 1, 1, 1, 1]
# Largest correction of log depth where all depths around a pixel are the same, and how far from a measurement, in
# pixels, half of the largest is allowed. Chosen on simulated streets with cameras and lidars that are in no training.
_CORRECTION, _CORRECTION_DISTANCE = 0.05, 16.0
_IMAGE_MEAN, _IMAGE_STD = 0.45, 0.225  # of 0..1
_MIN_LOG_STD, _MAX_LOG_STD = -5.3, 2.0  # of depth, 0.5 % at least: lidars and calibrations are no better
_MEASURED = 2.0  # pixels around a measurement that are no sky
# By how much the logit of the sky has to be higher between measurements, where there is hardly any: car roofs, windows
# and bright roads look like it. Chosen on simulated worlds: half of what is wrong there goes, and a quarter of the sky.
_BETWEEN = 1.0
SKY_LOG_STD = math.log(10.0)
"""Of depth where there is none: the deviation is then ten times the depth that is stated, which means nothing."""


class Prediction(NamedTuple):
    """Output of ``DepthNet``. Depths are multiples of the scale of the input (``NetworkInput.scale``).

    Attributes:
        log_depth: (B, 1, H, W) logarithm of depth / scale; inverse depth is exp(-log_depth) / scale.
        log_std: (B, 1, H, W) logarithm of the standard deviation of ``log_depth``, that is of the relative error of
        depth.
        correction: (B, 1, H, W) the part of ``log_depth`` that is no choice among the candidates.
        sky: (B, 1, H, W) logit that a pixel shows the sky, which has no depth. When not training, ``log_std`` says so,
            too, but at measurements: from a logit of -1 on it rises, at 1 it is ``SKY_LOG_STD``; between measurements
            from 0 on, at 2.
        coarse: log depth at strides 4 and 8, (B, 1, H / 4, W / 4) and (B, 1, H / 8, W / 8); empty when not training.
    """

    log_depth: Tensor
    log_std: Tensor
    correction: Tensor
    sky: Tensor
    coarse: tuple[Tensor, ...]


class DepthNet(nn.Module):
    """Chooses, per pixel, among the depths that the lidar around it supports, and corrects the choice.

    A U-Net at half the resolution of the image. Its last layer gives, per full-resolution pixel, weights of the
    candidates
    (softmax, so that the choice never leaves their range and edges stay sharp), a correction of the logarithm, and the
    standard deviation. The candidates meet at the measurements, which ties the result to them. Everything that enters
    is relative to the scale, so depth times s in gives depth times s out.
    """

    def __init__(self, size: str = 'small', encoder: str = 'conv', pretrained: bool = False) -> None:
        """Build a network.

        Args:
            size: one of ``SIZES``.
            encoder: one of ``encoders.ENCODERS``; ``conv`` has no backbone besides the network's own layers.
            pretrained: whether the backbone starts from published weights.

        Raises:
            SettingsError: no such size or encoder, or its weights cannot be had.
            MissingDependencyError: a backbone needs a library that is not installed.
        """
        super().__init__()
        if size not in SIZES:
            raise SettingsError(f'network size is {size!r}, expected one of {", ".join(SIZES)}')
        self.size, self.encoder_name = size, encoder
        shape = SIZES[size]
        w2, w4, w8, w16, w32 = shape.widths
        self.camera_stem = conv(5, w2, stride=2)
        self.lidar_stem = conv(GUIDE_CHANNELS, w2, stride=2)
        self.backbone = create_encoder(encoder, shape.widths[1:], pretrained)
        pairs = zip((w2, w4, w8, w16), (w4, w8, w16, w32), shape.encoder, strict=True)
        self.encoder = nn.ModuleList(Level(inputs, outputs, dilations) for inputs, outputs, dilations in pairs)
        pairs = zip((w32, w16, w8, w4), (w16, w8, w4, w2), (w16, w8, w4, shape.last), shape.decoder, strict=True)
        self.decoder = nn.ModuleList(UpLevel(inputs, skip, outputs, convs) for inputs, skip, outputs, convs in pairs)
        self.coarse_heads = nn.ModuleList(conv(width, 1) for width in (w4, w8))
        for head in self.coarse_heads:
            nn.init.zeros_(head.weight)
        self.hidden = conv(shape.last, shape.last)
        self.head = conv(shape.last, sum(_OUTPUTS), kernel=1)
        nn.init.zeros_(self.head.weight)
        first = torch.tensor([*(_FIRST_LOGITS[channel] for channel in CANDIDATES), 0.0, _FIRST_LOG_STD])
        with torch.no_grad():
            self.head.bias.copy_(first.repeat_interleave(4))
        # A backbone may have no features at the last stride.
        levels = len(shape.encoder) if self.backbone is None else len(self.backbone.project)
        self.sky = SkyHead(shape.widths[1 : 1 + levels], w2)
        # Factor that makes the stated deviation hold on data that was not trained on; fitted after training.
        self.register_buffer('std_factor', torch.ones(()))

    def forward(self, image: Tensor, rays: Tensor, guide: Tensor) -> Prediction:
        """Predict.

        Args:
            image: (B, H, W, 3) 0..255, uint8 or floating, red first; H and W multiples of 32.
            rays: (B, H, W, 2) x / z and y / z.
            guide: (B, H, W, 11) as in ``estimators.network_input.NetworkInput``.

        Returns:
            The prediction.
        """
        dtype = self.head.weight.dtype
        # Channels stay last, as arrays have them, until a convolution takes them: so it takes them without a copy.
        unit = image.to(dtype) / 255.0
        colors = ((unit - _IMAGE_MEAN) / _IMAGE_STD).permute(0, 3, 1, 2)
        rays = rays.to(dtype).permute(0, 3, 1, 2)
        # tanh(log(x) / 2): like the logarithm around 1, bounded, and cheap in engines.
        lidar = ((guide - 1) / (guide + 1)).to(dtype).permute(0, 3, 1, 2)
        # Split, and not sliced: engines then copy nothing.
        linear, others, distance, _, reached = guide.permute(0, 3, 1, 2).split(_GUIDE, dim=1)
        present = (reached.amax((1, 2, 3), keepdim=True) > 0).to(dtype)
        # Colours and rays meet behind the layer: to put them into one array takes longer than to filter them apart.
        of_colors, of_rays = self.camera_stem.weight.split([3, 2], dim=1)
        camera = functional.conv2d(colors, of_colors, self.camera_stem.bias, stride=2, padding=1)
        camera = camera + functional.conv2d(rays, of_rays, stride=2, padding=1)
        x = camera + present * self.lidar_stem(lidar)
        extras = [None] * len(self.encoder) if self.backbone is None else self.backbone(unit.permute(0, 3, 1, 2))
        skips = [x]
        for level, extra in zip(self.encoder, extras, strict=True):
            skips.append(level(skips[-1], extra))
        # The sky is told by the image alone, where that has features of its own: it is where no lidar is.
        scene = skips[1:] if self.backbone is None else [extra for extra in extras if extra is not None]
        x = skips.pop()
        levels = []
        for level in self.decoder:
            x = level(x, skips.pop())
            levels.append(x)
        x = functional.relu(self.hidden(functional.relu(x)))
        logits, correction, log_std = (
            functional.pixel_shuffle(functional.conv2d(x, weight, bias), 2).float()
            for weight, bias in zip(self.head.weight.split(_OUTPUTS), self.head.bias.split(_OUTPUTS), strict=True)
        )
        weights = logits.softmax(dim=1)
        # Inverse depths, the candidates after the first relative to it.
        chosen = linear * (weights[:, :1] + (weights[:, 1:] * others).sum(dim=1, keepdim=True))
        if not self.training:
            # A network that is limited in training, too, learns to press against the limits, and is worse elsewhere.
            correction = _limited(correction, others, distance, reached)
        log_depth = correction - chosen.log()
        log_std = log_std.clamp(_MIN_LOG_STD, _MAX_LOG_STD) + self.std_factor.log()
        sky = functional.pixel_shuffle(self.sky(scene, camera), 2).float()
        if not self.training:
            # No steps: engines that round differently would differ by all of them.
            between = (2 * reached - 1).clamp(min=0)
            share = ((sky + 1 - _BETWEEN * between) / 2).clamp(0, 1) * _unmeasured(distance, reached)
            log_std = log_std + share * (SKY_LOG_STD - log_std)
        coarse: tuple[Tensor, ...] = ()
        if self.training:
            coarse = tuple(
                head(functional.relu(features)).float() - functional.avg_pool2d(linear, stride).log()
                for head, features, stride in zip(self.coarse_heads, (levels[2], levels[1]), (4, 8), strict=True)
            )
        return Prediction(log_depth, log_std, correction, sky, coarse)


def _unmeasured(distance: Tensor, reached: Tensor) -> Tensor:
    """0 where the lidar measured something, 1 elsewhere: what it met, a wire or a pole, is no sky by its look."""
    pixels = (distance - 1) / PER_PIXEL
    return torch.where(reached > 0, (pixels - _MEASURED).clamp(0, 1), 1.0)


def _limited(correction: Tensor, others: Tensor, distance: Tensor, reached: Tensor) -> Tensor:
    """Limit the correction of log depth, where there is lidar, by what is measured around a pixel.

    None at a measurement, more with the distance from it and with the spread of the depths around. On cameras and
    lidars that it never saw, a network that may correct at will throws single pixels to several times their depth.
    """
    low, high = others[:, FARTHER - PLANE :], others[:, NEARER - PLANE : FARTHER - PLANE]
    pixels = (distance - 1) / PER_PIXEL
    limit = (_CORRECTION + (high - low) / (high + low)) * pixels / (pixels + _CORRECTION_DISTANCE)
    limit = limit.clamp(min=1e-3)
    return torch.where(reached > 0, limit * (correction / limit).tanh(), correction)
