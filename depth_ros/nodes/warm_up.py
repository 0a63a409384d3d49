"""One run of everything on made-up messages: what must be compiled is compiled before the first image comes.

Except what engines compile per size of the image, which only that image tells: OpenVINO takes half a second then.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from depth_ros.estimators.base import Estimator
from depth_ros.evaluation.holdout import fraction_holdout
from depth_ros.evaluation.metrics import score
from depth_ros.geometry.camera import rays
from depth_ros.geometry.cloud import xyzrgb
from depth_ros.geometry.color import colorize
from depth_ros.geometry.depth_image import from_metres
from depth_ros.geometry.rigid import TransformTree
from depth_ros.messages.camera_info import fill_camera_info
from depth_ros.messages.frame import FrameDecoder
from depth_ros.messages.image import fill_image
from depth_ros.messages.point_cloud import decode_cloud, fill_lidar_cloud
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import ProjectionSettings, Settings
from depth_ros.types import Camera, LidarScan

_STAMP_NS = 1_000_000_000


def warm_up(estimator: Estimator, settings: Settings) -> None:
    """Take a slanted wall through all that a live image goes through, up to publishing.

    Args:
        estimator: the method.
        settings: settings of the node; its frames and limits of depth are not used.
    """
    camera = Camera(160, 120, 120.0, 120.0, 79.5, 59.5, 'optical')
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-0.7, 0.7, 60), np.linspace(-0.5, 0.5, 16)))
    z = (6 + 2 * x).astype(np.float32)
    points = np.stack([x * z, y * z, z], axis=1).astype(np.float32)
    scan = LidarScan(_STAMP_NS, points, 'optical', np.zeros(len(z), np.int32), np.zeros(len(z), np.uint16), z)
    # Serialised and back, so that the compiled code sees the very buffers that it will see live.
    cloud = _received(fill_lidar_cloud(PointCloud2(), PointField, scan))
    info = _received(fill_camera_info(CameraInfo(), camera, _STAMP_NS))
    image = fill_image(Image(), np.full((120, 160, 3), 128, np.uint8), 'rgb8', 'optical', _STAMP_NS)
    padded = fill_image(Image(), np.full((120, 164, 3), 128, np.uint8), 'rgb8', 'optical', _STAMP_NS)
    padded.width = 160  # some drivers fill up rows, and what is compiled for those is not what is for others
    decoder = FrameDecoder('image', Settings())
    decoder.add_info(info)
    frame = decoder.decode(_received(image))
    # Whatever depths the user lets count, those of the wall do.
    walled = dataclasses.replace(settings, projection=ProjectionSettings())
    pipeline = DepthPipeline(walled, TransformTree(), estimator, fraction_holdout(0.1))
    pipeline.add_scan(decode_cloud(cloud))
    estimate = pipeline.process(frame)
    score(estimate)
    from_metres(estimate.depth, settings.output.encoding)
    colorize(estimate.depth, settings.output.color_max_depth)
    out = np.empty((*camera.shape, 4), np.float32)
    for pixels in (frame.image, decoder.decode(_received(padded)).image):
        xyzrgb(estimate.depth, rays(frame.camera), pixels, frame.encoding, frame.camera, 1, out)


def _received(message):
    return deserialize_message(serialize_message(message), type(message))
