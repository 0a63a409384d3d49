import dataclasses

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

import torch
from torch.utils.data import default_collate
from training_runs import settings_of
from training_scenes import scene

from depth_ros.errors import SettingsError
from depth_ros.estimators.downscale import estimate_downscaled
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros.networks.encoders import ENCODERS
from depth_ros.networks.layout import CANDIDATES, NEARER
from depth_ros.types import SparseDepth
from depth_ros_training.data import views
from depth_ros_training.data.datasets import ViewDataset, read_data
from depth_ros_training.data.store import SampleFolder, SampleWriter
from depth_ros_training.engine.fit import fit
from depth_ros_training.engine.system import predict
from depth_ros_training.engine.validation import Cases
from depth_ros_training.settings import LossSettings, NetworkSettings
from depth_ros_training.systems.semi_supervised import BEYOND
from depth_ros_training.systems.supervised import SupervisedSystem


def test_the_settings_name_all_encoders_and_losses_that_there_are(data):
    (encoder,) = (field for field in dataclasses.fields(NetworkSettings) if field.name == 'encoder')
    assert sorted(encoder.metadata['choices']) == sorted(ENCODERS)
    settings = settings_of(data, loss__teacher=1.0)
    batch = default_collate([ViewDataset(read_data(settings, data)[0], settings)[0]])
    system = SupervisedSystem(DepthNet(), settings, [], [DepthNet()])
    losses = system.losses(system.run_network(batch), batch)
    assert sorted([*losses, *BEYOND]) == sorted(field.name for field in dataclasses.fields(LossSettings))


def test_the_sky_is_learned_and_nothing_else_changes(data):
    samples = [scene(seed, lidar=False) for seed in range(2)]
    with SampleWriter(data / 'outdoors') as writer:
        for sample in samples:
            truth = np.where(sample.truth < 40, sample.truth, np.float32(np.nan))
            writer.add(dataclasses.replace(sample, truth=truth, exact=True))
    torch.manual_seed(0)
    save_checkpoint(data / 'start.safetensors', DepthNet(), {})
    others = ('log_l1', 'depth_l1', 'depth_l2', 'gradient', 'coarse', 'likelihood')
    settings = settings_of(
        data, data__sources=['1 samples outdoors'], network__start='start.safetensors', loss__sky=1.0,
        **{f'loss__{name}': 0.0 for name in others}, optimizer__only=['sky'], optimizer__learning_rate=1e-2,
        view__no_lidar=1.0, view__color=0.0, run__steps=200, run__steps_per_epoch=200,
    )  # fmt: skip
    after = load_checkpoint(fit(SupervisedSystem, settings, data, data / 'out', progress=False))[0]
    before = load_checkpoint(data / 'start.safetensors')[0]
    kept = after.state_dict()
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, kept[name])}
    assert {name.split('.')[0] for name in changed} == {'sky', 'std_factor'}
    for sample in samples:
        nothing = SparseDepth(*(np.zeros(0, np.float32) for _ in range(4)), shape=sample.camera.shape)
        depth, std = NetworkEstimator.of(after).estimate(sample.frame(), nothing)
        found, sky = std > depth, sample.truth >= 40
        assert found[sky].mean() > 0.9
        assert found[~sky].mean() < 0.1
    with pytest.raises(SettingsError, match=r"optimizer\.only names 'skies'"):
        fit(SupervisedSystem, settings_of(data, optimizer__only=['skies']), data, data / 'other', progress=False)
    settings = settings_of(data, optimizer__only=['sky'], loss__sky=0.0)
    with pytest.raises(SettingsError, match='nothing would be trained'):
        fit(SupervisedSystem, settings, data, data / 'other', progress=False)


TEACHING = {
    'network__teachers': ['teacher.safetensors'], 'loss__teacher': 1.0,
    **{f'loss__{name}': 0.0 for name in ('log_l1', 'depth_l1', 'depth_l2', 'gradient', 'coarse', 'likelihood')},
}  # fmt: skip


def test_a_network_becomes_like_its_teacher(data):
    teacher = DepthNet()
    with torch.no_grad():  # what lies nearer than a pixel, where an untrained network takes what fits best
        teacher.head.bias[4 * CANDIDATES.index(NEARER) : 4 * CANDIDATES.index(NEARER) + 4] += 8
    save_checkpoint(data / 'teacher.safetensors', teacher, {})
    cases = list(Cases(list(SampleFolder(data / 'scenes')), (4,)))
    device = torch.device('cpu')
    told = [predict(teacher.eval(), case, device)[0] for case in cases]

    def apart(network):
        said = [predict(network.eval(), case, device)[0] for case in cases]
        return float(np.mean([np.abs(np.log(a / b)).mean() for a, b in zip(said, told, strict=True)]))

    settings = settings_of(
        data, network__size='base', run__steps=40, run__steps_per_epoch=40, optimizer__learning_rate=1e-2,
        optimizer__weight_decay=0.0, **TEACHING,
    )  # fmt: skip
    after, facts = load_checkpoint(fit(SupervisedSystem, settings, data, data / 'out', progress=False))
    assert facts['training']['settings']['network']['teachers'] == ['teacher.safetensors']
    assert apart(after) < 0.5 * apart(DepthNet('base'))
    with pytest.raises(SettingsError, match=r'network\.teachers'):
        fit(SupervisedSystem, settings_of(data, loss__teacher=1.0), data, data / 'other', progress=False)


