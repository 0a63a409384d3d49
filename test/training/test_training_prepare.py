"""From bags to datasets: what comes out is right, readable by others, and survives interruptions."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)

from prepared_bags import rewrite
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.errors import MessageError, RecordingError
from depth_ros.messages import frame as frame_module
from depth_ros.messages.header import set_stamp, stamp_ns
from depth_ros.messages.image import decode_file
from depth_ros.settings import from_flat
from depth_ros_training.cli.main import main
from depth_ros_training.data import dataset as dataset_module
from depth_ros_training.data.bags import read_bag
from depth_ros_training.data.dataset import DatasetFolder, read_index
from depth_ros_training.data.datasets import read_source

NS = 1_000_000_000


def test_frames_know_what_they_have(prepared):
    index = read_index(prepared)
    assert len(index.frames) == 12
    assert {entry['classes'] for entry in index.frames} == {'LPT'}
    assert index.head['recordings']['drive']['poses'] == 'odometry'
    assert {entry['split'] for entry in index.frames} == {'train', 'val', 'test', ''}
    order = [entry['split'] for entry in index.frames if entry['split']]
    assert order == sorted(order, key=['train', 'val', 'test'].index)


def test_others_can_read_it_as_kitti(prepared, bag):
    folder = prepared / 'drive'
    names = sorted(path.name for path in (folder / 'proj_depth' / 'groundtruth' / 'image_02').iterdir())
    assert names[0] == '0000000000.png'
    assert len(names) == 12
    raw = cv2.imread(str(folder / 'proj_depth' / 'velodyne_raw' / 'image_02' / names[5]), cv2.IMREAD_UNCHANGED)
    dense = cv2.imread(str(folder / 'proj_depth' / 'groundtruth' / 'image_02' / names[5]), cv2.IMREAD_UNCHANGED)
    truth = [sample.truth for sample in read_bag(bag)][5]
    for steps in (raw, dense):
        assert steps.dtype == np.uint16
        found = steps > 0
        error = np.abs(steps[found] / 256.0 - truth[found]) / truth[found]
        assert np.nanmedian(error) < 0.02  # pixels of this small image are coarse
    assert (dense > 0).mean() > 1.3 * (raw > 0).mean()
    projection = next(
        line for line in (folder / 'calib_cam_to_cam.txt').read_text().splitlines() if line.startswith('P_rect_03')
    )
    values = np.array(projection.split()[1:], float).reshape(3, 4)
    assert values[0, 3] < 0  # fx times the baseline, to the right
    poses = np.loadtxt(folder / 'poses.txt')
    assert poses.shape == (12, 12)
    assert len((folder / 'image_02' / 'timestamps.txt').read_text().splitlines()) == 12


def test_samples_are_those_of_the_pipeline(prepared, bag):
    folder = DatasetFolder(prepared)
    for stored, read in zip(folder, read_bag(bag), strict=True):
        np.testing.assert_array_equal(stored.points.u, read.points.u)
        np.testing.assert_array_equal(stored.points.depth, read.points.depth)
        np.testing.assert_array_equal(stored.ring, read.ring)
        np.testing.assert_allclose(stored.points.slide, read.points.slide, rtol=1e-3, atol=1e-3)
        assert stored.camera.matrix.tolist() == read.camera.matrix.tolist()
        assert np.abs(stored.image.astype(int) - read.image).mean() < 4  # JPEG


def test_images_that_wait_long_for_lidar_are_all_there(bag, tmp_path):
    # Sweeps come a second after the images of their time: ten of these wait, where live only one may.
    late = tmp_path / 'late'
    with BagReader(bag) as reader, BagWriter(late) as writer:
        items = [(item.log_ns + NS * (item.topic == '/points'), item) for item in reader.messages()]
        assert any(log_ns != item.log_ns for log_ns, item in items)
        for log_ns, item in sorted(items, key=lambda pair: pair[0]):
            writer.write(item.topic, item.message, log_ns)
    (tmp_path / 'robot.yaml').write_text('/**: {ros__parameters: {pairing: {queue_size: 1, wait: 2.0}}}')
    arguments = ['--params', str(tmp_path / 'robot.yaml'), '--jobs', '1', '--split', 'time', '--gap', '0']
    assert main(['prepare', str(late), '--out', str(tmp_path / 'dataset'), *arguments]) == 0
    assert len(read_index(tmp_path / 'dataset').frames) == 12
    settings = from_flat({'pairing.queue_size': 1, 'pairing.wait': 2.0})
    assert len(list(read_bag(late, settings=settings))) == 12


def test_points_of_the_sweep_are_not_in_the_truth_as_well(prepared):
    for sample in DatasetFolder(prepared):
        row, column = (np.floor(values + np.float32(0.5)).astype(int) for values in (sample.points.v, sample.points.u))
        assert np.isnan(sample.truth[row, column]).all()
        assert np.isfinite(sample.truth).mean() > 0.05  # what the sweeps before and after show


def test_exact_depth_is_asked_for_by_name(prepared, bag, tmp_path):
    exact = read_source(f'1 dataset {prepared} test exact', tmp_path)
    truth = {sample.name.split('/')[1]: sample.truth for sample in read_bag(bag)}
    samples = exact.groups['drive']
    assert 0 < len(samples) < 12
    stamps = {entry['frame']: str(entry['stamp_ns']) for entry in read_index(prepared).frames}
    for sample in samples:
        exactly = truth[stamps[sample.name.split('/')[1]]]
        # As far as 16 bits reach; what is farther is no sky.
        exactly = np.where(exactly >= 65535 / 256, np.inf, exactly)
        np.testing.assert_allclose(sample.truth, exactly, atol=1 / 256)
        assert np.isinf(sample.truth).any()
        assert sample.exact
    supervised = read_source(f'1 dataset {prepared} test', tmp_path).groups['drive'][0]
    assert not supervised.exact
    assert 0.05 < np.isfinite(supervised.truth).mean() < np.isfinite(samples[0].truth).mean()


def test_other_images_are_where_the_geometry_says(prepared):
    """True depth, taken over to the other image, meets the same surface there."""
    dataset = DatasetFolder(prepared, exact=True)
    sample, after = dataset[5], dataset[6]
    kinds = [other.kind for other in sample.others]
    assert kinds == ['stereo', 'temporal', 'temporal']
    assert [other.offset_ns > 0 for other in sample.others] == [False, False, True]
    v, u = np.mgrid[20:90:7, 20:240:7]
    depth = sample.truth[v, u]
    camera = sample.camera
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)])
    points = (rays * depth).reshape(3, -1)
    following = sample.others[2]
    moved = following.camera_from_reference[:3, :3] @ points + following.camera_from_reference[:3, 3:]
    column = following.camera.fx * moved[0] / moved[2] + following.camera.cx
    row = following.camera.fy * moved[1] / moved[2] + following.camera.cy
    inside = np.isfinite(column) & (column > 0) & (column < 255) & (row > 0) & (row < 95)
    found = after.truth[np.rint(row[inside]).astype(int), np.rint(column[inside]).astype(int)]
    error = np.abs(found - moved[2, inside]) / moved[2, inside]
    assert np.nanmedian(error) < 0.01
    unmoved = np.abs(found - points[2, inside]) / points[2, inside]
    assert np.nanmedian(unmoved) > 2 * np.nanmedian(error)
    baseline = sample.others[0].camera_from_reference[:3, 3]
    assert baseline[0] < -0.05
    assert np.abs(baseline[1:]).max() < 1e-6


def test_what_moved_or_is_hidden_is_left_out(prepared, capsys):
    assert main(['inspect', str(prepared), '--no-sheet']) == 0
    out = capsys.readouterr().out
    assert 'wrong points left out' in out
    filters = np.sum([entry['filter'] for entry in read_index(prepared).frames], axis=0)
    removed, kept, _ = filters
    assert kept[1:].sum() / kept.sum() < 0.5 * filters[:2, 1:].sum() / filters[:2].sum()
    assert kept[0] / kept.sum() > 0.95
    assert kept[0] / (kept[0] + removed[0]) > 0.8


@pytest.mark.parametrize(('reach', 'shared'), [(0.5, True), (0.1, False)])
def test_sweeps_that_blocks_share_are_said(bag, tmp_path, capsys, reach, shared):
    assert main(['prepare', str(bag), '--out', str(tmp_path / 'out'), '--gap', '0.15', '--reach', str(reach)]) == 0
    assert ('train and judge are nearer in time than the reach' in capsys.readouterr().err) is shared


def test_inspect_counts_and_draws(prepared, tmp_path, capsys):
    sheet = tmp_path / 'sheet.png'
    assert main(['inspect', str(prepared), '--sheet', str(sheet), '--check']) == 0
    out = capsys.readouterr().out
    assert 'LPT 12' in out
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] > 2000  # lidar, supervision, right image, exact depth
    assert picture.std() > 20


def test_an_interrupted_preparation_goes_on(bag, prepared, tmp_path, capsys, monkeypatch):
    out = tmp_path / 'dataset'
    arguments = ['prepare', str(bag), '--out', str(out), '--jobs', '1', '--split', 'time', '--gap', '0.15']
    monkeypatch.setattr('depth_ros_training.data.plan.CHUNK_NS', NS // 2)
    from depth_ros_training.data import chunk as chunk_module

    write, written = chunk_module.write_points, []

    def interrupt(path, points, ring):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        write(path, points, ring)

    monkeypatch.setattr(chunk_module, 'write_points', interrupt)
    assert main(arguments) == 130
    assert not (out / 'index.jsonl').exists()
    assert not list(out.rglob('.*.part*'))
    with pytest.raises(RecordingError, match='run the same command again'):
        DatasetFolder(out)
    done = list((out / 'parts' / 'drive').glob('0*.json'))
    assert done
    monkeypatch.setattr(chunk_module, 'write_points', lambda *given: written.append(given[0]) or write(*given))
    written.clear()
    assert main(arguments) == 0
    assert 'done already' in capsys.readouterr().out
    assert 0 < len(written) < 12
    # In chunks or at once, the same comes out.
    for one, other in zip(DatasetFolder(out), DatasetFolder(prepared), strict=True):
        np.testing.assert_array_equal(one.points.depth, other.points.depth)
        np.testing.assert_array_equal(one.truth, other.truth)


def test_processes_make_the_same_dataset(bag, prepared, tmp_path):
    other = rewrite(bag, tmp_path / 'other')
    out = tmp_path / 'dataset'
    assert main(['prepare', str(bag), str(other), '--out', str(out), '--jobs', '2', '--split', 'time']) == 0
    both = DatasetFolder(out)
    assert len(both) == 24
    assert set(both.groups) == {'drive', 'other'}
    for name in both.groups:
        for one, same in zip(both.groups[name], DatasetFolder(prepared), strict=True):
            np.testing.assert_array_equal(one.points.u, same.points.u)
            np.testing.assert_array_equal(one.truth, same.truth)


def test_processes_end_when_interrupted(bag, prepared, tmp_path):
    out = tmp_path / 'dataset'
    copies = [str(rewrite(bag, tmp_path / name)) for name in ('drive', *'abcd')]
    command = [sys.executable, '-m', 'depth_ros_training.cli.main', 'prepare', *copies, '--out', str(out)]
    command += ['--jobs', '2', '--split', 'time', '--gap', '0.15']
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob('parts/*/0*.json')):  # until the processes are at work
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: all processes get it
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert 'Traceback' not in said
    with suppress(ProcessLookupError):
        while True:  # until none is left: the helper of multiprocessing sees the end a little later
            os.killpg(process.pid, 0)
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not (out / 'index.jsonl').exists()
    assert not list(out.rglob('.*.part*'))
    again = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert 'done already' in again.stdout
    whole = DatasetFolder(out)
    assert len(whole) == 5 * 12
    for one, same in zip(whole.groups['drive'], DatasetFolder(prepared), strict=True):
        np.testing.assert_array_equal(one.points.depth, same.points.depth)
        np.testing.assert_array_equal(one.truth, same.truth)


@pytest.mark.parametrize('every', ['1', '2'])
def test_processes_share_the_chunks_of_a_bag(bag, tmp_path, monkeypatch, every):
    monkeypatch.setattr('depth_ros_training.data.plan.CHUNK_NS', NS * 2 // 5)
    contents = []
    for jobs in ('1', '2'):
        out = tmp_path / jobs
        arguments = ['prepare', str(bag), '--out', str(out), '--jobs', jobs, '--split', 'time', '--every', every]
        assert main(arguments) == 0
        assert len(list((out / 'parts' / 'drive').glob('0*.json'))) > 2
        files = [path for path in out.rglob('*') if path.is_file() and path.suffix != '.npz']
        contents.append({path.relative_to(out): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def test_bench_says_what_is_compared_with_what(bag, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    assert main(['prepare', str(bag), '--bench', '--jobs', '1', '--split', 'time']) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result['images'], result['processes']) == (12, 1)
    bare = result['bare_reading_one_process_s']
    for which in ('one_process', 'all_processes'):
        assert result[f'prepare_{which}_s'] > bare > 0
        assert result[f'prepare_{which}_ratio'] == pytest.approx(result[f'prepare_{which}_s'] / bare)
    assert not list(tmp_path.iterdir())


def test_compressed_images_are_kept_as_they_came(bag, tmp_path, monkeypatch):
    files, decoded = [], []

    def compress(topic, message):
        if topic != '/camera/left/image_rect':
            return None if topic.startswith(('/camera/right', '/truth')) else message
        return message

    store = BagWriter(tmp_path / 'unused')
    target = tmp_path / 'compressed'
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader, BagWriter(target) as writer:
        for connection, log_ns, data in reader.messages():
            message = compress(connection.topic, reader.deserialize(data, connection.msgtype))
            if message is None:
                continue
            if connection.topic.endswith('image_rect'):
                pixels = message.data.reshape(message.height, message.width, -1)
                packed = store.message('sensor_msgs/msg/CompressedImage')
                packed.header = message.header
                packed.format = 'bgr8; jpeg compressed bgr8'
                packed.data = cv2.imencode('.jpg', pixels)[1].ravel()
                files.append(packed.data.tobytes())
                writer.write(connection.topic + '/compressed', packed, log_ns)
            else:
                writer.write(connection.topic, message, log_ns)
    out = tmp_path / 'dataset'
    monkeypatch.setattr(frame_module, 'decode_file', lambda data: decoded.append(data) or decode_file(data))
    assert main(['prepare', str(target), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    assert 0 < len(decoded) < len(files) / 2  # those whose edges are compared
    kept = [path.read_bytes() for path in sorted((out / 'compressed' / 'image_02' / 'data').iterdir())]
    assert kept == files
    assert {entry['classes'] for entry in read_index(out).frames} == {'LT'}

    def refuse(data):
        raise MessageError('no image')

    monkeypatch.setattr(frame_module, 'decode_file', refuse)
    assert main(['prepare', str(target), '--out', str(tmp_path / 'other'), '--jobs', '1', '--split', 'time']) == 0
    index = read_index(tmp_path / 'other')
    assert len(index.frames) == len(files) - len(decoded)
    assert index.head['recordings']['compressed']['counts']['image: no image'] == len(decoded)


def test_a_recording_that_starts_again_has_as_many_sweeps_as_before(bag, prepared, tmp_path):
    """As when a simulation does: the log goes on, the stamps go back. What is prepared of both rounds is the same."""
    again, back = 10 * 10**9, -1000 * 10**9
    target = tmp_path / 'again'
    with (
        AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader,
        BagWriter(target) as writer,
    ):
        for later, shift in ((0, 0), (again, back)):
            for connection, log_ns, data in reader.messages():
                message = reader.deserialize(data, connection.msgtype)
                if hasattr(message, 'header'):
                    set_stamp(message.header.stamp, stamp_ns(message) + shift)
                writer.write(connection.topic, message, log_ns + later)
    out = tmp_path / 'dataset'
    assert main(['prepare', str(target), '--out', str(out), '--jobs', '1', '--split', 'time', '--gap', '0.15']) == 0
    expected, found = (
        [(entry['num_sweeps'], 'right' in entry, 'truth' in entry) for entry in read_index(folder).frames]
        for folder in (prepared, out)
    )
    assert min(expected) > (1, True, False), 'the case does not test what it says'
    assert found == [*expected, *expected]


def test_sweeps_without_images_are_not_all_kept(bag, tmp_path, monkeypatch):
    from depth_ros_training.data.accumulation import SweepWindow

    target, spans = tmp_path / 'blind', []
    with (
        AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader,
        BagWriter(target) as writer,
    ):
        for number in range(7):  # after the first round the camera is gone
            for connection, log_ns, data in reader.messages():
                message = reader.deserialize(data, connection.msgtype)
                if number and connection.topic not in ('/points', '/odometry'):
                    continue
                if hasattr(message, 'header'):
                    set_stamp(message.header.stamp, stamp_ns(message) + number * 2 * NS)
                writer.write(connection.topic, message, log_ns + number * 2 * NS)
    add = SweepWindow.add_scan

    def watched(self, scan):
        add(self, scan)
        spans.append((self._scans[-1].mid_ns - self._scans[0].mid_ns) / NS)

    monkeypatch.setattr(SweepWindow, 'add_scan', watched)
    arguments = ['--jobs', '1', '--split', 'time', '--gap', '0.15']
    assert main(['prepare', str(target), '--out', str(tmp_path / 'dataset'), *arguments]) == 0
    assert len(read_index(tmp_path / 'dataset').frames) == 12
    assert len(spans) > 70
    assert max(spans) < 6


def test_a_full_disk_leaves_what_was_done(bag, tmp_path, capsys, monkeypatch):
    from depth_ros_training.data import chunk as chunk_module

    write, count = chunk_module.write_depth, []

    def full(path, depth):
        count.append(path)
        if len(count) == 9:
            with dataset_module._written(path):
                raise OSError(errno.ENOSPC, 'No space left on device')
        write(path, depth)

    monkeypatch.setattr(chunk_module, 'write_depth', full)
    out = tmp_path / 'dataset'
    arguments = ['prepare', str(bag), '--out', str(out), '--jobs', '1', '--split', 'time']
    assert main(arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if 'disk' in line]
    assert len(error) == 1
    assert not (out / 'index.jsonl').exists()
    assert not list(out.rglob('.*.part*'))
    assert len(list(out.rglob('*.npz'))) > 0
    monkeypatch.undo()
    assert main(arguments) == 0
    assert len(read_index(out).frames) == 12
