"""Small bags of every kind, with the same messages in them."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rosbags.convert.converter import migrate_message
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from depth_ros.bags.writer import BagWriter
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.header import set_body, set_stamp
from depth_ros.messages.image import fill_image
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.types import Camera, LidarScan

NS = 1_000_000_000
START = 1_700_000_000 * NS
STEP = 100_000_000
CAMERA = Camera(64, 48, 60.0, 61.0, 31.5, 23.5, 'cam_optical')


@dataclass
class Messages:
    """Messages to write, made by the writer's own types."""

    writer: BagWriter = field(default_factory=lambda: BagWriter('unused'))
    items: list = field(default_factory=list)

    def add(self, topic, message, log_ns):
        self.items.append((topic, message, log_ns))
        return self

    def transforms(self, *edges, topic='/tf_static', stamp=START, log_ns=START - 1):
        """Edges are (parent, child, xyz)."""
        message = self.writer.message('tf2_msgs/msg/TFMessage')
        for parent, child, (x, y, z) in edges:
            item = self.writer.message('geometry_msgs/msg/TransformStamped')
            set_stamp(item.header.stamp, stamp)
            item.header.frame_id, item.child_frame_id = parent, child
            translation = item.transform.translation
            translation.x, translation.y, translation.z = float(x), float(y), float(z)
            item.transform.rotation.w = 1.0
            message.transforms.append(item)
        return self.add(topic, message, log_ns)

    def info(self, topic, stamp, camera=CAMERA, log_ns=None):
        message = fill_camera_info(self.writer.message('sensor_msgs/msg/CameraInfo'), camera, stamp)
        return self.add(topic, message, stamp if log_ns is None else log_ns)

    def image(self, topic, stamp, value=0, encoding='rgb8', frame=CAMERA.frame_id, size=(48, 64), log_ns=None):
        dtype = {'16UC1': np.uint16, '32FC1': np.float32}.get(encoding, np.uint8)
        shape = size if encoding in ('mono8', '16UC1', '32FC1') else (*size, 3)
        message = self.writer.message('sensor_msgs/msg/Image')
        fill_image(message, np.full(shape, value, dtype), encoding, frame, stamp)
        return self.add(topic, message, stamp if log_ns is None else log_ns)

    def compressed(self, topic, stamp, value=0, kind='png', frame=CAMERA.frame_id, form='bgr8; {0} compressed bgr8'):
        message = self.writer.message('sensor_msgs/msg/CompressedImage')
        set_stamp(message.header.stamp, stamp)
        message.header.frame_id, message.format = frame, form.format(kind)
        set_body(message, cv2.imencode(f'.{kind}', np.full((48, 64, 3), value, np.uint8))[1])
        return self.add(topic, message, stamp)

    def points(self, topic, stamp, count=50, frame='lidar', times=True, ring=True, log_ns=None):
        values = np.random.default_rng(stamp % 1000).uniform(1, 10, (count, 3)).astype(np.float32)
        scan = LidarScan(
            stamp, values, frame, np.linspace(0, 90_000_000, count).astype(np.int32) if times else None,
            (np.arange(count) % 4).astype(np.uint16) if ring else None, np.ones(count, np.float32),
        )
        message = fill_lidar_cloud(self.writer.message('sensor_msgs/msg/PointCloud2'),
                                   self.writer.type('sensor_msgs/msg/PointField'), scan)
        return self.add(topic, message, stamp if log_ns is None else log_ns)

    def odometry(self, topic, stamp, x=0.0, child='base_link'):
        message = self.writer.message('nav_msgs/msg/Odometry')
        set_stamp(message.header.stamp, stamp)
        message.header.frame_id, message.child_frame_id = 'odom', child
        message.pose.pose.position.x = x
        message.pose.pose.orientation.w = 1.0
        return self.add(topic, message, stamp)

    def drive(self, count=5):
        """A camera, a lidar and odometry that are all there."""
        self.transforms(('base_link', 'lidar', (0, 0, 1)), ('lidar', 'cam_optical', (0.1, 0, 0)))
        for index in range(count):
            stamp = START + index * STEP
            self.info('/cam/camera_info', stamp).image('/cam/image_raw', stamp, index % 256)
            self.odometry('/odom', stamp, index * 0.5).points('/points', stamp, log_ns=stamp + STEP)
        return self

    def sorted(self):
        return sorted(self.items, key=lambda item: item[2])

    def write(self, path: Path, kind='mcap') -> Path:
        """Write as mcap (our writer), mcap_file, db3, db3_file (without definitions, as Humble does) or ros1."""
        if kind in ('mcap', 'mcap_file'):
            with BagWriter(path, compress=True) as writer:
                for topic, message, log_ns in self.sorted():
                    writer.write(topic, message, log_ns)
            return path if kind == 'mcap' else next(path.glob('*.mcap'))
        if kind in ('db3', 'db3_file'):
            store = get_typestore(Stores.ROS2_HUMBLE)
            with Ros2Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
                connections = {}
                for topic, message, log_ns in self.sorted():
                    name = message.__msgtype__
                    if topic not in connections:
                        connections[topic] = writer.add_connection(topic, name, typestore=store)
                    writer.write(connections[topic], log_ns, store.serialize_cdr(message, name))
            file = next(path.glob('*.db3'))
            with closing(sqlite3.connect(file)) as database, database:
                assert database.execute('delete from message_definitions').rowcount
            return path if kind == 'db3' else file
        path = path.with_suffix('.bag')
        source, target, cache = self.writer.types, get_typestore(Stores.ROS1_NOETIC), {}
        target.register(get_types_from_msg('geometry_msgs/TransformStamped[] transforms', 'tf2_msgs/msg/TFMessage'))
        with Ros1Writer(path) as writer:
            connections = {}
            for topic, message, log_ns in self.sorted():
                name = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, name, typestore=target)
                old = migrate_message(source, target, name, name, cache, message)
                writer.write(connections[topic], log_ns, target.serialize_ros1(old, name))
        return path


def jointed() -> Messages:
    """A drive with its camera on a mast that /tf moves by 1 m from image to image."""
    messages = Messages().drive(5)
    messages.items = [item for item in messages.items if item[0] != '/tf_static']
    messages.transforms(('base_link', 'lidar', (0, 0, 1)), ('mast', 'cam_optical', (0.1, 0, 0)))
    for index in range(5):
        stamp = START + index * STEP
        messages.transforms(('lidar', 'mast', (index, 0, 0)), topic='/tf', stamp=stamp, log_ns=stamp - 1)
    return messages
