"""How fast and how exact the network is in every engine of this machine, each in a process of its own."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_ros.bags.reader import until_damage
from depth_ros.bags.recording import Recording
from depth_ros.errors import BagError, CheckpointError, DepthRosError, FrameRefused, MissingDependencyError
from depth_ros.estimators.exported import ExportedEstimator, engine_names
from depth_ros.estimators.learned import LearnedEstimator
from depth_ros.estimators.network_input import encode, padded_shape, ray_channels
from depth_ros.estimators.parts import threads_here
from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.benchmark import (
    START_NS,
    SWEEP_NS,
    measure,
    resident_mb,
    summary,
    synthetic_camera,
    synthetic_image,
    synthetic_scan,
    transforms,
)
from depth_ros.evaluation.holdout import LidarHoldout, ring_step_holdout
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.networks.weights import CHECKPOINT
from depth_ros.pipeline import DepthPipeline
from depth_ros.processes import hear_interrupts, interrupts_held
from depth_ros.settings import EstimatorSettings, Settings
from depth_ros.types import Frame, LidarScan, SparseDepth

TORCH, TORCH_COMPILED = 'torch', 'torch compiled'
NETWORK_SIZES = ('small', 'base')
_BYTES = {'f32': 4, 'f16': 2, 'bf16': 2}
_WARM_UP = 3
_MATRIX = 2048
_COPIED_BYTES = 1 << 28
# Modules of Jetson Orin: peak of the tensor cores in f16 without sparsity (a quarter of the sparse INT8 figure of the
# data sheet), TFLOP/s, and memory bandwidth, GB/s. Source: data sheets of the Jetson Orin modules, NVIDIA.
ORIN = {'AGX Orin 64GB': (42.5, 204.8), 'Orin NX 16GB': (14.7, 102.4), 'Orin Nano 8GB': (10.0, 68.0)}
# Shares of them that are assumed to be reached: convolutions with few channels fill tensor cores badly.
ORIN_ARITHMETIC, ORIN_MEMORY = 0.25, 0.5


@dataclass(frozen=True)
class Engine:
    """One way to run the network.

    Attributes:
        name: ``torch``, ``torch compiled``, or one of ``exported.engine_names``.
        device: ``cpu`` or ``cuda``.
        precision: ``f32``, ``f16`` or ``bf16``.
    """

    name: str
    device: str
    precision: str

    @property
    def text(self) -> str:
        """As tables name it."""
        return f'{self.name} {self.device} {self.precision}'

    def load(self, checkpoint: Path, exports: Path, threads: int) -> LearnedEstimator:
        """Start it.

        Args:
            checkpoint: ``.safetensors`` file.
            exports: folder with ``f32.onnx`` and ``f16.onnx`` of it.
            threads: on CPUs; 0 = one per core.

        Raises:
            CheckpointError: it does not run the network, or not in this precision.
        """
        settings = EstimatorSettings(device=self.device, precision=self.precision, threads=threads)
        if self.name in (TORCH, TORCH_COMPILED):
            import torch

            from depth_ros.estimators.network import NetworkEstimator

            if threads:
                torch.set_num_threads(threads)
            estimator: Any = NetworkEstimator(
                replace(settings, checkpoint=str(checkpoint), compile=self.name == TORCH_COMPILED)
            )
        else:
            # Providers for CUDA compute in what the file says; the other engines choose by themselves.
            half = self.name == 'CUDA' and self.precision == 'f16'
            file = exports / ('f16.onnx' if half else 'f32.onnx')
            estimator = ExportedEstimator(replace(settings, checkpoint=str(file)), self.name)
        if estimator.status.precision != self.precision:
            raise CheckpointError(f'{self.text} fell back to {estimator.status.precision}: {estimator.status.reason}')
        return estimator


def engines(compiled: bool = False) -> list[Engine]:
    """What this machine can run the network in; eager torch in f32 first, to which the others are compared.

    Args:
        compiled: with torch.compile, which takes minutes to start.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "engines are compared with torch, which is not installed: pip install 'depth_ros[training]'"
        ) from error
    found = [Engine(TORCH, 'cpu', 'f32'), Engine(TORCH, 'cpu', 'bf16')]
    found += [Engine(TORCH_COMPILED, 'cpu', 'f32')] if compiled else []
    for name in engine_names(EstimatorSettings(device='cpu')):
        precisions = ('f32', 'bf16') if name == 'OpenVINO' else ('f32',)
        found += [Engine(name, 'cpu', precision) for precision in precisions]
    if torch.cuda.is_available():
        found += [Engine(TORCH, 'cuda', precision) for precision in ('f32', 'f16', 'bf16')]
        found += [Engine(TORCH_COMPILED, 'cuda', 'f16')] if compiled else []
        for name in engine_names(EstimatorSettings(device='cuda')):
            found += [Engine(name, 'cuda', precision) for precision in ('f32', 'f16')]
    return found


