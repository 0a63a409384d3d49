"""The experiment learns from what each cell is to have and no more, goes on where it stopped, says what it found."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')
pytest.importorskip('lightning', reason='training needs lightning')

from training_scenes import pose, render

from depth_ros.bags.kitti_odometry import import_kitti_odometry
from depth_ros.types import Camera
from depth_ros_training.cli.main import main
from depth_ros_training.data.store import SampleFolder
from depth_ros_training.engine.validation import Cases
from depth_ros_training.experiments import semi_supervised as experiment
from depth_ros_training.experiments.cells import Cell
from depth_ros_training.experiments.semi_supervised import (
    cell_settings,
    divided,
    find_arms,
    make_cells,
    more_stereo,
    run_cell,
    store_arm,
    store_more_stereo,
    training_samples,
)
from depth_ros_training.experiments.small_samples import shrunk
from depth_ros_training.experiments.table import claims, markdown

BASELINE = 0.05
CAMERA = Camera(192, 96, 110.0, 110.0, 95.5, 38.0)
LIDAR_FROM_CAMERA = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # axes; both stand at one place
TINY = ['--encoder', 'conv', '--steps', '3', '--seeds', '1', '--jobs', '1']
for setting in ('crop_height=32', 'crop_width=96', 'batch=2'):
    TINY += ['--set', f'data.{setting}']


def write_frame(folder, seed, drive):
    folder.mkdir(parents=True)
    at = pose((0, 0, 0), 0.1 * seed)
    image, depth = render(CAMERA, at, seed)
    right, _ = render(CAMERA, pose((BASELINE, 0, 0)) @ at, seed)
    cv2.imwrite(str(folder / 'image.jpg'), image[:, :, ::-1])
    cv2.imwrite(str(folder / 'right.jpg'), right[:, :, ::-1])
    steps = np.rint(256 * CAMERA.fx * BASELINE / depth).astype(np.uint16)
    cv2.imwrite(str(folder / 'gt_disp.png'), steps)
    elevation, azimuth = (grid.ravel() for grid in np.meshgrid(
        np.linspace(0.25, -0.4, 24), np.linspace(0.6, -0.6, 120), indexing='ij'
    ))  # fmt: skip
    ray = np.stack([-np.tan(azimuth), -np.tan(elevation) / np.cos(azimuth)], 1)
    u, v = (ray * CAMERA.fx + [CAMERA.cx, CAMERA.cy]).T
    inside = (u >= 0) & (u < 191) & (v >= 0) & (v < 95)
    z = depth[v[inside].round().astype(int), u[inside].round().astype(int)]
    points = np.column_stack([ray[inside] * z[:, None], z]) @ np.array(LIDAR_FROM_CAMERA).T
    np.savez(folder / 'points.npz', points=points.astype(np.float32))
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3, :3] = np.transpose(LIDAR_FROM_CAMERA)
    (folder / 'calib.json').write_text(json.dumps({
        'width': 192, 'height': 96, 'K': CAMERA.matrix.tolist(), 'right_K': CAMERA.matrix.tolist(),
        'left_from_right_baseline_m': BASELINE, 'camera_from_lidar': camera_from_lidar.tolist(),
        'drive_or_place': drive, 'lidar': 'test',
    }))  # fmt: skip


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    """8 frames of two drives to train on, 2 of another to judge by."""
    folder = tmp_path_factory.mktemp('frames')
    for seed in range(10):
        write_frame(folder / 'drives' / f'{seed:03d}', seed, f'd_drive_000{0 if seed < 4 else 1 if seed < 8 else 2}')
    names = [f'drives/{seed:03d}' for seed in range(10)]
    (folder / 'splits.json').write_text(json.dumps({'train': names[:8], 'val_places': names[8:]}))
    return folder


@pytest.fixture(scope='module')
def arm_folder(frames, tmp_path_factory):
    out = tmp_path_factory.mktemp('stored')
    store_arm(find_arms([frames])[0], out)
    return out


@pytest.fixture(scope='module')
def stored(arm_folder):
    folder = SampleFolder(arm_folder / 'data' / 'real' / 'train')
    return [folder[number] for number in range(len(folder))]


def write_grey_drive(folder, seeds, right):
    """A bag of grey images with lidar."""
    cameras = (('image', 'image_0'), ('right', 'image_1'))[: 1 + right]
    for name in ('velodyne', *(camera for _, camera in cameras)):
        (folder / name).mkdir(parents=True)
    for number, seed in enumerate(seeds):
        frame = folder / 'frames' / str(number)
        write_frame(frame, seed, '')
        for name, camera in cameras:
            grey = cv2.imread(str(frame / f'{name}.jpg'), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(folder / camera / f'{number:06d}.png'), grey)
        np.load(frame / 'points.npz')['points'].tofile(folder / 'velodyne' / f'{number:06d}.bin')
    offset = np.array([[-CAMERA.fx * BASELINE], [0], [0]])
    text = []
    for name, matrix in (
        ('P0', np.hstack([CAMERA.matrix, 0 * offset])), ('P1', np.hstack([CAMERA.matrix, offset])),
        ('Tr', np.hstack([np.transpose(LIDAR_FROM_CAMERA), 0 * offset])),
    ):  # fmt: skip
        text.append(f'{name}: ' + ' '.join(map(str, matrix.ravel())))
    (folder / 'calib.txt').write_text('\n'.join(text))
    import_kitti_odometry(folder, folder / 'bag' / folder.name)
    return folder / 'bag' / folder.name


def prepare(out, *bags):
    arguments = ['--out', str(out), '--jobs', '1', '--poses', 'none', '--split', 'time', '--gap', '0']
    assert main(['prepare', *map(str, bags), *arguments]) == 0
    return out


@pytest.fixture(scope='module')
def grey(tmp_path_factory):
    """A dataset of two grey drives, both with lidar: 6 frames with right images in all splits, 6 without."""
    folder = tmp_path_factory.mktemp('grey')
    with_right = write_grey_drive(folder / 'pairs', range(6), True)
    return prepare(folder / 'dataset', with_right, write_grey_drive(folder / 'singles', range(6), False))


def facts(mode, lidar=20, points=100, seed=0):
    return {'arm': 'real', 'mode': mode, 'frames': lidar, 'points': points, 'seed': seed}


def count_lidar(samples):
    return sum(len(sample.points) > 0 for sample in samples)


def test_cells_that_tell_most_come_first(frames):
    cells = make_cells(find_arms([frames]), 3)
    assert len({cell.name for cell in cells}) == len(cells) == 48
    first = cells[:12]
    assert {cell.facts['mode'] for cell in first} == {'supervised', 'self', 'semi', 'shuffled'}
    assert {cell.facts['seed'] for cell in first} == {0, 1, 2}
    assert {cell.facts['frames'] for cell in first} == {0, 20}


def test_no_cell_learns_from_exact_depth(stored):
    assert all(sample.truth is not None for sample in stored)
    for mode in ('supervised', 'self', 'semi', 'shuffled'):
        assert all(sample.truth is None for sample in training_samples(stored, facts(mode, 100)))


def test_lidar_is_on_the_share_asked_for(stored):
    for share, count in ((1, 1), (12.5, 1), (20, 2), (100, 8)):
        semi = training_samples(stored, facts('semi', share))
        assert len(semi) == 8
        assert count_lidar(semi) == count
        supervised = training_samples(stored, facts('supervised', share))
        assert [sample.name for sample in supervised] == [sample.name for sample in semi if len(sample.points)]
    assert count_lidar(training_samples(stored, facts('self', 0, 0))) == 0
    few, many = (
        {sample.name for sample in training_samples(stored, facts('supervised', share))} for share in (20, 100)
    )
    assert few < many
    thin = training_samples(stored, facts('semi', 100, 10))
    kept = sum(len(sample.points) for sample in thin) / sum(len(sample.points) for sample in stored)
    assert 0.07 < kept < 0.13
    assert all(len(sample.ring) == len(sample.points) for sample in thin)


def test_half_of_what_is_seen_has_no_lidar_however_many_frames_have_it(stored):
    few, all_of_them = (divided(training_samples(stored, facts('semi', share))) for share in (20, 100))
    assert [len(few[name]) for name in ('labelled', 'unlabelled')] == [2, 6]
    assert [len(all_of_them[name]) for name in ('labelled', 'unlabelled')] == [8, 8]
    assert count_lidar(all_of_them['unlabelled']) == 0
    for blind, sample in zip(all_of_them['unlabelled'], all_of_them['labelled'], strict=True):
        assert blind.others == sample.others
        assert len(blind.ring) == 0
    semi, supervised = (cell_settings(facts(mode, 100), 10, 'conv', {}) for mode in ('semi', 'supervised'))
    assert [*semi.data.sources] == ['1 samples labelled', '1 samples unlabelled']
    assert [*supervised.data.sources] == ['1 samples labelled']


def test_shuffling_gives_every_frame_the_right_image_of_another(stored):
    shuffled = training_samples(stored, facts('shuffled'))
    whole = training_samples(stored, facts('semi'))
    originals = [sample.others[0].image for sample in stored]
    taken = []
    for number, (left, right) in enumerate(zip(whole, shuffled, strict=True)):
        assert np.array_equal(left.others[0].image, originals[number])
        same = [k for k, image in enumerate(originals) if np.array_equal(image, right.others[0].image)]
        assert same != [number]
        taken += same
        assert len(left.points) == len(right.points)
    assert sorted(taken) == list(range(8))


class Stopped(Exception):
    """In place of training."""


def shown(monkeypatch, arm_folder, folder, of_cell, more):
    """What a cell would be trained on: samples by the name of the part."""
    def stop(*_, **__):
        raise Stopped

    monkeypatch.setattr(experiment, 'fit', stop)
    with pytest.raises(Stopped):
        run_cell(Cell('cell', of_cell), folder, arm_folder, 10, 'conv', {}, more)
    parts = {}
    for name in ('labelled', 'unlabelled'):
        if (folder / name).exists():
            part = SampleFolder(folder / name)
            parts[name] = [part[number] for number in range(len(part))]
    return parts


@pytest.fixture(scope='module')
def further(grey, tmp_path_factory):
    return store_more_stereo([grey], tmp_path_factory.mktemp('further'))


def test_further_frames_are_all_those_with_a_right_image_and_have_nothing_else(grey, further):
    facts_of_more = more_stereo([grey], {})
    assert (facts_of_more['frames'], facts_of_more['recordings']) == (6, ['pairs'])
    samples = SampleFolder(further)
    assert [samples[number].name for number in range(len(samples))] == [f'pairs/{number:010d}' for number in range(6)]
    for number in range(6):
        sample = samples[number]
        assert (len(sample.points), len(sample.ring), sample.truth) == (0, 0, None)
        assert sample.image.shape[1] == sample.others[0].image.shape[1] == 256
        assert sample.others[0].camera_from_reference[0, 3] == pytest.approx(-BASELINE)
        for image in (sample.image, sample.others[0].image):
            assert image.std() > 10
            assert np.ptp(image, axis=2).max() <= 2, 'grey'
        assert len(sample.others) == 1


@pytest.mark.parametrize('share', [20, 100])
def test_further_frames_join_all_that_learns_from_images_and_nothing_else(
    monkeypatch, arm_folder, further, tmp_path, share
):
    names = {f'pairs/{number:010d}' for number in range(6)}
    for mode, counts in (('supervised', [0]), ('self', [6]), ('semi', [0, 6]), ('shuffled', [0, 6])):
        of_cell = facts(mode, *((0, 0) if mode == 'self' else (share,)))
        without, beside = (
            shown(monkeypatch, arm_folder, tmp_path / f'{mode}_{number}', of_cell, more)
            for number, more in enumerate((None, further))
        )
        assert [len({sample.name for sample in part} & names) for part in beside.values()] == counts
        assert beside.keys() == without.keys()
        for name, part in beside.items():
            # What the arm itself gives stays, and comes first.
            for sample, other in zip(part, without[name], strict=False):
                assert sample.name == other.name
                assert np.array_equal(sample.points.depth, other.points.depth)
                assert np.array_equal(sample.others[0].image, other.others[0].image)
            added = part[len(without[name]) :]
            assert {sample.name for sample in added} == (names if name == 'unlabelled' else set())
            assert count_lidar(added) == 0
        if 'unlabelled' in beside:
            assert count_lidar(beside['unlabelled']) == 0


def test_shuffling_takes_their_right_images_from_further_frames_too(monkeypatch, arm_folder, further, tmp_path):
    for seed in range(4):
        parts = shown(monkeypatch, arm_folder, tmp_path / str(seed), facts('shuffled', seed=seed), further)
        originals = SampleFolder(further)
        originals = {originals[number].name: originals[number] for number in range(len(originals))}
        taken = set()
        for sample in parts['unlabelled'][-6:]:
            error = {
                name: np.abs(original.others[0].image.astype(int) - sample.others[0].image).mean()
                for name, original in originals.items()
            }
            nearest = min(error, key=error.get)
            assert error[nearest] < 3, 'one of them, but for compression'
            assert nearest != sample.name
            assert np.abs(originals[sample.name].image.astype(int) - sample.image).mean() < 3
            taken.add(nearest)
        assert taken == set(originals)


def test_further_frames_are_part_of_what_an_experiment_is(frames, grey, tmp_path, capsys, monkeypatch):
    trained_on = []

    def fit(system, settings, folder, *rest, **options):
        trained_on.append(len(SampleFolder(folder / 'unlabelled')))
        return whole_fit(system, settings, folder, *rest, **options)

    whole_fit = experiment.fit
    monkeypatch.setattr(experiment, 'fit', fit)
    command = ['experiment', 'semi_supervised', '--data', str(frames), '--out', str(tmp_path / 'out'), *TINY]
    command += ['--cells', 'real_self_*']
    changed = tmp_path / 'dataset'
    shutil.copytree(grey, changed)
    further = ['--more-stereo', str(changed)]
    assert main([*command, *further]) == 0
    table = capsys.readouterr().out
    assert '1 of 16 cells are done' in table
    assert '--more-stereo dataset --seeds 1' in table
    assert '6 frames of 1 further recordings join, without lidar' in table
    assert main([*command, *further]) == 0
    assert trained_on == [8 + 6]
    index = (changed / 'index.jsonl').read_text()
    of_another = index.replace('image_03/data/0000000000', 'image_03/data/0000000001')
    assert of_another != index
    (changed / 'index.jsonl').write_text(of_another)
    for others in ([], ['--more-stereo', str(grey)], further):
        capsys.readouterr()
        assert main([*command, *others]) == 2
        assert 'holds an experiment that differs in more_stereo' in capsys.readouterr().err


def test_bad_further_frames_get_one_line(frames, grey, tmp_path, capsys):
    def line(*datasets):
        command = ['experiment', 'semi_supervised', '--data', str(frames), '--out', str(tmp_path / 'out'), *TINY]
        assert main([*command, '--more-stereo', *map(str, datasets)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len([text for text in lines if 'bringing' not in text]) == 1
        return lines[-1]

    bags = grey.parent
    (tmp_path / 'd_drive_0002').symlink_to(bags / 'pairs' / 'bag' / 'pairs')
    judging = prepare(tmp_path / 'judging', tmp_path / 'd_drive_0002')
    single = prepare(tmp_path / 'single', bags / 'singles' / 'bag' / 'singles')
    capsys.readouterr()
    assert 'is no whole dataset' in line(tmp_path)
    assert 'is named twice' in line(grey, grey.parent / 'pairs' / '..' / 'dataset')
    assert '0 frames of' in line(grey, single)
    assert 'd_drive_0002 of' in line(judging)
    assert 'would train and judge; leave out what real is judged on' in line(grey, judging)
    assert not (tmp_path / 'out' / 'data' / 'more_stereo').exists()


def test_smaller_images_keep_their_geometry(stored):
    sample = shrunk(stored[0], 208)
    camera = sample.camera
    assert sample.image.shape[:2] == camera.shape == sample.truth.shape
    column, row = (np.floor(values + 0.5).astype(int) for values in (sample.points.u, sample.points.v))
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    error = np.abs(sample.truth[row[inside], column[inside]] / sample.points.depth[inside] - 1)
    assert np.median(error) < 0.01
    assert sample.others[0].camera.fx == pytest.approx(camera.fx)


def test_the_command_fills_the_grid_piece_by_piece(frames, tmp_path, capsys):
    command = ['experiment', 'semi_supervised', '--data', str(frames), '--out', str(tmp_path / 'out'), *TINY]
    assert main([*command, '--cells', 'real_s*_f20_*']) == 0
    table = capsys.readouterr().out
    assert '3 of 16 cells are done' in table
    assert 'missing' in table
    assert '--seeds 1 --encoder conv --steps 3 --set data.' in table
    assert '3 steps of 2 crops' in table
    found = {path.parent.name: path.read_text() for path in (tmp_path / 'out' / 'cells').glob('*/result.json')}
    assert set(found) == {f'real_{mode}_f20_p100_s0' for mode in ('supervised', 'semi', 'shuffled')}
    assert json.loads(found['real_supervised_f20_p100_s0'])['frames_with_lidar'] == 2
    result = json.loads(found['real_semi_f20_p100_s0'])
    assert result['steps'] == 3
    assert result['test_frames'] == 2
    assert 0 < result['abs_rel'] < 100
    # What is done is not done again, and the rest joins it.
    assert main([*command, '--cells', '2']) == 0
    assert '4 of 16 cells are done' in capsys.readouterr().out
    for name, text in found.items():
        assert (tmp_path / 'out' / 'cells' / name / 'result.json').read_text() == text
    lines = (tmp_path / 'out' / 'table.csv').read_text().splitlines()
    assert len(lines) == 17
    assert sum(line.split(',')[5] != '' for line in lines[1:]) == 4
    assert main([*command, '--steps', '4', '--seeds', '2']) == 2
    assert 'holds an experiment that differs in num_seeds' in capsys.readouterr().err
    assert main([*command, '--cells', 'nothing']) == 2
    assert 'fits none of 16 cells' in capsys.readouterr().err


@pytest.mark.parametrize('mode', ['supervised', 'semi'])
def test_cells_of_exact_data_learn_from_lidar_and_are_judged_by_it(stored, mode):
    exact = [dataclasses.replace(sample, exact=True) for sample in stored]
    samples = training_samples(exact, facts(mode, lidar=100))
    assert not any(sample.exact for sample in samples)
    cases = list(Cases(samples, [2]))
    assert cases
    assert all(len(case.judging) for case in cases)


def test_samples_of_a_dataset_that_changed_are_made_anew(frames, tmp_path):
    data, out = tmp_path / 'real', tmp_path / 'out'
    shutil.copytree(frames, data)
    first = store_arm(find_arms([data])[0], out)
    assert store_arm(find_arms([data])[0], out) == first
    split = json.loads((data / 'splits.json').read_text())
    (data / 'splits.json').write_text(json.dumps({**split, 'train': split['train'][:4]}))
    second = store_arm(find_arms([data])[0], out)
    assert (first['train']['frames'], second['train']['frames']) == (8, 4)
    assert second['test'] == first['test']


@pytest.mark.parametrize(('option', 'value'), [('--minutes', 'inf'), ('--minutes', 'nan'), ('--cells', '²')])
def test_numbers_that_mean_nothing_are_refused(frames, tmp_path, capsys, option, value):
    words = ['experiment', 'semi_supervised', '--data', str(frames), '--out', str(tmp_path / 'out')]
    assert main([*words, option, value]) == 2
    assert repr(value) in capsys.readouterr().err or option == '--minutes'
    assert not (tmp_path / 'out').exists()


def test_a_plot_is_drawn_of_what_there_is(frames, tmp_path):
    pytest.importorskip('matplotlib', reason='the plot needs Matplotlib')
    from depth_ros_training.experiments.table import plot

    cells = make_cells(find_arms([frames]), 2)
    found = {cell.name: {'abs_rel': 0.2, 'rmse': 5.0} for cell in cells[:9]}
    plot(cells, found, tmp_path / 'plot.png')
    picture = cv2.imread(str(tmp_path / 'plot.png'))
    assert picture.shape[1] > 800
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_claims_are_counted_by_seed(frames):
    cells = make_cells(find_arms([frames]), 2)
    found = {}
    for cell in cells:
        mode, share = cell.facts['mode'], cell.facts['frames']
        worse = {'supervised': 0.1 if share < 100 else 0.0, 'semi': 0.02, 'self': 0.3, 'shuffled': 0.2}[mode]
        found[cell.name] = {'abs_rel': 0.1 + worse, 'rmse': 3 + 10 * worse, 'mae': 1.0, 'delta1': 0.9}
    lines = claims('real', cells, found)
    assert 'AbsRel, lidar on 20 % of the frames and less: in 8 of 8' in lines[0]
    assert lines[1].endswith('in 14 of 14')
    assert '1 %: +0.080' in lines[2]
    assert '100 %: -0.020' in lines[2]
    assert lines[3].endswith('in 2 of 2')
    assert '80 %, 80 %' in lines[4]
    level = {**found, 'real_supervised_f12.5_p100_s0': found['real_supervised_f100_p100_s0']}
    assert 'recovers 80 % (by seed; at least 50 % is asked for); with 1 of 2 seeds there is no gap' in (
        claims('real', cells, level)[4]
    )
    del found['real_semi_f20_p100_s0'], found['real_semi_f20_p100_s1']
    assert 'in 6 of 6, 2 missing' in claims('real', cells, found)[0]
    text = markdown(cells, found, {
        'arms': {'real': {'train': {'frames': 8, 'recordings': ['a']}, 'test': {'frames': 2, 'recordings': ['b']}}},
        'pace': {'step': 0.1}, 'steps': 3, 'encoder': 'conv', 'num_seeds': 2, 'minutes': 120, 'jobs': 2,
        'batch': 2, 'steps_asked_for': 0,
    }, 'command')  # fmt: skip
    assert '| 20 % of the frames | semi-supervised | 0 of 2 | missing | missing |' in text
    assert 'Budget: 120 minutes' in text


def test_bad_data_gets_one_line(frames, tmp_path, capsys):
    def line(*data):
        assert main(['experiment', 'semi_supervised', '--data', *map(str, data), '--out', str(tmp_path / 'o')]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len([text for text in lines if 'bringing' not in text]) == 1
        return lines[-1]

    (tmp_path / 'empty').mkdir()
    assert 'neither a dataset' in line(tmp_path / 'empty')
    assert 'one name' in line(frames, frames)
    mixed = tmp_path / 'mixed'
    mixed.mkdir()
    (mixed / 'drives').symlink_to(frames / 'drives')
    names = [f'drives/{seed:03d}' for seed in range(10)]
    (mixed / 'splits.json').write_text(json.dumps({'train': names[:3], 'val_places': names[3:5]}))
    assert 'd_drive_0000 of' in line(mixed)
    assert 'would train and judge' in line(mixed)
