"""Coloured clouds and meshes as PLY files: of one image, or of the whole drive where poses are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.errors import BagError, OutputError, SettingsError, TransformError
from depth_ros.files import whole_file
from depth_ros.geometry.camera import rays
from depth_ros.geometry.cloud import xyzrgb
from depth_ros.geometry.motion import Trajectory
from depth_ros.geometry.rigid import TransformTree, invert
from depth_ros.open3d_library import load_open3d
from depth_ros.pipeline import Transforms
from depth_ros.settings import Settings
from depth_ros.types import Camera, DepthEstimate, Pose

MAX_RELATIVE_STD = 0.1
MAX_DEPTH = 50.0
MESH_VOXEL = 0.1
MAX_MESH_BLOCKS = 200_000  # of 8 x 8 x 8 voxels, 2 GB
_FIRST_VOXEL = 0.02
_MAX_VOXELS = 4_000_000
_TRUNCATION = 4.0  # voxels
_RESOLUTION = 1e-3  # metres that a coordinate has to tell apart; float32 does up to 8 km from the origin


class Drive:
    """Where the camera was, by the odometry of the recording.

    Attributes:
        unused: why odometry that was there did not tell where the camera was, '' if it did.
    """

    def __init__(self, settings: Settings) -> None:
        """Start before the first pose.

        Args:
            settings: ``motion.max_extrapolation`` is used.
        """
        self.unused = ''
        self._transforms: Transforms = TransformTree()
        self._extrapolation_ns = int(settings.motion.max_extrapolation * 1e9)
        self._trajectory = Trajectory()

    def start(self, transforms: Transforms) -> None:
        """Take in what joins camera and body."""
        self._transforms = transforms

    def add(self, pose: Pose) -> None:
        """Take in a pose."""
        self._trajectory.add(pose)

    def fixed_from_optical(self, stamp_ns: int, camera: Camera) -> np.ndarray | None:
        """(4, 4) camera (optical frame) in the fixed frame, or None where poses do not reach, or not to the camera."""
        at, body = self._trajectory.at(stamp_ns, self._extrapolation_ns), self._trajectory.frame_id
        if at is None:
            return None
        try:
            return at @ self._transforms.lookup(body, camera.frame_id, stamp_ns)
        except TransformError as error:
            self.unused = f'odometry of {body!r} does not tell where the camera was: {error}'
            return None


class CloudBuilder:
    """Puts coloured clouds together, estimate by estimate, in bounded memory.

    With odometry, all images are fused in its fixed frame: points of one voxel become their mean. The voxels start at 2
    cm and double whenever there are more than four million. Without odometry of the camera, the cloud is that of the
    image in the middle of the recording, in the optical frame of the camera. Left out are pixels whose standard
    deviation is over ``MAX_RELATIVE_STD`` of their depth, and those beyond ``MAX_DEPTH`` metres.
    """

    def __init__(self, drive: Drive, num_images: int) -> None:
        """Start with nothing.

        Args:
            drive: where the camera was.
            num_images: images to come.
        """
        self.voxel = _FIRST_VOXEL
        self.num_fused = 0
        self.drive = drive
        self._middle = num_images // 2
        self._num_seen = 0
        self._single: DepthEstimate | None = None
        self._merged = np.zeros((0, 7))  # sums of x, y, z, red, green, blue, and the number of points
        self._pending: list[np.ndarray] = []
        self._num_pending = 0
        self._rays: tuple[Camera, np.ndarray] | None = None

    def start(self, transforms: Transforms) -> None:
        """Take in what joins camera and body."""
        self.drive.start(transforms)

    def add_pose(self, pose: Pose) -> None:
        """Take in a pose."""
        self.drive.add(pose)

    def add_estimate(self, estimate: DepthEstimate) -> None:
        """Take in an estimate."""
        if self._num_seen <= self._middle:
            self._single = estimate
        self._num_seen += 1
        frame = estimate.frame
        pose = self.drive.fixed_from_optical(frame.stamp_ns, frame.camera)
        if pose is None:
            return
        points, colours = self._points(estimate)
        rows = np.empty((len(points), 7))
        rows[:, :3] = points @ pose[:3, :3].T + pose[:3, 3]
        rows[:, 3:6], rows[:, 6] = colours, 1
        self._pending.append(_merge(rows, self.voxel))
        self._num_pending += len(self._pending[-1])
        self.num_fused += 1
        if self._num_pending > _MAX_VOXELS:
            self._fuse()

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Put out the cloud.

        Returns:
            points: (N, 3) metres, float64 of many images and float32 of one.
            colours: (N, 3) uint8 red, green, blue.

        Raises:
            BagError: there is no point.
        """
        if self.num_fused:
            self._fuse()
            points, colours = self._merged[:, :3] / self._merged[:, 6:], self._merged[:, 3:6] / self._merged[:, 6:]
            colours = np.rint(colours).astype(np.uint8)
        elif self._single is not None:
            points, colours = self._points(self._single)
        else:
            points, colours = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
        if not len(points):
            raise BagError(
                f'no pixel has a standard deviation within {MAX_RELATIVE_STD:.0%} of a depth up to {MAX_DEPTH:g} m, '
                'so the cloud would be empty'
            )
        return points, colours

    def _points(self, estimate: DepthEstimate) -> tuple[np.ndarray, np.ndarray]:
        frame, camera = estimate.frame, estimate.frame.camera
        if self._rays is None or self._rays[0] is not camera:
            self._rays = camera, rays(camera)
        cloud = np.empty((*camera.shape, 4), np.float32)
        xyzrgb(confident(estimate), self._rays[1], frame.image, frame.encoding, camera, 1, cloud)
        known = np.isfinite(cloud[..., 2])
        return cloud[known][:, :3], cloud.view(np.uint8)[known][:, 14:11:-1]

    def _fuse(self) -> None:
        self._merged = _merge(np.concatenate([self._merged, *self._pending]), self.voxel)
        while len(self._merged) > _MAX_VOXELS:
            self.voxel *= 2
            self._merged = _merge(self._merged, self.voxel)
        self._pending, self._num_pending = [], 0


