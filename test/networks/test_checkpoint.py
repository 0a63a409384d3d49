import dataclasses
import json
import math
import os
import struct

import pytest

pytest.importorskip('torch', reason='checkpoints need torch')
pytest.importorskip('safetensors', reason='checkpoints need safetensors')

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from depth_ros.errors import CheckpointError, OutputError
from depth_ros.estimators.learned import reference_input
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.networks import checkpoint
from depth_ros.networks.checkpoint import load_checkpoint, round_to_half, save_checkpoint
from depth_ros.networks.depth_net import SIZES, SKY_LOG_STD, DepthNet


@pytest.fixture
def saved(tmp_path):
    network = DepthNet()
    save_checkpoint(tmp_path / 'net.safetensors', network, {'training': {'steps': 7}})
    return network, tmp_path / 'net.safetensors'


def header(path, change):
    """Rewrite the facts in a file's header."""
    content = path.read_bytes()
    (length,) = struct.unpack('<Q', content[:8])
    entries = json.loads(content[8 : 8 + length])
    facts = json.loads(entries['__metadata__']['depth_ros'])
    change(facts)
    entries['__metadata__']['depth_ros'] = json.dumps(facts)
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + content[8 + length :])


def test_weights_and_facts_survive(saved):
    network, path = saved
    loaded, facts = load_checkpoint(path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    assert not loaded.training
    assert facts['size'] == 'small'
    assert facts['training'] == {'steps': 7}
    assert path.stat().st_size < 16e6


def test_half_precision_takes_half_the_room_and_comes_back_rounded(saved, tmp_path):
    network, path = saved
    save_checkpoint(tmp_path / 'half.safetensors', network, {}, half=True)
    assert (tmp_path / 'half.safetensors').stat().st_size < 0.55 * path.stat().st_size
    loaded, facts = load_checkpoint(tmp_path / 'half.safetensors')
    assert facts['stored'] == 'f16'
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    round_to_half(network)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    network = DepthNet()
    with torch.no_grad():
        network.head.bias[0] = 1e6
    with pytest.raises(CheckpointError, match=r"'head.bias' reach 1e\+06"):
        save_checkpoint(tmp_path / 'net.safetensors', network, {}, half=True)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match='nowhere'):
        load_checkpoint(tmp_path / 'nowhere.safetensors')


@pytest.mark.parametrize('old', [True, False])
def test_a_pickle_is_refused_and_not_run(tmp_path, old):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'owned'),)

    torch.save(Evil(), tmp_path / 'net.pt', _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match='pickle'):
        load_checkpoint(tmp_path / 'net.pt')
    assert not (tmp_path / 'owned').exists()


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    path = tmp_path / 'net.safetensors'
    for padding in range(256):  # headers are padded to eight bytes: every 32nd length begins with the byte of a pickle
        save_checkpoint(path, DepthNet('small'), {'note': 'x' * padding})
        if path.read_bytes()[:1] == b'\x80':
            break
    else:
        pytest.fail('no header has a length that begins like a pickle')
    assert load_checkpoint(path)[1]['note'] == 'x' * padding


@pytest.mark.parametrize('size', [0, 4, 100, 5_000_000])
def test_a_truncated_file_is_refused(saved, size):
    _, path = saved
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match='damaged'):
        load_checkpoint(path)


def test_garbage_is_refused(tmp_path):
    (tmp_path / 'net.safetensors').write_bytes(os.urandom(10_000))
    with pytest.raises(CheckpointError, match=r'damaged|pickle'):
        load_checkpoint(tmp_path / 'net.safetensors')


def test_weights_of_something_else_are_refused(tmp_path):
    save_file({'weight': torch.zeros(3)}, tmp_path / 'net.safetensors')
    with pytest.raises(CheckpointError, match='another network'):
        load_checkpoint(tmp_path / 'net.safetensors')


def test_another_network_of_ours_is_refused(saved):
    _, path = saved
    header(path, lambda facts: facts.update(network='SegNet'))
    with pytest.raises(CheckpointError, match='SegNet'):
        load_checkpoint(path)


