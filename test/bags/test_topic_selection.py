"""Which topics are chosen from layouts that robots and datasets have."""

import pytest
from bag_samples import CAMERA, START, STEP, Messages
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_typestore

from depth_ros.bags.reader import BagReader
from depth_ros.bags.select import TopicOverrides, select_topics
from depth_ros.errors import BagError


def camera(messages, namespace, image='image_raw', info=True, frame='', **how):
    """Add a camera: image (its name may end with /compressed) and CameraInfo."""
    frame = frame or f'{namespace.strip("/").replace("/", "_")}_optical'
    for index in range(how.pop('count', 3)):
        stamp = START + index * STEP
        topic = f'{namespace}/{image}'
        if topic.endswith('compressed'):
            messages.compressed(topic, stamp, frame=frame, **how)
        elif topic.endswith('compressedDepth'):
            messages.compressed(topic, stamp, frame=frame, form='16UC1; compressedDepth {0}')
        else:
            messages.image(topic, stamp, frame=frame, **how)
        if info:
            model = type(CAMERA)(**{**CAMERA.__dict__, 'frame_id': frame})
            messages.info(info if isinstance(info, str) else f'{namespace}/camera_info', stamp, model)
    return messages


def lidar(messages, topic, count=50, **how):
    for index in range(3):
        messages.points(topic, START + index * STEP, count, **how)
    return messages


