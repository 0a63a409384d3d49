"""How long each stage takes on this machine, in ratios to a copy of the same bytes taken in the same run.

No ROS here: messages are duck-typed. What a graph adds is measured by running the node (``depth_ros bench --live``).
"""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from depth_ros.errors import SettingsError
from depth_ros.estimators.parts import usable_cores
from depth_ros.estimators.registry import create_estimator
from depth_ros.evaluation.holdout import fraction_holdout
from depth_ros.geometry.cloud import xyzrgb
from depth_ros.geometry.depth_image import from_metres
from depth_ros.geometry.rigid import TransformTree, rigid
from depth_ros.messages.image import decode_image, fill_image
from depth_ros.messages.point_cloud import decode_cloud, fill_colour_cloud, fill_lidar_cloud
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings
from depth_ros.types import Camera, Frame, LidarScan, Pose

SIZES = ((640, 480), (1242, 375), (1280, 720), (1920, 1080))
SWEEP_NS = 100_000_000
START_NS = 1_000_000_000_000
CAMERA_FRAME, LIDAR_FRAME, BODY_FRAME = 'camera_optical', 'lidar', 'base_link'
# Roof lidar, camera 0.3 m below and in front of it, x forward to z forward.
CAMERA_FROM_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.3], [1, 0, 0, -0.3], [0, 0, 0, 1]], dtype=np.float64)


