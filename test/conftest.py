"""Ctrl-C as tests need it, and weights of a small random network, for tests of all rooms."""

import importlib.util
import signal

import pytest

from depth_ros.open3d_library import supply_libusb

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So it is in the background of a shell, and so it would be in every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
supply_libusb()  # before a test module asks whether Open3D can be imported


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """A folder like that of the weights that ship: one network, for torch and for engines."""
    torch = pytest.importorskip('torch', reason='checkpoints are made with torch')
    pytest.importorskip('onnx', reason='exporting needs onnx')
    if not any(importlib.util.find_spec(name) for name in ('openvino', 'onnxruntime')):
        pytest.skip('neither openvino nor onnxruntime is installed')
    from depth_ros.estimators.export import export
    from depth_ros.estimators.learned import make_reference
    from depth_ros.estimators.network import NetworkEstimator
    from depth_ros.networks.checkpoint import round_to_half, save_checkpoint
    from depth_ros.networks.depth_net import DepthNet
    from depth_ros.networks.weights import CHECKPOINT, EXPORTED

    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    network = DepthNet().eval()
    for name, value in network.named_parameters():
        if name.startswith(('head', 'hidden')) or name.endswith('second.weight'):
            torch.nn.init.normal_(value, std=0.05)
    round_to_half(network)
    facts = {'reference': make_reference(NetworkEstimator.of(network))}
    save_checkpoint(folder / CHECKPOINT.name, network, facts, half=True)
    export(folder / CHECKPOINT.name, folder / EXPORTED.name)
    return folder
