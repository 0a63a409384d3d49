"""Quality of service: sensor data in, reliable out, both overridable by parameters."""

from __future__ import annotations

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from depth_ros.errors import SettingsError

_PREFIX = 'qos_overrides.'
_MAX_DEPTH = 1000
# Topics of rclpy and tf2 whose overrides are their own.
_OTHERS = ('/clock', '/parameter_events', '/rosout', '/tf', '/tf_static')


def input_qos() -> QoSProfile:
    """Best effort, so that it takes what any driver offers; a burst of 5 survives while the executor is busy."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def odometry_qos() -> QoSProfile:
    """Best effort; poses are small and come fast."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


def output_qos() -> QoSProfile:
    """Reliable, which serves reliable and best-effort subscribers alike."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)


def overridable() -> QoSOverridingOptions:
    """Let ``qos_overrides.TOPIC.publisher|subscription.POLICY`` parameters change a profile."""
    kinds = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
    return QoSOverridingOptions(kinds, callback=_check)


def check_overrides(node: Node, topics: list[str]) -> None:
    """Refuse overrides for topics that the node does not have.

    Args:
        node: the node.
        topics: full names of its own topics.

    Raises:
        SettingsError: an override would be without effect.
    """
    known = (*topics, *_OTHERS)
    for name in node.get_parameters_by_prefix('qos_overrides'):
        if not any(name.startswith((f'{topic}.publisher', f'{topic}.subscription')) for topic in known):
            raise SettingsError(f'{_PREFIX}{name} names no topic of this node; its topics are {", ".join(topics)}')


def _check(profile: QoSProfile) -> SetParametersResult:
    if profile.history != HistoryPolicy.KEEP_LAST or not 1 <= profile.depth <= _MAX_DEPTH:
        return SetParametersResult(
            successful=False,
            reason=f'history {profile.history.name.lower()} of depth {profile.depth}, expected keep_last of 1 to '
            f'{_MAX_DEPTH}: queues are bounded',
        )
    return SetParametersResult(successful=True)