def machine() -> dict[str, Any]:
    """What this machine is, for the head of a result."""
    model = next(
        (line.split(':', 1)[1].strip() for line in _read_lines('/proc/cpuinfo') if line.startswith('model name')),
        platform.processor() or platform.machine(),
    )
    return {
        'cpu': model,
        'cores': usable_cores(),
        'system': platform.platform(),
        'python': platform.python_version(),
        'numpy': np.__version__,
        'opencv': cv2.__version__,
    }


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB; NaN if it is gone, or the system has no /proc."""
    lines = _read_lines(f'/proc/{pid}/status')
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith('VmRSS')), float('nan'))


def measure(call: Callable[[], Any], frames: int, warm_up: int = 5) -> list[float]:
    """Run a call again and again.

    Args:
        call: what to time.
        frames: number of timed runs.
        warm_up: runs before, not timed (compilation, caches).

    Returns:
        Wall time of each run, ms.
    """
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(frames):
        started = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return times


def summary(times_ms: list[float], num_bytes: int | None = None) -> dict[str, float]:
    """Median and 99th percentile; with bytes also the ratio to a copy of as many, taken now.

    Args:
        times_ms: wall times, ms.
        num_bytes: bytes that the stage moves, None = no yardstick.

    Returns:
        ``median_ms``, ``p99_ms``, and ``bytes``, ``memcpy_ms``, ``ratio``.
    """
    result = {'median_ms': float(np.median(times_ms)), 'p99_ms': float(np.percentile(times_ms, 99))}
    if num_bytes:
        source, target = np.ones(num_bytes, np.uint8), np.empty(num_bytes, np.uint8)
        copy_ms = float(np.median(measure(lambda: np.copyto(target, source), 50)))
        result |= {'bytes': num_bytes, 'memcpy_ms': copy_ms, 'ratio': result['median_ms'] / copy_ms}
    return result


def synthetic_scan(num_rings: int, num_columns: int, stamp_ns: int = START_NS) -> LidarScan:
    """Sweep of a street: ground 1.8 m below, walls 8 m to either side, boxes ahead.

    Args:
        num_rings: beams between -25 and +3 degrees.
        num_columns: points per ring over 360 degrees.
        stamp_ns: start of the sweep, ns.

    Returns:
        A sweep of ``num_rings * num_columns`` points with rings and times, ring by ring.
    """
    azimuth, elevation = np.meshgrid(
        np.linspace(-np.pi, np.pi, num_columns, endpoint=False), np.radians(np.linspace(3, -25, num_rings))
    )
    direction = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    ).reshape(-1, 3)
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = np.minimum(120.0, np.where(direction[:, 2] < 0, -1.8 / direction[:, 2], np.inf))
        distance = np.minimum(distance, 8.0 / np.abs(direction[:, 1]))
        for x, y in ((12, 2), (20, -3), (9, -4), (35, 1)):
            front = x / direction[:, 0]
            hit = (direction[:, 0] > 0) & (np.abs(front * direction[:, 1] - y) < 1) & (front * direction[:, 2] < 0.2)
            distance = np.where(hit, np.minimum(distance, front), distance)
    offsets = ((azimuth + np.pi) / (2 * np.pi) * SWEEP_NS).astype(np.int32).reshape(-1)
    ring = np.repeat(np.arange(num_rings, dtype=np.uint16), num_columns)
    points = (direction * distance[:, None]).astype(np.float32)
    return LidarScan(stamp_ns, points, LIDAR_FRAME, offsets, ring, np.full(len(points), 0.5, np.float32))


def synthetic_image(width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 image with edges and texture at several scales."""
    random = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = random.uniform(0, 255 / 3, (max(height * cells // width, 2), cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return image.astype(np.uint8)


def synthetic_camera(width: int, height: int) -> Camera:
    """Rectified camera with 80 degrees horizontally, as wide as KITTI's."""
    focal = width / 2 / np.tan(np.radians(40))
    return Camera(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5, CAMERA_FRAME)


def transforms() -> TransformTree:
    """Where the synthetic sensors are."""
    tree = TransformTree()
    tree.add(CAMERA_FRAME, LIDAR_FRAME, CAMERA_FROM_LIDAR)
    tree.add(BODY_FRAME, LIDAR_FRAME, rigid([0, 0, 1.8], [0, 0, 0, 1]))
    return tree


def empty_message() -> SimpleNamespace:
    """A message with what the fill functions need, for machines without ROS."""
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id=''), data=None, _data=None
    )


def bench_stages(
    width: int, height: int, methods: tuple[str, ...], frames: int, num_rings: int, input_share: float
) -> dict[str, Any]:
    """Measure every stage at one image size, with a sweep of 120,000 points under ego-motion.

    Args:
        width: image width, pixels.
        height: image height, pixels.
        methods: estimators to time.
        frames: timed runs per stage.
        num_rings: beams of the lidar; the number of points stays.
        input_share: share of the points given to the estimators.

    Returns:
        ``{stage: summary}``; ``estimate`` holds one summary per method.
    """
    camera, image = synthetic_camera(width, height), synthetic_image(width, height)
    scan = synthetic_scan(num_rings, 120_000 // num_rings)
    stamp = START_NS + SWEEP_NS // 2
    image_message = fill_image(empty_message(), image, 'rgb8', CAMERA_FRAME, stamp)
    cloud_message = fill_lidar_cloud(empty_message(), SimpleNamespace, scan)
    image_message.data, cloud_message.data = bytes(image_message._data), bytes(cloud_message._data)
    frame = Frame(stamp, image, 'rgb8', camera)

    result: dict[str, Any] = {
        'decode_image': summary(measure(lambda: decode_image(image_message), frames), len(image_message.data)),
        'decode_cloud': summary(measure(lambda: decode_cloud(cloud_message), frames), len(cloud_message.data)),
    }
    result['estimate'] = {}
    stages: dict[str, list[float]] = {'pair': [], 'project': []}
    for method in methods:
        holdout = fraction_holdout(1 - input_share) if input_share < 1 else None
        pipeline = DepthPipeline(Settings(), transforms(), create_estimator(Settings(), method), holdout)
        for i in range(-5, 25):
            pose = rigid([0.1 * i, 0, 0], [0, 0, np.sin(0.001 * i), np.cos(0.001 * i)])
            pipeline.add_pose(Pose(START_NS + i * 10_000_000, pose, 'odom', BODY_FRAME))
        pipeline.add_scan(scan)
        times: list[dict[str, int]] = []
        for _ in range(frames + 5):
            run = pipeline.process(frame)
            times.append(run.stage_ns)  # not the run: 500 images of 1920x1080 with their std are 8 GB
        for name in stages:
            stages[name] += [stage_ns[name] / 1e6 for stage_ns in times[5:]]
        result['estimate'][method] = summary([stage_ns['estimate'] / 1e6 for stage_ns in times[5:]])
        result['estimate'][method]['num_points'] = run.basis.num_points
    result |= {
        'pair_and_compensate': summary(stages['pair']),
        'project': summary(stages['project'], scan.points.nbytes),
    }

    depth = run.depth
    cloud = np.empty((height, width, 4), np.float32)
    result['cloud'] = summary(
        measure(lambda: xyzrgb(depth, None, image, 'rgb8', camera, 1, cloud), frames), cloud.nbytes
    )
    out = empty_message()
    result['encode'] = {
        'depth_32FC1': summary(
            measure(lambda: fill_image(out, from_metres(depth, '32FC1'), '32FC1', '', stamp), frames), depth.nbytes
        ),
        'depth_16UC1': summary(
            measure(lambda: fill_image(out, from_metres(depth, '16UC1'), '16UC1', '', stamp), frames), depth.nbytes // 2
        ),
        'cloud': summary(
            measure(lambda: fill_colour_cloud(out, SimpleNamespace, cloud, '', stamp), frames), cloud.nbytes
        ),
    }
    return result


def bench_peer(path: Path, frames: int) -> dict[str, Any]:
    """Time the classical estimator against the public code of IP-Basic (Ku et al. 2018), side by side on one thread.

    Args:
        path: ``ip_basic/depth_map_utils.py`` of github.com/kujason/ip_basic.
        frames: timed runs of each, alternating.

    Returns:
        Summaries of both for 1242x375 and 16 rings, and the ratio of their medians.

    Raises:
        SettingsError: there is no such file.
    """
    specification = importlib.util.spec_from_file_location('ip_basic_depth_map_utils', path)
    if specification is None or not path.is_file():
        raise SettingsError(f'{str(path)!r} is no Python file, expected depth_map_utils.py of IP-Basic')
    peer = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(peer)
    width, height = 1242, 375
    frame = Frame(START_NS + SWEEP_NS // 2, synthetic_image(width, height), 'rgb8', synthetic_camera(width, height))
    pipeline = DepthPipeline(Settings(), transforms(), create_estimator(Settings(), 'classical'))
    pipeline.add_scan(synthetic_scan(16, 120_000 // 64))
    sparse = pipeline.process(frame).sparse
    image = np.nan_to_num(sparse.to_image())
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times: dict[str, list[float]] = {'ip_basic_fast': [], 'classical': []}
    try:
        for _ in range(frames):
            times['ip_basic_fast'] += measure(lambda: peer.fill_in_fast(image.copy()), 1, 1)
            times['classical'] += measure(lambda: pipeline.estimator.estimate(frame, sparse), 1, 1)
    finally:
        cv2.setNumThreads(threads)
    result = {name: summary(values) for name, values in times.items()}
    ratio = result['classical']['median_ms'] / result['ip_basic_fast']['median_ms']
    return result | {'num_points': len(sparse), 'ratio': ratio}


def _read_lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding='utf-8').splitlines() if file.exists() else []
