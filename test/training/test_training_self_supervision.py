import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch')

import torch
from torch.autograd import gradcheck
from training_scenes import HEIGHT, WIDTH, pose, render, rig_scene, scene

from depth_ros.errors import ShapeError
from depth_ros.networks.layout import REACHED
from depth_ros.types import Camera
from depth_ros_training.data.sample import SourceImage
from depth_ros_training.data.source_views import REFERENCE, STEREO, TEMPORAL, source_views
from depth_ros_training.data.store import SampleFolder, SampleWriter
from depth_ros_training.data.views import make_view
from depth_ros_training.losses.alignment import alignment_l1, smooth
from depth_ros_training.losses.berhu import berhu, depth_error, inverse_depth_error, knee
from depth_ros_training.losses.gaussian import gaussian_nll
from depth_ros_training.losses.left_right import left_right_l1
from depth_ros_training.losses.minimum import minimum_error
from depth_ros_training.losses.smoothness import smoothness
from depth_ros_training.losses.ssim import appearance, ssim_l1, whole_windows
from depth_ros_training.losses.warp import invert, project, sample
from depth_ros_training.settings import SelfSupervisionSettings, ViewSettings

NAN = float('nan')
TARGET = torch.tensor([[[[2.0, 2.0], [NAN, 4.0]]]], dtype=torch.float64)
DEPTH = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]], dtype=torch.float64)
STILL = ViewSettings(color=0.0, gray=0.0, blur=0.0, noise=0.0, miscalibrated=0.0, outliers=0.0, no_lidar=0.0)
OTHERS = SelfSupervisionSettings(neighbors=2, margin=16)


def random(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))[None]


# Losses: numbers by hand.


def test_berhu_is_straight_inside_and_square_outside_of_its_knee():
    error = depth_error(DEPTH.log(), TARGET)
    delta = knee(error)
    assert delta.item() == pytest.approx(0.2 * 4)
    # |1 - 2| = 1 and |8 - 4| = 4 lie beyond the knee of 0.8, 0 before it.
    expected = ((1 + 0.64) / 1.6 + 0 + (16 + 0.64) / 1.6) / 3
    assert berhu(error, TARGET, delta).item() == pytest.approx(expected)
    assert berhu(error, TARGET, torch.tensor(2.0)).item() == pytest.approx((1 + 0 + (16 + 4) / 4) / 3)


def test_berhu_of_inverse_depth():
    error = inverse_depth_error(DEPTH.log(), TARGET)
    # 1 - 1/2, 0 and 1/8 - 1/4: the knee is at 0.1.
    expected = ((0.25 + 0.01) / 0.2 + (1 / 64 + 0.01) / 0.2) / 3
    assert berhu(error, TARGET, knee(error)).item() == pytest.approx(expected)


def test_the_knee_is_that_of_all_views_and_no_error_has_none():
    errors = depth_error(DEPTH.log(), TARGET), depth_error(DEPTH.log(), 3 * TARGET)
    assert knee(*errors).item() == pytest.approx(0.2 * 5)
    assert knee(errors[0], errors[0][:0]).item() == pytest.approx(0.8)
    log_depth = TARGET.nan_to_num(1.0).log().requires_grad_()
    exact = depth_error(log_depth, TARGET)
    loss = berhu(exact, TARGET, knee(exact))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert torch.isfinite(log_depth.grad).all()


def test_gaussian_likelihood_teaches_the_root_mean_square_and_leaves_the_depth_alone():
    log_std = torch.full_like(DEPTH, math.log(0.5))
    errors = (math.log(2), 0.0, math.log(2))
    expected = sum(math.log(0.5) + error**2 / (2 * 0.25) for error in errors) / 3
    assert gaussian_nll(DEPTH.log(), log_std, TARGET).item() == pytest.approx(expected)
    truth = (0.3 * torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))).exp()
    values = [
        gaussian_nll(torch.zeros_like(truth), torch.full_like(truth, math.log(std)), truth) for std in (0.25, 0.3, 0.36)
    ]
    assert values[1] < min(values[0], values[2])
    log_depth = DEPTH.log().requires_grad_()
    gaussian_nll(log_depth, log_std.requires_grad_(), TARGET).backward()
    assert log_depth.grad is None
    assert log_std.grad.abs().sum() > 0


