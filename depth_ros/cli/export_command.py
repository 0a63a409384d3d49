"""``depth_ros export``: a checkpoint as an ONNX file for engines (OpenVINO, ONNX Runtime, TensorRT)."""

from __future__ import annotations

import argparse
from pathlib import Path

from depth_ros.errors import MissingDependencyError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('checkpoint', type=Path, help='checkpoint (.safetensors)')
    parser.add_argument('--out', type=Path, required=True, help='file to write (.onnx)')
    parser.add_argument('--precision', choices=('fp32', 'fp16'), default='fp32', help='of the layers; fp16 is for GPUs')


def run(arguments: argparse.Namespace) -> None:
    """Export, check, and say what came out."""
    try:
        from depth_ros.estimators.export import export
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"export needs {error.name}: pip install 'depth_ros[training]'") from error
    estimator = export(arguments.checkpoint, arguments.out, arguments.precision)
    print(f'{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB; {estimator.status}')
