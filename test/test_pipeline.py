"""The pipeline: pairing, degradation by stated rules, hold-out, time that jumps."""

import math
import weakref

import numpy as np
import pytest

from depth_ros.errors import CameraError, FrameRefused, MessageError, OldTransformError, TransformError
from depth_ros.evaluation.holdout import fraction_holdout, full_holdout
from depth_ros.geometry.rigid import TransformTree, rigid
from depth_ros.pipeline import DepthPipeline, FrameQueue, estimate_depth, refusal_reason
from depth_ros.settings import from_flat
from depth_ros.types import Camera, Frame, LidarScan, Pose, SparseDepth

S = 1_000_000_000
CAMERA = Camera(64, 48, 40.0, 40.0, 32.0, 24.0, 'camera')
CAMERA_FROM_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)


class Recorder:
    """An estimator that hands back what it was given."""

    name = 'recorder'
    needs_lidar = True
    best_pixels = math.inf

    def __init__(self):
        self.sparse = None

    def estimate(self, frame, sparse):
        self.sparse = sparse
        image = sparse.to_image()
        return image, image * 0.1


def frame(stamp_ns):
    return Frame(stamp_ns, np.zeros((48, 64), np.uint8), 'mono8', CAMERA)


def wall(distance, stamp_ns, frame_id='lidar'):
    y, z = np.meshgrid(np.linspace(-0.3, 0.3, 9), np.linspace(-0.2, 0.2, 7))
    points = np.stack([np.ones(y.size), y.ravel(), z.ravel()], axis=1) * distance
    return LidarScan(stamp_ns, points.astype(np.float32), frame_id)


def make_pipeline(holdout=None, **values):
    tree = TransformTree()
    tree.add('camera', 'lidar', CAMERA_FROM_LIDAR)
    tree.add('base_link', 'lidar', np.eye(4))
    return DepthPipeline(
        from_flat({key.replace('__', '.'): value for key, value in values.items()}), tree, Recorder(), holdout
    )


