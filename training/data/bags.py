"""Bags as training samples, through the pipeline that the robot uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from depth_ros.bags.frames import TRUTH_TOPIC
from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.errors import BagError, FrameRefused
from depth_ros.estimators.yardsticks import NearestEstimator
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.geometry.depth_image import to_metres
from depth_ros.geometry.projection import ProjectedPoints, concatenate
from depth_ros.geometry.rings import infer_rings
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.image import read_rows
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings
from depth_ros.types import Frame, LidarScan
from depth_ros_training.data.sample import UNKNOWN_RING, Sample, empty_points

_FLOAT = np.dtype(np.float32)


class _SamplePipeline(DepthPipeline):
    """The pipeline up to the point where a robot would estimate."""

    def __init__(self, settings: Settings, recording: Recording, name: str, truth: _Truth) -> None:
        super().__init__(settings, recording.transforms, NearestEstimator())
        self._name, self._truth = name, truth

    def process(self, frame: Frame) -> Sample:  # type: ignore[override]
        """Make a sample of an image; one without lidar, but with truth, is a sample too."""
        truth = self._truth.at(frame.stamp_ns)
        try:
            sweeps = self.project(frame)
        except FrameRefused:
            if truth is None:
                raise
            sweeps = []
        points, ring = empty_points(), np.zeros(0, np.int16)
        if sweeps:
            points = concatenate([part for _, part in sweeps])
            ring = np.concatenate([_rings(scan, part) for scan, part in sweeps])
        return Sample(
            f'{self._name}/{frame.stamp_ns}',
            self._name,
            np.ascontiguousarray(frame.rgb()),
            frame.camera,
            points,
            ring,
            truth,
        )


class _Truth:
    """True depth images of a bag, asked for in the order of their stamps."""

    def __init__(self, path: Path) -> None:
        self._reader = BagReader(path)
        self._messages = self._reader.messages([TRUTH_TOPIC]) if self._reader.has(TRUTH_TOPIC) else iter(())
        self._ahead: dict[int, np.ndarray] = {}

    def at(self, stamp: int) -> np.ndarray | None:
        """(H, W) float32 metres, NaN = unknown; None where the bag has none for this stamp."""
        while stamp not in self._ahead:
            record = next(self._messages, None)
            if record is None:
                return None
            found = stamp_ns(record.message)
            if found >= stamp:
                self._ahead[found] = to_metres(read_rows(record.message, _FLOAT, 1), record.message.encoding)
        return self._ahead.pop(stamp)

    def close(self) -> None:
        self._reader.close()


def read_bag(path: Path, every: int = 1, settings: Settings = Settings()) -> Iterator[Sample]:  # noqa: B008 (frozen)
    """Read a bag as samples.

    Args:
        path: a bag that ``depth_ros inspect`` understands; the topic ``/truth/depth``, if there, is the true depth.
        every: only every n-th image.
        settings: of the pipeline.

    Yields:
        Samples, in the order of the images; images that are refused (no lidar within reach, say) are left out.

    Raises:
        BagError: the bag cannot be read, or no image makes a sample.
    """
    path = Path(path)
    truth = _Truth(path)
    refused: Counter[str] = Counter()
    count = 0
    try:
        with Recording(path, settings=settings) as recording:
            pipeline = _SamplePipeline(settings, recording, path.stem, truth)
            for answer in replay(recording.events(), pipeline, ReplayCounts(), every):
                if isinstance(answer, FrameRefused):
                    refused[answer.reason] += 1
                    continue
                count += 1
                yield answer
    finally:
        truth.close()
    if not count:
        raise BagError(f'no image of {str(path)!r} makes a sample: {dict(refused) or "there is none"}')


def _rings(scan: LidarScan, points: ProjectedPoints) -> np.ndarray:
    if scan.ring is not None:
        return scan.ring[points.index].astype(np.int16)
    found = infer_rings(scan.points)
    if found is None:
        return np.full(len(points), UNKNOWN_RING, np.int16)
    return found[0][points.index].astype(np.int16)
