"""Every error that depth_ros raises on purpose.

A message is one line: what came, what was expected, what to do. Commands print it and exit with 2; nodes count it,
name it in the diagnostics and wait for the next message.
"""

from __future__ import annotations


class DepthRosError(Exception):
    """Base of all errors raised by depth_ros."""


class ShapeError(DepthRosError, ValueError):
    """An array has another shape or dtype than the function takes."""


class MessageError(DepthRosError, ValueError):
    """A message cannot be decoded: wrong encoding, step, size, field or value."""


class CameraError(DepthRosError, ValueError):
    """A camera model is unusable: zero or non-finite intrinsics, unknown distortion model, wrong size."""


class TransformError(DepthRosError, LookupError):
    """No chain of transforms joins two frames.

    Attributes:
        target: frame that was asked for.
        source: frame that the points are in.
    """

    def __init__(self, target: str, source: str, known: tuple[str, ...] = (), hint: str = '') -> None:
        self.target = target
        self.source = source
        frames = ', '.join(sorted(known)) or 'none'
        text = f'no transform from {source!r} to {target!r} (known frames: {frames})'
        super().__init__(f'{text}; {hint}' if hint else text)


class OldTransformError(TransformError):
    """Two frames are joined, but a transform between them is too far in time from the image.

    Attributes:
        age_ns: how much older than the image the transform is; negative = newer.
    """

    def __init__(self, target: str, source: str, age_ns: int, max_age_ns: int) -> None:
        super().__init__(target, source)
        self.age_ns = age_ns
        self.args = (
            f'the transform from {source!r} to {target!r} on /tf is {abs(age_ns) / 1e9:.2f} s '
            f'{"older" if age_ns > 0 else "newer"} than the image, expected within {max_age_ns / 1e9:g} s '
            '(transforms.max_age); its publisher stopped, lags, or has another clock; what never moves belongs on '
            '/tf_static',
        )


class SettingsError(DepthRosError, ValueError):
    """A setting is unknown, of the wrong type or out of its range."""


class BagError(DepthRosError, ValueError):
    """A bag is missing, damaged, empty, or lacks a topic that is needed."""


class DamagedBagError(BagError):
    """A bag cannot be read from some message on; what came before is whole."""


class RecordingError(DepthRosError, ValueError):
    """A public recording (KITTI, ...) has another layout than the importer reads."""


class MissingDependencyError(DepthRosError, ImportError):
    """An optional library is not installed; the message names the command that installs it."""


class OutputError(DepthRosError, OSError):
    """An output file or folder cannot be written; nothing half-written is left."""


class CheckpointError(DepthRosError, ValueError):
    """A checkpoint or exported network is missing, damaged, or of another kind."""


class TrainingError(DepthRosError, RuntimeError):
    """Training cannot go on: the loss is not finite, or the state is of another run."""


class FrameRefused(DepthRosError):
    """A camera frame gets no depth, for a stated reason.

    Attributes:
        reason: short stable key, used as the name of a counter (for example ``no_lidar``).
    """

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(text)
