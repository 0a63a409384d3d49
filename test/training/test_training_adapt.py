"""One command from bags to a network that knows them: it goes on, refuses what is not better, names what is wrong."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')
pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)

import torch
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from training_scenes import write_scenes

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.cli.main import main as depth_ros
from depth_ros.estimators.learned import make_reference
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.evaluation.evaluate import EvaluationOptions, evaluate
from depth_ros.messages.point_cloud import decode_cloud, fill_lidar_cloud
from depth_ros.networks.checkpoint import load_checkpoint, save_checkpoint
from depth_ros.networks.depth_net import DepthNet
from depth_ros.settings import Settings, from_flat
from depth_ros.types import LidarScan
from depth_ros_training.adaptation import adapt as module
from depth_ros_training.adaptation import before_after
from depth_ros_training.adaptation.blend import SHARES
from depth_ros_training.adaptation.verdict import AFTER, BEFORE
from depth_ros_training.cli.main import main
from depth_ros_training.data import datasets
from depth_ros_training.data.dataset import read_index
from depth_ros_training.data.store import SampleFolder
from depth_ros_training.data.views import make_view

SHORT = ['--steps', '10', '--split', 'time', '--gap', '0.15', '--shares', '0.5', '0.25', '0.25', '--jobs', '1']
SHORT += ['--set', 'data.workers=0', '--set', 'run.threads=1', '--set', 'data.batch=2']


def simulate(path, seed, *size):
    names = ('--frames', '--width', '--height')
    arguments = [text for pair in zip(names, map(str, size), strict=True) for text in pair]
    arguments += ['--fov', '80', '--lidar', 'hdl64e', '--world', 'street', '--lidar-field', 'camera', '--ideal']
    assert main(['simulate', '--out', str(path), '--seed', str(seed), *arguments]) == 0
    return path


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two drives with cameras of different size, samples of one, and a network that knows nothing."""
    folder = tmp_path_factory.mktemp('adapt')
    simulate(folder / 'drive', 3, 12, 256, 96)
    simulate(folder / 'small', 4, 6, 160, 64)
    assert main(['cache', str(folder / 'small'), '--out', str(folder / 'known samples')]) == 0
    torch.manual_seed(0)
    network = DepthNet().eval()
    torch.nn.init.normal_(network.head.weight, std=0.02)
    save_checkpoint(folder / 'net.safetensors', network, {'reference': make_reference(NetworkEstimator.of(network))})
    return folder


def command(data, out, *more, bags=('drive',)):
    paths = [str(data / name) for name in bags]
    return ['adapt', *paths, '--out', str(out), '--checkpoint', str(data / 'net.safetensors'), *SHORT, *map(str, more)]


@pytest.fixture(scope='module')
def adapted(data, tmp_path_factory):
    out = tmp_path_factory.mktemp('models') / 'model'
    assert main(command(data, out, '--replay', data / 'known samples', '--also', data / 'small')) == 0
    return out


def error_line(capsys, arguments):
    """The one line of a command that fails."""
    capsys.readouterr()
    assert main(arguments) == 2
    stages = re.compile(r'\d/\d+ images|preparing|fine-tuning|choosing|evaluating|measuring')
    lines = [line for line in capsys.readouterr().err.splitlines() if not stages.search(line)]
    assert len(lines) == 1, lines
    return lines[0]


