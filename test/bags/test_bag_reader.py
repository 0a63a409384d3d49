"""Reading: three kinds of bags, and all the ways in which they can be broken."""

import json
import sqlite3

import numpy as np
import pytest
from bag_samples import START, STEP, Messages
from damaged_bags import damage
from rosbags.typesys import Stores, get_typestore

from depth_ros.bags.inspection import inspect_bag
from depth_ros.bags.reader import BagReader, until_damage
from depth_ros.bags.select import TopicOverrides
from depth_ros.bags.writer import BagWriter
from depth_ros.cli.main import main
from depth_ros.errors import BagError, DepthRosError
from depth_ros.messages.camera_info import decode_camera
from depth_ros.messages.image import decode_image
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.settings import Settings

KINDS = ('mcap', 'mcap_file', 'db3', 'db3_file', 'ros1')


@pytest.mark.parametrize('kind', KINDS)
def test_what_was_written_is_read_in_the_order_of_recording(tmp_path, kind):
    messages = Messages().drive(3)
    path = messages.write(tmp_path / 'bag', kind)
    with BagReader(path) as reader:
        assert {topic.name: (topic.type, topic.count) for topic in reader.topics} == {
            '/cam/camera_info': ('sensor_msgs/msg/CameraInfo', 3), '/cam/image_raw': ('sensor_msgs/msg/Image', 3),
            '/odom': ('nav_msgs/msg/Odometry', 3), '/points': ('sensor_msgs/msg/PointCloud2', 3),
            '/tf_static': ('tf2_msgs/msg/TFMessage', 1),
        }
        assert (reader.start_ns, reader.end_ns) == (START - 1, START + 3 * STEP)
        read = list(reader.messages())
        assert [item.log_ns for item in read] == [log_ns for _, _, log_ns in messages.sorted()]
        image = next(item.message for item in read if item.topic == '/cam/image_raw' and item.log_ns == START + STEP)
        assert (decode_image(image)[0] == 1).all()
        info = next(item.message for item in read if item.topic == '/cam/camera_info')
        assert decode_camera(info, rectified=True).fx == 60.0
        scan = decode_cloud(next(item.message for item in read if item.topic == '/points'))
        sent = decode_cloud(next(message for topic, message, _ in messages.sorted() if topic == '/points'))
        np.testing.assert_array_equal(scan.points, sent.points)
        np.testing.assert_array_equal(scan.time_offset_ns, sent.time_offset_ns)
        np.testing.assert_array_equal(scan.ring, sent.ring)
        assert [item.topic for item in reader.messages(['/odom'])] == ['/odom'] * 3
        assert list(reader.messages([])) == []
        assert reader.num_damaged == 0


@pytest.mark.parametrize('kind', ['mcap', 'db3', 'ros1'])
def test_raw_messages_are_ros_2_messages(tmp_path, kind):
    path = Messages().drive(2).write(tmp_path / 'bag', kind)
    store = get_typestore(Stores.ROS2_JAZZY)
    with BagReader(path) as reader:
        for item in reader.raw_messages():
            message = store.deserialize_cdr(item.data, item.type)
            if item.topic == '/cam/camera_info':
                assert message.k[0] == 60.0
                assert message.header.frame_id == 'cam_optical'
            if item.topic == '/tf_static':
                assert message.transforms[1].child_frame_id == 'cam_optical'


def test_a_topic_that_is_not_there_is_an_error_that_lists_those_that_are(tmp_path):
    with BagReader(Messages().drive(1).write(tmp_path / 'bag')) as reader, \
            pytest.raises(BagError, match=r"no topic '/nope'; it has .*/cam/image_raw"):
        next(reader.messages(['/nope']))


def one_line(error):
    text = str(error.value)
    assert isinstance(error.value, DepthRosError)
    assert '\n' not in text
    return text


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(BagError) as error:
        BagReader(tmp_path / 'nope')
    assert 'does not exist' in one_line(error)
    (tmp_path / 'notes.txt').write_text('hello')
    with pytest.raises(BagError) as error:
        BagReader(tmp_path / 'notes.txt')
    assert 'no bag by its name' in one_line(error)
    with pytest.raises(BagError) as error:
        BagReader(tmp_path)
    assert 'holds no bag' in one_line(error)


@pytest.mark.parametrize('suffix', ['.bag', '.db3', '.mcap'])
@pytest.mark.parametrize('content', [b'', b'\x00' * 5000, b'garbage' * 1000], ids=('empty', 'zeros', 'garbage'))
def test_a_file_that_is_no_bag_is_one_line(tmp_path, suffix, content):
    path = tmp_path / f'bad{suffix}'
    path.write_bytes(content)
    with pytest.raises(BagError) as error:
        BagReader(path)
    assert str(path) in one_line(error)


