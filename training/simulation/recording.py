"""Bags of simulated drives, as a robot would record them, with the truth as ordinary topics beside."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from depth_ros.bags.writer import BagWriter
from depth_ros.errors import OutputError
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.image import fill_image
from depth_ros.messages.odometry import fill_odometry, fill_transform
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.types import Frame, Pose
from depth_ros_training.simulation.semantics import CLASSES
from depth_ros_training.simulation.simulator import (
    BODY,
    LEFT,
    LIDAR,
    RIGHT,
    SimulatedMoment,
    SimulationSettings,
    Simulator,
)

_NOTE = 'simulation'  # in the metadata of the bag
_TRANSFER_NS = 5_000_000  # from the stamp of an image to its recording


def record(
    simulator: Simulator, path: Path | str, overwrite: bool = False, progress: Callable[[int], Any] | None = None
) -> None:
    """Write a drive into a bag.

    Topics: ``/camera/{left,right}/image_rect`` and ``camera_info``, ``/points``, ``/odometry``, ``/tf_static``. Truth:
    ``/truth/depth`` (32FC1, left camera, NaN = sky), ``/truth/semantic`` (mono8), ``/truth/moving`` (mono8, 255 = moves
    by itself), ``/truth/odometry`` (world from base_link), ``/truth/lidar_extrinsics`` (TransformStamped).

    Args:
        simulator: the drive.
        path: folder of the bag.
        overwrite: replace the bag that is there.
        progress: called with the number of frames done.

    Raises:
        OutputError: the bag cannot be written; nothing of it is left.
    """
    with BagWriter(path, overwrite=overwrite) as writer:
        writer.note(_NOTE, json.dumps(_facts(simulator), sort_keys=True))
        queue = _Queue(writer)
        started = False
        for index, moment in enumerate(simulator):
            if not started:
                first = min([moment.left.stamp_ns, *(pose.stamp_ns for pose in moment.odometry)])
                static = writer.message('tf2_msgs/msg/TFMessage')
                for parent, child in ((BODY, LEFT), (LEFT, RIGHT), (BODY, LIDAR)):
                    static.transforms.append(_transform(writer, simulator.transforms, parent, child, first))
                writer.write('/tf_static', static, first)
                # Not a TFMessage, which readers would take for more of the robot's frames.
                true = _transform(writer, simulator.true_transforms, BODY, LIDAR, first)
                writer.write('/truth/lidar_extrinsics', true, first)
                started = True
            _add(queue, writer, simulator, moment)
            queue.flush(moment.left.stamp_ns - 100_000_000)
            if progress is not None:
                progress(index + 1)
        queue.flush(None)


def check_settings(path: Path, settings: SimulationSettings) -> None:
    """Check that a bag, if there is one, was simulated with these settings, as far as it says how it was.

    Raises:
        OutputError: it was not.
    """
    try:
        head = yaml.safe_load((path / 'metadata.yaml').read_text(encoding='utf-8'))['rosbag2_bagfile_information']
        found = json.loads(head['custom_data'][_NOTE])['settings']
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return
    differing = [
        f'{name} was {found[name]!r}, is {value!r}'
        for name, value in _public(settings).items()
        if found.get(name, value) != value
    ]
    if differing:
        raise OutputError(
            f'{str(path)!r} is a drive of other settings ({"; ".join(differing)}); name another folder, or replace '
            'what is there (--overwrite)'
        )


class _Queue:
    """Puts messages into the order of recording."""

    def __init__(self, writer: BagWriter) -> None:
        self._writer = writer
        self._heap: list[tuple[int, int, str, Any]] = []
        self._count = 0

    def add(self, topic: str, message: Any, log_ns: int) -> None:
        heapq.heappush(self._heap, (log_ns, self._count, topic, message))
        self._count += 1

    def flush(self, until_ns: int | None) -> None:
        while self._heap and (until_ns is None or self._heap[0][0] < until_ns):
            log_ns, _, topic, message = heapq.heappop(self._heap)
            self._writer.write(topic, message, log_ns)


def _add(queue: _Queue, writer: BagWriter, simulator: Simulator, moment: SimulatedMoment) -> None:
    stamp = moment.left.stamp_ns
    log_ns = stamp + _TRANSFER_NS
    _add_camera(queue, writer, moment.left, 'left', 0.0, log_ns)
    if moment.right is not None:
        _add_camera(queue, writer, moment.right, 'right', moment.baseline, log_ns)
    for topic, pixels, encoding in (
        ('depth', moment.depth, '32FC1'),
        ('semantic', moment.semantic, 'mono8'),
        ('moving', moment.moving.astype(np.uint8) * 255, 'mono8'),
    ):
        message = fill_image(
            writer.message('sensor_msgs/msg/Image'), np.ascontiguousarray(pixels), encoding, LEFT, stamp
        )
        queue.add(f'/truth/{topic}', message, log_ns)
    queue.add('/truth/odometry', _odometry(writer, moment.pose), log_ns)
    for scan in moment.scans:
        cloud = fill_lidar_cloud(
            writer.message('sensor_msgs/msg/PointCloud2'), writer.type('sensor_msgs/msg/PointField'), scan
        )
        queue.add('/points', cloud, scan.stamp_ns + round(simulator.lidar.sweep * 1e9) + _TRANSFER_NS)
    for pose in moment.odometry:
        queue.add('/odometry', _odometry(writer, pose), pose.stamp_ns + _TRANSFER_NS // 5)


def _add_camera(queue: _Queue, writer: BagWriter, frame: Frame, side: str, baseline: float, log_ns: int) -> None:
    image = fill_image(
        writer.message('sensor_msgs/msg/Image'), frame.image, frame.encoding, frame.camera.frame_id, frame.stamp_ns
    )
    info = fill_camera_info(writer.message('sensor_msgs/msg/CameraInfo'), frame.camera, frame.stamp_ns)
    info.p[3] = -frame.camera.fx * baseline
    queue.add(f'/camera/{side}/camera_info', info, log_ns)
    queue.add(f'/camera/{side}/image_rect', image, log_ns)


def _odometry(writer: BagWriter, pose: Pose) -> Any:
    return fill_odometry(writer.message('nav_msgs/msg/Odometry'), pose)


def _transform(writer: BagWriter, tree: TransformTree, parent: str, child: str, stamp_ns: int) -> Any:
    message = writer.message('geometry_msgs/msg/TransformStamped')
    return fill_transform(message, parent, child, tree.lookup(parent, child), stamp_ns)


def _facts(simulator: Simulator) -> dict[str, Any]:
    return {
        'seed': simulator.seed,
        'settings': _public(simulator.settings),
        'world': simulator.world.kind,
        'lidar': simulator.lidar.name,
        'lidar_time_offset_ns': simulator.true_time_offset_ns,
        'baseline': simulator.baseline,
        'classes': CLASSES,
    }


def _public(settings: SimulationSettings) -> dict[str, Any]:
    found = vars(settings).copy()
    found['textures'] = bool(found['textures'])  # a path of somebody's machine is nobody's business
    del found['threads']
    return found
