"""The report of an adaptation: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import csv
import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from depth_ros.evaluation.charts import Series, line_chart
from depth_ros.evaluation.report import LABELS, UNCERTAINTY_LABELS, number
from depth_ros.evaluation.report_style import STYLE
from depth_ros_training.adaptation.adapt import ADAPTED, Adaptation
from depth_ros_training.adaptation.blend import Choice
from depth_ros_training.adaptation.verdict import FIGURES, percent

_LABELS = {**LABELS, **UNCERTAINTY_LABELS}


def build_report(adaptation: Adaptation) -> str:
    """Write the report.

    Args:
        adaptation: what came out.

    Returns:
        A whole HTML document; pictures are embedded, nothing is loaded from anywhere.
    """
    sections = [
        _headline(adaptation),
        _figures(adaptation),
        _pictures(adaptation.pictures),
        _curves(adaptation),
        _choice(adaptation.choice),
        _data(adaptation),
        _settings(adaptation),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>Adaptation</title><style>{STYLE}</style></head><body>'
        f'<main>{"".join(sections)}</main></body></html>\n'
    )


def _headline(adaptation: Adaptation) -> str:
    better = adaptation.verdict.better
    names = ', '.join(escape(name) for name in adaptation.index.head['recordings'])
    title = 'Adapted: use it' if better else 'Not recommended'
    refusal = '' if better else (
        f'<p class="warn">The network after adaptation is {escape(adaptation.verdict.text)}. Stay with the one '
        f'before; what was trained is kept as {escape(adaptation.checkpoint.name)}. More recordings, of more places, '
        'help most.</p>'
    )
    notes = ''.join(f'<p class="note">Note: {escape(note)}.</p>' for note in adaptation.notes)
    cards = [
        (f'{name.upper()}, given {row.given}', f'{100 * row.change(name):+.1f} %'.replace('-', '−'),
         f'{number(row.before[name])} m before, {number(row.after[name])} m after')
        for row in adaptation.rows if row.held_out for name in ('mae', 'rmse')
    ]  # fmt: skip
    tiles = ''.join(
        f'<div class="card"><h3>{escape(name)}</h3><b>{value}</b><p>{text}</p></div>' for name, value, text in cards
    )
    advice = f'Set <code>estimator.checkpoint</code> to {ADAPTED}. ' if better else ''
    return (
        f'<header><p class="eyebrow">depth_ros adaptation</p><h1>{title}</h1><p class="lead">Fine-tuned for '
        f'<b>{adaptation.steps} steps</b> on {names}. {advice}Figures are of images that it was not trained on.</p>'
        f'{refusal}<div class="cards">{tiles}</div>{notes}</header>'
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = ''.join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figures(adaptation: Adaptation) -> str:
    rows = []
    for row in adaptation.rows:
        for what, values in (('before', row.before), ('after', row.after)):
            rows.append([
                f'{escape(row.recordings)}, given {escape(row.given)}', what,
                *(number(values[name], name) for name in FIGURES), f'{row.num_images:,}', f'{row.num_points:,}',
            ])  # fmt: skip
    return (
        '<section><h2>Before and after</h2><p class="note">As <code>depth_ros evaluate</code> scores: lidar points '
        'that were withheld and that the camera sees, or, of other bags that are simulated, the exact depth of every '
        'pixel; up to 80 m. Before and after get the same points. Images of one recording '
        'are alike: what this says of other places is less than what it says of this one.</p>'
        + _table(['recordings', '', *(_LABELS[name] for name in FIGURES), 'images', 'points'], rows)
        + '</section>'
    )


def _pictures(pictures: Sequence[tuple[str, Path]]) -> str:
    figures = ''.join(
        '<figure><img loading="lazy" style="width:100%" alt="before and after" src="data:image/jpeg;base64,'
        f'{base64.b64encode(path.read_bytes()).decode("ascii")}"><figcaption>{escape(caption)}: what was given and '
        'the standard deviation before; depth and error before; depth and error after (blue too near, red too far)'
        '</figcaption></figure>'
        for caption, path in pictures
    )
    return f'<section><h2>Pictures</h2>{figures}</section>' if figures else ''


def _curves(adaptation: Adaptation) -> str:
    charts = []
    for title, name, label in (
        ('Loss of the training samples', 'train/loss', 'loss'),
        ('Images that choose the checkpoint', 'val/score', 'geometric mean of MAE and RMSE (m)'),
    ):
        steps, values = _log(adaptation.folder, name)
        if steps:
            chart = line_chart([Series(name, steps, values, 's0')], 'step', label, dots=len(steps) < 30)
            charts.append(f'<figure class="chart"><h3>{title}</h3>{chart}</figure>')
    return f'<section><h2>How it learnt</h2><div class="charts">{"".join(charts)}</div></section>' if charts else ''


def _log(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one figure in the log of a run; a run that was resumed logs some steps twice."""
    found: dict[int, float] = {}
    path = folder / 'log' / 'metrics.csv'
    if path.is_file():
        with open(path, newline='', encoding='utf-8') as file:
            for row in csv.DictReader(file):
                if row.get(name):
                    found[int(row['step'])] = float(row[name])
    return sorted(found), [found[step] for step in sorted(found)]


