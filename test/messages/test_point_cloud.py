"""Clouds as drivers send them, and as they must not be sent."""

from types import SimpleNamespace

import numpy as np
import pytest

from depth_ros.errors import MessageError
from depth_ros.messages.point_cloud import decode_cloud, fill_colour_cloud, fill_lidar_cloud
from depth_ros.types import LidarScan

STAMP_NS = 1_700_000_000_123_456_789
DATATYPES = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8, 'i8': 9, 'u8': 10}


def field(name, offset, datatype, count=1):
    return SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)


def cloud(columns, padding=0, big_endian=False, extra=b''):
    """A PointCloud2 with the given columns: {name: array}."""
    order = '>' if big_endian else '<'
    dtype = np.dtype(
        {
            'names': list(columns),
            'formats': [order + values.dtype.str[1:] for values in columns.values()],
            'offsets': np.cumsum([0] + [values.dtype.itemsize for values in columns.values()])[:-1].tolist(),
            'itemsize': sum(values.dtype.itemsize for values in columns.values()) + padding,
        }
    )
    points = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        points[name] = values
    sec, nanosec = divmod(STAMP_NS, 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id='lidar'),
        height=1,
        width=len(points),
        point_step=dtype.itemsize,
        row_step=dtype.itemsize * len(points),
        is_bigendian=big_endian,
        is_dense=True,
        data=np.frombuffer(points.tobytes() + extra, np.uint8),
        fields=[
            field(name, dtype.fields[name][1], DATATYPES[values.dtype.str[1:]]) for name, values in columns.items()
        ],
    )


def xyz(count=5, dtype='f4'):
    values = np.random.default_rng(0).normal(size=(count, 3)).astype(dtype)
    return {name: values[:, i] for i, name in enumerate('xyz')}, values


def test_the_usual_layout_is_a_view():
    columns, values = xyz()
    message = cloud({**columns, 'intensity': np.arange(5, dtype='f4'), 'ring': np.arange(5, dtype='u2')}, padding=2)
    scan = decode_cloud(message)
    np.testing.assert_array_equal(scan.points, values)
    assert np.shares_memory(scan.points, message.data)
    assert scan.ring.tolist() == [0, 1, 2, 3, 4]
    assert scan.intensity.tolist() == [0, 1, 2, 3, 4]
    assert (scan.stamp_ns, scan.frame_id) == (STAMP_NS, 'lidar')


@pytest.mark.parametrize('dtype', ['f4', 'f8'])
@pytest.mark.parametrize('padding', [0, 1, 3, 7])
@pytest.mark.parametrize('big_endian', [False, True])
def test_other_layouts_are_copied_to_the_same_numbers(dtype, padding, big_endian):
    columns, values = xyz(dtype=dtype)
    scan = decode_cloud(cloud({'ring': np.arange(5, dtype='u1'), **columns}, padding, big_endian))
    np.testing.assert_array_equal(scan.points, values.astype(np.float32))


def test_coordinates_that_are_not_adjacent():
    columns, values = xyz()
    scan = decode_cloud(cloud({'z': columns['z'], 'intensity': columns['x'], 'y': columns['y'], 'x': columns['x']}))
    np.testing.assert_array_equal(scan.points, values)


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        ('t', np.array([0, 10_000_000, 99_000_000], 'u4')),  # Ouster: ns
        ('offset_time', np.array([0, 10_000_000, 99_000_000], 'u4')),  # Livox custom: ns
        ('time', np.array([0.0, 0.01, 0.099], 'f4')),  # Velodyne: s
        ('timestamp', STAMP_NS / 1e9 + np.array([0.0, 0.01, 0.099])),  # Hesai, RoboSense: s since the epoch
        ('timestamp', np.array([0, 10_000_000, 99_000_000]) + float(STAMP_NS)),  # Livox: ns since the epoch, float64
        ('timestamp', np.array([0, 10_000_000, 99_000_000], 'u8') + np.uint64(STAMP_NS)),  # PCL's uint64
        ('t', np.array([0, 10_000_000, 99_000_000], 'i8')),
    ],
)
def test_times_of_all_drivers_become_ns_after_the_stamp(name, values):
    columns, _ = xyz(3)
    scan = decode_cloud(cloud({**columns, name: values}))
    assert scan.notes == ()
    np.testing.assert_allclose(scan.time_offset_ns, [0, 10_000_000, 99_000_000], atol=300)


@pytest.mark.parametrize(
    'values',
    [
        np.array([0.0, np.nan, 0.1], 'f4'),
        np.array([0.0, 5.0, 0.1], 'f4'),
        np.array([0, 3_000_000_000, 5], 'u4'),
        (STAMP_NS / 1e9 + np.array([0.0, 0.01, 0.099])).astype('f4'),  # by chance within a second of the stamp
    ],
)
def test_times_that_make_no_sweep_are_left_out_with_a_note(values):
    columns, _ = xyz(3)
    scan = decode_cloud(cloud({**columns, 'time': values}))
    assert scan.time_offset_ns is None
    assert "'time'" in scan.notes[0]


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        ('timestamp', np.array([0.0, *(STAMP_NS / 1e9 + np.array([0.01, 0.02, 0.099]))])),
        ('time', np.array([np.nan, 0.01, 0.02, 0.099], 'f4')),
        ('t', np.array([2**32 - 1, 10_000_000, 20_000_000, 99_000_000], 'u4')),
    ],
)
@pytest.mark.parametrize('nothing', [np.nan, 0.0])
def test_points_without_a_return_need_no_time(name, values, nothing):
    columns, _ = xyz(4)
    for axis in 'xyz':
        columns[axis][0] = nothing
    scan = decode_cloud(cloud({**columns, name: values}))
    assert scan.notes == ()
    np.testing.assert_allclose(scan.time_offset_ns, [20_000_000, 10_000_000, 20_000_000, 99_000_000], atol=300)
    np.testing.assert_allclose(scan.time_span_ns, [10_000_000, 99_000_000], atol=300)


