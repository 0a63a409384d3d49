import dataclasses
import json
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')

from training_scenes import HEIGHT, WIDTH, rig_scene, scene, write_scenes

from depth_ros.errors import OutputError, RecordingError, SettingsError
from depth_ros.geometry.projection import ProjectedPoints
from depth_ros.messages.image import decode_file
from depth_ros.networks.layout import DISTANCE, LINEAR, REACHED
from depth_ros.types import Camera, SparseDepth
from depth_ros_training.cli.main import main
from depth_ros_training.data import virtual_lidar
from depth_ros_training.data.datasets import StepSampler, ViewDataset, read_data, read_source
from depth_ros_training.data.importers import read_frame
from depth_ros_training.data.sample import Sample, empty_points, split_points
from depth_ros_training.data.store import SampleFolder, SampleWriter, fingerprint
from depth_ros_training.data.views import choose_given, make_view
from depth_ros_training.engine.validation import Cases, figures, score, std_correction
from depth_ros_training.settings import DataSettings, TrainingSettings, ViewSettings, load

STILL = ViewSettings(color=0.0, gray=0.0, blur=0.0, noise=0.0, miscalibrated=0.0, outliers=0.0, no_lidar=0.0)


def test_samples_survive_the_disk(tmp_path):
    write_scenes(tmp_path / 'a', 2)
    folder = SampleFolder(tmp_path / 'a')
    found, expected = folder[1], scene(1)
    assert len(folder) == 2
    assert found.name == 'scene_1'
    np.testing.assert_array_equal(found.points.depth, expected.points.depth)
    np.testing.assert_array_equal(found.ring, expected.ring)
    assert np.abs(found.image.astype(int) - expected.image).mean() < 5  # JPEG
    assert found.camera.matrix.tolist() == expected.camera.matrix.tolist()


def test_frames_are_seen_as_their_pixels_are_stored(tmp_path):
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:30] = 255
    jpeg = cv2.imencode('.jpg', pixels)[1].tobytes()
    # A tag that tells viewers to turn the image upside down: points and calibration know nothing of it.
    tag = b'Exif\0\0II*\0' + struct.pack('<IHHHIII', 8, 1, 0x0112, 3, 1, 3, 0)
    turned = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(tag) + 2) + tag + jpeg[2:]
    for name in ('image.jpg', 'right.jpg'):
        (tmp_path / name).write_bytes(turned)
    matrix = [[80, 0, 50], [0, 80, 30], [0, 0, 1]]
    calibration = {
        'K': matrix, 'right_K': matrix, 'left_from_right_baseline_m': 0.5, 'drive_or_place': 'drive',
        'camera_from_lidar': np.eye(4)[[1, 2, 0, 3]].tolist(),
    }  # fmt: skip
    (tmp_path / 'calib.json').write_text(json.dumps(calibration))
    np.savez(tmp_path / 'points.npz', points=np.random.default_rng(0).uniform(3, 9, (100, 3)).astype(np.float32))
    sample = read_frame(tmp_path)
    seen, _ = decode_file(np.frombuffer(turned, np.uint8))
    for image in (sample.image, sample.others[0].image):
        assert image[:20].mean() == pytest.approx(seen[:20].mean()) == pytest.approx(255, abs=1)


def test_dense_truth_survives_the_disk_within_half_precision(tmp_path):
    write_scenes(tmp_path / 'a', 1, lidar=False)
    np.testing.assert_allclose(SampleFolder(tmp_path / 'a')[0].truth, scene(0, lidar=False).truth, rtol=1e-3)


@pytest.mark.parametrize('exact', [True, False])
def test_whether_truth_is_exact_survives_the_disk(tmp_path, exact):
    with SampleWriter(tmp_path / 'a') as writer:
        writer.add(dataclasses.replace(scene(0, lidar=False), exact=exact))
    assert SampleFolder(tmp_path / 'a')[0].exact is exact


