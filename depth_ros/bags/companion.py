"""What was recorded together with an image under the same stamp, such as the true depth of a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np

from depth_ros.bags.reader import BagReader
from depth_ros.errors import BagError
from depth_ros.geometry.depth_image import to_metres
from depth_ros.messages.header import stamp_ns
from depth_ros.messages.image import read_rows

TRUTH_TOPIC = '/truth/depth'  # 32FC1 metres, NaN = unknown
_FLOAT = np.dtype(np.float32)
# Stamps that fall by more than this begin anew, as those of a bag that was recorded of another one played in a loop.
_JUMP_NS = 1_000_000_000


class Companion:
    """Messages of a topic, asked for in the order of their stamps, which may begin anew. Close it when done."""

    def __init__(
        self, path: Any, topic: str, tolerance_ns: int = 0, start_ns: int | None = None, stop_ns: int | None = None
    ) -> None:
        """Open the bag.

        Args:
            path: the bag.
            topic: its messages have headers; a topic that is not there has no messages.
            tolerance_ns: how far the stamp of a message may be from that asked for.
            start_ns: only what was recorded at this time or later, ns.
            stop_ns: only what was recorded before this time, ns.
        """
        self._reader = BagReader(path)
        has = self._reader.has(topic)
        self._messages = self._reader.messages([topic], start_ns, stop_ns) if has else iter(())
        self._tolerance_ns = tolerance_ns
        self._ahead: list[tuple[int, Any]] = []
        self._next: tuple[int, Any] | None = None  # read, and of a round that was not asked for yet
        self._newest = self._asked = -(2**62)

    def at(self, stamp: int) -> Any | None:
        """The message of a stamp, None where there is none; of those asked for before nothing is kept."""
        begins_anew = stamp < self._asked - _JUMP_NS
        self._asked = stamp
        if begins_anew:
            self._ahead = []
        while begins_anew or not self._ahead or self._ahead[-1][0] <= stamp + self._tolerance_ns:
            item = self._next or self._read()
            self._next = None
            if item is None:
                break
            if item[0] < self._newest - _JUMP_NS:
                if not begins_anew:
                    self._next = item
                    break
                begins_anew = False
            self._newest = item[0]
            if not begins_anew:
                self._ahead.append(item)
        self._ahead = [item for item in self._ahead if item[0] >= stamp - self._tolerance_ns]
        near = min(self._ahead, key=lambda item: abs(item[0] - stamp), default=None)
        return near[1] if near is not None and abs(near[0] - stamp) <= self._tolerance_ns else None

    def _read(self) -> tuple[int, Any] | None:
        try:
            record = next(self._messages, None)
        except BagError:  # damaged from here on: whoever reads the images says so
            return None
        return None if record is None else (stamp_ns(record.message), record.message)

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()


class TrueDepth(Companion):
    """True depth images of a simulated recording."""

    def __init__(self, path: Any, start_ns: int | None = None, stop_ns: int | None = None) -> None:
        super().__init__(path, TRUTH_TOPIC, 0, start_ns, stop_ns)

    def depth_at(self, stamp: int, frame_id: str) -> np.ndarray | None:
        """Depth that the image of a stamp should have.

        Args:
            stamp: of the image, ns.
            frame_id: optical frame of its camera.

        Returns:
            (H, W) float32 metres, NaN = unknown; None where the bag has none for this stamp.

        Raises:
            BagError: it is the depth of another camera.
        """
        message = self.at(stamp)
        if message is None:
            return None
        seen_from = message.header.frame_id.lstrip('/')
        if seen_from != frame_id:
            raise BagError(
                f'{TRUTH_TOPIC} has the true depth of {seen_from!r}, and the images are of {frame_id!r}; name the '
                'images of the former'
            )
        return decode_truth(message)


def decode_truth(message: Any) -> np.ndarray:
    """(H, W) float32 metres of a message on ``/truth/depth``, NaN = unknown."""
    return to_metres(read_rows(message, _FLOAT, 1), message.encoding)