def _choice(choice: Choice) -> str:
    """What was tried; nothing where an earlier release made the network."""
    if not choice.tried:
        return ''
    rows = []
    for entry in sorted(choice.tried, key=lambda entry: entry.share):
        replay = ['-' if value is None else percent(value) for value in (entry.replay, entry.replay_high)]
        kept = {0.0: 'before', choice.share: 'kept'}.get(entry.share, '')
        rows.append([f'{100 * entry.share:.0f} %', kept, f'{entry.score:.3f}', *replay])
    return (
        '<section><h2>How far to go</h2><p class="note">Means of the weights before and after fine-tuning, by the '
        'share of those after. The score is the geometric mean of MAE and RMSE (m) on the own images that choose. '
        'Beside it, how much that changes on recordings of replay that were not trained on: in the mean, and '
        'what at most a tenth of them exceed.</p>'
        + _table(['share', '', 'score', 'on replay', 'on replay, high'], rows)
        + '</section>'
    )


def _data(adaptation: Adaptation) -> str:
    index = adaptation.index
    rows = []
    for name, facts in index.head['recordings'].items():
        frames = [entry for entry in index.frames if entry['recording'] == name]
        splits = Counter(entry['split'] or 'gap' for entry in frames)
        classes = Counter(entry['classes'] for entry in frames)
        camera = facts['cameras'][0]
        rows.append([
            escape(name), f'{camera["width"]}x{camera["height"]}', escape(facts['poses']),
            *(str(splits.get(split, 0)) for split in ('train', 'val', 'test', 'gap')),
            escape(', '.join(f'{kind} {count}' for kind, count in sorted(classes.items()))),
        ])  # fmt: skip
    return (
        f'<section><h2>What it was made from</h2><p class="note">Split {escape(index.head["split"])}; <i>train</i> '
        'teaches, <i>val</i> chooses the checkpoint and how far to go, <i>test</i> is judged on. Classes: L lidar, U '
        f'none, P right image, T neighbours in time with motion. Fingerprint of the dataset: {index.fingerprint}.</p>'
        + _table(['recording', 'camera', 'poses', 'train', 'val', 'test', 'gap', 'classes'], rows)
        + '</section>'
    )


def _settings(adaptation: Adaptation) -> str:
    settings = json.loads((adaptation.folder / 'settings.json').read_text(encoding='utf-8'))
    rows = ''.join(
        f'<tr><th scope="row" class="code">{group}.{name}</th><td class="code">{escape(str(value))}</td></tr>'
        for group, values in settings.items() for name, value in values.items()
    )  # fmt: skip
    return (
        '<section><details><summary>All settings of the fine-tuning</summary><table><tbody>'
        f'{rows}</tbody></table></details><p class="note">{escape(adaptation.verdict.text)}.</p></section>'
    )