def confident(estimate: DepthEstimate) -> np.ndarray:
    """(H, W) float32 metres, NaN also where the depth is too far or too uncertain for a cloud."""
    with np.errstate(invalid='ignore'):
        keep = (estimate.depth <= MAX_DEPTH) & (estimate.std <= MAX_RELATIVE_STD * estimate.depth)
    return np.where(keep, estimate.depth, np.float32(np.nan))


def write_cloud(path: Path, points: np.ndarray, colours: np.ndarray, comment: str) -> None:
    """Write a binary PLY, with doubles where odometry counts from so far away that floats are too coarse.

    Args:
        path: the file.
        points: (N, 3) metres.
        colours: (N, 3) uint8 red, green, blue.
        comment: one line about frame and origin.

    Raises:
        OutputError: it cannot be written; nothing half-written is left.
    """
    farthest = np.float32(np.abs(points).max(initial=0))
    code, kind = ('<f8', 'double') if np.spacing(farthest) > _RESOLUTION else ('<f4', 'float')
    vertices = np.empty(len(points), np.dtype([('xyz', code, 3), ('rgb', 'u1', 3)]))
    vertices['xyz'], vertices['rgb'] = points, colours
    header = (
        f'ply\nformat binary_little_endian 1.0\ncomment {" ".join(comment.split())}\nelement vertex {len(points)}\n'
        f'property {kind} x\nproperty {kind} y\nproperty {kind} z\n'
        'property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n'
    )

    with whole_file(path) as temporary, temporary.open('wb') as file:
        file.write(header.encode('ascii', 'replace'))
        vertices.tofile(file)


