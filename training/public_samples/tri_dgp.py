"""TRI's DGP: long-range lidars without rings, three or six cameras, six moments of two scenes; its test data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.bags.frames import write_frame
from depth_ros.geometry.rigid import invert, rigid

_SCENES = 'scene_01', 'scene_02'


def write(dgp: Path, out: Path) -> None:
    """Write the 27 images, each with the sweep of its moment."""
    for scene in _SCENES:
        root = dgp / 'tests/data/dgp/test_scene' / scene
        (index,) = root.glob('scene_*.json')
        content = json.loads(index.read_text(encoding='utf-8'))
        calibration = json.loads(min((root / 'calibration').iterdir()).read_text(encoding='utf-8'))
        intrinsics = dict(zip(calibration['names'], calibration['intrinsics'], strict=True))
        data = {item['key']: item for item in content['data']}
        for number, moment in enumerate(content['samples']):
            found = {data[key]['id']['name']: data[key]['datum'] for key in moment['datum_keys']}
            lidar = found['LIDAR']['point_cloud']
            with np.load(root / lidar['filename']) as arrays:
                points = next(iter(arrays.values()))
            for name, datum in sorted(found.items()):
                if 'image' in datum:
                    i = intrinsics[name]
                    k = np.array([[i['fx'], i['skew'], i['cx']], [0, i['fy'], i['cy']], [0, 0, 1]])
                    # Both are in the world, each at its own time.
                    pose = invert(_pose(datum['image']['pose'])) @ _pose(lidar['pose'])
                    image = (root / datum['image']['filename']).read_bytes()
                    write_frame(out / f'{scene}_{number}_{name.lower()}', image, k, pose, points)


def _pose(pose: Mapping[str, Any]) -> np.ndarray:
    """(4, 4) world from sensor."""
    q, t = pose['rotation'], pose['translation']
    return rigid((t['x'], t['y'], t['z']), (q['qx'], q['qy'], q['qz'], q['qw']))
