"""What the node counts: lost messages by their numbers, its grade, and every image, whatever becomes of it."""

import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from ros_graph import STATIC, image_message, info_message, next_domain, wall
from sensor_msgs.msg import Image

from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.metrics import ScoredPoints
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.frame import FrameDecoder
from depth_ros.nodes.depth_outputs import DepthOutputs
from depth_ros.nodes.depth_worker import DepthWorker
from depth_ros.pipeline import DepthPipeline
from depth_ros.ros.diagnostics import inputs_report
from depth_ros.ros.health import Health, InputHealth
from depth_ros.ros.inbox import Arrival
from depth_ros.settings import Settings, from_flat


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
    decoder = FrameDecoder('image', settings)
    decoder.add_info(info_message(0))
    tree = TransformTree()
    tree.add_text(STATIC)
    pipeline = DepthPipeline(settings, tree, Broken())
    made = DepthWorker(pipeline, decoder, outputs, health, lambda: settings, node.get_clock(), node.get_logger())
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


def test_an_answer_that_fails_costs_its_image_alone(worker):
    made, health, pipeline = worker
    pipeline.add_scan(replace(wall(), stamp_ns=10**9))
    made._survive(image_at(10**9))
    made._survive(image_at(4 * 10**9))
    assert health.refusals['internal_error'].count == 1
    assert made.num_waiting == 1
