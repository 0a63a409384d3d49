"""Write files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
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
        path: the file; missing folders above it are made; an older file is replaced, a folder or a device is not.

    Yields:
        A path of the same suffix to write to.

    Raises:
        OutputError: it cannot be written; the older file, if any, is as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        with output_errors(path):
            _check_regular(path)
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


def check_file(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Make sure, before long work, that a file may be written.

    Args:
        path: the file.
        overwrite: whether it may replace an older one.
        inputs: files and folders that are read.

    Raises:
        OutputError: a folder or a device has its name, it is an input or in one, or an older file must stay.
    """
    with output_errors(path):
        _check_regular(path)
        check_apart(path, inputs)
        if path.exists() and not overwrite:
            raise OutputError(f'{str(path)!r} is there already; name another file, or say --overwrite')


def check_apart(path: Path, inputs: Iterable[Path]) -> None:
    """Make sure that an output is no input, and in none.

    Raises:
        OutputError: it is.
    """
    real = _real(path)
    for given in inputs:
        if _real(given) in (real, *real.parents):
            place = 'is' if _real(given) == real else 'is in'
            raise OutputError(f'{str(path)!r} {place} the input {str(given)!r}, which must stay; name another place')


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _check_regular(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f'{str(path)!r} is a folder, expected the name of a file')
    # /dev/stdout is a link to whatever the shell opened: replacing it would take it from every program.
    is_stream = path.is_symlink() and os.readlink(path).startswith('/proc/')
    if is_stream or (path.exists() and not path.is_file()):
        raise OutputError(f'{str(path)!r} is a device, pipe or socket, expected the name of a file')
