"""MCAP files whose end is missing, because the recorder was killed or the disk was full.

Format: https://mcap.dev/spec. A file is magic, records (opcode, uint64 length, content), footer, magic; the summary
before the footer is optional. So the whole records of a file that was cut off, followed by an empty footer, are a
whole file.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

MAGIC = b'\x89MCAP0\r\n'
_FOOTER = struct.pack('<BQQQI', 0x02, 20, 0, 0, 0) + MAGIC


def is_cut_off(path: Path) -> bool:
    """Whether a file starts as MCAP and does not end as one."""
    with path.open('rb') as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - len(MAGIC), 0))
        return size < 2 * len(MAGIC) or file.read() != MAGIC


class Mended:
    """Looks like the path of a whole file to ``rosbags``; nothing on disk is changed."""

    def __init__(self, path: Path) -> None:
        """Find the last whole record of ``path``."""
        self._path = path
        self._end = _end_of_records(path)
        self.name, self.suffix, self.stem, self.parent = path.name, path.suffix, path.stem, path.parent

    def __str__(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        """As ``Path.exists``."""
        return self._path.exists()

    def is_dir(self) -> bool:
        """As ``Path.is_dir``."""
        return False

    def open(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Open for reading."""
        return io.BufferedReader(_WithFooter(self._path, self._end), 1 << 20)


def _end_of_records(path: Path) -> int:
    size = path.stat().st_size
    with path.open('rb') as file:
        end = len(MAGIC)
        while True:
            file.seek(end)
            head = file.read(9)
            if len(head) < 9:
                return end
            opcode, length = struct.unpack('<BQ', head)
            # Zeros are what a file system leaves where data never arrived; a footer or data end closes the records.
            if opcode in (0x00, 0x02, 0x0F) or end + 9 + length > size:
                return end
            end += 9 + length


class _WithFooter(io.RawIOBase):
    def __init__(self, path: Path, end: int) -> None:
        super().__init__()
        self._file = path.open('rb')
        self._end = end
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self._position, self._end + len(_FOOTER))[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if self._position < self._end:
            self._file.seek(self._position)
            data = self._file.read(min(wanted, self._end - self._position))
        else:
            start = self._position - self._end
            data = _FOOTER[start : start + wanted]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
