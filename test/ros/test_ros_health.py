"""What the node counts: lost messages by their numbers, its grade, and every image, whatever becomes of it."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from ros_graph import HEIGHT, STATIC, WIDTH, image_message, info_message, next_domain, wall
from sensor_msgs.msg import Image

from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.metrics import ScoredPoints
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.odometry import fill_odometry
from depth_ros.nodes.depth_outputs import DepthOutputs
from depth_ros.nodes.depth_worker import DepthWorker
from depth_ros.nodes.load_generator import LoadGenerator
from depth_ros.pipeline import DepthPipeline
from depth_ros.ros.diagnostics import inputs_report
from depth_ros.ros.health import Health, InputHealth
from depth_ros.ros.inbox import Arrival
from depth_ros.settings import Settings, from_flat
from depth_ros.types import Camera, Pose


@pytest.mark.parametrize(('last', 'number', 'expected'), [
    (None, 7, False), (5, 6, False), (5, 8, True), (5, 1, False),
])  # fmt: skip
def test_a_gap_in_the_numbers(last, number, expected):
    assert InputHealth(sequence=last).skips(number) is expected


@pytest.mark.parametrize(('skipped', 'level'), [
    (0, DiagnosticStatus.OK), (1, DiagnosticStatus.OK), (5, DiagnosticStatus.WARN),
])  # fmt: skip
def test_more_than_one_in_a_hundred_is_a_warning(skipped, level):
    health = Health({'image': True})
    health.inputs['image'].topic = '/image'
    for _ in range(200):
        health.arrived('image', 10**9, 10**9)
    health.inputs['image'].skipped = skipped
    found, text, values = inputs_report(health, Settings(), {'image': 1})
    assert found == level
    assert ('lost on the way' in text) == (level == DiagnosticStatus.WARN)
    assert values['image lost'] == skipped


def test_losses_of_the_past_are_no_warning_for_ever():
    item = InputHealth(count=100, skipped=50)
    assert item.recent(10.0) == (100, 50)
    item.count = 140
    assert item.recent(11.0) == (140, 50)
    item.count = 300
    assert item.recent(15.5) == (200, 0)
    assert item.recent(16.5) == (160, 0)


def test_before_a_simulated_clock_nothing_is_in_the_future():
    health = Health({'image': True})
    health.arrived('image', 10**18, 0)
    health.clock_ns = 0
    level, text, _ = inputs_report(health, Settings(), {'image': 1})
    assert level == DiagnosticStatus.WARN
    assert 'use_sim_time is on and no /clock comes' in text
    assert 'future' not in text
    health.clock_ns = 10**18
    assert inputs_report(health, Settings(), {'image': 1})[0] == DiagnosticStatus.OK


def test_a_wild_depth_that_left_the_window_leaves_no_trace_in_the_grade():
    def sums(depth):
        truth = np.full(10, 10, np.float32)
        return ScoredPoints(truth, truth, truth, np.full(10, depth, np.float32), np.ones(10, np.float32)).sums()

    health = Health({})
    for depth in [10.5] * 5 + [1e8] + [10.5] * 10:
        health.grade(sums(depth), 10)
    graded, images = health.graded()
    assert images == 10
    assert graded.metrics()['rmse'] == pytest.approx(0.5)


class Broken(NearestEstimator):
    def estimate(self, frame, sparse):
        raise RuntimeError('broken')


@pytest.fixture
def worker():
    """A worker that is not started, with images to answer for somebody, by an estimator that is broken."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next_domain())
    node = LifecycleNode('worker_of_a_test', context=context)
    health = Health({'image': True})
    outputs = DepthOutputs(node, health)
    node.create_subscription(Image, 'depth/image', lambda message: None, 1)
    settings = from_flat({'pairing.wait': 2.0, 'input.max_delay': 10.0})
    decoder = FrameDecoder('/image_raw', settings)
    decoder.add_info(info_message(0))
    tree = TransformTree()
    tree.add_text(STATIC)
    pipeline = DepthPipeline(settings, tree, Broken())
    made = DepthWorker(
        pipeline, decoder, outputs, health, lambda: pipeline.settings, node.get_clock(), node.get_logger()
    )
    made._running.set()
    end = time.monotonic() + 5
    while not outputs.wanted():
        assert time.monotonic() < end
        time.sleep(0.02)
    yield made, health, pipeline
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def image_at(stamp_ns):
    return Arrival('image', image_message(stamp_ns), stamp_ns, time.monotonic_ns())


