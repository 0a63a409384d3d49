"""A recording through the pipeline, just as the live node takes it, but with time enough for every image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from depth_ros.errors import DepthRosError, FrameRefused
from depth_ros.pipeline import DepthPipeline, FrameQueue, refusal_reason
from depth_ros.types import DepthEstimate, Frame, LidarScan, Pose

Event = tuple[int, Frame | LidarScan | Pose]


@dataclass
class ReplayCounts:
    """What went in, and what was passed over on purpose.

    Attributes:
        num_frames: images read.
        num_scans: lidar sweeps read.
        num_poses: poses read.
        num_skipped: images left out by ``every``.
        num_dropped: images that fell out of the waiting queue (``pairing.queue_size``).
        read_ns: wall time of reading and decoding, per image (with the sweeps and poses before it), ns.
    """

    num_frames: int = 0
    num_scans: int = 0
    num_poses: int = 0
    num_skipped: int = 0
    num_dropped: int = 0
    read_ns: list[int] = field(default_factory=list)


def replay(
    events: Iterable[Event], pipeline: DepthPipeline, counts: ReplayCounts, every: int = 1, bounded: bool = True
) -> Iterator[DepthEstimate | FrameRefused]:
    """Play a recording's events through a pipeline.

    Images wait for lidar by the clock of the bag's log, as they do live by the node's clock; an image whose time is up
    is answered before what was logged later is taken in. At the end of the recording those that still wait are
    answered.

    Args:
        events: (log time in ns, what was logged), in the order of the log.
        pipeline: the method; not used by anyone else.
        counts: filled along the way.
        every: only every n-th image is answered, from the first on.
        bounded: whether images fall out of the queue as they do live, see ``FrameQueue``.

    Yields:
        One answer per image: an estimate, or the refusal with its reason.
    """
    queue = FrameQueue(pipeline, bounded)
    last_ns, started, read_ns = 0, time.perf_counter_ns(), 0
    for log_ns, event in events:
        read_ns += time.perf_counter_ns() - started
        last_ns = log_ns
        yield from _answers(queue, pipeline, log_ns)
        if isinstance(event, Frame):
            counts.read_ns.append(read_ns)
            read_ns = 0
            counts.num_frames += 1
            if (counts.num_frames - 1) % every:
                counts.num_skipped += 1
            else:
                queue.push(event, log_ns)
        elif isinstance(event, LidarScan):
            counts.num_scans += 1
            pipeline.add_scan(event)
        else:
            counts.num_poses += 1
            pipeline.add_pose(event)
        counts.num_dropped = queue.num_dropped
        yield from _answers(queue, pipeline, log_ns)
        started = time.perf_counter_ns()
    # No wait is as long as a day.
    yield from _answers(queue, pipeline, last_ns + 86_400_000_000_000)


def _answers(queue: FrameQueue, pipeline: DepthPipeline, now_ns: int) -> Iterator[DepthEstimate | FrameRefused]:
    while (frame := queue.pop(now_ns)) is not None:
        yield _answer(pipeline, frame)


def _answer(pipeline: DepthPipeline, frame: Frame) -> DepthEstimate | FrameRefused:
    try:
        return pipeline.process(frame)
    except FrameRefused as refusal:
        return refusal
    except DepthRosError as error:
        # One image that cannot be answered does not end the replay, as it does not end the node.
        return FrameRefused(refusal_reason(error, 'image'), str(error))
