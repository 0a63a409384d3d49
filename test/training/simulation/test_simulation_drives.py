"""Simulated drives: truth, consistency of the sensors, reproducibility, bags and the command."""

import dataclasses
import math
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('open3d', reason='simulation needs Open3D: pip install "depth_ros[training]"', exc_type=ImportError)

from depth_ros.bags.reader import BagReader
from depth_ros.bags.transforms import read_transforms
from depth_ros.errors import RecordingError, SettingsError
from depth_ros.messages.camera_info import decode_camera
from depth_ros.messages.image import decode_image, read_rows
from depth_ros.messages.odometry import decode_odometry
from depth_ros.messages.point_cloud import decode_cloud
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings
from depth_ros_training.cli.main import main
from depth_ros_training.simulation.echoes import measure
from depth_ros_training.simulation.recording import record
from depth_ros_training.simulation.semantics import CLASSES, ROAD, SKY
from depth_ros_training.simulation.simulator import BODY, LEFT, LIDAR, SimulationSettings, Simulator
from depth_ros_training.simulation.textures import TEXELS, Palette, find_photographs

SMALL = SimulationSettings(frames=2, width=320, height=96, lidar='vlp16', world='street')


def sensors_of(seed, **changes):
    drive = Simulator(seed, SimulationSettings(frames=1, **changes))
    places = [drive.true_transforms.lookup(BODY, frame).tolist() for frame in (LEFT, LIDAR)]
    return drive.world.kind, repr((drive.lidar.name, drive.camera, drive.baseline, places))


class Measured:
    """Estimator that returns the measurements."""

    needs_lidar = True
    best_pixels = math.inf

    def estimate(self, frame, sparse):
        return sparse.to_image(), sparse.to_image()


