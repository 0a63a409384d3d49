import dataclasses

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)

from depth_ros.bags.writer import BagWriter
from depth_ros.errors import BagError
from depth_ros_training.cli.main import main
from depth_ros_training.data.bags import read_bag
from depth_ros_training.data.sample import split_points
from depth_ros_training.data.store import SampleFolder
from depth_ros_training.engine.pictures import draw
from depth_ros_training.engine.validation import THINNINGS, Cases


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'drive'
    arguments = [
        '--frames',
        '3',
        '--width',
        '192',
        '--height',
        '96',
        '--fov',
        '80',
        '--lidar',
        'hdl64e',
        '--world',
        'street',
    ]
    assert main(['simulate', '--out', str(path), '--lidar-field', 'camera', '--ideal', *arguments]) == 0
    return path


def test_a_bag_becomes_samples_with_points_where_the_truth_is(bag):
    samples = list(read_bag(bag))
    assert len(samples) == 3
    for sample in samples:
        assert sample.recording == 'drive'
        assert len(np.unique(sample.ring)) > 10
        inputs, _ = split_points(sample.points, np.ones(len(sample.ring), np.bool_), sample.camera.shape, 0.08, 0.03)
        error = np.abs(inputs.depth - sample.truth[inputs.row, inputs.column]) / inputs.depth
        assert np.nanmedian(error) < 0.01
        # Points keep what is needed to find the hidden ones again, whichever are given.
        assert np.abs(sample.points.slide).max() > 0
    assert len(list(read_bag(bag, every=2))) == 2


def test_every_case_of_validation_can_be_drawn(bag):
    cases = Cases(list(read_bag(bag)))
    assert {case.thinning for case in cases} == set(THINNINGS)
    for case in cases:
        depth = np.where(np.isfinite(case.sample.truth), case.sample.truth, np.float32(np.nan))
        picture = draw(case, depth, 0.1 * depth)
        height, width = depth.shape
        assert (picture.shape, picture.dtype) == ((4 * height, width, 3), np.uint8)
        # Points are drawn where there are any.
        drawn = (picture[:height] != picture[height : 2 * height]).any()
        assert drawn == (case.thinning > 0)


def test_the_command_makes_a_folder_that_training_reads(bag, tmp_path, capsys):
    assert main(['cache', str(bag), '--out', str(tmp_path / 'samples')]) == 0
    assert '3 samples of 1 recordings' in capsys.readouterr().out
    folder = SampleFolder(tmp_path / 'samples')
    for stored, read in zip(folder, read_bag(bag), strict=True):
        assert stored.name == read.name
        assert stored.exact
        np.testing.assert_array_equal(stored.points.u, read.points.u)
        np.testing.assert_allclose(stored.points.slide, read.points.slide, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(stored.truth, read.truth, rtol=1e-3)
        assert dataclasses.replace(stored.camera, frame_id='').matrix.tolist() == read.camera.matrix.tolist()


def test_a_bag_without_samples_says_why(bag, tmp_path, capsys):
    assert main(['cache', str(tmp_path / 'nowhere'), '--out', str(tmp_path / 'samples')]) == 2
    assert capsys.readouterr().err.count('\n') == 1
    with BagWriter(tmp_path / 'empty') as writer:
        writer.note('nothing', '')
    with pytest.raises(BagError):
        list(read_bag(tmp_path / 'empty'))
