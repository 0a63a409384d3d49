from contextlib import closing
from functools import partial

import numpy as np
import pytest
from street import CAMERA, NUM_RINGS, PERIOD, START, panned, scan, true_depth, write_panned, write_street

from depth_ros.bags.companion import TrueDepth
from depth_ros.bags.recording import Recording
from depth_ros.errors import BagError, FrameRefused, SettingsError
from depth_ros.estimators.registry import create_estimator
from depth_ros.evaluation.evaluate import EvaluationOptions, evaluate
from depth_ros.evaluation.holdout import LidarHoldout, fraction_holdout, ring_holdout
from depth_ros.evaluation.metrics import KEYS
from depth_ros.evaluation.replay import ReplayCounts, replay
from depth_ros.geometry.rigid import TransformTree
from depth_ros.pipeline import DepthPipeline
from depth_ros.settings import Settings, from_flat
from depth_ros.types import DepthEstimate, Frame, LidarScan


def answers(bag, settings=None, method='nearest', every=1):
    settings, counts = settings or Settings(), ReplayCounts()
    with Recording(bag, settings=settings) as recording:
        pipeline = DepthPipeline(
            settings, recording.transforms, create_estimator(settings, method), fraction_holdout(0.2)
        )
        return list(replay(recording.events(), pipeline, counts, every)), counts


@pytest.mark.parametrize('method', ['classical', 'linear'])
def test_two_replays_are_equal_to_the_bit(street, method):
    first, second = answers(street, method=method)[0], answers(street, method=method)[0]
    assert len(first) == 6
    for one, other in zip(first, second, strict=True):
        assert one.depth.tobytes() == other.depth.tobytes()
        assert one.std.tobytes() == other.std.tobytes()
        assert one.withheld.depth.tobytes() == other.withheld.depth.tobytes()


def test_every_image_is_answered_in_order_and_counted(street):
    found, counts = answers(street)
    assert [answer.frame.stamp_ns for answer in found] == [START + k * PERIOD for k in range(6)]
    assert (counts.num_frames, counts.num_scans, counts.num_poses, counts.num_dropped) == (6, 6, 6, 0)
    assert len(counts.read_ns) == 6
    some, counts = answers(street, every=4)
    assert [answer.frame.stamp_ns for answer in some] == [START, START + 4 * PERIOD]
    assert counts.num_skipped == 4


def test_estimates_agree_with_the_exact_depth(street):
    for k, answer in enumerate(answers(street, method='linear')[0]):
        known = np.isfinite(answer.depth) & np.isfinite(true_depth(k))
        error = np.abs(answer.depth - true_depth(k))[known] / true_depth(k)[known]
        assert np.median(error) < 0.01
        assert not set(zip(answer.sparse.u, answer.sparse.v, strict=True)) & set(
            zip(answer.withheld.u, answer.withheld.v, strict=True))


def frame(stamp_ns):
    return Frame(stamp_ns, np.zeros(CAMERA.shape, np.uint8), 'mono8', CAMERA)


def moved(sweep, stamp_ns):
    return LidarScan(stamp_ns, sweep.points, 'lidar', None, sweep.ring)


def play(events, bag, **settings):
    chosen, counts = from_flat({name.replace('__', '.'): value for name, value in settings.items()}), ReplayCounts()
    with Recording(bag) as recording:
        pipeline = DepthPipeline(chosen, recording.transforms, create_estimator(chosen, 'nearest'))
        return list(replay(events, pipeline, counts)), counts


def test_an_image_waits_for_the_nearer_sweep_but_not_longer_than_it_may(street):
    sweep = scan(0)
    late = START + 240_000_000
    events = [
        (START, moved(sweep, START)), (START + PERIOD, moved(sweep, START + PERIOD)),
        (START + 160_000_000, frame(START + 160_000_000)), (late, moved(sweep, START + 2 * PERIOD)),
    ]
    patient, _ = play(events, street, pairing__wait=0.1)
    assert patient[0].basis.lidar_age_ns == -40_000_000  # got the sweep that came 80 ms after it
    hasty, _ = play(events, street, pairing__wait=0.05)
    # Its time was up before the sweep was logged, so it must not see it: a live node has published by then.
    assert hasty[0].basis.lidar_age_ns == 60_000_000


def test_images_that_still_wait_at_the_end_are_answered(street):
    events = [(START, moved(scan(0), START)), (START + 1, frame(START + 1))]
    found, _ = play(events, street, pairing__wait=2.0)
    assert isinstance(found[0], DepthEstimate)