def errors_of_lidar(simulator, deskew):
    """Distance of the projected lidar points from the truth, away from edges and from what moves."""
    settings = Settings()
    settings = dataclasses.replace(settings, motion=dataclasses.replace(settings.motion, deskew=deskew))
    pipeline = DepthPipeline(settings, simulator.transforms, Measured())
    found = []
    for moment in simulator:
        for pose in moment.odometry:
            pipeline.add_pose(pose)
        for scan in moment.scans:
            pipeline.add_scan(scan)
        sparse = pipeline.process(moment.left).sparse
        inverse = np.nan_to_num(1 / moment.depth)
        # On planes inverse depth is linear in the image: the mean around a pixel is its own value.
        smooth = (np.abs(inverse - cv2.blur(inverse, (5, 5))) < 0.003 * inverse) & ~moment.moving
        smooth = cv2.erode(smooth.astype(np.uint8), np.ones((7, 7))) > 0
        at_point = cv2.remap(
            inverse, sparse.u[:, None], sparse.v[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        used = smooth[sparse.row, sparse.column]
        found.append(np.abs(sparse.depth - 1 / np.maximum(at_point[:, 0], 1e-6))[used])
    return np.concatenate(found)


@pytest.mark.parametrize(
    ('world', 'lidar', 'seed'), [('street', 'hdl64e', 1), ('offroad', 'hdl32e', 4), ('indoor', 'mems', 2)]
)
def test_lidar_agrees_with_the_camera_under_motion(world, lidar, seed):
    settings = SimulationSettings(
        world=world, frames=3, width=640, height=192, lidar=lidar, lidar_field='camera', realism=False, right=False
    )
    errors = errors_of_lidar(Simulator(seed, settings), deskew=True)
    assert len(errors) > 3000
    assert np.median(errors) < 0.01
    assert (errors < 0.05).mean() > 0.97
    if world != 'indoor':  # where the robot is slow there is little to lose
        skewed = errors_of_lidar(Simulator(seed, settings), deskew=False)
        assert np.median(skewed) > 10 * np.median(errors)
        assert np.quantile(skewed, 0.9) > max(0.02, 5 * np.quantile(errors, 0.9))


@pytest.mark.parametrize('lidar', ['os1_64', 'os0_32'])
def test_beams_towards_the_camera_know_their_neighbour_in_azimuth(lidar, monkeypatch):
    drive = Simulator(1, dataclasses.replace(SMALL, frames=1, lidar=lidar, lidar_field='camera', right=False))
    given = []

    def watched(scene, surfaces, model, rays, times, beside, rng):
        given.append(beside)
        return measure(scene, surfaces, model, rays, times, beside, rng)

    monkeypatch.setattr('depth_ros_training.simulation.simulator.measure', watched)
    scan = next(iter(drive)).scans[0]  # of a lidar that reports all its beams
    (beside, *_) = given
    assert 0.05 < len(scan) / (drive.lidar.columns * len(drive.lidar.elevations)) < 0.6
    assert np.array_equal(scan.ring[beside:], scan.ring[:-beside])
    column_ns = drive.lidar.sweep * 1e9 / drive.lidar.columns
    gaps = scan.time_offset_ns[beside:] - scan.time_offset_ns[:-beside]
    assert (np.abs(gaps - column_ns) < 2).mean() > 0.98  # but where the image begins and ends within a sweep


def test_right_image_is_the_left_one_moved_by_the_disparity():
    settings = dataclasses.replace(SMALL, width=640, height=192, realism=False, frames=1)
    moment = next(iter(Simulator(2, settings)))
    v, u = np.mgrid[:192, :640].astype(np.float32)
    disparity = np.nan_to_num(moment.left.camera.fx * moment.baseline / moment.depth).astype(np.float32)
    warped = cv2.remap(moment.right.image, u - disparity, v, cv2.INTER_LINEAR)
    assert np.median(np.abs(warped.astype(int) - moment.left.image)) <= 2
    assert np.median(np.abs(moment.right.image.astype(int) - moment.left.image)) >= 4


def test_equal_seeds_give_equal_moments_and_others_others():
    first, second, other = (list(Simulator(seed, dataclasses.replace(SMALL, world='offroad'))) for seed in (5, 5, 6))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.left.image, b.left.image)
        assert np.array_equal(a.right.image, b.right.image)
        assert np.array_equal(a.depth, b.depth, equal_nan=True)
        assert [np.array_equal(x.points, y.points, equal_nan=True) for x, y in zip(a.scans, b.scans, strict=True)] == [
            True
        ] * len(a.scans)
        assert all(np.array_equal(x.matrix, y.matrix) for x, y in zip(a.odometry, b.odometry, strict=True))
    assert not np.array_equal(first[0].left.image, other[0].left.image)


@pytest.mark.parametrize('world', ['street', 'indoor', 'offroad'])
def test_worlds_are_whole(world):
    for seed in (0, 1):
        simulator = Simulator(
            seed, dataclasses.replace(SMALL, world=world, frames=1, right=False, lidar_field='camera')
        )
        moment = next(iter(simulator))
        assert np.array_equal(np.isnan(moment.depth), moment.semantic == SKY)
        assert moment.semantic.max() < len(CLASSES)
        assert len(np.unique(moment.semantic)) >= 3
        depth = moment.depth[np.isfinite(moment.depth)]
        assert depth.min() > 0.1
        if world == 'indoor':
            assert np.isfinite(moment.depth).all()  # no holes in walls and ceilings
        else:
            assert np.isfinite(moment.depth[-10:]).all()
        assert moment.left.image.std() > 8


@pytest.mark.parametrize(('world', 'seeds'), [('street', (0, 2)), ('indoor', (1, 2, 3, 5)), ('offroad', (1, 2, 4, 5))])
def test_what_moves_looks_where_it_goes_and_turns_as_a_whole(world, seeds):
    ways = []
    for seed in seeds:
        simulator = Simulator(seed, dataclasses.replace(SMALL, world=world, frames=100))
        for mover in simulator.world.movers:
            poses, step = mover.track.poses, mover.track.step
            velocity = np.gradient(poses[:, :2, 3], axis=0) / step
            moves = np.linalg.norm(velocity, axis=1) > 0.4
            ahead = (poses[:, :2, 0] * velocity).sum(axis=1)[moves] / np.linalg.norm(velocity, axis=1)[moves]
            assert np.quantile(ahead, 0.1) > 0.98
            between = mover.track.at(mover.track.start + step * (np.arange(len(poses) - 1) + 0.5))
            assert np.linalg.norm(between[:, :2, 0], axis=1).min() > 0.7  # no body collapses while it turns
            s = (poses[:, :2, 3] @ simulator.world.route.at(np.array([1.0, 0.0]), np.zeros(2)).T) @ [1, -1]
            ways.append(np.sign(s[-1] - s[0]))
    assert len(ways) >= 2
    assert {-1, 1} <= set(ways)


def test_ground_lies_where_the_wheels_stand():
    simulator = Simulator(1, dataclasses.replace(SMALL, realism=False, frames=1, width=640, height=192))
    moment = next(iter(simulator))
    camera = moment.left.camera
    v, u = np.nonzero((moment.semantic == ROAD) & (moment.depth < 25))
    z = moment.depth[v, u]
    optical = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z, np.ones(len(z))], 1)
    world = optical @ (moment.pose.matrix @ simulator.true_transforms.lookup('base_link', camera.frame_id)).T
    assert len(z) > 500
    assert np.abs(world[:, 2] - simulator.world.ground(world[:, 0], world[:, 1])).max() < 0.05