def remove_outliers(points: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove points far from their neighbours (Open3D's statistical outlier removal, 20 neighbours, 2 deviations).

    Args:
        points: (N, 3) metres.
        colours: (N, 3) uint8.

    Returns:
        The points that stay, with their colours.

    Raises:
        MissingDependencyError: Open3D is not installed.
    """
    o3d = open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.astype(np.float64)))
    _, kept = cloud.remove_statistical_outlier(nb_neighbors=20, std_ratio=2.0)
    kept = np.asarray(kept)
    return points[kept], colours[kept]


class MeshBuilder:
    """Fuses depth along the drive into a surface (Open3D; Curless and Levoy 1996), in bounded memory.

    Attributes:
        num_fused: images in the surface.
        full: whether images had to be left out because the surface had grown to ``MAX_MESH_BLOCKS``.
    """

    def __init__(self, drive: Drive) -> None:
        """Make an empty volume.

        Args:
            drive: where the camera was.

        Raises:
            MissingDependencyError: Open3D is not installed.
        """
        self._o3d = o3d = open3d()
        self._drive = drive
        names, float32 = ('tsdf', 'weight', 'color'), o3d.core.float32
        self._grid = o3d.t.geometry.VoxelBlockGrid(
            names, (float32,) * 3, ((1,), (1,), (3,)), voxel_size=MESH_VOXEL, block_resolution=8, block_count=20_000,
        )
        # Open3D counts in single precision: where odometry counts from far away, nothing would be left of the surface.
        self._origin: np.ndarray | None = None
        self.num_fused = 0
        self.full = False

    def start(self, transforms: Transforms) -> None:
        """Take in what joins camera and body."""
        self._drive.start(transforms)

    def add_pose(self, pose: Pose) -> None:
        """Take in a pose."""
        self._drive.add(pose)

    def add_estimate(self, estimate: DepthEstimate) -> None:
        """Take in an estimate, if its pose is known.

        Raises:
            SettingsError: the image is not rectified.
        """
        core, frame, camera = self._o3d.core, estimate.frame, estimate.frame.camera
        if camera.model != 'none':
            raise SettingsError(
                f'images with {camera.model} distortion cannot be fused into a mesh; evaluate the rectified image '
                'topic, or leave --mesh out'
            )
        pose = self._drive.fixed_from_optical(frame.stamp_ns, camera)
        if pose is None or self.full:
            return
        fixed_from_image = pose.copy()
        if self._origin is None:
            self._origin = np.round(pose[:3, 3])
        fixed_from_image[:3, 3] -= self._origin
        fixed_from_image[:3, :3] = pose[:3, :3] @ camera.rotation.T
        extrinsic, intrinsic = core.Tensor(invert(fixed_from_image)), core.Tensor(camera.matrix)
        depth = self._image(np.nan_to_num(confident(estimate)))
        colour = self._image(frame.rgb().astype(np.float32) / 255)
        reach = (1.0, MAX_DEPTH, _TRUNCATION)  # depth is in metres already
        blocks = self._grid.compute_unique_block_coordinates(depth, intrinsic, extrinsic, *reach)
        self._grid.integrate(blocks, depth, colour, intrinsic, extrinsic, *reach)
        self.num_fused += 1
        self.full = self._grid.hashmap().size() > MAX_MESH_BLOCKS

    def write(self, path: Path) -> int:
        """Write the surface as PLY.

        Returns:
            Number of triangles.

        Raises:
            BagError: no image had a known pose, or nothing certain enough was seen.
            OutputError: it cannot be written; nothing half-written is left.
        """
        if not self.num_fused:
            why = self._drive.unused or 'odometry does not reach their times'
            raise BagError(f'no image has a known pose ({why}), so there is no mesh')
        mesh = self._grid.extract_triangle_mesh(weight_threshold=0.5).to_legacy()
        if not len(mesh.triangles):
            raise BagError(f'no surface of {MESH_VOXEL:g} m detail was seen with enough certainty, so there is no mesh')
        mesh.translate(self._origin)
        with whole_file(path) as temporary:
            if not self._o3d.io.write_triangle_mesh(str(temporary), mesh):
                raise OutputError(f'Open3D cannot write {str(path)!r}; name a .ply file in a folder with free space')
        return len(mesh.triangles)

    def _image(self, pixels: np.ndarray) -> Any:
        return self._o3d.t.geometry.Image(self._o3d.core.Tensor(np.ascontiguousarray(pixels)))


def open3d() -> Any:
    """Import Open3D.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return load_open3d('--open3d-clean and --mesh', "'depth_ros[open3d]'")


def _merge(rows: np.ndarray, voxel: float) -> np.ndarray:
    """Add up the rows (sums and counts) whose mean lies in the same voxel."""
    cells = np.floor(rows[:, :3] / rows[:, 6:] / voxel).astype(np.int64)
    # 21 bits an axis: two million voxels, 40 km at 2 cm.
    key = ((cells[:, 0] & 0x1FFFFF) << 42) | ((cells[:, 1] & 0x1FFFFF) << 21) | (cells[:, 2] & 0x1FFFFF)
    order = np.argsort(key, kind='stable')
    key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
    return np.add.reduceat(rows[order], starts, axis=0) if len(starts) else rows
