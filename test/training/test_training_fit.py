import csv
import dataclasses
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

import torch
from torch.utils.data import default_collate
from training_runs import distance, settings_of, weights
from training_scenes import scene, write_scenes

from depth_ros.errors import DepthRosError, SettingsError, TrainingError
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros_training.cli.fit_command import change
from depth_ros_training.cli.main import main
from depth_ros_training.data.datasets import ViewDataset, read_data
from depth_ros_training.data.sample import split_points
from depth_ros_training.data.store import SampleFolder, SampleWriter
from depth_ros_training.engine.fit import _precision, fit
from depth_ros_training.engine.system import predict
from depth_ros_training.engine.validation import NUM_SUMS, Cases, figures, score
from depth_ros_training.settings import LossSettings, load
from depth_ros_training.systems.supervised import SupervisedSystem

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}
def scores_in(path):
    with open(path, newline='') as file:
        return [row['val/score'] for row in csv.DictReader(file) if row['val/score']]


def steps_in(path):
    with open(path, newline='') as file:
        return {int(row['step']) for row in csv.DictReader(file)}


def test_it_overfits_two_scenes(data):
    settings = settings_of(
        data, run__steps=200, run__steps_per_epoch=100, optimizer__learning_rate=2e-3, data__crop_height=96,
        data__crop_width=192, view__color=0.0, view__blur=0.0, view__noise=0.0, view__flip=0.0, view__outliers=0.0,
        view__miscalibrated=0.0, view__scattered=0.0,
    )  # fmt: skip
    best = fit(SupervisedSystem, settings, data, data / 'out', progress=False)
    network, facts = load_checkpoint(best)
    sample = SampleFolder(data / 'scenes')[0]
    inputs, withheld = split_points(sample.points, sample.ring % 4 == 2, sample.camera.shape, 0.08, 0.03)

    def error(estimator):
        depth, _ = estimator.estimate(sample.frame(), inputs)
        return float(np.abs(depth[withheld.row, withheld.column] - withheld.depth).mean())

    from depth_ros.estimators.yardsticks import LinearEstimator

    assert error(NetworkEstimator.of(network)) < 0.6 * error(LinearEstimator())
    assert facts['training']['settings']['run']['steps'] == 200
    assert list(facts['data']) == ['1 samples scenes']
    assert facts['reference']