def test_realism_makes_the_written_calibration_slightly_wrong():
    simulator = Simulator(3, SMALL)
    true = simulator.true_transforms.lookup('lidar', 'camera_left_optical')
    said = simulator.transforms.lookup('lidar', 'camera_left_optical')
    wrong = np.linalg.inv(true) @ said
    angle = np.rad2deg(np.arccos(np.clip((np.trace(wrong[:3, :3]) - 1) / 2, -1, 1)))
    assert 0 < angle < 1.5
    assert 0 < np.linalg.norm(wrong[:3, 3]) < 0.1
    assert simulator.true_time_offset_ns != 0


def test_odometry_drifts():
    moments = list(
        Simulator(3, dataclasses.replace(SMALL, frames=12, right=False, lidar_field='camera', width=64, height=32))
    )
    by_stamp = {pose.stamp_ns: pose.matrix for moment in moments for pose in moment.odometry}
    shared = [moment.pose for moment in moments if moment.pose.stamp_ns in by_stamp]
    if len(shared) < 2:
        stamps = np.array(sorted(by_stamp))
        shared = [moments[0].pose, moments[-1].pose]
        said = [by_stamp[int(stamps[np.abs(stamps - pose.stamp_ns).argmin()])] for pose in shared]
    else:
        said = [by_stamp[pose.stamp_ns] for pose in shared]
    true_step = np.linalg.norm(shared[-1].matrix[:3, 3] - shared[0].matrix[:3, 3])
    said_step = np.linalg.norm(said[-1][:3, 3] - said[0][:3, 3])
    assert said_step == pytest.approx(true_step, rel=0.1, abs=0.05)
    assert said_step != pytest.approx(true_step, abs=1e-6)


def test_drives_of_one_robot_have_its_sensors_wherever_it_goes():
    drives = [sensors_of(seed, robot=7) for seed in (0, 1, 2, 3)]
    assert len({kind for kind, _ in drives}) > 1
    assert len({sensors for _, sensors in drives}) == 1
    assert sensors_of(0, robot=8)[1] != drives[0][1] != sensors_of(0)[1]
    street = [sensors_of(seed, robot=7, world='street')[1] for seed in (0, 1)]
    assert street[0] == street[1]


def test_photographs_become_textures(tmp_path):
    photograph = np.zeros((90, 120, 3), np.uint8)
    photograph[:] = (200, 10, 120)
    cv2.imwrite(str(tmp_path / 'photo.png'), photograph)
    palette = Palette(np.random.default_rng(0), find_photographs(tmp_path), photo_share=1.0)
    palette.material('bricks')
    assert np.array_equal(palette.surfaces().texels[: 3 * 4].reshape(-1, 3), [[120, 10, 200]] * 4)
    assert len(palette.surfaces().texels) == TEXELS


def test_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(RecordingError, match='no images'):
        find_photographs(tmp_path)
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    palette = Palette(np.random.default_rng(0), find_photographs(tmp_path), photo_share=1.0)
    with pytest.raises(RecordingError, match='decoded'):
        palette.material('bricks')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('simulated') / 'drive'
    record(Simulator(7, SMALL), path)
    return path


