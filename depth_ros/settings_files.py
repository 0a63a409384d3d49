"""YAML files of settings: read strictly, and their sections for nodes found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from depth_ros.errors import SettingsError


class _TwiceError(yaml.YAMLError):
    """A key stands twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """YAML that refuses what PyYAML, the last one winning, drops in silence: a key that stands twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # Here, not where mappings are constructed: there, merging (<<) has put inherited keys beside those they yield
        # to.
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise _TwiceError(f'{key.value!r} in line {lines[name]} and again in line {line}')
            lines[name] = line
        return node


def read_mapping(path: Path) -> dict[Any, Any]:
    """Content of a YAML file.

    Raises:
        SettingsError: no such file, no YAML, no mapping, or one with a key that stands twice.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding='utf-8'), _Loader) or {}
    except OSError as error:
        raise SettingsError(f'cannot read parameters {str(path)!r}: {error.strerror}') from error
    except _TwiceError as error:
        raise SettingsError(f'parameters {str(path)!r} have {error}, expected it once; join the two') from error
    # Constructors let through what Python says of dates and numbers that are none.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise SettingsError(f'parameters {str(path)!r} are no YAML: {" ".join(str(error).split())}') from error
    if not isinstance(content, dict):
        raise SettingsError(f'parameters {str(path)!r} hold {type(content).__name__}, expected a mapping')
    return content


def sections(content: Mapping[Any, Any], path: Path) -> list[tuple[str, Mapping[Any, Any]]]:
    """Names of nodes and their parameters, in the order of the file.

    Args:
        content: from ``read_mapping``.
        path: the file, for errors.

    Returns:
        Name with namespace, and what is below its ``ros__parameters``; empty where the file has no such sections.

    Raises:
        SettingsError: beside such sections there is something that is in none.
    """
    found = list(_walk(content))
    strays = [(name, value) for name, value, is_section in found if not is_section]
    if strays and len(strays) < len(found):
        name, value = strays[0]
        holds = f'with {", ".join(map(str, value))} and no' if isinstance(value, Mapping) else 'without'
        raise SettingsError(
            f'parameters {str(path)!r} have {name!r} beside sections of nodes, {holds} ros__parameters; indent it '
            'below those of a node, or correct its name'
        )
    return [(name, value) for name, value, is_section in found if is_section]


def _walk(content: Mapping[Any, Any], namespace: str = '') -> Iterator[tuple[str, Any, bool]]:
    """Yield name, content, and whether it is a section of a node; of what holds none, the highest name."""
    for key, value in content.items():
        name = f'{namespace}/{key}' if namespace else str(key)
        if not isinstance(value, Mapping):
            if value is not None:  # nothing below it, or only comments
                yield name, value, False
            continue
        if isinstance(value.get('ros__parameters', ''), Mapping | None):
            yield name, value['ros__parameters'] or {}, True
            yield from _walk({key: item for key, item in value.items() if key != 'ros__parameters'}, name)
            continue
        below = list(_walk(value, name))
        if any(is_section for _, _, is_section in below):
            yield from below
        elif value:
            yield name, value, False