@pytest.mark.parametrize('name', ['ring', 'intensity', 't'])
def test_a_field_of_an_unknown_datatype_costs_no_more_than_itself(name):
    columns, values = xyz(3)
    message = cloud({**columns, **{extra: np.arange(3, dtype='u4') for extra in ('ring', 'intensity', 't')}})
    next(item for item in message.fields if item.name == name).datatype = 99
    scan = decode_cloud(message)
    np.testing.assert_array_equal(scan.points, values)
    found = {'ring': scan.ring, 'intensity': scan.intensity, 't': scan.time_offset_ns}
    assert [extra for extra, column in found.items() if column is None] == [name]
    assert len(scan.notes) == 1
    assert f"'{name}' has datatype 99" in scan.notes[0]


@pytest.mark.parametrize('is_whole', [True, False])
def test_rows_may_be_padded(is_whole):
    columns, values = xyz(6)
    message = cloud({**columns, 'ring': np.arange(6, dtype='u2')})
    rows = np.pad(message.data.reshape(2, -1), ((0, 0), (0, 5)), constant_values=255)
    message.height, message.width, message.row_step = 2, 3, rows.shape[1]
    message.data = rows.reshape(-1)[: None if is_whole else -5]
    scan = decode_cloud(message)
    np.testing.assert_array_equal(scan.points, values)
    assert scan.ring.tolist() == list(range(6))
    message.data = message.data[: -6 if is_whole else -1]
    with pytest.raises(MessageError, match='truncated'):
        decode_cloud(message)


def test_times_need_not_be_sorted():
    columns, _ = xyz(3)
    scan = decode_cloud(cloud({**columns, 't': np.array([9, 3, 6], 'u4')}))
    assert scan.time_span_ns == (3, 9)


def test_an_empty_cloud_is_an_empty_scan():
    columns, _ = xyz(0)
    assert len(decode_cloud(cloud(columns))) == 0


def broken(**changes):
    columns, _ = xyz()
    message = cloud(columns)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ('message', 'text'),
    [
        (broken(header=SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id='lidar')), 'stamped 0'),
        (broken(fields=[field('x', 0, 7), field('y', 4, 7)]), 'z missing'),
        (broken(data=np.zeros(50, np.uint8)), 'truncated'),
        (broken(point_step=0), 'point_step 0'),
        (broken(point_step=10), 'ends at byte 12'),
        (broken(height=5, width=1, row_step=11), 'row_step'),
        (broken(fields=[field('x', 0, 5), field('y', 4, 5), field('z', 8, 5)]), 'integer'),
        (broken(fields=[field('x', 0, 5), field('y', 4, 7), field('z', 8, 7)]), 'integer'),
        (broken(fields=[field('x', 0, 99), field('y', 4, 7), field('z', 8, 7)]), 'datatype 99'),
    ],
)
def test_what_makes_no_cloud_is_refused_in_one_line(message, text):
    with pytest.raises(MessageError, match=text) as caught:
        decode_cloud(message)
    assert '\n' not in str(caught.value)


def empty_message():
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id=''), data=None)


def test_what_is_filled_is_read_back():
    _, values = xyz(7)
    scan = LidarScan(
        STAMP_NS,
        values,
        'lidar',
        np.arange(7, dtype=np.int32) * 1000,
        np.arange(7, dtype=np.uint16),
        np.arange(7, dtype=np.float32),
    )
    again = decode_cloud(fill_lidar_cloud(empty_message(), SimpleNamespace, scan))
    for name in ('points', 'time_offset_ns', 'ring', 'intensity'):
        np.testing.assert_array_equal(getattr(again, name), getattr(scan, name))
    assert (again.stamp_ns, again.frame_id) == (scan.stamp_ns, scan.frame_id)


def test_times_before_the_stamp_cannot_be_written():
    _, values = xyz(2)
    with pytest.raises(MessageError, match='stamp a sweep with its start'):
        fill_lidar_cloud(empty_message(), SimpleNamespace, LidarScan(0, values, 'lidar', np.array([-5, 5], np.int32)))


def test_colour_cloud_is_read_back():
    points = np.random.default_rng(0).normal(size=(4, 6, 4)).astype(np.float32)
    message = fill_colour_cloud(empty_message(), SimpleNamespace, points, 'camera', STAMP_NS)
    assert (message.height, message.width, message.point_step, message.row_step) == (4, 6, 16, 96)
    np.testing.assert_array_equal(decode_cloud(message).points, points[..., :3].reshape(-1, 3))