def test_the_result_is_what_evaluate_says_of_the_file(data, adapted, tmp_path):
    found = json.loads((adapted / 'adaptation.json').read_text())
    assert found['recommended']
    (row,) = (row for row in found['rows'] if row['held_out'] and row['given'] == '16 rings')
    assert row['after']['mae'] < 0.98 * row['before']['mae']
    frames = [entry for entry in read_index(adapted / 'work' / 'dataset').frames if entry['split'] == 'test']
    assert row['num_images'] == len(frames) == 3
    parameters = tmp_path / 'node.yaml'
    parameters.write_text(f'estimator: {{method: network, checkpoint: {adapted / "adapted.safetensors"}}}')
    out = tmp_path / 'results'
    whole = ['evaluate', str(data / 'drive'), '--out', str(out), '--input-rings', '16', '--params', str(parameters)]
    assert depth_ros([*whole, '--no-report']) == 0
    document = json.loads((out / 'metrics.json').read_text())
    assert document['counts']['answered'] == 12
    stamps = frames[0]['stamp_ns'], frames[-1]['stamp_ns']
    estimator = NetworkEstimator.of(load_checkpoint(adapted / 'adapted.safetensors')[0])
    part = evaluate(
        data / 'drive', Settings(), EvaluationOptions(input_rings=16, stamps=stamps), estimators={'net': estimator}
    )
    images = [image['stamp_ns'] for image in part.scores['net'].images]
    assert images == [entry['stamp_ns'] for entry in frames]
    assert part.document['methods']['net']['pooled']['mae'] == pytest.approx(row['after']['mae'], rel=1e-3)


def test_known_samples_are_mixed_in_and_other_bags_judged(adapted):
    settings = json.loads((adapted / 'work' / 'run' / 'settings.json').read_text())
    assert settings['data']['sources'] == ['0.4 dataset dataset train', '0.6 samples replay']
    rows = json.loads((adapted / 'adaptation.json').read_text())['rows']
    assert {(row['recordings'], row['held_out']) for row in rows} == {('held out', True), ('small', False)}


def test_other_bags_that_are_simulated_are_judged_by_exact_depth(data, adapted):
    found = json.loads((adapted / 'adaptation.json').read_text())
    assert 'judged by exact depth: small' in found['notes']
    (row,) = (row for row in found['rows'] if row['recordings'] == 'small' and row['given'] == '16 rings')
    estimator = NetworkEstimator.of(load_checkpoint(adapted / 'adapted.safetensors')[0])
    options = EvaluationOptions(input_rings=16, truth=True)
    document = evaluate(data / 'small', Settings(), options, estimators={'net': estimator}).document
    assert row['num_points'] == document['methods']['net']['points']['num_truth']
    assert row['after']['mae'] == pytest.approx(document['methods']['net']['pooled']['mae'], rel=1e-3)


def test_of_a_single_known_recording_none_is_left_out_and_that_is_said(adapted):
    found = json.loads((adapted / 'adaptation.json').read_text())
    assert any('too few recordings of --replay' in note for note in found['notes'])
    assert {entry['replay'] for entry in found['shares']} == {None}
    assert found['share'] == min(found['shares'][1:], key=lambda entry: entry['score'])['share']


def test_another_lidar_with_few_rings_is_judged_given_every_second_one(data, adapted, tmp_path):
    few = tmp_path / 'few'
    arguments = ['--seed', '5', '--frames', '2', '--width', '256', '--height', '96', '--lidar', 'vlp16', '--ideal']
    assert main(['simulate', '--out', str(few), '--world', 'street', '--camera-rate', '2', *arguments]) == 0
    found = before_after.compare(
        {few: EvaluationOptions()}, {}, True, dict.fromkeys((BEFORE, AFTER), data / 'net.safetensors'),
        tmp_path / 'evaluation', Settings(), print, lambda done, total: None,
    )  # fmt: skip
    assert [row.given for row in found.rows] == ['every second ring', '90 % of the points']
    assert not any('not evaluated' in note for note in found.notes)
    assert all(row.num_points > 0 and row.change('mae') == 0 for row in found.rows)


