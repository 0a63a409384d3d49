"""nuScenes: HDL-32E and six cameras, one moment; part of the demo of MMDetection3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_ros.bags.frames import write_frame
from depth_ros_training.public_samples.plain_pickle import read_plain_pickle

_FOLDER = 'demo/data/nuscenes'


def write(mmdetection3d: Path, out: Path) -> None:
    """Write the six images; the poses account for the motion between lidar and cameras."""
    root = mmdetection3d / _FOLDER
    (index,) = root.glob('*+0800.pkl')
    moment = read_plain_pickle(index.read_bytes())['data_list'][0]
    cloud = np.fromfile(root / moment['lidar_points']['lidar_path'], np.float32).reshape(-1, 5)
    for name, camera in moment['images'].items():
        image = (root / camera['img_path']).read_bytes()
        write_frame(
            out / name.lower(), image, camera['cam2img'], camera['lidar2cam'], cloud[:, :4], cloud[:, 4].astype(int)
        )