def test_alignment_is_the_mean_difference_where_the_other_image_shows_the_pixel():
    image = torch.tensor([0.1, 0.5, 0.9, 0.2]).view(1, 1, 2, 2).repeat(1, 3, 1, 1)
    warped = image + torch.tensor([0.3, -0.1, 0.2, 0.0]).view(1, 1, 2, 2)
    seen = torch.tensor([True, True, False, True]).view(1, 1, 2, 2)
    assert alignment_l1(image, warped, seen).item() == pytest.approx((0.3 + 0.1 + 0.0) / 3)


def test_smoothing_is_a_gaussian():
    image = torch.zeros(1, 2, 15, 15, dtype=torch.float64)
    image[0, 0, 7, 7] = 1.0
    image[0, 1] = 0.7
    result = smooth(image, 1.0)
    assert result[0, 0].sum().item() == pytest.approx(1.0)
    assert (result[0, 0, 7, 8] / result[0, 0, 7, 7]).item() == pytest.approx(math.exp(-0.5))
    assert (result[0, 0, 9, 6] / result[0, 0, 7, 7]).item() == pytest.approx(math.exp(-2.5))
    torch.testing.assert_close(result[0, 1], image[0, 1])


def test_ssim_of_flat_images_and_of_the_same_image():
    image = random(2, 3, 6, 7)
    assert ssim_l1(image, image).abs().max().item() == pytest.approx(0.0, abs=1e-9)
    flat, other = torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 0.6)
    similarity = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)  # no variance: the second factor is 1
    expected = 0.85 * (1 - similarity) / 2 + 0.15 * 0.4
    assert ssim_l1(flat, other).mean().item() == pytest.approx(expected, rel=1e-4)


def test_ssim_of_a_step_in_the_middle_window():
    # 3 x 3 images; the window of the pixel in the middle is the image.
    a, b = torch.zeros(1, 1, 3, 3, dtype=torch.float64), torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    a[..., 2], b[..., 0] = 1.0, 1.0
    mean, variance, covariance = 1 / 3, 1 / 3 - 1 / 9, -1 / 9
    similarity = (2 * mean**2 + 1e-4) * (2 * covariance + 9e-4) / ((2 * mean**2 + 1e-4) * (2 * variance + 9e-4))
    # The pixel in the middle is 0 in both.
    assert ssim_l1(a, b)[0, 0, 1, 1].item() == pytest.approx(0.85 * (1 - similarity) / 2)


def test_appearance_judges_whole_windows_only():
    image, warped = torch.full((1, 1, 5, 5), 0.2), torch.full((1, 1, 5, 5), 0.2)
    warped[..., 0] = 0.9
    seen = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    seen[..., 0] = False
    assert whole_windows(seen)[0, 0].sum(dim=0).tolist() == [0, 0, 5, 5, 5]
    assert appearance(image, warped, seen).item() == pytest.approx(0.0, abs=1e-6)
    assert appearance(image, warped, torch.ones_like(seen)).item() > 0.1


def test_the_minimum_takes_the_best_image_and_leaves_out_what_does_not_move():
    def row(*values):
        return torch.tensor(values).view(1, 1, 1, -1)

    errors = torch.cat([row(0.1, 0.5, 0.3, 0.2), row(0.4, 0.2, 0.3, 0.1)], 1)
    still = torch.cat([row(0.6, 0.6, 0.2, 0.6), row(0.7, 0.55, 0.9, 0.6)], 1)
    seen = torch.ones_like(errors, dtype=torch.bool)
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    # The third pixel matches better without motion.
    assert minimum_error(errors, still, seen, both).item() == pytest.approx((0.1 + 0.2 + 0.0 + 0.1) / 4)
    assert minimum_error(errors, still, seen, first).item() == pytest.approx((0.1 + 0.5 + 0.0 + 0.2) / 4)
    seen[0, :, 0, 0] = False  # shown by neither: it does not count
    seen[0, 1, 0, 1] = False  # hidden in the better one
    assert minimum_error(errors, still, seen, both).item() == pytest.approx((0.5 + 0.0 + 0.1) / 3)


def test_samples_without_neighbours_count_as_zero_and_have_no_gradient():
    errors = random(2, 2, 3, 4).requires_grad_()
    present = torch.tensor([[True, True], [False, False]])
    loss = minimum_error(errors, errors.detach() + 1, torch.ones(2, 2, 3, 4, dtype=torch.bool), present)
    assert loss.item() == pytest.approx(errors[0].amin(dim=0).mean().item() / 2)
    loss.backward()
    assert torch.isfinite(errors.grad).all()
    assert errors.grad[1].abs().max() == 0


