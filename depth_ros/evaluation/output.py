"""Folders of results that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from depth_ros.errors import OutputError
from depth_ros.files import output_errors


class OutputFolder:
    """A folder that appears under its name when all went well, else not at all. Use it as a context manager."""

    def __init__(self, path: Path, names: Sequence[str], overwrite: bool = False) -> None:
        """Set the folder up; a hidden one is made beside it on entering.

        Args:
            path: the folder.
            names: what such a folder may hold. Only a folder with the first of them, or an empty one, is ever filled.
            overwrite: replace what an earlier run left there under these names; all else stays.

        Raises:
            OutputError: something is there that must not be replaced.
        """
        self.path, self._names, self._overwrite = Path(path), names, overwrite
        self._temporary: Path | None = None
        self._check()

    def __enter__(self) -> Path:
        with output_errors(self.path):
            # A folder that is there stays and gets new content: it may be the one that the user is in, or a mounted
            # one, and neither can be replaced.
            parent = self.path if self.path.is_dir() else self.path.absolute().parent
            parent.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(prefix=f'.{self.path.name}.', suffix='.part', dir=parent))
            # A private mode is right for temporary files, not for results.
            self._temporary.chmod(0o777 & ~_umask())
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with output_errors(self.path):
                    self._check()
                    if self.path.exists():
                        self._fill()
                    else:
                        self._temporary.replace(self.path)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _fill(self) -> None:
        new = list(self._temporary.iterdir())
        old = [item for item in self._others() if item.name in self._names]
        replaced = Path(tempfile.mkdtemp(prefix='.replaced.', dir=self._temporary))
        try:
            for item in old:
                item.rename(replaced / item.name)
            for item in new:
                item.rename(self.path / item.name)
        except BaseException:  # interrupts, too: else neither the old nor the new would be left
            for item in new:
                if not item.exists():
                    (self.path / item.name).rename(item)
            for item in replaced.iterdir():
                item.rename(self.path / item.name)
            raise

    def _others(self) -> list[Path]:
        return [item for item in self.path.iterdir() if item != self._temporary]

    def _check(self) -> None:
        path = self.path
        if path.is_dir():  # or a link to one
            if not self._others():
                return
            marker = self._names[0]
            if not (path / marker).is_file():
                raise OutputError(f'{str(path)!r} holds other files (no {marker}); name a new folder with --out')
            if not self._overwrite:
                raise OutputError(f'{str(path)!r} is there already; name another folder, or say --overwrite')
        elif path.exists() or path.is_symlink():
            raise OutputError(f'{str(path)!r} is no folder; name another one')


def check_folder_of(path: Path) -> None:
    """Make sure, before long work, that the folder of a file is there and can be written to.

    Raises:
        OutputError: it is not.
    """
    parent = path.absolute().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f'{str(parent)!r} is no folder that can be written to; make it, or name another')


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
