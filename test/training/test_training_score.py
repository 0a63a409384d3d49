"""``depth_ros_training score``: the quick look at checkpoints beside classical methods."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

from training_runs import settings_of

from depth_ros.estimators.registry import create_estimator
from depth_ros.settings import Settings
from depth_ros_training.cli import score_command
from depth_ros_training.cli.main import main
from depth_ros_training.data.store import SampleFolder
from depth_ros_training.engine.fit import fit
from depth_ros_training.engine.validation import Cases
from depth_ros_training.systems.supervised import SupervisedSystem


def test_checkpoints_are_scored_beside_classical_methods(data, capsys):
    fit(SupervisedSystem, settings_of(data, run__steps=3), data, data / 'out', progress=False)
    best = str(data / 'out/best.safetensors')
    assert (
        main(['score', best, '--config', str(data / 'config.yaml'), '--data', str(data), '--thinning', '4', '0']) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    rows = {(line.split()[0], line.split()[1]): [float(word) for word in line.split()[2:]] for line in lines[2:]}
    assert set(rows) == {('1/4', 'linear'), ('1/4', 'classical'), ('1/4', best), ('none', best)}
    figures = json.loads((data / 'out/best.json').read_text())
    assert rows['1/4', best][0] == pytest.approx(figures['mae_4'], rel=0.05)


def test_scores_are_by_true_depth_where_that_is_asked_for(data, capsys, monkeypatch):
    """With all rings given no point is withheld; the truth is another than that of the points, and partly unknown."""
    sample = SampleFolder(data / 'scenes')[0]
    truth = np.full(sample.camera.shape, 10, np.float32)
    truth[::2], truth[1] = np.nan, 81
    samples = [dataclasses.replace(sample, truth=truth)]
    monkeypatch.setattr(score_command, 'read_data', lambda settings, folder: ([], samples, []))
    command = ['score', '--config', str(data / 'config.yaml'), '--methods', 'linear', '--thinning', '1', '--truth']
    assert main(command) == 0
    line = capsys.readouterr().out.splitlines()[-1].split()
    (case,) = Cases(samples, [1])
    depth, _ = create_estimator(Settings(), 'linear').estimate(samples[0].frame(), case.given)
    assert line[:2] == ['1/1', 'linear']
    assert float(line[2]) == pytest.approx(np.nanmean(np.abs(depth - 10)[3::2]), abs=1e-3)
    samples[0] = sample
    assert main(command) == 2
    assert 'no image with lidar has true depth' in capsys.readouterr().err


def test_true_depth_is_scored_by_points_where_that_is_asked_for(data, capsys, monkeypatch):
    sample = SampleFolder(data / 'scenes')[0]
    truth = np.full(sample.camera.shape, 10, np.float32)
    truth[::2] = np.nan
    monkeypatch.setattr(
        score_command, 'read_data', lambda settings, folder: ([], [dataclasses.replace(sample, truth=truth)], [])
    )
    command = ['score', '--config', str(data / 'config.yaml'), '--methods', 'linear', '--perfect', '--thinning', '0.8']
    assert main(command) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if '80 %' in line]
    rows = {' '.join(words[2:-5]): words[-5:] for words in lines}
    (case,) = Cases([sample], [0.8])
    assert len(case.given) == pytest.approx(4 * len(case.withheld), rel=0.2)
    depth, _ = create_estimator(Settings(), 'linear').estimate(sample.frame(), case.given)
    at, points = (case.withheld.row, case.withheld.column), case.withheld.depth
    known = np.isfinite(depth[at]) & np.isfinite(truth[at]) & (points <= 80)
    assert rows['true depth'][3:] == ['nan', 'nan']
    assert float(rows['true depth'][0]) == pytest.approx(np.abs(points - 10)[known].mean(), abs=1e-3)
    assert float(rows['linear'][0]) == pytest.approx(np.abs(points - depth[at])[known].mean(), abs=1e-3)


@pytest.mark.parametrize('thinning', ['-1', '1.5', 'nan', 'inf'])
def test_a_thinning_that_means_nothing_is_refused(thinning, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['score', '--config', 'config.yaml', '--thinning', thinning])
    assert 'expected 0, a share of the points below 1, or a whole number' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--thinning', '1'], 'judge by --truth'),
        (['--thinning', '0', '--methods', 'linear'], 'no method here does without'),
        (['--frames', 'splits.json', 'none', '--data', '.'], '--data goes with --config'),
        (['--frames', 'splits.json', 'none'], 'no image to score'),
    ],
)
def test_what_leaves_nothing_to_score_is_refused(data, capsys, options, said):
    (data / 'splits.json').write_text('{"none": []}')
    options = [str(data / 'splits.json') if word == 'splits.json' else word for word in options]
    where = [] if '--frames' in options else ['--config', str(data / 'config.yaml'), '--data', str(data)]
    assert main(['score', *where, *options]) == 2
    assert said in capsys.readouterr().err


def test_a_thinning_that_leaves_no_ring_says_so(data, capsys):
    words = ['score', '--config', str(data / 'config.yaml'), '--data', str(data), '--methods', 'linear']
    assert main([*words, '--thinning', '4', '1000']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'judge by' not in lines[-2]
    assert lines[-1].split()[:2] == ['1/1000', 'linear']
    assert 'no point that all methods cover is left to judge by' in lines[-1]


def test_a_score_without_images_is_refused(capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['score', 'best.safetensors'])
    assert 'one of the arguments --config --frames is required' in capsys.readouterr().err
