"""The network as an ONNX file, in OpenVINO or ONNX Runtime (TensorRT, CUDA, CPU). Needs no torch."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.errors import CheckpointError, MissingDependencyError
from depth_ros.estimators.learned import (
    MAX_CAMERAS,
    TOLERANCES,
    EngineError,
    EngineStatus,
    LearnedEstimator,
    check_reference,
    existing,
)
from depth_ros.estimators.network_input import NetworkInput
from depth_ros.networks.layout import INPUT_VERSION, input_version
from depth_ros.networks.weights import EXPORTED
from depth_ros.settings import EstimatorSettings

METADATA_KEY = 'depth_ros'
INPUTS = ('image', 'rays', 'guide')
# What an engine that computes in f32 can be told to compute in, to need less memory.
_SMALLER = {'OpenVINO': 'bf16', 'TensorRT': 'f16'}

# Takes image (1, H, W, 3) uint8, rays (1, H, W, 2) and guide (1, H, W, 11) float32; gives depth and std, (1, H, W)
# float32.
_Run = Callable[[dict[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]


class ExportedEstimator(LearnedEstimator):
    """DepthNet in an engine.

    Attributes:
        status: what runs it.
        facts: what the file says of itself.
    """

    name = 'exported'

    def __init__(self, settings: EstimatorSettings, engine: str = '') -> None:
        """Load a file, choose an engine, and try it.

        With device ``auto`` the engines are tried from the fastest to the slowest (TensorRT, CUDA, OpenVINO, ONNX
        Runtime on the CPU); one that fails, or fails the self-check, is passed over and named in the status.

        Args:
            settings: ``checkpoint``, ``device``, ``precision`` and ``threads`` are used.
            engine: one of ``engine_names``, to have this one and no other; '' = the fastest.

        Raises:
            CheckpointError: the file cannot be used, or no engine passes.
            MissingDependencyError: no engine is installed.
        """
        super().__init__(settings.threads)
        self._smaller = ''
        path = existing(settings.checkpoint, EXPORTED, 'exported network')
        content, self.facts = _read(path)
        failures = []
        candidates = [item for item in _candidates(settings) if engine in ('', item[0])]
        if not candidates:
            raise MissingDependencyError(
                f"method 'exported' finds no engine for device {settings.device!r}: pip install openvino (CPU), or "
                'onnxruntime-gpu (CUDA, TensorRT)'
            )
        for name, build in candidates:
            precision = self._precision(settings.precision, name)
            reason = 'as set' if settings.device != 'auto' else 'the fastest of the engines installed'
            if failures:
                reason = f'passed over {"; ".join(failures)}'
            other = settings.precision not in ('auto', precision)
            if other:
                reason += f'; {settings.precision}, which is asked for, is not to be had with this file'
            engine = 'openvino' if name == 'OpenVINO' else 'onnxruntime'
            try:
                device, self._run = build(content, precision, settings)
                self.status = EngineStatus(engine, device, precision, reason, bool(failures) or other, 0.0)
                error = check_reference(self, self.facts, TOLERANCES[precision], f'{path.name} in {name}')
            except Exception as failure:  # engines raise errors of all kinds
                failures.append(f'{name}: {" ".join(str(failure).split())[:200]}')
                continue
            self.status = replace(self.status, max_relative_error=error)
            self._smaller = _SMALLER.get(name, '') if precision == 'f32' else ''
            self._rebuild = partial(_rebuild, build, path, self._smaller, settings)
            return
        raise CheckpointError(f'no engine can run {str(path)!r}: {"; ".join(failures)}')

    def run(self, network_input: NetworkInput) -> tuple[np.ndarray, np.ndarray]:
        """Run the network, see ``LearnedEstimator.run``."""
        arrays = network_input.image, network_input.rays, network_input.guide
        try:
            depth, std = self._run({name: array[None] for name, array in zip(INPUTS, arrays, strict=True)})
        except Exception as error:  # of all kinds, ONNX Runtime's are children of Exception itself
            raise EngineError(error) from error
        return depth[0], std[0]

    def shrink(self) -> str:
        """Build the engine again in half precision, see ``LearnedEstimator.shrink``."""
        smaller = self._smaller
        if smaller:
            del self._run  # its memory is needed
            try:
                self._run = self._rebuild()
            except Exception as error:
                raise EngineError(MemoryError(f'cannot be built in {smaller}: {error}')) from error
            self._smaller = ''
        return smaller

    def _precision(self, wanted: str, name: str) -> str:
        if name in ('TensorRT', 'CUDA'):
            # Providers run what the file says; TensorRT may also choose half precision by itself.
            if name == 'TensorRT' and wanted in ('auto', 'f16'):
                return 'f16'
            return str(self.facts.get('precision', 'f32'))
        if wanted == 'bf16' and name == 'OpenVINO':
            return 'bf16'
        return str(self.facts.get('precision', 'f32'))


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """File and the facts in its metadata; the engines parse the rest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f'cannot read exported network {str(path)!r}: {error.strerror}') from error
    if content[:2] == b'PK' or content[:1] == b'\x80':
        raise CheckpointError(
            f'exported network {str(path)!r} is a pickle; expected an ONNX file of `depth_ros export`'
        )
    facts = _metadata(content)
    if facts is None:
        raise CheckpointError(
            f'exported network {str(path)!r} is damaged, or no ONNX file that `depth_ros export` wrote; export it again'
        )
    version = input_version(facts)
    if version != INPUT_VERSION:
        raise CheckpointError(
            f'exported network {str(path)!r} takes input version {version}, this release makes '
            f'version {INPUT_VERSION}; export the checkpoint of this release'
        )
    return content, facts


