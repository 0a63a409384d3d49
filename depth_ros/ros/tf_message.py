"""``tf2_msgs/TFMessage`` also where tf2_msgs is not installed: PyPI has no wheel of it.

A message type is, to the middleware, a table of names and functions. ``TFMessage`` is a list of ``TransformStamped``,
as ``nav_msgs/Path`` is a header and a list of ``PoseStamped``; so its tables are copies of those of ``Path`` with the
names changed, the header left out and the kind of the list replaced. The functions that convert fields stay those of
``Path`` and must not be called: the type is for messages that are published and taken as bytes (``raw=True``).
"""

from __future__ import annotations

import ctypes
import functools

_FASTRTPS, _INTROSPECTION = 'fastrtps_c', 'introspection_c'
# RIHS01 of tf2_msgs/msg/TFMessage, which is the same in every release; the first byte is the version.
_HASH = bytes.fromhex('01e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087')


class _TypeSupport(ctypes.Structure):
    """``rosidl_message_type_support_t``."""

    _fields_ = (
        ('identifier', ctypes.c_char_p),
        ('data', ctypes.c_void_p),
        ('find', ctypes.c_void_p),
        ('hash', ctypes.c_void_p),
        ('description', ctypes.c_void_p),
        ('sources', ctypes.c_void_p),
    )


class _Callbacks(ctypes.Structure):
    """``message_type_support_callbacks_t`` of rosidl_typesupport_fastrtps_cpp."""

    _fields_ = (('namespace', ctypes.c_char_p), ('name', ctypes.c_char_p), ('functions', ctypes.c_void_p * 5))


class _Member(ctypes.Structure):
    """``rosidl_typesupport_introspection_c__MessageMember``."""

    _fields_ = (
        ('name', ctypes.c_char_p),
        ('type_id', ctypes.c_uint8),
        ('string_upper_bound', ctypes.c_size_t),
        ('members', ctypes.c_void_p),
        ('is_key', ctypes.c_bool),
        ('is_array', ctypes.c_bool),
        ('array_size', ctypes.c_size_t),
        ('is_upper_bound', ctypes.c_bool),
        ('offset', ctypes.c_uint32),
        ('functions', ctypes.c_void_p * 7),
    )


class _Members(ctypes.Structure):
    """``rosidl_typesupport_introspection_c__MessageMembers``."""

    _fields_ = (
        ('namespace', ctypes.c_char_p),
        ('name', ctypes.c_char_p),
        ('count', ctypes.c_uint32),
        ('size', ctypes.c_size_t),
        ('has_key', ctypes.c_size_t),  # a bool and its padding
        ('members', ctypes.POINTER(_Member)),
        ('initialize', ctypes.c_void_p),
        ('finalize', ctypes.c_void_p),
    )


@functools.cache
def tf_message_type() -> type | None:
    """``TFMessage``, to be used with bytes only; None where it cannot be had."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        pass
    else:
        return TFMessage
    try:
        return _made_of_path()
    except (ImportError, OSError, AttributeError, ValueError):
        return None  # another middleware, or a release whose tables look otherwise


def _made_of_path() -> type:
    from nav_msgs.msg import Path

    type(Path).__import_type_support__()
    fastrtps, introspection = _copy(_TypeSupport, _handle(_FASTRTPS)), _copy(_TypeSupport, _handle(_INTROSPECTION))
    callbacks, members = _copy(_Callbacks, fastrtps.data), _copy(_Members, introspection.data)
    # Before Jazzy there is no ``has_key`` but an address in its place; what is next would be read from anywhere.
    if members.has_key > 1:
        raise ValueError('tables of a release before Jazzy')
    if (callbacks.name, members.name, members.count, members.members[1].name) != (b'Path', b'Path', 2, b'poses'):
        raise ValueError
    callbacks.namespace, members.namespace = b'tf2_msgs::msg', b'tf2_msgs__msg'
    callbacks.name = members.name = b'TFMessage'
    transforms = _copy(_Member, ctypes.addressof(members.members[1]))
    transforms.name, transforms.offset = b'transforms', 0
    transforms.members = _handle(_INTROSPECTION, 'geometry_msgs', 'TransformStamped')
    members.members, members.count = ctypes.pointer(transforms), 1
    fastrtps.data, introspection.data = ctypes.addressof(callbacks), ctypes.addressof(members)

    found = {item.identifier: ctypes.addressof(item) for item in (fastrtps, introspection)}
    find = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(lambda _, name: found.get(name))
    digest = (ctypes.c_uint8 * len(_HASH))(*_HASH)
    get_hash = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: ctypes.addressof(digest))
    for item in (fastrtps, introspection):
        item.find, item.hash = ctypes.cast(find, ctypes.c_void_p), ctypes.cast(get_hash, ctypes.c_void_p)

    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype, new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)

    class MetaTFMessage(type(Path)):
        """Says to rclpy how the middleware knows the type."""

        _TYPE_SUPPORT = new_capsule(ctypes.addressof(fastrtps), None, None)
        # All of this is referred to by address and has to stay.
        _kept = (fastrtps, introspection, callbacks, members, transforms, find, digest, get_hash)

        @classmethod
        def __import_type_support__(cls) -> None:
            """It is there already."""

    class TFMessage(Path, metaclass=MetaTFMessage):
        """``tf2_msgs/TFMessage``, for bytes only."""

    return TFMessage


def _handle(kind: str, package: str = 'nav_msgs', name: str = 'Path') -> int:
    """Address of the type support of a message."""
    library = ctypes.CDLL(f'lib{package}__rosidl_typesupport_{kind}.so')
    function = getattr(library, f'rosidl_typesupport_{kind}__get_message_type_support_handle__{package}__msg__{name}')
    function.restype = ctypes.c_void_p
    return function()


def _copy(kind: type, address: int) -> ctypes.Structure:
    return kind.from_buffer_copy(kind.from_address(address))