def test_samples_of_earlier_releases_are_judged_by_points(tmp_path):
    """They do not say whether their truth is exact."""
    with SampleWriter(tmp_path / 'a') as writer:
        writer.add(dataclasses.replace(scene(0), truth=scene(0, lidar=False).truth, exact=True))
    path = tmp_path / 'a' / '000000.npz'
    with np.load(path) as stored:
        content = {name: value for name, value in stored.items() if name != 'exact'}
    np.savez(path, **content)
    sample = SampleFolder(tmp_path / 'a')[0]
    assert sample.truth is not None
    assert not sample.exact
    case = Cases([sample], [2])[0]
    assert len(case.judging) == len(case.withheld) < len(sample.points)


def test_the_fingerprint_is_of_what_samples_hold(tmp_path):
    write_scenes(tmp_path / 'a', 2)
    write_scenes(tmp_path / 'same', 2)
    found = SampleFolder(tmp_path / 'a').fingerprint
    assert SampleFolder(tmp_path / 'same').fingerprint == found
    index = tmp_path / 'a' / 'index.json'
    entries = json.loads(index.read_text())
    for entry in entries:
        del entry['sha256']  # as earlier releases wrote it
    index.write_text(json.dumps(entries))
    assert SampleFolder(tmp_path / 'a').fingerprint == found
    content = bytearray((tmp_path / 'a' / '000001.npz').read_bytes())
    content[-200] ^= 1
    (tmp_path / 'a' / '000001.npz').write_bytes(content)
    assert SampleFolder(tmp_path / 'a').fingerprint != found
    (tmp_path / 'a' / '000001.npz').unlink()
    with pytest.raises(RecordingError, match=r'000001\.npz'):
        SampleFolder(tmp_path / 'a')


def test_the_fingerprint_of_folders_is_of_names_and_contents(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'image.jpg').write_bytes(b'one')
    first = fingerprint([tmp_path / 'a'])
    assert fingerprint([tmp_path / 'a']) == first != fingerprint([tmp_path / 'b'])
    (tmp_path / 'a' / 'image.jpg').write_bytes(b'two')
    assert fingerprint([tmp_path / 'a']) != first
    with pytest.raises(RecordingError, match='nowhere'):
        fingerprint([tmp_path / 'nowhere'])


