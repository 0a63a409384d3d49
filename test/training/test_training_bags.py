import dataclasses
import shutil

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)

from depth_ros.bags.writer import BagWriter
from depth_ros.cli.evaluate_command import Progress
from depth_ros.errors import BagError, SettingsError
from depth_ros_training.cli import cache_command
from depth_ros_training.cli.main import main
from depth_ros_training.data.bags import read_bag
from depth_ros_training.data.sample import split_points
from depth_ros_training.data.store import SampleFolder, SampleWriter
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


def test_recordings_go_by_the_names_of_bags_and_each_is_read_once(bag, tmp_path, capsys):
    first, second = (shutil.copytree(bag, tmp_path / name) for name in ('a/drive', 'b/drive'))
    assert main(['cache', str(first), str(second), '--out', str(tmp_path / 'samples')]) == 0
    assert set(SampleFolder(tmp_path / 'samples').groups) == {'a_drive', 'b_drive'}
    shutil.copytree(bag, tmp_path / 'run.1')
    shutil.copytree(bag, tmp_path / 'run.2')
    for names, said in (
        (['run.1', 'run.2'], 'two bags are both named'),
        (['run.1', 'a/../run.1'], 'a bag is named twice'),
    ):
        capsys.readouterr()
        assert main(['cache', *(str(tmp_path / name) for name in names), '--out', str(tmp_path / 'out')]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / 'out').exists()


def test_the_folder_that_the_user_is_in_has_a_name(bag, tmp_path, monkeypatch):
    monkeypatch.chdir(bag)
    assert main(['cache', '.', '--out', str(tmp_path / 'samples')]) == 0
    assert set(SampleFolder(tmp_path / 'samples').groups) == {'drive'}


@pytest.mark.parametrize('every', ['0', '-1'])
def test_less_than_each_image_cannot_be_read(bag, tmp_path, capsys, every):
    assert main(['cache', str(bag), '--out', str(tmp_path / 'samples'), '--every', every]) == 2
    assert capsys.readouterr().err == f'depth_ros_training cache: every is {every}, expected at least 1\n'
    with pytest.raises(SettingsError, match='expected at least 1'):
        next(read_bag(bag, int(every)))


def test_all_bags_are_looked_at_before_the_work(bag, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache_command, 'read_bag', lambda *_, **__: pytest.fail('the work began'))
    assert main(['cache', str(bag), str(tmp_path / 'nope'), '--out', str(tmp_path / 'samples')]) == 2
    assert 'nope' in capsys.readouterr().err
    copy = shutil.copytree(bag, tmp_path / 'copy')
    assert main(['cache', str(copy), '--out', str(copy / 'samples')]) == 2
    assert 'which must stay' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['copy']


def test_an_interrupted_reading_leaves_nothing(bag, tmp_path, monkeypatch):
    add = SampleWriter.add

    def interrupt(self, sample):
        add(self, sample)
        if len(self._index) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(SampleWriter, 'add', interrupt)
    (tmp_path / 'there').mkdir()
    for name in ('samples', 'there'):
        assert main(['cache', str(bag), '--out', str(tmp_path / name)]) == 130
    assert list(tmp_path.rglob('*')) == [tmp_path / 'there']


def test_samples_are_replaced_as_a_whole(bag, tmp_path, capsys, monkeypatch):
    shown = []

    class Shown(Progress):
        def __call__(self, done, total):
            shown.append((done, total))

    monkeypatch.setattr(cache_command, 'Progress', Shown)
    words = ['cache', str(bag), '--out', str(tmp_path / 'samples')]
    assert main(words) == 0
    assert shown == [(1, 3), (2, 3), (3, 3)]
    (tmp_path / 'samples' / 'notes.txt').write_text('mine')
    assert main([*words, '--every', '2']) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert len(SampleFolder(tmp_path / 'samples')) == 3
    assert main([*words, '--every', '2', '--overwrite']) == 0
    there = sorted(path.name for path in (tmp_path / 'samples').iterdir())
    assert there == ['000000.npz', '000001.npz', 'index.json', 'notes.txt']
    assert len(SampleFolder(tmp_path / 'samples')) == 2
    assert shown[3:] == [(1, 2), (2, 2)]