@pytest.mark.parametrize(('steps', 'taught'), [(9, False), (10, True)])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(data, steps, taught):
    teaching = {'network__teachers': ['teacher.safetensors'], 'loss__teacher': 1.0} if taught else {}
    if taught:
        save_checkpoint(data / 'teacher.safetensors', DepthNet(), {})
    settings = settings_of(data, run__steps=steps, **teaching)
    fit(SupervisedSystem, settings, data, data / 'whole', progress=False)

    class Interrupted(SupervisedSystem):
        def training_step(self, batch, index):
            if self.global_step == 5:
                raise KeyboardInterrupt
            return super().training_step(batch, index)

    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted, settings, data, data / 'parts', progress=False)
    fit(SupervisedSystem, settings, data, data / 'parts', progress=False)
    whole, parts = weights(data / 'whole/last.safetensors'), weights(data / 'parts/last.safetensors')
    # Also where the last epoch is shorter.
    assert load_checkpoint(data / 'whole/last.safetensors')[1]['step'] == steps
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    # The log tells of all of it, of the part before the interruption too.
    scores = [scores_in(data / name / 'log/metrics.csv') for name in ('whole', 'parts')]
    assert scores[0] == scores[1]
    assert len(scores[0]) == -(-steps // 3)
    steps_of = [steps_in(data / name / 'log/metrics.csv') for name in ('whole', 'parts')]
    assert steps_of[0] == steps_of[1]
    assert max(steps_of[0]) == steps - 1


def test_states_of_a_run_that_is_interrupted_often_do_not_pile_up(data):
    class Interrupted(SupervisedSystem):
        stop = 0

        def training_step(self, batch, index):
            if self.global_step == self.stop:
                raise KeyboardInterrupt
            return super().training_step(batch, index)

    for stop in (4, 7, 10, 13):
        Interrupted.stop = stop
        with pytest.raises(KeyboardInterrupt):
            fit(Interrupted, settings_of(data, run__steps=15), data, data / 'out', progress=False)
    assert len(list((data / 'out' / 'state').iterdir())) <= 2


def test_a_network_to_start_from_is_not_asked_to_be_another(data):
    fit(SupervisedSystem, settings_of(data, run__steps=3), data, data / 'first', progress=False)
    start = {'network__start': str(data / 'first/last.safetensors'), 'run__steps': 3}
    with pytest.raises(SettingsError, match=r"network.size is 'base', and network.start a network with 'small'"):
        fit(SupervisedSystem, settings_of(data, **start, network__size='base'), data, data / 'out', progress=False)
    with pytest.raises(SettingsError, match=r"network.encoder is 'resnet18', and network.start .* 'conv'"):
        fit(SupervisedSystem, settings_of(data, **start, network__encoder='resnet18'), data, data / 'out', False)
    assert not (data / 'out').exists()


def test_cases_without_lidar_alone_say_nothing_of_the_score(data):
    sample = scene(0)
    with SampleWriter(data / 'one_ring') as writer:
        writer.add(dataclasses.replace(sample, ring=np.zeros_like(sample.ring)))
    settings = settings_of(data, data__validation=['1 samples one_ring'])
    with pytest.raises(SettingsError, match='in 0 cases, are too few'):
        fit(SupervisedSystem, settings, data, data / 'out', progress=False)


@pytest.mark.parametrize(
    ('cuda', 'native', 'capabilities', 'expected'),
    [
        (True, True, {}, 'bf16-mixed'),
        (True, False, {'avx512_bf16': True}, '32-true'),
        (False, True, {'avx2': True, 'avx512_bf16': False}, '32-true'),
        (False, False, {'avx512_bf16': True}, 'bf16-mixed'),
        (False, False, {'amx_bf16': True}, 'bf16-mixed'),
    ],
)
def test_bf16_is_trained_in_only_where_it_is_computed_in(monkeypatch, cuda, native, capabilities, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: native or including_emulation)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    assert _precision('auto') == expected
    assert _precision('16-mixed') == '16-mixed'


@pytest.mark.parametrize(
    ('known', 'exact', 'asked'),
    # None; as of a simulation, which knows more than what its lidar sees; as of a stereo pair.
    [(False, False, True), (True, True, False), (True, False, True), (True, False, False)],
)
def test_the_best_are_kept_and_the_figures_with_them(data, known, exact, asked):
    by_truth = exact or (known and asked)
    if known:
        shutil.rmtree(data / 'scenes')
        with SampleWriter(data / 'scenes') as writer:
            for seed in range(2):
                truth = scene(seed, lidar=False).truth
                writer.add(dataclasses.replace(scene(seed), truth=truth, exact=exact))
    settings = settings_of(data, data__validation_truth=asked, run__steps=9, run__precision='auto')
    fit(SupervisedSystem, settings, data, data / 'out', progress=False)
    assert len(list((data / 'out').glob('step_*.safetensors'))) == 2
    best = json.loads((data / 'out/best.json').read_text())
    assert best['score'] > 0
    assert {'mae_4', 'rmse_4', 'abs_rel_0', 'within_1_sigma_4'} <= best.keys()
    # What the header says is so of the network that is stored, its calibration included.
    network, facts = load_checkpoint(data / 'out/best.safetensors')
    sums = {}
    for case in Cases(list(SampleFolder(data / 'scenes'))):
        sums.setdefault(case.thinning, np.zeros(NUM_SUMS))
        judging = case.sample.true_points() if by_truth else case.withheld
        sums[case.thinning] += score(*predict(network.eval(), case, torch.device('cpu')), judging)
    assert facts['std_correction'] != pytest.approx(1, abs=0.01)
    assert facts['training']['settings']['run']['precision'] == _precision('auto')
    for name, value in figures(sums).items():
        assert facts['validation'][name] == pytest.approx(value, rel=1e-3, abs=0.01)
    log = (data / 'out/log/metrics.csv').read_text()
    assert 'val/mae_4' in log
    assert 'train/likelihood' in log
    events = b''.join(path.read_bytes() for path in (data / 'out/tensorboard').glob('events*'))
    assert b'validation/0' in events


def test_a_folder_of_another_run_is_refused(data):
    fit(SupervisedSystem, settings_of(data, run__steps=3), data, data / 'out', progress=False)
    with pytest.raises(TrainingError, match=r'optimizer.learning_rate was .* is 0\.1'):
        fit(SupervisedSystem, settings_of(data, run__steps=3, optimizer__learning_rate=0.1), data, data / 'out', False)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'data__sources': ['1 samples nowhere']}, 'nowhere'),
        ({'network__start': 'nowhere.safetensors'}, 'nowhere'),
        ({f'loss__{field.name}': 0.0 for field in dataclasses.fields(LossSettings)}, 'all weights of loss are 0'),
    ],
    ids=['data', 'net', 'no loss'],
)
def test_a_typing_error_does_not_claim_the_folder(data, wrong, message):
    with pytest.raises(DepthRosError, match=message):
        fit(SupervisedSystem, settings_of(data, run__steps=3, **wrong), data, data / 'out', progress=False)
    fit(SupervisedSystem, settings_of(data, run__steps=3), data, data / 'out', progress=False)


