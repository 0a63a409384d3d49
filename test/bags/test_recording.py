"""Streaming: frames, sweeps and poses as a live node would decode them."""

from dataclasses import replace

import numpy as np
import pytest
from bag_samples import CAMERA, START, STEP, Messages, jointed
from damaged_bags import damage

from depth_ros.bags.inspection import inspect_bag
from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.bags.transforms import read_transforms
from depth_ros.bags.writer import BagWriter
from depth_ros.errors import BagError, DamagedBagError, OldTransformError, SettingsError, TransformError
from depth_ros.messages import frame as frame_module
from depth_ros.messages.image import decode_file
from depth_ros.settings import Settings, from_flat
from depth_ros.types import Camera, Frame, LidarScan, Pose


@pytest.mark.parametrize('kind', ['mcap', 'db3', 'ros1'])
def test_everything_comes_in_the_order_of_recording(tmp_path, kind):
    path = Messages().drive(3).write(tmp_path / 'bag', kind)
    with Recording(path) as recording:
        assert recording.num_frames == 3
        assert recording.selection.missing == ()
        events = list(recording.events())
        again = list(recording.events())
        assert recording.transforms.lookup('cam_optical', 'base_link')[:3, 3] == pytest.approx((-0.1, 0, -1))
    times = [log_ns for log_ns, _ in events]
    assert times == sorted(times)
    assert [type(item) for _, item in events] == [type(item) for _, item in again]
    frames = [item for _, item in events if isinstance(item, Frame)]
    scans = [item for _, item in events if isinstance(item, LidarScan)]
    poses = [item for _, item in events if isinstance(item, Pose)]
    assert [frame.stamp_ns for frame in frames] == [START, START + STEP, START + 2 * STEP]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2]
    assert (frames[0].camera.fx, frames[0].camera.fy) == (60.0, 61.0)
    assert len(scans) == 3
    assert scans[0].time_span_ns == (0, 90_000_000)
    assert [pose.matrix[0, 3] for pose in poses] == [0, 0.5, 1]
    assert frames[0].camera is frames[1].camera, 'an unchanged CameraInfo is decoded once'


def test_images_take_the_camera_info_of_their_own_stamp(tmp_path):
    messages = Messages()
    cameras = [Camera(64, 48, 100 + index, 100, 31, 23, f'cam_{index}') for index in range(3)]
    for index, camera in enumerate(cameras):
        stamp = START + index * STEP
        # The CameraInfo is recorded after its image.
        messages.image('/cam/image_raw', stamp, frame=camera.frame_id)
        messages.info('/cam/camera_info', stamp, camera, log_ns=stamp + 10)
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        frames = [item for _, item in recording.events()]
    assert [frame.camera.fx for frame in frames] == [100, 101, 102]
    assert [frame.camera.frame_id for frame in frames] == ['cam_0', 'cam_1', 'cam_2']


def test_a_single_camera_info_serves_all_images(tmp_path):
    messages = Messages().info('/cam/camera_info', 5, log_ns=START + 2 * STEP)  # latched: an old stamp, recorded late
    for index in range(4):
        messages.image('/cam/image_raw', START + index * STEP)
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        assert sum(1 for _ in recording.events()) == 4
        assert not recording.refused


def test_an_image_without_its_camera_info_comes_with_the_next_image_whichever_are_asked_for(tmp_path):
    messages = Messages()
    for index in range(6):
        stamp = START + index * STEP
        messages.info('/cam/camera_info', stamp - 5, replace(CAMERA, frame_id='other'), log_ns=stamp - 5)
        messages.image('/cam/image_raw', stamp)
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        everything = [log_ns for log_ns, _ in recording.events()]
        some = [log_ns for log_ns, _ in recording.events(images=(START, START + 3 * STEP))]
    assert some == everything[:3]


def test_camera_info_that_cannot_be_read_refuses_images_by_name(tmp_path):
    messages = Messages().image('/cam/image_raw', START)
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write(*messages.items[0])
        writer.write_raw('/cam/camera_info', 'sensor_msgs/msg/CameraInfo', b'\0\1\0\0abc', START)
    named = TopicOverrides(camera_info='/cam/camera_info')
    with Recording(tmp_path / 'bag', named) as recording:
        assert list(recording.events()) == []
        assert ['no CameraInfo has come' in reason for reason in recording.refused] == [True]
    assert any('no CameraInfo has come' in line for line in inspect_bag(tmp_path / 'bag', named, Settings()).problems)


