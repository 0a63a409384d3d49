"""Bags as training samples, through the pipeline that the robot uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from depth_ros.bags.companion import TrueDepth
from depth_ros.bags.recording import Recording
from depth_ros.errors import BagError, FrameRefused
from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.geometry.projection import concatenate
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings
from depth_ros.types import Frame
from depth_ros_training.data.plan import check_every
from depth_ros_training.data.sample import Sample, empty_points, rings_of


class _SamplePipeline(DepthPipeline):
    """The pipeline up to the point where a robot would estimate."""

    def __init__(self, settings: Settings, recording: Recording, name: str, truth: TrueDepth) -> None:
        super().__init__(settings, recording.transforms, NearestEstimator())
        self._name, self._truth = name, truth

    def process(self, frame: Frame) -> Sample:  # type: ignore[override]
        """Make a sample of an image; one without lidar, but with truth, is a sample too."""
        truth = self._truth.depth_at(frame.stamp_ns, frame.camera.frame_id)
        try:
            sweeps = self.project(frame)
        except FrameRefused:
            if truth is None:
                raise
            sweeps = []
        points, ring = empty_points(), np.zeros(0, np.int16)
        if sweeps:
            points = concatenate([part for _, part in sweeps])
            ring = np.concatenate([rings_of(scan, part) for scan, part in sweeps])
        return Sample(
            f'{self._name}/{frame.stamp_ns}',
            self._name,
            np.ascontiguousarray(frame.rgb()),
            frame.camera,
            points,
            ring,
            truth,
            exact=truth is not None,
        )


def read_bag(
    path: Path,
    every: int = 1,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    name: str = '',
    count: Callable[[int], None] = lambda number: None,
) -> Iterator[Sample]:
    """Read a bag as samples.

    Args:
        path: a bag that ``depth_ros inspect`` understands; the topic ``/truth/depth``, if there, is the true depth.
        every: only every n-th image.
        settings: of the pipeline.
        name: of the recording; '' = that of the bag.
        count: called with 1 for every image that is done.

    Yields:
        Samples, in the order of the images; images that are refused (no lidar within reach, say) are left out.

    Raises:
        BagError: the bag cannot be read, or no image makes a sample.
        SettingsError: ``every`` is less than 1.
    """
    path = Path(path)
    check_every(every)
    truth = TrueDepth(path)
    refused: Counter[str] = Counter()
    num_samples = 0
    try:
        with Recording(path, settings=settings) as recording:
            pipeline = _SamplePipeline(settings, recording, name or path.stem, truth)
            for answer in replay(recording.events(), pipeline, ReplayCounts(), every, bounded=False):
                count(1)
                if isinstance(answer, FrameRefused):
                    refused[answer.reason] += 1
                    continue
                num_samples += 1
                yield answer
    finally:
        truth.close()
    if not num_samples:
        raise BagError(f'no image of {str(path)!r} makes a sample: {dict(refused) or "there is none"}')