def test_zooms_the_wrong_way_round_are_refused(data):
    with pytest.raises(SettingsError, match=r'view.min_zoom is 3, expected at most view.max_zoom, 2'):
        settings_of(data, view__min_zoom=3.0, view__max_zoom=2.0)


def test_a_precision_that_this_machine_cannot_train_in_is_refused(data, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SettingsError, match='needs a GPU'):
        fit(SupervisedSystem, settings_of(data, run__precision='16-mixed'), data, data / 'out', progress=False)
    assert not (data / 'out').exists()


def test_checkpoints_do_not_tell_of_the_folders_of_the_machine(data):
    settings = settings_of(data, run__steps=3)
    fit(SupervisedSystem, settings, data, data / 'first', progress=False)
    settings = settings_of(data, run__steps=3, network__start=str(data / 'first/last.safetensors'))
    best = fit(SupervisedSystem, settings, data, data / 'second', progress=False)
    facts = load_checkpoint(best)[1]
    assert facts['training']['settings']['network']['start'] == 'last.safetensors'
    assert str(data) not in json.dumps(facts)


def test_a_run_does_not_go_on_with_other_data(data):
    settings = settings_of(data, run__steps=3)
    fit(SupervisedSystem, settings, data, data / 'out', progress=False)
    fit(SupervisedSystem, settings, data, data / 'out', progress=False)
    validation = settings_of(data, run__steps=3, data__sources=['1 samples others'])
    write_scenes(data / 'others', 2)
    fit(SupervisedSystem, validation, data, data / 'judged', progress=False)
    shutil.rmtree(data / 'scenes')
    write_scenes(data / 'scenes', 3)
    with pytest.raises(TrainingError, match="other data: '1 samples scenes' changed since"):
        fit(SupervisedSystem, validation, data, data / 'judged', progress=False)
    with pytest.raises(TrainingError, match="other data: '1 samples scenes' changed since"):
        fit(SupervisedSystem, settings, data, data / 'out', progress=False)


def test_a_loss_with_a_weight_that_nothing_computes_is_refused(data):
    class Forgetful(SupervisedSystem):
        def losses(self, prediction, batch):
            return {name: value for name, value in super().losses(prediction, batch).items() if name != 'gradient'}

    with pytest.raises(SettingsError, match='gradient'):
        fit(Forgetful, settings_of(data), data, data / 'out', progress=False)
    fit(Forgetful, settings_of(data, loss__gradient=0.0, run__steps=3), data, data / 'other', progress=False)