def test_left_right_is_the_mean_difference_of_inverse_depths():
    transformed, found = torch.tensor([[[[0.5, 0.2, 0.1]]]]), torch.tensor([[[[0.4, 0.4, 0.9]]]])
    seen = torch.tensor([[[[True, True, False]]]])
    assert left_right_l1(transformed, found, seen).item() == pytest.approx((0.1 + 0.2) / 2)


def test_smoothness_forgives_steps_where_the_image_has_them():
    log_depth = -torch.tensor([[1.0, 3.0], [1.0, 3.0]]).log().view(1, 1, 2, 2)
    flat = torch.zeros(1, 3, 2, 2)
    # Inverse depth 1 and 3, over their mean 0.5 and 1.5: a step of 1 to the right, none down.
    assert smoothness(log_depth, flat).item() == pytest.approx(1.0)
    edge = flat.clone()
    edge[..., 1] = 0.8
    assert smoothness(log_depth, edge).item() == pytest.approx(math.exp(-0.8))
    assert smoothness(log_depth, edge, eta=10.0).item() == pytest.approx(math.exp(-8.0))
    assert smoothness(log_depth + 5.0, flat).item() == pytest.approx(1.0)


IMAGES = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
SEEN = random(2, 1, 4, 5, seed=2) > 0.3
LOG_DEPTH = DEPTH.log() + 0.01


@pytest.mark.parametrize(
    ('function', 'argument'),
    [
        (lambda x: berhu(depth_error(x, TARGET), TARGET, torch.tensor(0.7)), LOG_DEPTH),
        (lambda x: berhu(inverse_depth_error(x, TARGET), TARGET, torch.tensor(0.1)), LOG_DEPTH),
        (lambda x: gaussian_nll(LOG_DEPTH, x, TARGET), -LOG_DEPTH),
        (lambda x: alignment_l1(smooth(IMAGES[0]), smooth(x), SEEN), IMAGES[1]),
        (lambda x: appearance(IMAGES[0], x, torch.ones_like(SEEN)), IMAGES[1]),
        (
            lambda x: minimum_error(x, x.detach() + 0.1, SEEN.expand(2, 3, 4, 5), SEEN[:, 0, :1, :3].flatten(1)),
            IMAGES[0],
        ),
        (lambda x: left_right_l1(x, IMAGES[1][:, :1], SEEN), IMAGES[0][:, :1]),
        (lambda x: smoothness(x, IMAGES[0]), IMAGES[1][:, :1]),
    ],
)
def test_gradients_are_right(function, argument):
    assert gradcheck(function, (argument.clone().requires_grad_(),))


# The warp: exact geometry.


def test_projection_by_hand():
    depth = torch.tensor([[[[4.0]]]])
    rays = torch.tensor([[[[0.5, -0.25]]]])
    transform = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 10.0]]])
    # (2, -1, 4), turned and moved: (5, -1, 8)
    result = project(depth, rays, transform, torch.tensor([[100.0, 200.0, 30.0, 40.0]]))
    torch.testing.assert_close(result.pixels[0, 0, 0], torch.tensor([100 * 5 / 8 + 30, 200 * -1 / 8 + 40]))
    assert result.depth.item() == pytest.approx(8.0)
    assert result.in_front.all()
    behind = project(6 * depth, rays, transform, torch.tensor([[100.0, 200.0, 30.0, 40.0]]))
    assert not behind.in_front.any()
    assert torch.isfinite(behind.pixels).all()
    there_and_back = invert(invert(transform))
    torch.testing.assert_close(there_and_back, transform)
    point = torch.tensor([2.0, -1.0, 4.0])
    moved = transform[0, :, :3] @ point + transform[0, :, 3]
    torch.testing.assert_close(invert(transform)[0, :, :3] @ moved + invert(transform)[0, :, 3], point)


def test_reading_between_pixels():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    pixels = torch.tensor([[[[1.0, 1.0], [1.5, 1.25], [3.0, 2.0], [3.2, 1.0], [-0.1, 0.0]]]])
    values, inside = sample(image, pixels)
    torch.testing.assert_close(values[0, 0, 0, :3], torch.tensor([5.0, 6.5, 11.0]))
    assert inside[0, 0, 0].tolist() == [True, True, True, False, False]


