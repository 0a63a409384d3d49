"""What the depth node publishes: messages are filled only for those that somebody subscribes to."""

from __future__ import annotations

import numpy as np
from rclpy.lifecycle import LifecycleNode
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
        """
        self._node = node
        self._publishers = {
            topic: advertise(node, kind, topic, output_qos(), health) for topic, kind in _TOPICS.items()
        }
        self._camera: Camera | None = None
        self._rays = np.zeros((0, 0, 2), np.float32)
        self._cloud = np.zeros((0, 0, 4), np.float32)

    @property
    def topics(self) -> list[str]:
        """Full names."""
        return [self._node.resolve_topic_name(topic) for topic in _TOPICS]

    @property
    def alive(self) -> bool:
        """False once the process is told to end."""
        return self._node.context.ok()

    def wanted(self, *topics: str) -> bool:
        """Whether anybody subscribes to one of these topics, or to any if none is named."""
        return any(self._publishers[topic].get_subscription_count() > 0 for topic in topics or _TOPICS)

    def publish(self, estimate: DepthEstimate, settings: OutputSettings) -> None:
        """Publish what is asked for, with stamp and frame of the image."""
        frame = estimate.frame
        frame_id, stamp_ns, camera = frame.camera.frame_id, frame.stamp_ns, frame.camera
        if self.wanted('depth/camera_info'):
            self._publishers['depth/camera_info'].publish(fill_camera_info(CameraInfo(), camera, stamp_ns))
        if self.wanted('depth/image'):
            depth = from_metres(estimate.depth, settings.encoding)
            self._publishers['depth/image'].publish(fill_image(Image(), depth, settings.encoding, frame_id, stamp_ns))
        if self.wanted('depth/std'):
            self._publishers['depth/std'].publish(fill_image(Image(), estimate.std, '32FC1', frame_id, stamp_ns))
        if self.wanted('depth/points'):
            cloud = self._points(estimate, settings.cloud_stride)
            self._publishers['depth/points'].publish(
                fill_colour_cloud(PointCloud2(), PointField, cloud, frame_id, stamp_ns)
            )
        if self.wanted('depth/image_colored'):
            colored = colorize(estimate.depth, settings.color_max_depth)
            self._publishers['depth/image_colored'].publish(fill_image(Image(), colored, 'rgb8', frame_id, stamp_ns))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def _points(self, estimate: DepthEstimate, stride: int) -> np.ndarray:
        frame = estimate.frame
        if frame.camera is not self._camera:
            self._rays, self._camera = rays(frame.camera), frame.camera
        shape = (-(-frame.camera.height // stride), -(-frame.camera.width // stride), 4)
        if self._cloud.shape != shape:
            self._cloud = np.empty(shape, np.float32)
        # One buffer for all clouds: publish() copies it, and memory that is always new costs more than the points.
        xyzrgb(estimate.depth, self._rays, frame.image, frame.encoding, frame.camera, stride, self._cloud)
        return self._cloud