def test_another_lidar_without_rings_is_judged_too(data, tmp_path):
    plain = tmp_path / 'plain'
    with BagReader(data / 'small') as reader, BagWriter(plain) as writer:
        for item in reader.messages():
            message = item.message
            if item.topic == '/points':
                # Shuffled points with elevations of their own: neither fields nor their order show rings.
                scan, rng = decode_cloud(message), np.random.default_rng(0)
                points = rng.permutation(scan.points)
                points[:, 2] += rng.normal(0, 0.02, len(points)) * np.linalg.norm(points, axis=1)
                ringless = LidarScan(scan.stamp_ns, points, scan.frame_id, None, None)
                cloud = writer.message('sensor_msgs/msg/PointCloud2')
                message = fill_lidar_cloud(cloud, writer.type('sensor_msgs/msg/PointField'), ringless)
            writer.write(item.topic, message, item.log_ns)
    found = before_after.compare(
        {plain: EvaluationOptions()}, {}, True, dict.fromkeys((BEFORE, AFTER), data / 'net.safetensors'),
        tmp_path / 'evaluation', Settings(), print, lambda done, total: None,
    )  # fmt: skip
    assert [row.given for row in found.rows] == ['every second ring', '90 % of the points']
    assert all(row.num_points > 0 for row in found.rows)


@pytest.mark.parametrize('downscale', [1, 2])
def test_images_are_trained_on_at_the_size_at_which_the_robot_estimates(adapted, tmp_path, downscale):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'dataset').symlink_to(adapted / 'work' / 'dataset')
    settings = from_flat({'estimator.downscale': downscale})
    adapting = module._Adapting([], tmp_path, module.AdaptOptions(steps=10), settings, print, None, False)
    training, _ = adapting._training(read_index(tmp_path / 'work' / 'dataset'))
    assert (training.data.crop_height, training.data.crop_width) == ((96, 256), (32, 128))[downscale - 1]
    assert training.view.min_zoom == pytest.approx(0.7 / downscale)
    assert training.view.max_zoom == pytest.approx(1.3 / downscale)
    # Large images, too: crops of 1920 columns are a quarter of them.
    assert training.view.min_share <= 480 / 1920


def test_large_images_are_trained_on_at_the_size_at_which_networks_see_them(adapted, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'dataset').symlink_to(adapted / 'work' / 'dataset')
    adapting = module._Adapting([], tmp_path, module.AdaptOptions(steps=10), Settings(), print, None, False)
    index = read_index(tmp_path / 'work' / 'dataset')
    cameras = [camera for facts in index.head['recordings'].values() for camera in facts['cameras']]
    for camera in cameras:
        camera |= {'width': 1920, 'height': 1200}
    training, _ = adapting._training(index)
    assert (training.data.crop_height, training.data.crop_width) == (224, 480)
    assert training.view.min_zoom == pytest.approx(0.35)
    cameras[0] |= {'width': 960, 'height': 600}  # one that is seen as it is
    assert adapting._training(index)[0].view.min_zoom == pytest.approx(0.7)


def test_what_the_user_sets_is_not_made_to_follow_the_length(adapted, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'dataset').symlink_to(adapted / 'work' / 'dataset')
    found = {}
    for name, changes in (('free', {}), ('set', {'optimizer.average': 0.99, 'optimizer.warmup_steps': 40})):
        options = module.AdaptOptions(steps=100, changes=changes)
        adapting = module._Adapting([], tmp_path, options, Settings(), print, None, False)
        optimizer = adapting._training(read_index(tmp_path / 'work' / 'dataset'))[0].optimizer
        found[name] = optimizer.average, optimizer.warmup_steps
    assert found == {'free': (0.9, 10), 'set': (0.99, 40)}