def test_what_cannot_be_decoded_is_counted_by_reason_and_the_rest_goes_on(tmp_path):
    messages = Messages().drive(4)
    for topic, message, log_ns in messages.items:
        if topic == '/cam/image_raw' and log_ns < START + 2 * STEP:
            message.step = 3
        if topic == '/points' and log_ns == START + STEP:
            message.data = message.data[:10]
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        items = [item for _, item in recording.events()]
        refused = dict(recording.refused)
    assert sum(isinstance(item, Frame) for item in items) == 2
    assert sum(isinstance(item, LidarScan) for item in items) == 3
    assert sorted(refused.values()) == [1, 2]
    assert any(reason.startswith('image: image step is #') for reason in refused)
    assert any(reason.startswith('points: cloud has # bytes') for reason in refused)


def test_camera_info_of_another_size_is_a_counted_refusal(tmp_path):
    messages = Messages()
    for index in range(3):
        messages.info('/cam/camera_info', START + index * STEP, Camera(32, 24, 30, 30, 15, 11, 'cam_optical'))
        messages.image('/cam/image_raw', START + index * STEP)
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        assert list(recording.events()) == []
        assert sum(recording.refused.values()) == 3
        assert 'CameraInfo is of a' in next(iter(recording.refused))


@pytest.mark.parametrize('drop', ['/cam/image_raw', '/cam/camera_info'])
def test_a_bag_without_camera_is_one_line(tmp_path, drop):
    messages = Messages().drive(2)
    messages.items = [item for item in messages.items if item[0] != drop]
    with pytest.raises(BagError, match='depth needs camera images and their CameraInfo') as error:
        Recording(messages.write(tmp_path / 'bag'))
    assert '\n' not in str(error.value)


def test_a_bag_without_lidar_or_odometry_is_taken(tmp_path):
    messages = Messages().drive(2)
    messages.items = [item for item in messages.items if item[0] not in ('/points', '/odom')]
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        assert recording.selection.missing == ('points', 'odometry')
        assert [type(item) for _, item in recording.events()] == [Frame, Frame]


def test_transforms_of_the_settings_lie_on_top(tmp_path):
    path = Messages().drive(2).write(tmp_path / 'bag')
    settings = from_flat({'transforms.static': ['lidar cam_optical 5 0 0 0 0 0 1'], 'transforms.lidar_frame': 'roof',
                          'transforms.camera_frame': 'eye'})
    with Recording(path, settings=settings) as recording:
        assert recording.transforms.lookup('lidar', 'cam_optical')[0, 3] == 5
        items = [item for _, item in recording.events()]
    assert {item.frame_id for item in items if isinstance(item, LidarScan)} == {'roof'}
    assert {item.camera.frame_id for item in items if isinstance(item, Frame)} == {'eye'}
    with pytest.raises(SettingsError):
        Recording(path, settings=from_flat({'transforms.static': ['lidar']}))


def moving(count=5, still=True):
    """No Odometry; /tf carries the robot, a joint, and a calibration that a driver repeats."""
    messages = Messages().drive(count)
    messages.items = [item for item in messages.items if item[0] not in ('/odom', '/tf_static')]
    if still:
        messages.transforms(('base_link', 'lidar', (0, 0, 1)))
    for index in range(count):
        stamp = START + index * STEP
        edges = [('odom', 'base_link', (index, 0, 0)), ('base_link', 'wheel', (0, 0, 0.01 * index))]
        edges += [('lidar', 'cam_optical', (0.1, 0, 0))] + ([] if still else [('base_link', 'lidar', (0, 0, 1))])
        messages.transforms(*edges, topic='/tf', stamp=stamp, log_ns=stamp)
    return messages