def bench_engines(
    network_sizes: Sequence[str],
    image_sizes: Sequence[tuple[int, int]],
    frames: int,
    threads: int = 0,
    compiled: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Time networks of random weights in every engine. Each measurement has a process of its own, for its memory.

    Args:
        network_sizes: of ``depth_net.SIZES``.
        image_sizes: (width, height), pixels.
        frames: timed runs of each.
        threads: on CPUs; 0 = one per core.
        compiled: with torch.compile.
        progress: told what is measured.

    Returns:
        ``peaks``: device and precision -> FLOP/s of a large matrix product, and bytes/s of a large copy, both taken
        now. ``input``: image size -> time of the preparation of the input. ``networks``: network size -> image size ->
        cost, engines, and the estimate for Jetson Orin. Times are of the network alone, with copies to the device and
        back; ``speed_up`` is over eager torch in f32 on the CPU, ``roofline_share`` is the least possible time by
        ``peaks`` as a share of the measured one (over 1 where an engine needs fewer multiplications than are counted,
        by Winograd's method, or where the machine was busier before), ``resident_mb`` the memory of the process,
        libraries included.

    Raises:
        MissingDependencyError: torch is not installed.
        SettingsError: no such network size.
    """
    found = engines(compiled)
    peaks = {}
    for device, precision in dict.fromkeys((engine.device, engine.precision) for engine in found):
        progress(f'peaks of {device} {precision}')
        peaks[f'{device} {precision}'] = _apart(_peaks, device, precision, threads)
    result: dict[str, Any] = {'threads': threads or os.cpu_count(), 'peaks': peaks, 'input': {}, 'networks': {}}
    for image_size in image_sizes:
        progress(f'input, {image_size[0]}x{image_size[1]}')
        result['input']['{}x{}'.format(*image_size)] = _apart(_time_input, image_size, frames, threads)
    with tempfile.TemporaryDirectory(prefix='depth_ros_') as folder:
        for network_size in network_sizes:
            checkpoint, exports = Path(folder) / f'{network_size}.safetensors', Path(folder) / network_size
            progress(f'{network_size}: exporting')
            _apart(_write_random, network_size, checkpoint, exports)
            rows: dict[str, Any] = {}
            for image_size in image_sizes:
                entry = _apart(_cost, checkpoint, image_size)
                entry['engines'] = {}
                for engine in found:
                    row = _apart(_time_engine, engine, checkpoint, exports, image_size, frames, threads)
                    entry['engines'][engine.text] = row
                    said = row.get('failed') or f'{row["median_ms"]:.1f} ms, {row["resident_mb"]:.0f} MB'
                    progress(f'{network_size}, {image_size[0]}x{image_size[1]}, {engine.text}: {said}')
                _compare(entry, found, peaks)
                rows['{}x{}'.format(*image_size)] = entry
            result['networks'][network_size] = rows
    return result


def engines_table(result: dict[str, Any]) -> str:
    """Result of ``bench_engines`` as a table."""
    lines = [
        f'{"network":<8}{"image":<10}{"engine":<24}{"median":>9}{"p99":>9}{"speed-up":>10}{"roofline":>10}{"memory":>10}'
    ]
    for image_size, row in result['input'].items():
        times = f'{row["median_ms"]:>6.1f} ms{row["p99_ms"]:>6.1f} ms'
        lines.append(f'{"":<8}{image_size:<10}{"preparing the input":<24}{times}')
    for network_size, images in result['networks'].items():
        for image_size, entry in images.items():
            for name, row in entry['engines'].items():
                head = f'{network_size:<8}{image_size:<10}{name:<24}'
                if 'failed' in row:
                    lines.append(head + row['failed'][:80])
                    continue
                lines.append(
                    f'{head}{row["median_ms"]:>6.1f} ms{row["p99_ms"]:>6.1f} ms{row.get("speed_up", np.nan):>9.2f}x'
                    f'{row.get("roofline_share", np.nan):>10.0%}{row["resident_mb"]:>7.0f} MB'
                )
            estimates = ', '.join(f'{name} {ms:.1f} ms' for name, ms in entry['jetson_orin_estimate_ms'].items())
            lines.append(
                f'{network_size:<8}{image_size:<10}{entry["gflops"]:.1f} GFLOP, {entry["parameters"] / 1e6:.2f} M '
                f'parameters; f16 on Jetson, on paper: {estimates}'
            )
    return '\n'.join(lines)


def check_engines(
    checkpoint: Path, bag: Path, step: int = 4, max_frames: int = 5, threads: int = 0
) -> Iterator[tuple[Engine, dict[str, float | str]]]:
    """Compare the depth of every engine with that of torch on the CPU in f32, on a recording.

    Args:
        checkpoint: ``.safetensors`` file.
        bag: a recording with lidar.
        step: every n-th ring is given.
        max_frames: images at most.
        threads: on CPUs; 0 = one per core.

    Yields:
        Each engine, and ``median``, ``p99`` and ``max`` of the relative error of depth over all pixels of all images,
        ``std_median`` of that of the standard deviation, and ``images``; or ``failed``, why it does not run.

    Raises:
        BagError: the recording cannot be used.
        CheckpointError: the checkpoint cannot be used.
        MissingDependencyError: torch or onnx is not installed.
    """
    with tempfile.TemporaryDirectory(prefix='depth_ros_') as exports:
        _apart(_export, checkpoint, Path(exports))
        yield from _checked(checkpoint, Path(exports), bag, step, max_frames, threads)


def _checked(
    checkpoint: Path, exports: Path, bag: Path, step: int, max_frames: int, threads: int
) -> Iterator[tuple[Engine, dict[str, float | str]]]:
    reference, *others = engines()
    # Slow, but it says what half precision costs where no GPU is at hand; ONNX Runtime would compute in f32 on a CPU.
    others.append(Engine(TORCH, 'cpu', 'f16'))
    frames = list(_frames(bag, step, max_frames))
    if not frames:
        raise BagError(
            f'no image of bag {str(bag)!r} could be answered, so there is nothing to compare; `depth_ros evaluate` '
            'says why'
        )
    expected = [reference.load(checkpoint, exports, threads).estimate(*pair) for pair in frames]
    for engine in others:
        try:
            estimator = engine.load(checkpoint, exports, threads)
            answers = [estimator.estimate(*pair) for pair in frames]
        except DepthRosError as error:
            yield engine, {'failed': str(error)}
            continue
        pairs = list(zip(answers, expected, strict=True))
        errors, std_errors = (
            np.concatenate([(np.abs(answer[k] - truth[k]) / truth[k]).ravel() for answer, truth in pairs])
            for k in (0, 1)
        )
        median, p99 = np.percentile(errors, (50, 99))
        yield engine, {
            'median': float(median), 'p99': float(p99), 'max': float(errors.max()),
            'std_median': float(np.median(std_errors)), 'images': len(frames),
        }  # fmt: skip
        del estimator
        gc.collect()


def _frames(bag: Path, step: int, max_frames: int) -> Iterator[tuple[Frame, SparseDepth]]:
    settings = Settings()
    with Recording(bag, settings=settings) as ahead:
        events = until_damage(ahead.events(), lambda damage: None)
        scans = list(islice((item for _, item in events if isinstance(item, LidarScan)), 1))
    with Recording(bag, settings=settings) as recording:
        holdout = LidarHoldout(lambda scans: ring_step_holdout(step, scans), scans)
        pipeline = DepthPipeline(settings, recording.transforms, NearestEstimator(), holdout)
        count = 0
        events = until_damage(recording.events(), lambda damage: None)
        for answer in replay(events, pipeline, ReplayCounts()):
            if isinstance(answer, FrameRefused):
                continue
            yield answer.frame, answer.sparse
            count += 1
            if count == max_frames:
                break


def _apart(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a fresh process; one that dies (out of memory, an instruction that the CPU lacks) costs its row only."""
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        try:
            with interrupts_held():
                future = pool.submit(_heard, call, *arguments)
            return future.result()
        except BrokenProcessPool:
            return {'failed': 'the process died'}


def _heard(call: Callable[..., Any], *arguments: Any) -> Any:
    hear_interrupts()
    return call(*arguments)


def _write_random(network_size: str, checkpoint: Path, exports: Path) -> None:
    import torch

    from depth_ros.estimators.learned import make_reference
    from depth_ros.estimators.network import NetworkEstimator
    from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
    from depth_ros.networks.depth_net import DepthNet

    torch.manual_seed(0)
    # Of any size, with the image encoder of the weights that ship.
    network = DepthNet(network_size, load_checkpoint(CHECKPOINT)[0].encoder_name).eval()
    save_checkpoint(checkpoint, network, {'reference': make_reference(NetworkEstimator.of(network))})
    _export(checkpoint, exports)


def _export(checkpoint: Path, exports: Path) -> None:
    from depth_ros.estimators.export import export

    for precision in ('f32', 'f16'):
        export(checkpoint, exports / f'{precision}.onnx', f'fp{precision[1:]}')


def _cost(checkpoint: Path, image_size: tuple[int, int]) -> dict[str, Any]:
    from depth_ros.networks.checkpoint import load_checkpoint
    from depth_ros.networks.cost import layer_costs, roofline_ms

    network, _ = load_checkpoint(checkpoint)
    layers = layer_costs(network, padded_shape(image_size[::-1]))
    return {
        'parameters': sum(value.numel() for value in network.parameters()),
        'gflops': 2e-9 * sum(layer.multiply_adds for layer in layers),
        'values': sum(layer.values for layer in layers),
        'layers': layers,
        'jetson_orin_estimate_ms': {
            name: roofline_ms(layers, ORIN_ARITHMETIC * 1e12 * tflops, ORIN_MEMORY * 1e9 * gigabytes, 2)
            for name, (tflops, gigabytes) in ORIN.items()
        },
    }


def _compare(entry: dict[str, Any], found: Sequence[Engine], peaks: dict[str, Any]) -> None:
    from depth_ros.networks.cost import roofline_ms

    layers = entry.pop('layers')
    rows = entry['engines']
    eager = rows[found[0].text].get('median_ms', float('nan'))
    for engine in found:
        row, peak = rows[engine.text], peaks[f'{engine.device} {engine.precision}']
        if 'failed' in row or 'failed' in peak:
            continue
        least = roofline_ms(layers, peak['flops_per_s'], peak['bytes_per_s'], _BYTES[engine.precision])
        row |= {'speed_up': eager / row['median_ms'], 'roofline_ms': least, 'roofline_share': least / row['median_ms']}


def _time_engine(
    engine: Engine, checkpoint: Path, exports: Path, image_size: tuple[int, int], frames: int, threads: int
) -> dict[str, Any]:
    cv2.setNumThreads(threads or -1)
    frame, sparse = _moment(image_size)
    network_input = encode(frame, sparse)
    before = resident_mb(os.getpid())
    try:
        estimator = engine.load(checkpoint, exports, threads)
        times = measure(lambda: estimator.run(network_input), frames, _WARM_UP)
    except Exception as error:  # engines raise errors of all kinds
        return {'failed': ' '.join(str(error).split())}
    resident = resident_mb(os.getpid())
    moved = sum(array.nbytes for array in (network_input.image, network_input.rays, network_input.guide))
    moved += 2 * 4 * network_input.image.shape[0] * network_input.image.shape[1]
    return {**summary(times, moved), 'resident_mb': resident, 'without_engine_mb': before}


def _time_input(image_size: tuple[int, int], frames: int, threads: int) -> dict[str, Any]:
    cv2.setNumThreads(threads or -1)
    frame, sparse = _moment(image_size)
    directions = ray_channels(frame.camera)
    threads = threads or threads_here()
    made = encode(frame, sparse, directions, threads)
    times = measure(lambda: encode(frame, sparse, directions, threads), frames)
    return {**summary(times, made.image.nbytes + made.guide.nbytes), 'num_points': len(sparse)}


def _moment(image_size: tuple[int, int]) -> tuple[Frame, SparseDepth]:
    """A synthetic image with the points of 64 rings."""
    frame = Frame(START_NS + SWEEP_NS // 2, synthetic_image(*image_size), 'rgb8', synthetic_camera(*image_size))
    pipeline = DepthPipeline(Settings(), transforms(), NearestEstimator())
    pipeline.add_scan(synthetic_scan(64, 120_000 // 64))
    return frame, pipeline.process(frame).sparse


def _peaks(device: str, precision: str, threads: int) -> dict[str, float]:
    """What a large matrix product and a large copy reach."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    dtype = {'f32': torch.float32, 'f16': torch.float16, 'bf16': torch.bfloat16}[precision]
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    size = _MATRIX if device == 'cpu' else 4 * _MATRIX
    left, right = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, size, dtype=dtype, device=device)
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def seconds(call: Callable[[], Any]) -> float:
        def once() -> None:
            call()
            wait()

        return float(np.min(measure(once, 5, 2))) / 1e3

    with torch.inference_mode():
        product, copy = seconds(lambda: left @ right), seconds(lambda: target.copy_(source))
    return {'flops_per_s': 2 * size**3 / product, 'bytes_per_s': 2 * _COPIED_BYTES / copy}
