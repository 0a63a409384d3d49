"""What ``prepare`` and ``inspect`` say to bags and datasets that lack something, are damaged or do not fit."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)

from prepared_bags import refused, rewrite, without
from rosbags.typesys import Stores, get_typestore

from depth_ros.errors import MissingDependencyError, RecordingError
from depth_ros_training.cli.main import main
from depth_ros_training.data import prepare as prepare_module
from depth_ros_training.data.dataset import DatasetFolder, read_index
from depth_ros_training.data.datasets import read_source


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


def test_transforms_stand_in_for_odometry(bag, prepared, tmp_path):
    types = get_typestore(Stores.ROS2_JAZZY).types
    vector, transform = types['geometry_msgs/msg/Vector3'], types['geometry_msgs/msg/Transform']
    stamped, several = types['geometry_msgs/msg/TransformStamped'], types['tf2_msgs/msg/TFMessage']

    def as_transform(topic, message):
        if topic != '/odometry':
            return message
        place = message.pose.pose.position
        moved = transform(vector(place.x, place.y, place.z), message.pose.pose.orientation)
        return '/tf', several([stamped(message.header, message.child_frame_id, moved)])

    out = tmp_path / 'dataset'
    drive = rewrite(bag, tmp_path / 'drive', as_transform)
    assert main(['prepare', str(drive), '--out', str(out), '--jobs', '1', '--split', 'time', '--gap', '0.15']) == 0
    theirs, ours = read_index(prepared), read_index(out)
    assert theirs.head['recordings']['drive']['poses'] == 'odometry'
    assert ours.head['recordings']['drive']['poses'] == 'tf'
    assert ours.frames == theirs.frames
    for one, same in zip(DatasetFolder(out), DatasetFolder(prepared), strict=True):
        np.testing.assert_array_equal(one.truth, same.truth)


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


def test_what_is_there_is_not_overwritten(bag, prepared, tmp_path, capsys):
    assert main(['prepare', str(bag), '--out', str(prepared), '--jobs', '1', '--reach', '0.2']) == 2
    assert 'other options' in capsys.readouterr().err
    read_index(prepared)
    (tmp_path / 'notes.txt').write_text('mine')
    assert main(['prepare', str(bag), '--out', str(tmp_path), '--jobs', '1']) == 2
    assert 'no dataset' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


@pytest.fixture
def dataset_of_two(bag, tmp_path):
    """A finished dataset of two recordings, and the arguments that made it."""
    other = rewrite(bag, tmp_path / 'other')
    arguments = [str(bag), str(other), '--out', str(tmp_path / 'dataset'), '--jobs', '1', '--split', 'time']
    assert main(['prepare', *arguments, '--gap', '0.15']) == 0
    return tmp_path / 'dataset', arguments


def test_beginning_anew_takes_away_no_more_than_the_dataset(dataset_of_two, capsys):
    out, (_, other, *arguments) = dataset_of_two
    assert main(['inspect', str(out)]) == 0
    old = out / 'drive' / 'image_02' / 'data' / 'old.jpg'
    mine = out / 'notes.txt', out / 'drive' / 'notes.txt', out / 'mine' / 'poses.txt'
    for path in (old, *mine):
        path.parent.mkdir(exist_ok=True)
        path.write_text('mine')
    assert main(['prepare', other, *arguments, '--gap', '0.15', '--overwrite']) == 0
    assert {path.read_text() for path in mine} == {'mine'}
    left = ['drive', 'index.jsonl', 'mine', 'notes.txt', 'other', 'parts']
    assert sorted(path.name for path in out.iterdir()) == left
    assert [path.name for path in (out / 'drive').iterdir()] == ['notes.txt']
    assert list(read_index(out).head['recordings']) == ['other']


def test_beginning_anew_leaves_nothing_of_a_dataset(copied):
    assert main(['inspect', str(copied)]) == 0
    prepare_module._remove(copied)
    assert not list(copied.iterdir())


def test_a_folder_with_parts_of_something_else_is_no_dataset(bag, tmp_path, capsys):
    (tmp_path / 'car' / 'parts').mkdir(parents=True)
    (tmp_path / 'car' / 'parts' / 'wheel.txt').write_text('mine')
    assert main(['prepare', str(bag), '--out', str(tmp_path / 'car'), '--jobs', '1', '--overwrite']) == 2
    assert 'no dataset' in capsys.readouterr().err
    assert (tmp_path / 'car' / 'parts' / 'wheel.txt').read_text() == 'mine'


@pytest.mark.parametrize('more', [[], ['--overwrite']])
def test_bags_and_the_dataset_do_not_lie_in_each_other(bag, copied, capsys, more):
    inner = shutil.copytree(bag, copied / 'bags' / 'inner')
    (copied.parent / 'link').symlink_to(copied)
    there = sorted(copied.rglob('*'))
    for out in (copied, copied.parent / 'link', inner, inner / 'dataset'):
        assert main(['prepare', str(inner), '--out', str(out), '--jobs', '1', '--split', 'time', *more]) == 2
        assert 'which must stay' in capsys.readouterr().err
        assert sorted(copied.rglob('*')) == there


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--split', 'recording'], '1 recordings cannot be divided into 3 parts'),
    (['--gap', '100'], 'no frame is left for train'),
    (['--gap', 'nan'], 'gap is nan s, expected a number'),
    (['--gap', 'inf'], 'gap is inf s, expected a number'),
])  # fmt: skip
def test_a_split_that_is_impossible_is_refused_before_the_work(bag, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(prepare_module, '_run', lambda *given: pytest.fail('the work began'))
    assert said in refused(capsys, tmp_path / 'dataset', bag, *arguments)


def test_a_split_that_proves_impossible_costs_no_work(bag, tmp_path, capsys):
    out = tmp_path / 'dataset'
    arguments = ['prepare', str(bag), '--out', str(out), '--jobs', '1', '--split', 'time']
    assert main([*arguments, '--gap', '0.8']) == 2
    assert 'no frame is left' in capsys.readouterr().err
    assert not (out / 'index.jsonl').exists()
    assert main([*arguments, '--gap', '0.15']) == 0
    assert '; 12 images were done already' in capsys.readouterr().out


def test_what_is_refused_leaves_the_dataset_as_it_was(dataset_of_two, tmp_path, capsys, monkeypatch):
    out, (drive, other, *arguments) = dataset_of_two
    before = (out / 'index.jsonl').read_bytes()
    homonym = rewrite(Path(drive), tmp_path / 'elsewhere' / 'drive', without('/truth'))
    for given, said in (
        ([str(homonym), *arguments], "another recording named 'drive'"),
        ([drive, other, *arguments[:-2], '--split', 'recording'], '2 recordings cannot be divided into 3 parts'),
        ([drive, other, *arguments, '--gap', '0.8'], 'no frame is left for'),
        ([drive, other, *arguments, '--gap', '100', '--overwrite'], 'no frame is left for'),
    ):
        assert main(['prepare', *given]) == 2
        assert said in capsys.readouterr().err
        assert (out / 'index.jsonl').read_bytes() == before
        assert main(['inspect', str(out), '--no-sheet', '--check']) == 0
    third = rewrite(Path(drive), tmp_path / 'third')

    def interrupt(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, '_run', interrupt)
        assert main(['prepare', str(third), *arguments, '--gap', '0.15']) == 130
    assert (out / 'index.jsonl').read_bytes() == before
    assert main(['prepare', str(third), *arguments, '--gap', '0.15']) == 0
    assert list(read_index(out).head['recordings']) == ['drive', 'other', 'third']


@pytest.fixture
def copied(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / 'copied')


def test_a_recording_of_which_nothing_was_written_down_is_none(bag, copied):
    (copied / 'parts' / 'other').mkdir()
    arguments = ['--jobs', '1', '--split', 'time', '--gap', '0.15']
    assert main(['prepare', str(bag), '--out', str(copied), *arguments]) == 0
    assert list(read_index(copied).head['recordings']) == ['drive']


def test_what_an_earlier_run_left_undone_of_another_recording_is_said(bag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('depth_ros_training.data.plan.CHUNK_NS', 400_000_000)
    other = rewrite(bag, tmp_path / 'other')
    arguments = ['--out', str(tmp_path / 'out'), '--jobs', '1', '--split', 'time', '--gap', '0.15']
    assert main(['prepare', str(bag), str(other), *arguments]) == 0
    assert 'an earlier run' not in capsys.readouterr().err
    (tmp_path / 'out' / 'parts' / 'other' / '000001.json').unlink()
    assert main(['prepare', str(bag), *arguments]) == 0
    said = capsys.readouterr().err
    assert re.search(r'other: an earlier run made only (\d) of its (\d) parts', said), said
    assert 'drive: an earlier run' not in said
    assert main(['prepare', str(other), *arguments]) == 0
    assert 'an earlier run' not in capsys.readouterr().err


def test_a_bag_of_the_name_that_datasets_keep_is_refused(bag, tmp_path, capsys):
    named = rewrite(bag, tmp_path / 'parts')
    assert main(['prepare', str(named), '--out', str(tmp_path / 'out'), '--jobs', '1', '--split', 'time']) == 2
    assert 'rename it' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


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


@pytest.mark.parametrize('kind', ['truth', 'proj_depth/velodyne_raw'])
def test_checking_reads_what_samples_are_not_made_of(copied, capsys, kind):
    path = sorted((copied / 'drive' / kind / 'image_02').iterdir())[3]
    path.write_bytes(path.read_bytes()[:20])
    assert main(['inspect', str(copied), '--no-sheet', '--check']) == 2
    assert path.name in capsys.readouterr().err


def test_a_sheet_takes_the_place_of_nothing_else(copied, tmp_path, capsys):
    note, raw = tmp_path / 'note.png', next((copied / 'drive' / 'proj_depth' / 'groundtruth').rglob('*.png'))
    note.write_text('mine')
    content = raw.read_bytes()
    for words, said in (
        (['--sheet', tmp_path / 'sheet.xyz'], 'expected a name that ends in .png'),
        (['--sheet', note], 'is there already'),
        (['--sheet', raw, '--overwrite'], 'which must stay'),
        (['--overwrite'], 'name it with --sheet'),
    ):
        assert main(['inspect', str(copied), *map(str, words)]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        main(['inspect', str(copied), '--no-sheet', '--sheet', str(note)])
    assert (note.read_text(), raw.read_bytes()) == ('mine', content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['copied', 'note.png']
    assert main(['inspect', str(copied), '--sheet', str(note), '--overwrite']) == 0
    assert cv2.imread(str(note)) is not None
    for _ in range(2):
        assert main(['inspect', str(copied)]) == 0


def test_what_is_lost_is_made_anew(bag, prepared, tmp_path, capsys):
    copied = shutil.copytree(prepared, tmp_path / 'copied')
    lost = sorted((copied / 'drive' / 'image_02' / 'data').iterdir())[3]
    empty = sorted((copied / 'drive' / 'proj_depth' / 'groundtruth' / 'image_02').iterdir())[5]
    before = {path: path.read_bytes() for path in (lost, empty, copied / 'index.jsonl')}
    lost.unlink()
    empty.write_bytes(b'')
    assert main(['inspect', str(copied), '--no-sheet']) == 2
    assert 'prepare it again' in capsys.readouterr().err
    assert main(['prepare', str(bag), '--out', str(copied), '--jobs', '1', '--split', 'time', '--gap', '0.15']) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert main(['inspect', str(copied), '--no-sheet', '--check']) == 0


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