def test_refusals_are_answers_with_a_reason(street):
    found, _ = play([(START, frame(START)), (START + 1, frame(0))], street)
    assert [answer.reason for answer in found] == ['no_lidar', 'zero_stamp']
    assert all(isinstance(answer, FrameRefused) for answer in found)


def test_an_unknown_frame_refuses_images_and_does_not_end_the_replay(street):
    lost = LidarScan(START, scan(0).points, 'nowhere')
    found, _ = play([(START, lost), (START + 1, frame(START + 1)), (START + 2, frame(START + 2))], street)
    assert [answer.reason for answer in found] == ['no_transform', 'no_transform']
    assert 'nowhere' in str(found[0])


def test_a_camera_on_a_joint_is_where_tf_says_at_the_time_of_each_image(street, tmp_path):
    found, _ = answers(write_panned(street, tmp_path / 'panned'))
    assert len(found) == 6
    for index, answer in enumerate(found):
        assert isinstance(answer, DepthEstimate), answer
        tree = TransformTree()
        tree.add('base_link', 'lidar', np.eye(4))
        tree.add('base_link', 'cam_optical', panned(answer.frame.stamp_ns))
        alone = DepthPipeline(Settings(), tree, create_estimator(Settings(), 'nearest'), fraction_holdout(0.2))
        alone.add_scan(scan(index))
        expected = alone.process(answer.frame).sparse
        np.testing.assert_allclose(answer.sparse.u, expected.u, atol=1e-3)
        np.testing.assert_allclose(answer.sparse.depth, expected.depth, rtol=1e-5)
        assert answer.basis.motion == 'compensated'


def test_a_joint_that_is_told_no_more_refuses_images_by_name(street, tmp_path):
    bag = write_panned(street, tmp_path / 'panned', until=START + 2 * PERIOD)
    found, _ = answers(bag, from_flat({'transforms.max_age': 0.2}))
    reasons = [answer.reason if isinstance(answer, FrameRefused) else '' for answer in found]
    assert reasons == ['', '', '', '', 'old_transform', 'old_transform']


def test_a_full_queue_drops_the_oldest_and_counts_it(street):
    events = [(START, moved(scan(0), START))] + [(START + k, frame(START + k)) for k in range(1, 5)]
    found, counts = play(events, street, pairing__wait=2.0, pairing__queue_size=2)
    assert (len(found), counts.num_dropped) == (2, 2)


def test_evaluation_scores_every_method_on_the_same_points(street):
    methods = ('linear', 'nearest', 'ip_basic')
    found = evaluate(street, Settings(), EvaluationOptions(methods=methods, input_rings=8))
    document = found.document
    assert tuple(document['methods']) == methods
    truths = {entry['points']['num_truth'] for entry in document['methods'].values()}
    assert len(truths) == 1
    for entry in document['methods'].values():
        assert tuple(entry['pooled']) == KEYS
        assert tuple(entry['per_image']) == KEYS
        assert entry['points']['num_truth'] == sum(part['num_truth'] for part in entry['by_range'])
        assert entry['pooled_common']['mae'] == pytest.approx(entry['pooled']['mae'], rel=0.05)
    assert document['methods']['linear']['pooled']['mae'] < document['methods']['nearest']['pooled']['mae']
    assert document['holdout']['lidars']['lidar']['rings'] == len(np.unique(scan(0).ring)) <= NUM_RINGS
    # A method alone is scored as it is in company.
    alone = evaluate(street, Settings(), EvaluationOptions(methods=('nearest',), input_rings=8)).document
    assert alone['methods']['nearest']['pooled'] == document['methods']['nearest']['pooled']


def test_true_depth_judges_every_pixel_that_has_one(tmp_path):
    bag = write_street(tmp_path / 'drive', truths=(0, 1, 3, 5))
    options = EvaluationOptions(methods=('linear',), input_rings=8, truth=True, max_depth=25.0)
    document = evaluate(bag, Settings(), options).document
    holdout = LidarHoldout(partial(ring_holdout, 8), [scan(0)])
    errors = []
    with Recording(bag) as recording:
        pipeline = DepthPipeline(Settings(), recording.transforms, create_estimator(Settings(), 'linear'), holdout)
        for k, answer in enumerate(replay(recording.events(), pipeline, ReplayCounts())):
            truth = true_depth(k)
            judged = truth <= 25 if k in (0, 1, 3, 5) else np.zeros_like(truth, bool)
            errors.append((answer.depth - truth)[judged])
    errors = np.concatenate(errors)
    found = document['methods']['linear']
    assert found['points']['num_truth'] == len(errors) > CAMERA.width * CAMERA.height
    known = np.isfinite(errors)
    assert found['points']['num_covered'] == known.sum() > 0
    assert found['pooled']['mae'] == pytest.approx(np.abs(errors[known]).mean(), rel=1e-4)
    assert document['judged_by'] == 'pixels of /truth/depth'
    assert '2 of 6 images have no true depth' in document['notes']


