"""Writing: whole or not at all."""

import ctypes
import ctypes.util
import os
import resource
import signal

import numpy as np
import pytest
import yaml
from bag_samples import START, STEP, Messages
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.errors import BagError, OutputError
from depth_ros.files import whole_file


def write_drive(path, overwrite=False, count=5):
    with BagWriter(path, overwrite=overwrite) as writer:
        for topic, message, log_ns in Messages().drive(count).sorted():
            writer.write(topic, message, log_ns)


def test_nothing_but_the_bag_is_left_and_players_can_latch_the_transforms(tmp_path):
    write_drive(tmp_path / 'bag')
    assert [item.name for item in tmp_path.iterdir()] == ['bag']
    assert sorted(item.name for item in (tmp_path / 'bag').iterdir()) == ['bag.mcap', 'metadata.yaml']
    with Reader(tmp_path / 'bag') as reader:
        qos = {connection.topic: connection.ext.offered_qos_profiles for connection in reader.connections}
    assert qos['/tf_static'][0].durability == QosDurability.TRANSIENT_LOCAL
    assert qos['/points'] == []
    assert (tmp_path / 'bag').stat().st_mode & 0o055 == 0o055, 'others must be able to read it'


def test_notes_are_in_the_metadata(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write('/odom', writer.message('nav_msgs/msg/Odometry'), START)
        writer.note('source', 'a test')
    metadata = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())
    assert metadata['rosbag2_bagfile_information']['custom_data'] == {'source': 'a test'}


@pytest.mark.parametrize('name', [
    'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo',
    'sensor_msgs/msg/PointCloud2', 'sensor_msgs/msg/Imu', 'nav_msgs/msg/Odometry', 'tf2_msgs/msg/TFMessage',
    'diagnostic_msgs/msg/DiagnosticArray', 'rosgraph_msgs/msg/Clock', 'std_msgs/msg/String',
])
def test_default_messages_of_the_usual_packages_can_be_written(tmp_path, name):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write('/topic', writer.message(name), START)
    with BagReader(tmp_path / 'bag') as reader:
        assert next(reader.messages()).message.__msgtype__ == name


def test_raw_bytes_go_through_unchanged(tmp_path):
    write_drive(tmp_path / 'one')
    with BagReader(tmp_path / 'one') as reader, BagWriter(tmp_path / 'two') as writer:
        for item in reader.raw_messages():
            writer.write_raw(item.topic, item.type, item.data, item.log_ns)
    with BagReader(tmp_path / 'one') as one, BagReader(tmp_path / 'two') as two:
        assert [(item.topic, item.log_ns, item.data) for item in one.raw_messages()] == [
            (item.topic, item.log_ns, item.data) for item in two.raw_messages()]


def test_unknown_types_and_changing_types_are_refused(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        with pytest.raises(BagError, match='unknown'):
            writer.write_raw('/a', 'my_msgs/msg/Thing', b'', START)
        writer.write('/a', writer.message('std_msgs/msg/String'), START)
        with pytest.raises(BagError, match='cannot take'):
            writer.write('/a', writer.message('nav_msgs/msg/Odometry'), START)
        broken = writer.message('sensor_msgs/msg/Image')
        broken.data = 'text'
        with pytest.raises(BagError, match='does not fit'):
            writer.write('/b', broken, START)


def test_an_existing_bag_is_replaced_only_when_asked_and_only_as_a_whole(tmp_path):
    write_drive(tmp_path / 'bag', count=2)
    with pytest.raises(OutputError, match='exists already'):
        write_drive(tmp_path / 'bag')
    with pytest.raises(BagError), BagWriter(tmp_path / 'bag', overwrite=True) as writer:
        writer.message('my_msgs/msg/Thing')
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.topic('/points').count == 2
    write_drive(tmp_path / 'bag', overwrite=True, count=3)
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.topic('/points').count == 3
    assert [item.name for item in tmp_path.iterdir()] == ['bag']


def test_what_is_no_bag_is_never_replaced(tmp_path):
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'precious' / 'thesis.txt').write_text('all of it')
    with pytest.raises(OutputError, match='not the folder of a bag'):
        BagWriter(tmp_path / 'precious', overwrite=True)


def test_the_folder_that_one_is_in_can_be_replaced(tmp_path, monkeypatch):
    write_drive(tmp_path / 'drive', count=2)
    monkeypatch.chdir(tmp_path / 'drive')
    write_drive('.', overwrite=True, count=4)
    with BagReader(tmp_path / 'drive') as reader:
        assert sum(topic.count for topic in reader.topics) > 2
    assert [item.name for item in tmp_path.iterdir()] == ['drive']


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_an_interrupt_leaves_nothing(tmp_path, error):
    def write():
        with BagWriter(tmp_path / 'bag') as writer:
            writer.write('/odom', writer.message('nav_msgs/msg/Odometry'), START)
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='cannot write') as error:
        write_drive(tmp_path / 'file' / 'bag')
    assert '\n' not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_without_permission_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match='Permission denied'), BagWriter(tmp_path / 'bag'):
            pass
    finally:
        tmp_path.chmod(0o700)


def fill_up(path):
    """Write noise, which cannot be compressed, until something stops it."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    with BagWriter(path) as writer:
        for index in range(100):
            message = writer.message('sensor_msgs/msg/Image')
            message.data = noise.reshape(-1)
            writer.write('/image', message, START + index * STEP)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    libc = ctypes.CDLL(ctypes.util.find_library('c'), use_errno=True)
    disk = tmp_path / 'disk'
    disk.mkdir()
    if libc.mount(b'tmpfs', str(disk).encode(), b'tmpfs', 0, b'size=3m') != 0:
        pytest.skip('mounting a small disk needs root')
    try:
        with pytest.raises(OutputError, match='the disk is full') as error:
            fill_up(disk / 'bag')
        assert '\n' not in str(error.value)
        assert list(disk.iterdir()) == []
        with pytest.raises(OutputError, match='the disk is full'), whole_file(disk / 'big.bin') as path:
            path.write_bytes(bytes(10_000_000))
        assert list(disk.iterdir()) == []
    finally:
        libc.umount2(str(disk).encode(), 2)


def test_a_size_limit_is_one_line_and_leaves_nothing(tmp_path):
    """As a full disk, where a mount is not allowed: the kernel refuses the write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match='File too large'):
            fill_up(tmp_path / 'bag')
        assert list(tmp_path.iterdir()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize('make', [
    os.mkfifo,
    os.mkdir,
    lambda path: path.symlink_to('/proc/self/exe'),  # as /dev/stdout is one, into what the shell opened
    lambda path: (os.mkfifo(path.with_suffix('.fifo')), path.symlink_to(path.with_suffix('.fifo'))),
])  # fmt: skip
def test_only_files_are_replaced(tmp_path, make):
    make(tmp_path / 'out')
    before = [(path.name, path.lstat().st_mode) for path in sorted(tmp_path.iterdir())]
    with pytest.raises(OutputError, match='expected the name of a file'), whole_file(tmp_path / 'out') as path:
        path.write_text('one')
    assert [(path.name, path.lstat().st_mode) for path in sorted(tmp_path.iterdir())] == before


def test_a_whole_file_is_there_or_not(tmp_path):
    with whole_file(tmp_path / 'deep' / 'a.txt') as path:
        path.write_text('one')
    with pytest.raises(TypeError), whole_file(tmp_path / 'deep' / 'a.txt') as path:
        path.write_text(2)
    assert (tmp_path / 'deep' / 'a.txt').read_text() == 'one'
    assert [item.name for item in (tmp_path / 'deep').iterdir()] == ['a.txt']