def test_errors_on_recordings_count_for_the_deviation_as_much_larger_as_is_set(data):
    with SampleWriter(data / 'simulated') as writer:
        writer.add(dataclasses.replace(scene(0, lidar=False), exact=True))
    network = DepthNet()
    found = {}
    for source in ('scenes', 'simulated'):
        for margin in (1.0, 3.0):
            settings = settings_of(data, data__sources=[f'1 samples {source}'], data__error_margin=margin)
            batch = default_collate([ViewDataset(read_data(settings, data)[0], settings)[0]])
            system = SupervisedSystem(network, settings, [])
            found[source, margin] = system.losses(system.run_network(batch), batch)['coverage'].item()
    assert found['simulated', 1.0] == found['simulated', 3.0]
    assert found['scenes', 1.0] != pytest.approx(found['scenes', 3.0], rel=0.01)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_views(data):
    class Broken(SupervisedSystem):
        def losses(self, prediction, batch):
            losses = super().losses(prediction, batch)
            if self.global_step == 4:
                losses['log_l1'] = losses['log_l1'] * float('nan')
            return losses

    with pytest.raises(TrainingError, match=r'nan at step 4 .*views \[8, 9\]'):
        fit(Broken, settings_of(data), data, data / 'out', progress=False)
    assert load_checkpoint(data / 'out/best.safetensors')[1]['step'] == 3


def test_a_gradient_that_is_not_finite_stops_the_run_and_names_the_views(data):
    class Broken(SupervisedSystem):
        def losses(self, prediction, batch):
            losses = super().losses(prediction, batch)
            if self.global_step == 4:
                prediction.log_depth.register_hook(lambda gradient: gradient * float('nan'))
            return losses

    with pytest.raises(TrainingError, match=r'the gradient is nan at step 4 .*views \[8, 9\]'):
        fit(Broken, settings_of(data), data, data / 'out', progress=False)
    assert load_checkpoint(data / 'out/best.safetensors')[1]['step'] == 3


def test_a_network_without_an_answer_is_not_kept(data):
    class Broken(SupervisedSystem):
        def on_validation_epoch_start(self):
            super().on_validation_epoch_start()
            if self.global_step == 6:
                self.average.head.bias.fill_(float('nan'))

    with pytest.raises(TrainingError, match=r'no finite depth at .* at step 6'):
        fit(Broken, settings_of(data), data, data / 'out', progress=False)
    assert load_checkpoint(data / 'out/last.safetensors')[1]['step'] == 3


