"""Writes a checkpoint as an ONNX file that engines run, with all it needs to be used and checked."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from depth_ros.estimators.exported import INPUTS, METADATA_KEY, ExportedEstimator
from depth_ros.estimators.learned import make_reference
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.files import whole_file
from depth_ros.networks.checkpoint import load_checkpoint, round_to_half, save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros.networks.layout import GUIDE_CHANNELS, STRIDE
from depth_ros.settings import EstimatorSettings

_OPSET = 18
_SMALL = 64  # values; smaller weights stay as they are, a conversion costs as much as they do


class _Graph(nn.Module):
    """DepthNet from arrays as the estimator has them to depth and deviation in multiples of the scale."""

    def __init__(self, network: DepthNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)

    def forward(self, image: Tensor, rays: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """(1, H, W, 3) uint8, (1, H, W, 2), (1, H, W, 11) to (1, H, W) depth and std."""
        prediction = self.network(image, rays, guide)
        depth = prediction.log_depth[:, 0].float().exp()
        return depth, depth * prediction.log_std[:, 0].float().exp()


def halve(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint anew with weights in half precision, half as large; it computes in full precision as before.

    Args:
        checkpoint: ``.safetensors`` file.
        out: ``.safetensors`` file to write; its reference output is that of the rounded weights.

    Raises:
        CheckpointError: the checkpoint cannot be used, or a weight is too large.
        OutputError: the file cannot be written.
    """
    network, facts = load_checkpoint(checkpoint)
    round_to_half(network)
    save_checkpoint(out, network, {**facts, 'reference': make_reference(NetworkEstimator.of(network))}, half=True)


def export(checkpoint: Path, out: Path, precision: str = 'fp32') -> ExportedEstimator:
    """Export a checkpoint and check the result.

    Height and width stay free, in multiples of 32. Weights that half precision holds exactly, as those of checkpoints
    stored so, take half the space; engines make f32 of them when they load.

    Args:
        checkpoint: ``.safetensors`` file.
        out: ``.onnx`` file to write.
        precision: ``fp32``, or ``fp16`` for GPUs: layers compute in half precision.

    Returns:
        An estimator that runs the file that was written.

    Raises:
        CheckpointError: the checkpoint cannot be used, or the export does not give what the checkpoint gives.
        OutputError: the file cannot be written; nothing half-written is left.
    """
    network, facts = load_checkpoint(checkpoint)
    # The reference is what torch gives on the CPU, always in full precision.
    reference = make_reference(NetworkEstimator.of(network))
    dtype = torch.float16 if precision == 'fp16' else torch.float32
    size = 3 * STRIDE, 4 * STRIDE
    example = (
        torch.zeros(1, *size, 3, dtype=torch.uint8), torch.zeros(1, *size, 2), torch.ones(1, *size, GUIDE_CHANNELS),
    )  # fmt: skip
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            _Graph(network, dtype).eval(), example, buffer, input_names=list(INPUTS), output_names=['depth', 'std'],
            dynamic_axes={
                'image': {1: 'height', 2: 'width'},
                'rays': {1: 'height', 2: 'width'}, 'guide': {1: 'height', 2: 'width'},
                'depth': {1: 'height', 2: 'width'}, 'std': {1: 'height', 2: 'width'},
            },
            opset_version=_OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    _halve_where_exact(model.graph)
    entry = model.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = json.dumps({**facts, 'precision': 'f16' if precision == 'fp16' else 'f32', 'reference': reference})
    onnx.checker.check_model(model)
    with whole_file(out) as path:
        path.write_bytes(model.SerializeToString())
        # Before the file gets its name: an export that does not pass is not left behind.
        ExportedEstimator(EstimatorSettings(checkpoint=str(path), device='cpu'))
    return ExportedEstimator(EstimatorSettings(checkpoint=str(out), device='cpu'))


def _halve_where_exact(graph: onnx.GraphProto) -> None:
    """Store weights in f16 with a conversion behind them, where that changes no value."""
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over='ignore'):
            half = values.astype(np.float16)
        if values.size < _SMALL or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f'{name}_f16'))
        casts.append(helper.make_node('Cast', [weight.name], [name], name=f'{name}_f32', to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
