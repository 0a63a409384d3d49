"""``load_generator``: a camera and a lidar for benchmarks. It sends, counts what comes back, and prints JSON."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from depth_ros.evaluation.benchmark import resident_mb, synthetic_camera, synthetic_image, synthetic_scan
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.header import set_stamp
from depth_ros.messages.image import fill_image
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.ros.lifecycle import own_arguments, run_node

_TYPES = {'depth/image': Image, 'depth/std': Image, 'depth/points': PointCloud2, 'depth/image_colored': Image}
_GRACE_S = 3.0
_READY_S = 90.0


class LoadGenerator(Node):
    """Publishes images and clouds at fixed rates from threads of its own, and notes which depth images return."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Prepare all messages, so that sending costs nothing but the transport."""
        super().__init__('load_generator')
        self._options = options
        sensor = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._image_publisher = self.create_publisher(Image, 'image', sensor)
        self._info_publisher = self.create_publisher(CameraInfo, 'camera_info', sensor)
        self._cloud_publisher = self.create_publisher(PointCloud2, 'points', sensor)
        camera = synthetic_camera(options.width, options.height)
        self._image = fill_image(Image(), synthetic_image(options.width, options.height), 'rgb8', camera.frame_id, 0)
        self._info = fill_camera_info(CameraInfo(), camera, 0)
        scan = synthetic_scan(options.rings, options.points // options.rings)
        self._cloud = fill_lidar_cloud(PointCloud2(), PointField, scan)
        self._sent_ns: dict[int, int] = {}
        self._received_ns: dict[str, dict[int, int]] = {topic: {} for topic in options.outputs}
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._resident_mb: list[tuple[int, float]] = []
        for topic in options.outputs:
            # Raw: what a robot's planner does with depth is not our cost.
            self.create_subscription(
                _TYPES[topic],
                topic,
                lambda data, topic=topic: self._take(topic, data),
                qos_profile_sensor_data,
                raw=True,
            )
        self.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 10)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = threading.Event()

    def start(self) -> bool:
        """Start sending."""
        self._thread.start()
        return True

    def close(self) -> None:
        """Stop sending."""
        self._stop.set()

    def _take(self, topic: str, data: bytes) -> None:
        sec, nanosec = struct.unpack_from('<iI', data, 4)  # CDR: 4 bytes of header, then the stamp
        self._received_ns[topic][sec * 1_000_000_000 + nanosec] = time.monotonic_ns()

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._diagnostics[status.name.split(': ')[-1]] = {'message': status.message} | {
                pair.key: pair.value for pair in status.values
            }

    def _run(self) -> None:
        options = self._options
        ready = time.monotonic() + _READY_S
        while self._image_publisher.get_subscription_count() == 0 and time.monotonic() < ready:
            time.sleep(0.1)
        time.sleep(2.0)  # discovery of the outputs
        self._send(int(options.warm_up * options.image_rate))
        time.sleep(1.0)  # until the diagnostics say all of it
        self._sent_ns.clear()
        before = self._counts()
        self._send(options.frames)
        time.sleep(_GRACE_S)
        after = self._counts()
        print(json.dumps(self._result(before, after)), flush=True)
        self.context.try_shutdown()

    def _send(self, frames: int) -> None:
        options = self._options
        period_ns, cloud_period_ns = int(1e9 / options.image_rate), int(1e9 / options.cloud_rate)
        next_ns = cloud_ns = time.monotonic_ns()
        for index in range(frames):
            delay = (next_ns - time.monotonic_ns()) / 1e9
            if delay > 0:
                time.sleep(delay)
            if self._stop.is_set():
                return
            now_ns = self.get_clock().now().nanoseconds
            for message in (self._info, self._image):
                set_stamp(message.header.stamp, now_ns)
            self._info_publisher.publish(self._info)
            self._sent_ns[now_ns] = time.monotonic_ns()
            self._image_publisher.publish(self._image)
            if time.monotonic_ns() >= cloud_ns:
                # A sweep is stamped with its start and comes when it is complete.
                set_stamp(self._cloud.header.stamp, now_ns - 100_000_000)
                self._cloud_publisher.publish(self._cloud)
                cloud_ns += cloud_period_ns
            next_ns += period_ns
            if options.pid and index % 50 == 0:
                self._resident_mb.append((index, resident_mb(options.pid)))

    def _counts(self) -> dict[str, Any]:
        refusals, estimator = self._diagnostics.get('refusals', {}), self._diagnostics.get('estimator', {})
        return {
            'answered': int(estimator.get('answered', 0)),
            'images_refused': int(estimator.get('refused', 0)),
            'refused': {name: int(value) for name, value in refusals.items() if value.isdigit() and '(' not in name},
            'lost_by_transport': int(self._diagnostics.get('inputs', {}).get('image lost', 0)),
        }

    def _result(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        sent = self._sent_ns
        outputs = {}
        for topic, received in self._received_ns.items():
            latency = [(received[stamp] - sent[stamp]) / 1e6 for stamp in sent if stamp in received]
            outputs[topic] = {'received': len(latency), 'missing_share': 1 - len(latency) / max(len(sent), 1)}
            if latency:
                outputs[topic] |= {
                    'latency_median_ms': float(np.median(latency)),
                    'latency_p99_ms': float(np.percentile(latency, 99)),
                }
        refused = {
            name: count - before['refused'].get(name, 0)
            for name, count in after['refused'].items()
            if count > before['refused'].get(name, 0)
        }
        lost = after['lost_by_transport'] - before['lost_by_transport']
        answered, images_refused = (after[key] - before[key] for key in ('answered', 'images_refused'))
        result = {
            'sent_images': len(sent),
            'outputs': outputs,
            'answered_by_node': answered,
            'refused_by_node': refused,
            'lost_by_transport': lost,
            # Not all that is refused is an image, and some images are answered all the same.
            'silent': len(sent) - answered - images_refused - lost,
            'bytes_in_out': self._bytes(),
            'stages': self._stages(),
        }
        if self._resident_mb:
            result['resident_mb'] = self._resident_mb
        return result

    def _bytes(self) -> int:
        pixels = self._options.width * self._options.height
        outputs = {'depth/image': 4, 'depth/std': 4, 'depth/points': 16, 'depth/image_colored': 3}
        return (
            len(self._image.data)
            + len(self._cloud.data)
            + sum(outputs[topic] * pixels for topic in self._options.outputs)
        )

    def _stages(self) -> dict[str, dict[str, float]]:
        stages: dict[str, dict[str, float]] = {}
        for key, value in self._diagnostics.get('estimator', {}).items():
            for name in ('p50', 'p99'):
                if key.endswith(f' {name}'):
                    stages.setdefault(key.removesuffix(f' {name}'), {})[f'{name}_ms'] = float(value.split()[0])
        return stages


def main(args: Sequence[str] | None = None) -> int:
    """Run the node."""
    parser = argparse.ArgumentParser(prog='load_generator', description='A camera and a lidar for benchmarks.')
    parser.add_argument('--width', type=int, default=1280, help='image width, pixels')
    parser.add_argument('--height', type=int, default=720, help='image height, pixels')
    parser.add_argument('--image-rate', type=float, default=30.0, help='images per second')
    parser.add_argument('--cloud-rate', type=float, default=10.0, help='clouds per second')
    parser.add_argument('--points', type=int, default=120_000, help='points per cloud')
    parser.add_argument('--rings', type=int, default=64, help='rings per cloud')
    parser.add_argument('--frames', type=int, default=300, help='images that count')
    parser.add_argument('--warm-up', type=float, default=3.0, help='seconds of images before those that count')
    parser.add_argument(
        '--outputs', nargs='+', default=['depth/image'], choices=sorted(_TYPES), help='topics to receive'
    )
    parser.add_argument('--pid', type=int, default=0, help='process whose resident memory is noted; 0 = none')
    options = own_arguments(parser, args)
    return run_node(lambda: LoadGenerator(options), args, LoadGenerator.start)


if __name__ == '__main__':
    sys.exit(main())