def test_true_depth_of_another_camera_judges_nothing(tmp_path):
    bag = write_street(tmp_path / 'drive', truths=(0,))
    with closing(TrueDepth(bag)) as truth, Recording(bag) as recording:
        frame = next(item for _, item in recording.events() if isinstance(item, Frame))
        with pytest.raises(BagError, match=r"true depth of 'cam_optical', and the images are of 'right_optical'; name"):
            truth.depth_at(frame.stamp_ns, 'right_optical')
    with closing(TrueDepth(bag)) as truth:
        assert truth.depth_at(frame.stamp_ns, frame.camera.frame_id) is not None


def test_without_true_depth_it_cannot_judge(street):
    with pytest.raises(BagError, match=r'no true depth \(/truth/depth\)'):
        evaluate(street, Settings(), EvaluationOptions(methods=('nearest',), truth=True))


def test_rings_of_a_bag_that_names_none_are_inferred_and_it_says_so(unposed_street, street):
    options = EvaluationOptions(methods=('nearest',), input_rings=8)
    inferred = evaluate(unposed_street, Settings(), options).document
    assert inferred['holdout']['lidars']['lidar']['inferred_from'] == 'storage order'
    assert 'inferred' in inferred['holdout']['text']
    assert inferred['counts']['motion'] == {'assumed_static': 6}
    named = evaluate(street, Settings(), options).document
    assert named['holdout']['lidars']['lidar']['inferred_from'] is None
    assert inferred['methods']['nearest']['points'] == named['methods']['nearest']['points']


def test_settings_of_the_node_hold_for_every_method(street):
    options = EvaluationOptions(methods=('nearest', 'linear'), input_rings=4)
    free = evaluate(street, Settings(), options).document['methods']
    strict = evaluate(street, from_flat({'output.max_relative_std': 0.02}), options).document['methods']
    for name in ('nearest', 'linear'):
        assert strict[name]['pooled']['coverage'] < free[name]['pooled']['coverage']


def test_common_points_are_those_that_all_cover(street):
    options = EvaluationOptions(methods=('nearest', 'linear'), input_rings=4)
    entries = evaluate(street, from_flat({'output.max_relative_std': 0.2}), options).document['methods'].values()
    common = [entry['pooled_common'] for entry in entries]
    assert common[0]['num_truth'] == common[1]['num_truth'] > 0
    assert common[0]['num_truth'] <= min(entry['points']['num_covered'] for entry in entries)
    assert common[0]['coverage'] == common[1]['coverage'] == 1


def test_max_frames_and_max_depth(street):
    options = EvaluationOptions(methods=('nearest',), max_frames=2, max_depth=10)
    document = evaluate(street, Settings(), options).document
    assert document['counts']['answered'] == 2
    assert [(part['from'], part['to']) for part in document['methods']['nearest']['by_range']] == [(0, 5), (5, 10)]


@pytest.mark.parametrize('wrong', [
    {'input_fraction': 1.0}, {'input_fraction': -0.1}, {'max_frames': -1}, {'every': 0}, {'max_depth': 0.0},
    {'methods': ('linear', 'linear')}, {'input_rings': -1}, {'ring_step': -2}, {'input_rings': 4, 'ring_step': 2},
])
def test_options_out_of_range_are_errors(wrong):
    with pytest.raises(SettingsError):
        EvaluationOptions(**wrong)


def test_a_bag_without_lidar_says_so(tmp_path):
    with pytest.raises(BagError, match='no lidar'):
        evaluate(write_street(tmp_path / 'blind', lidar=False), Settings(), EvaluationOptions())


def test_a_bag_whose_images_are_all_refused_says_why(street):
    with pytest.raises(BagError, match=r'6 x none of .* falls into the image'):
        evaluate(street, from_flat({'projection.max_depth': 1.0}), EvaluationOptions(methods=('nearest',)))