def test_a_size_that_does_not_fit_the_weights_is_refused(saved):
    _, path = saved
    header(path, lambda facts: facts.update(size='base'))
    with pytest.raises(CheckpointError, match='tensors differ'):
        load_checkpoint(path)
    header(path, lambda facts: facts.update(size='huge'))
    with pytest.raises(CheckpointError, match='not known'):
        load_checkpoint(path)


def write_without(folder, without):
    """Write a checkpoint of ``small`` that lacks the layers of this name."""
    network = DepthNet()
    with torch.no_grad():
        network.head.weight.normal_(std=0.05)
    save_checkpoint(folder / 'whole.safetensors', network, {})
    with safe_open(folder / 'whole.safetensors', 'pt') as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if not name.startswith(without)}  # noqa: SIM118
        save_file(kept, folder / 'net.safetensors', file.metadata())


def test_weights_of_the_first_release_fit_and_give_what_they_gave(tmp_path, monkeypatch):
    write_without(tmp_path, ('decoder.3.blocks.', 'sky.'))
    now, _ = load_checkpoint(tmp_path / 'net.safetensors')
    size = dataclasses.replace(SIZES['small'], decoder=(1, 1, 1, 0))
    monkeypatch.setitem(SIZES, 'small', size)
    then, _ = load_checkpoint(tmp_path / 'net.safetensors')
    assert len(then.state_dict()) < len(now.state_dict())
    frame, sparse = reference_input()
    for a, b in zip(*(NetworkEstimator.of(network).estimate(frame, sparse) for network in (then, now)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_that_never_learned_the_sky_see_it_nowhere(tmp_path):
    write_without(tmp_path, 'sky.')
    network, _ = load_checkpoint(tmp_path / 'net.safetensors')
    frame, sparse = reference_input()
    depth, std = NetworkEstimator.of(network).estimate(frame, sparse)
    assert (std < math.exp(SKY_LOG_STD) / 1.01 * depth).all()


def test_layers_that_are_filled_in_are_the_same_each_time(tmp_path):
    write_without(tmp_path, 'sky.')
    before = torch.random.get_rng_state()
    first = load_checkpoint(tmp_path / 'net.safetensors')[0].state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    second = load_checkpoint(tmp_path / 'net.safetensors')[0].state_dict()
    assert any(first[name].any() for name in first if name.startswith('sky.'))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_that_lack_only_some_of_the_later_layers_are_refused(tmp_path):
    write_without(tmp_path, 'decoder.3.blocks.1.')
    with pytest.raises(CheckpointError, match=r'2 tensors differ, .*blocks\.1'):
        load_checkpoint(tmp_path / 'net.safetensors')


@pytest.mark.parametrize('text', ['[]', 'null', '"x"', '[' * 100_000])
def test_a_header_that_is_no_table_of_facts_is_refused(tmp_path, text):
    save_file({'weight': torch.zeros(3)}, tmp_path / 'net.safetensors', {'depth_ros': text})
    with pytest.raises(CheckpointError, match="'depth_ros' entry"):
        load_checkpoint(tmp_path / 'net.safetensors')


@pytest.mark.parametrize(('key', 'said'), [('input', 'input version None'), ('size', 'not known')])
@pytest.mark.parametrize('value', [None, ['small'], 3])
def test_facts_of_another_kind_are_refused(saved, key, said, value):
    _, path = saved
    header(path, lambda facts: facts.update({key: value}))
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)


def test_input_that_has_changed_since_training_is_refused(saved, monkeypatch):
    _, path = saved
    monkeypatch.setattr(checkpoint, 'INPUT_VERSION', 99)
    with pytest.raises(CheckpointError, match='input version'):
        load_checkpoint(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = DepthNet()
    with torch.no_grad():
        network.head.bias[0] = float('nan')
    save_checkpoint(tmp_path / 'net.safetensors', network, {})
    with pytest.raises(CheckpointError, match=r"not finite in 'head.bias'"):
        load_checkpoint(tmp_path / 'net.safetensors')


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        save_checkpoint(tmp_path / 'file' / 'net.safetensors', DepthNet(), {})
    assert [path.name for path in tmp_path.iterdir()] == ['file']
