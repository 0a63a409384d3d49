"""From bags to datasets: what comes out is right, readable by others, and survives interruptions and bad input."""

import errno
import json

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from depth_ros.bags.writer import BagWriter
from depth_ros.errors import MissingDependencyError, RecordingError
from depth_ros.geometry.projection import ProjectedPoints, concatenate
from depth_ros_training.cli.main import main
from depth_ros_training.data import dataset as dataset_module
from depth_ros_training.data.accumulation import agrees, uncovered
from depth_ros_training.data.agreement import EdgeAgreement
from depth_ros_training.data.bags import read_bag
from depth_ros_training.data.dataset import DatasetFolder, decode_depth, encode_depth, read_index
from depth_ros_training.data.datasets import read_source
from depth_ros_training.data.splits import SplitOptions, assign_splits

NS = 1_000_000_000


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """12 frames through a simulated street: right camera, odometry, 64 rings, exact depth."""
    path = tmp_path_factory.mktemp('bags') / 'drive'
    arguments = ['--frames', '12', '--width', '256', '--height', '96', '--fov', '80', '--lidar', 'hdl64e']
    arguments += ['--world', 'street', '--seed', '3', '--lidar-field', 'camera', '--ideal']
    assert main(['simulate', '--out', str(path), *arguments]) == 0
    return path


@pytest.fixture(scope='module')
def prepared(bag, tmp_path_factory):
    out = tmp_path_factory.mktemp('prepared') / 'dataset'
    assert main(['prepare', str(bag), '--out', str(out), '--jobs', '1', '--split', 'time', '--gap', '0.15']) == 0
    return out


def rewrite(source, target, change=lambda topic, message: message):
    """Copy a bag; what ``change`` returns is written, None = left out."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([source], default_typestore=store) as reader, BagWriter(target) as writer:
        for connection, log_ns, data in reader.messages():
            message = change(connection.topic, reader.deserialize(data, connection.msgtype))
            if isinstance(message, bytes):
                writer.write_raw(connection.topic, connection.msgtype, message, log_ns)
            elif message is not None:
                writer.write(connection.topic, message, log_ns)
    return target


def without(*starts):
    return lambda topic, message: None if topic.startswith(starts) else message


def refused(capsys, out, *arguments):
    """Run ``prepare``; it has to end with 2 and one line, and leave nothing. Returns the line."""
    assert main(['prepare', *map(str, arguments), '--out', str(out), '--jobs', '1']) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if 's left' not in line]
    assert len(lines) == 1
    assert not out.exists()
    return lines[0]


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


def test_exact_depth_is_asked_for_by_name(prepared, bag, tmp_path):
    exact = read_source(f'1 dataset {prepared} test exact', tmp_path)
    truth = {sample.name.split('/')[1]: sample.truth for sample in read_bag(bag)}
    samples = exact.groups['drive']
    assert 0 < len(samples) < 12
    stamps = {entry['frame']: str(entry['stamp_ns']) for entry in read_index(prepared).frames}
    for sample in samples:
        exactly = truth[stamps[sample.name.split('/')[1]]]
        exactly = np.where(exactly < 255.9, exactly, np.nan)  # as far as 16 bits reach
        np.testing.assert_allclose(sample.truth, exactly, atol=1 / 256)
    supervised = read_source(f'1 dataset {prepared} test', tmp_path).groups['drive'][0].truth
    assert 0.05 < np.isfinite(supervised).mean() < np.isfinite(samples[0].truth).mean()


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
    monkeypatch.setattr('depth_ros_training.data.chunk.CHUNK_NS', NS // 2)
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


def test_compressed_images_are_kept_as_they_came(bag, tmp_path):
    files = []

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
    assert main(['prepare', str(target), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    kept = [path.read_bytes() for path in sorted((out / 'compressed' / 'image_02' / 'data').iterdir())]
    assert kept == files
    assert {entry['classes'] for entry in read_index(out).frames} == {'LT'}


def test_a_bag_without_camera_is_refused(bag, tmp_path, capsys):
    blind = rewrite(bag, tmp_path / 'blind', without('/camera', '/truth'))
    assert 'no image' in refused(capsys, tmp_path / 'dataset', blind)


def test_a_bag_without_lidar_needs_something_else(bag, tmp_path, capsys):
    alone = rewrite(bag, tmp_path / 'alone', without('/points', '/camera/right', '/odometry', '/truth'))
    assert 'no lidar' in refused(capsys, tmp_path / 'dataset', alone)
    stereo = rewrite(bag, tmp_path / 'stereo', without('/points', '/odometry', '/truth'))
    out = tmp_path / 'stereo_dataset'
    assert main(['prepare', str(stereo), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    said = capsys.readouterr().err
    assert 'no lidar' in said
    assert 'no motion' in said
    samples = DatasetFolder(out)
    assert {samples.entry(number)['classes'] for number in range(len(samples))} == {'UP'}
    assert len(samples[0].points) == 0
    assert samples[0].truth is None
    assert [other.kind for other in samples[0].others] == ['stereo']


def turned(axis, degrees):
    """Turn the lidar's transform."""

    def change(topic, message):
        if topic == '/tf_static':
            for item in message.transforms:
                if item.child_frame_id == 'lidar':
                    from depth_ros.geometry.rigid import quaternion_to_rotation, rotation_to_quaternion

                    q = item.transform.rotation
                    vector = np.radians(degrees) * np.eye(3)[axis]
                    rotation = cv2.Rodrigues(vector)[0] @ quaternion_to_rotation(np.array([q.x, q.y, q.z, q.w]))
                    q.x, q.y, q.z, q.w = (float(value) for value in rotation_to_quaternion(rotation))
        return message

    return change


