"""``depth_node``: camera and sparse lidar in, dense metric depth out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from depth_ros.errors import SettingsError
from depth_ros.estimators.base import Estimator
from depth_ros.estimators.registry import create_estimator, method_name, runs_on, weights_name
from depth_ros.evaluation.holdout import fraction_holdout
from depth_ros.messages.frame import FrameDecoder
from depth_ros.nodes.depth_outputs import DepthOutputs
from depth_ros.nodes.depth_worker import DepthWorker
from depth_ros.nodes.warm_up import warm_up
from depth_ros.pipeline import DepthPipeline
from depth_ros.ros.diagnostics import estimator_report, grade_report, inputs_report, refusals_report, to_message
from depth_ros.ros.endpoints import find_mismatches, subscribe
from depth_ros.ros.health import Health
from depth_ros.ros.lifecycle import own_arguments, run_node, transition
from depth_ros.ros.parameters import WITHOUT_VALUE, NodeSettings
from depth_ros.ros.qos import check_overrides, input_qos, odometry_qos
from depth_ros.ros.transforms import NodeTransforms
from depth_ros.settings import Settings
from depth_ros.types import LidarScan, Pose

_REQUIRED = {'image': True, 'camera_info': True, 'points': True, 'odometry': False}
_COMPRESSED = 'image/compressed'
_COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
_LOOK_FOR_IMAGES_S = 0.1


class DepthNode(LifecycleNode):
    """Subscribes, hands messages to its worker, and reports; the work is done in ``DepthWorker``."""

    def __init__(self) -> None:
        """Declare the parameters.

        Raises:
            SettingsError: a parameter is unknown, of the wrong type or out of range.
        """
        try:
            super().__init__('depth_node', automatically_declare_parameters_from_overrides=True)
        except ValueError as error:  # rclpy cannot tell the type of an empty list; Humble gives it no value
            raise SettingsError(WITHOUT_VALUE) from error
        self._parameter_settings = NodeSettings(self)
        if not self.has_parameter('autostart'):
            text = 'Configure and activate without being told to.'
            self.declare_parameter('autostart', True, ParameterDescriptor(description=text, read_only=True))
        autostart = self.get_parameter('autostart').value
        if not isinstance(autostart, bool):
            raise SettingsError(f'autostart is {autostart!r}, expected bool; write true or false, without quotes')
        # Diagnostics go on while a simulated clock stands still: that is when they are needed.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._health = Health(_REQUIRED)
        self._outputs: DepthOutputs | None = None
        self._worker: DepthWorker | None = None
        self._transforms: NodeTransforms | None = None
        self._diagnostics: Publisher | None = None
        self._estimator: Estimator | None = None
        self._inputs: dict[str, Subscription] = {}
        self._clocks: dict[str, Timer] = {}

    @property
    def settings(self) -> Settings:
        """The settings that hold now."""
        return self._parameter_settings.current

    def start(self) -> bool:
        """Configure and activate, if ``autostart`` says so; False if that fails."""
        if not self.get_parameter('autostart').value:
            return True
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def close(self) -> None:
        """Stop working and release everything; safe in every state."""
        self._stop()
        self._release()

    @transition
    def on_configure(self, state: LifecycleState) -> None:
        """Make the estimator and the publishers, and run all of it once on made-up messages."""
        settings = self.settings
        try:
            self._health = Health(_REQUIRED)
            self._estimator = create_estimator(settings)
            self._transforms = NodeTransforms(self, lambda: self.settings.transforms, self._take_pose)
            self._outputs = DepthOutputs(self, self._health)
            check_overrides(self, [*self._outputs.topics, *self._topics().values()])
            warm_up(self._estimator, settings)
        except BaseException:
            self._release()
            raise
        self._health.inputs['points'].required = self._estimator.needs_lidar
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._every('report', settings.diagnostics.period, self._report)
        device, warning = runs_on(self._estimator)
        if warning:
            self.get_logger().warning(warning)
        self.get_logger().info(
            f'method {method_name(settings, self._estimator)} on {device}; transforms from {self._transforms.source}'
        )

    @transition
    def on_activate(self, state: LifecycleState) -> None:
        """Subscribe and start working."""
        super().on_activate(state)
        try:
            self._start_working()
        except BaseException:
            self._stop()
            super().on_deactivate(state)
            raise

    @transition
    def on_deactivate(self, state: LifecycleState) -> None:
        """Unsubscribe and stop working."""
        self._stop()
        super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> None:
        """Release everything."""
        self._release()

    @transition
    def on_shutdown(self, state: LifecycleState) -> None:
        """Release everything, from whatever state."""
        self.close()

    @transition
    def on_error(self, state: LifecycleState) -> None:
        """Release everything; the node can be configured again."""
        self.close()

    def _start_working(self) -> None:
        topics = self._topics()
        pipeline = DepthPipeline(self.settings, self._transforms, self._estimator, self._withheld)
        decoder = FrameDecoder(topics['image'], self.settings)
        self._worker = DepthWorker(
            pipeline, decoder, self._outputs, self._health, lambda: self.settings, self.get_clock(), self.get_logger()
        )
        # An executor serves what is ready in the order of creation: first what the image needs, then the image.
        self._subscribe('camera_info', CameraInfo, topics['camera_info'], input_qos())
        self._subscribe('odometry', Odometry, topics['odometry'], odometry_qos())
        self._subscribe('points', PointCloud2, topics['points'], input_qos())
        self._worker.start()
        self._choose_image()
        if self.settings.input.image_transport == 'auto':
            self._every('image', _LOOK_FOR_IMAGES_S, self._choose_image)

    def _withheld(self, scan: LidarScan) -> np.ndarray:
        return fraction_holdout(self.settings.grading.withhold)(scan)

    def _topics(self) -> dict[str, str]:
        """Full names of the inputs. Compressed images lie beside the raw ones unless they are remapped on their own."""
        names = {name: self.resolve_topic_name(name) for name in (*_REQUIRED, _COMPRESSED)}
        if names[_COMPRESSED] == self.resolve_topic_name(_COMPRESSED, only_expand=True):
            names[_COMPRESSED] = f'{names["image"]}/compressed'
        return names

    def _image_source(self) -> tuple[str, type]:
        """Topic and type of the images. Not all drivers name compressed images as image_transport does."""
        topics, transport = self._topics(), self.settings.input.image_transport
        raw, compressed = (topics['image'], Image), (topics[_COMPRESSED], CompressedImage)
        if transport != 'auto':
            return compressed if transport == 'compressed' else raw
        published = {info.topic_type for info in self.get_publishers_info_by_topic(topics['image'])}
        if published == {_COMPRESSED_TYPE}:
            return topics['image'], CompressedImage
        return compressed if not published and self.count_publishers(topics[_COMPRESSED]) else raw

    def _choose_image(self) -> None:
        """Subscribe to the image topic that is published; under ``auto`` that can change."""
        topic, kind = self._image_source()
        current = self._inputs.get('image')
        if current is not None:
            if (self._health.inputs['image'].topic, current.msg_type) == (topic, kind):
                return
            self.destroy_subscription(current)
        self._worker.set_image_topic(topic)
        self._subscribe('image', kind, topic, input_qos())

    def _subscribe(self, name: str, kind: type, topic: str, profile: QoSProfile) -> None:
        take = partial(self._take, name)
        self._inputs[name] = subscribe(self, kind, topic, take, profile, self._health, name)

    def _take(self, name: str, message: Any) -> None:
        frames = self.settings.transforms
        if name == 'image':
            self._transforms.poses.set_camera(frames.camera_frame or message.header.frame_id.lstrip('/'))
        elif name == 'points':
            self._transforms.poses.set_lidar(frames.lidar_frame or message.header.frame_id.lstrip('/'))
        self._worker.put(name, message)

    def _take_pose(self, pose: Pose) -> None:
        if self._worker is not None:
            self._worker.put_tf_pose(pose)

    def _every(self, name: str, period_s: float, callback: Callable[[], None]) -> None:
        self._clocks[name] = self.create_timer(period_s, callback, clock=self._steady)

    def _report(self) -> None:
        settings, health, name = self.settings, self._health, self.get_fully_qualified_name()
        self._clocks['report'].timer_period_ns = int(settings.diagnostics.period * 1e9)
        with health.lock:
            health.clock_ns = self.get_clock().now().nanoseconds
            if self._worker is None:
                reports = {'inputs': (DiagnosticStatus.OK, 'not active', {})}
            else:
                find_mismatches(self, self._inputs, self._outputs.publishers, health)
                inputs = health.inputs.items()
                publishers = {key: self.count_publishers(item.topic) for key, item in inputs if item.topic}
                reports = {
                    'inputs': inputs_report(health, settings, publishers),
                    'estimator': estimator_report(
                        health,
                        method_name(settings, self._estimator),
                        weights_name(settings, self._estimator),
                        *runs_on(self._estimator),
                        self._outputs.wanted(),
                        self._transforms.source,
                        self._worker.num_waiting,
                    ),
                    'grade': grade_report(health, settings),
                    'refusals': refusals_report(health),
                }
        self._diagnostics.publish(to_message(reports, name, self.get_clock().now().to_msg()))

    def _stop(self) -> None:
        for subscription in self._inputs.values():
            self.destroy_subscription(subscription)
        self._inputs.clear()
        if 'image' in self._clocks:
            self.destroy_timer(self._clocks.pop('image'))
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _release(self) -> None:
        for timer in self._clocks.values():
            self.destroy_timer(timer)
        self._clocks.clear()
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = None
        if self._diagnostics is not None:
            self.destroy_publisher(self._diagnostics)
            self._diagnostics = None
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        self._estimator = None


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; exit code 0, or 2 for what is not to be mended while it runs."""
    parser = argparse.ArgumentParser(
        prog='depth_node',
        usage='%(prog)s [-h] [--ros-args --params-file FILE -p NAME:=VALUE -r FROM:=TO ...]',
        description='Camera and sparse lidar in, dense metric depth out. `depth_ros params` lists the parameters.',
    )
    own_arguments(parser, args)
    return run_node(DepthNode, args, DepthNode.start)


if __name__ == '__main__':
    sys.exit(main())
