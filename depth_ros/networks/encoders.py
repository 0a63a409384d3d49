"""Image encoders by name: the light one for small networks, and backbones of ``transformers``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_ros.errors import MissingDependencyError, SettingsError
from depth_ros.networks.blocks import conv
from depth_ros.networks.efficientnet_lite import EfficientNetLite

# Mean and standard deviation of ImageNet, of 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HUB = {
    'resnet18': 'microsoft/resnet-18',
    'resnet34': 'microsoft/resnet-34',
    'resnet50': 'microsoft/resnet-50',
    'dinov2_small': 'facebook/dinov2-small',
}
_RESNETS: dict[str, dict[str, Any]] = {
    'resnet18': {'depths': [2, 2, 2, 2], 'hidden_sizes': [64, 128, 256, 512], 'layer_type': 'basic'},
    'resnet34': {'depths': [3, 4, 6, 3], 'hidden_sizes': [64, 128, 256, 512], 'layer_type': 'basic'},
    'resnet50': {'depths': [3, 4, 6, 3], 'hidden_sizes': [256, 512, 1024, 2048], 'layer_type': 'bottleneck'},
}
_LIGHT, _LIGHT_AT_HALF_SIZE = 'efficientnet_lite0', 'efficientnet_lite0_at_half_size'
ENCODERS = ('conv', _LIGHT, _LIGHT_AT_HALF_SIZE, *_HUB)
_DINO_CELLS_PER_LEVEL = (4, 2, 1, 0.5)  # size of the maps for strides 4, 8, 16, 32, in units of stride 16


def create_encoder(name: str, widths: tuple[int, int, int, int], pretrained: bool) -> nn.Module | None:
    """Build an image encoder.

    Args:
        name: one of ``ENCODERS``.
        widths: channels wanted at strides 4, 8, 16, 32.
        pretrained: whether it starts from published weights.

    Returns:
        A module that maps (B, 3, H, W) 0..1 to four maps of features, None where it has none; None for ``conv``.

    Raises:
        SettingsError: no such encoder, or its weights cannot be had.
        MissingDependencyError: it needs a library that is not installed.
    """
    if name not in ENCODERS:
        raise SettingsError(f'encoder is {name!r}, expected one of {", ".join(ENCODERS)}')
    if name == 'conv':
        return None
    if name in (_LIGHT, _LIGHT_AT_HALF_SIZE):
        return EfficientNetLite(widths, pretrained, half_size=name == _LIGHT_AT_HALF_SIZE)
    return BackboneEncoder(name, widths, pretrained)


class BackboneEncoder(nn.Module):
    """Features of a known backbone at strides 4, 8, 16 and 32, projected to given widths."""

    def __init__(self, name: str, widths: tuple[int, int, int, int], pretrained: bool) -> None:
        """Build the backbone.

        Args:
            name: a backbone of ``transformers``, one of ``ENCODERS``.
            widths: channels wanted at strides 4, 8, 16, 32.
            pretrained: True = with the weights of the model hub, which are downloaded if the machine has none yet.

        Raises:
            SettingsError: its weights cannot be fetched.
            MissingDependencyError: transformers is not installed.
        """
        super().__init__()
        try:
            from transformers import AutoBackbone, Dinov2Config, ResNetConfig
        except ImportError as error:
            raise MissingDependencyError(f'encoder {name!r} needs transformers: pip install transformers') from error
        self._patches = name.startswith('dinov2')
        if self._patches:
            config = Dinov2Config(
                hidden_size=384, num_attention_heads=6, out_features=['stage3', 'stage6', 'stage9', 'stage12']
            )
        else:
            config = ResNetConfig(
                embedding_size=64, out_features=['stage1', 'stage2', 'stage3', 'stage4'], **_RESNETS[name]
            )
        if pretrained:
            try:
                self.backbone = AutoBackbone.from_pretrained(_HUB[name], out_features=config.out_features)
            except Exception as error:  # of the client of the hub, which has classes of its own
                raise SettingsError(
                    f'weights of {_HUB[name]!r} cannot be fetched ({" ".join(str(error).split())[:200]}); connect '
                    'to the model hub once, or start without (network.pretrained: false)'
                ) from error
        else:
            self.backbone = AutoBackbone.from_config(config)
        if self._patches:  # for patches that are left out, which none is; several processes wait for every gradient
            self.backbone.embeddings.mask_token.requires_grad_(False)
        self.project = nn.ModuleList(
            conv(channels, width, kernel=1) for channels, width in zip(self.backbone.channels, widths, strict=True)
        )
        self.register_buffer('mean', torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> BackboneEncoder:
        """Train or not; normalisation by the batch keeps the statistics that it has.

        Those of a few crops would differ from process to process, and from what a robot sees.
        """
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode.

        Args:
            image: (B, 3, H, W) 0..1, H and W multiples of 32.

        Returns:
            Features at strides 4, 8, 16, 32.
        """
        height, width = image.shape[-2:]
        image = (image - self.mean) / self.std
        if not self._patches:
            return [
                project(maps) for project, maps in zip(self.project, self.backbone(image).feature_maps, strict=True)
            ]
        # One patch of 14 pixels per cell of stride 16.
        image = functional.interpolate(image, (height // 16 * 14, width // 16 * 14), mode='bilinear', antialias=True)
        maps = self.backbone(image).feature_maps
        features = []
        for project, level, cells in zip(self.project, maps, _DINO_CELLS_PER_LEVEL, strict=True):
            size = int(height // 16 * cells), int(width // 16 * cells)
            features.append(functional.interpolate(project(level), size, mode='bilinear'))
        return features