def _metadata(content: bytes) -> dict[str, Any] | None:
    """Entry of ours among the metadata of an ONNX model, None if there is none.

    A model is a protobuf message; field 14 holds its metadata, pairs of key (field 1) and value (field 2). Reading
    just that spares a robot the onnx package.
    """
    try:
        for number, value in _fields(content):
            if number == 14:
                entry = dict(_fields(value))
                if entry.get(1) == METADATA_KEY.encode():
                    facts = json.loads(entry[2])
                    return facts if isinstance(facts, dict) else None
    except (IndexError, KeyError, ValueError, RecursionError):
        pass
    return None


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    """Length-delimited fields of a protobuf message; raises ``ValueError`` or ``IndexError`` where it is none."""
    fields, position = [], 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            _, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError('truncated')
            fields.append((key >> 3, message[position : position + length]))
            position += length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError('no protobuf')
    return fields


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError('no protobuf')


_Build = Callable[[bytes, str, EstimatorSettings], tuple[str, _Run]]


def _rebuild(build: _Build, path: Path, precision: str, settings: EstimatorSettings) -> _Run:
    return build(path.read_bytes(), precision, settings)[1]


def _candidates(settings: EstimatorSettings) -> list[tuple[str, _Build]]:
    """Engines that are installed, the fastest first (environment: OpenVINO leads ONNX Runtime on CPUs)."""
    found: list[tuple[str, _Build]] = []
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except ImportError:
        providers = []
    if settings.device in ('auto', 'cuda'):
        if 'TensorrtExecutionProvider' in providers:
            found.append(('TensorRT', _build_tensorrt))
        if 'CUDAExecutionProvider' in providers:
            found.append(('CUDA', _build_cuda))
    if settings.device in ('auto', 'cpu'):
        try:
            import openvino  # noqa: F401

            found.append(('OpenVINO', _build_openvino))
        except ImportError:
            pass
        if 'CPUExecutionProvider' in providers:
            found.append(('ONNX Runtime', _build_cpu))
    return found


def engine_names(settings: EstimatorSettings) -> list[str]:
    """Engines that are installed for ``settings.device``, the fastest first."""
    return [name for name, _ in _candidates(settings)]