def test_bag_holds_what_the_simulator_said(bag):
    moments = list(Simulator(7, SMALL))
    with BagReader(bag) as reader:
        messages = {}
        logged = []
        for item in reader.messages():
            messages.setdefault(item.topic, []).append(item.message)
            logged.append(item.log_ns)
        tree = read_transforms(reader)
    assert logged == sorted(logged)
    for k, moment in enumerate(moments):
        assert np.array_equal(decode_image(messages['/camera/left/image_rect'][k])[0], moment.left.image)
        assert np.array_equal(decode_image(messages['/camera/right/image_rect'][k])[0], moment.right.image)
        assert np.array_equal(
            read_rows(messages['/truth/depth'][k], np.dtype(np.float32), 1), moment.depth, equal_nan=True
        )
        assert np.array_equal(decode_image(messages['/truth/semantic'][k])[0], moment.semantic)
        assert np.allclose(decode_odometry(messages['/truth/odometry'][k]).matrix, moment.pose.matrix, atol=1e-9)
    info = messages['/camera/right/camera_info'][0]
    assert info.p[3] == pytest.approx(-moments[0].right.camera.fx * moments[0].baseline)
    assert decode_camera(info, True).fx == pytest.approx(moments[0].right.camera.fx)
    scans = [scan for moment in moments for scan in moment.scans]
    assert len(messages['/points']) == len(scans)
    read = decode_cloud(messages['/points'][0])
    assert np.array_equal(read.points, scans[0].points)
    assert np.array_equal(read.time_offset_ns, scans[0].time_offset_ns)
    assert np.array_equal(read.ring, scans[0].ring)
    assert len(messages['/odometry']) == sum(len(moment.odometry) for moment in moments)
    simulator = Simulator(7, SMALL)
    assert np.allclose(
        tree.lookup('camera_left_optical', 'lidar'),
        simulator.transforms.lookup('camera_left_optical', 'lidar'),
        atol=1e-9,
    )


def test_command_writes_drives_and_resumes(tmp_path, capsys):
    arguments = [
        'simulate',
        '--out',
        str(tmp_path / 'drives'),
        '--seed',
        '3',
        '--frames',
        '1',
        '--world',
        'indoor',
        '--width',
        '160',
        '--height',
        '64',
        '--lidar',
        'vlp16',
        '--jobs',
        '1',
        '--drives',
    ]
    assert main([*arguments, '1']) == 0
    first = (tmp_path / 'drives' / 'drive_000003' / 'metadata.yaml').stat().st_mtime_ns
    assert main([*arguments, '2']) == 0
    assert sorted(path.name for path in (tmp_path / 'drives').iterdir()) == ['drive_000003', 'drive_000004']
    assert (tmp_path / 'drives' / 'drive_000003' / 'metadata.yaml').stat().st_mtime_ns == first
    assert '1 bags were there already' in capsys.readouterr().out
    other = [*arguments[: arguments.index('--frames')], '--frames', '2', *arguments[arguments.index('--world') :]]
    assert main([*other, '3']) == 2
    assert 'drive of other settings (frames was 1, is 2)' in capsys.readouterr().err
    assert not (tmp_path / 'drives' / 'drive_000005').exists()


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('--world', 'moon', 'indoor'),
        ('--lidar', 'vlp17', 'vlp16'),
        ('--frames', '0', 'frames is 0'),
        ('--textures', '/nowhere', 'folder'),
        ('--fov', '200', 'fov'),
        ('--seed', '-1', '--seed'),
        ('--robot', '-1', '--robot'),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(tmp_path, capsys, option, value, said):
    assert main(['simulate', '--out', str(tmp_path / 'bag'), option, value]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_no_half_bag(tmp_path):
    program = (
        'import resource, sys\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n'  # of what one file may grow to
        'from depth_ros_training.cli.main import main\n'
        f"sys.exit(main(['simulate', '--out', {str(tmp_path / 'bag')!r}, '--frames', '3', '--width', '320',\n"
        "    '--height', '96', '--world', 'indoor', '--lidar', 'vlp16']))\n"
    )
    environment = {**os.environ, 'NUMBA_DISABLE_CACHING': '1'}
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert 'cannot write' in done.stderr
    assert done.stderr.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingsError, match='camera_rate'):
        SimulationSettings(camera_rate=0.0)
