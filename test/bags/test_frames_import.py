"""Folders of public frames become bags with the geometry of their calibrations."""

import io
import json

import cv2
import numpy as np
import pytest
from kitti_folders import NUM_RINGS, image, scan

from depth_ros.bags.frames import import_frames, read_calibration, read_points, read_split
from depth_ros.bags.frames import write_frame as write
from depth_ros.bags.reader import BagReader
from depth_ros.bags.recording import Recording
from depth_ros.cli.main import main
from depth_ros.errors import RecordingError
from depth_ros.geometry.depth_image import to_metres
from depth_ros.messages.image import read_rows
from depth_ros.types import Frame, LidarScan

AXES = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1.0]])
BASELINE = 0.5


def write_frame(folder, index=0, right=False, truth=False, lidar=True):
    """One frame; image size, intrinsics and extrinsics depend on the index."""
    folder.mkdir(parents=True)
    height, width = 40 + 2 * index, 120 + 4 * index
    k = [[70.0 + index, 0, 60.5], [0, 71.0 + index, 18.5], [0, 0, 1]]
    pose = AXES.copy()
    pose[:3, 3] += index
    calibration = {'width': width, 'height': height, 'K': k, 'camera_from_lidar': pose.tolist(), 'lidar': 'some'}
    cv2.imwrite(str(folder / 'image.jpg'), image(index, (height, width, 3)))
    if right:
        cv2.imwrite(str(folder / 'right.jpg'), image(index + 1, (height, width, 3)))
        calibration |= {'right_K': k, 'left_from_right_baseline_m': BASELINE}
    if truth:
        disparity = np.zeros((height, width), np.uint16)
        disparity[5, 7] = 3.5 * 256
        cv2.imwrite(str(folder / 'gt_disp.png'), disparity)
    if lidar:
        np.savez(folder / 'points.npz', points=scan(index, 50.0))
    (folder / 'calib.json').write_text(json.dumps(calibration))
    return folder


@pytest.fixture
def frames(tmp_path):
    write_frame(tmp_path / 'data' / 'a' / '000', 0, right=True, truth=True)
    write_frame(tmp_path / 'data' / 'b' / '000', 3)
    write_frame(tmp_path / 'data' / 'b' / '001', 1, lidar=False)
    return tmp_path / 'data'


def test_each_frame_keeps_its_own_calibration(frames, tmp_path):
    report = import_frames([frames], tmp_path / 'bag')
    assert any('1 frames without lidar' in note for note in report.notes)
    with Recording(tmp_path / 'bag') as recording:
        items = [item for _, item in recording.events()]
        images = [item for item in items if isinstance(item, Frame)]
        sweeps = [item for item in items if isinstance(item, LidarScan)]
        for frame, sweep, index in zip(images, sweeps, (0, 3), strict=True):
            assert (frame.camera.width, frame.camera.height) == (120 + 4 * index, 40 + 2 * index)
            assert (frame.camera.fx, frame.camera.fy) == (70 + index, 71 + index)
            expected = AXES.copy()
            expected[:3, 3] += index
            found = recording.transforms.lookup(frame.camera.frame_id, sweep.frame_id)
            np.testing.assert_allclose(found, expected, atol=1e-9)
            np.testing.assert_array_equal(sweep.points, scan(index, 50.0)[:, :3])
            np.testing.assert_array_equal(sweep.intensity, scan(index, 50.0)[:, 3])
            assert len(np.unique(sweep.ring)) == NUM_RINGS
            assert frame.stamp_ns == sweep.stamp_ns
    assert images[1].stamp_ns - images[0].stamp_ns == 10_000_000_000


def test_right_image_and_true_disparity_come_along(frames, tmp_path):
    import_frames([frames / 'a'], tmp_path / 'bag')
    with BagReader(tmp_path / 'bag') as reader:
        info = next(reader.messages(['/camera/color/right/camera_info'])).message
        truth = next(reader.messages(['/truth/depth'])).message
    assert info.p[3] == pytest.approx(-70.0 * BASELINE)
    depth = to_metres(read_rows(truth, np.dtype(np.float32), 1), truth.encoding)
    assert np.isfinite(depth).sum() == 1
    assert depth[5, 7] == pytest.approx(70.0 * BASELINE / 3.5)


def test_a_split_is_imported_and_scored(frames, tmp_path, capsys):
    splits = frames / 'splits.json'
    splits.write_text(json.dumps({'val': ['a/000', 'b/000']}))
    out = tmp_path / 'bag'
    assert main(['import', 'frames', '--splits', str(splits), '--split', 'val', '--out', str(out)]) == 0
    arguments = ['evaluate', str(out), '--out', str(tmp_path / 'results'), '--method', 'nearest', '--no-report']
    assert main([*arguments, '--input-rings', '8']) == 0
    assert '2 of 2 images answered' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [[], ['somewhere', '--splits', 'a.json'], ['--splits', 'a.json']])
def test_folders_or_a_split_have_to_be_named(arguments, tmp_path, capsys):
    assert main(['import', 'frames', *arguments, '--out', str(tmp_path / 'bag')]) == 2
    assert 'expected either' in capsys.readouterr().err


