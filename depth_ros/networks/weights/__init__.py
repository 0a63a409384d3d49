"""Weights that ship with the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
# For torch, to run and to train further.
CHECKPOINT = FOLDER / 'depth_net_small.safetensors'
# The same weights, for engines.
EXPORTED = FOLDER / 'depth_net_small.onnx'
