"""KITTI recordings become bags whose geometry and times are those of the recordings."""

import calendar

import cv2
import numpy as np
import pytest
import yaml
from kitti_folders import NUM_RINGS, SIZE, TR, P, image, object_folder, project, raw_drive, scan

from depth_ros.bags.kitti import import_kitti_object, import_kitti_raw
from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.bags.select import TopicOverrides
from depth_ros.cli.main import main
from depth_ros.errors import OutputError, RecordingError
from depth_ros.types import Frame, LidarScan, Pose

NS = 1_000_000_000
SECOND_25 = calendar.timegm((2011, 9, 26, 13, 2, 25)) * NS
CAMERAS = {'00': 'gray/left', '01': 'gray/right', '02': 'color/left', '03': 'color/right'}


def events(recording, kind):
    return [(log_ns, item) for log_ns, item in recording.events() if isinstance(item, kind)]


def project_by_bag(recording, frame, points, lidar_frame):
    camera = frame.camera
    transform = recording.transforms.lookup(camera.frame_id, lidar_frame)
    in_camera = points.astype(np.float64) @ transform[:3, :3].T + transform[:3, 3]
    focal, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    return in_camera[:, :2] / in_camera[:, 2:] * focal + centre, in_camera[:, 2]


@pytest.mark.parametrize('number', CAMERAS)
def test_projection_through_the_bag_is_that_of_the_calibration(tmp_path, number):
    drive = raw_drive(tmp_path)
    import_kitti_raw(drive, tmp_path / 'bag')
    topic = f'/camera/{CAMERAS[number]}/image_rect/compressed'
    with Recording(tmp_path / 'bag', TopicOverrides(image=topic)) as recording:
        frame = events(recording, Frame)[0][1]
        sweep = events(recording, LidarScan)[0][1]
        got, depth = project_by_bag(recording, frame, sweep.points, sweep.frame_id)
    expected, expected_depth = project(sweep.points, P[number], TR)
    ahead = expected_depth > 2
    assert ahead.sum() > 500
    np.testing.assert_allclose(got[ahead], expected[ahead], rtol=0, atol=1e-3)
    np.testing.assert_allclose(depth[ahead], expected_depth[ahead], rtol=0, atol=1e-5)


def test_stereo_pairs_carry_their_baseline(tmp_path):
    import_kitti_raw(raw_drive(tmp_path, count=1), tmp_path / 'bag')
    with BagReader(tmp_path / 'bag') as reader:
        topics = [f'/camera/{name}/camera_info' for name in CAMERAS.values()]
        infos = {item.topic: item.message for item in reader.messages(topics)}
    assert infos['/camera/gray/left/camera_info'].p[3] == 0
    assert infos['/camera/color/left/camera_info'].p[3] == 0
    assert infos['/camera/gray/right/camera_info'].p[3] == pytest.approx(-38.0, abs=1e-6)
    # 70 * ((-33.0 - 61.3 * 0.0027) - (4.4 - 61.3 * 0.0027)) / 70
    assert infos['/camera/color/right/camera_info'].p[3] == pytest.approx(-37.4, abs=1e-6)
    info = infos['/camera/color/left/camera_info']
    assert (info.width, info.height, info.distortion_model) == (SIZE[1], SIZE[0], 'plumb_bob')
    assert not info.d.any()
    np.testing.assert_array_equal(info.r.reshape(3, 3), np.eye(3))