def test_gradients_of_the_warp_are_right():
    rays = random(1, 3, 4, 2) - 0.5
    transform = torch.tensor([[[1.0, 0.1, 0.0, 0.3], [-0.1, 1.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.2]]], dtype=torch.float64)
    intrinsics = torch.tensor([[6.0, 5.0, 4.1, 3.2]], dtype=torch.float64)
    image = random(1, 2, 8, 9)

    def warped(depth, image, transform):
        projection = project(depth, rays, transform, intrinsics)
        return sample(image, projection.pixels)[0], projection.depth

    depth = 2 + random(1, 1, 3, 4, seed=3)
    assert gradcheck(warped, [value.requires_grad_() for value in (depth, image, transform)])


FISHEYE = Camera(
    WIDTH, HEIGHT, 90.0, 92.0, 99.0, 40.0, model='equidistant', distortion=np.array([0.02, -0.01, 0.0, 0.0])
)
LENS = Camera(
    WIDTH, HEIGHT, 120.0, 118.0, 93.0, 45.0, model='plumb_bob', distortion=np.array([-0.2, 0.05, 0.001, -0.002, 0.0])
)


@pytest.mark.parametrize(
    ('camera', 'right_camera'), [(None, None), (LENS, None), (FISHEYE, LENS)], ids=['pinhole', 'lens', 'fisheye']
)
@pytest.mark.parametrize('slot', [STEREO, TEMPORAL, TEMPORAL + 1])
def test_images_of_a_scene_match_at_the_true_depth_and_at_no_other(camera, right_camera, slot):
    rig, depth = rig_scene(3, camera=camera, right_camera=right_camera)
    sources = source_views(rig, rig.camera, 2, 16)
    assert sources.present.tolist() == [True] * 4
    image = tensor(rig.image).permute(0, 3, 1, 2) / 255
    source = tensor(sources.images[slot]).permute(0, 3, 1, 2) / 255

    def residual(factor):
        from depth_ros.geometry.camera import rays

        directions = tensor(np.nan_to_num(rays(rig.camera)))
        projection = project(
            tensor(depth * np.float32(factor))[None],
            directions,
            tensor(sources.transforms[slot]),
            tensor(sources.intrinsics),
        )
        values, inside = sample(source, projection.pixels)
        seen = inside & (values[:, 3:] > 0.99) & projection.in_front
        # Hidden pixels match nothing; the median leaves them out.
        return (values[:, :3] - image).abs().mean(dim=1, keepdim=True)[seen].median().item(), seen.float().mean().item()

    exact, share = residual(1.0)
    assert exact < 0.006  # images have steps of 0.004
    assert share > 0.45
    assert residual(1.1)[0] > 1.5 * exact
    assert residual(0.9)[0] > 1.5 * exact
    assert residual(1.5)[0] > 3 * exact


# Views.


def test_the_reference_among_the_sources_is_the_view_itself():
    rig, _ = rig_scene(1)
    view = make_view(rig, (64, 128), STILL, np.random.default_rng(5), OTHERS)
    window = view.others.sources.images[REFERENCE, 16:-16, 16:-16]
    assert np.abs(window[..., :3].astype(int) - view.others.clean[..., :3]).max() <= 2
    assert window[..., 3].min() == 255
    assert view.others.clean[..., 3].min() == 255


@pytest.mark.parametrize('flip', [0.0, 1.0])
@pytest.mark.parametrize('camera', [None, LENS], ids=['pinhole', 'lens'])
def test_views_match_their_sources_and_partner_whatever_the_crop(flip, camera):
    rig, depth = rig_scene(2, camera=camera)
    settings = dataclasses.replace(STILL, flip=flip)
    with_truth = dataclasses.replace(rig, truth=depth)
    for seed in range(3):
        view = make_view(with_truth, (64, 128), settings, np.random.default_rng(seed), OTHERS)
        others = view.others
        dense = view.target * np.float32(view.input.scale)
        for slot in (STEREO, TEMPORAL, TEMPORAL + 1):
            projection = project(
                tensor(dense)[None],
                tensor(view.input.rays),
                tensor(others.sources.transforms[slot]),
                tensor(others.sources.intrinsics),
            )
            values, inside = sample(tensor(others.sources.images[slot]).permute(0, 3, 1, 2).float(), projection.pixels)
            error = (values[:, :3] - tensor(others.clean[..., :3]).permute(0, 3, 1, 2)).abs().mean(1, keepdim=True)
            seen = inside & (values[:, 3:] > 254)
            assert seen.float().mean() > 0.6
            assert error[seen].median() < 2.0  # of 255
        # The partner's lidar says what is seen from there.
        partner = others.partner
        known = np.isfinite(partner.target)
        assert known.sum() > 50
        fx, fy, cx, cy = others.sources.intrinsics - np.array([0, 0, 16, 16], np.float32)
        pinhole = Camera(128, 64, fx, fy, 127 - cx if flip else cx, cy)
        _, seen_there = render(pinhole, rig.others[0].camera_from_reference @ pose((0, 0, 0), 0.2), 2)
        seen_there = seen_there[:, ::-1] if flip else seen_there
        error = np.abs(partner.target * partner.input.scale - seen_there)[known] / seen_there[known]
        assert np.mean(error < 0.03) > 0.9


