"""The network in torch: on CUDA in half precision, on CPUs as it is."""

from __future__ import annotations

import numpy as np

from depth_ros.errors import CheckpointError, FrameRefused, MissingDependencyError
from depth_ros.estimators.learned import EngineStatus, LearnedEstimator, check_reference, existing
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
# Relative error against f32 on the CPU. What half precision costs is measured, not assumed; this only catches what is
# broken.
_TOLERANCES = {'f32': 1e-3, 'f16': 0.1, 'bf16': 0.3}


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
            settings: ``checkpoint``, ``device``, ``precision`` and ``compile`` are used.
            check: whether to compare with the reference in the checkpoint; False for one that has none yet.

        Raises:
            CheckpointError: the checkpoint cannot be used, no device of that kind is there, or the self-check failed.
        """
        super().__init__()
        path = existing(settings.checkpoint, CHECKPOINT, 'checkpoint')
        network, self.facts = load_checkpoint(path)
        self._device, reason = _choose_device(settings.device)
        self._shipped_to_gpu = self._device.type == 'cuda'
        precision = settings.precision
        if precision == 'auto':
            precision = 'f16' if self._shipped_to_gpu else 'f32'
        self._load(network, precision, settings.compile)
        fallback, error = False, 0.0
        if check:
            try:
                error = check_reference(self, self.facts, _TOLERANCES[precision], f'{path.name} on {self._device}')
            except CheckpointError as failure:
                if precision == 'f32':
                    raise
                precision, fallback, reason = 'f32', True, f'{reason}; {failure}'
                self._load(network, precision, settings.compile)
                error = check_reference(self, self.facts, _TOLERANCES['f32'], f'{path.name} on {self._device}')
        device = torch.cuda.get_device_name(self._device) if self._shipped_to_gpu else 'CPU'
        self.status = EngineStatus('torch', device, precision, reason, fallback, error)

    @classmethod
    def of(cls, network: DepthNet) -> NetworkEstimator:
        """Wrap a network that is in memory, on the CPU in f32, unchecked."""
        self = cls.__new__(cls)
        LearnedEstimator.__init__(self)
        self.facts, self._device = {}, torch.device('cpu')
        self._load(network, 'f32', False)
        self.status = EngineStatus('torch', 'CPU', 'f32', 'given as a network', False, 0.0)
        return self

    def run(self, network_input: NetworkInput) -> tuple[np.ndarray, np.ndarray]:
        """Run the network, see ``LearnedEstimator.run``.

        Raises:
            FrameRefused: ``out_of_memory``, the device has no memory left for this image.
        """
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
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            height, width = network_input.shape
            raise FrameRefused(
                'out_of_memory',
                f'{self._device} has no memory left for a {width}x{height} image; use f16, or estimator.downscale',
            ) from error

    def _load(self, network: DepthNet, precision: str, compiled: bool) -> None:
        self._dtype = _DTYPES[precision]
        network = network.eval().to(self._device, memory_format=torch.channels_last)
        # Shapes of a camera never change, so each is compiled once.
        self._network = torch.compile(network, dynamic=False) if compiled else network


def _choose_device(wanted: str) -> tuple[torch.device, str]:
    available = torch.cuda.is_available()
    if wanted == 'cuda' and not available:
        raise CheckpointError("estimator.device is 'cuda', and torch finds no CUDA device; use auto or cpu")
    if wanted == 'cpu':
        return torch.device('cpu'), 'as set'
    if available:
        return torch.device('cuda'), 'as set' if wanted == 'cuda' else 'torch finds a CUDA device'
    return torch.device('cpu'), 'torch finds no CUDA device'
