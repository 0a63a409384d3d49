"""Parameters of a node, declared from ``settings.py``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from depth_ros.errors import SettingsError
from depth_ros.settings import ROS_PARAMETERS, Settings, from_flat, parameters
from depth_ros.settings import Parameter as Tunable

WITHOUT_VALUE = "a parameter is without a value, expected one; write an empty list as ['']"


class NodeSettings:
    """The settings of a running node; changes that pass replace ``current`` at once and as a whole.

    Attributes:
        current: the settings that hold now.
    """

    def __init__(self, node: Node) -> None:
        """Declare every tunable on a node.

        Args:
            node: made with ``automatically_declare_parameters_from_overrides``: that is the one public way to see which
                names a parameter file holds.

        Raises:
            SettingsError: the parameter file or the command line holds an unknown name, a wrong type or a value out
                of range.
        """
        given = {name: item.value for name, item in node.get_parameters_by_prefix('').items()}
        if None in given.values():
            raise SettingsError(WITHOUT_VALUE)
        tunables = {spec.name: spec for spec in parameters()}
        _refuse_unknown(given, tunables)
        values = {name: tunables[name].check(value) for name, value in given.items() if name in tunables}
        self.current = from_flat(values)
        for spec in tunables.values():
            if node.has_parameter(spec.name):
                node.undeclare_parameter(spec.name)
            value = _to_ros(values.get(spec.name, spec.default))
            node.declare_parameter(spec.name, value, _descriptor(spec), ignore_override=True)
        node.add_on_set_parameters_callback(self._validate)
        self._swaps_late = hasattr(node, 'add_post_set_parameters_callback')  # not in Humble
        if self._swaps_late:
            node.add_post_set_parameters_callback(self._swap)

    def _validate(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            changed = self._changed(changes)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not self._swaps_late:
            self.current = changed
        return SetParametersResult(successful=True)

    def _swap(self, changes: list[Parameter]) -> None:
        self.current = self._changed(changes)

    def _changed(self, changes: list[Parameter]) -> Settings:
        tunables = {spec.name: spec for spec in parameters()}
        mine = {change.name: change.value for change in changes if change.name in tunables}
        fixed = [name for name in mine if tunables[name].read_only]
        if fixed:
            raise SettingsError(f'{", ".join(fixed)} acts only at the start; set it in the parameter file and restart')
        return from_flat(mine, self.current)


def _refuse_unknown(given: Mapping[str, Any], tunables: Mapping[str, Tunable]) -> None:
    for name in given:
        if name in tunables or name in ROS_PARAMETERS or name.startswith('qos_overrides.'):
            continue
        near = difflib.get_close_matches(name, [*tunables, *ROS_PARAMETERS], n=1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise SettingsError(f'unknown parameter {name!r}; {hint}known: {", ".join(tunables)}')


def _descriptor(spec: Tunable) -> ParameterDescriptor:
    text = f'{spec.doc} [{spec.unit}]' if spec.unit else spec.doc
    descriptor = ParameterDescriptor(description=text, read_only=spec.read_only)
    descriptor.additional_constraints = f'one of {", ".join(spec.choices)}' if spec.choices else ''
    if spec.ge is not None and spec.le is not None:
        if spec.type is float:
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(spec.ge), to_value=float(spec.le))]
        elif spec.type is int:
            descriptor.integer_range = [IntegerRange(from_value=int(spec.ge), to_value=int(spec.le), step=1)]
    return descriptor


def _to_ros(value: Any) -> Any:
    # rclpy takes an empty list for a list of bytes.
    return value or [''] if isinstance(value, list) else value