def test_other_images_change_nothing_in_the_view():
    for seed in range(12):
        rig, _ = rig_scene(seed % 3, lidar=seed % 4 > 0)
        plain = make_view(dataclasses.replace(rig, others=()), (64, 128), ViewSettings(), np.random.default_rng(seed))
        asked = make_view(rig, (64, 128), ViewSettings(), np.random.default_rng(seed), OTHERS)
        assert plain.others is None
        for name in ('image', 'rays', 'guide'):
            assert getattr(plain.input, name).tobytes() == getattr(asked.input, name).tobytes()
        assert plain.target.tobytes() == asked.target.tobytes()
        assert plain.input.scale == asked.input.scale


def test_what_is_not_there_is_marked():
    rig, _ = rig_scene(0, stereo=False)
    others = make_view(rig, (64, 128), STILL, np.random.default_rng(0), OTHERS).others
    assert others.partner is None
    assert others.sources.present.tolist() == [True, False, True, True]
    lonely = make_view(scene(0), (64, 128), STILL, np.random.default_rng(0), OTHERS).others
    assert lonely.sources.present.tolist() == [True, False, False, False]
    # Depth without a unit cannot be compared with a baseline in metres.
    unscaled = dataclasses.replace(rig_scene(0)[0], metric=False)
    others = make_view(unscaled, (64, 128), STILL, np.random.default_rng(0), OTHERS).others
    assert others.sources.present.tolist() == [True, False, False, False]


def test_the_partner_gets_the_points_that_the_view_gets_and_no_others():
    rig, _ = rig_scene(1)
    view = make_view(rig, (64, 128), dataclasses.replace(STILL, no_lidar=1.0), np.random.default_rng(0), OTHERS)
    assert view.input.guide[..., REACHED].max() == 0
    assert view.others.partner.input.guide[..., REACHED].max() == 0
    assert np.isfinite(view.others.partner.target).sum() > 50


@pytest.mark.parametrize('exact', [False, True])
def test_the_partner_of_a_simulated_sample_is_simulated(exact):
    rig, depth = rig_scene(1)
    view = make_view(
        dataclasses.replace(rig, truth=depth, exact=exact), (64, 128), STILL, np.random.default_rng(0), OTHERS
    )
    assert (view.exact, view.others.partner.exact) == (exact, exact)


def test_other_images_survive_the_disk(tmp_path):
    rig, _ = rig_scene(0, right_camera=LENS)
    with SampleWriter(tmp_path / 'a') as writer:
        writer.add(rig)
    found = SampleFolder(tmp_path / 'a')[0]
    assert [other.kind for other in found.others] == ['stereo', 'temporal', 'temporal']
    for other, expected in zip(found.others, rig.others, strict=True):
        np.testing.assert_array_equal(other.camera_from_reference, expected.camera_from_reference)
        assert other.offset_ns == expected.offset_ns
        assert other.camera.model == expected.camera.model
        assert np.abs(other.image.astype(int) - expected.image).mean() < 3  # JPEG


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'mono'}, 'stereo'),
        ({'camera_from_reference': np.diag([1.0, 1.0, -1.0, 1.0])}, 'rigid'),
        ({'camera_from_reference': np.eye(3)}, 'rigid'),
        ({'image': np.zeros((4, 4, 3), np.uint8)}, 'expected uint8'),
    ],
)
def test_source_images_that_make_no_sense_are_refused(changes, message):
    camera = Camera(8, 4, 5.0, 5.0, 3.5, 1.5)
    parts = {
        'image': np.zeros((4, 8, 3), np.uint8),
        'camera': camera,
        'camera_from_reference': np.eye(4),
        'kind': 'stereo',
    }
    with pytest.raises(ShapeError, match=message):
        SourceImage(**{**parts, **changes})


def test_an_image_of_one_row_has_a_gradient():
    pixels = torch.tensor([[[[0.5, 0.0], [1.5, 0.2]]]], requires_grad=True)
    values, _ = sample(torch.rand(1, 3, 1, 4), pixels)
    values.sum().backward()
    assert torch.isfinite(pixels.grad).all()
