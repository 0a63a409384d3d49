"""Checkpoints: tensors in safetensors, and in its header every fact that is needed to use them. No pickle, no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from depth_ros.errors import CheckpointError, SettingsError
from depth_ros.files import whole_file
from depth_ros.networks.depth_net import NAME, DepthNet
from depth_ros.networks.layout import GUIDE_CHANNELS, INPUT_VERSION, STRIDE, input_version

_FORMAT = 'depth_ros 1'
_KEY = 'depth_ros'
# Layers that networks of some sizes had not at first; as they are before training, they change nothing.
_LATER = {'decoder.3.blocks.': ('small',), 'sky.': ('small', 'base')}


def save_checkpoint(path: Path, network: DepthNet, facts: Mapping[str, Any], half: bool = False) -> None:
    """Write a network, whole or not at all.

    Args:
        path: file to write (``.safetensors``).
        network: its weights and build.
        facts: what else to know of it, JSON: training settings, data, figures.
        half: whether to store half precision; ``load_checkpoint`` gives full precision again, of the rounded values
            (see ``round_to_half``).

    Raises:
        CheckpointError: a value is too large for half precision.
        OutputError: the file cannot be written.
    """
    header = {
        'format': _FORMAT,
        'network': NAME,
        'size': network.size,
        'encoder': network.encoder_name,
        'input': {'version': INPUT_VERSION, 'guide_channels': GUIDE_CHANNELS, 'stride': STRIDE, 'image': 'rgb 0..255'},
        'output': 'log(depth / scale), log of the standard deviation of that, log(10) = sky',
        **facts,
        'stored': 'f16' if half else 'f32',
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if half:
        tensors = {name: _halved(name, value) for name, value in tensors.items()}
    content = save(tensors, {_KEY: json.dumps(header)})
    with whole_file(path) as part:
        part.write_bytes(content)


def round_to_half(network: DepthNet) -> None:
    """Round the weights of a network, which stays in full precision, to what half precision can hold.

    Raises:
        CheckpointError: a value is too large.
    """
    network.load_state_dict({name: _halved(name, value).to(value) for name, value in network.state_dict().items()})


def load_checkpoint(path: Path) -> tuple[DepthNet, dict[str, Any]]:
    """Read a network.

    Args:
        path: file that ``save_checkpoint`` wrote.

    Returns:
        network: on the CPU, in evaluation mode.
        facts: the header.

    Raises:
        CheckpointError: no such file, no safetensors (a pickle, say), damaged, or of another network or version.
        MissingDependencyError: its encoder needs a library that is not installed.
    """
    path = Path(path)
    facts, tensors = _read(path)
    if facts.get('network') != NAME:
        raise CheckpointError(f'checkpoint {str(path)!r} holds {facts.get("network")!r}, expected {NAME}')
    version = input_version(facts)
    if version != INPUT_VERSION:
        raise CheckpointError(
            f'checkpoint {str(path)!r} was trained on input version {version}, this release makes version '
            f'{INPUT_VERSION}; use the checkpoint of this release, or train again'
        )
    try:
        # What layers that are filled in are made of shows once they are trained, and in means with what was trained: it
        # is the same each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = DepthNet(facts['size'], facts['encoder'])
    except (KeyError, TypeError, SettingsError) as error:  # a list is no key of a table
        raise CheckpointError(f'checkpoint {str(path)!r} names a network that is not known: {error}') from error
    expected = network.state_dict()
    for layers, sizes in _LATER.items():
        if facts['size'] in sizes and not any(name.startswith(layers) for name in tensors):
            tensors.update({name: value for name, value in expected.items() if name.startswith(layers)})
    wrong = sorted(expected.keys() ^ tensors.keys()) + sorted(
        name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape
    )
    if wrong:
        raise CheckpointError(
            f'checkpoint {str(path)!r} does not fit {NAME} {facts["size"]!r} with encoder {facts["encoder"]!r}: '
            f'{len(wrong)} tensors differ, {wrong[0]!r} first'
        )
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f'checkpoint {str(path)!r} holds values that are not finite in {broken[0]!r}')
    network.load_state_dict({name: value.to(expected[name]) for name, value in tensors.items()})
    return network.eval(), facts


def _halved(name: str, value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if torch.isinf(half).any():
        raise CheckpointError(f'weights {name!r} reach {value.abs().max():g}, too large for half precision')
    return half


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with path.open('rb') as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f'cannot read checkpoint {str(path)!r}: {error.strerror}') from error
    # The first eight bytes of safetensors are a length, which may look like anything; a brace follows.
    if start[8:] != b'{' and (start[:2] == b'PK' or start[:1] == b'\x80'):
        raise CheckpointError(
            f'checkpoint {str(path)!r} is a pickle, which can run code when it is read; expected safetensors'
        )
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'checkpoint {str(path)!r} is damaged or no safetensors file: {" ".join(str(error).split())}'
        ) from error
    try:
        facts = json.loads(metadata[_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f'checkpoint {str(path)!r} holds another network: its header has no {_KEY!r} entry'
        ) from error
    if not isinstance(facts, dict):
        raise CheckpointError(f'checkpoint {str(path)!r} has a {_KEY!r} entry that is no object, expected one of facts')
    return facts, tensors
