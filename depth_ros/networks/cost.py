"""What a network costs: multiply-adds and memory traffic, counted from the layers as they are built."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from depth_ros.networks.depth_net import DepthNet
from depth_ros.networks.layout import GUIDE_CHANNELS


@dataclass(frozen=True)
class LayerCost:
    """One layer that multiplies: a convolution, a matrix product, an attention.

    Attributes:
        kind: name of the operation.
        shape: of its output.
        multiply_adds: number of them.
        values: numbers that it reads (inputs and weights) and writes.
    """

    kind: str
    shape: tuple[int, ...]
    multiply_adds: int
    values: int


def layer_costs(network: DepthNet, shape: tuple[int, int]) -> list[LayerCost]:
    """Count the layers of a network for one image.

    Nothing is computed, only shapes are followed. What lies between the layers (activations, sums, resizing) is not
    counted: good engines fuse it into them.

    Args:
        network: any size and encoder.
        shape: (height, width) of its input, multiples of ``STRIDE``.

    Returns:
        The layers in the order of their use.
    """
    height, width = shape
    counted = copy.deepcopy(network).eval().to('meta')
    inputs = (
        torch.zeros(1, height, width, channels, dtype=dtype, device='meta')
        for channels, dtype in ((3, torch.uint8), (2, torch.float32), (GUIDE_CHANNELS, torch.float32))
    )
    with torch.no_grad(), _Recorder() as recorder:
        counted(*inputs)
    return recorder.layers


def roofline_ms(layers: Sequence[LayerCost], flops_per_s: float, bytes_per_s: float, bytes_per_value: int) -> float:
    """Least time for the layers, each bound by arithmetic or by memory.

    Args:
        layers: from ``layer_costs``.
        flops_per_s: multiplications and additions per second that can be reached.
        bytes_per_s: memory traffic per second that can be reached.
        bytes_per_value: 4 for f32, 2 for f16 and bf16.

    Returns:
        Milliseconds.

    Source: Williams et al. 2009, "Roofline: an insightful visual performance model".
    """
    return 1e3 * sum(
        max(2 * layer.multiply_adds / flops_per_s, layer.values * bytes_per_value / bytes_per_s) for layer in layers
    )


class _Recorder(TorchDispatchMode):
    """Notes every operation that torch knows to multiply."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[LayerCost] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            output = result[0] if isinstance(result, tuple) else result
            values = output.numel() + sum(item.numel() for item in args if isinstance(item, Tensor))
            flops = count(*args, **kwargs, out_val=result)
            self.layers.append(LayerCost(function._overloadpacket.__name__, tuple(output.shape), flops // 2, values))
        return result
