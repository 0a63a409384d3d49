"""PandaSet: Pandar64 and the front camera, five moments of three drives, kept in a repository on segmentation.

The clouds are in the world and name no rings; the poses beside them are those of the car. So the lidar is placed by the
front camera, and a ring is told by where a point lies as the lidar saw it.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.bags.frames import write_frame
from depth_ros.bags.kitti_files import rigid_4x4
from depth_ros.geometry.rigid import interpolate, invert, rigid
from depth_ros_training.public_samples.plain_pickle import read_plain_pickle, table_columns

_MOMENTS = {'001': (1, 3), '002': (0, 3), '003': (3,)}
_CHANNELS = 'tutorials/raw_depth_projection/pandar64_channel_distribution.csv'
# Pose of the lidar in the frame of the front camera: docs/static_extrinsic_calibration.yaml of the kit.
_CAMERA_FROM_LIDAR = rigid(
    (0.0002585796504896516, -0.03907777167811011, -0.0440125762408362),
    (0.0030578899383849464, 0.7114721800418571, -0.7025205466606356, 0.016213200031258722),
)
_SPINNING = 0  # in column d; the other lidar is a PandarGT
_TURN = 3600.0  # degrees per second, clockwise
_ELEVATION_OFF = 0.17  # degrees that weigh as much as one in azimuth: the least step between channels
_SAME_CHANNEL = 0.7  # degrees in azimuth


def write(repository: Path, kit: Path, out: Path) -> None:
    """Write the five images."""
    lines = (kit / _CHANNELS).read_text(encoding='utf-8').split()[1:]
    channels = np.array([[float(word) for word in line.split(',')[1:]] for line in lines])
    for drive, indices in _MOMENTS.items():
        rig = _Rig(repository / 'dataset/Pandaset' / drive)
        for index in indices:
            points, ring = rig.cloud(index, channels)
            image = (rig.camera / f'{index:02d}.jpg').read_bytes()
            write_frame(out / f'{drive}_{index:02d}', image, rig.k, rig.camera_from_lidar(index), points, ring)


class _Rig:
    """The car of one drive, where its lidar sits, and its front camera."""

    def __init__(self, drive: Path) -> None:
        self._lidar, self.camera = drive / 'lidar', drive / 'camera/front_camera'
        self._times = np.array(_read(self._lidar / 'timestamps.json'))
        self._poses = [_pose(entry) for entry in _read(self._lidar / 'poses.json')]
        self._cameras = [_pose(entry) for entry in _read(self.camera / 'poses.json')]
        i = _read(self.camera / 'intrinsics.json')
        self.k = np.array([[i['fx'], 0, i['cx']], [0, i['fy'], i['cy']], [0, 0, 1]])
        times = np.array(_read(self.camera / 'timestamps.json'))
        mounted = [
            invert(car) @ camera @ _CAMERA_FROM_LIDAR
            for car, camera in zip(self._cars(times), self._cameras, strict=True)
        ]
        self._car_from_lidar = rigid_4x4(np.mean(mounted, axis=0)[:3, :3], np.median(mounted, axis=0)[:3, 3])

    def camera_from_lidar(self, index: int) -> np.ndarray:
        """(4, 4), each at its own time."""
        return invert(self._cameras[index]) @ self._poses[index] @ self._car_from_lidar

    def cloud(self, index: int, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the spinning lidar.

        Args:
            index: of the moment.
            channels: (64, 2) azimuth off the column, clockwise, and elevation, degrees, from the highest down.

        Returns:
            points: (N, 4) x y z in metres in the frame of the lidar, and intensity.
            ring: (N,) int64, 0 = highest.
        """
        columns = table_columns(read_plain_pickle(gzip.decompress((self._lidar / f'{index:02d}.pkl.gz').read_bytes())))
        chosen = columns['d'] == _SPINNING
        world = np.stack([columns[name][chosen] for name in 'xyz'], axis=1)
        times = columns['t'][chosen]
        lidars = self._cars(times) @ self._car_from_lidar
        as_seen = np.einsum('nij,ni->nj', lidars[:, :3, :3], world - lidars[:, :3, 3])
        ring = pandar64_rings(as_seen, times - self._times[index], channels)
        pose = invert(self._poses[index] @ self._car_from_lidar)
        points = world @ pose[:3, :3].T + pose[:3, 3]
        return np.concatenate([points, columns['i'][chosen, None]], axis=1), ring

    def _cars(self, times: np.ndarray) -> np.ndarray:
        """(N, 4, 4) world from car, between the two poses next to each time, or beyond them."""
        after = np.clip(np.searchsorted(self._times, times), 1, len(self._times) - 1)
        shares = (times - self._times[after - 1]) / (self._times[after] - self._times[after - 1])
        return np.array([
            interpolate(self._poses[i - 1], self._poses[i], share) for i, share in zip(after, shares, strict=True)
        ])  # fmt: skip


def pandar64_rings(points: np.ndarray, times: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Tell the channel of every point by elevation and by azimuth: neighbours in elevation look to different sides.

    Args:
        points: (N, 3) metres, in the frame of the lidar at the time of each.
        times: (N,) seconds.
        channels: (64, 2) azimuth off the column, clockwise, and elevation, degrees.

    Returns:
        (N,) int64 channel.
    """
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    off = np.abs(elevation[:, None] - channels[:, 1]) / _ELEVATION_OFF
    channel = off.argmin(axis=1)
    turned = azimuth + _TURN * times
    start = np.angle(np.exp(1j * np.radians(turned + channels[channel, 0])).mean(), deg=True)
    aside = np.mod(turned - start + 180, 360) - 180
    # It does not turn quite evenly.
    for _ in range(3):
        channel = (off + np.abs(aside[:, None] + channels[:, 0])).argmin(axis=1)
        rest = aside + channels[channel, 0]
        good = np.abs(rest) < _SAME_CHANNEL
        aside = aside - np.polyval(np.polyfit(times[good], rest[good], 3), times)
    return channel


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding='utf-8'))


def _pose(entry: dict[str, dict[str, float]]) -> np.ndarray:
    """(4, 4) of a pose as stored."""
    p, h = entry['position'], entry['heading']
    return rigid((p['x'], p['y'], p['z']), (h['x'], h['y'], h['z'], h['w']))