def test_teachers_say_the_mean_of_what_they_say_while_they_are_trained(data):
    teacher = DepthNet()
    torch.nn.init.constant_(teacher.head.bias, 3.0)  # corrections that are limited when it is not trained
    other = DepthNet()
    (given,) = (case.input for case in Cases([SampleFolder(data / 'scenes')[0]], (4,)))
    batch = {name: torch.from_numpy(getattr(given, name))[None] for name in ('image', 'rays', 'guide')}
    system = SupervisedSystem(DepthNet(), settings_of(data), [], [teacher, other]).eval()
    limited = teacher(*batch.values()).log_depth
    said = system.taught(batch)
    assert not said.requires_grad
    theirs = [each.train()(*batch.values()).log_depth for each in (teacher, other)]
    torch.testing.assert_close(said, (theirs[0] + theirs[1]) / 2)
    assert (theirs[0] - limited).abs().max() > 0.5


def test_large_images_are_validated_on_as_robots_see_them(data, monkeypatch):
    monkeypatch.setattr(views, 'BEST_PIXELS', 192 * 96 / 4)
    network = DepthNet().eval()
    (case,) = Cases([SampleFolder(data / 'scenes')[0]], (4,))
    assert case.input.shape == (48, 96)
    depth, std = predict(network, case, torch.device('cpu'))
    frame = case.sample.frame()
    expected = estimate_downscaled(NetworkEstimator.of(network), frame, case.given, 2)
    assert depth.shape == std.shape == (96, 192)
    np.testing.assert_allclose(depth, expected[0], rtol=1e-4)
    np.testing.assert_allclose(std, expected[1], rtol=1e-4)


def test_a_network_starts_with_the_layers_of_its_teacher(data):
    teacher = DepthNet(encoder='efficientnet_lite0')
    torch.nn.init.normal_(teacher.head.weight)
    save_checkpoint(data / 'teacher.safetensors', teacher, {})
    settings = settings_of(
        data, network__encoder='efficientnet_lite0_at_half_size', optimizer__learning_rate=0.0, run__steps=1, **TEACHING
    )
    start = load_checkpoint(fit(SupervisedSystem, settings, data, data / 'out', progress=False))[0]
    own, theirs = start.state_dict(), teacher.state_dict()
    unlike = {name for name, value in theirs.items() if not torch.equal(value, own.get(name, torch.zeros(0)))}
    assert unlike == {'std_factor', *(f'backbone.project.{level}.weight' for level in range(3))}
    # Features that those layers do not know yet change nothing.
    assert not any(layer.weight.any() for layer in start.backbone.project)


@pytest.mark.parametrize('rate', [0.0, 0.5])
def test_the_published_layers_of_an_encoder_are_trained_at_the_rate_that_is_set(data, rate):
    def moved(network, names):
        return max((network.state_dict()[name] - value).abs().max().item() for name, value in names.items())

    start = DepthNet(encoder='efficientnet_lite0_at_half_size')
    torch.nn.init.normal_(start.head.weight)
    save_checkpoint(data / 'start.safetensors', start, {})
    # The first steps of Adam are as long as the learning rate, whatever the gradient.
    settings = settings_of(
        data, network__start='start.safetensors', optimizer__encoder_rate=rate, optimizer__learning_rate=1e-3,
        optimizer__warmup_steps=0, optimizer__decay_share=0.0, optimizer__weight_decay=0.0, optimizer__average=0.0,
        run__steps=1, run__steps_per_epoch=1,
    )  # fmt: skip
    after = load_checkpoint(fit(SupervisedSystem, settings, data, data / 'out', progress=False))[0]
    before = start.state_dict()
    published = {name: value for name, value in before.items() if name.startswith(('backbone.stem', 'backbone.stages'))}
    own = {name: value for name, value in before.items() if name.startswith(('encoder', 'decoder'))}
    assert moved(after, published) == pytest.approx(rate * 1e-3, rel=0.01)
    assert moved(after, own) == pytest.approx(1e-3, rel=0.01)


def test_a_rate_for_layers_that_an_encoder_does_not_have_is_refused(data):
    with pytest.raises(SettingsError, match=r"encoder_rate is 0\.5, but encoder 'conv' has no layers"):
        fit(SupervisedSystem, settings_of(data, optimizer__encoder_rate=0.5), data, data / 'out', progress=False)


def test_a_rate_for_layers_that_are_left_out_is_refused(data):
    settings = settings_of(
        data, network__encoder='efficientnet_lite0', optimizer__encoder_rate=0.5, optimizer__only=['head']
    )
    with pytest.raises(SettingsError, match=r'encoder_rate is for layers that optimizer\.only leaves out'):
        fit(SupervisedSystem, settings, data, data / 'out', progress=False)
