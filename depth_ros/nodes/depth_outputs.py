"""What the depth node publishes: messages are filled only for those that somebody subscribes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from depth_ros.geometry.camera import rays
from depth_ros.geometry.cloud import xyzrgb
from depth_ros.geometry.color import colorize
from depth_ros.geometry.depth_image import from_metres
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.image import fill_image
from depth_ros.messages.point_cloud import fill_colour_cloud
from depth_ros.ros.endpoints import advertise
from depth_ros.ros.health import Health
from depth_ros.ros.qos import output_qos
from depth_ros.settings import OutputSettings
from depth_ros.types import Camera, DepthEstimate

_TOPICS = {
    'depth/image': Image,
    'depth/camera_info': CameraInfo,
    'depth/std': Image,
    'depth/points': PointCloud2,
    'depth/image_colored': Image,
}


class DepthOutputs:
    """Publishers of a depth node."""

    def __init__(self, node: LifecycleNode, health: Health) -> None:
        """Create the publishers; they are silent until the node is active.

        Args:
            node: the node.
            health: learns of subscribers whose QoS does not fit.

        Raises:
            SettingsError: an override makes no QoS; no publisher is left then.
        """
        self._node = node
        self._publishers: dict[str, LifecyclePublisher] = {}
        try:
            for topic, kind in _TOPICS.items():
                self._publishers[topic] = advertise(node, kind, topic, output_qos(), health)
        except BaseException:
            self.close()
            raise
        self._camera: Camera | None = None
        self._rays: np.ndarray | None = None
        self._cloud = np.zeros((0, 0, 4), np.float32)

    @property
    def topics(self) -> list[str]:
        """Full names."""
        return [self._node.resolve_topic_name(topic) for topic in _TOPICS]

    @property
    def publishers(self) -> list[LifecyclePublisher]:
        """One per topic."""
        return list(self._publishers.values())

    @property
    def alive(self) -> bool:
        """False once the process is told to end."""
        return self._node.context.ok()

    def wanted(self, *topics: str) -> bool:
        """Whether anybody subscribes to one of these topics, or to any if none is named."""
        return any(self._publishers[topic].get_subscription_count() > 0 for topic in topics or _TOPICS)

    def publish(self, estimate: DepthEstimate, settings: OutputSettings) -> dict[str, int]:
        """Publish what is asked for, with stamp and frame of the image.

        Returns:
            Wall time per stage, ns: ``cloud``, ``encode`` (the other messages) and ``publish`` (the middleware).
        """
        frame = estimate.frame
        frame_id, stamp_ns, camera = frame.camera.frame_id, frame.stamp_ns, frame.camera

        def depth() -> Image:
            return fill_image(
                Image(), from_metres(estimate.depth, settings.encoding), settings.encoding, frame_id, stamp_ns
            )

        def points() -> PointCloud2:
            cloud = self._points(estimate, settings.cloud_stride)
            return fill_colour_cloud(PointCloud2(), PointField, cloud, frame_id, stamp_ns)

        def colored() -> Image:
            picture = colorize(estimate.depth, settings.color_max_depth)
            return fill_image(Image(), picture, 'rgb8', frame_id, stamp_ns)

        def std() -> Image:
            told = estimate.std
            if settings.encoding == '16UC1':  # which cannot tell all depths, and what it does not has no deviation
                told = np.where(from_metres(estimate.depth, settings.encoding) > 0, told, np.float32(np.nan))
            return fill_image(Image(), told, '32FC1', frame_id, stamp_ns)

        make: dict[str, Callable[[], Any]] = {
            'depth/camera_info': lambda: fill_camera_info(CameraInfo(), camera, stamp_ns),
            'depth/image': depth,
            'depth/std': std,
            'depth/points': points,
            'depth/image_colored': colored,
        }
        spent = {'cloud': 0, 'encode': 0, 'publish': 0}
        for topic, message in make.items():
            if self.wanted(topic):
                started = time.perf_counter_ns()
                filled = message()
                encoded = time.perf_counter_ns()
                self._publishers[topic].publish(filled)
                spent['cloud' if topic == 'depth/points' else 'encode'] += encoded - started
                spent['publish'] += time.perf_counter_ns() - encoded
        return spent

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def _points(self, estimate: DepthEstimate, stride: int) -> np.ndarray:
        frame = estimate.frame
        if frame.camera is not self._camera:
            self._rays = None if frame.camera.model == 'none' else rays(frame.camera)
            self._camera = frame.camera
        shape = (-(-frame.camera.height // stride), -(-frame.camera.width // stride), 4)
        if self._cloud.shape != shape:
            self._cloud = np.empty(shape, np.float32)
        # One buffer for all clouds: publish() copies it, and memory that is always new costs more than the points.
        xyzrgb(estimate.depth, self._rays, frame.image, frame.encoding, frame.camera, stride, self._cloud)
        return self._cloud
