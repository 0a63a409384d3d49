"""Where numba keeps what it has compiled, for robots that may write neither to the package nor to a home."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress


def place_numba_cache() -> None:
    """Give numba a temporary folder where it would find none to write to; call it before numba is imported.

    Without a folder numba refuses to load a function that is to be cached. ``NUMBA_CACHE_DIR`` is set, which child
    processes inherit; nothing changes where it is set already, or where one of numba's own places can be written.
    """
    if os.environ.get('NUMBA_CACHE_DIR'):
        return
    package = os.path.join(os.path.dirname(__file__), '__pycache__')
    user = os.path.join(os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')), 'numba')
    if not _can_write(package) and not _can_write(user):
        with suppress(OSError):  # nothing on this machine can be written; numba says what it lacks
            os.environ['NUMBA_CACHE_DIR'] = _private_folder()


def _can_write(folder: str) -> bool:
    """Whether a folder, which need not exist yet, can be written; tried, as numba does: permissions are not all."""
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _private_folder() -> str:
    """One folder per user, so that the next start need not compile again.

    Whoever can write there decides what code runs here: a folder that somebody else has made is not taken.
    """
    folder = os.path.join(tempfile.gettempdir(), f'depth_ros_numba_{os.getuid()}')
    with suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    found = os.lstat(folder)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return tempfile.mkdtemp(prefix='depth_ros_numba_')
