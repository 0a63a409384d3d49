"""Write files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from depth_ros.errors import OutputError


@contextmanager
def output_errors(path: Path | str) -> Iterator[None]:
    """Turn errors of the file system into one line that names the output.

    Raises:
        OutputError: in place of any ``OSError``.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = 'the disk is full' if full else error.strerror or str(error)
        raise OutputError(f'cannot write {str(path)!r}: {reason}; no half-written file was left') from error


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Write a file beside its place, and move it there when all went well.

    Args:
        path: the file; missing folders above it are made; an older file is replaced.

    Yields:
        A path of the same suffix to write to.

    Raises:
        OutputError: it cannot be written; the older file, if any, is as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f'.{path.stem}.', suffix=f'.part{path.suffix}', dir=path.parent)
            temporary = Path(name)
            # mkstemp makes files private; an output is as readable as any other.
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(handle, 0o666 & ~mask)
            os.close(handle)
            yield temporary
            os.replace(temporary, path)
    except BaseException:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise
