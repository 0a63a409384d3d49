"""The network in torch: on CUDA in half precision, on CPUs as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depth_ros.errors import CheckpointError, MissingDependencyError
from depth_ros.estimators.learned import (
    TOLERANCES,
    EngineError,
    EngineStatus,
    LearnedEstimator,
    check_reference,
    existing,
)
from depth_ros.estimators.network_input import NetworkInput
from depth_ros.settings import EstimatorSettings

try:
    import torch
except ImportError as error:
    raise MissingDependencyError(
        "method 'network' needs torch: pip install 'depth_ros[network]'; 'exported' runs without"
    ) from error

from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros.networks.weights import CHECKPOINT

_DTYPES = {'f32': torch.float32, 'f16': torch.float16, 'bf16': torch.bfloat16}


class NetworkEstimator(LearnedEstimator):
    """DepthNet in torch.

    Attributes:
        status: what runs it.
        facts: header of the checkpoint.
    """

    name = 'network'

    def __init__(self, settings: EstimatorSettings, check: bool = True) -> None:
        """Load a checkpoint and try it.

        Args:
            settings: ``checkpoint``, ``device``, ``precision``, ``threads`` and ``compile`` are used.
            check: whether to compare with the reference in the checkpoint; False for one that has none yet.

        Raises:
            CheckpointError: the checkpoint cannot be used, no device of that kind is there, or the self-check failed.
        """
        super().__init__(settings.threads)
        path = existing(settings.checkpoint, CHECKPOINT, 'checkpoint')
        network, self.facts = load_checkpoint(path)
        self._device, reason = _choose_device(settings.device)
        self._shipped_to_gpu = self._device.type == 'cuda'
        precision = settings.precision
        if precision == 'auto':
            precision = 'f16' if self._shipped_to_gpu else 'f32'
        device = torch.cuda.get_device_name(self._device) if self._shipped_to_gpu else 'CPU'
        what = f'{path.name} on {self._device}' if check else ''
        self.status = EngineStatus('torch', device, precision, reason, False, 0.0)
        try:
            self._load(network, precision, settings.compile, what)
        except CheckpointError as failure:
            if precision == 'f32':
                raise
            self.status = EngineStatus('torch', device, 'f32', f'{reason}; {failure}', True, 0.0)
            self._load(network, 'f32', settings.compile, what)

    @classmethod
    def of(cls, network: DepthNet) -> NetworkEstimator:
        """Wrap a network that is in memory, on the CPU in f32, unchecked."""
        self = cls.__new__(cls)
        LearnedEstimator.__init__(self)
        self.facts, self._device = {}, torch.device('cpu')
        self.status = EngineStatus('torch', 'CPU', 'f32', 'given as a network', False, 0.0)
        self._load(network, 'f32', False, '')
        return self

    def run(self, network_input: NetworkInput) -> tuple[np.ndarray, np.ndarray]:
        """Run the network, see ``LearnedEstimator.run``."""
        try:
            with torch.inference_mode():
                image, rays, guide = (
                    torch.from_numpy(array)[None].to(self._device)
                    for array in (network_input.image, network_input.rays, network_input.guide)
                )
                with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
                    prediction = self._network(image, rays, guide)
                depth = prediction.log_depth.float().exp()
                std = depth * prediction.log_std.float().exp()
                return depth[0, 0].cpu().numpy(), std[0, 0].cpu().numpy()
        except (RuntimeError, MemoryError) as error:  # of torch, of all kinds
            raise EngineError(error) from error

    def shrink(self) -> str:
        """Go on in half precision, see ``LearnedEstimator.shrink``."""
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
        if self._dtype != torch.float32:
            return ''
        smaller = 'f16' if self._device.type == 'cuda' else 'bf16'
        self._dtype = _DTYPES[smaller]
        return smaller

    def _load(self, network: DepthNet, precision: str, compiled: bool, what: str) -> None:
        """Put the network on the device and, if it has a name, compare it with its reference."""
        self._dtype = _DTYPES[precision]
        try:
            network = network.eval().to(self._device, memory_format=torch.channels_last)
        except RuntimeError as error:
            raise CheckpointError(f'{self._device} cannot hold the network: {EngineError(error)}') from error
        # Shapes of a camera never change, so each is compiled once.
        self._network = torch.compile(network, dynamic=False) if compiled else network
        if what:
            error = check_reference(self, self.facts, TOLERANCES[precision], what)
            self.status = replace(self.status, max_relative_error=error)


def _choose_device(wanted: str) -> tuple[torch.device, str]:
    available = torch.cuda.is_available()
    if wanted == 'cuda' and not available:
        raise CheckpointError("estimator.device is 'cuda', and torch finds no CUDA device; use auto or cpu")
    if wanted == 'cpu':
        return torch.device('cpu'), 'as set'
    if available:
        return torch.device('cuda'), 'as set' if wanted == 'cuda' else 'torch finds a CUDA device'
    return torch.device('cpu'), 'torch finds no CUDA device'