def test_images_that_fell_out_of_the_queue_are_forgotten(worker):
    made, health, _ = worker
    for index in range(50):
        made._survive(image_at(10**9 + index * 10**7))
    assert health.refusals['queue_full'].count == 50 - 8
    assert len(made._arrived_ns) == made.num_waiting == 8


def test_each_image_that_falls_out_of_a_shortened_queue_is_counted(worker):
    made, health, pipeline = worker
    for index in range(8):
        made._survive(image_at(10**9 + index * 10**7))
    for index in range(8):
        made.put('image', image_message(2 * 10**9 + index * 10**7))
    pipeline.settings = from_flat({'pairing.queue_size': 1}, pipeline.settings)
    made.put('image', image_message(3 * 10**9))
    assert health.refusals['queue_full'].count == 8
    made._survive(image_at(10**9 + 9 * 10**7))
    assert health.refusals['queue_full'].count == 8 + 8
    assert health.images_refused == 8 + 8
    assert made.num_waiting == 1 + 1
    made.stop()
    assert health.refusals['deactivated'].count == 2
    assert health.images_refused == 9 + 9


@pytest.mark.parametrize(('by_machine', 'refused'), [(1, 3), (0, 0)], ids=['late', 'only the clock jumped'])
def test_an_image_that_waited_too_long_behind_a_slow_one_gives_way_to_a_newer_one(worker, by_machine, refused):
    made, health, pipeline = worker
    pipeline.estimator = NearestEstimator()
    pipeline.add_scan(replace(wall(), stamp_ns=10**9))
    now_ns = made._now_ns()
    for index in range(4):  # more than max_delay and wait ago
        came, ago_ns = image_at(10**9 + index * 10**7), 14 * 10**9 - index * 10**8
        made._survive(replace(came, clock_ns=now_ns - ago_ns, monotonic_ns=came.monotonic_ns - ago_ns * by_machine))
    assert made.num_waiting == 4
    made.handle(None)  # all are due by now
    assert made.num_waiting == 0
    assert ('overrun' in health.refusals) == (refused > 0)
    assert health.images_refused == refused
    assert health.answered == 4 - refused


def test_poses_of_tf_count_until_odometry_comes_and_do_not_mix_with_it(worker):
    made, health, pipeline = worker
    added = []
    pipeline.add_pose = added.append

    def receive(kind, message):
        made._survive(Arrival(kind, message, 10**9, time.monotonic_ns()))

    pose = Pose(10**9, np.eye(4), 'odom', 'base_link')
    assert 'standing still' in health.motion
    receive('tf', pose)
    assert health.motion == '/tf (odom to base_link)'
    receive('tf', replace(pose, stamp_ns=0))
    assert health.refusals['bad_tf'].count == 1
    receive('odometry', fill_odometry(Odometry(), pose))
    assert health.motion == 'odometry (odom to base_link)'
    receive('tf', pose)
    made.put_tf_pose(pose)
    assert [pose.child_frame_id for pose in added] == ['base_link', 'base_link']
    assert added[0].frame_id != added[1].frame_id
    assert made._inbox.count('tf') == 0


def test_rectified_is_judged_by_the_topic_that_images_come_from_now(worker):
    made, _, _ = worker
    lens = Camera(WIDTH, HEIGHT, 120.0, 120.0, 79.5, 59.5, 'camera', 'plumb_bob', np.array([-0.3, 0.1, 0, 0, 0.0]))
    made._decoder.add_info(info_message(0, lens))
    assert made._decoder.camera('camera').model == 'plumb_bob'
    made.set_image_topic('/image_rect/compressed')
    made._survive(made._inbox.get(0.0))
    assert made._decoder.camera('camera').model == 'none'


def test_only_images_explain_images_without_depth():
    counts = {'answered': 0, 'images_refused': 0, 'refused': {}, 'lost_by_transport': 0}
    load = SimpleNamespace(
        _sent_ns=dict.fromkeys(range(100), 0), _received_ns={}, _resident_mb=[], _bytes=lambda: 0, _stages=dict
    )
    refused = {'queue_full': 3, 'queue_full_points': 10, 'odometry_unused': 90}
    after = {'answered': 90, 'images_refused': 3, 'refused': refused, 'lost_by_transport': 2}
    assert LoadGenerator._result(load, counts, after)['silent'] == 100 - 90 - 3 - 2


def test_an_answer_that_fails_costs_its_image_alone(worker):
    made, health, pipeline = worker
    pipeline.add_scan(replace(wall(), stamp_ns=10**9))
    made._survive(image_at(10**9))
    made._survive(image_at(4 * 10**9))
    assert health.refusals['internal_error'].count == 1
    assert made.num_waiting == 1
