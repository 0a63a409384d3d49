"""Imports Open3D, which is optional, with the system library that its wheels expect but do not bring."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from typing import Any

from depth_ros.errors import MissingDependencyError


def load_open3d(purpose: str, install: str) -> Any:
    """Import Open3D.

    Args:
        purpose: who needs it, for the message.
        install: what to install, for the message.

    Returns:
        The module.

    Raises:
        MissingDependencyError: it is not installed, or a system library of its own is missing.
    """
    supply_libusb()
    try:
        return importlib.import_module('open3d')
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f'{purpose} needs Open3D ({error}); install it with: pip install {install}'
        ) from error


def supply_libusb() -> None:
    """Load libusb from its wheel where the system has none.

    Open3D's wheels link against libusb-1.0.so.0 (for cameras, which nobody here asks of it) and fail to import on
    machines without it: containers, build servers. A library that is loaded already satisfies them by its name.
    """
    if importlib.util.find_spec('libusb_package') is None:
        return
    try:
        ctypes.CDLL('libusb-1.0.so.0', mode=ctypes.RTLD_GLOBAL)
    except OSError:
        path = importlib.import_module('libusb_package').get_library_path()
        if path is not None:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
