"""Sequences of the KITTI odometry benchmark become bags with the geometry, poses and times of the sequence."""

import cv2
import numpy as np
import pytest
from kitti_folders import SIZE, TR, P, image, line, rotation, scan

from depth_ros.bags.importing import NOMINAL_START_NS
from depth_ros.bags.kitti_odometry import import_kitti_odometry
from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.cli.main import main
from depth_ros.errors import RecordingError
from depth_ros.types import Frame, LidarScan, Pose

COUNT = 3
TIMES = (0.0, 0.1037359, 0.2075)
AHEAD, TURN = 1.2, 0.1  # metres and radians to the right, per frame
# The first frame is not where the world begins, nor does it look there along an axis.
START = np.vstack([np.hstack([rotation(0.02, 0.4, -0.03), [[5.0], [-1.0], [30.0]]]), [0, 0, 0, 1]])


def pose_rows(count=COUNT):
    """Rows of a file of poses: ahead along the first view, turning to the right."""
    rows = []
    for index in range(count):
        first_from_this = np.eye(4)
        first_from_this[:3, :3] = rotation(0, TURN * index, 0)
        first_from_this[2, 3] = AHEAD * index
        rows.append(' '.join(f'{value:.9e}' for value in (START @ first_from_this)[:3].ravel()))
    return rows


def write_images(folder, shape, first=0, count=COUNT):
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f'{index:06d}.png'), image(first + index, shape))


def sequence(root, cameras='0123', lidar=True, times=True, poses=True):
    """A sequence as the benchmark has it, 04."""
    folder = root / 'dataset' / 'sequences' / '04'
    for number in cameras:
        write_images(folder / f'image_{number}', SIZE if number in '01' else (*SIZE, 3), int(number))
    text = [line(f'P{number}', P[f'0{number}']) for number in range(4)] + [line('Tr', TR)]
    (folder / 'calib.txt').write_text('\n'.join(text) + '\n')
    if times:
        (folder / 'times.txt').write_text('\n'.join(f'{time:e}' for time in TIMES) + '\n')
    if lidar:
        (folder / 'velodyne').mkdir()
        for index in range(COUNT):
            scan(index).tofile(folder / 'velodyne' / f'{index:06d}.bin')
    if poses:
        (root / 'dataset' / 'poses').mkdir()
        (root / 'dataset' / 'poses' / '04.txt').write_text('\n'.join(pose_rows()) + '\n')
    return folder


def excerpt(root):
    """Left and right grey images, bare rows of calibration, poses of more frames, no times."""
    folder = root / 'KITTI_sequence_1'
    write_images(folder / 'image_l', SIZE)
    write_images(folder / 'image_r', SIZE, 1)
    rows = [' '.join(f'{value:.12e}' for value in P[number].ravel()) for number in ('00', '01')]
    (folder / 'calib.txt').write_text('\n'.join(rows))
    (folder / 'poses.txt').write_text('\n'.join(pose_rows(COUNT + 4)))
    return folder


def events(recording, kind):
    return [item for _, item in recording.events() if isinstance(item, kind)]


def infos(bag, name):
    with BagReader(bag) as reader:
        topics = [f'/camera/{name}/{side}/camera_info' for side in ('left', 'right')]
        return {item.topic.split('/')[3]: item.message for item in reader.messages(topics)}


def test_of_two_pairs_the_one_in_colour_is_taken_and_carries_its_baseline(tmp_path):
    report = import_kitti_odometry(sequence(tmp_path), tmp_path / 'bag')
    assert report.counts == {
        '/tf_static': 1, '/odometry': 3, '/velodyne/points': 3,
        **{f'/camera/color/{side}/{topic}': 3
           for side in ('left', 'right') for topic in ('camera_info', 'image_rect/compressed')},
    }  # fmt: skip
    found = infos(tmp_path / 'bag', 'color')
    assert found['left'].p[3] == 0
    # (-33.0 - 61.3 * 0.0027) - (4.4 - 61.3 * 0.0027)
    assert found['right'].p[3] == pytest.approx(-37.4, abs=1e-4)
    assert (found['left'].width, found['left'].height) == SIZE[::-1]
    with Recording(tmp_path / 'bag') as recording:
        frames = events(recording, Frame)
        right = recording.transforms.lookup('camera_color_left_optical', 'camera_color_right_optical')
    for index, frame in enumerate(frames):
        assert np.array_equal(frame.image, image(2 + index, (*SIZE, 3)))
        assert frame.camera.matrix == pytest.approx(P['02'][:, :3])
    # Row 2 of P differs, too: 70 t = -37.4 along x, 1.9 along y.
    assert right[:3, 3] == pytest.approx((37.4 / 70, -1.9 / 70, 0), abs=1e-6)


