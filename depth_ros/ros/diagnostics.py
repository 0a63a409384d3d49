"""Health of a node as ``diagnostic_msgs``: what works, what does not, and what to do about it."""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from depth_ros.ros.health import RECENT, Health, InputHealth
from depth_ros.settings import Settings

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
_BROKEN = ('not_finite', 'out_of_memory', 'engine_failed', 'internal_error')
"""Refusals that say that the node itself is at fault, not what it was given."""
_LOSS = 0.01
"""Share of messages that may be lost on the way before it is called wrong."""
_FUTURE = 0.1
"""Seconds by which a stamp may be ahead of the clock: clocks of two machines differ by less."""

Report = tuple[bytes, str, dict[str, object]]


def inputs_report(health: Health, settings: Settings, publishers: dict[str, int]) -> Report:
    """Say which inputs come, how fast, and which stopped.

    Args:
        health: what was counted.
        settings: ``diagnostics.stale`` says when an input stopped.
        publishers: number of publishers of each input.
    """
    now = time.monotonic()
    levels, texts, values = [OK], [], {}
    for name, item in health.inputs.items():
        level, text = _input(name, item, now, settings.diagnostics.stale, publishers.get(name, 0))
        levels.append(level)
        if text:
            texts.append(text)
        age = 'never' if item.last is None else f'{now - item.last:.2f} s'
        values |= {
            f'{name} topic': item.topic,
            f'{name} rate': f'{item.rate(now):.1f} Hz',
            f'{name} age': age,
            f'{name} delay': f'{item.delay:.3f} s',
            f'{name} count': item.count,
            f'{name} lost': item.missed,
            f'{name} QoS mismatches': item.mismatches,
        }
    if health.clock_ns == 0:
        levels.append(WARN)
        texts.append('use_sim_time is on and no /clock comes; start what publishes it, or set use_sim_time to false')
    for topic, policy in health.output_mismatches.items():
        levels.append(WARN)
        texts.append(f'a subscriber of {topic} asks for another QoS ({policy}) than is offered and gets nothing')
    return max(levels), '; '.join(texts) or 'all inputs come', values


def estimator_report(
    health: Health, method: str, weights: str, device: str, warning: str, wanted: bool, transforms: str, waiting: int
) -> Report:
    """Say what estimates, on what, how long it takes, and whether anybody wants it."""
    now = time.monotonic()
    recent = sum(now - moment < RECENT for moment in health.answer_times)
    values: dict[str, object] = {
        'method': method,
        'weights': weights,
        'device': device,
        'transforms': transforms,
        'answered': health.answered,
        'answered without lidar': health.without_lidar.count,
        'refused': health.images_refused,
        'waiting': waiting,
        'not answered, nobody listened': health.unwanted,
        'estimated at': health.estimated_at,
        'rests on': health.basis,
        'motion from': health.motion,
    }
    times = {'processing': health.processing_ms, 'arrival to publication': health.delay_ms, **health.stage_ms}
    for name, spent in times.items():
        if spent:
            p50, p99 = np.percentile(spent, [50, 99])
            values |= {f'{name} p50': f'{p50:.2f} ms', f'{name} p99': f'{p99:.2f} ms'}
    if warning:
        return WARN, warning, values
    if not wanted:
        return OK, 'nobody subscribes to depth, so none is computed', values
    if health.without_lidar.recent(now):
        alone = health.without_lidar
        text = f'depth comes from the image alone, without lidar ({alone.count} images so far): {alone.text}'
        return WARN, text, values
    if recent:
        return OK, f'{method}: {recent / RECENT:.1f} Hz over {RECENT:.0f} s', values
    return WARN, f'{method}: no depth in the last {RECENT:.0f} s; see inputs and refusals', values


def grade_report(health: Health, settings: Settings) -> Report:
    """Say how good the depth is, measured on withheld lidar points."""
    if settings.grading.withhold == 0:
        return OK, 'off (grading.withhold is 0)', {}
    sums, images = health.graded()
    if not sums.num_truth:
        return STALE, 'no withheld point was seen by the camera yet', {}
    metrics, calibration = sums.metrics(), sums.calibration()
    values: dict[str, object] = {
        'images': images,
        'points': sums.num_truth,
        'MAE': f'{metrics["mae"]:.3f} m',
        'RMSE': f'{metrics["rmse"]:.3f} m',
        'AbsRel': f'{metrics["abs_rel"]:.4f}',
        'delta1': f'{metrics["delta1"]:.4f}',
        'coverage': f'{metrics["coverage"]:.4f}',
        'within 1 sigma': f'{calibration["within_1_sigma"]:.3f}',
        'within 2 sigma': f'{calibration["within_2_sigma"]:.3f}',
    }
    text = f'MAE {metrics["mae"]:.2f} m, AbsRel {100 * metrics["abs_rel"]:.1f} % over {images} images'
    return OK, text, values


def refusals_report(health: Health) -> Report:
    """Say what was passed over, and why."""
    now = time.monotonic()
    values: dict[str, object] = {}
    recent = []
    for reason, item in sorted(health.refusals.items()):
        values[reason] = item.count
        values[f'{reason} (last {RECENT:.0f} s)'] = item.recent(now)
        values[f'{reason} (last text)'] = item.text
        if item.recent(now):
            recent.append((item.recent(now), reason, item.text))
    if not recent:
        return OK, f'none in the last {RECENT:.0f} s', values
    recent.sort(reverse=True)
    answered = any(now - moment < RECENT for moment in health.answer_times)
    text = '; '.join(f'{reason} ({count} in {RECENT:.0f} s): {line}' for count, reason, line in recent)
    broken = any(reason in _BROKEN for _, reason, _ in recent)
    return (WARN if answered and not broken else ERROR), text, values


def to_message(reports: dict[str, Report], node_name: str, stamp: object) -> DiagnosticArray:
    """Build the array.

    Args:
        reports: name of each part -> its report.
        node_name: full name of the node.
        stamp: ``builtin_interfaces/Time``.
    """
    array = DiagnosticArray()
    array.header.stamp = stamp
    for name, (level, text, values) in reports.items():
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array.status.append(
            DiagnosticStatus(level=level, name=f'{node_name.lstrip("/")}: {name}', message=text, values=pairs)
        )
    return array


def _input(name: str, item: InputHealth, now: float, stale: float, publishers: int) -> tuple[bytes, str]:
    bad = ERROR if item.required else WARN
    topic = f'{name} ({item.topic})' if item.topic else name
    came, missed = item.recent(now)
    if item.mismatches and (item.last is None or now - item.last > stale):
        return bad, (
            f'{topic}: {item.mismatches} publisher(s) offer another QoS ({item.policy}) than is asked for; set '
            f'qos_overrides.{item.topic}.subscription.{item.policy}'
        )
    if item.last is None:
        if not item.required and not publishers:
            return OK, ''
        who = f'{publishers} publisher(s)' if publishers else 'no publisher; check the name and remap it'
        return (WARN if item.required else OK), f'{topic}: nothing has come yet, {who}'
    if now - item.last > stale:
        who = 'its publisher is gone' if not publishers else 'its publisher is silent'
        return bad, f'{topic} stopped {now - item.last:.1f} s ago, {who}'
    if missed > _LOSS * (came + missed):
        return WARN, (
            f'{topic}: {missed} of the last {came + missed} messages were lost on the way; give its publisher the Fast '
            'DDS profile of depth_ros (config/fastdds.xml)'
        )
    if item.delay < -_FUTURE:
        return WARN, f'{topic} is stamped {-item.delay:.3f} s in the future; synchronise the clocks'
    return OK, ''