def test_lidar_that_never_meets_the_image_is_refused(bag, tmp_path, capsys):
    # The beams of this bag are those towards the image.
    behind = rewrite(bag, tmp_path / 'behind', turned(2, 180.0))
    assert 'none of the lidar points falls into' in refused(capsys, tmp_path / 'dataset', behind)


def test_a_missing_transform_is_refused(bag, tmp_path, capsys):
    loose = rewrite(bag, tmp_path / 'loose', without('/tf_static'))
    assert 'transforms.static' in refused(capsys, tmp_path / 'dataset', loose)


def test_wrong_extrinsics_are_warned_of():
    """A bright wall with dark posts, which stand before it: the lidar fits, or is off to one side."""
    rng = np.random.default_rng(0)
    for offset, expected in ((0, ''), (24, 'columns')):
        agreement = EdgeAgreement()
        for _ in range(12):
            starts = np.sort(rng.choice(np.arange(40, 1180, 60), 8, replace=False)) + rng.integers(0, 20)
            image = np.full((375, 1242), 200, np.uint8)
            depth = np.full(1242, 20.0, np.float32)
            for start in starts:
                image[:, start : start + 25], depth[start : start + 25] = 60, 8.0
            image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
            rows, columns = np.mgrid[60:360:12, 2:1240:3]
            shifted = np.clip(columns - offset, 0, 1241)
            points = ProjectedPoints(
                columns.ravel().astype(np.float32),
                rows.ravel().astype(np.float32),
                depth[shifted].ravel(),
                np.arange(rows.size, dtype=np.int32),
                np.zeros((rows.size, 2), np.float32),
            )
            agreement.add(image, points, (rows.ravel() // 12).astype(np.int16))
        found = agreement.result()
        assert found.num_edges > 300
        assert expected in found.problem
        assert bool(expected) == bool(found.problem)
        assert abs(found.best_shift[0] + offset) <= 3


def test_a_robot_that_stands_has_no_neighbours_in_time(bag, tmp_path, capsys):
    def still(topic, message):
        if topic == '/odometry':
            position = message.pose.pose.position
            position.x = position.y = position.z = 0.0
            message.pose.pose.orientation.x = message.pose.pose.orientation.y = message.pose.pose.orientation.z = 0.0
            message.pose.pose.orientation.w = 1.0
        return message

    standing = rewrite(bag, tmp_path / 'standing', still)
    out = tmp_path / 'dataset'
    assert main(['prepare', str(standing), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    assert 'no motion' in capsys.readouterr().err
    index = read_index(out)
    assert {entry['classes'] for entry in index.frames} == {'LP'}
    assert {entry['num_sweeps'] for entry in index.frames} == {1}


def test_lidar_odometry_is_named_when_it_is_missing(bag, tmp_path, capsys, monkeypatch):
    from depth_ros_training.data import plan

    monkeypatch.setattr(plan.importlib.util, 'find_spec', lambda name: None)
    alone = rewrite(bag, tmp_path / 'alone', without('/odometry', '/truth'))
    assert 'pip install kiss-icp' in refused(capsys, tmp_path / 'dataset', alone)
    assert main(['prepare', str(alone), '--out', str(tmp_path / 'none'), '--jobs', '1', '--poses', 'none']) == 0
    assert {entry['classes'] for entry in read_index(tmp_path / 'none').frames} == {'LP'}
    monkeypatch.setitem(__import__('sys').modules, 'kiss_icp.kiss_icp', None)
    from depth_ros_training.data.poses import lidar_odometry

    with pytest.raises(MissingDependencyError, match='pip install kiss-icp'):
        next(lidar_odometry(iter(())))


def test_lidar_odometry_stands_in_for_odometry(bag, prepared, tmp_path):
    pytest.importorskip('kiss_icp', reason='lidar odometry needs kiss-icp')
    alone = rewrite(bag, tmp_path / 'alone', without('/odometry', '/truth'))
    out = tmp_path / 'dataset'
    assert main(['prepare', str(alone), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    index = read_index(out)
    assert index.head['recordings']['alone']['poses'] == 'lidar odometry'
    known = [entry for entry in index.frames if entry['pose'] is not None]
    assert len(known) >= 10
    theirs = {entry['stamp_ns']: entry for entry in read_index(prepared).frames}
    ways = []
    for entries in (known, [theirs[entry['stamp_ns']] for entry in known]):
        places = [np.reshape(entry['pose'], (3, 4))[:, 3] for entry in (entries[0], entries[-1])]
        ways.append(np.linalg.norm(places[1] - places[0]))
    assert ways[1] > 3
    assert abs(ways[0] - ways[1]) < 0.15 * ways[1]


def test_damaged_messages_are_counted_and_skipped(bag, tmp_path, capsys):
    seen = {'/points': 0, '/camera/left/image_rect': 0}

    def spoil(topic, message):
        if topic in seen:
            seen[topic] += 1
            if seen[topic] == 4:
                message.data = message.data[: len(message.data) // 2].copy()
        return message

    spoilt = rewrite(bag, tmp_path / 'spoilt', spoil)
    out = tmp_path / 'dataset'
    assert main(['prepare', str(spoilt), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    assert len(read_index(out).frames) == 11
    counts = read_index(out).head['recordings']['spoilt']['counts']
    assert sorted(text.split(':')[0] for text in counts) == ['image', 'points']
    assert set(counts.values()) == {1}
    assert 'truncated' in capsys.readouterr().err


def test_a_bag_that_is_cut_off_is_used_as_far_as_it_goes(bag, tmp_path, capsys):
    cut = tmp_path / 'cut.mcap'
    content = next(bag.glob('*.mcap')).read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    out = tmp_path / 'dataset'
    assert main(['prepare', str(cut), '--out', str(out), '--jobs', '1', '--split', 'time']) == 0
    assert 4 <= len(read_index(out).frames) < 12
    assert 'as far as it goes' in capsys.readouterr().err


def test_a_full_disk_leaves_what_was_done(bag, tmp_path, capsys, monkeypatch):
    from depth_ros_training.data import chunk as chunk_module

    write, count = chunk_module.write_depth, []

    def full(path, depth):
        count.append(path)
        if len(count) == 9:
            with dataset_module.whole_file(path):
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


def test_what_is_there_is_not_overwritten(bag, prepared, tmp_path, capsys):
    assert main(['prepare', str(bag), '--out', str(prepared), '--jobs', '1', '--reach', '0.2']) == 2
    assert 'other options' in capsys.readouterr().err
    read_index(prepared)
    (tmp_path / 'notes.txt').write_text('mine')
    assert main(['prepare', str(bag), '--out', str(tmp_path), '--jobs', '1']) == 2
    assert 'no dataset' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


@pytest.fixture
def copied(prepared, tmp_path):
    import shutil

    return shutil.copytree(prepared, tmp_path / 'copied')


def test_missing_and_damaged_files_are_named(copied, capsys):
    points = sorted((copied / 'drive' / 'points').iterdir())[3]
    content = points.read_bytes()
    points.write_bytes(content[:100])
    with pytest.raises(RecordingError, match=points.name):
        DatasetFolder(copied)[3]
    assert main(['inspect', str(copied), '--no-sheet', '--check']) == 2
    assert capsys.readouterr().err.count('\n') == 1
    points.unlink()
    assert main(['inspect', str(copied), '--no-sheet']) == 2
    assert points.name in capsys.readouterr().err
    points.write_bytes(content)
    image = sorted((copied / 'drive' / 'image_02' / 'data').iterdir())[3]
    image.write_bytes(b'nothing')
    with pytest.raises(RecordingError, match=image.name):
        DatasetFolder(copied)[3]


def test_other_conventions_are_refused(copied, tmp_path, capsys):
    lines = (copied / 'index.jsonl').read_text().splitlines()
    head = json.loads(lines[0])
    (copied / 'index.jsonl').write_text('\n'.join([json.dumps({**head, 'depth_scale': 1000.0}), *lines[1:]]))
    with pytest.raises(RecordingError, match=r'1000.0 steps per metre, expected'):
        read_source(f'1 dataset {copied}', tmp_path)
    (copied / 'index.jsonl').write_text('\n'.join(lines[:-2]))
    assert main(['inspect', str(copied)]) == 2
    assert 'cut off' in capsys.readouterr().err
    (copied / 'index.jsonl').write_text('{"format"')
    assert main(['inspect', str(copied)]) == 2
    assert 'damaged' in capsys.readouterr().err


def test_depth_survives_16_bits():
    depth = np.array([[0.2, 1.0, 80.123, 255.9], [np.nan, 256.0, 300.0, np.inf]], np.float32)
    back = decode_depth(encode_depth(depth))
    np.testing.assert_allclose(back[0], depth[0], atol=1 / 512)
    assert np.isnan(back[1]).all()


def frames_of(count, rate=10.0):
    return [{'stamp_ns': int(number / rate * NS)} for number in range(count)]


def test_splits_by_time_keep_a_gap():
    recordings = {'drive': frames_of(50)}
    assign_splits(recordings, SplitOptions('time', (0.8, 0.0, 0.2), 0.5))
    splits = [frame['split'] for frame in recordings['drive']]
    assert splits[:35] == ['train'] * 35
    assert splits[35:40] == [''] * 5
    assert splits[40:] == ['test'] * 10


def test_splits_by_recording_keep_recordings_whole():
    recordings = {f'drive_{number}': frames_of(20 + number) for number in range(10)}
    assign_splits(recordings, SplitOptions('auto', (0.7, 0.1, 0.2)))
    found = {name: {frame['split'] for frame in frames} for name, frames in recordings.items()}
    assert all(len(splits) == 1 for splits in found.values())
    counts = {split: sum(splits == {split} for splits in found.values()) for split in ('train', 'val', 'test')}
    assert counts['train'] >= 6
    assert 1 <= counts['val'] <= 2
    assert 1 <= counts['test'] <= 3
    with pytest.raises(Exception, match='by time'):
        assign_splits({'one': frames_of(5)}, SplitOptions('recording'))


def grid_points(u, v, depth):
    u, v, depth = (np.asarray(values, np.float32).ravel() for values in np.broadcast_arrays(u, v, depth))
    return ProjectedPoints(u, v, depth, np.arange(len(u), dtype=np.int32), np.zeros((len(u), 2), np.float32))


def test_a_sweep_contradicts_what_is_not_there_now():
    columns = np.arange(0, 100, 2)
    own = grid_points(*np.meshgrid(columns, [20, 40, 60]), 10.0)
    others = grid_points([50, 50, 50], [30, 30, 30], [10.3, 20.0, 5.0])
    assert agrees(others, own, (100, 100), 0.08).tolist() == [True, False, False]
    # On the ground one ring is nearer and the next one farther.
    u, v = np.meshgrid(columns, [20, 40, 60])
    ground = grid_points(u, v, 400.0 / v)
    assert agrees(grid_points([50], [30], [13.0]), ground, (100, 100), 0.08).all()


def test_a_surface_covers_what_is_behind_it_and_not_itself():
    v, u = np.mgrid[0:100:2, 0:100:2]
    slanted = grid_points(u, v, 200.0 / (v + 5.0))
    assert uncovered(slanted, (100, 100), 0.08).all()
    wall = grid_points(u, v, np.where((u > 20) & (u < 80), 5.0, 20.0))
    behind = grid_points([50.0, 10.0], [50.0, 50.0], [20.0, 20.0])
    both = concatenate([wall, behind])
    kept = uncovered(both, (100, 100), 0.08)
    assert kept[: len(wall)].all()
    assert kept[-2:].tolist() == [False, True]