@cache
def _openvino_core() -> Any:
    """The one OpenVINO runtime of the process, which must not end before it.

    It gives the main thread a stack for signals and takes it away again when it is destroyed: the next Ctrl-C would end
    in a segmentation fault (seen with OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _build_openvino(content: bytes, precision: str, settings: EstimatorSettings) -> tuple[str, _Run]:
    core = _openvino_core()
    model = core.read_model(content)
    options = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'bf16' if precision == 'bf16' else 'f32'}
    if settings.threads:
        options['INFERENCE_NUM_THREADS'] = str(settings.threads)
    requests: dict[tuple[int, ...], Any] = {}

    def run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        shape = inputs['image'].shape
        if shape not in requests:
            # Fixed shapes run faster; a camera has one.
            fixed = model.clone()
            fixed.reshape({name: list(array.shape) for name, array in inputs.items()})
            if len(requests) >= MAX_CAMERAS:
                del requests[next(iter(requests))]
            requests[shape] = core.compile_model(fixed, 'CPU', options).create_infer_request()
        request = requests[shape]
        request.infer(inputs, share_inputs=True)
        # The buffers of the request are overwritten by the next frame; the caller scales, and so copies, them.
        return request.get_output_tensor(0).data, request.get_output_tensor(1).data

    return f'CPU ({core.get_property("CPU", "FULL_DEVICE_NAME").strip()})', run


def _build_cpu(content: bytes, precision: str, settings: EstimatorSettings) -> tuple[str, _Run]:
    return 'CPU', _session(content, ['CPUExecutionProvider'], settings)


def _build_cuda(content: bytes, precision: str, settings: EstimatorSettings) -> tuple[str, _Run]:
    # Frames of a camera have one size, so the best convolution is worth searching for.
    options = {'cudnn_conv_algo_search': 'EXHAUSTIVE'}
    return f'CUDA ({gpu_name()})', _session(content, [('CUDAExecutionProvider', options)], settings)


def _build_tensorrt(content: bytes, precision: str, settings: EstimatorSettings) -> tuple[str, _Run]:
    folder = cache_folder() / engine_key(content, gpu_name(), tensorrt_version())
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        'trt_engine_cache_enable': True,
        'trt_engine_cache_path': str(folder),
        'trt_timing_cache_enable': True,
        'trt_timing_cache_path': str(folder),
        'trt_fp16_enable': precision == 'f16',
    }
    providers = [('TensorrtExecutionProvider', options), 'CUDAExecutionProvider']
    return f'TensorRT ({gpu_name()})', _session(content, providers, settings)


def _session(content: bytes, providers: list[Any], settings: EstimatorSettings) -> _Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if settings.threads:
        options.intra_op_num_threads = settings.threads
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if wanted not in session.get_providers():
        raise CheckpointError(f'ONNX Runtime could not start {wanted}')

    def run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        depth, std = session.run(['depth', 'std'], inputs)
        return depth, std

    return run


def engine_key(content: bytes, gpu: str, version: str) -> str:
    """Name of the cache of one built engine: it holds for one model, one kind of GPU and one TensorRT version.

    Args:
        content: the ONNX file.
        gpu: name of the GPU.
        version: TensorRT's version.

    Returns:
        Hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in (gpu.encode(), version.encode(), content):
        digest.update(len(part).to_bytes(8, 'little') + part)
    return digest.hexdigest()[:32]


def cache_folder() -> Path:
    """Folder for built engines, by the XDG convention."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'depth_ros' / 'engines'


def gpu_name() -> str:
    """Name of the first NVIDIA GPU as the driver gives it, ``unknown`` if it does not."""
    for path in sorted(Path('/proc/driver/nvidia/gpus').glob('*/information')):
        for line in path.read_text().splitlines():
            if line.startswith('Model:'):
                return line.partition(':')[2].strip()
    board = Path('/proc/device-tree/model')  # Jetson
    return board.read_text().strip('\0\n ') if board.exists() else 'unknown'


def tensorrt_version() -> str:
    """Version of the TensorRT library that is installed, ``unknown`` if none is found."""
    for name in ('libnvinfer.so.10', 'libnvinfer.so.8', 'libnvinfer.so'):
        try:
            return str(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):  # noqa: PERF203 (three tries)
            continue
    return 'unknown'
