"""The few images by which an adaptation chooses: of the robot's own recordings, and of what is replayed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from depth_ros.errors import RecordingError
from depth_ros_training.data.dataset import INDEX, DatasetFolder
from depth_ros_training.data.sample import Sample
from depth_ros_training.data.splits import evenly
from depth_ros_training.data.store import SampleFolder, SampleWriter

# Of replay many: by 2 images of each recording the changes spread twice as far as by 5, and their spread chooses, too.
_NUM_OWN_IMAGES, _NUM_REPLAY_IMAGES = 8, 60
_REPLAY_SHARE = 10  # one of so many recordings of replay is not trained on,
_MIN_REPLAY = 4  # from so many on: of fewer, each is a large part of what is known
_MAX_REPLAY = 12
_NUM_LOOKS = 5  # at a recording, for lidar
_BANDS = 64  # of rows, in the place of rings


def write_own(dataset: Path, folder: Path) -> None:
    """Write a few images of the part that chooses as samples; all of them would take longer than the training.

    Args:
        dataset: the prepared dataset, whose split ``val`` has lidar.
        folder: where to; what is there whole stays as it is.

    Raises:
        RecordingError: the dataset cannot be read.
        OutputError: they cannot be written.
    """
    if _is_whole(folder):
        return
    part = DatasetFolder(dataset, 'val')
    able = [number for number in range(len(part)) if 'points' in part.entry(number)]
    with SampleWriter(folder) as writer:
        for place in evenly(len(able), _NUM_OWN_IMAGES):
            writer.add(_judging(part[able[place]]))


def open_replay(folder: Path) -> DatasetFolder | SampleFolder:
    """Open what is mixed in: the training part of a dataset, or samples.

    Raises:
        RecordingError: it is neither.
    """
    return DatasetFolder(folder, 'train') if (folder / INDEX).is_file() else SampleFolder(folder)


def leave_out(replay: Path, folder: Path, own: Collection[str]) -> list[str]:
    """Choose whole recordings of replay that are not trained on, and write a few of their images as samples.

    Each tenth recording with lidar, evenly spread, at least one; none where there are fewer than four.

    Args:
        replay: samples or a dataset.
        folder: where to; what is there whole was chosen before, and stays as it is.
        own: names of the robot's own recordings, none of which is chosen: training leaves recordings out by name.

    Returns:
        The names of the recordings.

    Raises:
        RecordingError: something cannot be read.
        OutputError: the images cannot be written.
    """
    if _is_whole(folder):
        return list(SampleFolder(folder).groups)
    opened = open_replay(replay)
    groups = opened.groups
    seen = {name: _with_lidar(group) for name, group in groups.items() if name not in own}
    able = [name for name, place in seen.items() if place is not None]
    if len(able) < _MIN_REPLAY:
        return []
    count = min(-(-len(able) // _REPLAY_SHARE), _MAX_REPLAY)
    chosen = [able[place] for place in evenly(len(able), count)]
    each = _NUM_REPLAY_IMAGES // count
    with SampleWriter(folder) as writer:
        for name in chosen:
            samples = [groups[name][place] for place in evenly(len(groups[name]), each)]
            # At least one of each.
            for sample in [sample for sample in samples if len(sample.points)] or [groups[name][seen[name]]]:
                writer.add(_judging(sample))
    return chosen


def _with_lidar(group: Sequence[Sample]) -> int | None:
    """Place of an image with lidar, if one of some has any; a camera may have begun long before the lidar."""
    return next((place for place in evenly(len(group), _NUM_LOOKS) if len(group[place].points)), None)


def _is_whole(folder: Path) -> bool:
    try:
        SampleFolder(folder)
    except RecordingError:
        return False
    return True


def _judging(sample: Sample) -> Sample:
    """A sample without other images, whose points all have a ring: bands of rows where the lidar names none.

    Its truth stays where it is exact; that of a dataset is what the sweeps around the image saw.
    """
    sample = dataclasses.replace(sample, others=(), truth=sample.truth if sample.exact else None)
    if len(sample.ring) and sample.ring.min() >= 0:
        return sample
    bands = np.clip(sample.points.v * (_BANDS / sample.camera.height), 0, _BANDS - 1)
    return dataclasses.replace(sample, ring=bands.astype(np.int16))