def test_a_folder_with_broken_metadata_is_one_line(tmp_path):
    path = Messages().drive(1).write(tmp_path / 'bag')
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: {version: [')
    with pytest.raises(BagError) as error:
        BagReader(path)
    one_line(error)


def test_an_empty_recording_is_one_line(tmp_path):
    with BagWriter(tmp_path / 'empty'):
        pass
    with pytest.raises(BagError) as error:
        BagReader(tmp_path / 'empty')
    assert 'no whole message' in one_line(error)


@pytest.mark.parametrize('folder', [True, False], ids=('folder', 'file'))
def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path, folder):
    path = Messages().drive(200).write(tmp_path / 'bag')
    file = next(path.glob('*.mcap'))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 3 // 5])
    (path / 'metadata.yaml').unlink()  # what a killed recorder leaves
    with BagReader(path if folder else file) as reader:
        count = sum(1 for _ in reader.messages())
        assert 100 < count < 801
        assert any('the end is missing' in note for note in reader.notes)


def test_a_cut_off_file_beside_whole_metadata_is_read_too(tmp_path):
    path = Messages().drive(200).write(tmp_path / 'bag')
    file = next(path.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:-40])
    with BagReader(path) as reader:
        assert sum(1 for _ in reader.messages()) == 801


@pytest.mark.parametrize('kind', ['mcap', 'db3'])
@pytest.mark.parametrize('last', [b'', b'\x89MCAP0\r\n', b'\x89MCAP0\r\n' + bytes(4096), bytes(4096)])
def test_a_last_file_with_nothing_in_it_does_not_cost_the_others(tmp_path, kind, last):
    path = Messages().drive(20).write(tmp_path / 'bag', kind)
    (path / f'last.{kind}').write_bytes(last)
    (path / 'metadata.yaml').unlink()  # what a recorder leaves that dies after it has begun a new file
    with BagReader(path) as reader:
        assert sum(1 for _ in reader.messages()) == 20 * 4 + 1
        assert any('last' in note for note in reader.notes)


def test_damage_where_another_topic_begins_is_no_end_of_all(tmp_path):
    with BagReader(damage(Messages().drive(400).write(tmp_path / 'one camera'))) as reader:
        last_ns = max(item.log_ns for item in until_damage(reader.messages(), lambda damage: None))
    rear = Messages().drive(400).image('/rear/image_raw', last_ns + STEP, size=(1, 1))
    path = damage(rear.write(tmp_path / 'bag'))
    with BagReader(path) as reader:
        assert reader.first('/rear/image_raw') is None
        assert reader.first('/points').log_ns == START + STEP
    found = inspect_bag(path, TopicOverrides(), Settings())
    assert found.selection.image == '/cam/image_raw'
    assert 20 < found.pairing.num_images < 400


@pytest.mark.parametrize('kind', ['db3_file', 'ros1'])
def test_other_kinds_that_were_cut_off_are_one_line(tmp_path, kind):
    path = Messages().drive(100).write(tmp_path / 'bag', kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    def read():
        with BagReader(path) as reader:
            return list(reader.messages())

    with pytest.raises(BagError) as error:
        read()
    one_line(error)


def test_damage_inside_a_file_is_one_line_when_it_is_reached(tmp_path):
    path = Messages().drive(400).write(tmp_path / 'bag', 'mcap_file')
    content = bytearray(path.read_bytes())
    chunk = content.index(b'zstd') + 40  # in the first compressed chunk
    content[chunk : chunk + 200] = bytes(200)
    path.write_bytes(content)
    with BagReader(path) as reader, pytest.raises(BagError) as error:
        list(reader.messages())
    assert 'damaged after' in one_line(error)


def test_single_messages_that_cannot_be_read_are_counted(tmp_path):
    path = Messages().drive(4).write(tmp_path / 'bag', 'db3')
    file = next(path.glob('*.db3'))
    with sqlite3.connect(file) as database:
        topic = database.execute("select id from topics where name = '/odom'").fetchone()[0]
        row = database.execute('select id, data from messages where topic_id = ?', (topic,)).fetchone()
        database.execute('update messages set data = ? where id = ?', (row[1][:30], row[0]))
    database.close()
    with BagReader(path) as reader:
        assert sum(1 for _ in reader.messages()) == 4 * 4 + 1 - 1
        assert reader.num_damaged == 1


def test_the_bench_reads_a_file_that_lies_anywhere(tmp_path, capsys):
    file = Messages().drive(2).write(tmp_path / 'bag', 'mcap_file').rename(tmp_path / 'lone.mcap')
    assert main(['bench', '--bag', str(file)]) == 0
    assert json.loads(capsys.readouterr().out)['replay']['events']['count'] == 6
