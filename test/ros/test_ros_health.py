"""Lost messages are noticed by their numbers."""

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus

from depth_ros.ros.diagnostics import inputs_report
from depth_ros.ros.health import Health, InputHealth
from depth_ros.settings import Settings


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
