"""Small charts as inline SVG, coloured by the style sheet of the page (classes ``s0``, ``s1``, ... per series)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 44


@dataclass(frozen=True, eq=False)
class Series:
    """One line, or one set of bars.

    Attributes:
        name: as the legend says.
        x: (N,) places; for bars the number of the group.
        y: (N,) values, NaN = gap.
        style: CSS class.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str


def line_chart(
    series: Sequence[Series], x_label: str, y_label: str, x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None, dots: bool = False,
) -> str:
    """Draw lines.

    Args:
        series: the lines; gaps stay open.
        x_label: meaning and unit of x.
        y_label: meaning and unit of y.
        x_range: ends of the x axis; None = of the data.
        y_range: ends of the y axis; None = from 0 to the largest value.
        dots: mark the points.

    Returns:
        HTML.
    """
    x_low, x_high = x_range or _ends([value for item in series for value in item.x], from_zero=False)
    y_low, y_high = y_range or _ends([value for item in series for value in item.y], from_zero=True)
    place_x = _placing(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    place_y = _placing(y_low, y_high, _HEIGHT - _BOTTOM, _TOP)
    marks = []
    for item in series:
        path, pen_down = [], False
        for x, y in zip(item.x, item.y, strict=True):
            if not math.isfinite(y):
                pen_down = False
                continue
            path.append(f'{"L" if pen_down else "M"}{place_x(x):.1f} {place_y(y):.1f}')
            pen_down = True
            if dots:
                marks.append(
                    f'<circle class="{item.style}" cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3.2">'
                    f'<title>{escape(item.name)}: {y:.3g}</title></circle>'
                )
        marks.append(f'<path class="line {item.style}" d="{"".join(path)}"/>')
    ticks = [(place_x(value), f'{value:g}') for value in _ticks(x_low, x_high)]
    y_ticks = [(place_y(value), f'{value:g}') for value in _ticks(y_low, y_high)]
    return _frame(series, ticks, y_ticks, x_label, y_label, ''.join(marks))


def bar_chart(series: Sequence[Series], groups: Sequence[str], x_label: str, y_label: str) -> str:
    """Draw groups of bars side by side.

    Args:
        series: one bar of each in every group.
        groups: name of each group.
        x_label: what the groups are, and their unit.
        y_label: meaning and unit of the values.

    Returns:
        HTML.
    """
    low, high = _ends([value for item in series for value in item.y], from_zero=True)
    place_y = _placing(low, high, _HEIGHT - _BOTTOM, _TOP)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    width = min(0.76 * step / len(series), 34)
    marks = []
    for s, item in enumerate(series):
        for x, y in zip(item.x, item.y, strict=True):
            if not math.isfinite(y):
                continue
            left = _LEFT + (x + 0.5) * step + (s - len(series) / 2) * width
            top = place_y(y)
            marks.append(
                f'<rect class="{item.style}" x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" '
                f'height="{max(place_y(0) - top, 0.5):.1f}" rx="2"><title>{escape(item.name)}, '
                f'{escape(groups[int(x)])}: {y:.3g}</title></rect>'
            )
    ticks = [(_LEFT + (k + 0.5) * step, name) for k, name in enumerate(groups)]
    return _frame(series, ticks, [(place_y(v), f'{v:g}') for v in _ticks(low, high)], x_label, y_label, ''.join(marks))


def _frame(
    series: Sequence[Series], x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], x_label: str,
    y_label: str, marks: str,
) -> str:
    grid = ''.join(
        f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="y" x="{_LEFT - 8}" y="{y + 4:.1f}">{text}</text>'
        for y, text in y_ticks
    )
    below = ''.join(
        f'<text class="x" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}">{escape(text)}</text>' for x, text in x_ticks
    )
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    legend = ''.join(f'<span><i class="{item.style}"></i>{escape(item.name)}</span>' for item in series)
    return (
        f'<div class="legend">{legend}</div><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(y_label)} over {escape(x_label)}">{grid}{below}{marks}'
        f'<text class="x label" x="{middle_x:.0f}" y="{_HEIGHT - 6}">{escape(x_label)}</text>'
        f'<text class="x label" transform="translate(14 {middle_y:.0f}) rotate(-90)">{escape(y_label)}</text></svg>'
    )


def _ends(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if from_zero:
        low, high = min(low, 0.0), high * 1.06
    return (low, high) if high > low else (low, low + 1.0)


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 12) for k in range(first, first + 12) if step * k <= high * (1 + 1e-9)]


def _placing(low: float, high: float, start: float, end: float):
    return lambda value: float(np.interp(value, (low, high), (start, end)))