@pytest.mark.parametrize('still', [True, False], ids=('with tf_static', 'tf alone'))
def test_a_moving_transform_serves_as_odometry(tmp_path, still):
    with Recording(moving(still=still).write(tmp_path / 'bag')) as recording:
        assert recording.transforms.lookup('cam_optical', 'base_link')[:3, 3] == pytest.approx((-0.1, 0, -1))
        assert set(recording.transforms.frames) == {'base_link', 'lidar', 'cam_optical'}
        poses = [item for _, item in recording.events() if isinstance(item, Pose)]
    assert [(pose.frame_id, pose.child_frame_id, pose.matrix[0, 3]) for pose in poses] == [
        ('odom', 'base_link', float(index)) for index in range(5)]


def test_poses_of_a_turning_head_are_those_in_odometry(tmp_path):
    messages = Messages().drive(4)
    messages.items = [item for item in messages.items if item[0] not in ('/odom', '/tf_static')]
    messages.transforms(('head', 'lidar', (0, 0, 1)), ('head', 'cam_optical', (0.1, 0, 1)))
    for stamp in range(START, START + 4 * STEP, STEP):
        steps = (stamp - START) // STEP
        edges = [('odom', 'base_link', (steps, 0, 0)), ('base_link', 'head', (0, 0.1 * steps, 2))]
        messages.transforms(*edges, topic='/tf', stamp=stamp, log_ns=stamp)
    path = messages.write(tmp_path / 'bag')
    with Recording(path) as recording:
        poses = [item for _, item in recording.events() if isinstance(item, Pose)]
    # With the first message alone nobody knows that what is above the head moves.
    assert [(pose.frame_id, pose.child_frame_id, *pose.matrix[:3, 3]) for pose in poses[1:]] == [
        ('odom', 'head', steps, pytest.approx(0.1 * steps), 2) for steps in (1, 2, 3)]
    assert inspect_bag(path, TopicOverrides(), Settings()).poses_from_tf == 'odom to head'


def test_a_frame_that_the_settings_place_does_not_move_on_tf(tmp_path):
    messages = Messages().drive(4)
    messages.items = [item for item in messages.items if item[0] not in ('/odom', '/tf_static')]
    for stamp in range(START, START + 4 * STEP, STEP):
        steps = (stamp - START) // STEP
        edges = [('odom', 'base_link', (steps, 0, 0)), ('pan', 'lidar', (0, 0.1 * steps, 2))]
        messages.transforms(*edges, topic='/tf', stamp=stamp, log_ns=stamp)
    lines = [f'base_link {frame} 0 0 1 0 0 0 1' for frame in ('lidar', 'cam_optical')]
    settings = from_flat({'transforms.static': lines})
    with Recording(messages.write(tmp_path / 'bag'), settings=settings) as recording:
        poses = [item for _, item in recording.events() if isinstance(item, Pose)]
    assert [(pose.frame_id, pose.child_frame_id) for pose in poses] == [('odom', 'base_link')] * 4


def test_transforms_that_move_are_not_in_the_tree(tmp_path):
    with BagReader(moving().write(tmp_path / 'bag')) as reader:
        tree = read_transforms(reader)
    with pytest.raises(TransformError):
        tree.lookup('base_link', 'wheel')
    with pytest.raises(TransformError):
        tree.lookup('odom', 'base_link')