def test_a_full_disk_leaves_a_run_that_goes_on(data):
    arguments = command_of(data, 'out')[2:]
    # No file may be larger than a checkpoint, and a state is.
    fit(SupervisedSystem, settings_of(data, run__steps=3), data, data / 'other', progress=False)
    size = (data / 'other/last.safetensors').stat().st_size + 1_000_000
    state = next((data / 'other/state').iterdir())
    assert state.stat().st_size > 2 * size
    limited = (
        f'import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); '
        'from depth_ros_training.cli.main import main; sys.exit(main(sys.argv[1:]))'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', limited, *arguments], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-3000:]
    assert 'Traceback' not in done.stderr
    assert 'cannot write' in done.stderr
    assert not list((data / 'out/state').glob('*'))
    assert main(arguments) == 0
    assert load_checkpoint(data / 'out/last.safetensors')[1]['step'] == 6


def test_heads_without_a_loss_do_not_stop_two_processes(data):
    change = ['--set', 'loss.coarse=0', '--set', 'run.steps=3']
    done = torchrun(data, 'out', *change)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(data / 'out/last.safetensors')[1]['step'] == 3


def torchrun(data, out, *changes):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return subprocess.run(
        [
            sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(port),
            *command_of(data, out, *changes),
        ], env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def command_of(data, out, *changes):
    paths = '--config', str(data / 'config.yaml'), '--data', str(data), '--out', str(data / out)
    return ['-m', 'depth_ros_training.cli.main', 'fit', *paths, '--quiet', *changes]


def test_two_processes_learn_what_one_does(data):
    done = torchrun(data, 'two')
    assert done.returncode == 0, done.stderr[-3000:]
    one = [sys.executable, *command_of(data, 'one')]
    subprocess.run(one, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=True)
    one, two = weights(data / 'one/last.safetensors'), weights(data / 'two/last.safetensors')
    fit(SupervisedSystem, settings_of(data, optimizer__learning_rate=0.0), data, data / 'start', progress=False)
    assert distance(two, one) < 0.05 * distance(one, weights(data / 'start/last.safetensors'))
    scores = [json.loads((data / run / 'best.json').read_text())['score'] for run in ('one', 'two')]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_training_without_validation_is_refused(data):
    with pytest.raises(SettingsError, match=r'data\.validation or data\.held_out'):
        fit(SupervisedSystem, settings_of(data, data__validation=[]), data, data / 'out', progress=False)


def test_a_killed_process_of_the_loader_is_one_clear_line(data, monkeypatch):
    own = os.getpid()

    def killed(*_):
        assert os.getpid() != own
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ViewDataset, '_view', killed)
    with pytest.raises(TrainingError, match=r'^a process that prepares samples was killed.*lower data\.workers'):
        fit(SupervisedSystem, settings_of(data, data__workers=1), data, data / 'out', progress=False)


def test_every_training_configuration_loads():
    paths = sorted((ROOT / 'config/training').glob('*.yaml'))
    assert paths
    for path in paths:
        if 'simul' not in path.name:
            load(path)


def test_the_stages_of_make_weights_start_from_what_those_before_them_write():
    written = set()
    commands = (ROOT / 'Makefile').read_text().replace('$(WORK)/', '').partition('\nweights:')[2].partition('\n\n')[0]
    for line in commands.splitlines():
        words = shlex.split(line.rpartition('||')[2])
        if words[1:2] == ['cache']:
            written.add(words[words.index('--out') + 1])
        if words[1:2] == ['mean']:
            assert words[2] in written
            assert words[3] in written
            written.add(words[words.index('--out') + 1])
        if words[1:2] == ['fit']:
            changes = dict(change(text) for at, text in enumerate(words) if words[at - 1] == '--set')
            settings = load(ROOT / words[words.index('--config') + 1], changes)
            assert {settings.network.start, *settings.network.teachers} - {''} <= written
            named = [text.split() for text in (*settings.data.sources, *settings.data.validation)]
            assert {path for _, kind, path, *_ in named if kind == 'samples'} <= written
            out = words[words.index('--out') + 1]
            assert f'{out}/last.safetensors' not in written
            written |= {f'{out}/{which}.safetensors' for which in ('best', 'last')}
        if words[1:2] == ['export']:
            assert words[2] in written
            written.add(words[words.index('--out') + 1])
    assert 'depth_net_small.onnx' in written


@pytest.mark.parametrize('value', ['2024-13-45', '[1', '{a: ['])
def test_a_setting_that_is_no_yaml_gets_one_line(data, capsys, value):
    words = ['fit', '--config', str(data / 'config.yaml'), '--data', str(data), '--out', str(data / 'out')]
    assert main([*words, '--set', f'run.steps={value}']) == 2
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1
    assert 'is no YAML' in captured.err


def test_the_command_says_in_one_line_what_is_wrong(data, capsys):
    (data / 'config.yaml').write_text('data: {sources: [1 samples nowhere]}')
    code = main(['fit', '--config', str(data / 'config.yaml'), '--data', str(data), '--out', str(data / 'out')])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count('\n') == 1
    assert 'nowhere' in captured.err
