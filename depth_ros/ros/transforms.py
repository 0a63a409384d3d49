"""Where frames are: first what the parameters say, then TF where it is installed."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from depth_ros.errors import TransformError
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.odometry import decode_transform

_SET_PARAMETER = (
    "set the parameter transforms.static ('parent child x y z qx qy qz qw'; "
    '`depth_ros inspect BAG --node-params FILE` writes it)'
)


class NodeTransforms:
    """Transforms for a pipeline; a missing one is an error each time it is asked for, and works from when it arrives.

    Attributes:
        source: where transforms come from, for the diagnostics.
    """

    def __init__(self, node: Node, static: list[str]) -> None:
        """Listen to TF.

        Args:
            node: node that listens.
            static: lines for ``TransformTree.add_text``; they come before TF.

        Raises:
            SettingsError: a line has another form.
        """
        self._tree = TransformTree()
        for line in static:
            self._tree.add_text(line)
        self._buffer = self._listener = None
        try:
            import tf2_ros
        except ImportError:
            self.source = 'transforms.static only (tf2_ros is not installed)'
            self._hint = f'tf2_ros is not installed, so {_SET_PARAMETER}'
        else:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)
            self.source = 'transforms.static, then TF'
            self._hint = f'publish it on /tf_static, or {_SET_PARAMETER}'

    def lookup(self, target: str, source: str) -> np.ndarray:
        """(4, 4) target_from_source.

        Raises:
            TransformError: neither the parameters nor TF join the frames.
        """
        try:
            return self._tree.lookup(target, source)
        except TransformError:
            if self._buffer is None:
                raise TransformError(target, source, self._tree.frames, self._hint) from None
        import tf2_ros

        try:
            return decode_transform(self._buffer.lookup_transform(target, source, Time()))[2]
        except tf2_ros.TransformException as error:
            known = (*self._tree.frames, *self._buffer.all_frames_as_yaml().split(':')[:1])
            raise TransformError(target, source, known, f'TF says: {error}; {self._hint}') from error

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
