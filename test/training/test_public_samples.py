"""Samples of public repositories become frames with the geometry and the rings of their sensors."""

import json
import pickle
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_ros.bags.frames import import_frames, read_calibration, read_points, write_frame
from depth_ros.errors import RecordingError
from depth_ros_training.acceptance import OTHER_SENSORS
from depth_ros_training.cli.main import main
from depth_ros_training.data.importers import read_frame
from depth_ros_training.public_samples import view_of_delft
from depth_ros_training.public_samples.collect import SAMPLES, collect
from depth_ros_training.public_samples.pandaset import pandar64_rings
from depth_ros_training.public_samples.plain_pickle import read_plain_pickle, table_columns
from depth_ros_training.public_samples.view_of_delft import hdl64_rings

SCENES = 'scene_01', 'scene_02'
POINTS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def jpeg(shape=(40, 60, 3)):
    return cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 255, shape, np.uint8))[1].tobytes()


def pose(x, yaw):
    rotation = {'qw': np.cos(yaw / 2), 'qx': 0.0, 'qy': 0.0, 'qz': np.sin(yaw / 2)}
    return {'rotation': rotation, 'translation': {'x': x, 'y': 0.0, 'z': 0.0}}


@pytest.fixture
def clones(tmp_path):
    """A clone of DGP with a camera that stands, turned to the left, 2 m ahead of the lidar, in each of two scenes."""
    for scene in SCENES:
        root = tmp_path / 'clones/dgp/tests/data/dgp/test_scene' / scene
        (root / 'calibration').mkdir(parents=True)
        intrinsics = {'fx': 50.0, 'fy': 51.0, 'cx': 30.0, 'cy': 20.0, 'skew': 0.0}
        (root / 'calibration/a.json').write_text(json.dumps({'names': ['CAMERA_01'], 'intrinsics': [intrinsics]}))
        image = {'filename': 'image.jpg', 'pose': pose(7.0, np.pi / 2)}
        cloud = {'filename': 'cloud.npz', 'pose': pose(5.0, 0.0)}
        (root / 'scene_a.json').write_text(json.dumps({
            'data': [
                {'key': 'k1', 'id': {'name': 'CAMERA_01'}, 'datum': {'image': image}},
                {'key': 'k2', 'id': {'name': 'LIDAR'}, 'datum': {'point_cloud': cloud}},
            ],
            'samples': [{'datum_keys': ['k1', 'k2']}],
        }))  # fmt: skip
        (root / 'image.jpg').write_bytes(jpeg())
        np.savez(root / 'cloud.npz', data=POINTS)
    return tmp_path / 'clones'


def test_frames_have_the_image_and_the_geometry_of_the_repository(clones, tmp_path, capsys):
    assert main(['samples', str(clones), '--out', str(tmp_path / 'out'), '--sets', 'tri_dgp']) == 0
    assert 'tri_dgp: 2 frames' in capsys.readouterr().out
    folder = tmp_path / 'out/tri_dgp/scene_02_0_camera_01'
    assert (folder / 'image.jpg').read_bytes() == jpeg()
    calibration = read_calibration(folder)
    assert (calibration['width'], calibration['height']) == (60, 40)
    assert calibration['K'] == [[50, 0, 30], [0, 51, 20], [0, 0, 1]]
    # The lidar is 2 m behind the camera, whose x axis points to the left of the lidar.
    found = np.array(calibration['camera_from_lidar'])
    np.testing.assert_allclose(found @ [0, 0, 0, 1], [0, 2, 0, 1], atol=1e-9)
    np.testing.assert_allclose(found @ [0, 3, 0, 1], [3, 2, 0, 1], atol=1e-9)
    points, intensity, ring = read_points(folder)
    np.testing.assert_array_equal(points, POINTS[:, :3])
    np.testing.assert_array_equal(intensity, POINTS[:, 3])
    assert ring is None
    assert import_frames([tmp_path / 'out/tri_dgp'], tmp_path / 'bag').notes


def test_training_takes_the_rings_that_a_frame_names(tmp_path):
    ring = np.arange(len(POINTS)) % 3 + 4
    in_front = np.abs(POINTS) * [0.1, 0.1, 1.0, 1.0] + [0, 0, 3, 0]
    write_frame(tmp_path / 'frame', jpeg(), np.array([[50, 0, 30], [0, 50, 20], [0, 0, 1]]), np.eye(4), in_front, ring)
    calibration = read_calibration(tmp_path / 'frame') | {'drive_or_place': 'here'}
    (tmp_path / 'frame/calib.json').write_text(json.dumps(calibration))
    sample = read_frame(tmp_path / 'frame')
    assert len(sample.points) > 20
    np.testing.assert_array_equal(sample.ring, ring[sample.points.index])


