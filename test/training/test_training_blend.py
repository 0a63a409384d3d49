"""How far an adaptation goes: means of weights, the rule that chooses one, and what of replay judges it."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

import torch
from training_scenes import scene, write_scenes

from depth_ros.errors import CheckpointError, SettingsError, TrainingError
from depth_ros.estimators.registry import create_estimator
from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros.settings import from_flat
from depth_ros_training.adaptation.blend import (
    SHARES,
    Choice,
    Share,
    _loss,
    _scored,
    blend,
    choose,
    keep_mean,
    read_choice,
    write_mean,
)
from depth_ros_training.adaptation.choosing import leave_out
from depth_ros_training.adaptation.report import _choice
from depth_ros_training.cli.main import main
from depth_ros_training.data import datasets
from depth_ros_training.data.datasets import read_data
from depth_ros_training.data.store import SampleFolder, SampleWriter
from depth_ros_training.engine.keep_best import save_calibrated
from depth_ros_training.engine.system import predict
from depth_ros_training.engine.validation import ABS, COUNT, NUM_SUMS, SQUARED, Cases, figures, score, std_correction
from depth_ros_training.settings import DataSettings, TrainingSettings

FACTS = {'training': {'system': 'a system'}, 'data': {'1 samples a': 'abc'}, 'step': 7, 'validation': {'score': 99.0}}


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Several wait for each other longer than images this small take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed):
    torch.manual_seed(seed)
    made = DepthNet().eval()
    torch.nn.init.normal_(made.head.weight, std=0.02)
    return made


def test_half_of_the_way_is_the_mean_of_the_weights_with_the_calibration_of_before():
    before, after = network(0), network(1)
    before.std_factor.fill_(3.0)
    after.std_factor.fill_(50.0)
    untouched = copy.deepcopy(before.state_dict())
    half = blend(before, after, 0.5)
    buffers = {name for name, _ in before.named_buffers()}
    for name, value in half.named_parameters():
        mean = (before.state_dict()[name] + after.state_dict()[name]) / 2
        torch.testing.assert_close(value.detach(), mean, rtol=1e-6, atol=1e-7)
    assert buffers
    assert all(torch.equal(half.state_dict()[name], before.state_dict()[name]) for name in buffers)
    assert all(torch.equal(value, untouched[name]) for name, value in before.state_dict().items())
    for share, end in ((0.0, before), (1.0, after)):
        found = dict(blend(before, after, share).named_parameters())
        assert all(torch.equal(found[name], value) for name, value in end.named_parameters())


def test_statistics_of_normalisation_go_with_the_weights():
    before, after = network(0), network(1)
    for made, mean, batches in ((before, 1.0, 3), (after, 2.0, 5)):
        made.hidden = torch.nn.Sequential(made.hidden, torch.nn.BatchNorm2d(16))
        made.hidden[1].running_mean.fill_(mean)
        made.hidden[1].num_batches_tracked.fill_(batches)
    mixed = blend(before, after, 0.25).hidden[1]
    torch.testing.assert_close(mixed.running_mean, torch.full((16,), 1.25))
    assert mixed.num_batches_tracked == 3


def table(*rows):
    return [Share(0.0, 1.0, *(() if rows[0][1] is None else (0.0, 0.0)))] + [
        Share(share, *row) for share, row in zip((1.0, 0.75, 0.5, 0.25), rows, strict=True)
    ]


@pytest.mark.parametrize(
    ('rows', 'share'),
    [
        # Without replay the own score decides, also where none is better than before.
        ([(0.8, None, None), (0.7, None, None), (0.9, None, None), (0.95, None, None)], 0.75),
        ([(1.4, None, None), (1.3, None, None), (1.2, None, None), (1.1, None, None)], 0.25),
        ([(0.8, None, None), (0.8, None, None), (0.9, None, None), (0.95, None, None)], 1.0),
        # All of it is best, and loses nothing, or too much in the mean, or on a likely place.
        ([(0.7, 0.02, 0.05), (0.75, 0.0, 0.0), (0.8, 0.0, 0.0), (0.9, 0.0, 0.0)], 1.0),
        ([(0.7, 0.021, 0.03), (0.75, 0.019, 0.03), (0.8, 0.0, 0.0), (0.9, 0.0, 0.0)], 0.75),
        ([(0.7, 0.01, 0.08), (0.75, 0.01, 0.06), (0.8, 0.0, 0.049), (0.9, 0.0, 0.01)], 0.5),
        # Of those allowed, not the one that keeps most.
        ([(0.7, 0.1, 0.2), (0.75, 0.015, 0.02), (0.74, 0.01, 0.02), (0.9, -0.02, 0.0)], 0.5),
        # None is allowed: the one that loses least, whatever its score.
        ([(0.7, 0.2, 0.3), (0.75, 0.15, 0.2), (0.8, 0.09, 0.12), (0.9, 0.03, 0.06)], 0.25),
        ([(0.7, 0.2, 0.3), (0.75, 0.03, 0.2), (0.8, 0.09, 0.12), (0.9, 0.05, 0.06)], 0.75),
    ],
)
def test_the_share_is_the_best_of_those_that_lose_little(rows, share):
    assert choose(table(*rows)) == share


def sums(error, count=100):
    total = np.zeros(NUM_SUMS)
    total[COUNT], total[ABS], total[SQUARED], total[-1] = count, count * error, count * error**2, count
    return total


def test_recordings_of_replay_count_alike_and_the_worst_but_a_tenth_too():
    before = {'long': {2: sums(1.0, 9000), 4: sums(2.0, 9000)}, 'short': {2: sums(1.0)}, 'none': {2: sums(0.0, 0)}}
    after = {'long': {2: sums(1.2, 9000), 4: sums(2.0, 9000)}, 'short': {2: sums(0.9)}, 'none': {2: sums(0.0, 0)}}
    logs = np.log([1.2**0.5, 0.9])
    mean, high = _loss(before, after)
    assert mean == pytest.approx(np.exp(logs.mean()) - 1)
    assert high == pytest.approx(1.2**0.5 - 1)
    one = _loss({'short': before['short']}, {'short': after['short']})
    assert one == pytest.approx((-0.1, -0.1))
    for count, worst in ((9, 1.9), (10, 1.9), (19, 2.8), (20, 2.8)):
        known = {str(number): {2: sums(1.0)} for number in range(count)}
        changed = {str(number): {2: sums(1 + (number + 1) / 10)} for number in range(count)}
        assert _loss(known, changed)[1] == pytest.approx(worst - 1)
    assert _loss({'none': before['none']}, {'none': after['none']}) == (None, None)
    assert _loss({}, {}) == (None, None)


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    """Two networks, images, and the mean that was kept."""
    folder = tmp_path_factory.mktemp('blend')
    save_calibrated(folder / 'before.safetensors', network(0), 5.0, {})
    save_calibrated(folder / 'tuned.safetensors', network(1), 0.1, FACTS)
    own, replay = [scene(0), scene(1)], [scene(2, recording='a'), scene(3, recording='a'), scene(4, recording='b')]
    done = []
    keep_mean(
        folder / 'before.safetensors', folder / 'tuned.safetensors', own, replay, folder / 'after.safetensors',
        lambda number, total: done.append((number, total)),
    )  # fmt: skip
    return folder, own, replay, done


def sums_of(made, samples, by_truth=False):
    found = {}
    for case in Cases(samples):
        judging = case.sample.true_points() if by_truth else case.withheld
        errors = score(*predict(made, case, torch.device('cpu')), judging)
        found[case.thinning] = found.get(case.thinning, 0) + errors
    return found


def test_where_exact_depth_is_known_it_judges():
    sample = scene(2)
    known = dataclasses.replace(sample, truth=scene(2, lidar=False).truth, exact=True)
    made = network(0)
    (found,) = _scored({0.0: made}, Cases([known], [4]), torch.device('cpu'), lambda: None)[0.0].values()
    (case,) = Cases([sample], [4])
    depth, std = predict(made, case, torch.device('cpu'))
    np.testing.assert_allclose(found[4], score(depth, std, known.true_points()))
    assert found[4][COUNT] > 2 * score(depth, std, case.withheld)[COUNT]
    # What other sweeps saw, or another camera, judges nothing unless that is asked for.
    (case,) = Cases([dataclasses.replace(known, exact=False)], [4])
    assert case.judging is case.withheld
    (case,) = Cases([dataclasses.replace(known, exact=False)], [4], by_truth=True)
    np.testing.assert_array_equal(case.judging.depth, known.true_points().depth)


def scored(made, samples, *thinnings):
    sums = sums_of(made, samples)
    return figures({thinning: sums[thinning] for thinning in thinnings or sums})


def test_the_header_says_what_was_chosen_and_why(kept):
    folder, own, replay, done = kept
    before, tuned, after = (load_checkpoint(folder / f'{name}.safetensors') for name in ('before', 'tuned', 'after'))
    facts = after[1]
    assert {name: facts[name] for name in ('training', 'data', 'step')} == {
        name: FACTS[name] for name in ('training', 'data', 'step')
    }
    choice = read_choice(folder / 'after.safetensors')
    assert facts['share'] == choice.share == choose(choice.tried)
    assert [entry.share for entry in choice.tried] == [0.0, *SHARES]
    # Each is the score of that mean, and of replay a change against the network before.
    for entry in choice.tried:
        mean = blend(before[0], tuned[0], entry.share)
        assert entry.score == pytest.approx(scored(mean, own)['score'], rel=1e-4)
        changes = [
            scored(mean, part, 2, 4)['score'] / scored(before[0], part, 2, 4)['score']
            for part in (replay[:2], replay[2:])
        ]  # fmt: skip
        assert entry.replay == pytest.approx(np.prod(changes) ** 0.5 - 1, abs=1e-4)
        assert entry.replay_high == pytest.approx(max(changes) - 1, abs=1e-4)
    assert choice.tried[0].replay == choice.tried[0].replay_high == 0
    assert len({entry.score for entry in choice.tried}) == len(choice.tried)
    # Two images at four densities and without lidar, three at two.
    assert done == [(number, 16) for number in range(1, 17)]


def test_the_mean_states_deviations_that_hold(kept):
    folder, own, _, _ = kept
    after, facts = load_checkpoint(folder / 'after.safetensors')
    weights = dict(
        blend(*(load_checkpoint(folder / f'{name}.safetensors')[0] for name in ('before', 'tuned')), facts['share'])
        .named_parameters()
    )  # fmt: skip
    assert all(torch.equal(value, weights[name]) for name, value in after.named_parameters())
    # Nothing is left to correct, however wrong the two that it came from are.
    assert std_correction(sums_of(after, own)) == pytest.approx(1, rel=0.02)
    found = scored(after, own)
    assert facts['validation'].keys() == found.keys()  # what is found without lidar, too
    for name, value in facts['validation'].items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=0.02), name
    # The reference is that of this network: the check on loading compares with it.
    settings = from_flat({'estimator.checkpoint': str(folder / 'after.safetensors')})
    assert create_estimator(settings, 'network').status.max_relative_error < 1e-3


@pytest.mark.parametrize('by_truth', [False, True])
def test_one_mean_is_calibrated_too(kept, tmp_path, monkeypatch, capsys, by_truth):
    folder, own, _, _ = kept
    # A wall at 5 m, whatever the lidar says: the two ask for other deviations.
    own = [dataclasses.replace(sample, truth=np.full_like(scene(9, lidar=False).truth, 5)) for sample in own]
    monkeypatch.setattr(datasets, 'read_data', lambda settings, data: ([], own, []))
    config = {'data': {'sources': ['1 samples a'], 'validation_truth': by_truth}}
    (tmp_path / 'config.yaml').write_text(json.dumps(config))
    names = [str(folder / f'{name}.safetensors') for name in ('before', 'tuned')]
    rest = ['--config', str(tmp_path / 'config.yaml'), '--out', str(tmp_path / 'mean.safetensors')]
    assert main(['mean', *names, '--share', '0.25', *rest]) == 0
    assert '25 % of' in capsys.readouterr().out
    mean, facts = load_checkpoint(tmp_path / 'mean.safetensors')
    weights = dict(blend(*(load_checkpoint(Path(name))[0] for name in names), 0.25).named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in mean.named_parameters())
    assert std_correction(sums_of(mean, own, by_truth)) == pytest.approx(1, rel=0.02)
    assert std_correction(sums_of(mean, own, not by_truth)) != pytest.approx(1, rel=0.1)
    assert (facts['share'], facts['step'], 'shares' in facts) == (0.25, 7, False)
    before = (tmp_path / 'mean.safetensors').read_bytes()
    assert main(['mean', *names, '--share', '0.75', *rest]) == 2
    assert 'is there already; name another file, or say --overwrite' in capsys.readouterr().err
    assert (tmp_path / 'mean.safetensors').read_bytes() == before
    assert main(['mean', *names, '--share', '0.75', *rest, '--overwrite']) == 0
    assert (tmp_path / 'mean.safetensors').read_bytes() != before


@pytest.mark.parametrize('name', ['before.safetensors', 'tuned.safetensors', 'mean.txt'])
def test_a_mean_is_written_to_a_file_of_its_own(kept, tmp_path, capsys, name):
    paths = [tmp_path / f'{part}.safetensors' for part in ('before', 'tuned')]
    for path in paths:
        shutil.copyfile(kept[0] / path.name, path)
    before = [path.read_bytes() for path in paths]
    words = ['mean', *map(str, paths), '--share', '0.5', '--config', 'c.yaml', '--out', str(tmp_path / name)]
    assert main(words) == 2
    assert 'expected another .safetensors file' in capsys.readouterr().err
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize(
    ('share', 'size', 'images', 'said'),
    [
        (1.5, 'small', 1, 'share is 1.5, expected 0 to 1'),
        (0.5, 'base', 1, 'small with encoder conv.*base with encoder conv'),
        (0.5, 'small', 0, 'no image to calibrate with'),
    ],
)
def test_a_mean_that_cannot_be_is_refused(tmp_path, share, size, images, said):
    save_checkpoint(tmp_path / 'before.safetensors', network(0), {})
    save_checkpoint(tmp_path / 'tuned.safetensors', DepthNet(size), {})
    paths = (tmp_path / f'{name}.safetensors' for name in ('before', 'tuned'))
    with pytest.raises((SettingsError, CheckpointError), match=said):
        write_mean(*paths, share, [scene(0)][:images], tmp_path / 'mean.safetensors')
    assert not (tmp_path / 'mean.safetensors').exists()


def test_a_network_without_finite_depth_is_refused_by_name(tmp_path):
    broken = network(1)
    save_calibrated(tmp_path / 'before.safetensors', network(0), 1.0, {})
    with torch.no_grad():
        broken.head.bias[-8:-4] = 1e4  # the correction, which is not limited where there is no lidar
    save_checkpoint(tmp_path / 'tuned.safetensors', broken, FACTS)
    paths = (tmp_path / f'{name}.safetensors' for name in ('before', 'tuned'))
    with pytest.raises(TrainingError, match=r"share [0-9.]+ .* no finite depth somewhere in 'scene_0'"):
        keep_mean(*paths, [scene(0)], [], tmp_path / 'after.safetensors', lambda done, total: None)
    assert not (tmp_path / 'after.safetensors').exists()


def test_a_network_of_an_earlier_release_has_no_choice_and_no_table(tmp_path):
    save_calibrated(tmp_path / 'after.safetensors', network(0), 1.0, FACTS)
    choice = read_choice(tmp_path / 'after.safetensors')
    assert choice == Choice(1.0, ())
    assert _choice(choice) == ''


def test_report_and_note_name_what_was_kept():
    choice = Choice(0.5, (Share(0.0, 2.0, 0.0, 0.0), Share(1.0, 1.5, 0.09, 0.12), Share(0.5, 1.6, 0.01, 0.02)))
    assert choice.text == (
        '50 % of the way to the fine-tuned network is kept (−20.0 % on the own images that choose, +1.0 % on '
        'recordings of replay left out; all of it: −25.0 % on the own images that choose, +9.0 % on recordings of '
        'replay left out)'
    )
    html = _choice(choice)
    assert '<th scope="row">50 %</th><td>kept</td><td>1.600</td><td>+1.0 %</td><td>+2.0 %</td>' in html
    assert html.index('>0 %<') < html.index('>50 %<') < html.index('>100 %<')
    alone = Choice(1.0, (Share(0.0, 2.0), Share(1.0, 1.5)))
    assert alone.text == (
        '100 % of the way to the fine-tuned network is kept (−25.0 % on the own images that choose)'
    )  # fmt: skip
    assert '<td>1.500</td><td>-</td><td>-</td>' in _choice(alone)


def write_drives(folder, count, images=1, lidar=lambda number: True):
    with SampleWriter(folder) as writer:
        for number in range(count):
            for image in range(images):
                sample = scene(100 * number + image, lidar(number), f'drive_{number}')
                # As of a lidar that names no rings.
                writer.add(dataclasses.replace(sample, ring=np.full(len(sample.ring), -1, np.int16)))
    return folder


@pytest.mark.parametrize(
    ('count', 'images', 'names', 'each'),
    [
        (3, 2, [], 0),
        (4, 2, ['drive_0'], 2),
        (4, 62, ['drive_0'], 60),
        (11, 31, ['drive_0', 'drive_10'], 30),
        (21, 2, ['drive_0', 'drive_10', 'drive_20'], 2),
    ],
)
def test_a_tenth_of_the_recordings_of_replay_is_left_out_whole(tmp_path, count, images, names, each):
    write_drives(tmp_path / 'a', count, images)
    found = leave_out(tmp_path / 'a', tmp_path / 'few', ())
    assert found == names
    assert (tmp_path / 'few').exists() == bool(names)
    settings = TrainingSettings(data=DataSettings(sources=['1 samples a'], validation=[], left_out=found))
    sources, validation, _ = read_data(settings, tmp_path)
    assert sorted([*sources[0].groups, *found]) == sorted(f'drive_{number}' for number in range(count))
    assert not set(sources[0].groups) & set(found)
    assert not validation
    if names:
        groups = SampleFolder(tmp_path / 'few').groups
        assert {name: len(group) for name, group in groups.items()} == dict.fromkeys(names, each)
        # All of them judge, also those whose lidar names no rings.
        assert len(Cases(SampleFolder(tmp_path / 'few'), [2])) == each * len(names)


def test_recordings_without_lidar_or_with_the_name_of_an_own_one_are_not_left_out(tmp_path):
    write_drives(tmp_path / 'a', 8, lidar=lambda number: number not in (0, 7))
    assert leave_out(tmp_path / 'a', tmp_path / 'few', {'drive_1'}) == ['drive_2']
    assert leave_out(tmp_path / 'a', tmp_path / 'fewer', {'drive_1', 'drive_2', 'drive_3'}) == []


def test_a_camera_may_begin_before_the_lidar(tmp_path):
    with SampleWriter(tmp_path / 'a') as writer:
        for number in range(12):
            for image in range(4):
                writer.add(scene(10 * number + image, image > 0, f'drive_{number}'))
    assert leave_out(tmp_path / 'a', tmp_path / 'few', ()) == ['drive_0', 'drive_11']
    few = SampleFolder(tmp_path / 'few')
    assert {name: len(group) for name, group in few.groups.items()} == {'drive_0': 3, 'drive_11': 3}


def test_what_was_left_out_stays_so(tmp_path):
    write_drives(tmp_path / 'a', 4)
    write_drives(tmp_path / 'b', 30)
    assert leave_out(tmp_path / 'a', tmp_path / 'few', ()) == ['drive_0']
    before = json.loads((tmp_path / 'few' / 'index.json').read_text())
    assert leave_out(tmp_path / 'b', tmp_path / 'few', ()) == ['drive_0']
    assert json.loads((tmp_path / 'few' / 'index.json').read_text()) == before


def test_recordings_to_be_left_out_are_not_validated_on_and_have_to_exist(tmp_path):
    write_scenes(tmp_path / 'a', 4)
    data = DataSettings(sources=['1 samples a'], held_out=['scene_1', 'scene_2'], left_out=['scene_2', 'scene_3'])
    sources, validation, _ = read_data(TrainingSettings(data=data), tmp_path)
    assert list(sources[0].groups) == ['scene_0']
    assert [sample.name for sample in validation] == ['scene_1']
    data = DataSettings(sources=['1 samples a'], left_out=['elsewhere'])
    with pytest.raises(SettingsError, match='left out are in no source: elsewhere'):
        read_data(TrainingSettings(data=data), tmp_path)
