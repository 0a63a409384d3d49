import csv
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

import torch
from training_runs import distance, weights
from training_scenes import rig_scene

from depth_ros.errors import SettingsError
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros.networks.depth_net import DepthNet, Prediction
from depth_ros.types import SparseDepth
from depth_ros_training.data.store import SampleWriter
from depth_ros_training.engine.fit import fit
from depth_ros_training.settings import load
from depth_ros_training.systems.semi_supervised import SemiSupervisedSystem, _Eye
from depth_ros_training.systems.supervised import SupervisedSystem

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {sources: [1 samples rigs], validation: [1 samples judge], crop_height: 64, crop_width: 128, batch: 2, workers: 0}
view: {min_zoom: 1.0, max_zoom: 1.0, color: 0.0, gray: 0.0, blur: 0.0, noise: 0.0, miscalibrated: 0.0, outliers: 0.0}
optimizer: {warmup_steps: 20, average: 0.9, learning_rate: 0.001}
loss: {berhu_depth: 1.0, berhu_inverse_depth: 0.1, alignment: 1.0, ssim: 1.0, left_right: 0.1, temporal: 1.0,
       smoothness: 0.01, gaussian: 0.1}
self_supervision: {margin: 16, fade_in: 2.0, levels: 2}
run: {system: semi_supervised, steps: 6, steps_per_epoch: 3, precision: 32-true, threads: 1, keep: 1, pictures: 0}
"""
BY_DEPTH = {
    'log_l1',
    'depth_l1',
    'depth_l2',
    'gradient',
    'coarse',
    'likelihood',
    'gaussian',
    'berhu_depth',
    'berhu_inverse_depth',
}
BY_IMAGES = {'alignment', 'ssim', 'left_right', 'temporal', 'smoothness'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A mixture: all, lidar without stereo, stereo without lidar, images before and after alone, lidar alone."""
    path = tmp_path_factory.mktemp('rigs')
    kinds = [(True, True, True), (True, False, True), (False, True, False), (False, False, True), (True, False, False)]
    with SampleWriter(path / 'rigs') as writer:
        for seed, kind in enumerate(kinds):
            writer.add(rig_scene(seed, *kind)[0])
    for name, kind in (('judge', (True, False, False)), ('unlabelled', (False, True, True)), ('bare', kinds[-1])):
        with SampleWriter(path / name) as writer:
            writer.add(rig_scene(0, *kind)[0])
    (path / 'config.yaml').write_text(CONFIG)
    return path


def settings_of(data, **changes):
    return load(data / 'config.yaml', {name.replace('__', '.'): value for name, value in changes.items()})


def without(names):
    return {f'loss__{name}': 0.0 for name in names}


def log(out):
    with open(out / 'log/metrics.csv', newline='') as file:
        return list(csv.DictReader(file))


MODES = {
    'supervised': (BY_IMAGES, 'bare'),
    'stereo': (BY_DEPTH | {'temporal', 'left_right'}, 'unlabelled'),
    'temporal': (BY_DEPTH | {'alignment', 'ssim', 'left_right'}, 'unlabelled'),
    'all': (set(), 'rigs'),
}


@pytest.mark.parametrize('mode', MODES)
def test_each_mode_learns_depth(mode, data, tmp_path):
    off, source = MODES[mode]
    settings = settings_of(
        data, data__sources=[f'1 samples {source}'], view__no_lidar=1.0, run__steps=80, run__steps_per_epoch=80,
        view__flip=0.0, **without(off),
    )  # fmt: skip
    best = fit(SemiSupervisedSystem, settings, data, tmp_path / 'out', progress=False)
    # What a robot does with the checkpoint.
    trained, untrained = NetworkEstimator.of(load_checkpoint(best)[0]), NetworkEstimator.of(fresh())
    rig, truth = rig_scene(0, lidar=False)
    nothing = np.zeros(0, np.float32)
    errors = []
    for estimator in (trained, untrained):
        depth, _ = estimator.estimate(rig.frame(), SparseDepth(nothing, nothing, nothing, nothing, rig.camera.shape))
        errors.append(float(np.abs(np.log(depth / truth)).mean()))
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize(('levels', 'pulled'), [(1, False), (4, True)])
def test_alignment_of_small_images_pulls_from_afar(data, levels, pulled):
    # A wall at 10 m, textured as fine as the eye sees and as coarse as trees, seen by a pair 0.5 m apart: its disparity
    # is 10 pixels. At half the depth it is 20, and the fine texture, which repeats every 6, fits best at 22.
    height, width, margin, focal = 64, 192, 32, 200.0
    sides = (torch.arange(side + 2.0 * margin) for side in (height, width))
    rows, columns = torch.meshgrid(*sides, indexing='ij')

    def wall(shift):
        fine = torch.sin((columns + shift) * 2 * torch.pi / 6 + rows / 3)
        coarse = torch.sin((columns + shift) * 2 * torch.pi / 90)
        image = 0.5 + 0.2 * (fine + coarse)
        return torch.stack([image, image, image, torch.ones_like(image)])[None]

    left, right = wall(0.0), wall(10.0)
    inner = slice(margin, margin + height), slice(margin, margin + width)
    rays = torch.stack([columns - margin - width / 2, rows - margin - height / 2], dim=-1)[inner] / focal
    log_depth = torch.full((1, 1, height, width), float(np.log(5.0)), requires_grad=True)
    eye = _Eye(
        Prediction(log_depth, *(torch.zeros_like(log_depth) for _ in range(3)), ()), rays[None],
        torch.ones(1, 1, 1, 1),
        left[:, :3, inner[0], inner[1]], torch.ones(1, 1, height, width, dtype=torch.bool), left,
    )  # fmt: skip
    transform = torch.tensor([[[1.0, 0, 0, -0.5], [0, 1, 0, 0], [0, 0, 1, 0]]])
    intrinsics = torch.tensor([[focal, focal, width / 2 + margin, height / 2 + margin]])
    system = SemiSupervisedSystem(fresh(), settings_of(data, self_supervision__levels=levels), [])
    system._alignment(eye, right, transform, intrinsics).backward()
    assert (log_depth.grad.sum() < 0) == pulled  # descent makes it deeper