@pytest.mark.parametrize(
    ('cameras', 'name', 'right'),
    [('01', 'gray', True), ('012', 'gray', True), ('02', 'color', False), ('0', 'gray', False)],
)
def test_a_whole_pair_comes_before_colour(tmp_path, cameras, name, right):
    report = import_kitti_odometry(sequence(tmp_path, cameras), tmp_path / 'bag')
    taken = {topic.removesuffix('/camera_info') for topic in report.counts if topic.endswith('/camera_info')}
    assert taken == {f'/camera/{name}/{side}' for side in (('left', 'right') if right else ('left',))}
    assert any('no right images' in note for note in report.notes) != right


def test_an_excerpt_is_read_as_the_grey_pair(tmp_path):
    report = import_kitti_odometry(excerpt(tmp_path), tmp_path / 'bag')
    assert report.counts['/odometry'] == COUNT, 'poses of images that are not there are left out'
    assert any('stamps are nominal, 10 Hz' in note for note in report.notes)
    assert any('no lidar' in note for note in report.notes)
    found = infos(tmp_path / 'bag', 'gray')
    assert [found[side].p[3] for side in ('left', 'right')] == pytest.approx([0, -38.0])
    with Recording(tmp_path / 'bag') as recording:
        frames = events(recording, Frame)
    assert [frame.stamp_ns - NOMINAL_START_NS for frame in frames] == [0, 100_000_000, 200_000_000]
    assert np.array_equal(frames[2].image, image(2, SIZE))


def test_odometry_begins_at_the_first_image_with_x_ahead_and_z_up(tmp_path):
    for folder in (sequence(tmp_path), excerpt(tmp_path)):
        import_kitti_odometry(folder, tmp_path / 'bag', overwrite=True)
        with BagReader(tmp_path / 'bag') as reader:
            messages = [item.message for item in reader.messages(['/odometry'])]
        assert {(item.header.frame_id, item.child_frame_id) for item in messages} == {('odom', 'base_link')}
        for index, item in enumerate(messages):
            position, orientation = item.pose.pose.position, item.pose.pose.orientation
            assert (position.x, position.y, position.z) == pytest.approx((AHEAD * index, 0, 0), abs=1e-6)
            turned = (0, 0, -np.sin(TURN * index / 2), np.cos(TURN * index / 2))
            assert (orientation.x, orientation.y, orientation.z, orientation.w) == pytest.approx(turned, abs=1e-6)