def test_stamps_are_those_of_the_trigger_and_points_have_their_times(tmp_path):
    import_kitti_raw(raw_drive(tmp_path), tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        log_ns, frame = events(recording, Frame)[1]
        sweep_log_ns, sweep = events(recording, LidarScan)[1]
        pose = events(recording, Pose)[1][1]
    trigger = SECOND_25 + 150_000_000
    assert frame.stamp_ns == trigger
    assert 0 < log_ns - frame.stamp_ns < 20_000_000
    assert sweep.stamp_ns == trigger - 50_000_000
    assert sweep_log_ns == trigger + 50_000_000, 'a sweep is known at its end'
    assert pose.stamp_ns == trigger + 12_000_000
    azimuth = np.arctan2(sweep.points[:, 1], sweep.points[:, 0])
    at = sweep.time_offset_ns + (sweep.stamp_ns - trigger)
    for wanted, expected in ((0.0, 0), (np.pi / 2, 25e6), (-np.pi / 2, -25e6), (np.pi, 50e6), (-np.pi, -50e6)):
        near = np.abs(azimuth - wanted) < 0.015
        assert near.any()
        np.testing.assert_allclose(at[near], expected, atol=0.4e6)


@pytest.mark.parametrize('crop', [180.0, 50.0], ids=('full', 'cropped'))
def test_rings_intensity_and_points_are_kept(tmp_path, crop):
    import_kitti_raw(raw_drive(tmp_path, count=1, crop=crop), tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        sweep = events(recording, LidarScan)[0][1]
    expected = scan(0, crop)
    np.testing.assert_array_equal(sweep.points, expected[:, :3])
    np.testing.assert_array_equal(sweep.intensity, expected[:, 3])
    np.testing.assert_array_equal(sweep.ring, np.repeat(np.arange(NUM_RINGS), len(expected) // NUM_RINGS))


def test_points_in_another_order_have_no_ring_and_the_report_says_so(tmp_path):
    drive = raw_drive(tmp_path, count=1)
    points = scan(0)
    np.random.default_rng(0).shuffle(points)
    # Elevations that form no levels either.
    points[:, 2] += np.random.default_rng(1).uniform(-2, 2, len(points)).astype(np.float32)
    points.tofile(drive / 'velodyne_points' / 'data' / '0000000000.bin')
    report = import_kitti_raw(drive, tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        assert events(recording, LidarScan)[0][1].ring is None
    assert any('no ring field' in note for note in report.notes)


def test_scans_without_reflectance_have_no_intensity(tmp_path):
    drive = raw_drive(tmp_path, count=2)
    folder = drive / 'velodyne_points' / 'data'
    scan(0)[:, :3].tofile(folder / '0000000000.bin')
    blank = scan(1)
    blank[:, 3] = 0
    blank.tofile(folder / '0000000001.bin')
    import_kitti_raw(drive, tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        sweeps = [item for _, item in events(recording, LidarScan)]
    assert [sweep.intensity for sweep in sweeps] == [None, None]
    np.testing.assert_array_equal(sweeps[0].points, scan(0)[:, :3])
    assert sweeps[0].ring is not None


@pytest.mark.parametrize('count', [3000, 3001])
def test_reflectance_beyond_that_of_kitti_is_named_and_never_read_as_coordinates(tmp_path, count):
    drive = raw_drive(tmp_path, count=1)
    points = np.resize(scan(0), (count, 4))
    points[:, 3] = np.arange(count) % 256
    points.tofile(drive / 'velodyne_points' / 'data' / '0000000000.bin')
    with pytest.raises(RecordingError, match='reflectances up to 255, expected 0 to 1'):
        import_kitti_raw(drive, tmp_path / 'bag')


def test_odometry_is_relative_to_the_first_packet(tmp_path):
    import_kitti_raw(raw_drive(tmp_path), tmp_path / 'bag')
    with BagReader(tmp_path / 'bag') as reader:
        messages = [item.message for item in reader.messages(['/odometry'])]
    positions = [(item.pose.pose.position.x, item.pose.pose.position.y, item.pose.pose.position.z) for item in messages]
    np.testing.assert_allclose(positions, [(0, 0, 0), (2, 0, 0), (4, 0, 0)], atol=1e-6)
    orientation = messages[2].pose.pose.orientation
    assert (orientation.z, orientation.w) == pytest.approx((np.sin(0.1), np.cos(0.1)))
    assert (messages[0].header.frame_id, messages[0].child_frame_id) == ('odom', 'base_link')
    twist = messages[0].twist.twist
    assert (twist.linear.x, twist.linear.y, twist.linear.z) == pytest.approx((20.0, 0.5, 0.1))
    assert twist.angular.z == 1.0
    with Recording(tmp_path / 'bag') as recording:
        imu = recording.transforms.lookup('base_link', 'imu')
        lidar = recording.transforms.lookup('imu', 'velodyne')
    np.testing.assert_allclose(imu[:3, 3], (0, 0, 0.93))
    np.testing.assert_allclose(np.linalg.inv(lidar)[:3, 3], (-0.8, 0.3, -0.8), atol=1e-6)


def test_without_timestamps_the_rate_is_nominal_and_said(tmp_path):
    report = import_kitti_raw(raw_drive(tmp_path, stamps=False), tmp_path / 'bag')
    assert any('nominal, 10 Hz' in note for note in report.notes)
    metadata = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert 'nominal, 10 Hz' in metadata['custom_data']['notes']
    with Recording(tmp_path / 'bag') as recording:
        stamps = [item.stamp_ns for _, item in events(recording, Frame)]
        mids = [item.mid_ns for _, item in events(recording, LidarScan)]
    assert np.diff(stamps).tolist() == [100_000_000] * 2
    np.testing.assert_allclose(np.array(stamps) - mids, 0, atol=1e6)


@pytest.mark.parametrize('compressed', ['png', 'jpeg', 'none'])
def test_images_keep_their_pixels(tmp_path, compressed):
    import_kitti_raw(raw_drive(tmp_path, count=1), tmp_path / 'bag', compressed=compressed)
    suffix = '' if compressed == 'none' else '/compressed'
    for name, shape in (('color/left', (*SIZE, 3)), ('gray/left', SIZE)):
        with Recording(tmp_path / 'bag', TopicOverrides(image=f'/camera/{name}/image_rect{suffix}')) as recording:
            frame = events(recording, Frame)[0][1]
        error = np.abs(frame.image.astype(int) - image(0, shape))
        assert error.max() == 0 if compressed != 'jpeg' else error.mean() < 3
        assert frame.encoding == ('bgr8' if len(shape) == 3 else 'mono8')


def test_frames_can_be_chosen_and_keep_their_stamps(tmp_path):
    import_kitti_raw(raw_drive(tmp_path, count=4), tmp_path / 'bag', frames=(1, 3))
    with Recording(tmp_path / 'bag') as recording:
        assert [item.stamp_ns for _, item in events(recording, Frame)] == [
            SECOND_25 + 150_000_000, SECOND_25 + 250_000_000]
    with pytest.raises(RecordingError, match='no images within frames 9:'):
        import_kitti_raw(tmp_path / '2011_09_26' / '2011_09_26_drive_0001_sync', tmp_path / 'bag2', frames=(9, None))


def test_sweeps_that_were_lost_leave_the_images(tmp_path):
    drive = raw_drive(tmp_path, cameras=('02',), oxts=False)
    (drive / 'velodyne_points' / 'data' / '0000000001.bin').unlink()
    for name in ('timestamps', 'timestamps_start', 'timestamps_end'):
        path = drive / 'velodyne_points' / f'{name}.txt'
        lines = path.read_text().splitlines()
        path.write_text('\n'.join([lines[0], '', lines[2]]))
    import_kitti_raw(drive, tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        assert len(events(recording, LidarScan)) == 2
        assert len(events(recording, Frame)) == 3
        assert recording.selection.missing == ('odometry',)


def test_object_frames_have_their_own_calibration_size_and_frames(tmp_path):
    folder, made = object_folder(tmp_path)
    report = import_kitti_object(folder.parent, tmp_path / 'bag')
    assert report.counts['/camera/color/right/image_rect/compressed'] == 2
    with Recording(tmp_path / 'bag') as recording:
        frames = [item for _, item in events(recording, Frame)]
        sweeps = [item for _, item in events(recording, LidarScan)]
        assert not recording.refused
        for frame, sweep, (name, (projection, tr, shape)) in zip(frames, sweeps, made.items(), strict=True):
            assert frame.image.shape == shape
            assert frame.camera.frame_id == f'camera_{name}_left_optical'
            assert sweep.frame_id == f'velodyne_{name}'
            got, _ = project_by_bag(recording, frame, sweep.points, sweep.frame_id)
            expected, depth = project(sweep.points, projection, tr)
            np.testing.assert_allclose(got[depth > 2], expected[depth > 2], rtol=0, atol=1e-3)
    assert frames[1].stamp_ns - frames[0].stamp_ns == 10 * NS
    assert abs(frames[0].stamp_ns - sweeps[0].mid_ns) < 10_000_000


def break_image(drive):
    path = drive / 'image_02' / 'data' / '0000000001.png'
    path.write_bytes(path.read_bytes()[:100])
    return path.name


def resize_image(drive):
    path = drive / 'image_02' / 'data' / '0000000001.png'
    cv2.imwrite(str(path), np.zeros((20, 60, 3), np.uint8))
    return 'must not be resized'


def cut_scan(drive):
    path = drive / 'velodyne_points' / 'data' / '0000000001.bin'
    path.write_bytes(path.read_bytes()[:-5])
    return path.name


def cut_scan_to_triples(drive):
    """Where it ends by chance after a whole number of points without reflectance."""
    path = drive / 'velodyne_points' / 'data' / '0000000001.bin'
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: (size // 48 - 1) * 48 + 12])
    return 'is it cut off?'


def without(name):
    def remove(drive):
        path = drive / name if (drive / name).exists() else drive.parent / name
        path.unlink()
        return name.rsplit('/')[-1]
    return remove


def rewrite(name, content, expected):
    def write(drive):
        data = content if isinstance(content, bytes) else content.encode()
        (drive / name if '/' in name else drive.parent / name).write_bytes(data)
        return expected
    return write


FAULTS = {
    'image cut off': break_image,
    'image resized': resize_image,
    'scan cut off': cut_scan,
    'scan cut off to triples': cut_scan_to_triples,
    'no camera calibration': without('calib_cam_to_cam.txt'),
    'no lidar calibration': without('calib_velo_to_cam.txt'),
    'no imu calibration': without('calib_imu_to_velo.txt'),
    'calibration without P': rewrite('calib_cam_to_cam.txt', 'R_rect_00: 1 0 0 0 1 0 0 0 1', 'P_rect_00'),
    'calibration is binary': rewrite('calib_velo_to_cam.txt', b'\xff\xfe\x00', 'is no text'),
    'timestamps too short': rewrite('velodyne_points/timestamps.txt', '2011-09-26 13:02:25.0\n', 'no time for frame 1'),
    'timestamps are no times': rewrite('velodyne_points/timestamps.txt', 'yesterday\n', "line 1 is 'yesterday'"),
    'packet too short': rewrite('oxts/data/0000000001.txt', '49.0 8.4', 'expected 30'),
    'packet is text': rewrite('oxts/data/0000000001.txt', 'nothing here', 'expected 30 numbers'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_malformed_drive_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path, fault, capsys):
    drive = raw_drive(tmp_path)
    expected = FAULTS[fault](drive)
    (tmp_path / 'out').mkdir()
    assert main(['import', 'kitti-raw', str(drive), '--out', str(tmp_path / 'out' / 'bag')]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith('depth_ros import: ')
    assert len(said.splitlines()) == 1
    assert expected in said
    assert list((tmp_path / 'out').iterdir()) == []


def test_foreign_folders_are_one_line(tmp_path):
    with pytest.raises(RecordingError, match='is no folder'):
        import_kitti_raw(tmp_path / 'nope', tmp_path / 'bag')
    with pytest.raises(RecordingError, match='has no images'):
        import_kitti_raw(tmp_path, tmp_path / 'bag')
    with pytest.raises(RecordingError, match='no folder image_2'):
        import_kitti_object(tmp_path, tmp_path / 'bag')
    folder, _ = object_folder(tmp_path)
    (folder / 'velodyne' / '000031.bin').unlink()
    with pytest.raises(RecordingError, match=r'000031\.bin is missing'):
        import_kitti_object(folder, tmp_path / 'bag')


def test_an_interrupt_leaves_nothing(tmp_path):
    drive = raw_drive(tmp_path)
    (tmp_path / 'out').mkdir()

    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_kitti_raw(drive, tmp_path / 'out' / 'bag', progress=interrupt)
    assert list((tmp_path / 'out').iterdir()) == []


def test_an_existing_bag_is_not_overwritten_unless_asked(tmp_path):
    drive = raw_drive(tmp_path, count=1)
    import_kitti_raw(drive, tmp_path / 'bag')
    with pytest.raises(OutputError, match='exists already'):
        import_kitti_raw(drive, tmp_path / 'bag')
    import_kitti_raw(drive, tmp_path / 'bag', overwrite=True)


def test_the_command_says_what_it_wrote_and_assumed(tmp_path, capsys):
    drive = raw_drive(tmp_path, stamps=False, oxts=False)
    assert main(['import', 'kitti-raw', str(drive), '--out', str(tmp_path / 'bag'), '--frames', '0:2']) == 0
    said = capsys.readouterr().out
    assert '2  /velodyne/points' in said
    assert 'note: stamps are nominal, 10 Hz' in said
    folder, _ = object_folder(tmp_path)
    assert main(['import', 'kitti-object', str(folder), '--out', str(tmp_path / 'moments')]) == 0
    assert main(['import', 'kitti-raw', str(drive), '--out', str(tmp_path / 'b'), '--frames', 'all']) == 2
    capsys.readouterr()
    for frames in ('-3:', '0:-1'):
        assert main(['import', 'kitti-raw', str(drive), '--out', str(tmp_path / 'b'), f'--frames={frames}']) == 2
        assert 'expected numbers of frames from 0' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()
