"""``depth_ros params``: every parameter of the node, as a table or as a file to start from."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from depth_ros.errors import SettingsError
from depth_ros.files import check_file, whole_file
from depth_ros.settings import Parameter, parameters

_HEADER = ('Parameter', 'Default', 'Range', 'Meaning')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('--markdown', action='store_true', help='print the table as Markdown')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write a commented YAML file with all defaults')
    parser.add_argument('--overwrite', action='store_true', help='replace the file that is there')


def run(arguments: argparse.Namespace) -> None:
    """Print the table, or write the file.

    Raises:
        SettingsError: options that exclude each other.
        OutputError: the file cannot be written.
    """
    if arguments.markdown and arguments.out:
        raise SettingsError('--markdown prints a table, and --out writes YAML; give one of them')
    if arguments.overwrite and not arguments.out:
        raise SettingsError('--overwrite replaces a file; name it with --out')
    if arguments.out is None:
        print('\n'.join(markdown_lines() if arguments.markdown else text_lines()))
        return
    check_file(arguments.out, arguments.overwrite)
    with whole_file(arguments.out) as path:
        path.write_text('\n'.join(yaml_lines()) + '\n', encoding='utf-8')
    print(f'wrote {arguments.out}')


def markdown_lines() -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f'| {" | ".join(_HEADER)} |'
    yield '|---' * len(_HEADER) + '|'
    for spec in parameters():
        yield f'| `{spec.name}` | `{_value(spec.default)}` | {_range(spec)} | {_meaning(spec)} |'


def text_lines() -> Iterator[str]:
    """Lines of a plain table."""
    rows = [_HEADER, *((spec.name, _value(spec.default), _range(spec), _meaning(spec)) for spec in parameters())]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield '  '.join([*(row[column].ljust(widths[column]) for column in range(3)), row[3]])


def yaml_lines() -> Iterator[str]:
    """Lines of a parameter file with all defaults, each under its meaning."""
    yield '# Every parameter of depth_node with its default. Keep what you change and delete the rest: a file of'
    yield '# differences follows better defaults, a full one pins the old.'
    yield '/**:'
    yield '  ros__parameters:'
    for group, items in groupby(parameters(), key=lambda spec: spec.name.split('.')[0]):
        yield f'    {group}:'
        for spec in items:
            limits = _range(spec)
            meaning = f'{_meaning(spec)} [{limits}]' if limits else _meaning(spec)
            yield from textwrap.wrap(meaning, 110, initial_indent='      # ', subsequent_indent='      # ')
            yield f'      {spec.name.split(".")[1]}: {_value(spec.default)}'


def _value(value: Any) -> str:
    # The empty list of ROS: rclpy cannot tell the type of [].
    return json.dumps([''] if value == [] else value)


def _range(spec: Parameter) -> str:
    if spec.choices:
        return ', '.join(spec.choices)
    return '' if spec.ge is None else f'{spec.ge:g} to {spec.le:g}{" " + spec.unit if spec.unit else ""}'


def _meaning(spec: Parameter) -> str:
    return f'{spec.doc} Acts only at the start.' if spec.read_only else spec.doc
