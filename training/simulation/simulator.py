"""A simulated robot: a world, a drive through it, sensors, and what they report moment by moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from depth_ros.errors import SettingsError
from depth_ros.geometry.rigid import TransformTree, invert
from depth_ros.types import Camera, Frame, LidarScan, Pose
from depth_ros_training.simulation.beams import firing
from depth_ros_training.simulation.drive import OdometryErrors, drifting_odometry, robot_track
from depth_ros_training.simulation.echoes import measure
from depth_ros_training.simulation.indoors import build_indoor
from depth_ros_training.simulation.lidar_models import LidarModel, choose_lidar
from depth_ros_training.simulation.mesh import tilt, turn
from depth_ros_training.simulation.offroad import build_offroad
from depth_ros_training.simulation.optics import (
    Optics,
    Picture,
    develop,
    image_flow,
    metered_gain,
    random_optics,
    take_picture,
)
from depth_ros_training.simulation.scene import Mover, Scene, Track
from depth_ros_training.simulation.semantics import SKY
from depth_ros_training.simulation.streets import build_street
from depth_ros_training.simulation.textures import Palette, find_photographs
from depth_ros_training.simulation.world import World

BUILDERS = {'street': build_street, 'indoor': build_indoor, 'offroad': build_offroad}
BODY, LEFT, RIGHT, LIDAR, ODOM, MAP = (
    'base_link',
    'camera_left_optical',
    'camera_right_optical',
    'lidar',
    'odom',
    'world',
)
_NS = 1_000_000_000
_EPOCH_NS = 1_600_000_000 * _NS
_OPTICAL = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # body axes from optical axes


@dataclass(frozen=True)
class SimulationSettings:
    """What is simulated. What is 0 or ``random`` is drawn by the seed.

    Attributes:
        world: ``street``, ``indoor``, ``offroad`` or ``random``.
        frames: camera frames.
        width: pixels, 0 = by chance.
        height: pixels, 0 = by chance.
        fov: horizontal field of view, degrees, 0 = by chance.
        lidar: a key of ``lidars.MODELS`` or ``random``.
        lidar_field: ``full``, or ``camera`` = only beams that may fall into the image (quicker).
        camera_rate: Hz.
        lidar_rate: sweeps recorded per second; a sweep takes as long as the model says.
        odometry_rate: Hz.
        textures: folder with photographs, '' = none.
        realism: False = ideal sensors: no noise, dropouts, drift, time offset or wrong extrinsics.
        right: simulate the right camera.
        threads: for casting rays.
        robot: sensors, and where they are, are drawn by this seed in place of the drive's, so that several drives are
            those of one robot; -1 = the drive's.
    """

    world: str = 'random'
    frames: int = 100
    width: int = 0
    height: int = 0
    fov: float = 0.0
    lidar: str = 'random'
    lidar_field: str = 'full'
    camera_rate: float = 10.0
    lidar_rate: float = 10.0
    odometry_rate: float = 100.0
    textures: str = ''
    realism: bool = True
    right: bool = True
    threads: int = 1
    robot: int = -1

    def __post_init__(self) -> None:
        if self.world != 'random' and self.world not in BUILDERS:
            raise SettingsError(f'world is {self.world!r}, expected random, {", ".join(BUILDERS)}')
        if self.lidar_field not in ('full', 'camera'):
            raise SettingsError(f'lidar field is {self.lidar_field!r}, expected full or camera')
        for name, low, high in (
            ('frames', 1, 10**6),
            ('camera_rate', 0.1, 120),
            ('lidar_rate', 0.1, 40),
            ('odometry_rate', 5, 1000),
            ('threads', 1, 256),
            ('robot', -1, 2**63 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f'{name} is {getattr(self, name)}, expected {low} to {high}')
        for name, low, high in (('width', 32, 4096), ('height', 32, 4096), ('fov', 10, 150)):
            if getattr(self, name) and not low <= getattr(self, name) <= high:
                raise SettingsError(f'{name} is {getattr(self, name)}, expected 0 or {low} to {high}')


@dataclass(frozen=True, eq=False)
class SimulatedMoment:
    """One camera frame, with all that the robot reported since the last.

    Attributes:
        left: left image.
        right: right image, rectified to the left one, or None.
        baseline: metres from the left to the right camera, along its x.
        depth: (H, W) float32 metres, exact, of the left camera; NaN = sky.
        semantic: (H, W) uint8, see ``semantics.CLASSES``.
        moving: (H, W) bool, objects that move by themselves.
        pose: true pose of the body, world from ``base_link``.
        scans: sweeps up to the one nearest in time to this frame, as reported.
        odometry: poses up to the end of those sweeps, as reported.
    """

    left: Frame
    right: Frame | None
    baseline: float
    depth: np.ndarray
    semantic: np.ndarray
    moving: np.ndarray
    pose: Pose
    scans: tuple[LidarScan, ...]
    odometry: tuple[Pose, ...]


class Simulator:
    """Iterate over it for moments; equal seeds and settings give equal moments.

    Attributes:
        settings: as given.
        world: where.
        lidar: the lidar.
        camera: the left camera.
        right_camera: the right camera.
        baseline: metres.
        transforms: extrinsics as the robot believes them.
        true_transforms: extrinsics.
        true_time_offset_ns: what lidar stamps are late by.
    """

    def __init__(self, seed: int, settings: SimulationSettings = SimulationSettings()) -> None:
        """Build the world and the robot.

        Args:
            seed: >= 0.
            settings: what to simulate.

        Raises:
            SettingsError: unknown lidar.
            RecordingError: the folder of textures is missing or holds no images.
            MissingDependencyError: Open3D is not installed.
        """
        self.settings, self.seed = settings, seed
        seeds = np.random.SeedSequence(seed).spawn(4)
        choice, build, drive, self._noise_seed = (*(np.random.default_rng(s) for s in seeds[:3]), seeds[3])
        kind = settings.world
        if kind == 'random':
            kind = _random_kind(choice)
        photographs = find_photographs(settings.textures) if settings.textures else None
        self._duration = (settings.frames - 1) / settings.camera_rate
        self.world: World = BUILDERS[kind](build, Palette(build, photographs), self._duration)
        used_in = kind
        if settings.robot >= 0:
            choice = np.random.default_rng(np.random.SeedSequence(settings.robot).spawn(1)[0])
            if settings.world == 'random':  # a robot has the sensors that it has, wherever it is taken
                used_in = _random_kind(choice)
        self.lidar: LidarModel = choose_lidar(settings.lidar, used_in, choice)
        self._place_sensors(choice, used_in)
        self._track = robot_track(
            self.world, self._duration, drive, {'street': 1.0, 'indoor': 0.6, 'offroad': 3.5}[kind]
        )
        movers = [mover for mover in self.world.movers if _keeps_clear(mover, self._track, self._duration)]
        self._scene = Scene(self.world.static, movers, settings.threads)
        self._schedule(choice, drive)

    def __len__(self) -> int:
        return self.settings.frames

    def __iter__(self) -> Iterator[SimulatedMoment]:
        settings, gain = self.settings, None
        scans_done = poses_done = 0
        for frame in range(settings.frames):
            rng = np.random.default_rng((self._noise_seed.generate_state(1)[0], frame))
            time = frame / settings.camera_rate
            pose = self._track.at(time)
            left = self._picture(self.camera, self._body_from_left, time)
            gain = metered_gain(left, gain)
            left_image = self._frame(left, self._optics[0], self.camera, self._body_from_left, gain, time, rng)
            right_image = None
            if settings.right:
                right = self._picture(self.right_camera, self._body_from_right, time)
                right_image = self._frame(
                    right, self._optics[1], self.right_camera, self._body_from_right, gain, time, rng
                )
            half = 0.5 / settings.lidar_rate
            scans = []
            while scans_done < len(self._sweeps) and self._sweeps[scans_done] + self.lidar.sweep / 2 <= time + half:
                scans.append(self._sweep(scans_done))
                scans_done += 1
            until = time + half + self.lidar.sweep / 2 + 1.0 / settings.odometry_rate
            first = poses_done
            poses_done = int(np.searchsorted(self._odometry_times, until, side='right'))
            odometry = tuple(
                Pose(stamp(self._odometry_times[k]), self._odometry[k], ODOM, BODY) for k in range(first, poses_done)
            )
            depth = left.depth.astype(np.float32)
            semantic = np.where(left.semantic == 255, SKY, left.semantic).astype(np.uint8)
            yield SimulatedMoment(
                left_image,
                right_image,
                self.baseline,
                depth,
                semantic,
                left.moving,
                self._pose(time, pose),
                tuple(scans),
                odometry,
            )

    def _place_sensors(self, rng: np.random.Generator, kind: str) -> None:
        settings = self.settings
        sizes = [(640, 192), (640, 192), (640, 256), (672, 208), (576, 320), (512, 384), (640, 360)]
        width, height = sizes[int(rng.integers(len(sizes)))]
        if settings.width or settings.height:
            width = settings.width or round(settings.height * 10 / 3)
            height = settings.height or round(settings.width * 3 / 10)
        fov = settings.fov or float(rng.uniform(60, 110) if rng.random() < 0.85 else rng.uniform(30, 60))
        focal = width / 2 / np.tan(np.deg2rad(fov) / 2)
        cx, cy = (width - 1) / 2 + rng.normal(scale=0.012 * width), (height - 1) / 2 + rng.normal(scale=0.02 * height)
        self.camera = Camera(width, height, focal, focal, cx, cy, LEFT)
        self.right_camera = dataclasses.replace(self.camera, frame_id=RIGHT)
        self.baseline = float(rng.uniform(0.1, 0.6) if kind != 'indoor' else rng.uniform(0.06, 0.3))
        low, high = {'street': (1.2, 2.3), 'indoor': (0.25, 1.5), 'offroad': (0.5, 2.0)}[kind]
        position = np.array([rng.uniform(0, 0.8), self.baseline / 2 + rng.normal(scale=0.15), rng.uniform(low, high)])
        looking = tilt(
            np.deg2rad(rng.normal(scale=0.7)),
            np.deg2rad(rng.normal(1.0 if kind == 'street' else 5.0, 3.0)),
            np.deg2rad(rng.normal(scale=2.0)),
        )
        self._body_from_left = rigid_matrix(looking @ _OPTICAL, position)
        self._body_from_right = self._body_from_left @ rigid_matrix(np.eye(3), (self.baseline, 0, 0))
        back, up = (
            (rng.uniform(0, 1.3), rng.uniform(0.05, 1.0))
            if kind == 'street'
            else (rng.uniform(-0.1, 0.3), rng.uniform(-0.2, 0.35))
        )
        lidar_at = np.array([position[0] - back, rng.normal(scale=0.1), position[2] + up])
        lidar_at[2] = max(lidar_at[2], 0.15)
        turned = rng.uniform(-np.pi, np.pi) if self.lidar.field == 360 else np.deg2rad(rng.normal(scale=2.0))
        self._body_from_lidar = rigid_matrix(
            tilt(np.deg2rad(rng.normal(scale=1.0)), np.deg2rad(rng.normal(scale=1.5))) @ turn(turned), lidar_at
        )
        self.true_transforms, self.transforms = TransformTree(), TransformTree()
        # As after a good calibration, a pixel or so: with worse ones the lidar lies beside what the image shows more
        # often than on recordings, and a network that learns from the exact depth learns to look past it.
        angle, shift = (rng.uniform(0, 0.09), rng.uniform(0, 0.006)) if settings.realism else (0.0, 0.0)
        for tree, wrong in ((self.true_transforms, 0.0), (self.transforms, 1.0)):
            tree.add(BODY, LEFT, self._body_from_left)
            tree.add(LEFT, RIGHT, rigid_matrix(np.eye(3), (self.baseline, 0, 0)))
            error = rigid_matrix(
                tilt(*(wrong * np.deg2rad(angle) * rng.normal(size=3))), wrong * shift * rng.normal(size=3)
            )
            tree.add(BODY, LIDAR, self._body_from_lidar @ error)
        ideal = Optics()
        first = random_optics(rng) if settings.realism else ideal
        second = (
            dataclasses.replace(first, exposure=first.exposure * float(rng.normal(1, 0.03)))
            if settings.realism
            else ideal
        )
        self._optics = (first, second)

    def _schedule(self, rng: np.random.Generator, drive: np.random.Generator) -> None:
        settings = self.settings
        end = self._duration + 0.5 / settings.lidar_rate
        phase = float(rng.uniform(-0.5, 0.5)) / settings.lidar_rate - self.lidar.sweep / 2
        self._sweeps = np.arange(phase - 0.5 / settings.lidar_rate, end, 1 / settings.lidar_rate)
        self._sweeps = self._sweeps[self._sweeps > -0.4]
        self._odometry_times = np.arange(-0.45, end + self.lidar.sweep + 0.05, 1 / settings.odometry_rate)
        errors = OdometryErrors(
            float(rng.normal(scale=0.01)),
            float(rng.normal(scale=0.003)),
            float(rng.uniform(0, 0.002)),
            float(rng.uniform(0, 0.004)),
        )
        if not settings.realism:
            errors = OdometryErrors(0.0, 0.0, 0.0, 0.0)
        self._odometry = drifting_odometry(self._track, self._odometry_times, errors, drive)
        self.true_time_offset_ns = int(rng.normal(scale=1e6)) if settings.realism else 0

    def _picture(self, camera: Camera, body_from_camera: np.ndarray, time: float) -> Picture:
        world_from_camera = self._track.at(time) @ body_from_camera
        return take_picture(self._scene, self.world.surfaces, self.world.light, camera, world_from_camera, time)

    def _frame(
        self,
        picture: Picture,
        optics: Optics,
        camera: Camera,
        body_from_camera: np.ndarray,
        gain: float,
        time: float,
        rng: np.random.Generator,
    ) -> Frame:
        flow = None
        if optics.shutter:
            before, after = (self._track.at(time + part * optics.shutter) @ body_from_camera for part in (-0.5, 0.5))
            flow = image_flow(picture.depth, camera, before, after)
            if np.abs(flow).max() < 0.4:
                flow = None
        return Frame(stamp(time), develop(picture, optics, gain, flow, rng), 'rgb8', camera)

    def _sweep(self, index: int) -> LidarScan:
        model, start = self.lidar, self._sweeps[index]
        beams = firing(model, index)
        directions, offset, ring, beside = beams.directions, beams.offset_ns, beams.ring, beams.beside
        if self.settings.lidar_field == 'camera':
            keep = self._towards_image(directions)
            if model.pattern != 'rosette':
                # Whole rings and columns, so that the neighbour in azimuth stays at one index distance.
                beams_of_column = keep.reshape(-1, beside)
                rings = beams_of_column.any(axis=0)
                keep = np.outer(beams_of_column.any(axis=1), rings).ravel()
                beside = max(int(rings.sum()), 1)
            directions, offset, ring = directions[keep], offset[keep], ring[keep]
        times = start + offset * 1e-9
        poses = self._track.at(times) @ self._body_from_lidar
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3] = poses[:, :, 3]
        rays[:, 3:] = np.einsum('nij,nj->ni', poses[:, :, :3], directions)
        rng = None
        if self.settings.realism:
            rng = np.random.default_rng((self._noise_seed.generate_state(2)[1], index))
        echoes = measure(self._scene, self.world.surfaces, model, rays, times, beside, rng)
        points = directions * echoes.range[:, None]
        intensity = echoes.intensity
        if not model.organised:
            keep = np.isfinite(echoes.range)
            points, offset, ring, intensity = points[keep], offset[keep], ring[keep], intensity[keep]
        return LidarScan(stamp(start) + self.true_time_offset_ns, points, LIDAR, offset, ring, intensity)

    def _towards_image(self, directions: np.ndarray) -> np.ndarray:
        """Beams within the image and a margin around it, for things at least a metre away."""
        rotation = (invert(self._body_from_left) @ self._body_from_lidar)[:3, :3]
        local = directions @ rotation.T.astype(np.float32)
        camera, margin = self.camera, 0.35
        with np.errstate(divide='ignore', invalid='ignore'):
            x, y = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
        wide = (x > -camera.cx / camera.fx - margin) & (x < (camera.width - camera.cx) / camera.fx + margin)
        tall = (y > -camera.cy / camera.fy - margin) & (y < (camera.height - camera.cy) / camera.fy + margin)
        return wide & tall & (local[:, 2] > 0.05)

    def _pose(self, time: float, pose: np.ndarray) -> Pose:
        matrix = np.eye(4)
        matrix[:3] = pose
        return Pose(stamp(time), matrix, MAP, BODY)


def _random_kind(rng: np.random.Generator) -> str:
    return str(rng.choice(list(BUILDERS), p=[0.5, 0.3, 0.2]))


def _keeps_clear(mover: Mover, robot: Track, duration: float) -> bool:
    """Whether a mover never comes so near that it would run through the robot."""
    times = np.arange(-0.5, duration + 0.5, 0.05)
    body, own = mover.track.at(times), robot.at(times)
    ahead = own[:, :, 3] + own[:, :, 0] * np.array([[-1.2], [0.0], [1.2]])[:, None]
    local = np.einsum('tji,ptj->pti', body[:, :, :3], ahead - body[:, :, 3])
    low, high = mover.mesh.vertices.min(0) - 0.7, mover.mesh.vertices.max(0) + 0.7
    return not bool(((local[..., :2] > low[:2]) & (local[..., :2] < high[:2])).all(-1).any())


def stamp(time: float) -> int:
    """Stamp in ns of a time in s."""
    return _EPOCH_NS + round(float(time) * _NS)


def rigid_matrix(rotation: np.ndarray, shift: np.ndarray | tuple[float, float, float]) -> np.ndarray:
    """(4, 4) float64 from a rotation and a shift in metres."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, shift
    return matrix
