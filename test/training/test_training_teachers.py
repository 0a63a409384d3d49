"""Teachers that see all points: what they are given, in which unit they answer, and that students learn from it."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

import torch
from torch.utils.data import default_collate
from training_runs import settings_of
from training_scenes import rig_scene, scene

from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros.networks.layout import DISTANCE, REACHED
from depth_ros_training.data.datasets import ViewDataset, read_data
from depth_ros_training.data.store import SampleFolder, SampleWriter
from depth_ros_training.data.views import make_view
from depth_ros_training.engine.fit import fit
from depth_ros_training.engine.system import predict
from depth_ros_training.engine.validation import Cases
from depth_ros_training.losses.teacher import teacher_l1
from depth_ros_training.settings import SelfSupervisionSettings, ViewSettings
from depth_ros_training.systems.semi_supervised import SemiSupervisedSystem
from depth_ros_training.systems.supervised import SupervisedSystem

# All that varies a view, and little lidar: the teacher is to be given none of it.
VARIED = ViewSettings(miscalibrated=1.0, outliers=1.0, noise=1.0, scattered=0.0, no_lidar=0.0)
TEACHING = {
    'network__teachers': ['teacher.safetensors'], 'network__teachers_see': 'all_points', 'loss__teacher': 1.0,
    **{f'loss__{name}': 0.0 for name in ('log_l1', 'depth_l1', 'depth_l2', 'gradient', 'coarse', 'likelihood')},
}  # fmt: skip


def far(network_input):
    """Mean distance to the nearest measurement, pixels."""
    return float(8 * (network_input.guide[..., DISTANCE].mean() - 1))


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_the_informed_view_has_all_points_and_its_own_colours(flip):
    settings = dataclasses.replace(VARIED, flip=flip, min_zoom=1.0, max_zoom=1.0)
    sample = scene(1)
    distances = []
    for seed in range(8):
        view = make_view(sample, (96, 192), settings, np.random.default_rng(seed), informed=True)
        expected = make_view(
            sample, (96, 192), dataclasses.replace(settings, noise=0.0, color=0.0, gray=0.0, blur=0.0),
            np.random.default_rng(seed),
        )  # fmt: skip
        distances.append((far(view.informed), far(view.input)))
        image = sample.image[:, ::-1] if flip else sample.image
        np.testing.assert_array_equal(view.informed.image, image)
        np.testing.assert_array_equal(view.informed.rays, expected.input.rays)
        row, column = sample.points.v.astype(int), sample.points.u.astype(int)
        if flip:
            column = 191 - column
        # The measurements are where they were made, to the bit.
        measured = view.informed.guide[row, column]
        assert (measured[:, DISTANCE] == 1).mean() > 0.9
    informed, own = np.mean(distances, axis=0)
    assert informed < 0.6 * own


def test_to_be_informed_changes_nothing_in_the_view():
    others = SelfSupervisionSettings(margin=16)
    for seed in range(8):
        rig, _ = rig_scene(seed % 3)
        asked = make_view(rig, (64, 128), ViewSettings(), np.random.default_rng(seed), others, informed=True)
        plain = make_view(rig, (64, 128), ViewSettings(), np.random.default_rng(seed), others)
        assert plain.informed is None
        assert plain.others.partner.informed is None
        for one, other in ((asked, plain), (asked.others.partner, plain.others.partner)):
            assert (one.informed.guide[..., REACHED] > 0).all()
            for name in ('image', 'rays', 'guide'):
                assert getattr(one.input, name).tobytes() == getattr(other.input, name).tobytes()
            assert one.target.tobytes() == other.target.tobytes()


@pytest.mark.parametrize('no_lidar', [0.0, 1.0])
def test_what_informed_teachers_say_is_in_the_unit_of_the_student(data, no_lidar):
    settings = settings_of(data, view__no_lidar=no_lidar, **TEACHING)
    views = ViewDataset(read_data(settings, data)[0], settings)
    batch = default_collate([views[number] for number in range(3)])
    teacher = DepthNet()
    said = SupervisedSystem(DepthNet(), settings, [], [teacher]).taught(batch)
    theirs = teacher(batch['informed_image'], batch['rays'], batch['informed_guide']).log_depth
    # Metres are metres: of measured pixels the teacher says what was measured.
    depth = said.exp() * batch['scale'].view(-1, 1, 1, 1)
    known = batch['target'].isfinite() & (batch['informed_guide'][..., DISTANCE] < 1.05)[:, None]
    assert known.sum() > 100
    error = (depth / (batch['target'] * batch['scale'].view(-1, 1, 1, 1)))[known].log().abs()
    assert error.median() < 0.01
    if no_lidar:
        assert not torch.allclose(said, theirs, atol=0.05)


def test_what_has_no_unit_is_not_taught_without_lidar(data):
    with SampleWriter(data / 'unscaled') as writer:
        writer.add(dataclasses.replace(scene(0), metric=False))
    changes = {'data__sources': ['1 samples unscaled'], 'view__no_lidar': 1.0, **TEACHING}
    settings = settings_of(data, **changes)
    batch = default_collate([ViewDataset(read_data(settings, data)[0], settings)[0]])
    said = SupervisedSystem(DepthNet(), settings, [], [DepthNet()]).taught(batch)
    assert said.isnan().all()
    log_depth = torch.zeros_like(said, requires_grad=True)
    loss = teacher_l1(log_depth, said)
    loss.backward()
    assert loss.item() == 0
    assert (log_depth.grad == 0).all()


@pytest.mark.parametrize('system', [SupervisedSystem, SemiSupervisedSystem])
def test_a_student_with_little_lidar_learns_what_a_teacher_with_all_of_it_sees(system, data):
    with SampleWriter(data / 'rigs') as writer:
        for seed in range(2):
            writer.add(rig_scene(seed)[0] if system is SemiSupervisedSystem else scene(seed))
    save_checkpoint(data / 'teacher.safetensors', DepthNet(), {})
    beyond = {'loss__smoothness': 0.001} if system is SemiSupervisedSystem else {}
    settings = settings_of(
        data, data__sources=['1 samples rigs'], self_supervision__margin=16, view__no_lidar=1.0, run__steps=60,
        run__steps_per_epoch=60, optimizer__learning_rate=3e-3, optimizer__warmup_steps=5, optimizer__average=0.9,
        view__flip=0.0, view__color=0.0, view__blur=0.0, view__noise=0.0, view__gray=0.0, **beyond, **TEACHING,
    )  # fmt: skip
    after = load_checkpoint(fit(system, settings, data, data / 'out', progress=False))[0].eval()
    errors = []
    for network in (after, DepthNet().eval()):
        wrong = []
        for case in Cases(list(SampleFolder(data / 'rigs')), (0,)):
            depth, _ = predict(network, case, torch.device('cpu'))
            judging = case.withheld
            wrong.append(np.abs(np.log(depth[judging.row, judging.column] / judging.depth)).mean())
        errors.append(np.mean(wrong))
    assert errors[0] < 0.6 * errors[1]
