"""The report: one HTML file that needs nothing else, neither network nor neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from depth_ros.evaluation.charts import Series, bar_chart, line_chart
from depth_ros.evaluation.evaluate import Evaluation
from depth_ros.evaluation.metrics import KEYS
from depth_ros.evaluation.pictures import (
    CLOUD_MAX_RELATIVE_STD,
    ERROR_LIMIT,
    ColourScale,
    cloud_views,
    data_uri,
    depth_scale,
    error_picture,
    error_table,
    overlay,
    std_scale,
)
from depth_ros.evaluation.report_style import SCRIPT, STYLE
from depth_ros.evaluation.scoring import MethodScore
from depth_ros.evaluation.snapshot import Snapshot
from depth_ros.evaluation.uncertainty import sparsification_curves
from depth_ros.settings import Settings, to_flat

LABELS = {
    'mae': 'MAE (m)', 'rmse': 'RMSE (m)', 'imae': 'iMAE (1/km)', 'irmse': 'iRMSE (1/km)', 'abs_rel': 'AbsRel',
    'sq_rel': 'SqRel (m)', 'rmse_log': 'RMSElog', 'delta1': 'δ1', 'delta2': 'δ2', 'delta3': 'δ3',
    'coverage': 'coverage',
}
_HIGHER_IS_BETTER = {'delta1', 'delta2', 'delta3', 'coverage'}
UNCERTAINTY_LABELS = {
    'within_1_sigma': 'within 1 σ', 'within_2_sigma': 'within 2 σ', 'rms_z': 'rms error / σ',
    'ause_abs_rel': 'AUSE AbsRel', 'distance_ause_abs_rel': 'by distance', 'random_ause_abs_rel': 'by chance',
    'ause_rmse': 'AUSE RMSE (m)', 'distance_ause_rmse': 'by distance', 'random_ause_rmse': 'by chance',
    'flying_share': 'flying pixels', 'flying_dropped_at_5_percent': 'dropped by σ',
}
_PERCENT = {
    'abs_rel', 'delta1', 'delta2', 'delta3', 'coverage', 'within_1_sigma', 'within_2_sigma', 'flying_share',
    'flying_dropped_at_5_percent',
}
_NUM_VIEWS = 9
_CURVE_POINTS = 60


def build_report(evaluation: Evaluation) -> str:
    """Write the report.

    Args:
        evaluation: the result.

    Returns:
        A whole HTML document; pictures are embedded, nothing is loaded from anywhere.
    """
    document, scores = evaluation.document, list(evaluation.scores.values())
    chosen = evaluation.album.chosen()
    sections = [
        _headline(document, scores),
        _gallery_first(chosen, scores[0].name) if chosen else '',
        _methods_table(document, scores),
        _charts(document, scores),
        _gallery(chosen, [score.name for score in scores]) if chosen else '',
        _running(document, scores),
        _reading(document),
        _settings(document),
    ]
    title = f'Depth evaluation of {escape(_bag_name(document))}'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{title}</title><style>{STYLE}</style></head><body><main>'
        f'{"".join(sections)}</main><script>{SCRIPT}</script></body></html>\n'
    )


def number(value: float | None, key: str = '') -> str:
    """A figure as people read it: three digits, shares in percent, a dash for unknown."""
    if value is None or not math.isfinite(value):
        return '–'
    if key in _PERCENT:
        return f'{100 * value:.2f} %' if value < 0.1 else f'{100 * value:.1f} %'
    return f'{value:.3f}' if abs(value) < 10 else f'{value:.2f}' if abs(value) < 100 else f'{value:.0f}'


def _bag_name(document: dict[str, Any]) -> str:
    return document['bag']['path'].rstrip('/').rsplit('/', 1)[-1]


def _by_truth(document: dict[str, Any]) -> bool:
    return document['judged_by'] != 'withheld points'


def _warning(text: str) -> str:
    return f'<p class="warn">{escape(text)}</p>'


def _headline(document: dict[str, Any], scores: Sequence[MethodScore]) -> str:
    first = document['methods'][scores[0].name]
    pooled, uncertainty, counts = first['pooled'], first['uncertainty']['pooled'], document['counts']
    # Of the first method; what others refused is named 'METHOD: REASON'.
    unanswered = sum(count for reason, count in counts['refused'].items() if ': ' not in reason)
    unanswered += counts['dropped_from_queue']
    unanswered += sum(count for reason, count in counts['undecodable'].items() if reason.startswith('image: '))
    others = f', beside {", ".join(score.name for score in scores[1:])}' if len(scores) > 1 else ''
    ended = _warning('Interrupted: these are the figures of the images done until then.') \
        if document['interrupted'] else ''
    if document['damage']:
        ended += _warning(
            f'Partial: {document["damage"]}. These are the figures of the images before the damage, {counts["images"]} '
            f'of {counts["images_in_bag"]}.'
        )
    ended += ''.join(_warning(f'{note[:1].upper()}{note[1:]}.') for note in document['notes'])
    unscored = '' if first['points']['num_truth'] else \
        _warning(f'No image has any {document["judged_by"]}, so nothing could be scored.')
    seen = '' if _by_truth(document) else ' that the camera sees'
    within = uncertainty['within_1_sigma']
    cards = [
        ('Mean error', f'{number(pooled["mae"])} m', f'{number(pooled["abs_rel"], "abs_rel")} of the distance'),
        ('RMSE', f'{number(pooled["rmse"])} m', 'large errors weigh more'),
        ('Within 25 %', number(pooled['delta1'], 'delta1'), 'of the points (δ1)'),
        ('Covered', number(pooled['coverage'], 'coverage'), 'of the points got a depth'),
        ('Honest σ', number(within, 'coverage'), 'of errors within 1 σ; 68.3 % is right'),
        ('Estimator', f'{number(first["latency_ms"]["estimate"]["p50"])} ms', 'median per image, on this machine'),
    ]
    tiles = ''.join(
        f'<div class="card"><h3>{name}</h3><b>{value}</b><p>{text}</p></div>' for name, value, text in cards
    )
    return (
        f'<header><p class="eyebrow">depth_ros evaluation</p><h1>{escape(_bag_name(document))}</h1>'
        f'<p class="lead"><b>{escape(scores[0].name)}</b>{escape(others)} on {counts["answered"]} '
        f'image{"s" if counts["answered"] != 1 else ""}'
        f'{f", {unanswered} without an answer" if unanswered else ", every one answered"}. '
        f'{escape(document["holdout"]["text"])}, and the depth is scored on the {document["judged_by"]}{seen}, '
        f'up to {document["max_depth"]:g} m ({first["points"]["num_truth"]:,} points).</p>{ended}{unscored}'
        f'<div class="cards">{tiles}</div></header>'
    )


def _gallery_first(chosen: Sequence[tuple[str, Snapshot]], method: str) -> str:
    snapshot = chosen[0][1]
    height = round(0.46 * snapshot.image.shape[1])
    views = cloud_views(snapshot, method, (height, snapshot.image.shape[1]), _NUM_VIEWS)
    if not views:
        return ''
    pictures = ''.join(
        f'<img src="{data_uri(view, 76)}" alt="cloud seen from side {k + 1} of {len(views)}"'
        f'{"" if k == len(views) // 2 else " hidden"}>' for k, view in enumerate(views)
    )
    return (
        f'<section><figure class="turn" tabindex="0">{pictures}<figcaption>The cloud of {chosen[0][0]} '
        f'({escape(method)}), '
        'seen from above and behind the camera. <b>Drag across it to turn it.</b> Pixels whose standard deviation is '
        'over '
        f'{100 * CLOUD_MAX_RELATIVE_STD:g} % of their depth are left out.</figcaption></figure></section>'
    )


def _methods_table(document: dict[str, Any], scores: Sequence[MethodScore]) -> str:
    methods = document['methods']
    tables = [
        ('Over all points', 'pooled', 'Every point weighs the same.'),
        ('Mean of the images', 'per_image', 'Every image weighs the same.'),
    ]
    if len(scores) > 1:
        tables.insert(1, (
            'Over the points that all methods cover', 'pooled_common',
            'A method that leaves out hard pixels gains nothing here.',
        ))
    parts = []
    for place, (title, group, text) in enumerate(tables):
        rows = {name: [entry[group][key] for key in KEYS] for name, entry in methods.items()}
        table = _table(['method', *(LABELS[key] for key in KEYS)], [
            [f'<th scope="row">{escape(name)}</th>', *(
                _cell(value, key, [other[k] for other in rows.values()]) for k, (value, key) in
                enumerate(zip(values, KEYS, strict=True))
            )] for name, values in rows.items()
        ])
        body = f'<p class="note">{text}</p>{table}'
        folded = f'<details><summary>{title}</summary>{body}</details>'
        parts.append(f'<h3>{title}</h3>{body}' if place == 0 else folded)
    honest = _table(
        ['method', *UNCERTAINTY_LABELS.values(), 'flicker'],
        [[f'<th scope="row">{escape(name)}</th>', *(
            f'<td>{number(entry["uncertainty"]["pooled"][key], key)}</td>' for key in UNCERTAINTY_LABELS
        ), f'<td>{number(entry["flicker"]["mean"], "abs_rel")}</td>'] for name, entry in methods.items()],
    )
    return (
        f'<section><h2>How good the depth is</h2>{"".join(parts)}<h3>Uncertainty and flicker</h3><p '
        'class="note">Right would '
        'be 68.3 % within 1 σ and 95.4 % within 2 σ. AUSE: how much worse than a perfect order the stated σ ranks the '
        'points, '
        '0 is perfect; beside it what ranking by the distance to the nearest measurement, and by chance, gets. '
        'Flying pixels: errors over 20 % near a depth edge; beside them the share of them that is gone when the 5 % of '
        'the points with the largest relative σ are dropped. Flicker: mean '
        f'change of the relative error at the same place from one image to the next.</p>{honest}</section>'
    )


def _cell(value: float | None, key: str, column: Sequence[float | None]) -> str:
    known = [other for other in column if other is not None]
    best = value is not None and len(known) > 1 and value == (max(known) if key in _HIGHER_IS_BETTER else min(known))
    return f'<td{" class=best" if best and len(set(known)) > 1 else ""}>{number(value, key)}</td>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = ''.join(f'<tr>{"".join(row)}</tr>' for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _charts(document: dict[str, Any], scores: Sequence[MethodScore]) -> str:
    def of_images(key: str) -> list[Series]:
        return [
            Series(
                score.name, [(image['stamp_ns'] - scores[0].images[0]['stamp_ns']) / 1e9 for image in score.images],
                [image[key] for image in score.images], f's{k}',
            ) for k, score in enumerate(scores)
        ]

    groups = [f'{near:g}–{far:g}' for near, far in zip(scores[0].edges[:-1], scores[0].edges[1:], strict=True)]
    by_range = {
        key: [
            Series(score.name, range(len(groups)), [sums.metrics()[key] for sums in score.by_range], f's{k}')
            for k, score in enumerate(scores)
        ] for key in ('mae', 'abs_rel')
    }
    by_range['abs_rel'] = [
        Series(item.name, item.x, [100 * value for value in item.y], item.style) for item in by_range['abs_rel']
    ]
    calibration = [Series('right', [0, 100], [0, 100], 'ideal')]
    for k, score in enumerate(scores):
        expected, found = score.calibration.curve()
        calibration.append(Series(score.name, [0, *(100 * expected)], [0, *(100 * found)], f's{k}'))
    charts = [
        ('Error by distance', bar_chart(by_range['mae'], groups, 'distance (m)', 'MAE (m)')),
        ('Relative error by distance', bar_chart(by_range['abs_rel'], groups, 'distance (m)', 'AbsRel (%)')),
        ('Is σ honest? Below the line it promises too much', line_chart(
            calibration, 'errors that should be within (%)', 'errors that are (%)', (0, 100), (0, 100))),
        _sparsification(scores[0]),
        ('Error along the recording', line_chart(
            of_images('mae'), 'time (s)', 'MAE (m)', dots=len(scores[0].images) <= 60)),
        ('Flicker along the recording', line_chart(
            [Series(item.name, item.x, [100 * value for value in item.y], item.style) for item in of_images('flicker')],
            'time (s)', 'change of relative error (%)', dots=len(scores[0].images) <= 60)),
    ]
    figures = ''.join(f'<figure class="chart"><h3>{title}</h3>{chart}</figure>' for title, chart in charts)
    return f'<section><h2>Where the errors are</h2><div class="charts">{figures}</div></section>'


def _sparsification(score: MethodScore) -> tuple[str, str]:
    points, distance, _ = score.sample.points()
    curves = sparsification_curves(points, distance)
    title = f'Does σ find the errors? ({score.name})'
    if curves is None:
        return title, '<p class="note">Too few points.</p>'
    names = (('std', 'by σ', 's0'), ('distance', 'by distance to a measurement', 's1'), ('oracle', 'perfect', 'ideal'),
             ('random', 'by chance', 's3'))
    series = []
    for key, name, style in names:
        curve = curves['abs_rel'][key]
        # The mean over the last few points says nothing and would set the scale.
        places = np.linspace(0, 0.97 * (len(curve) - 1), min(_CURVE_POINTS, len(curve))).astype(int)
        series.append(Series(name, list(100 * places / len(curve)), list(100 * curve[places]), style))
    return title, line_chart(series, 'most uncertain points removed (%)', 'AbsRel of the rest (%)', (0, 100))


def _scale_bar(ticks: Sequence[tuple[float, str]], table: np.ndarray, unit: str) -> str:
    stops = ','.join(f'rgb({r},{g},{b})' for r, g, b in table[:: 255 // 15])
    labels = ''.join(f'<span style="left:{100 * place:.1f}%">{text}</span>' for place, text in ticks)
    return (
        f'<div class="scale"><div style="background:linear-gradient(90deg,{stops})"></div><div '
        f'class="ticks">{labels}</div>'
        f'<em>{escape(unit)}</em></div>'
    )


def _gallery(chosen: Sequence[tuple[str, Snapshot]], methods: Sequence[str]) -> str:
    snapshots = [snapshot for _, snapshot in chosen]
    metres, spread = depth_scale(snapshots), std_scale(snapshots)
    # Fewer pixels or methods leave room for better pictures; the whole stays a few MB.
    quality = 82 if len(chosen) * len(methods) <= 8 else 74
    frames = ''.join(
        _frame(what, item, methods, metres, spread, quality, unfolded=place == 0)
        for place, (what, item) in enumerate(chosen)
    )
    limit = round(100 * ERROR_LIMIT)
    error_ticks = [(0.0, f'−{limit} % too near'), (0.5, '0'), (1.0, f'+{limit} % too far')]
    scales = (
        f'<div class="scales"><div><h3>Depth</h3>{_scale_bar(metres.ticks(), metres.table(), "m")}</div>'
        f'<div><h3>Standard deviation</h3>{_scale_bar(spread.ticks(), spread.table(), "m")}</div>'
        f'<div class="wide"><h3>Error at scored points</h3>{_scale_bar(error_ticks, error_table(), "")}</div></div>'
    )
    return f'<section><h2>Pictures</h2>{scales}{frames}</section>'


def _frame(
    what: str, snapshot: Snapshot, methods: Sequence[str], metres: ColourScale, spread: ColourScale, quality: int,
    unfolded: bool,
) -> str:
    def figure(picture: np.ndarray, caption: str) -> str:
        return (
            f'<figure><img loading="lazy" src="{data_uri(picture, quality)}" alt="{escape(caption)}">'
            f'<figcaption>{escape(caption)}</figcaption></figure>'
        )

    first = methods[0]
    figures = [
        figure(overlay(snapshot, metres), f'what goes in: image and {len(snapshot.measured):,} lidar points'),
        figure(metres.paint(snapshot.depth[first]), f'depth, {first}'),
        figure(spread.paint(snapshot.std[first]), f'standard deviation, {first}'),
        figure(error_picture(snapshot, snapshot.scored[first]), f'error, {first}: {_mae(snapshot, first)}'),
    ]
    others = []
    for name in methods[1:]:
        others.append(figure(metres.paint(snapshot.depth[name]), f'depth, {name}'))
        others.append(figure(error_picture(snapshot, snapshot.scored[name]), f'error, {name}: {_mae(snapshot, name)}'))
    beside = f'<details{" open" if unfolded else ""}><summary>Beside it: {escape(", ".join(methods[1:]))}</summary>' \
        f'<div class="pictures">{"".join(others)}</div></details>' if others else ''
    seconds = snapshot.stamp_ns / 1e9
    return (
        f'<article><h3>{what[0].upper()}{what[1:]} <small>number {snapshot.index + 1}, stamp {seconds:.3f} '
        's</small></h3>'
        f'<div class="pictures">{"".join(figures)}</div>{beside}</article>'
    )


def _mae(snapshot: Snapshot, method: str) -> str:
    metrics = snapshot.scored[method].sums().metrics()
    return f'MAE {number(metrics["mae"])} m, {number(metrics["abs_rel"], "abs_rel")}'


def _running(document: dict[str, Any], scores: Sequence[MethodScore]) -> str:
    counts = document['counts']
    stages = document['methods'][scores[0].name]['latency_ms']
    rows = [(stage, values) for stage, values in stages.items() if stage != 'estimate']
    rows += [(f'estimate, {name}', entry['latency_ms']['estimate']) for name, entry in document['methods'].items()]
    latency = _table(['stage', 'p50', 'p95', 'p99'], [
        [f'<th scope="row">{escape(stage)}</th>', *(f'<td>{number(values[p])}</td>' for p in ('p50', 'p95', 'p99'))]
        for stage, values in rows
    ])
    motion = {
        'deskewed': 'every point moved by its own time', 'compensated': 'sweep moved as a whole',
        'assumed_static': 'no poses known: taken as it is', 'no_lidar': 'no sweep to move',
    }
    facts = [
        *((f'{name} runs on', escape(entry['runs_on'])) for name, entry in document['methods'].items()),
        ('images read', counts['images']), ('answered', counts['answered']),
        ('answered from the image alone', counts['answered_without_lidar']),
        *((f'refused: {reason}', count) for reason, count in counts['refused'].items()),
        ('dropped from the waiting queue', counts['dropped_from_queue']),
        ('left out by --every', counts['skipped_by_every']),
        ('lidar sweeps', counts['scans']), ('poses', counts['poses']),
        ('images without the odometry that was there', counts['odometry_unused']),
        ('messages that could not be decoded', sum(counts['undecodable'].values()) + counts['damaged_messages']),
        ('jumps back in time', counts['time_jumps_back']),
        *((f'motion: {motion.get(kind, kind)}', count) for kind, count in counts['motion'].items()),
        ('image to lidar, median (ms)', number(counts['lidar_age_ms']['p50'])),
        ('image to lidar, largest (ms)', number(counts['lidar_age_ms']['max'])),
    ]
    pairing = _table(['what', 'count'], [
        [f'<th scope="row">{escape(str(name))}</th>', f'<td>{value}</td>'] for name, value in facts
    ])
    reasons = ''.join(
        f'<p class="note"><b>{escape(reason)}</b>: {escape(text)}</p>' for reason, text in
        [*counts['refused_because'].items(), *((str(n), text) for text, n in counts['undecodable'].items())]
    )
    topics = ''.join(
        f'<tr><th scope="row">{role}</th><td class="code">{escape(topic) or "none"}</td></tr>'
        for role, topic in document['bag']['topics'].items()
    )
    return (
        '<section><h2>How it ran</h2><div class="columns"><div><h3>Time per image (ms)</h3>'
        f'{latency}<p class="note">On the machine of this evaluation; the first image, which compiles, is left out. '
        '<i>read</i> takes messages from the bag and decodes them.</p></div>'
        f'<div><h3>Pairing and drops</h3>{pairing}{reasons}</div>'
        f'<div><h3>Topics</h3><table><tbody>{topics}</tbody></table></div></div></section>'
    )


def _reading(document: dict[str, Any]) -> str:
    static = document['counts']['motion'].get('assumed_static', 0)
    if _by_truth(document):
        compared = 'The true depth of a pixel is compared with what a method says there'
        limits = ['Truth is that of a simulation: exact, also where no lidar looks; the sky has none.']
    else:
        compared = 'A withheld point is compared with the depth of the pixel that holds it, if that point is visible'
        limits = [
            'Truth is lidar: it says nothing about glass, the sky, or surfaces beyond the reach of the sensor, and the '
            'pixels between its points are not scored.',
            'Withheld points lie where the lidar looks, so the upper part of the image usually counts for nothing.',
            'Withheld points that the camera cannot see are found by the parallax of the other points; a few at thin '
            'things remain, and their errors are counted.',
        ]
    limits.append(
        'Errors along one recording are alike; an interval over several recordings says more than decimals here.'
    )
    if static:
        limits.append(
            f'For {static} images no poses were known, so lidar and image were taken as simultaneous; on a moving '
            'robot the '
            'error holds its motion between the two.'
        )
    items = ''.join(f'<li>{text}</li>' for text in limits)
    return (
        f'<section><h2>How to read this</h2><p>{escape(document["holdout"]["text"])}. {compared}, up to '
        f'{document["max_depth"]:g} m. '
        'MAE and RMSE are in metres, iMAE and iRMSE (errors of inverse depth) in 1/km, SqRel in metres; AbsRel is the '
        'mean '
        'error relative to the distance; δ1, δ2, δ3 are the shares of points within a factor of 1.25, 1.25², 1.25³. '
        'Points '
        'without an estimate lower the coverage and nothing else.</p>'
        f'<ul>{items}</ul></section>'
    )


def _settings(document: dict[str, Any]) -> str:
    defaults = to_flat(Settings())
    changed = {name for name, value in document['settings'].items() if defaults.get(name) != value}
    rows = ''.join(
        f'<tr{" class=changed" if name in changed else ""}><th scope="row" class="code">{escape(name)}</th>'
        f'<td class="code">{escape(str(value))}</td></tr>' for name, value in document['settings'].items()
    )
    said = f'{len(changed)} differ from the defaults (bold)' if changed else 'all at their defaults'
    return (
        f'<section><details><summary>Settings: {said}</summary><table><tbody>{rows}</tbody></table></details>'
        '<p class="note">grading.withhold belongs to the live node; here the hold-out stated above takes its place.</p>'
        '</section>'
    )
