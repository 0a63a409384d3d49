"""Real nodes in their own processes, and a node of the test that talks to them over DDS."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.image import fill_image
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.types import Camera, LidarScan

WIDTH, HEIGHT = 160, 120
CAMERA = Camera(WIDTH, HEIGHT, 120.0, 120.0, 79.5, 59.5, 'camera')
# Lidar axes (x forward, y left, z up) in optical axes, 10 cm above the camera.
STATIC = 'camera lidar 0 -0.1 0 0.5 -0.5 0.5 0.5'
_domains = itertools.count()


def next_domain() -> int:
    """A ROS domain that no other test process on this machine uses at the same time, as far as that can be had."""
    return (os.getpid() * 7 + next(_domains)) % 101


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def wall(distance=8.0, stamp_ns=0, rows=24, columns=120):
    """A sweep of a wall, square to the camera, that fills its view."""
    y, z = (a.ravel() for a in np.meshgrid(np.linspace(0.8, -0.8, columns), np.linspace(-0.6, 0.6, rows)))
    points = np.stack([np.full_like(y, distance), y * distance, z * distance], axis=1).astype(np.float32)
    ring = np.repeat(np.arange(rows), columns).astype(np.uint16)
    return LidarScan(stamp_ns, points, 'lidar', None, ring, np.ones(len(points), np.float32))


def image_message(stamp_ns, width=WIDTH, height=HEIGHT, encoding='rgb8'):
    pixels = np.random.default_rng(stamp_ns % 1000).integers(0, 255, (height, width, 3), np.uint8)
    return fill_image(Image(), pixels, encoding, 'camera', stamp_ns)


def info_message(stamp_ns, camera=CAMERA):
    return fill_camera_info(CameraInfo(), camera, stamp_ns)


def cloud_message(stamp_ns, scan=None):
    scan = wall(stamp_ns=stamp_ns) if scan is None else scan
    return fill_lidar_cloud(PointCloud2(), PointField, scan)


class Process:
    """A node of the package, as a user starts it."""

    def __init__(self, module, domain, arguments=(), env=()):
        self.domain = domain
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'PYTHONUNBUFFERED': '1', **dict(env)}
        self.popen = subprocess.Popen(
            [sys.executable, '-m', module, *map(str, arguments)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.lines.extend(iter(self.popen.stdout.readline, ''))

    @property
    def output(self):
        return ''.join(self.lines)

    def wait_for(self, text, timeout=20.0):
        end = time.monotonic() + timeout
        while text not in self.output:
            assert self.popen.poll() is None, f'ended with {self.popen.returncode}:\n{self.output}'
            assert time.monotonic() < end, f'{text!r} was not said:\n{self.output}'
            time.sleep(0.02)

    def shared_memory(self):
        """Files of DDS in shared memory that it uses: its own, and those of whom it talks to."""
        maps = Path(f'/proc/{self.popen.pid}/maps').read_text()
        return [Path(name) for name in set(re.findall(r'/dev/shm/fast(?:rtps|dds)_\S+', maps))]

    def interrupt(self, sent=signal.SIGINT):
        if self.popen.poll() is None:
            self.popen.send_signal(sent)

    def end(self, sent=signal.SIGINT, timeout=15.0):
        """Stop it as Ctrl-C does; returns the exit code."""
        self.interrupt(sent)
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise
        self._reader.join(2.0)
        return code


class Peer:
    """The test's own node: publishes inputs, keeps what comes back."""

    def __init__(self, domain, best_effort=True):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node('peer', context=self.context)
        self.received, self.diagnostics = {}, {}
        self._changed = threading.Condition()
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        qos = QoSProfile(depth=20, reliability=reliability)
        self._out = {
            name: self.node.create_publisher(kind, name, qos)
            for name, kind in (('image', Image), ('camera_info', CameraInfo), ('points', PointCloud2))
        }
        self.odometry = self.node.create_publisher(Odometry, 'odometry', 50)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 10)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def _take_diagnostics(self, message):
        with self._changed:
            for status in message.status:
                self.diagnostics[status.name.split(': ')[-1]] = (time.monotonic(), status)
            self._changed.notify_all()

    def listen(self, kind, topic, qos=None):
        self.received[topic] = []

        def take(message):
            with self._changed:
                self.received[topic].append(message)
                self._changed.notify_all()

        return self.node.create_subscription(kind, topic, take, qos or QoSProfile(depth=50))

    def compressed(self):
        self._out['image'] = self.node.create_publisher(CompressedImage, 'image/compressed', 20)

    def wait(self, condition, timeout=10.0):
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def connected(self, timeout=20.0):
        """Wait until the node listens to all inputs."""
        end = time.monotonic() + timeout
        while not all(out.get_subscription_count() for out in self._out.values()):
            assert time.monotonic() < end, 'the node did not subscribe'
            time.sleep(0.02)

    def settle(self, timeout=20.0):
        """Publish moments until one is answered: discovery is over in both directions."""
        end = time.monotonic() + timeout
        while self.answered(self.moment(), timeout=0.4) is None:
            assert time.monotonic() < end, f'no depth comes: {[item[1].message for item in self.diagnostics.values()]}'

    def send(self, *messages):
        kinds = {Image: 'image', CompressedImage: 'image', CameraInfo: 'camera_info', PointCloud2: 'points'}
        for message in messages:
            self._out[kinds[type(message)]].publish(message)

    def moment(self, image=None, cloud=None, info=None, stamp_ns=None, leave_out=()):
        """Publish one moment: sweep, calibration, image; returns its stamp."""
        stamp_ns = stamp_ns or time.time_ns()
        if 'points' not in leave_out:
            self.send(cloud or cloud_message(stamp_ns))
        if 'camera_info' not in leave_out:
            self.send(info or info_message(stamp_ns))
        time.sleep(0.02)
        if 'image' not in leave_out:
            self.send(image or image_message(stamp_ns))
        return stamp_ns

    def answered(self, stamp_ns, topic='depth/image', timeout=5.0):
        """The message with this stamp, or None if it does not come in time."""
        def found():
            return next((message for message in self.received[topic] if stamp_of(message) == stamp_ns), None)

        self.wait(found, timeout)
        return found()

    def says(self, part, *words, timeout=2.5):
        """Whether a diagnostics entry says all these words within the time; returns its text."""
        def found():
            return part in self.diagnostics and all(word in self.text(part) for word in words)

        assert self.wait(found, timeout), f'{part} says {self.text(part)!r}, expected {words}'
        return self.text(part)

    def text(self, part):
        return self.diagnostics[part][1].message if part in self.diagnostics else ''

    def value(self, part, key):
        values = self.diagnostics[part][1].values if part in self.diagnostics else []
        return next((pair.value for pair in values if pair.key == key), None)

    def close(self):
        self.executor.shutdown(1.0)
        rclpy.try_shutdown(context=self.context)
        self._thread.join(5.0)
        self.node.destroy_node()
