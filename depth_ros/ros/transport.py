"""What a process needs before ``rclpy.init`` so that messages of many MB arrive: shared memory, malloc thresholds."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from depth_ros.errors import OutputError

_PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # up to Jazzy, from Kilted on
# Settings by which a user chooses the transport himself; they are left alone.
_CHOSEN_BY_USER = (*_PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')
_PROFILE, _LOCAL_PROFILE = 'config/fastdds.xml', 'config/fastdds_localhost.xml'
_SHARED_MEMORY = Path('/dev/shm')
_SEGMENT_BYTES = 64 << 20

# Parameter numbers of glibc's mallopt, and values: buffers of messages come from the heap and stay there. Otherwise
# each one is mapped, zeroed page by page and unmapped again, which costs a receiver more than all the rest.
_MALLOC = ((-3, 32 << 20), (-1, 512 << 20), (-2, 64 << 20))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD


def prepare_process() -> list[str]:
    """Set the process up for large messages; call it before ``rclpy.init``.

    Returns:
        What could not be set up, one sentence each, to be logged.
    """
    environment, notes = transport_environment()
    os.environ.update(environment)
    if sys.platform == 'linux':
        libc = ctypes.CDLL(None)
        if hasattr(libc, 'mallopt'):
            for parameter, value in _MALLOC:
                libc.mallopt(parameter, value)
    return notes


def transport_environment() -> tuple[dict[str, str], list[str]]:
    """Decide which variables make a process use the transport profile of the package.

    Returns:
        environment: variables to set; {} where the user has chosen a transport, or where the profile would not work.
        notes: why large messages may be lost, one sentence each.
    """
    if any(os.environ.get(name) for name in _CHOSEN_BY_USER):
        return {}, []
    try:
        profile = shared_file(_LOCAL_PROFILE if os.environ.get('ROS_LOCALHOST_ONLY') == '1' else _PROFILE)
    except OutputError as error:
        return {}, [f'{error}; large messages may be lost']
    if _SHARED_MEMORY.is_dir():
        state = os.statvfs(_SHARED_MEMORY)
        free = state.f_bavail * state.f_frsize
        if free < 2 * _SEGMENT_BYTES:
            return {}, [
                f'{_SHARED_MEMORY} has {free >> 20} MB free, expected {2 * _SEGMENT_BYTES >> 20} for large messages, '
                'of which many may be lost (docker run: --shm-size=1g or --ipc=host)'
            ]
    return dict.fromkeys(_PROFILE_VARIABLES, str(profile)), []


def shared_file(name: str) -> Path:
    """Find a file that comes with the package.

    Args:
        name: path within the package's share folder, for example ``config/fastdds.xml``.

    Returns:
        The file in the source tree (editable and symlinked installations), else the installed one.

    Raises:
        OutputError: it is not installed.
    """
    roots = [Path(__file__).resolve().parents[2], Path(sys.prefix) / 'share/depth_ros']
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    roots += [Path(prefix) / 'share/depth_ros' for prefix in prefixes if prefix]
    for root in roots:
        if (root / name).is_file():
            return root / name
    raise OutputError(f'{name} of depth_ros is not installed; looked in {", ".join(map(str, roots))}')