@pytest.mark.parametrize(
    ('classes', 'changes', 'alignment', 'temporal', 'system'),
    [
        (['LPT', 'LPT'], {}, 1.0, 0.0, 'semi_supervised'),
        (['LT', 'LT'], {}, 0.0, 0.0, 'supervised'),
        (['LT', 'UT'], {}, 0.0, 0.2, 'semi_supervised'),
        (['L', 'U'], {}, 0.0, 0.0, 'supervised'),
        (['LT', 'LT'], {'loss.temporal': 0.1}, 0.0, 0.1, 'semi_supervised'),
        (['LT', 'LT'], {'loss.gaussian': 0.1}, 0.0, 0.0, 'semi_supervised'),
    ],
)
def test_other_images_teach_where_there_are_any_and_lidar_is_not_enough(
    adapted, tmp_path, classes, changes, alignment, temporal, system
):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'dataset').symlink_to(adapted / 'work' / 'dataset')
    options = module.AdaptOptions(steps=10, changes=changes)
    adapting = module._Adapting([], tmp_path, options, Settings(), print, None, False)
    index = read_index(tmp_path / 'work' / 'dataset')
    frames = [{**index.frames[0], 'split': 'train', 'classes': text} for text in classes]
    training, _ = adapting._training(dataclasses.replace(index, frames=frames))
    assert (training.loss.alignment, training.loss.temporal) == (alignment, temporal)
    assert (training.loss.smoothness > 0) == (alignment > 0 or (temporal > 0 and not changes))
    assert training.run.system == system
    assert any('every image has lidar' in note for note in adapting.notes) == (classes[1] in ('LT', 'LPT'))


def test_the_report_needs_nothing_else(adapted):
    html = (adapted / 'report.html').read_text()
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert 'http' not in html.replace('http-equiv', '')
    assert html.count('<img') == 4
    assert 'Loss of the training samples' in html
    assert 'Adapted: use it' in html