@pytest.fixture
def frame(tmp_path):
    """A frame with a right image and true disparity, and a function that changes its calibration."""
    folder = tmp_path / 'data' / 'frame'
    k = np.array([[50, 0, 30], [0, 50, 20], [0, 0, 1]])
    write_frame(folder, jpeg(), k, np.eye(4), np.abs(POINTS) * [0.1, 0.1, 1.0, 1.0] + [0, 0, 3, 0])
    (folder / 'right.jpg').write_bytes(jpeg())
    cv2.imwrite(str(folder / 'gt_disp.png'), np.full((40, 60), 256, np.uint16))

    def change(**entries):
        (folder / 'calib.json').write_text(json.dumps(read_calibration(folder) | entries))
        return folder

    change(right_K=k.tolist(), left_from_right_baseline_m=0.5, drive_or_place='here')
    assert len(read_frame(folder).points) > 0
    return change


@pytest.mark.parametrize(('entries', 'said'), [
    ({'width': 30, 'height': 20}, 'is 60x40, the calibration is for 30x20; images must not be resized'),
    ({'camera_from_lidar': (2 * np.eye(4)).tolist()}, 'camera_from_lidar is .* expected a rotation'),
    ({'camera_from_lidar': np.diag([2, 2, 2, 1]).tolist()}, 'camera_from_lidar is .* expected a rotation'),
    ({'camera_from_lidar': np.diag([1, 1, -1, 1]).tolist()}, 'camera_from_lidar is .* expected a rotation'),
    ({'camera_from_lidar': np.full((4, 4), np.nan).tolist()}, 'camera_from_lidar is .* expected a rotation'),
    ({'camera_from_lidar': np.eye(3).tolist()}, r'camera_from_lidar has shape \(3, 3\), expected \(4, 4\)'),
    ({'camera_from_lidar': [1, 2, 3]}, r'camera_from_lidar has shape \(3,\), expected \(4, 4\)'),
    ({'K': [[50, 0, 30]]}, r'frame: K has shape \(1, 3\), expected \(3, 3\) finite numbers'),
    ({'K': 'abc'}, r'frame: calib\.json .*wrong: could not convert string'),
    ({'right_K': [1]}, r'frame: right_K has shape \(1,\), expected \(3, 3\) finite numbers'),
    ({'left_from_right_baseline_m': 'x'}, r'frame: calib\.json .*wrong'),
    ({'left_from_right_baseline_m': float('nan')}, r'baseline_m is nan, expected metres above 0'),
    ({'left_from_right_baseline_m': -0.5}, r'baseline_m is -0\.5, expected metres above 0'),
])  # fmt: skip
def test_training_refuses_the_frames_that_the_import_refuses(frame, tmp_path, entries, said):
    folder = frame(**entries)
    with pytest.raises(RecordingError, match=said):
        read_frame(folder)
    with pytest.raises(RecordingError, match=said):
        import_frames([folder], tmp_path / 'bag')
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize(('entries', 'said'), [
    ({'drive_or_place': 3}, 'drive_or_place of calib.json is 3, expected a text'),
    ({'K': [[0, 0, 0], [0, 0, 0], [0, 0, 1]]}, 'frame: camera intrinsics are fx=0'),
])  # fmt: skip
def test_a_frame_that_cannot_be_learnt_from_is_named(frame, entries, said):
    with pytest.raises(RecordingError, match=said):
        read_frame(frame(**entries))


def test_a_rotation_may_be_as_exact_as_it_was_printed(frame):
    rotation = cv2.Rodrigues(np.array([0.1, -0.7, 0.3]))[0].round(4)
    matrix = np.block([[rotation, np.array([[0.1], [0.2], [0.3]])], [0, 0, 0, 1]])
    read_frame(frame(camera_from_lidar=matrix.tolist()))


def test_what_is_there_stays_and_what_cannot_be_read_leaves_nothing(clones, tmp_path):
    out = tmp_path / 'out'
    (out / 'tri_dgp').mkdir(parents=True)
    collect(clones, out, ['tri_dgp'])
    assert not list((out / 'tri_dgp').iterdir())
    (out / 'tri_dgp').rmdir()
    for damage, said in (lambda path: path.write_bytes(b'PK but no archive'), ''), (Path.unlink, r'.*cloud\.npz'):
        for scene in SCENES[1:]:
            damage(clones / 'dgp/tests/data/dgp/test_scene' / scene / 'cloud.npz')
        with pytest.raises(RecordingError, match=f'tri_dgp are not as they were{said}'):
            collect(clones, out, ['tri_dgp'])
        assert not list(out.iterdir())


def test_a_missing_clone_is_named_before_anything_is_written(clones, tmp_path, capsys):
    assert main(['samples', str(clones), '--out', str(tmp_path / 'out'), '--sets', 'tri_dgp', 'nuscenes']) == 2
    error = capsys.readouterr().err
    assert 'git clone https://github.com/open-mmlab/mmdetection3d' in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_acceptance_judges_on_what_is_collected():
    assert list(SAMPLES) == list(OTHER_SENSORS)