def fresh():
    torch.manual_seed(0)
    return DepthNet('small')


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(data, tmp_path):
    settings = settings_of(data)
    fit(SemiSupervisedSystem, settings, data, tmp_path / 'whole', progress=False)

    class Interrupted(SemiSupervisedSystem):
        def training_step(self, batch, index):
            if self.global_step == 4:
                raise KeyboardInterrupt
            return super().training_step(batch, index)

    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted, settings, data, tmp_path / 'parts', progress=False)
    fit(SemiSupervisedSystem, settings, data, tmp_path / 'parts', progress=False)
    whole, parts = (weights(tmp_path / run / 'last.safetensors') for run in ('whole', 'parts'))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_two_processes_have_the_loss_curve_of_one(data, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [
        '-m', 'depth_ros_training.cli.main', 'fit', '--config', str(data / 'config.yaml'), '--data', str(data),
        '--set', 'data.batch=4', '--set', 'run.steps_per_epoch=2', '--quiet', '--out',
    ]  # fmt: skip
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}
    torchrun = ['-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(port)]
    for run, launcher in (('two', torchrun), ('one', [])):
        done = subprocess.run(
            [sys.executable, *launcher, *command, str(tmp_path / run)],
            env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (weights(tmp_path / run / 'last.safetensors') for run in ('one', 'two'))
    settings = settings_of(data, data__batch=4, run__steps_per_epoch=2, optimizer__learning_rate=0.0)
    fit(SemiSupervisedSystem, settings, data, tmp_path / 'start', progress=False)
    assert distance(two, one) < 0.05 * distance(one, weights(tmp_path / 'start' / 'last.safetensors'))
    curves = [[float(row['train/loss']) for row in log(tmp_path / run) if row['train/loss']] for run in ('one', 'two')]
    assert len(curves[0]) == 3
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    scores = [json.loads((tmp_path / run / 'best.json').read_text())['score'] for run in ('one', 'two')]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_the_log_says_what_samples_have_and_how_long_data_was_waited_for(data, tmp_path):
    fit(SemiSupervisedSystem, settings_of(data, run__steps=3), data, tmp_path / 'out', progress=False)
    row = next(row for row in log(tmp_path / 'out') if row['train/loss'])
    for loss in BY_DEPTH | BY_IMAGES:
        assert np.isfinite(float(row[f'train/{loss}']))
    shares = [float(row[f'train/with_{what}']) for what in ('depth', 'partner', 'neighbors')]
    assert all(share in (0.0, 0.5, 1.0) for share in shares)
    assert 0 < float(row['train/data_wait']) < 1


def test_losses_that_no_sample_serves_are_named(data, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        settings = settings_of(data, data__sources=['1 samples bare'], run__steps=3)
        fit(SemiSupervisedSystem, settings, data, tmp_path / 'out', progress=False)
    said = [record.getMessage() for record in caplog.records if 'no sample' in record.getMessage()]
    assert said == [
        'no sample of this epoch has a stereo partner; without effect: alignment, ssim, left_right',
        'no sample of this epoch has images before or after; without effect: temporal',
    ]


def test_a_loss_that_the_supervised_system_does_not_have_is_refused(data, tmp_path):
    with pytest.raises(SettingsError, match=r'SupervisedSystem does not have: .*alignment.*temporal'):
        fit(SupervisedSystem, settings_of(data), data, tmp_path / 'out', progress=False)


def test_without_images_it_is_supervised_training_of_both_views(data, tmp_path):
    # On samples without a partner the two systems do the same.
    off = {**without(BY_IMAGES | {'gaussian', 'berhu_depth', 'berhu_inverse_depth'}), 'self_supervision__fade_in': 0.0}
    settings = settings_of(data, data__sources=['1 samples bare'], run__steps=3, **off)
    for system in (SupervisedSystem, SemiSupervisedSystem):
        fit(system, settings, data, tmp_path / system.__name__, progress=False)
    one, other = (
        weights(tmp_path / system.__name__ / 'last.safetensors') for system in (SupervisedSystem, SemiSupervisedSystem)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_supervision_fades_in(data):
    settings = settings_of(data, self_supervision__fade_in=10.0, loss__log_l1=3.0)

    class At(SemiSupervisedSystem):
        global_step = 4

    found = At(fresh(), settings, []).loss_weights()
    assert found['log_l1'] == pytest.approx(3.0 * np.exp(-10 / 5))
    assert found['alignment'] == 1.0
    assert found['likelihood'] == 0.1


def test_the_supervised_run_knows_nothing_of_other_images(data):
    from depth_ros_training.data.datasets import ViewDataset, read_data

    settings = settings_of(data)
    sources, *_ = read_data(settings, data)
    plain, asked = ViewDataset(sources, settings), ViewDataset(sources, settings, others=True)
    assert set(asked[0]) - set(plain[0]) == {'clean', 'sources', 'partner'}
    for number in range(4):
        for key, value in plain[number].items():
            np.testing.assert_array_equal(value, asked[number][key])


def test_the_configuration_asks_for_the_system_and_has_no_idle_weight():
    settings = load(ROOT / 'config/training/semi_supervised.yaml')
    assert settings.run.system == 'semi_supervised'
    assert settings.loss.alignment > 0
