"""Publishers and subscriptions whose QoS can be overridden, and that notice when the other side's does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible, qos_policy_name_from_kind
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.subscription import Subscription

from depth_ros.errors import SettingsError
from depth_ros.ros.health import Health
from depth_ros.ros.qos import overridable

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError


def subscribe(
    node: Node, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile, health: Health, name: str
) -> Subscription:
    """Subscribe.

    Args:
        node: the node.
        kind: message type.
        topic: full name.
        callback: takes the messages.
        profile: QoS unless parameters override it.
        health: learns of lost messages and of publishers whose QoS does not fit.
        name: name of the input in ``health``.

    Raises:
        SettingsError: an override makes no QoS.
    """
    item = health.inputs[name]
    item.topic = topic

    def mismatch(event: Any) -> None:
        item.policy = _policy(event)

    def lost(event: Any) -> None:
        item.lost += event.total_count_change

    def take_numbered(message: Any, info: Any) -> None:
        # Not every middleware numbers messages, and two publishers have two series.
        number = info.get('publication_sequence_number')
        if number is not None and item.skips(number) and node.count_publishers(topic) == 1:
            item.skipped += number - item.sequence - 1
        item.sequence = number
        callback(message)

    # What was said of the topic, or of the time, before this subscription does not hold for it.
    item.sequence = item.last = None
    item.mismatches, item.policy = 0, ''
    take = take_numbered if hasattr(Subscription, 'CallbackType') else callback  # Humble tells no numbers
    with _overrides_checked():
        try:
            events = SubscriptionEventCallbacks(incompatible_qos=mismatch, message_lost=lost)
            return node.create_subscription(
                kind, topic, take, profile, event_callbacks=events, qos_overriding_options=overridable()
            )
        except UnsupportedEventTypeError:  # a middleware that does not count losses
            events = SubscriptionEventCallbacks(incompatible_qos=mismatch)
            return node.create_subscription(
                kind, topic, take, profile, event_callbacks=events, qos_overriding_options=overridable()
            )


def advertise(node: LifecycleNode, kind: type, topic: str, profile: QoSProfile, health: Health) -> LifecyclePublisher:
    """Create a publisher that is silent until the node is active.

    Args:
        node: the node.
        kind: message type.
        topic: name, relative or full.
        profile: QoS unless parameters override it.
        health: learns of subscribers whose QoS does not fit.

    Raises:
        SettingsError: an override makes no QoS.
    """
    name = node.resolve_topic_name(topic)

    def mismatch(event: Any) -> None:
        health.output_policies[name] = _policy(event)

    with _overrides_checked():
        return node.create_lifecycle_publisher(
            kind,
            topic,
            profile,
            event_callbacks=PublisherEventCallbacks(incompatible_qos=mismatch),
            qos_overriding_options=overridable(),
        )


def find_mismatches(
    node: Node, subscriptions: Mapping[str, Subscription], publishers: Iterable[Publisher], health: Health
) -> None:
    """Count who is there now and does not fit; the events tell who came, and not who went.

    Args:
        node: the node.
        subscriptions: name of each input in ``health`` -> its subscription.
        publishers: outputs of the node.
        health: learns of it.
    """
    for name, subscription in subscriptions.items():
        item = health.inputs[name]
        if item.policy:
            offered = node.get_publishers_info_by_topic(item.topic)
            item.mismatches = sum(not _fits(other.qos_profile, subscription.qos_profile) for other in offered)
    health.output_mismatches = {
        publisher.topic_name: health.output_policies[publisher.topic_name]
        for publisher in publishers
        if publisher.topic_name in health.output_policies
        and not all(
            _fits(publisher.qos_profile, other.qos_profile)
            for other in node.get_subscriptions_info_by_topic(publisher.topic_name)
        )
    }


def _fits(offered: QoSProfile, asked: QoSProfile) -> bool:
    return qos_check_compatible(offered, asked)[0] != QoSCompatibility.ERROR


def _policy(event: Any) -> str:
    return qos_policy_name_from_kind(event.last_policy_kind).lower().removesuffix('_qos_policy')


@contextmanager
def _overrides_checked() -> Iterator[None]:
    try:
        yield
    except UnsupportedEventTypeError:
        raise
    except (InvalidQosOverridesError, ParameterException, RuntimeError) as error:
        raise SettingsError(' '.join(str(error).split())) from error
