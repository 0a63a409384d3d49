"""Point clouds: ``sensor_msgs/PointCloud2`` to ``LidarScan`` and back. No structured dtypes, no per-point Python."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numba import njit

from depth_ros.errors import MessageError
from depth_ros.messages.header import body, set_body, set_stamp, stamp_ns
from depth_ros.types import LidarScan

# 9 to 11 are PCL's, and in PointField since ros2/common_interfaces#301.
_DTYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8', 9: 'i8', 10: 'u8', 11: 'u1'}
_FLOAT32, _UINT16, _UINT32 = 7, 4, 6
_RING_NAMES = ('ring', 'channel', 'line', 'laser_id')
_TIME_NAMES = ('t', 'time', 'timestamp', 'time_offset', 'offset_time', 'time_stamp', 'timeOffset')
_MAX_SWEEP_NS = 1_000_000_000
_SINCE_EPOCH_NS = 1e17  # more are no times within a sweep
_NS = 1_000_000_000


def decode_cloud(message: Any, frame_id: str = '') -> LidarScan:
    """Read a ``PointCloud2``.

    Args:
        message: ``sensor_msgs/PointCloud2``, organised or not.
        frame_id: frame in place of the message's; '' = the message's.

    Returns:
        The sweep. x, y, z are a view of the message where they are adjacent float32. Times are read from the fields
        that drivers use: integers are ns; floats are seconds; values that are absolute (Hesai, RoboSense: seconds;
        Livox: ns) are made relative. Times that make no sweep (longer than 1 s), and rings, intensities and times of an
        unknown datatype, are left out, with a note.

    Raises:
        MessageError: fields, steps and data make no cloud, x, y, z are missing, or the stamp is 0.
    """
    if stamp_ns(message) == 0:
        raise MessageError('cloud is stamped 0, expected the time of the sweep; fix the lidar driver')
    fields = {item.name: item for item in message.fields}
    missing = [name for name in 'xyz' if name not in fields]
    if missing:
        raise MessageError(f'cloud has fields {sorted(fields)}, expected x, y, z; {", ".join(missing)} missing')
    count, step = message.width * message.height, message.point_step
    data = body(message.data)
    if step == 0 and count:
        raise MessageError(f'cloud has {count} points of point_step 0, expected the bytes of a point')
    row, row_step = message.width * step, message.row_step if message.height > 1 else message.width * step
    if row_step < row:
        raise MessageError(
            f'cloud row_step is {row_step}, expected at least {row} for {message.width} points of {step} bytes'
        )
    needed = row_step * (message.height - 1) + row if count else 0
    if len(data) < needed:
        raise MessageError(f'cloud has {len(data)} bytes, expected {needed} for {count} points; it is truncated')
    if row_step > row and count:  # padded; a copy, which one field alone would need as well
        data = np.ndarray((message.height, row), np.uint8, data, 0, (row_step, 1)).reshape(-1)
    order = '>' if message.is_bigendian else '<'

    def column(name: str) -> np.ndarray:
        item = fields[name]
        if item.datatype not in _DTYPES:
            raise MessageError(f'cloud field {name!r} has datatype {item.datatype}, expected 1 to {max(_DTYPES)}')
        dtype = np.dtype(order + _DTYPES[item.datatype])
        if item.offset + dtype.itemsize > step:
            raise MessageError(
                f'cloud field {name!r} ends at byte {item.offset + dtype.itemsize} of a point of {step} bytes'
            )
        if count == 0:  # a view at an offset beyond an empty buffer is no view
            return np.zeros(0, dtype)
        return np.ndarray((count,), dtype, data, item.offset, (step,))

    x, y, z = column('x'), column('y'), column('z')
    if any(values.dtype.kind != 'f' for values in (x, y, z)):
        raise MessageError(
            f'cloud has integer x, y, z ({x.dtype}, {y.dtype}, {z.dtype}), expected float32 or float64 metres'
        )
    adjacent = fields['y'].offset == fields['x'].offset + 4 and fields['z'].offset == fields['x'].offset + 8
    floats = all(fields[name].datatype == _FLOAT32 for name in 'xyz')
    native = order == ('<' if sys.byteorder == 'little' else '>')
    if adjacent and floats and native and count:
        # Also where a point has an odd size: all platforms of ROS 2 read unaligned floats, and a copy costs 20 times
        # more.
        points = np.ndarray((count, 3), np.float32, data, fields['x'].offset, (step, 4))
    else:
        points = np.stack([x, y, z], axis=1).astype(np.float32)

    stamp = stamp_ns(message)
    # Without these the points still tell depth.
    known = {name for name, item in fields.items() if item.datatype in _DTYPES}
    extra = (*_RING_NAMES, 'intensity', *_TIME_NAMES)
    notes = tuple(
        f'cloud field {name!r} has datatype {fields[name].datatype}, expected 1 to {max(_DTYPES)}; left out'
        for name in extra
        if name in fields and name not in known
    )
    ring = next((column(name) for name in _RING_NAMES if name in known), None)
    intensity = column('intensity') if 'intensity' in known else None
    time_name = next((name for name in _TIME_NAMES if name in known), None)
    offsets, span = None, (0, 0)
    if time_name is not None and count:
        times = column(time_name)
        offsets, span = _offsets(times, stamp)
        if offsets is None:
            offsets, span = _offsets_of_returns(times, points, stamp)
        if offsets is None:
            notes += (
                f'point times in field {time_name!r} make no sweep (not finite, beyond 1 s of the stamp, or absolute '
                'in float32); left out',
            )
    return LidarScan(
        stamp_ns=stamp,
        points=points,
        frame_id=frame_id or message.header.frame_id.lstrip('/'),
        time_offset_ns=offsets,
        ring=None if ring is None else ring.astype(np.uint16, copy=False),
        intensity=None if intensity is None else intensity.astype(np.float32, copy=False),
        notes=notes,
        time_span_ns=span,
    )


def _offsets(values: np.ndarray, stamp: int) -> tuple[np.ndarray | None, tuple[int, int]]:
    """Times of points as (N,) int32 ns after the stamp, and the first and last; None where they make no sweep."""
    if values.dtype == np.dtype('u4') and values.dtype.isnative:
        # The commonest case (Ouster, Livox, ours), without a copy: what does not fit turns negative and is found below.
        offsets = values.view(np.int32)
        first, last = (int(end) for end in _min_max(offsets))
        return (offsets, (first, last)) if 0 <= first and last <= _MAX_SWEEP_NS else (None, (0, 0))
    if values.dtype.kind in 'iu':
        since_epoch = values.dtype.itemsize == 8 and values[0] > _SINCE_EPOCH_NS
        wide = values.astype(np.int64) - (stamp if since_epoch else 0)
    elif not np.isfinite(values).all():
        return None, (0, 0)
    elif values.dtype.itemsize < 8 and abs(float(values[0])) > 1e8:
        return None, (0, 0)  # float32 tells the time since the epoch to a minute or two
    elif abs(float(values[0])) > _SINCE_EPOCH_NS:
        wide = values.astype(np.int64) - stamp
    elif abs(float(values[0])) > 1e8:  # seconds since the epoch: split before scaling, float64 holds 16 digits
        seconds = np.floor(values)
        wide = (seconds.astype(np.int64) * _NS - stamp) + np.rint((values - seconds) * _NS).astype(np.int64)
    else:
        wide = np.rint(values.astype(np.float64) * _NS).astype(np.int64)
    first, last = int(wide.min()), int(wide.max())
    if last - first > _MAX_SWEEP_NS or max(abs(first), abs(last)) > _MAX_SWEEP_NS:
        return None, (0, 0)
    return wide.astype(np.int32), (first, last)


def _offsets_of_returns(
    values: np.ndarray, points: np.ndarray, stamp: int
) -> tuple[np.ndarray | None, tuple[int, int]]:
    """As ``_offsets``, by the points with a return: some drivers give no time to the others. Those get the median."""
    valid = np.isfinite(points).all(axis=1) & points.any(axis=1)
    if valid.all() or not valid.any():
        return None, (0, 0)
    found, span = _offsets(values[valid], stamp)
    if found is None:
        return None, (0, 0)
    offsets = np.full(len(values), np.median(found), np.int32)
    offsets[valid] = found
    return offsets, span


@njit(nogil=True, cache=True)
def _min_max(values):
    smallest, largest = values[0], values[0]
    for i in range(len(values)):
        smallest, largest = min(smallest, values[i]), max(largest, values[i])
    return smallest, largest


def fill_lidar_cloud(message: Any, field_type: type, scan: LidarScan) -> Any:
    """Fill a ``PointCloud2`` with a sweep, as a lidar driver would.

    Args:
        message: ``sensor_msgs/PointCloud2`` of any client library.
        field_type: class of ``sensor_msgs/PointField``.
        scan: the sweep; fields that it lacks are left out. Layout: x y z [intensity] float32, [t] uint32 ns after the
            stamp, [ring] uint16.

    Returns:
        The message.

    Raises:
        MessageError: a point is older than the stamp, which the uint32 field cannot say.
    """
    columns: list[tuple[str, int, np.ndarray]] = [
        (name, _FLOAT32, scan.points[:, axis]) for axis, name in enumerate('xyz')
    ]
    if scan.intensity is not None:
        columns.append(('intensity', _FLOAT32, scan.intensity))
    if scan.time_offset_ns is not None:
        if scan.time_span_ns[0] < 0:
            raise MessageError(
                f'a point is {-scan.time_span_ns[0]} ns older than its sweep; stamp a sweep with its start'
            )
        columns.append(('t', _UINT32, scan.time_offset_ns.astype(np.uint32)))
    if scan.ring is not None:
        columns.append(('ring', _UINT16, scan.ring))
    dtype = np.dtype([(name, _DTYPES[kind]) for name, kind, _ in columns])
    values = np.empty(len(scan), dtype)
    for name, _, column in columns:
        values[name] = column
    set_stamp(message.header.stamp, scan.stamp_ns)
    message.header.frame_id = scan.frame_id
    return _fill(
        message,
        field_type,
        [(name, kind, dtype.fields[name][1]) for name, kind, _ in columns],
        values,
        1,
        len(scan),
        dtype.itemsize,
        bool(np.isfinite(scan.points).all()),
    )


def fill_colour_cloud(message: Any, field_type: type, points: np.ndarray, frame_id: str, time_ns: int) -> Any:
    """Fill a ``PointCloud2`` with an organised ``xyzrgb`` cloud from ``geometry.cloud.xyzrgb``.

    Args:
        message: ``sensor_msgs/PointCloud2``.
        field_type: class of ``sensor_msgs/PointField``.
        points: (H, W, 4) float32 x, y, z, colour bits; not to be altered until published.
        frame_id: optical frame.
        time_ns: stamp, ns.

    Returns:
        The message.
    """
    set_stamp(message.header.stamp, time_ns)
    message.header.frame_id = frame_id
    height, width = points.shape[:2]
    layout = [('x', _FLOAT32, 0), ('y', _FLOAT32, 4), ('z', _FLOAT32, 8), ('rgb', _FLOAT32, 12)]
    return _fill(message, field_type, layout, points, height, width, 16, False)


def _fill(message, field_type, layout, values, height, width, step, dense):
    message.height, message.width = height, width
    message.fields = [field_type(name=name, offset=offset, datatype=kind, count=1) for name, kind, offset in layout]
    message.is_bigendian = sys.byteorder == 'big'
    message.point_step, message.row_step = step, step * width
    message.is_dense = dense
    set_body(message, values)
    return message
