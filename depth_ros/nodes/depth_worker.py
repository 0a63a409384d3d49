"""The thread behind the depth node: takes messages in the order of their arrival, calls the pipeline, publishes."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger

from depth_ros.errors import DepthRosError, MessageError
from depth_ros.estimators.downscale import downscale_for, small_shape
from depth_ros.evaluation.metrics import score
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.odometry import decode_odometry
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.nodes.depth_outputs import DepthOutputs
from depth_ros.pipeline import DepthPipeline, FrameQueue, refusal_reason
from depth_ros.ros.health import Health
from depth_ros.ros.inbox import Arrival, Inbox
from depth_ros.settings import Settings
from depth_ros.types import Frame, Pose

_NS = 1_000_000_000
_TICK_S = 0.01
_CLOCK_STOPPED_NS = 500_000_000
_LIMITS = {'camera_info': 100, 'odometry': 2000, 'tf': 2000, 'points': 10, 'image': 8, 'image_topic': 10}


class DepthWorker:
    """Answers every image, or says why not. Nothing that a message holds can end it."""

    def __init__(
        self, pipeline: DepthPipeline, decoder: FrameDecoder, outputs: DepthOutputs, health: Health,
        settings: Callable[[], Settings], clock: Clock, logger: RcutilsLogger,
    ) -> None:
        """Set the worker up; ``start`` starts it.

        Args:
            pipeline: the method.
            decoder: makes frames of images.
            outputs: publishers.
            health: what is counted.
            settings: returns the settings that hold now.
            clock: clock of the node; may be that of a simulation.
            logger: logger of the node.
        """
        self._pipeline, self._decoder, self._outputs = pipeline, decoder, outputs
        self._health, self._settings, self._clock, self._logger = health, settings, clock, logger
        self._inbox = Inbox(_LIMITS)
        self._queue = FrameQueue(pipeline)
        self._dropped = 0
        # Stamp of a waiting image -> arrival by the machine's clock and by that of the node, time of decoding.
        self._arrived_ns: dict[int, tuple[int, int, int]] = {}
        self._clock_ns = 0
        self._clock_moved_ns = time.monotonic_ns()
        self._odometry_came = False
        self._running = threading.Event()
        self._thread: threading.Thread | None = None
        self._take = {
            'camera_info': self._take_camera_info, 'odometry': self._take_odometry, 'tf': self._take_tf_pose,
            'points': self._take_points, 'image': self._take_image, 'image_topic': self._take_image_topic,
        }
        health.motion = 'nothing yet; the robot is taken as standing still'

    def put(self, kind: str, message: Any) -> None:
        """Take a message in; returns at once."""
        now_ns = self._clock.now().nanoseconds
        self._health.arrived(kind, stamp_ns(message), now_ns)
        if kind == 'image':
            self._inbox.set_limit('image', self._settings().pairing.queue_size)
        self._put(kind, message, now_ns)

    def put_tf_pose(self, pose: Pose) -> None:
        """Take in a pose of the robot from ``/tf``; without effect once odometry has come."""
        if not self._odometry_came:
            self._put('tf', pose, self._clock.now().nanoseconds)

    def set_image_topic(self, topic: str) -> None:
        """Say on which topic the images come that are put from now on; its name may tell whether they are rectified."""
        self._put('image_topic', topic, self._clock.now().nanoseconds)

    def start(self) -> None:
        """Start the thread."""
        self._running.set()
        self._thread = threading.Thread(target=self._run, name='depth', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the image at hand; those that still wait are refused."""
        self._running.clear()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
            self._thread = None
        for _ in range(self.num_waiting):
            # Not logged: where the process ends, there is no middleware to log to.
            self._health.refuse('deactivated', 'the node was stopped while the image waited', is_image=True)

    @property
    def num_waiting(self) -> int:
        """Images that are neither answered nor refused yet."""
        return self._inbox.count('image') + len(self._queue)

    def handle(self, arrival: Arrival | None) -> None:
        """Work on one message, or on the passing of time.

        The order is that of the replay of a bag: what was due before the message came is answered before it is read.
        """
        self._pipeline.settings = self._settings()
        now_ns = self._now_ns() if arrival is None else arrival.clock_ns
        self._answer_due(now_ns)
        if arrival is not None:
            try:
                self._take[arrival.kind](arrival)
            except DepthRosError as error:
                self._refuse(refusal_reason(error, arrival.kind), str(error), arrival.kind == 'image')
            self._answer_due(now_ns)

    def _put(self, kind: str, message: Any, now_ns: int) -> None:
        is_image = kind == 'image'
        for _ in range(self._inbox.put(kind, message, now_ns)):
            reason = 'queue_full' if is_image else f'queue_full_{kind}'
            text = f'the oldest {kind} message fell out of the full queue: this machine is too slow'
            self._refuse(reason, text, is_image)

    def _run(self) -> None:
        while self._running.is_set():
            self._survive(self._inbox.get(_TICK_S if len(self._queue) else 0.1))

    def _survive(self, arrival: Arrival | None) -> None:
        try:
            self.handle(arrival)
        except Exception:
            self._refuse_internal_error(arrival is not None and arrival.kind == 'image')

    def _refuse_internal_error(self, is_image: bool) -> None:
        # When the process ends, the middleware goes away under us.
        if self._running.is_set() and self._outputs.alive:
            self._refuse('internal_error', traceback.format_exc(), is_image)

    def _take_camera_info(self, arrival: Arrival) -> None:
        self._decoder.add_info(arrival.message)

    def _take_odometry(self, arrival: Arrival) -> None:
        pose = decode_odometry(arrival.message)
        self._odometry_came = True
        self._health.motion = f'odometry ({pose.frame_id} to {pose.child_frame_id})'
        self._pipeline.add_pose(pose)

    def _take_tf_pose(self, arrival: Arrival) -> None:
        if self._odometry_came:
            return
        pose = arrival.message
        if pose.stamp_ns == 0:
            raise MessageError(
                f'the transform from {pose.child_frame_id!r} to {pose.frame_id!r} on /tf is stamped 0, expected the '
                'time of the pose; fix its publisher'
            )
        self._health.motion = f'/tf ({pose.frame_id} to {pose.child_frame_id})'
        # Odometry may have another origin than TF: by another name of it the pipeline does not mix their poses.
        self._pipeline.add_pose(dataclasses.replace(pose, frame_id=f'/tf {pose.frame_id}'))

    def _take_points(self, arrival: Arrival) -> None:
        scan = decode_cloud(arrival.message, self._settings().transforms.lidar_frame)
        for note in scan.notes:
            self._refuse('point_fields', note)
        self._pipeline.add_scan(scan)

    def _take_image(self, arrival: Arrival) -> None:
        if not self._outputs.wanted():
            self._health.unwanted += 1
            return
        late_ns = time.monotonic_ns() - arrival.monotonic_ns
        if late_ns > self._settings().input.max_delay * _NS and self._inbox.count('image'):
            self._refuse_late('lay unread', late_ns)
            return
        started = time.perf_counter_ns()
        frame = self._decoder.decode(arrival.message)
        decode_ns = time.perf_counter_ns() - started
        self._arrived_ns[frame.stamp_ns] = arrival.monotonic_ns, arrival.clock_ns, decode_ns
        self._queue.push(frame, arrival.clock_ns)
        while len(self._arrived_ns) > len(self._queue):  # the oldest fell out of the queue
            del self._arrived_ns[next(iter(self._arrived_ns))]
        for _ in range(self._queue.num_dropped - self._dropped):
            self._refuse('queue_full', f'more than {self._settings().pairing.queue_size} images wait for lidar '
                         '(pairing.queue_size); the oldest was dropped', is_image=True)
        self._dropped = self._queue.num_dropped

    def _take_image_topic(self, arrival: Arrival) -> None:
        # A new decoder, for the old one holds what it made of the other name; the calibration is that of one camera.
        info, self._decoder = self._decoder.info, FrameDecoder(arrival.message, self._settings())
        if info is not None:
            self._decoder.add_info(info)

    def _answer_due(self, now_ns: int) -> None:
        while (frame := self._queue.pop(now_ns)) is not None:
            self._answer_or_refuse(frame)

    def _answer_or_refuse(self, frame: Frame) -> None:
        now_ns = self._now_ns()
        arrived_ns, clock_ns, decode_ns = self._arrived_ns.pop(frame.stamp_ns, (time.monotonic_ns(), now_ns, 0))
        # After an answer that took long several are due at once: the oldest of them would hold up the newest. By both
        # clocks: a recording that is played slowly makes nobody late, and neither does a simulated clock that starts.
        settings, late_ns = self._settings(), min(now_ns - clock_ns, time.monotonic_ns() - arrived_ns)
        if late_ns > (settings.input.max_delay + settings.pairing.wait) * _NS and self.num_waiting:
            self._refuse_late('waited', late_ns)
            return
        try:
            self._answer(frame, arrived_ns, decode_ns)
        except DepthRosError as error:
            self._refuse(refusal_reason(error, 'image'), str(error), is_image=True)
        except Exception:
            # It costs this image alone: the message that came meanwhile is still to be read.
            self._refuse_internal_error(is_image=True)

    def _answer(self, frame: Frame, arrived_ns: int, decode_ns: int) -> None:
        settings, started = self._settings(), time.perf_counter_ns()
        estimate = self._pipeline.process(frame)
        if self._pipeline.odometry_unused:
            self._refuse('odometry_unused', self._pipeline.odometry_unused)
        basis = estimate.basis
        if basis.without_lidar and self._health.did_without_lidar(basis.without_lidar):
            self._logger.warning(f'depth comes from the image alone, without lidar: {basis.without_lidar}')
        best, asked, shape = self._pipeline.estimator.best_pixels, settings.estimator.downscale, frame.camera.shape
        height, width = small_shape(shape, downscale_for(best, shape, asked))
        self._health.estimated_at = f'{width}x{height}, of images of {shape[1]}x{shape[0]}'
        output_ns = self._outputs.publish(estimate, settings.output)
        published = time.perf_counter_ns()
        self._health.answer(
            decode_ns + published - started, time.monotonic_ns() - arrived_ns,
            {'decode': decode_ns, **estimate.stage_ns, **output_ns},
            f'{basis.num_scans} scan(s), {basis.num_points} points, {basis.lidar_age_ns / 1e6:+.0f} ms old, '
            f'{basis.motion}',
        )
        if settings.grading.withhold == 0:
            self._health.ungraded()
        elif estimate.withheld is not None:
            self._health.grade(score(estimate), settings.grading.window)

    def _now_ns(self) -> int:
        """Clock of the node; where a simulated clock stands still (end of a bag), time goes on by the machine's."""
        clock_ns, monotonic_ns = self._clock.now().nanoseconds, time.monotonic_ns()
        if clock_ns != self._clock_ns:
            self._clock_ns, self._clock_moved_ns = clock_ns, monotonic_ns
        still_ns = monotonic_ns - self._clock_moved_ns
        return clock_ns + still_ns if still_ns > _CLOCK_STOPPED_NS else clock_ns

    def _refuse_late(self, what: str, late_ns: int) -> None:
        self._refuse('overrun', f'an image {what} for {late_ns / 1e9:.2f} s and a newer one is there: the estimator is '
                     'slower than the camera', is_image=True)

    def _refuse(self, reason: str, text: str, is_image: bool = False) -> None:
        if self._health.refuse(reason, text, is_image):
            self._logger.warning(f'{reason}: {text}')
