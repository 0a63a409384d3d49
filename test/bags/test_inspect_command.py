"""``depth_ros inspect`` says what is there, what would be used, and what is missing."""

import numpy as np
import pytest
import yaml
from bag_samples import START, STEP, Messages, jointed
from damaged_bags import damage
from kitti_folders import raw_drive

from depth_ros.bags.inspection import inspect_bag
from depth_ros.bags.kitti import import_kitti_raw
from depth_ros.bags.select import TopicOverrides
from depth_ros.cli.main import main
from depth_ros.geometry.rigid import TransformTree
from depth_ros.settings import Settings, from_flat, load_yaml


def look(path, settings=None):
    return inspect_bag(path, TopicOverrides(), settings or Settings())


def test_facts_of_an_imported_drive(tmp_path, capsys):
    import_kitti_raw(raw_drive(tmp_path), tmp_path / 'bag')
    found = look(tmp_path / 'bag')
    assert found.image.rectified
    assert found.image.encoding == 'bgr8; png compressed bgr8'
    assert (found.lidar.num_rings, found.lidar.rings_from) == (16, 'field')
    assert found.lidar.time_span_ms == pytest.approx(100, abs=1)
    assert found.chain == ('camera_color_left_optical', 'velodyne')
    assert found.latency_ms['/velodyne/points'] == pytest.approx((100, 100))
    assert found.rate_hz['/velodyne/points'] == pytest.approx(10)
    assert (found.pairing.num_images, found.pairing.num_with_lidar) == (3, 3)
    assert found.pairing.worst_ms < 1
    assert found.problems == ()
    assert main(['inspect', str(tmp_path / 'bag')]) == 0
    said = capsys.readouterr().out
    for text in ('/camera/color/left/image_rect/compressed', 'best of 4', '124x37', '16 rings (field)',
                 'camera_color_left_optical <- velodyne', '3 of 3 images'):
        assert text in said, text
    assert 'missing or wrong' not in said


def test_node_parameters_hold_the_transforms(tmp_path, capsys):
    path = Messages().drive(2).write(tmp_path / 'bag')
    assert main(['inspect', str(path), '--node-params', str(tmp_path / 'node.yaml')]) == 0
    tree = TransformTree()
    for line in from_flat(load_yaml(tmp_path / 'node.yaml')).transforms.static:
        tree.add_text(line)
    np.testing.assert_allclose(tree.lookup('cam_optical', 'base_link')[:3, 3], (-0.1, 0, -1))
    assert list(yaml.safe_load((tmp_path / 'node.yaml').read_text())) == ['/**']
    # The file serves the commands as well.
    assert main(['inspect', str(path), '--params', str(tmp_path / 'node.yaml')]) == 0
    (tmp_path / 'file').write_text('')
    assert main(['inspect', str(path), '--node-params', str(tmp_path / 'file' / 'node.yaml')]) == 2
    assert 'cannot write' in capsys.readouterr().err