def test_lasers_of_an_hdl64_are_told_by_the_order_in_which_they_fire():
    """On a car that pitches, with four returns in ten missing."""
    random = np.random.default_rng(0)
    columns = 300
    azimuth = np.radians(90 - view_of_delft._COLUMN * np.arange(columns)[:, None] + view_of_delft._ASIDE)
    distance = 8 + 4 * np.sin(azimuth) + random.normal(0, 0.02, azimuth.shape)
    pitch = 0.5 * np.cos(azimuth)
    elevation = np.radians(view_of_delft._ELEVATION + pitch)
    level = distance * np.cos(elevation)
    z = view_of_delft._HEIGHT[view_of_delft._BLOCK] + distance * np.sin(elevation)
    points = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), z], axis=-1).reshape(-1, 3)
    truth = np.tile(np.argsort(np.argsort(view_of_delft._ELEVATION)), columns)
    kept = random.random(len(points)) < 0.6
    found = hdl64_rings(points[kept].astype(np.float32))
    assert np.mean(found == truth[kept]) > 0.98
    # By elevation alone neighbours are mistaken for each other.
    measured = np.degrees(np.arctan2(points[kept, 2] - 0.186, np.hypot(points[kept, 0], points[kept, 1])))
    nearest = np.abs(measured[:, None] - np.sort(view_of_delft._ELEVATION)).argmin(axis=1)
    assert np.mean(nearest == truth[kept]) < 0.7


def test_channels_of_a_pandar64_are_told_by_elevation_and_azimuth():
    """Of a lidar that is tilted a bit: by elevation alone neighbours are mistaken for each other."""
    random = np.random.default_rng(0)
    asides = np.array([-1.042, 3.125, -5.208])
    channels = np.stack([asides[np.arange(64) % 3], 2 - 0.17 * np.arange(64)], axis=1)
    columns = 200
    times = np.repeat(np.arange(columns) * 0.2 / 3600, 64)
    truth = np.tile(np.arange(64), columns)
    azimuth = np.radians(20 - 3600 * times - channels[truth, 0])
    elevation = np.radians(channels[truth, 1] + 0.1 + random.normal(0, 0.01, len(truth)))
    distance = random.uniform(5, 50, len(truth))
    points = np.stack(
        [distance * np.cos(elevation) * np.cos(azimuth), distance * np.cos(elevation) * np.sin(azimuth),
         distance * np.sin(elevation)], axis=1,
    )  # fmt: skip
    assert np.mean(pandar64_rings(points, times, channels) == truth) > 0.98
    nearest = np.abs(np.degrees(elevation)[:, None] - channels[:, 1]).argmin(axis=1)
    assert np.mean(nearest == truth) < 0.9


class Malicious:
    def __reduce__(self):
        return print, ('this ran',)


def test_pickles_give_data_and_run_nothing(capsys):
    content = {'a': np.arange(3), 'b': [np.float32(2.5), 'text'], 'c': np.arange(6.0).reshape(2, 3)}
    for protocol in (2, 4):
        found = read_plain_pickle(pickle.dumps(content, protocol))
        np.testing.assert_array_equal(found['c'], content['c'])
        assert found['b'] == content['b']
    with pytest.raises(ValueError, match=r'print is no plain data'):
        read_plain_pickle(pickle.dumps([1, Malicious()]))
    assert capsys.readouterr().out == ''


def test_columns_of_a_pickled_table_are_found(monkeypatch):
    """Of the form in which pandas before 1.0 wrote tables; pandas itself is not needed."""
    module = types.ModuleType('pandas.core')

    class DataFrame:
        def __init__(self, state):
            self.state = state

        def __reduce__(self):
            return new, (DataFrame,), self.state

    class Index:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return Index, self.arguments

    def new(cls):
        return cls.__new__(cls)

    for kind in (DataFrame, Index, new):
        kind.__module__, kind.__qualname__ = 'pandas.core', kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, 'pandas', types.ModuleType('pandas'))
    monkeypatch.setitem(sys.modules, 'pandas.core', module)
    floats, numbers = np.arange(6.0).reshape(2, 3), np.array([[7, 8, 9]])
    axes = [Index('Index', {'data': ['x', 'y'], 'name': None}), Index('Index', {'data': ['d'], 'name': None})]
    manager = DataFrame(([], [floats, numbers], axes))
    found = table_columns(read_plain_pickle(pickle.dumps(DataFrame({'_data': manager}), 2)))
    assert list(found) == ['x', 'y', 'd']
    np.testing.assert_array_equal(found['y'], floats[1])
    np.testing.assert_array_equal(found['d'], numbers[0])
