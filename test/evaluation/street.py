"""A drive down a street of planes, with exact depth: ground, a wall ahead, a box on the right."""

import cv2
import numpy as np

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.geometry.rigid import rigid, rotation_to_quaternion
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.header import set_stamp
from depth_ros.messages.image import fill_image
from depth_ros.messages.odometry import fill_transform
from depth_ros.messages.point_cloud import fill_lidar_cloud
from depth_ros.types import Camera, LidarScan

NS = 1_000_000_000
START = 1_700_000_000 * NS
PERIOD = 100_000_000
CAMERA = Camera(160, 96, 120.0, 120.0, 79.5, 40.0, 'cam_optical')
NUM_RINGS = 32
SPEED = 5.0
WALL, BOX = 30.0, (12.0, -4.0, -1.5)
_HEIGHT = 1.7
# Camera and lidar stand at one place, so nothing is hidden: x forward is z of the optical frame.
OPTICAL_FROM_BODY = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], np.float64)


def ranges(directions, x):
    """(N,) distance along unit directions (x forward, z up) from the robot at x along the street; NaN = sky."""
    with np.errstate(divide='ignore', invalid='ignore'):
        ground = np.where(directions[:, 2] < -1e-6, -_HEIGHT / directions[:, 2], np.inf)
        wall = np.where(directions[:, 0] > 1e-6, (WALL - x) / directions[:, 0], np.inf)
        wall[wall * directions[:, 2] > 6] = np.inf
        box = np.where(directions[:, 0] > 1e-6, (BOX[0] - x) / directions[:, 0], np.inf)
        beside = box * directions[:, 1]
        box[(box < 0) | (beside < BOX[1]) | (beside > BOX[2]) | (box * directions[:, 2] > 0.5)] = np.inf
    distance = np.minimum(np.minimum(ground, wall), box)
    return np.where(np.isfinite(distance), distance, np.nan)


def scan(index, num_rings=NUM_RINGS, named=True):
    """A sweep of the front, stored ring by ring from the top, as KITTI stores it."""
    elevations = np.radians(np.linspace(8, -24, num_rings))
    azimuths = np.radians(np.concatenate([np.arange(0, 45, 0.5), np.arange(-45, 0, 0.5)]))
    elevation, azimuth = (grid.ravel() for grid in np.meshgrid(elevations, azimuths, indexing='ij'))
    directions = np.stack([
        np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    ], axis=1)
    distance = ranges(directions, index * SPEED * PERIOD / NS)
    ring = np.repeat(np.arange(num_rings), len(azimuths))
    known = np.isfinite(distance)
    points = (directions * distance[:, None])[known].astype(np.float32)
    return LidarScan(START + index * PERIOD, points, 'lidar', None, ring[known].astype(np.uint16) if named else None)


def true_depth(index):
    """(H, W) metres, NaN = sky."""
    u, v = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], axis=-1)
    rays = rays.reshape(-1, 3)
    length = np.linalg.norm(rays, axis=1)
    distance = ranges(rays / length[:, None] @ OPTICAL_FROM_BODY, index * SPEED * PERIOD / NS)
    return (distance / length).reshape(CAMERA.shape)


def image(index):
    """(H, W, 3) uint8, brighter where nearer."""
    depth = np.nan_to_num(true_depth(index), nan=100.0)
    return cv2.applyColorMap((255 * np.exp(-depth / 15)).astype(np.uint8), cv2.COLORMAP_BONE)


def write_street(path, count=6, poses=True, named_rings=True, lidar=True, compress=False, truths=()):
    """Write the drive as a bag, with the true depth of the images of such numbers."""
    with BagWriter(path, compress=compress) as bag:
        transforms = bag.message('tf2_msgs/msg/TFMessage')
        rotation = rotation_to_quaternion(OPTICAL_FROM_BODY.T)
        for parent, child, (x, y, z, w) in (
            ('base_link', 'lidar', (0.0, 0.0, 0.0, 1.0)), ('base_link', 'cam_optical', rotation)
        ):
            item = bag.message('geometry_msgs/msg/TransformStamped')
            item.header.frame_id, item.child_frame_id = parent, child
            turn = item.transform.rotation
            turn.x, turn.y, turn.z, turn.w = float(x), float(y), float(z), float(w)
            transforms.transforms.append(item)
        bag.write('/tf_static', transforms, START - 1)
        for index in range(count):
            stamp = START + index * PERIOD
            if poses:
                odometry = bag.message('nav_msgs/msg/Odometry')
                set_stamp(odometry.header.stamp, stamp)
                odometry.header.frame_id, odometry.child_frame_id = 'odom', 'base_link'
                odometry.pose.pose.position.x = index * SPEED * PERIOD / NS
                odometry.pose.pose.orientation.w = 1.0
                bag.write('/odom', odometry, stamp)
            if lidar:
                cloud = bag.message('sensor_msgs/msg/PointCloud2')
                point_field = bag.type('sensor_msgs/msg/PointField')
                bag.write('/points', fill_lidar_cloud(cloud, point_field, scan(index, named=named_rings)), stamp + 1)
            info = fill_camera_info(bag.message('sensor_msgs/msg/CameraInfo'), CAMERA, stamp)
            bag.write('/camera/camera_info', info, stamp + 2)
            picture = fill_image(bag.message('sensor_msgs/msg/Image'), image(index), 'bgr8', 'cam_optical', stamp)
            bag.write('/camera/image_rect', picture, stamp + 3)
            if index in truths:
                depth = true_depth(index).astype(np.float32)
                message = bag.message('sensor_msgs/msg/Image')
                bag.write('/truth/depth', fill_image(message, depth, '32FC1', 'cam_optical', stamp), stamp + 4)
    return path


def panned(stamp_ns):
    """(4, 4) base_link from cam_optical, of a camera that is turned to and fro."""
    yaw = 0.1 * np.sin(5 * (stamp_ns - START) / NS)
    turned = rigid((0.5, 0, 0), (0, 0, np.sin(yaw / 2), np.cos(yaw / 2)))
    turned[:3, :3] = turned[:3, :3] @ OPTICAL_FROM_BODY.T
    return turned


def write_panned(street, path, until=START + NS):
    """Write the drive anew with the camera on a joint, whose angle /tf tells at 50 Hz until a time."""
    with BagReader(street) as reader, BagWriter(path) as bag:
        records = [(item.log_ns, item.topic, item.message) for item in reader.messages()]
        for stamp in range(START - PERIOD, until, PERIOD // 5):
            message = bag.message('tf2_msgs/msg/TFMessage')
            joint = bag.message('geometry_msgs/msg/TransformStamped')
            message.transforms = [fill_transform(joint, 'base_link', 'cam_optical', panned(stamp), stamp)]
            records.append((stamp, '/tf', message))
        for log_ns, topic, message in sorted(records, key=lambda record: record[0]):
            if topic == '/tf_static':
                message.transforms = [item for item in message.transforms if item.child_frame_id != 'cam_optical']
            bag.write(topic, message, log_ns)
    return path