@pytest.mark.parametrize(('options', 'said'), [
    (['--node-params', 'lone.mcap', '--overwrite'], 'is the input'),
    (['--node-params', 'mine.yaml'], 'say --overwrite'),
    (['--node-params', 'mine.yaml', '--overwrite', '--params', 'mine.yaml'], 'is the input'),
    (['--node-params', 'link', '--overwrite'], 'is the input'),
])  # fmt: skip
def test_node_parameters_replace_nothing_unasked_and_never_an_input(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.yaml').write_text('pairing: {wait: 0.1}\n')
    file = Messages().drive(2).write(tmp_path / 'bag', 'mcap_file').rename(tmp_path / 'lone.mcap')
    (tmp_path / 'link').symlink_to(file)
    before = file.read_bytes()
    assert main(['inspect', 'lone.mcap', *options]) == 2
    assert said in capsys.readouterr().err
    assert file.read_bytes() == before
    assert (tmp_path / 'mine.yaml').read_text() == 'pairing: {wait: 0.1}\n'
    assert main(['inspect', 'lone.mcap', '--node-params', 'mine.yaml', '--overwrite']) == 0
    assert from_flat(load_yaml(tmp_path / 'mine.yaml')).transforms.static


def test_node_parameters_hold_nothing_that_may_move(tmp_path):
    messages = Messages().drive(3)
    messages.items = [item for item in messages.items if item[0] != '/tf_static']
    messages.transforms(('base_link', 'lidar', (0, 0, 1)))
    for index in range(3):  # the robot stands still; so does its arm, and the camera's mast is calibrated on /tf
        edges = ('odom', 'base_link', (-9, 0, 0)), ('base_link', 'arm', (1, 0, 0)), ('lidar', 'cam_optical', (0, 0, 1))
        messages.transforms(*edges, topic='/tf', stamp=START + index * STEP, log_ns=START + index * STEP)
    path = messages.write(tmp_path / 'bag')
    assert main(['inspect', str(path), '--node-params', str(tmp_path / 'node.yaml')]) == 0
    static = from_flat(load_yaml(tmp_path / 'node.yaml')).transforms.static
    assert [line.split()[:2] for line in static] == [['base_link', 'lidar'], ['lidar', 'cam_optical']]
    assert 'did not move' in (tmp_path / 'node.yaml').read_text().splitlines()[1]
    assert 'lidar cam_optical' in (tmp_path / 'node.yaml').read_text().splitlines()[1]
    # What the user says holds, whatever rested.
    said = look(path, from_flat({'transforms.static': ['odom base_link 1 2 3 0 0 0 1']}))
    assert ('odom', 'base_link') in said.fixed.pairs


def test_what_is_missing_is_said_with_what_to_do(tmp_path, capsys):
    messages = Messages()
    for index in range(3):
        messages.points('/points', START + index * STEP, 3000, times=False, ring=False)
    path = messages.write(tmp_path / 'bag')
    assert main(['inspect', str(path)]) == 0
    said = capsys.readouterr().out
    for text in ('no camera: record', 'no calibration: record', 'no odometry', 'the points have no times',
                 'rings cannot be inferred'):
        assert text in said, text
    assert main(['inspect', str(path), '--node-params', str(tmp_path / 'node.yaml')]) == 2
    assert not (tmp_path / 'node.yaml').exists()


def test_unjoined_frames_late_stamps_and_bad_images_are_problems(tmp_path):
    messages = Messages()
    for index in range(3):
        stamp = START + index * STEP
        messages.info('/cam/camera_info', stamp, log_ns=stamp + 3600 * 10**9)
        messages.image('/cam/image_raw', stamp, log_ns=stamp + 3600 * 10**9)
        messages.points('/points', stamp + 10 * 10**9, log_ns=stamp + 3600 * 10**9)
    messages.items[1][1].step = 1
    problems = ' | '.join(look(messages.write(tmp_path / 'bag')).problems)
    assert "no transform from 'lidar' to 'cam_optical'" in problems
    assert 'transforms.static' in problems
    assert '+3600.0 s after its stamps' in problems
    assert '3 of 3 images have no sweep within 0.5 s' in problems
    assert 'an image cannot be used: image step is 1' in problems


def test_transforms_of_the_settings_join_what_the_bag_does_not(tmp_path):
    messages = Messages().drive(2)
    messages.items = [item for item in messages.items if item[0] != '/tf_static']
    path = messages.write(tmp_path / 'bag')
    assert look(path).chain == ()
    found = look(path, from_flat({'transforms.static': ['lidar cam_optical 0 0 0 0 0 0 1']}))
    assert found.chain == ('cam_optical', 'lidar')


def test_a_moving_transform_counts_as_odometry(tmp_path, capsys):
    messages = Messages().drive(3)
    messages.items = [item for item in messages.items if item[0] != '/odom']
    for index in range(3):
        stamp = START + index * STEP
        messages.transforms(('odom', 'base_link', (index, 0, 0)), topic='/tf', stamp=stamp, log_ns=stamp)
    path = messages.write(tmp_path / 'bag')
    found = look(path)
    assert found.poses_from_tf == 'odom to base_link'
    assert found.problems == ()
    main(['inspect', str(path)])
    assert 'odom to base_link' in capsys.readouterr().out


def test_a_joint_between_camera_and_lidar_is_no_trouble_and_is_named(tmp_path, capsys):
    path = jointed().write(tmp_path / 'bag')
    found = look(path)
    assert (found.chain, found.joints, found.problems) == ((), 'lidar to mast', ())
    assert main(['inspect', str(path)]) == 0
    assert 'joined by what moves on /tf, at the time of each image: lidar to mast' in capsys.readouterr().out


def test_a_bag_that_is_damaged_part_way_is_inspected_up_to_there(tmp_path, capsys):
    path = damage(Messages().drive(400).write(tmp_path / 'bag'))
    found = look(path)
    assert 'damaged after' in '; '.join(found.problems)
    assert found.chain == ('cam_optical', 'lidar')
    assert 20 < found.pairing.num_images < 400
    assert main(['inspect', str(path)]) == 0
    assert 'damaged after' in capsys.readouterr().out


def test_a_broken_bag_is_one_line_and_code_2(tmp_path, capsys):
    (tmp_path / 'bad.mcap').write_bytes(b'\x89MCAP0\r\n')
    assert main(['inspect', str(tmp_path / 'bad.mcap')]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