@pytest.mark.parametrize('number', ['00', '02'])
def test_projection_through_the_bag_is_that_of_the_calibration(tmp_path, number):
    import_kitti_odometry(sequence(tmp_path, {'00': '01', '02': '23'}[number]), tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        camera = events(recording, Frame)[0].camera
        sweep = events(recording, LidarScan)[0]
        camera_from_lidar = recording.transforms.lookup(camera.frame_id, sweep.frame_id)
        height = recording.transforms.lookup('base_link', camera.frame_id)[2, 3]
    homogeneous = np.column_stack([scan(0)[:, :3].astype(np.float64), np.ones(len(sweep))])
    u, v, z = P[number] @ np.vstack([TR, [0, 0, 0, 1]]) @ homogeneous.T
    got = camera.matrix @ (camera_from_lidar @ homogeneous.T)[:3]
    ahead = z > 2
    assert ahead.sum() > 500
    np.testing.assert_allclose((got[:2] / got[2])[:, ahead], np.stack([u / z, v / z])[:, ahead], rtol=0, atol=1e-3)
    np.testing.assert_allclose(got[2, ahead], z[ahead], rtol=0, atol=1e-5)
    assert height == pytest.approx(1.65, abs=0.01)


def test_stamps_are_those_of_the_sequence_and_sweeps_are_as_at_the_image(tmp_path):
    report = import_kitti_odometry(sequence(tmp_path), tmp_path / 'bag')
    assert not any('nominal, 10 Hz' in note for note in report.notes)
    expected = [0, 103_735_900, 207_500_000]
    with Recording(tmp_path / 'bag') as recording:
        for kind in (Frame, LidarScan, Pose):
            assert [item.stamp_ns - NOMINAL_START_NS for item in events(recording, kind)] == expected
        sweep = events(recording, LidarScan)[1]
    assert sweep.time_offset_ns is None
    assert np.array_equal(sweep.points, scan(1)[:, :3])
    assert np.array_equal(sweep.intensity, scan(1)[:, 3])
    assert sweep.ring.max() == 15


def test_what_is_missing_is_said(tmp_path):
    report = import_kitti_odometry(sequence(tmp_path, lidar=False, times=False, poses=False), tmp_path / 'bag')
    assert [note for note in report.notes if 'no lidar' in note or '10 Hz' in note or 'no odometry' in note] == [
        'there is no lidar (velodyne)', 'stamps are nominal, 10 Hz, because times.txt is missing',
        'there is no odometry (poses.txt or poses/04.txt)',
    ]  # fmt: skip
    assert set(report.counts) == {'/tf_static'} | {
        f'/camera/color/{side}/{topic}' for side in ('left', 'right')
        for topic in ('camera_info', 'image_rect/compressed')
    }  # fmt: skip


def write(name, text, expected):
    def change(folder):
        (folder / name).write_text(text)
        return expected

    return change


def remove(name, expected):
    def change(folder):
        (folder / name).unlink()
        return expected

    return change


def resize(side):
    def change(folder):
        cv2.imwrite(str(folder / f'image_{side}' / '000001.png'), np.zeros((20, 60, 3), np.uint8))
        return f'image_{side}/000001.png is 60x20'

    return change


def rows(*chosen, **changed):
    """Lines of calib.txt, some of them otherwise."""
    values = {f'P{number}': P[f'0{number}'] for number in range(4)} | {'Tr': TR} | changed
    return '\n'.join(line(name, values[name]) for name in chosen or values)


FAULTS = {
    'no calibration': remove('calib.txt', 'calib.txt is missing'),
    'calibration without the right camera': write('calib.txt', rows('P0', 'P1', 'P2', 'Tr'), 'P3 has none'),
    'calibration without the lidar': write('calib.txt', rows('P0', 'P1', 'P2', 'P3'), 'Tr has none'),
    'calibration with a short line': write('calib.txt', rows(P2=P['02'][:, :3]), 'P2 has 9 numbers, expected 12'),
    'calibration of no camera': write('calib.txt', rows(P2=np.zeros((3, 4))), 'expected the projection matrix'),
    'calibration of swapped cameras': write('calib.txt', rows(P2=P['03'], P3=P['02']), 'stands -0.534 m to the right'),
    'lidar that is turned nowhere': write('calib.txt', rows(Tr=np.zeros((3, 4))), 'expected a rotation'),
    'bare rows that are short': write('calib.txt', '1 2 3\n', 'row 1 has 3 numbers, expected 12'),
    'rows that are words': write('calib.txt', 'nothing here\n', 'expected 12 numbers'),
    'fewer poses than images': write('poses.txt', '\n'.join(pose_rows(2)), 'has 2 poses, none for image 2'),
    'short pose': write('poses.txt', f'{pose_rows(1)[0]}\n1 2 3\n', 'row 2 has 3 numbers, expected 12'),
    'pose that is none': write('poses.txt', '\n'.join(['0 ' * 12] * 3), 'row 1 is no pose'),
    'mirrored pose': write('poses.txt', '\n'.join(['1 0 0 0 0 1 0 0 0 0 -1 0'] * 3), 'row 1 is no pose'),
    'pose that is not finite': write('poses.txt', '\n'.join(['nan ' * 12] * 3), 'expected 12 finite ones'),
    'fewer times than images': write('times.txt', '0.0\n0.1\n', 'has 2 times, none for frame 2 (row 3)'),
    'times that stand still': write('times.txt', '0.0\n0.1\n0.1\n', 'row 3 is not later'),
    'times that are dates': write('times.txt', '2011-09-26 13:02:25\n', 'expected 1 numbers'),
    'other number of right images': remove('image_3/000001.png', '3 images in image_2 and 2 in image_3'),
    'left image of another size': resize(2),
    'right image of another size': resize(3),
    'image that is cut off': write('image_2/000001.png', 'no image', 'image_2/000001.png (8 bytes)'),
    'sweep that is cut off': write('velodyne/000001.bin', 'five!', '000001.bin has 5 bytes'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_malformed_sequence_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path, fault, capsys):
    folder = sequence(tmp_path)
    expected = FAULTS[fault](folder)
    (tmp_path / 'out').mkdir()
    assert main(['import', 'kitti-odometry', str(folder), '--out', str(tmp_path / 'out' / 'bag')]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f'depth_ros import: {folder}')
    assert len(said.splitlines()) == 1
    assert expected in said
    assert list((tmp_path / 'out').iterdir()) == []


def test_foreign_folders_are_one_line(tmp_path):
    with pytest.raises(RecordingError, match='is no folder'):
        import_kitti_odometry(tmp_path / 'nope', tmp_path / 'bag')
    with pytest.raises(RecordingError, match='has no left images'):
        import_kitti_odometry(tmp_path, tmp_path / 'bag')


def test_the_command_says_what_it_wrote_and_assumed(tmp_path, capsys, monkeypatch):
    # Poses are found from within the sequence, too.
    monkeypatch.chdir(sequence(tmp_path, times=False))
    assert main(['import', 'kitti-odometry', '.', '--out', str(tmp_path / 'bag'), '--compressed', 'none']) == 0
    said = capsys.readouterr().out
    for text in ('3  /camera/color/right/image_rect\n', '3  /odometry', 'note: stamps are nominal, 10 Hz'):
        assert text in said
