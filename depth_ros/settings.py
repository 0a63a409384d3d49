"""Every tunable, once: default, meaning, unit and bounds.

The node declares its parameters from here, replay and training read the same fields, and YAML holds only differences.
A parameter's ROS name is ``group.field``. Fields have ROS types only (bool, int, float, str, list of str), so there is
no None: where a value can be absent, the docstring names the sentinel.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from depth_ros.errors import SettingsError
from depth_ros.settings_files import read_mapping, sections

ROS_PARAMETERS = ('use_sim_time', 'start_type_description_service', 'autostart')
"""Parameters of the node that say nothing about the method; ``qos_overrides.*`` are the others."""
_SECTIONS_READ = ('depth_node', '**', '*')  # last part of a node's name in a parameter file
METHODS = ('auto', 'classical', 'network', 'exported', 'nearest', 'linear', 'ip_basic')


def param(
    default: Any,
    doc: str,
    *,
    unit: str = '',
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    """Declare one tunable of a settings group.

    Args:
        default: default value; its type is the parameter's type.
        doc: one sentence, ending with a full stop.
        unit: unit of the value, '' if it has none.
        ge: smallest value allowed.
        le: largest value allowed.
        choices: allowed strings, () = any.
        read_only: True if it is read when the process starts, and cannot be changed after.

    Returns:
        A dataclass field.
    """
    metadata = {'doc': doc, 'unit': unit, 'ge': ge, 'le': le, 'choices': choices, 'read_only': read_only}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class InputSettings:
    """How the node takes its topics in."""

    image_transport: str = param(
        'auto',
        'Which image topic is read: raw (image), compressed (image/compressed), auto (raw where it is published, else '
        'compressed).',
        choices=('auto', 'raw', 'compressed'),
        read_only=True,
    )
    max_delay: float = param(
        0.2,
        'When the estimator is slower than the camera, an image that lay unread for longer than this, or came longer '
        'ago than this and the wait for lidar, is dropped and counted if a newer one is there.',
        unit='s',
        ge=0.0,
        le=10.0,
    )


@dataclass(frozen=True)
class PairingSettings:
    """Which lidar sweeps belong to an image."""

    wait: float = param(
        0.1,
        'An image waits at most this long for a sweep that is nearer in time than those at hand; 0 = never.',
        unit='s',
        ge=0.0,
        le=2.0,
    )
    max_age: float = param(
        0.5, 'A sweep farther than this from the image in time is not used.', unit='s', ge=0.0, le=10.0
    )
    scans: int = param(
        1,
        'Sweeps put together into one measurement; more than one needs odometry, else the nearest alone is used.',
        ge=1,
        le=20,
    )
    queue_size: int = param(
        8, 'Images that may wait; when one more comes, the oldest is dropped and counted.', ge=1, le=100
    )


@dataclass(frozen=True)
class MotionSettings:
    """How lidar points are moved to the time of the image."""

    compensate: bool = param(True, 'Move points by the odometry between their time and the time of the image.')
    deskew: bool = param(True, 'Move each point by its own time where the cloud has one, else the sweep as a whole.')
    max_extrapolation: float = param(
        0.1, 'Poses are extrapolated at constant velocity over at most this time.', unit='s', ge=0.0, le=1.0
    )
    assumed_speed: float = param(
        2.0,
        'Where no pose is known, the standard deviation of a measurement grows by this much per second of age.',
        unit='m/s',
        ge=0.0,
        le=50.0,
    )


@dataclass(frozen=True)
class ProjectionSettings:
    """Which lidar points count as measurements of the image."""

    min_depth: float = param(0.2, 'Nearer points are dropped (the robot itself).', unit='m', ge=0.0, le=10.0)
    max_depth: float = param(250.0, 'Farther points are dropped.', unit='m', ge=1.0, le=1000.0)
    remove_hidden: bool = param(True, 'Drop points that the lidar sees and the camera, standing elsewhere, does not.')
    hidden_margin: float = param(
        0.08, 'A point is hidden if something this much nearer, as a share of its depth, covers it.', ge=0.01, le=0.9
    )
    range_std: float = param(0.03, 'Standard deviation of the range noise of the lidar.', unit='m', ge=0.0, le=1.0)


@dataclass(frozen=True)
class EstimatorSettings:
    """Which method turns sparse depth into dense depth."""

    method: str = param(
        'auto',
        'Estimator; auto = the network where something that runs it is installed, else, with a warning, classical; '
        'network = in torch, or where that is not installed in an engine; exported = in an engine (OpenVINO, ONNX '
        'Runtime).',
        choices=METHODS,
        read_only=True,
    )
    downscale: int = param(
        0,
        'The estimator sees every n rows and columns of the image as one; more is faster and coarser. 0 = what it does '
        'best on: networks see images of about 0.4 million pixels (n is 1 up to 0.8 million, 2 up to 2.4), classical '
        'sees all.',
        ge=0,
        le=8,
    )
    checkpoint: str = param(
        '',
        'Weights of the network: a .safetensors file for torch, an .onnx file for engines; empty = those that ship.',
        read_only=True,
    )
    device: str = param(
        'auto',
        'What runs the weights; auto = a GPU if there is one, and what is fastest; the diagnostics say what and why.',
        choices=('auto', 'cpu', 'cuda'),
        read_only=True,
    )
    precision: str = param(
        'auto',
        'Precision of the weights; auto = f16 in torch and TensorRT on GPUs, f32 in torch on CPUs, else that of the '
        'file. An engine says what it cannot do.',
        choices=('auto', 'f32', 'f16', 'bf16'),
        read_only=True,
    )
    compile: bool = param(
        False, 'Whether network is compiled by torch: slow to start, faster to run.', read_only=True
    )
    threads: int = param(
        0,
        'CPU threads of exported, and of what makes the input of a network (at most 8); 0 = one per core.',
        ge=0,
        le=1024,
        read_only=True,
    )
    fallback: bool = param(
        False,
        'Whether classical is used, with a warning, where weights or their engine cannot be used, or memory runs out; '
        'auto with the weights that ship does so anyhow.',
        read_only=True,
    )


@dataclass(frozen=True)
class ClassicalSettings:
    """The estimator without weights."""

    reach: float = param(
        0.32,
        'How far the plane of a sample is carried over an image without edges, in units of the spacing of samples.',
        ge=0.0,
        le=10.0,
        read_only=True,
    )
    mesh_share: float = param(
        0.25,
        'Share of plain linear interpolation in the result; it halves the worst errors where the image misleads.',
        ge=0.0,
        le=1.0,
        read_only=True,
    )


@dataclass(frozen=True)
class OutputSettings:
    """What is published, and how."""

    encoding: str = param(
        '32FC1', 'Depth as 32FC1 (metres, NaN unknown) or 16UC1 (millimetres, 0 unknown).', choices=('32FC1', '16UC1')
    )
    max_relative_std: float = param(
        1.0,
        'Pixels whose standard deviation is above this share of their depth become unknown, as the sky is above any; '
        '0 = keep all.',
        ge=0.0,
        le=10.0,
    )
    cloud_stride: int = param(1, 'The cloud holds every n-th row and column.', ge=1, le=16)
    color_max_depth: float = param(80.0, 'Depth at the far end of the colour scale.', unit='m', ge=0.5, le=1000.0)


@dataclass(frozen=True)
class GradingSettings:
    """How the robot grades itself while it runs."""

    withhold: float = param(
        0.02,
        'Share of the lidar points that is kept from the estimator and used to score it; 0 = no grade.',
        ge=0.0,
        le=0.9,
    )
    window: int = param(100, 'Images that the grade in the diagnostics covers.', ge=1, le=10000)


@dataclass(frozen=True)
class CameraSettings:
    """How CameraInfo is read."""

    images: str = param(
        'auto',
        'Whether images are raw (follow k and d of the CameraInfo) or rectified (p and r); auto: by the name of the '
        'topic and by d.',
        choices=('auto', 'raw', 'rectified'),
        read_only=True,
    )


@dataclass(frozen=True)
class TransformSettings:
    """Where cameras, lidars and the robot's base are, for places without TF."""

    static: list[str] = param(
        [],
        "Static transforms, each 'parent child x y z qx qy qz qw' (metres, unit quaternion), used before TF.",
        read_only=True,
    )
    max_age: float = param(
        1.0,
        'A transform of /tf is held for at most this long after its stamp, then images are refused; those of '
        '/tf_static hold for good.',
        unit='s',
        ge=0.0,
        le=3600.0,
    )
    lidar_frame: str = param(
        '', 'Frame of the points, in place of the one that clouds name; empty = as they say.', read_only=True
    )
    camera_frame: str = param(
        '', 'Optical frame of the camera, in place of the one that images name; empty = as they say.', read_only=True
    )

    def __post_init__(self) -> None:
        for name in ('lidar_frame', 'camera_frame'):  # frames of messages lose the slash of ROS 1, too
            if isinstance(frame := getattr(self, name), str):
                object.__setattr__(self, name, frame.lstrip('/'))


