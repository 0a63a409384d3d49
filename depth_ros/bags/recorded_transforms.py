"""Transforms of a bag at a time: what never changes, and joints that move on ``/tf``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from depth_ros.errors import MessageError, OldTransformError, TransformError
from depth_ros.geometry.rigid import TransformTree
from depth_ros.geometry.transform_buffer import TransformBuffer
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.odometry import decode_transform
from depth_ros.types import Pose


class RecordedTransforms(TransformTree):
    """A tree of what never changes, and of what moves that which has been played, as a live node has heard it.

    Attributes:
        max_age_ns: for how long a moving transform is held, ns.
        resting: parent and child of what is on ``/tf`` and does not move in the bag: calibration, or a joint or the
            robot at rest.
    """

    def __init__(self) -> None:
        """Make it empty."""
        super().__init__()
        self.max_age_ns = 0
        self.resting: set[tuple[str, str]] = set()
        self._fixed: dict[str, tuple[str, np.ndarray]] = {}  # child -> parent, parent from child
        self._moving: set[tuple[str, str]] = set()  # parent, child
        self._joints: dict[tuple[str, str], str] = {}
        self._played = TransformBuffer()

    @property
    def moves(self) -> bool:
        """Whether some transform is known to move."""
        return bool(self._moving)

    def add(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """See ``TransformTree.add``; what moves the same child has no say any more."""
        super().add(parent, child, parent_from_child)
        parent, child = parent.lstrip('/'), child.lstrip('/')
        self.resting.discard((parent, child))  # said anew, as by the user, it is no longer what merely rested
        self._fixed[child] = parent, np.asarray(parent_from_child, dtype=np.float64)
        self._moving = {pair for pair in self._moving if pair[1] != child}
        self._joints.clear()

    def add_moving(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Name transforms, parent and child, that ``play`` will tell."""
        self._moving.update(pairs)
        self._joints.clear()

    def rewind(self) -> None:
        """Forget what was played, to play from the start."""
        self._played = TransformBuffer()
        for child, (parent, matrix) in self._fixed.items():
            self._played.set_static(parent, child, matrix)

    def play(self, message: Any) -> None:
        """Take in what moves in a ``tf2_msgs/TFMessage``; what cannot be decoded is passed over."""
        for item in message.transforms:
            with suppress(MessageError):
                parent, child, matrix = decode_transform(item)
                if (parent, child) in self._moving:
                    self._played.add(Pose(stamp_ns(item), matrix, parent, child))

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> np.ndarray:
        """Transform that takes points of ``source`` to ``target``.

        Args:
            target: frame of the result.
            source: frame of the points.
            stamp_ns: when; None = at all times, so that what moves is no answer.

        Returns:
            (4, 4) float64 ``target_from_source``.

        Raises:
            OldTransformError: a moving transform would be held for longer than ``max_age_ns``.
            TransformError: no chain joins the two, or none that has been played.
        """
        target, source = target.lstrip('/'), source.lstrip('/')
        if (target, source) not in self._joints:
            with suppress(TransformError):
                return super().lookup(target, source)
        joints, hint = self.joints(target, source), ''
        if joints and stamp_ns is None:
            hint = f'what joins them moves on /tf ({joints})'
        elif joints:
            try:
                return self._played.lookup(target, source, stamp_ns, self.max_age_ns)
            except OldTransformError:
                raise
            except TransformError:
                hint = f'what joins them moves on /tf ({joints}) and had not come yet'
        raise TransformError(target, source, self.frames, hint)

    def joints(self, target: str, source: str) -> str:
        """What moves between two frames that are not joined for good, as text; '' if nothing joins them."""
        if (target, source) not in self._joints:
            everything = TransformTree()
            for parent, child in (*((parent, child) for child, (parent, _) in self._fixed.items()), *self._moving):
                everything.add(parent, child, np.eye(4))  # who is joined with whom is all that counts
            moving = []
            with suppress(TransformError):
                for step in pairwise(everything.chain(target, source)):
                    moving += [pair for pair in (step, step[::-1]) if pair in self._moving]
            self._joints[target, source] = ', '.join(f'{parent} to {child}' for parent, child in moving)
        return self._joints[target, source]