def test_a_split_without_frames_is_refused(frames, tmp_path, capsys):
    (frames / 'splits.json').write_text('{"val": []}')
    split = ['--splits', str(frames / 'splits.json'), '--split', 'val']
    assert main(['import', 'frames', *split, '--out', str(tmp_path / 'bag')]) == 2
    assert 'an empty split?' in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_an_unknown_split_is_named(frames):
    (frames / 'splits.json').write_text('{"val": []}')
    with pytest.raises(RecordingError, match="no split 'test', expected one of val"):
        read_split(frames / 'splits.json', 'test')
    (frames / 'splits.json').write_text('{"val": 5}')
    with pytest.raises(RecordingError, match=r"split 'val' of .* is 5, expected a list of folders"):
        read_split(frames / 'splits.json', 'val')


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def spoil_bytes(path):
    """Damage what is compressed, and neither names nor sizes."""
    np.savez_compressed(path, points=np.random.default_rng(0).random((500, 3)).astype(np.float32))
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(value ^ 255 for value in data[200:400])
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def claim_size(path):
    """Let the header of a JPEG name more pixels than there is memory."""
    data = bytearray(path.read_bytes())
    start = data.index(b'\xff\xc0') + 5
    data[start : start + 4] = b'\xff\xdc\xff\xdc'
    path.write_bytes(data)


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda folder: (folder / 'image.jpg').write_bytes(b'no image'), 'no whole 8-bit'),
    (lambda folder: (folder / 'points.npz').write_bytes(b'no points'), r'cannot read points\.npz'),
    (lambda folder: spoil_bytes(folder / 'points.npz'), r'cannot read points\.npz'),
    (lambda folder: (folder / 'points.npz').write_bytes(npy(np.zeros((5, 3)))), r'cannot read points\.npz'),
    (lambda folder: np.savez(folder / 'points.npz', points=np.zeros((5, 2))), r'expected \(N, 3\)'),
    (lambda folder: cut(folder / 'image.jpg'), 'no whole 8-bit'),
    (lambda folder: claim_size(folder / 'image.jpg'), 'no whole 8-bit'),
    (lambda folder: (folder / 'calib.json').write_text('{}'), 'camera_from_lidar'),
    (lambda folder: (folder / 'calib.json').write_text('[1]'), 'expected an object'),
    (lambda folder: (folder / 'gt_disp.png').write_bytes(b'no image'), r'^[^:]*gt_disp\.png is damaged'),
    (lambda folder: cv2.imwrite(str(folder / 'image.jpg'), np.zeros((9, 9, 3), np.uint8)), 'must not be resized'),
])  # fmt: skip
def test_damaged_frames_are_one_error_and_no_bag(frames, tmp_path, spoil, message):
    spoil(frames / 'a' / '000')
    with pytest.raises(RecordingError, match=message):
        import_frames([frames], tmp_path / 'bag')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['data']


def test_folders_without_frames_are_refused(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(RecordingError, match='no frame with'):
        import_frames([tmp_path / 'empty'], tmp_path / 'bag')
    with pytest.raises(RecordingError, match='no folder'):
        import_frames([tmp_path / 'nowhere'], tmp_path / 'bag')
    write_frame(tmp_path / 'x' / 'a' / '000')
    write_frame(tmp_path / 'y' / 'a' / '000')
    with pytest.raises(RecordingError, match='called a_000'):
        import_frames([tmp_path / 'x', tmp_path / 'y'], tmp_path / 'bag')


def test_rings_that_a_frame_names_are_kept(frames, tmp_path):
    """Whatever the order of the points says."""
    points = scan(0, 50.0)
    ring = (np.arange(len(points)) % 5 + 2).astype(np.int64)
    np.savez(frames / 'a' / '000' / 'points.npz', points=points, ring=ring)
    import_frames([frames / 'a'], tmp_path / 'bag')
    with Recording(tmp_path / 'bag') as recording:
        (sweep,) = (item for _, item in recording.events() if isinstance(item, LidarScan))
    np.testing.assert_array_equal(sweep.ring, ring)


@pytest.mark.parametrize('ring', [np.zeros(3, int), np.full(9, -1), np.full(9, 40000), np.zeros(9)])
def test_rings_that_are_none_are_refused(frames, tmp_path, ring):
    np.savez(frames / 'a' / '000' / 'points.npz', points=np.ones((9, 4)), ring=ring)
    with pytest.raises(RecordingError, match=r'ring of points\.npz is .* expected a whole number'):
        import_frames([frames / 'a'], tmp_path / 'bag')
    assert not (tmp_path / 'bag').exists()


def test_a_frame_is_read_as_it_was_written(tmp_path):
    content = cv2.imencode('.jpg', image(0, (40, 120, 3)))[1].tobytes()
    k, points, ring = np.diag([70.0, 71.0, 1.0]), scan(0, 50.0), np.arange(len(scan(0, 50.0))) % 7
    write(tmp_path / 'frame', content, k, AXES, points, ring)
    calibration = read_calibration(tmp_path / 'frame')
    assert (calibration['width'], calibration['height']) == (120, 40)
    np.testing.assert_array_equal(calibration['K'], k)
    np.testing.assert_array_equal(calibration['camera_from_lidar'], AXES)
    for found, expected in zip(read_points(tmp_path / 'frame'), (points[:, :3], points[:, 3], ring), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(RecordingError, match='damaged'):
        write(tmp_path / 'other', b'no image', k, AXES, points)
    assert not (tmp_path / 'other').exists()