@dataclass(frozen=True)
class DiagnosticsSettings:
    """When the node calls something wrong."""

    period: float = param(0.5, 'Time between two diagnostics messages.', unit='s', ge=0.1, le=10.0)
    stale: float = param(
        1.0, 'An input that sent nothing for this long is reported as stopped.', unit='s', ge=0.1, le=60.0
    )


@dataclass(frozen=True)
class Settings:
    """All groups."""

    input: InputSettings = field(default_factory=InputSettings)
    pairing: PairingSettings = field(default_factory=PairingSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    projection: ProjectionSettings = field(default_factory=ProjectionSettings)
    estimator: EstimatorSettings = field(default_factory=EstimatorSettings)
    classical: ClassicalSettings = field(default_factory=ClassicalSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    grading: GradingSettings = field(default_factory=GradingSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    transforms: TransformSettings = field(default_factory=TransformSettings)
    diagnostics: DiagnosticsSettings = field(default_factory=DiagnosticsSettings)

    def __post_init__(self) -> None:
        for spec in parameters(type(self)):
            group, name = spec.name.split('.')
            spec.check(getattr(getattr(self, group), name))


@dataclass(frozen=True)
class Parameter:
    """One tunable as node, YAML loader and documentation see it.

    Attributes:
        name: ``group.field``.
        type: bool, int, float, str or list (of str).
        default: default value.
        doc: one sentence.
        unit: unit or ''.
        ge: smallest value or None.
        le: largest value or None.
        choices: allowed strings, () = any.
        read_only: True if it acts only at configuration.
    """

    name: str
    type: type
    default: Any
    doc: str
    unit: str
    ge: float | None
    le: float | None
    choices: tuple[str, ...]
    read_only: bool

    def check(self, value: Any) -> Any:
        """Return the value in this parameter's type.

        Args:
            value: as YAML, ROS or the caller gave it; an int is taken for a float.

        Returns:
            The value, converted.

        Raises:
            SettingsError: wrong type, out of range, or not among the choices.
        """
        if type(value) is int and value.bit_length() > 63:
            raise SettingsError(f'{self.name} is a number of {value.bit_length()} bits, expected at most 63')
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type:
            raise SettingsError(f'{self.name} is {value!r}, expected {self.type.__name__}')
        if self.type is list and not all(isinstance(item, str) for item in value):
            raise SettingsError(f'{self.name} is {value!r}, expected a list of strings')
        if self.type is list:
            value = [item for item in value if item]  # [''] is how ROS writes an empty list of strings
        if self.choices and value not in self.choices:
            raise SettingsError(f'{self.name} is {value!r}, expected one of {", ".join(self.choices)}')
        if self.type in (int, float) and not (
            math.isfinite(value) and (self.ge is None or value >= self.ge) and (self.le is None or value <= self.le)
        ):
            raise SettingsError(f'{self.name} is {value}, expected {self.ge} to {self.le} {self.unit}'.rstrip())
        return value


def parameters(settings: type[Settings] = Settings) -> Iterator[Parameter]:
    """Yield every tunable, group by group, in the order of declaration."""
    for group_field in dataclasses.fields(settings):
        group = get_type_hints(settings)[group_field.name]
        for item in dataclasses.fields(group):
            default = item.default if item.default is not dataclasses.MISSING else item.default_factory()
            yield Parameter(
                name=f'{group_field.name}.{item.name}', type=type(default), default=default, **item.metadata
            )


def from_flat(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Build settings from ``{'group.field': value}``.

    Args:
        values: differences from ``base``.
        base: settings to start from; None = the defaults.

    Returns:
        New settings.

    Raises:
        SettingsError: an unknown name, a wrong type, or a value out of range.
    """
    settings = base or Settings()
    known = {spec.name: spec for spec in parameters(type(settings))}
    changes: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {near[0]!r}? ' if near else ''
            raise SettingsError(f'unknown parameter {name!r}; {hint}known: {", ".join(known)}')
        group, item = name.split('.')
        changes.setdefault(group, {})[item] = known[name].check(value)
    groups = {group: dataclasses.replace(getattr(settings, group), **items) for group, items in changes.items()}
    return dataclasses.replace(settings, **groups)


def to_flat(settings: Settings) -> dict[str, Any]:
    """Return every value as ``{'group.field': value}``."""
    names = (spec.name.split('.') for spec in parameters(type(settings)))
    return {f'{group}.{item}': getattr(getattr(settings, group), item) for group, item in names}


def load_yaml(path: Path) -> dict[str, Any]:
    """Read the differences from a node's parameter file.

    Args:
        path: YAML with ``NODE: ros__parameters: ...`` (nested or dotted keys), or bare groups. Sections for all nodes
            (``/**``) and for ``depth_node`` in any namespace are read; as in ROS, the later one wins. Those of other
            nodes are not.

    Returns:
        ``{'group.field': value}`` for ``from_flat``; ``ROS_PARAMETERS`` and QoS overrides left out.

    Raises:
        SettingsError: no such file, no YAML, no mapping, something that stands twice or beside the sections of nodes,
            only sections of other nodes, or depth nodes that differ.
    """
    content = read_mapping(path)
    nodes = sections(content, path)
    if not nodes:
        return _settable(content)
    ours = [(node, _settable(section)) for node, section in nodes if node.split('/')[-1] in _SECTIONS_READ]
    if not ours:
        others = ', '.join(node for node, _ in nodes)
        raise SettingsError(
            f'parameters {str(path)!r} are for {others}, expected a section depth_node or /**; add or rename it'
        )
    # Each for a namespace of its own, and none of them for the node that is meant here.
    named = [(node, values) for node, values in ours if node != '/**']
    for node, values in named[1:]:
        if values != named[0][1]:
            raise SettingsError(
                f'parameters {str(path)!r} differ for {named[0][0]} and {node}, expected those of one depth_node; '
                'keep one of these sections'
            )
    return {name: value for _, values in ours for name, value in values.items()}


def _settable(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in _flatten(section).items()
        if name not in ROS_PARAMETERS and not name.startswith('qos_overrides.')
    }


def _flatten(section: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        name = f'{prefix}{key}'
        for item, of in (_flatten(value, f'{name}.') if isinstance(value, Mapping) else {name: value}).items():
            if item in flat:
                raise SettingsError(f'{item} is set twice, nested and dotted, expected it once; keep one of them')
            flat[item] = of
    return flat