def test_the_same_command_does_nothing_twice(data, adapted, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError('done already')

    for name in ('prepare', 'fit', 'keep_mean'):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(before_after, 'evaluate', never)
    assert main(command(data, adapted, '--replay', data / 'known samples', '--also', data / 'small')) == 0
    assert 'better on what was held out' in capsys.readouterr().out


def test_interrupted_it_goes_on_where_it_was(data, adapted, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'model'
    known = write_scenes(tmp_path / 'known', 5)
    arguments = command(data, out, '--replay', known)
    trained_on = set()

    def stop(*_, **__):
        raise KeyboardInterrupt

    def seen(sample, *rest):
        trained_on.add(sample.recording)
        return make_view(sample, *rest)

    monkeypatch.setattr(datasets, 'make_view', seen)
    with monkeypatch.context() as patch:
        patch.setattr(module, 'fit', stop)
        assert main(arguments) == 130
    assert 'the same command goes on' in capsys.readouterr().err
    assert not trained_on
    early = [out / 'work' / name / 'index.json' for name in ('validation', 'replay_validation')]
    early.append(out / 'work' / 'dataset' / 'index.jsonl')
    written = [path.stat().st_mtime_ns for path in early]
    with monkeypatch.context() as patch:
        patch.setattr(module, 'keep_mean', stop)
        assert main(arguments) == 130
    # One recording of replay is kept from training, and not validated on: the own images alone choose the checkpoint.
    assert trained_on == {'drive', 'scene_1', 'scene_2', 'scene_3', 'scene_4'}
    (left_out,) = SampleFolder(out / 'work' / 'replay_validation').groups
    settings = json.loads((out / 'work' / 'run' / 'settings.json').read_text())['data']
    assert (settings['left_out'], settings['held_out']) == ([left_out], [])
    assert settings['validation'] == ['1 samples validation']
    tuned = (out / 'work' / 'tuned.safetensors').read_bytes()
    assert not (out / 'work' / 'after.safetensors').exists()
    with monkeypatch.context() as patch:
        patch.setattr(before_after, 'evaluate', stop)
        patch.setattr(module, 'fit', None)
        assert main(arguments) == 130
    trained = (out / 'work' / 'after.safetensors').read_bytes()
    facts = load_checkpoint(out / 'work' / 'after.safetensors')[1]
    assert not (out / 'adapted.safetensors').exists()
    with monkeypatch.context() as patch:
        patch.setattr(module, 'keep_mean', None)
        assert main(arguments) == 0
    assert [path.stat().st_mtime_ns for path in early] == written
    assert (out / 'work' / 'tuned.safetensors').read_bytes() == tuned
    found = json.loads((out / 'adaptation.json').read_text())
    assert found['share'] == facts['share']
    assert found['shares'] == facts['shares']
    assert [entry['share'] for entry in found['shares']] == [0.0, *SHARES]
    assert all(entry['replay'] is not None for entry in found['shares'])
    assert sum('of the way to the fine-tuned network is kept' in note for note in found['notes']) == 1
    assert 'How far to go' in (out / 'report.html').read_text()
    assert (out / 'adapted.safetensors').read_bytes() == trained
    # Another request does not go on from it.
    assert 'differs in minutes or steps' in error_line(capsys, [*arguments, '--steps', '11'])
    parameters = tmp_path / 'node.yaml'
    parameters.write_text('estimator: {downscale: 2}')
    assert 'differs in pipeline' in error_line(capsys, [*arguments, '--params', str(parameters)])
    parameters.write_text(f'estimator: {{checkpoint: {out / "adapted.safetensors"}}}')
    assert main([*arguments, '--params', str(parameters)]) == 0
    assert (out / 'adapted.safetensors').read_bytes() == trained


def test_what_is_not_better_is_not_recommended(data, tmp_path, capsys):
    out = tmp_path / 'model'
    more = ['--set', 'optimizer.learning_rate=0', '--steps', '2']
    line = error_line(capsys, command(data, out, *more, bags=('drive', 'small')))
    assert 'not recommended: not better on what was held out' in line
    assert (out / 'not_recommended.safetensors').is_file()
    assert not (out / 'adapted.safetensors').exists()
    assert 'Not recommended' in (out / 'report.html').read_text()
    found = json.loads((out / 'adaptation.json').read_text())
    assert not found['recommended']
    # Both bags are judged, although their cameras differ, and that is said.
    assert any('different cameras (160x64' in note for note in found['notes'])
    index = read_index(out / 'work' / 'dataset')
    assert found['rows'][0]['num_images'] == sum(entry['split'] == 'test' for entry in index.frames)


def copy_without(source, target, *starts):
    store = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([source], default_typestore=store) as reader, BagWriter(target) as writer:
        for connection, log_ns, content in reader.messages():
            if not connection.topic.startswith(starts):
                writer.write_raw(connection.topic, connection.msgtype, content, log_ns)
    return target


def topics_of(bag, kind):
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        return tuple(connection.topic for connection in reader.connections if kind in connection.msgtype)


def test_bags_that_cannot_be_used_get_one_line_and_leave_nothing(data, tmp_path, capsys):
    out = tmp_path / 'model'
    bag = data / 'drive'
    blind = copy_without(bag, data / 'no_camera', *topics_of(bag, 'Image'))
    deaf = copy_without(bag, data / 'no_lidar', *topics_of(bag, 'PointCloud2'))
    for arguments, text in (
        (command(data, out, bags=(blind.name,)), 'has no image'),
        (command(data, out, bags=(deaf.name,)), 'no lidar in'),
        (command(data, out, bags=('nothing',)), 'nothing'),
        (command(data, out, '--checkpoint', bag), 'checkpoint'),
        (command(data, out, '--checkpoint', 'x.onnx'), 'is an export'),
        (command(data, out, '--also', data / 'nothing'), 'nothing'),
        (command(data, out, '--also', deaf), "no_lidar' (--also) has no lidar"),
        (command(data, out, '--replay', data / 'nothing'), "nothing' is no complete folder of samples"),
        (command(data, out, '--set', 'run.steps=5'), 'run.steps cannot be set here'),
        (command(data, out, '--set', 'data.left_out=[x]'), 'data.left_out cannot be set here'),
        (command(data, out, '--set', 'run.stepps=5'), 'unknown parameter'),
    ):
        assert text in error_line(capsys, arguments)
        assert not out.exists()


def test_a_recording_that_is_too_short_says_so(data, tmp_path, capsys):
    out = tmp_path / 'model'
    assert 'no frame is left for' in error_line(capsys, command(data, out, '--gap', '5'))
    assert not list(out.glob('*.safetensors'))


def test_a_folder_with_other_files_stays_as_it_is(data, tmp_path, capsys):
    (tmp_path / 'thesis.txt').write_text('precious')
    for more in ((), ('--overwrite',)):
        assert 'holds other files' in error_line(capsys, command(data, tmp_path, *more))
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_overwriting_takes_away_no_more_than_the_results(data, adapted, tmp_path, capsys):
    out = tmp_path / 'model'
    shutil.copytree(adapted, out)
    (out / 'adapted.onnx').write_text('made of it')
    inside = ('--overwrite', '--replay', out / 'work' / 'dataset')
    assert 'part of what --overwrite would remove' in error_line(capsys, command(data, out, *inside))
    assert (out / 'report.html').is_file()
    assert main(command(data, out, '--overwrite', '--steps', '8')) in (0, 2)
    assert (out / 'adapted.onnx').read_text() == 'made of it'
    request = json.loads((out / 'work' / 'request.json').read_text())
    assert (request['minutes or steps'], request['replay']) == (8, None)


def test_other_bags_of_one_name_are_told_apart(tmp_path):
    bags = [tmp_path / 'a' / 'rec', tmp_path / 'b' / 'rec', tmp_path / 'b' / 'other']
    assert list(before_after._told_apart(bags).values()) == ['a/rec', 'b/rec', 'b/other']
    assert list(before_after._told_apart(bags[1:]).values()) == ['rec', 'other']
    assert before_after._told_apart([]) == {}


def test_a_full_disk_keeps_what_was_done(data, adapted, tmp_path):
    out = tmp_path / 'model'
    shutil.copytree(adapted, out, symlinks=True)
    for name in ('tuned', 'after'):
        (out / 'work' / f'{name}.safetensors').unlink()
    size = (out / 'work' / 'run' / 'last.safetensors').stat().st_size + 1_000_000
    shutil.rmtree(out / 'work' / 'run')
    # No file may be larger than a checkpoint, and the state to resume from is.
    limited = (
        f'import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); '
        'from depth_ros_training.cli.main import main; sys.exit(main(sys.argv[1:]))'
    )
    arguments = command(data, out, '--replay', data / 'known samples', '--also', data / 'small')
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', limited, *map(str, arguments)], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-3000:]
    assert 'Traceback' not in done.stderr
    assert 'cannot write' in done.stderr
    assert (out / 'work' / 'dataset' / 'index.jsonl').is_file()
    assert main(arguments) == 0
    assert (out / 'adapted.safetensors').is_file()


@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_file_of_the_dataset_is_named_in_one_line(adapted, tmp_path, capsys, workers):
    dataset = tmp_path / 'dataset'
    shutil.copytree(adapted / 'work' / 'dataset', dataset)
    for image in (dataset / 'drive' / 'image_02' / 'data').iterdir():
        image.write_bytes(image.read_bytes()[:300])
    config = tmp_path / 'config.yaml'
    config.write_text(
        f'data: {{sources: [1 dataset dataset train], validation: [1 samples {adapted / "work" / "validation"}], '
        f'crop_height: 64, crop_width: 128, batch: 2, workers: {workers}}}\nrun: {{steps: 2, threads: 1}}'
    )
    arguments = ['fit', '--config', str(config), '--data', str(tmp_path), '--out', str(tmp_path / 'run'), '--quiet']
    line = error_line(capsys, arguments)
    assert re.search(r'image_02/data/[0-9]+[.]jpg. is missing, damaged', line)


def test_without_weights_a_checkpoint_has_to_be_named(data, tmp_path, monkeypatch, capsys):
    from depth_ros_training.cli import adapt_command

    missing = tmp_path / 'none.safetensors'
    monkeypatch.setattr(module, 'CHECKPOINT', missing)
    monkeypatch.setattr(adapt_command, 'CHECKPOINT', missing)
    arguments = ['adapt', str(data / 'drive'), '--out', str(tmp_path / 'model'), *SHORT]
    assert 'name a checkpoint to start from' in error_line(capsys, arguments)