def test_the_sweep_nearest_in_time_is_used_before_or_after_the_image():
    pipeline = make_pipeline()
    for distance, stamp in ((5, 10 * S), (7, 10 * S + S // 10), (9, 10 * S + S // 5)):
        pipeline.add_scan(wall(distance, stamp))
    for stamp, expected in ((10 * S + 40_000_000, 5), (10 * S + 60_000_000, 7), (10 * S + S // 4, 9)):
        estimate = pipeline.process(frame(stamp))
        assert np.nanmedian(estimate.depth) == expected
        assert estimate.basis.motion == 'assumed_static'


def test_without_poses_the_standard_deviation_grows_with_the_age_of_the_sweep():
    pipeline = make_pipeline(motion__assumed_speed=5.0, projection__range_std=0.03)
    pipeline.add_scan(wall(5, 10 * S))
    pipeline.process(frame(10 * S))
    assert pipeline.estimator.sparse.std[0] == pytest.approx(0.03)
    pipeline.process(frame(10 * S + S // 5))
    assert pipeline.estimator.sparse.std[0] == pytest.approx(np.hypot(0.03, 1.0))


def test_with_poses_points_are_moved_to_the_time_of_the_image():
    pipeline = make_pipeline()
    for i in range(30):
        pipeline.add_pose(Pose(10 * S + i * 10_000_000, rigid([i * 0.1, 0, 0], [0, 0, 0, 1]), 'odom', 'base_link'))
    pipeline.add_scan(wall(5, 10 * S))
    estimate = pipeline.process(frame(10 * S + S // 5))
    assert estimate.basis.motion == 'compensated'
    assert np.nanmedian(estimate.depth) == pytest.approx(3.0)
    assert pipeline.estimator.sparse.std[0] == pytest.approx(0.03)


def test_several_sweeps_are_put_together_where_poses_are_known_and_only_there():
    for poses, expected in ((True, 3), (False, 1)):
        pipeline = make_pipeline(pairing__scans=3)
        for i in range(30):
            if poses:
                pipeline.add_pose(Pose(10 * S + i * 10_000_000, np.eye(4), 'odom', 'base_link'))
        for i, distance in enumerate((5, 5, 5)):
            pipeline.add_scan(wall(distance, 10 * S + i * S // 10))
        assert pipeline.process(frame(10 * S + S // 10)).basis.num_scans == expected


def test_odometry_of_a_frame_that_nothing_joins_is_left_out_and_said():
    pipeline = make_pipeline()
    for i in range(30):
        pipeline.add_pose(Pose(10 * S + i * 10_000_000, rigid([i * 0.1, 0, 0], [0, 0, 0, 1]), 'odom', 'chassis'))
    pipeline.add_scan(wall(5, 10 * S))
    estimate = pipeline.process(frame(10 * S + S // 5))
    assert estimate.basis.motion == 'assumed_static'
    assert np.nanmedian(estimate.depth) == 5
    assert "'chassis'" in pipeline.odometry_unused


def test_between_poses_of_two_frames_there_is_no_motion():
    pipeline = make_pipeline()
    for i in range(20):
        parent, origin = ('odom', 0.0) if i < 10 else ('map', 100.0)
        pose = rigid([origin + i * 0.1, 0, 0], [0, 0, 0, 1])
        pipeline.add_pose(Pose(10 * S + i * S // 20, pose, parent, 'base_link'))
    pipeline.add_scan(wall(5, 10 * S + S // 5))
    estimate = pipeline.process(frame(10 * S + S // 5 + S // 2))
    assert estimate.basis.motion == 'assumed_static'
    assert np.nanmedian(estimate.depth) == 5
    pipeline.add_scan(wall(5, 10 * S + S * 3 // 5))
    estimate = pipeline.process(frame(10 * S + S * 4 // 5))
    assert estimate.basis.motion == 'compensated'
    assert np.nanmedian(estimate.depth) == pytest.approx(4.6)


def test_refusals_are_named():
    pipeline = make_pipeline(pairing__max_age=0.5)
    with pytest.raises(FrameRefused, match='no lidar has come yet') as caught:
        pipeline.process(frame(10 * S))
    assert caught.value.reason == 'no_lidar'
    pipeline.add_scan(wall(5, 10 * S))
    with pytest.raises(FrameRefused, match=r'\+1\.000 s') as caught:
        pipeline.process(frame(11 * S))
    assert caught.value.reason == 'no_lidar'
    with pytest.raises(FrameRefused) as caught:
        pipeline.process(frame(0))
    assert caught.value.reason == 'zero_stamp'
    pipeline.add_scan(wall(-5, 12 * S))
    with pytest.raises(FrameRefused, match='transform between lidar and camera') as caught:
        pipeline.process(frame(12 * S))
    assert caught.value.reason == 'no_overlap'
    pipeline.add_scan(wall(5, 13 * S, frame_id='other_lidar'))
    with pytest.raises(TransformError, match='other_lidar'):
        pipeline.process(frame(13 * S))
    pipeline.add_scan(wall(5, 14 * S))
    assert np.nanmedian(pipeline.process(frame(14 * S)).depth) == 5, 'the next good frame is answered'


@pytest.mark.parametrize(('error', 'reason'), [
    (FrameRefused('no_lidar', 'none'), 'no_lidar'), (TransformError('camera', 'lidar'), 'no_transform'),
    (OldTransformError('camera', 'lidar', 2, 1), 'old_transform'), (CameraError('none'), 'bad_camera_info'),
    (MessageError('cut off'), 'bad_points'),
])  # fmt: skip
def test_errors_have_one_name_live_and_in_the_replay(error, reason):
    assert refusal_reason(error, 'points') == reason


def test_an_estimator_that_needs_no_lidar_answers_where_there_is_none_and_says_so():
    pipeline = make_pipeline(holdout=fraction_holdout(0.1))
    pipeline.estimator.needs_lidar = False
    estimate = pipeline.process(frame(10 * S))
    assert len(pipeline.estimator.sparse) == 0
    assert (estimate.basis.num_scans, estimate.basis.num_points, estimate.basis.motion) == (0, 0, 'no_lidar')
    assert estimate.basis.without_lidar == 'no lidar has come yet'
    assert estimate.withheld is None
    pipeline.add_scan(wall(5, 10 * S))
    assert '+1.000 s older' in pipeline.process(frame(11 * S)).basis.without_lidar, 'it stopped'
    pipeline.add_scan(wall(-5, 12 * S))
    behind = pipeline.process(frame(12 * S)).basis
    assert 'none of 63 lidar points falls into the image' in behind.without_lidar
    assert (behind.num_scans, behind.num_points) == (1, 0)
    pipeline.add_scan(wall(5, 13 * S))
    good = pipeline.process(frame(13 * S)).basis
    assert good.num_points > 0
    assert not good.without_lidar, 'as soon as there is lidar, it is used'
    pipeline.add_scan(wall(5, 14 * S, frame_id='other_lidar'))
    with pytest.raises(TransformError):
        pipeline.process(frame(14 * S))
    with pytest.raises(FrameRefused, match='stamped 0'):
        pipeline.process(frame(0))


def test_all_points_withheld_is_a_refusal_of_its_own_and_they_can_score():
    pipeline = make_pipeline(holdout=full_holdout)
    pipeline.add_scan(wall(5, 10 * S))
    with pytest.raises(FrameRefused, match='63 lidar points') as caught:
        pipeline.process(frame(10 * S))
    assert caught.value.reason == 'all_withheld'
    pipeline.estimator.needs_lidar = False
    estimate = pipeline.process(frame(10 * S))
    assert len(estimate.sparse) == 0
    assert len(estimate.withheld) == 63


def test_a_bag_that_loops_starts_afresh():
    pipeline = make_pipeline()
    pipeline.add_scan(wall(5, 100 * S))
    pipeline.add_scan(wall(7, 10 * S))
    assert pipeline.num_resets == 1
    assert np.nanmedian(pipeline.process(frame(10 * S)).depth) == 7
    with pytest.raises(FrameRefused):
        pipeline.process(frame(100 * S))


def test_sweeps_that_no_image_can_need_any_more_are_let_go():
    pipeline, kept = make_pipeline(pairing__max_age=0.5, pairing__wait=0.1), weakref.WeakSet()
    for i in range(61):
        scan = wall(5 + 0.1 * i, 10 * S + i * S // 10)
        kept.add(scan)
        pipeline.add_scan(scan)
    del scan
    assert min(scan.stamp_ns for scan in kept) == 16 * S - S * 26 // 10, '0.6 s, and 2 s for what is out of order'
    late = pipeline.process(frame(14 * S))
    assert np.nanmedian(late.depth) == pytest.approx(9), 'an image that comes 2 s late gets its sweep'


def test_of_a_slow_lidar_as_many_sweeps_are_kept_as_are_put_together():
    pipeline, kept = make_pipeline(pairing__max_age=0.1, pairing__scans=3), weakref.WeakSet()
    for i in range(6):
        scan = wall(5, (10 + 5 * i) * S)
        kept.add(scan)
        pipeline.add_scan(scan)
    del scan
    assert sorted(scan.stamp_ns for scan in kept) == [25 * S, 30 * S, 35 * S]


def test_withheld_points_do_not_reach_the_estimator():
    pipeline = make_pipeline(holdout=fraction_holdout(0.5))
    scan = wall(5, 10 * S)
    pipeline.add_scan(scan)
    estimate = pipeline.process(frame(10 * S))
    given = set(zip(estimate.sparse.column.tolist(), estimate.sparse.row.tolist(), strict=True))
    withheld = set(zip(estimate.withheld.column.tolist(), estimate.withheld.row.tolist(), strict=True))
    assert given
    assert withheld
    assert not given & withheld
    assert len(given) + len(withheld) == len(scan)


def test_settings_that_change_hold_from_the_next_frame():
    pipeline = make_pipeline()
    pipeline.add_scan(wall(5, 10 * S))
    assert len(pipeline.process(frame(10 * S)).sparse)
    pipeline.settings = from_flat({'projection.min_depth': 6.0})
    with pytest.raises(FrameRefused):
        pipeline.process(frame(10 * S))


def test_an_image_waits_for_a_nearer_sweep_but_not_for_ever():
    pipeline = make_pipeline(pairing__wait=0.1)
    queue = FrameQueue(pipeline)
    for i in range(3):
        pipeline.add_scan(wall(5 + i, 10 * S + i * S // 10))
    queue.push(frame(10 * S + S * 3 // 10), now_ns=0)
    assert queue.pop(now_ns=0) is None, 'the sweep of this moment is due'
    assert queue.pop(now_ns=S // 10) is not None, 'it did not come in time'
    queue.push(frame(10 * S + S * 3 // 10), now_ns=0)
    pipeline.add_scan(wall(8, 10 * S + S * 3 // 10))
    assert queue.pop(now_ns=0) is not None, 'it came'
    queue.push(frame(10 * S + S * 33 // 100), now_ns=0)
    assert queue.pop(now_ns=0) is not None, 'none nearer is due'


def test_the_queue_is_bounded_and_counts():
    queue = FrameQueue(make_pipeline(pairing__queue_size=2))
    for i in range(5):
        queue.push(frame(10 * S + i), now_ns=0)
    assert (len(queue), queue.num_dropped) == (2, 3)
    assert queue.pop(now_ns=S).stamp_ns == 10 * S + 3


def test_who_reads_a_recording_to_use_all_of_it_drops_nothing():
    queue = FrameQueue(make_pipeline(pairing__queue_size=2), bounded=False)
    for i in range(5):
        queue.push(frame(10 * S + i), now_ns=0)
    assert (len(queue), queue.num_dropped) == (5, 0)


class Doubting(Recorder):
    """Columns from sure to unsure: the deviation is 0, 1/32, ... 2 times the depth."""

    def estimate(self, frame, sparse):
        depth = np.full(frame.camera.shape, 8.0, np.float32)
        return depth, depth * np.arange(frame.camera.width, dtype=np.float32) / 32


@pytest.mark.parametrize(('values', 'kept'), [({}, 33), ({'output.max_relative_std': 0.25}, 9)])
def test_what_is_less_sure_than_its_depth_is_unknown_unless_another_share_is_set(values, kept):
    nothing = SparseDepth(*(np.zeros(0, np.float32) for _ in range(4)), shape=CAMERA.shape)
    depth, std = estimate_depth(Doubting(), frame(0), nothing, from_flat(values))
    known = np.arange(CAMERA.width) < kept
    for found in (depth, std):
        np.testing.assert_array_equal(np.isfinite(found), np.broadcast_to(known, CAMERA.shape))
    assert (depth[:, known] == 8).all()
    kept_all, _ = estimate_depth(Doubting(), frame(0), nothing, from_flat({'output.max_relative_std': 0.0}))
    assert np.isfinite(kept_all).all()