def test_what_moves_is_known_at_a_time_once_it_has_been_played(tmp_path):
    with Recording(jointed().write(tmp_path / 'bag'), settings=from_flat({'transforms.max_age': 0.2})) as recording:
        def at(stamp):
            return recording.transforms.lookup('lidar', 'cam_optical', stamp)[0, 3]

        with pytest.raises(TransformError, match=r'\(lidar to mast\) and had not come yet'):
            at(START)
        for _ in range(2):  # what was played is forgotten when it begins anew
            frames = (item for _, item in recording.events() if isinstance(item, Frame))
            for index, frame in enumerate(frames):
                assert at(frame.stamp_ns - STEP // 4) == pytest.approx(0.1 + max(index - 0.25, 0))
                with pytest.raises(OldTransformError, match=r'0\.30 s older'):
                    at(frame.stamp_ns + 3 * STEP)
            assert index == 4
        with pytest.raises(TransformError, match=r'moves on /tf \(lidar to mast\)'):
            recording.transforms.lookup('lidar', 'cam_optical')
        with pytest.raises(TransformError, match=r'\(known frames: base_link, cam_optical, lidar, mast\)$'):
            recording.transforms.lookup('lidar', 'nowhere', START)


def test_a_transform_of_the_settings_holds_a_joint_still(tmp_path):
    settings = from_flat({'transforms.static': ['lidar mast 7 0 0 0 0 0 1']})
    with Recording(jointed().write(tmp_path / 'bag'), settings=settings) as recording:
        assert sum(1 for _ in recording.events()) == 15
        assert recording.transforms.lookup('lidar', 'cam_optical', START + STEP)[0, 3] == pytest.approx(7.1)
        assert not recording.transforms.moves


def test_the_frame_of_the_odometry_is_searched_for_on_tf_too(tmp_path):
    messages = Messages().drive(3)
    messages.items = [item for item in messages.items if item[0] != '/tf_static']
    messages.transforms(('lidar', 'cam_optical', (0.1, 0, 0)))
    messages.transforms(('base_link', 'lidar', (0, 0, 1)), topic='/tf')
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        assert recording.transforms.lookup('base_link', 'cam_optical')[:3, 3] == pytest.approx((0.1, 0, 1))


def test_named_topics_are_used(tmp_path):
    messages = Messages().drive(2)
    for index in range(2):
        messages.points('/other', START + index * STEP, 7, log_ns=START + index * STEP)
    with Recording(messages.write(tmp_path / 'bag'), TopicOverrides(points='/other')) as recording:
        scans = [item for _, item in recording.events() if isinstance(item, LidarScan)]
    assert [len(scan) for scan in scans] == [7, 7]


def test_a_damaged_bag_says_so_while_it_streams(tmp_path):
    path = damage(Messages().drive(400).write(tmp_path / 'bag'))
    with Recording(path) as recording, pytest.raises(DamagedBagError, match='damaged after'):
        for _ in recording.events():
            pass


def test_compressed_images_give_the_pixels_of_raw_ones(tmp_path):
    messages = Messages()
    for index in range(2):
        stamp = START + index * STEP
        messages.info('/cam/camera_info', stamp).compressed('/cam/image_rect/compressed', stamp, 40 + index)
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        frames = [item for _, item in recording.events()]
    assert [np.unique(frame.image).tolist() for frame in frames] == [[40], [41]]
    assert frames[0].camera.shape == CAMERA.shape
    assert frames[0].encoding == 'bgr8'


def test_pixels_may_wait_until_they_are_asked_for(tmp_path, monkeypatch):
    messages = Messages()
    for index in range(3):
        stamp = START + index * STEP
        messages.info('/cam/camera_info', stamp).compressed('/cam/image_rect/compressed', stamp, 40 + index)
    path = messages.write(tmp_path / 'bag')
    decoded = []
    monkeypatch.setattr(frame_module, 'decode_file', lambda data: decoded.append(data) or decode_file(data))
    with Recording(path) as recording:
        now = [item for _, item in recording.events()]
        late = [item for _, item in recording.events(may_defer=True)]
    assert not decoded
    for one, other in zip(now, late, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.gray(), other.gray())
        assert (one.stamp_ns, one.encoding, one.camera.matrix.tobytes()) == (
            other.stamp_ns, other.encoding, other.camera.matrix.tobytes(),
        )  # fmt: skip
        assert bytes(one.encoded) == bytes(other.encoded)
    assert len(decoded) == 3  # once each


@pytest.mark.parametrize('kind', ['png', 'jpg'])
def test_damaged_images_are_refused_before_their_pixels_are_asked_for(tmp_path, kind):
    messages = Messages().info('/cam/camera_info', START)
    for index in range(3):
        messages.compressed('/cam/image_rect/compressed', START + index * STEP, 40, kind)
    broken = messages.items[-1][1]
    broken.data = broken.data[: len(broken.data) // 8]
    with Recording(messages.write(tmp_path / 'bag')) as recording:
        frames = [item for _, item in recording.events(may_defer=True)]
        assert len(frames) == 2
        assert ['cannot be decoded' in reason for reason in recording.refused] == [True]


def test_a_bag_that_cannot_be_opened_again_is_closed(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write('/odom', writer.message('nav_msgs/msg/Odometry'), START)
    with pytest.raises(BagError, match='no image to use'):
        Recording(tmp_path / 'bag')
