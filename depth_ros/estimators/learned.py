"""What estimators with weights share, whatever runs the network: input, scale, refusal of broken output, self-check.

Needs no torch.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.errors import CheckpointError, FrameRefused
from depth_ros.estimators.network_input import NetworkInput, encode, ray_channels
from depth_ros.estimators.parts import threads_here
from depth_ros.types import Camera, Frame, SparseDepth

TOLERANCES = {'f32': 1e-3, 'f16': 0.1, 'bf16': 0.3}
"""Largest relative error by precision against f32 in torch on the CPU. What half precision costs is measured, not
assumed; this only catches what is broken."""
BEST_PIXELS = 400_000
"""Of larger images a network sees too small a part at once, and more detail than it was trained on: errors are a tenth
larger, for four times the pixels. Chosen on recordings of five other sensors, of 1.4 to 2.4 million pixels, which were
made 1 to 3 times smaller."""
MAX_CAMERAS = 8
"""So many cameras, or image sizes, are kept ready; with more of them memory would grow without end."""
# As torch, CUDA, TensorRT, ONNX Runtime, OpenVINO and the C++ library say it; only torch has a class of errors for it.
_OUT_OF_MEMORY = re.compile(r'out.?of.?memory|allocate .{0,40}memory|bad.?alloc|alloc(ation)?_failed', re.IGNORECASE)


@dataclass(frozen=True)
class EngineStatus:
    """What runs the network, and why.

    Attributes:
        engine: ``torch``, ``openvino`` or ``onnxruntime``.
        device: what computes, as the engine calls it.
        precision: of the layers: ``f32``, ``f16`` or ``bf16``.
        reason: why this and nothing better, one sentence.
        fallback: True if something better was there, or asked for, and failed.
        max_relative_error: largest relative error against the reference stored with the weights.
    """

    engine: str
    device: str
    precision: str
    reason: str
    fallback: bool
    max_relative_error: float

    def __str__(self) -> str:
        return (
            f'{self.engine} on {self.device} in {self.precision}: {self.reason}; differs from the reference by at most '
            f'{100 * self.max_relative_error:.2g} %'
        )


class EngineError(Exception):
    """What runs the network failed; the message is its own, in one line.

    Attributes:
        out_of_memory: True if no memory was left.
    """

    def __init__(self, error: BaseException) -> None:
        text = ' '.join(str(error).split()) or type(error).__name__
        super().__init__(text if len(text) <= 300 else f'{text[:300]}...')
        self.out_of_memory = isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text) is not None


class LearnedEstimator:
    """A network behind the protocol of estimators. A child adds ``name``, ``run`` and ``shrink``.

    Frames without lidar are answered too; their depth rests on the image and the focal length alone. Threads may share
    one; the network itself runs for one of them at a time.

    Attributes:
        status: what runs the network.
        facts: what is stored with the weights.
    """

    name = ''
    needs_lidar = False
    best_pixels = BEST_PIXELS

    status: EngineStatus
    facts: dict[str, Any]

    def __init__(self, threads: int = 0) -> None:
        """Take how many threads make the input; 0 = one per core."""
        self._threads = threads or threads_here()
        self._rays: dict[tuple[Any, ...], np.ndarray] = {}
        # Engines write the next result into the buffers of the last. The self-check in a smaller precision comes back.
        self._lock = threading.RLock()
        self._given_up = ''

    def run(self, network_input: NetworkInput) -> tuple[np.ndarray, np.ndarray]:
        """Depth and standard deviation, (H, W) float32, padded, in multiples of the scale.

        Raises:
            EngineError: what runs the network failed.
        """
        raise NotImplementedError

    def shrink(self) -> str:
        """Go on in a smaller precision, to need less memory; the precision, '' if there is none smaller."""
        raise NotImplementedError

    def estimate(self, frame: Frame, sparse: SparseDepth) -> tuple[np.ndarray, np.ndarray]:
        """Estimate depth and its standard deviation, see ``Estimator.estimate``.

        Args:
            frame: the image.
            sparse: its measurements; may be empty.

        Returns:
            depth: (H, W) float32 metres, known everywhere; where the network sees the sky it means nothing.
            std: (H, W) float32 metres; for the sky larger than the depth.

        Raises:
            FrameRefused: ``not_finite``, the network gave values that are not finite; ``out_of_memory``, in no
                precision was there memory enough, now or, where the smaller precision cannot be built or fails its
                self-check, once before; ``engine_failed``, what runs the network gave another error.
        """
        network_input = encode(frame, sparse, self._ray_channels(frame.camera), self._threads)
        height, width = network_input.shape
        scale = np.float32(network_input.scale)
        with self._lock:
            depth, std = self._run_in_less_memory(network_input)
            depth, std = depth[:height, :width] * scale, std[:height, :width] * scale
        # A sum is finite if all its terms are; it costs one pass and no array of flags.
        if not np.isfinite(depth.sum(dtype=np.float64) + std.sum(dtype=np.float64)):
            wrong = int((~(np.isfinite(depth) & np.isfinite(std))).sum())
            raise FrameRefused(
                'not_finite',
                f'the network gave {wrong} pixels that are not finite; use precision f32 or another engine',
            )
        return depth, std

    def _run_in_less_memory(self, network_input: NetworkInput) -> tuple[np.ndarray, np.ndarray]:
        try:
            if self._given_up:
                raise EngineError(MemoryError(self._given_up))
            try:
                return self.run(network_input)
            except EngineError as error:
                if not error.out_of_memory:
                    raise
                text = str(error)
            # Outside of the handler: the error holds on to what was allocated.
            self._go_on_smaller(text)
            return self.run(network_input)
        except EngineError as error:
            height, width = network_input.shape
            what = f'{self.status.engine} on {self.status.device} in {self.status.precision}'
            if error.out_of_memory:
                raise FrameRefused(
                    'out_of_memory',
                    f'{what} has no memory left for an image of {width}x{height}; set estimator.downscale above '
                    f'what "estimated at" in the diagnostics shows, or use another device ({error})',
                ) from error
            raise FrameRefused('engine_failed', f'{what} failed: {error}') from error

    def _go_on_smaller(self, text: str) -> None:
        try:
            smaller = self.shrink()
        except EngineError as failure:
            self._given_up = f'{text}; {failure}'
            raise
        if not smaller:
            raise EngineError(MemoryError(text))
        reason = f'{self.status.precision} ran out of memory ({text})'
        self.status = replace(self.status, precision=smaller, reason=reason, fallback=True)
        if 'reference' in self.facts:
            try:
                error = check_reference(self, self.facts, TOLERANCES[smaller], f'the network in {smaller}')
            except CheckpointError as failure:
                # Nothing is left that passed its check: the next image must not be answered by what failed it.
                self._given_up = f'{text}; {failure}'
                raise EngineError(MemoryError(self._given_up)) from failure
            self.status = replace(self.status, max_relative_error=error)

    def _ray_channels(self, camera: Camera) -> np.ndarray:
        key = (
            camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.model,
            camera.distortion.tobytes(), camera.rotation.tobytes(),
        )  # fmt: skip
        directions = self._rays.get(key)
        if directions is None:
            directions = ray_channels(camera)
            if len(self._rays) >= MAX_CAMERAS:
                self._rays.clear()
            self._rays[key] = directions
        return directions


# A picture that needs no file: edges, textures and colours; and points like those of 16 rings.
_WIDTH, _HEIGHT = 192, 96
_GRID = 4  # the reference is stored for every n-th row and column


def reference_input() -> tuple[Frame, SparseDepth]:
    """Make the fixed frame and measurements on which engines are compared; arithmetic only, the same everywhere."""
    v, u = np.mgrid[:_HEIGHT, :_WIDTH]
    image = np.stack([(u * 3 + v) % 256, (u // 16 * 40 + v // 12 * 30) % 256, (u * v // 37) % 256], axis=-1)
    camera = Camera(_WIDTH, _HEIGHT, 110.0, 110.0, (_WIDTH - 1) / 2, (_HEIGHT - 1) / 2)
    row, column = (grid.ravel() for grid in np.mgrid[5:_HEIGHT:6, 2:_WIDTH:3])
    depth = np.where(column // 24 % 2 == 0, 6.0, 20.0) + (_HEIGHT - row) * 0.1
    values = (array.astype(np.float32) for array in (column + 0.25, row - 0.25, depth, np.full(len(row), 0.03)))
    return Frame(1, image.astype(np.uint8), 'rgb8', camera), SparseDepth(*values, shape=camera.shape)


def make_reference(estimator: LearnedEstimator) -> list[float]:
    """Run an estimator on the fixed input, for storage beside its weights.

    Returns:
        Depth, then standard deviation, at every 4th row and column, metres.
    """
    depth, std = estimator.estimate(*reference_input())
    return [float(f'{value:.6g}') for values in (depth, std) for value in values[::_GRID, ::_GRID].ravel()]


def check_reference(estimator: LearnedEstimator, facts: Mapping[str, Any], tolerance: float, what: str) -> float:
    """Compare an engine with the reference.

    Args:
        estimator: the engine.
        facts: what is stored with the weights; ``reference`` as ``make_reference`` returned it.
        tolerance: largest relative error that is taken.
        what: the engine, for the message.

    Returns:
        Largest relative error.

    Raises:
        CheckpointError: there is no reference or none of numbers, or the engine differs from it by more, or gives
            values that are not finite.
    """
    stored = facts.get('reference')
    if not stored:
        raise CheckpointError(f'{what} has no reference output beside its weights to be checked with; export it again')
    try:
        expected = np.asarray(stored, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{what} has a reference that is no list of numbers; export it again') from error
    try:
        found = np.asarray(make_reference(estimator))
    except FrameRefused as refusal:
        raise CheckpointError(f'{what} failed its self-check: {refusal}') from refusal
    if found.shape != expected.shape:
        raise CheckpointError(
            f'{what} has a reference of {expected.size} values, expected {found.size}; export it again'
        )
    error = float(np.max(np.abs(found - expected) / np.abs(expected)))
    if not error <= tolerance:
        raise CheckpointError(
            f'{what} failed its self-check: it differs from the reference by {100 * error:.3g} %, expected at most '
            f'{100 * tolerance:.3g} %; use precision f32 or another engine, or export the network again'
        )
    return error


def existing(path: str, default: Path, what: str) -> Path:
    """Path of weights: as set, or those that ship.

    Raises:
        CheckpointError: there is no such file.
    """
    chosen = Path(path) if path else default
    if not chosen.is_file():
        raise CheckpointError(f'{what} {str(chosen)!r} does not exist; set estimator.checkpoint')
    return chosen