LAYOUTS = {
    'kitti: four cameras': (
        lambda m: [camera(m, f'/camera/{name}', 'image_rect', encoding=encoding) for name, encoding in
                   (('gray/left', 'mono8'), ('gray/right', 'mono8'), ('color/right', 'rgb8'), ('color/left', 'rgb8'))],
        '/camera/color/left/image_rect', '/camera/color/left/camera_info',
    ),
    'rectified before raw': (
        lambda m: [camera(m, '/cam', 'image_raw'), camera(m, '/cam', 'image_rect', info=False, frame='cam_optical')],
        '/cam/image_rect', '/cam/camera_info',
    ),
    'raw before compressed': (
        lambda m: [camera(m, '/cam', 'image_raw'),
                   camera(m, '/cam', 'image_raw/compressed', info=False, frame='cam_optical')],
        '/cam/image_raw', '/cam/camera_info',
    ),
    'compressed alone': (
        lambda m: camera(m, '/cam', 'image_raw/compressed'), '/cam/image_raw/compressed', '/cam/camera_info',
    ),
    'realsense: depth, infrared and colour': (
        lambda m: [camera(m, '/camera/depth', 'image_rect_raw', encoding='16UC1'),
                   camera(m, '/camera/aligned_depth_to_color', 'image_raw', encoding='16UC1'),
                   camera(m, '/camera/infra1', 'image_rect_raw', encoding='mono8'), camera(m, '/camera/color')],
        '/camera/color/image_raw', '/camera/color/camera_info',
    ),
    'compressed depth beside colour': (
        lambda m: [camera(m, '/zed/depth', 'image/compressedDepth'), camera(m, '/zed/rgb', 'image/compressed')],
        '/zed/rgb/image/compressed', '/zed/rgb/camera_info',
    ),
    'front before other sides': (
        lambda m: [camera(m, f'/{side}') for side in ('camera_back', 'camera_left', 'camera_front', 'camera_right')],
        '/camera_front/image_raw', '/camera_front/camera_info',
    ),
    'left before right, in front': (
        lambda m: [camera(m, f'/{side}') for side in ('front_right', 'front_left', 'rear_left', 'right')],
        '/front_left/image_raw', '/front_left/camera_info',
    ),
    'numbered cameras: the first': (
        lambda m: [camera(m, f'/cam{index}') for index in (2, 0, 1)], '/cam0/image_raw', '/cam0/camera_info',
    ),
    'a camera without calibration comes last': (
        lambda m: [camera(m, '/color', info=False), camera(m, '/mono', encoding='mono8')],
        '/mono/image_raw', '/mono/camera_info',
    ),
    'calibration elsewhere, found by frame': (
        lambda m: [camera(m, '/color', info='/calibration/a', frame='a_optical'),
                   camera(m, '/mono', encoding='mono8', info='/calibration/b', frame='b_optical')],
        '/color/image_raw', '/calibration/a',
    ),
    'masks and own depth are no cameras': (
        lambda m: [camera(m, '/seg', 'mask', encoding='mono8'), camera(m, '/depth', 'image_colored'),
                   camera(m, '/depth', 'image', encoding='32FC1', info=False), camera(m, '/front')],
        '/front/image_raw', '/front/camera_info',
    ),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_camera(tmp_path, layout):
    make, image, info = LAYOUTS[layout]
    messages = Messages()
    make(messages)
    with BagReader(messages.write(tmp_path / 'bag')) as reader:
        selection = select_topics(reader)
    assert (selection.image, selection.camera_info) == (image, info)
    assert selection.reasons['image']
    assert selection.candidates['image'][0] == selection.image
    assert selection.missing == ('points', 'odometry')


@pytest.mark.parametrize(('make', 'points'), [
    (lambda m: [lidar(m, '/lidar_side/points', 20), lidar(m, '/lidar_top/points', 200)], '/lidar_top/points'),
    (lambda m: [lidar(m, '/camera/depth/color/points', 900, times=False, ring=False), lidar(m, '/velodyne_points', 50)],
     '/velodyne_points'),
    (lambda m: [lidar(m, '/ouster/points', 50), lidar(m, '/map', 5000, times=False, ring=False)], '/ouster/points'),
    (lambda m: lidar(m, '/anything', 50, times=False, ring=False), '/anything'),
], ids=('most points', 'not of a depth camera', 'not a map', 'whatever its name'))
def test_lidar(tmp_path, make, points):
    messages = Messages()
    make(messages)
    with BagReader(messages.write(tmp_path / 'bag')) as reader:
        selection = select_topics(reader)
    assert selection.points == points
    assert selection.missing == ('image', 'camera_info', 'odometry')
    assert 'no topic of type' in selection.reasons['image']


def test_odometry_fused_before_raw_and_never_without_a_body(tmp_path):
    messages = Messages()
    for index in range(4):
        stamp = START + index * STEP
        messages.odometry('/wheel/odom', stamp).odometry('/wheel/odom', stamp + 1).odometry('/odometry/filtered', stamp)
        messages.odometry('/a/filtered', stamp, child='')
    with BagReader(messages.write(tmp_path / 'bag')) as reader:
        selection = select_topics(reader)
    assert selection.odometry == '/odometry/filtered'
    assert selection.candidates['odometry'] == ('/odometry/filtered', '/wheel/odom')


def test_topics_that_are_named_win(tmp_path):
    messages = Messages()
    camera(camera(messages, '/left'), '/right')
    lidar(lidar(messages, '/a/points'), '/b/points', 500)
    with BagReader(messages.write(tmp_path / 'bag')) as reader:
        selection = select_topics(reader, TopicOverrides(image='/right/image_raw', points='/a/points'))
        assert (selection.image, selection.camera_info, selection.points) == (
            '/right/image_raw', '/right/camera_info', '/a/points')
        assert selection.reasons['image'] == 'named by the user'
        with pytest.raises(BagError, match="has no topic '/middle/image_raw'"):
            select_topics(reader, TopicOverrides(image='/middle/image_raw'))
        with pytest.raises(BagError, match=r'holds sensor_msgs/msg/PointCloud2, expected sensor_msgs/msg/Image'):
            select_topics(reader, TopicOverrides(image='/a/points'))


@pytest.mark.parametrize(('role', 'name'), [('image', '/b/image'), ('camera_info', '/b/info'), ('points', '/b/points')])
def test_a_named_topic_without_a_message_is_refused(tmp_path, role, name):
    kind = {'image': 'Image', 'camera_info': 'CameraInfo', 'points': 'PointCloud2'}[role]
    with Ros2Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        store = get_typestore(Stores.ROS2_JAZZY)
        writer.add_connection(name, f'sensor_msgs/msg/{kind}', typestore=store)
        other = writer.add_connection('/odom', 'nav_msgs/msg/Odometry', typestore=store)
        message = Messages().odometry('/odom', 1).items[0][1]
        writer.write(other, 1, store.serialize_cdr(message, 'nav_msgs/msg/Odometry'))
    with BagReader(tmp_path / 'bag') as reader, pytest.raises(BagError, match=f'{name}. holds no message'):
        select_topics(reader, TopicOverrides(**{role: name}))


def test_truth_is_taken_only_where_it_is_named(tmp_path):
    messages = lidar(camera(Messages(), '/cam'), '/points')
    for index in range(3):
        messages.odometry('/truth/odometry', START + index * STEP)
    bag = messages.write(tmp_path / 'bag')
    with BagReader(bag) as reader:
        assert select_topics(reader).odometry == ''
        assert select_topics(reader, TopicOverrides(odometry='/truth/odometry')).odometry == '/truth/odometry'
