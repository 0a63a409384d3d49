"""Transforms as a running robot tells them: some once for good, others again and again with stamps."""

from __future__ import annotations

import functools
import threading

import numpy as np

from depth_ros.errors import OldTransformError, TransformError
from depth_ros.geometry.motion import Trajectory
from depth_ros.geometry.rigid import invert
from depth_ros.types import Pose

_NS = 1_000_000_000
_JUMP_NS = 2 * _NS


class TransformBuffer:
    """The newest transforms of every frame in its one parent; may be filled and asked from different threads."""

    def __init__(self) -> None:
        """Make an empty buffer."""
        self._lock = threading.Lock()
        self._static: dict[str, tuple[str, np.ndarray]] = {}
        self._moving: dict[str, Trajectory] = {}

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames, sorted."""
        with self._lock:
            return self._frames()

    def set_static(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Set where a frame is for good; takes the place of whatever was said of it before.

        Args:
            parent: frame.
            child: frame.
            parent_from_child: (4, 4) rigid transform, metres.
        """
        with self._lock:
            self._moving.pop(child, None)
            self._static[child] = (parent, parent_from_child)

    def add(self, pose: Pose) -> None:
        """Take in where a frame was at a time; another parent, or time that jumps back, starts anew."""
        with self._lock:
            known = self._moving.get(pose.child_frame_id)
            if known is None or known.parent != pose.frame_id or pose.stamp_ns < known.last_stamp_ns - _JUMP_NS:
                self._static.pop(pose.child_frame_id, None)
                known = self._moving[pose.child_frame_id] = Trajectory()
            known.add(pose)

    def lookup(self, target: str, source: str, stamp_ns: int, max_age_ns: int) -> np.ndarray:
        """Transform that takes points of ``source`` to ``target`` at a time.

        Args:
            target: frame of the result.
            source: frame of the points.
            stamp_ns: when. Between two stamps a transform is interpolated, outside of them the nearest is held.
            max_age_ns: for how long it is held.

        Returns:
            (4, 4) float64 ``target_from_source``.

        Raises:
            OldTransformError: a transform of the chain would be held for longer.
            TransformError: no chain joins the two.
        """
        with self._lock:
            over_target, over_source = self._ancestors(target), self._ancestors(source)
            common = next((frame for frame in over_source if frame in over_target), None)
            if common is None:
                raise TransformError(target, source, self._frames())
            up, down = over_source[: over_source.index(common)], over_target[: over_target.index(common)]
            steps = {frame: self._at(frame, stamp_ns) for frame in (*up, *down)}
        age_ns = max((step[1] for step in steps.values()), key=abs, default=0)
        if abs(age_ns) > max_age_ns:
            raise OldTransformError(target, source, age_ns, max_age_ns)
        # In the order of TransformTree.lookup, so that a replay, which reads its transforms ahead, gets the same bits.
        inward = [invert(steps[frame][0]) for frame in down]
        outward = [steps[frame][0] for frame in reversed(up)]
        return functools.reduce(np.matmul, [*inward, *outward], np.eye(4))

    def _frames(self) -> tuple[str, ...]:
        children = (*self._static, *self._moving)
        return tuple(sorted({*children, *map(self._parent, children)}))

    def _parent(self, child: str) -> str:
        return self._static[child][0] if child in self._static else self._moving[child].parent

    def _ancestors(self, frame: str) -> list[str]:
        """A frame, its parent, and so on; a loop of frames ends where it closes."""
        found = [frame]
        while (frame in self._static or frame in self._moving) and (frame := self._parent(frame)) not in found:
            found.append(frame)
        return found

    def _at(self, child: str, stamp_ns: int) -> tuple[np.ndarray, int]:
        """Parent from child, and how far its time is from the one asked for."""
        return (self._static[child][1], 0) if child in self._static else self._moving[child].held(stamp_ns)