def test_an_interrupted_writer_leaves_no_folder_that_looks_complete(tmp_path):
    def interrupted():
        with SampleWriter(tmp_path / 'a') as writer:
            writer.add(scene(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(RecordingError, match='no complete folder'):
        SampleFolder(tmp_path / 'a')


def test_nothing_is_left_of_a_folder_that_got_no_sample(tmp_path, capsys):
    assert main(['cache', str(tmp_path / 'nowhere'), '--out', str(tmp_path / 'a')]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / 'a').exists()


def test_a_folder_is_not_written_over(tmp_path):
    write_scenes(tmp_path / 'a', 1)
    with pytest.raises(OutputError, match='holds samples already'):
        SampleWriter(tmp_path / 'a')


def test_a_damaged_sample_is_named(tmp_path):
    write_scenes(tmp_path / 'a', 1)
    path = tmp_path / 'a' / '000000.npz'
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordingError, match=r'000000\.npz'):
        SampleFolder(tmp_path / 'a')[0]


def test_no_point_is_both_given_and_judging():
    sample = scene(0)
    given = choose_given(sample, STILL, np.random.default_rng(3))
    inputs, withheld = split_points(sample.points, given, sample.camera.shape, 0.08, 0.03)
    assert len(inputs) > 50
    assert len(withheld) > 50
    pixels = {*zip(inputs.row, inputs.column, strict=True)}
    assert not pixels & {*zip(withheld.row, withheld.column, strict=True)}


@pytest.mark.parametrize('seed', range(12))
def test_views_keep_image_points_and_truth_together(seed):
    # The image is the depth: red holds whole metres, so each measurement can be read off the image.
    sample = scene(5, lidar=False)
    image = np.repeat(np.uint8(np.rint(sample.truth * 6))[..., None], 3, axis=2)
    sample = dataclasses.replace(sample, image=image)
    view = make_view(sample, (64, 128), STILL, np.random.default_rng(seed))
    depth = view.target * view.input.scale
    seen = view.input.image[..., 0] / 6.0
    error = np.abs(seen - depth)
    # Only next to edges, where the image is interpolated and depth is not, may they differ.
    assert np.nanmedian(error) < 0.15
    assert np.mean(error[np.isfinite(error)] < 0.5) > 0.85
    if view.input.guide[..., REACHED].max() > 0:
        measured = view.input.scale / view.input.guide[..., LINEAR]
        close = view.input.guide[..., DISTANCE] < 1 + 0.3 / 8  # within 0.3 px of a measurement
        assert close.sum() > 0
        assert np.median(np.abs(measured - depth)[close]) < 0.05 * np.median(depth[close])


@pytest.mark.parametrize(('min_share', 'largest'), [(0.5, 0.75), (0.25, 1.3)])
def test_large_images_are_seen_at_their_own_size_where_a_view_may_show_less_of_them(min_share, largest):
    camera = Camera(1280, 720, 700.0, 700.0, 639.5, 359.5)
    image, none = np.zeros((720, 1280, 3), np.uint8), np.zeros(0, np.int16)
    sample = Sample('large', 'large', image, camera, empty_points(), none)
    settings = dataclasses.replace(STILL, flip=0.0, min_zoom=0.7, max_zoom=1.3, min_share=min_share)
    views = (make_view(sample, (224, 480), settings, np.random.default_rng(seed)) for seed in range(30))
    zooms = [1 / float(view.input.rays[0, 1, 0] - view.input.rays[0, 0, 0]) / 700.0 for view in views]
    assert 0.7 <= min(zooms) < 0.76
    assert 0.94 * largest < max(zooms) < 1.01 * largest


def test_a_view_beside_all_that_a_fisheye_shows_has_no_directions():
    camera = Camera(1280, 960, 250.0, 250.0, 639.5, 479.5, '', 'equidistant', np.zeros(4))
    image = np.full((960, 1280, 3), 90, np.uint8)
    sample = Sample('f', 'f', image, camera, empty_points(), np.zeros(0, np.int16))
    settings = ViewSettings(max_zoom=3.0, min_share=0.2)
    seen = [make_view(sample, (224, 480), settings, np.random.default_rng(seed)).input.rays for seed in range(60)]
    assert all(np.isfinite(rays).all() for rays in seen)
    assert any((rays == rays[0, 0]).all() for rays in seen)


def test_flipped_views_look_the_other_way():
    sample = scene(5)
    settings = dataclasses.replace(STILL, flip=1.0, min_zoom=1.0, max_zoom=1.0)
    view = make_view(sample, (HEIGHT, WIDTH), settings, np.random.default_rng(0))
    np.testing.assert_array_equal(view.input.image, sample.image[:, ::-1])
    rays = view.input.rays[0, :, 0]
    assert rays[0] < 0 < rays[-1]
    known = np.isfinite(view.target)
    truth = np.full(known.shape, np.nan, np.float32)
    truth[sample.points.v.astype(int), sample.points.u.astype(int)] = sample.points.depth
    np.testing.assert_allclose((view.target * view.input.scale)[known], truth[:, ::-1][known], rtol=1e-5)


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('exact', [True, False])
def test_where_exact_truth_has_no_depth_there_is_the_sky(exact, flip):
    truth = np.full((64, 128), 20.0, np.float32)
    truth[:30, :50] = np.nan
    truth[40:, 100:] = 300.0  # farther than what judges, but there
    truth[40:, :30] = np.inf  # farther than a dataset can say
    image, none = np.zeros((64, 128, 3), np.uint8), np.zeros(0, np.int16)
    camera = Camera(128, 64, 100.0, 100.0, 63.5, 31.5)
    sample = Sample('street', 'street', image, camera, empty_points(), none, truth, exact=exact)
    settings = dataclasses.replace(STILL, flip=flip, min_zoom=1.0, max_zoom=1.0)
    view = make_view(sample, (64, 128), settings, np.random.default_rng(0))
    sky = np.isnan(truth[:, ::-1] if flip else truth).astype(np.float32)
    np.testing.assert_array_equal(view.sky, sky if exact else np.full_like(sky, np.nan))
    assert not np.isinf(view.target).any()
    assert sample.true_points().depth.max() == 300


@pytest.mark.parametrize('seed', range(4))
def test_a_lidar_does_not_judge_what_is_known_to_be_sky(seed):
    sample = scene(0)
    sample = dataclasses.replace(sample, truth=np.full(sample.camera.shape, np.nan, np.float32), exact=True)
    view = make_view(sample, (64, 128), ViewSettings(no_lidar=0.0, virtual=0.0), np.random.default_rng(seed))
    assert (view.sky == 1).all()
    assert not np.isfinite(view.target).any()


def test_shade_falls_on_images_alone():
    sample = scene(5)
    settings = dataclasses.replace(STILL, flip=0.0, min_zoom=1.0, max_zoom=1.0)
    shaded = dataclasses.replace(settings, shade=1.0)
    factors = []
    for seed in range(20):
        view, plain = (
            make_view(sample, (HEIGHT, WIDTH), each, np.random.default_rng(seed)) for each in (shaded, settings)
        )
        bright = (sample.image > 60).all(axis=2) & (view.input.image < 255).all(axis=2)
        factors.append(view.input.image[bright].mean(axis=1) / sample.image[bright].mean(axis=1))
        np.testing.assert_array_equal(plain.input.image, sample.image)
        np.testing.assert_array_equal(np.isfinite(view.target), np.isfinite(plain.target))
        np.testing.assert_array_equal(view.input.rays, plain.input.rays)
    # Some of an image is darker than the rest of it by a factor, which differs between images.
    contrasts = [np.percentile(each, 98) / np.percentile(each, 2) for each in factors]
    assert np.median(contrasts) > 1.3
    assert max(contrasts) < 10


def test_mirrors_change_how_things_look_and_not_what_is_sky():
    truth = np.full((64, 128), 20.0, np.float32)
    truth[:16] = np.nan
    image, none = np.full((64, 128, 3), 50, np.uint8), np.zeros(0, np.int16)
    camera = Camera(128, 64, 100.0, 100.0, 63.5, 31.5)
    sample = Sample('street', 'street', image, camera, empty_points(), none, truth, exact=True)
    settings = dataclasses.replace(STILL, flip=0.0, min_zoom=1.0, max_zoom=1.0, mirrors=1.0)
    changed = []
    for seed in range(20):
        view = make_view(sample, (64, 128), settings, np.random.default_rng(seed))
        changed.append((view.input.image != image).any(axis=2))
        np.testing.assert_array_equal(view.sky, np.isnan(truth))
        np.testing.assert_array_equal(np.isfinite(view.target), np.isfinite(truth))
    # Beside the sky a mirror could not be told from it.
    assert not np.any(changed, axis=0)[:17].any()
    shares = np.mean(changed, axis=(1, 2))
    assert 0.01 < np.median(shares) < 0.4
    # Where the sky is not known nothing is to be taken for none of it.
    recorded = dataclasses.replace(sample, exact=False)
    view = make_view(recorded, (64, 128), settings, np.random.default_rng(0))
    np.testing.assert_array_equal(view.input.image, image)


def test_depth_without_a_unit_is_not_learned_without_lidar():
    sample = dataclasses.replace(scene(5, lidar=False), metric=False)
    settings = dataclasses.replace(STILL, no_lidar=1.0)
    view = make_view(sample, (64, 128), settings, np.random.default_rng(0))
    assert not np.isfinite(view.target).any()


def test_a_virtual_lidar_measures_what_is_there():
    sample = scene(1, lidar=False)
    for draw in (virtual_lidar.spinning, virtual_lidar.rosette):
        points, ring = draw(sample.truth, sample.camera, np.random.default_rng(0))
        assert len(points) > 20
        row, column = np.floor(points.v + 0.5).astype(int), np.floor(points.u + 0.5).astype(int)
        np.testing.assert_array_equal(points.depth, sample.truth[row, column])
        assert len(ring) == len(points)


def test_truth_behind_a_measurement_does_not_judge_but_the_measurement_does():
    truth = np.full((64, 128), 20.0, np.float32)
    truth[30:, 60:] = 6.0
    # Nearer than what its pixel shows, as on a board of a fence; farther, as behind an edge; and one that agrees.
    points = ProjectedPoints(
        np.float32([50, 90, 20]), np.float32([20, 50, 10]), np.float32([8, 20, 20]), np.arange(3, dtype=np.int32),
        np.zeros((3, 2), np.float32),
    )  # fmt: skip
    camera = Camera(128, 64, 100.0, 100.0, 63.5, 31.5)
    sample = Sample('fence', 'fence', np.zeros((64, 128, 3), np.uint8), camera, points, np.zeros(3, np.int16), truth)
    settings = dataclasses.replace(STILL, virtual=0.0, flip=0.0, min_zoom=1.0, max_zoom=1.0)
    view = make_view(sample, (64, 128), settings, np.random.default_rng(0))
    expected = truth.copy()
    expected[16:25, 46:55] = np.nan
    expected[20, 50] = 8.0  # the measurement, which is not given
    np.testing.assert_allclose(view.target * view.input.scale, expected, rtol=1e-6)


def test_views_are_a_function_of_their_number(tmp_path):
    write_scenes(tmp_path / 'a', 3)
    settings = TrainingSettings(data=DataSettings(sources=['1 samples a'], crop_height=64, crop_width=128))
    first, second = (ViewDataset(read_data(settings, tmp_path)[0], settings) for _ in range(2))
    for key, value in first[7].items():
        np.testing.assert_array_equal(value, second[7][key])
    assert not np.array_equal(first[7]['image'], first[8]['image'])


def test_processes_share_the_views_of_a_step_whatever_their_number():
    def numbers(processes, done):
        each = [list(StepSampler(3, 4, rank, processes, lambda: done)) for rank in range(processes)]
        share = 4 // processes
        return [sorted(n for part in each for n in part[step * share : (step + 1) * share]) for step in range(3)]

    assert numbers(1, 6) == numbers(2, 6) == numbers(4, 6)
    assert numbers(1, 0)[-1][-1] + 1 == numbers(1, 3)[0][0]


def test_recordings_are_held_out_whole(tmp_path):
    write_scenes(tmp_path / 'a', 3)
    settings = TrainingSettings(data=DataSettings(sources=['1 samples a'], held_out=['scene_1']))
    sources, validation, _ = read_data(settings, tmp_path)
    assert list(sources[0].groups) == ['scene_0', 'scene_2']
    assert [sample.name for sample in validation] == ['scene_1']
    settings = TrainingSettings(data=DataSettings(sources=['1 samples a'], held_out=['elsewhere']))
    with pytest.raises(SettingsError, match='elsewhere'):
        read_data(settings, tmp_path)


def test_validation_takes_so_many_images_and_no_others_of_their_scenes(tmp_path):
    stereo = rig_scene(0)[0]
    with SampleWriter(tmp_path / 'a') as writer:
        for number in range(7):
            writer.add(dataclasses.replace(stereo, name=str(number)))
    settings = DataSettings(sources=['1 samples a'], validation=['1 samples a'], validation_images=3)
    _, validation, _ = read_data(TrainingSettings(data=settings), tmp_path)
    assert [sample.name for sample in validation] == ['0', '3', '6']
    assert stereo.others
    assert not any(sample.others for sample in validation)


@pytest.mark.parametrize(
    'text', ['', 'samples a', '1 bag a', '1 frames a', 'much samples a', '-1 samples a', 'nan samples a']
)
def test_a_malformed_source_is_refused(text, tmp_path):
    with pytest.raises(SettingsError, match='data source'):
        read_source(text, tmp_path)


def test_unknown_keys_of_a_configuration_are_refused(tmp_path):
    path = tmp_path / 'c.yaml'
    path.write_text('optimizer:\n  learning_rat: 1e-3\n')
    with pytest.raises(SettingsError, match=r"learning_rat'; did you mean 'optimizer.learning_rate'"):
        load(path)


def test_no_case_with_lidar_is_judged_without_it():
    sample = scene(0)
    for num_rings, thinnings in ((4, [2, 4, 0]), (8, [2, 4, 8, 0]), (32, [2, 4, 8, 16, 0])):
        cases = list(Cases([dataclasses.replace(sample, ring=(sample.ring * num_rings // 32).astype(np.int16))]))
        assert [case.thinning for case in cases] == thinnings
        assert all(len(case.given) for case in cases[:-1])
        assert not len(cases[-1].given)


@pytest.mark.parametrize('factor', [0.1, 1.0, 7.0])
def test_the_correction_of_deviations_makes_them_honest(factor):
    rng = np.random.default_rng(0)
    depth = np.full((100, 200), 20.0, np.float32)
    row, column = (grid.ravel() for grid in np.mgrid[:100, :200])
    truth = (20.0 + rng.normal(0, 0.5, depth.size)).astype(np.float32)
    values = column.astype(np.float32), row.astype(np.float32), truth, np.full(depth.size, 0.03, np.float32)
    withheld = SparseDepth(*values, depth.shape)
    std = np.full_like(depth, 0.5 * factor)
    correction = std_correction({4: score(depth, std, withheld)})
    assert correction == pytest.approx(1 / factor, rel=0.015)
    corrected = figures({4: score(depth, std * np.float32(correction), withheld)})
    assert corrected['within_1_sigma_4'] == pytest.approx(0.683, abs=0.03)
    assert corrected['within_2_sigma_4'] == pytest.approx(0.954, abs=0.02)
    assert corrected['mae_4'] == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=0.02)


def test_deviations_of_errors_with_long_tails_miss_both_shares_by_as_much():
    rng = np.random.default_rng(0)
    depth = np.full((200, 300), 20.0, np.float32)
    row, column = (grid.ravel() for grid in np.mgrid[:200, :300])
    truth = (20.0 + 0.3 * rng.standard_t(2.5, depth.size)).clip(1, 70).astype(np.float32)
    values = column.astype(np.float32), row.astype(np.float32), truth, np.full(depth.size, 0.03, np.float32)
    sums = {4: score(depth, np.ones_like(depth), SparseDepth(*values, depth.shape))}
    found = figures(sums, std_correction(sums))
    missed = found['within_1_sigma_4'] - 0.6827, found['within_2_sigma_4'] - 0.9545
    assert missed[0] == pytest.approx(-missed[1], abs=0.005)
    assert missed[0] > 0.01


def test_images_count_alike_for_deviations_however_many_points_judge_them():
    rng = np.random.default_rng(0)

    def scored(count, factor):
        depth = np.full((100, 300), 20.0, np.float32)
        row, column = (grid.ravel()[:count] for grid in np.mgrid[:100, :300])
        truth = (20.0 + rng.normal(0, 0.5, count)).astype(np.float32)
        values = column.astype(np.float32), row.astype(np.float32), truth, np.full(count, 0.03, np.float32)
        return score(depth, np.full_like(depth, 0.5 * factor), SparseDepth(*values, depth.shape))

    many_too_large, many_right = ({4: scored(a, 3.0) + scored(b, 1.0)} for a, b in ((30_000, 1500), (1500, 30_000)))
    assert std_correction(many_too_large) == pytest.approx(std_correction(many_right), rel=0.05)
    assert 0.45 < std_correction(many_right) < 0.75
