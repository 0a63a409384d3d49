import math

import pytest

pytest.importorskip('torch', reason='training needs torch')

import torch

from depth_ros.networks.layout import GUIDE_CHANNELS, REACHED
from depth_ros_training.losses.coarse import coarse_l1
from depth_ros_training.losses.correction import correction_l1
from depth_ros_training.losses.coverage import coverage_quantile
from depth_ros_training.losses.depth_l1 import depth_l1
from depth_ros_training.losses.depth_l2 import depth_l2
from depth_ros_training.losses.gradient import STEPS, gradient_l1
from depth_ros_training.losses.laplace import laplace_nll
from depth_ros_training.losses.log_l1 import log_l1
from depth_ros_training.losses.sky import sky_cross_entropy
from depth_ros_training.losses.teacher import teacher_l1

NAN = float('nan')
DEPTH = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
TARGET = torch.tensor([[[[2.0, 2.0], [NAN, 4.0]]]])


def test_log_l1_is_the_mean_over_known_pixels():
    assert log_l1(DEPTH.log(), TARGET).item() == pytest.approx(2 * math.log(2) / 3)


def test_depth_l1_is_the_mean_absolute_error():
    assert depth_l1(DEPTH.log(), TARGET).item() == pytest.approx((1 + 0 + 4) / 3)


def test_depth_l2_is_square_inside_and_straight_outside_of_its_knee():
    # 1^2 up to the knee of 2; beyond it 2 * 2 * (4 - 2 / 2)
    assert depth_l2(DEPTH.log(), TARGET, knee=2.0).item() == pytest.approx((1 + 0 + 12) / 3)


def test_correction_counts_where_the_lidar_reaches():
    guide = torch.zeros(2, 1, 2, GUIDE_CHANNELS)
    guide[0, 0, :, REACHED] = torch.tensor([1.0, 0.0])
    correction = torch.tensor([[[[-0.2, 5.0]]], [[[3.0, 3.0]]]])
    assert correction_l1(correction, guide).item() == pytest.approx(0.2 / 2)


def test_likelihood_of_a_laplace_distribution():
    log_std = torch.full_like(DEPTH, math.log(0.5))
    errors = (math.log(2), 0.0, math.log(2))
    expected = sum(math.log(0.5) + math.sqrt(2) * error / 0.5 for error in errors) / 3
    assert laplace_nll(DEPTH.log(), log_std, TARGET).item() == pytest.approx(expected)


def test_likelihood_is_smallest_where_the_deviation_is_that_of_the_errors():
    errors = torch.distributions.Laplace(0.0, 0.3 / math.sqrt(2)).sample((1, 1, 200, 200))
    target = errors.exp()
    values = [
        laplace_nll(torch.zeros_like(target), torch.full_like(target, math.log(std)), target)
        for std in (0.2, 0.3, 0.45)
    ]
    assert values[1] < min(values[0], values[2])


def test_coverage_of_one_pixel_is_that_of_two_quantiles():
    log_std = torch.tensor([[[[math.log(0.5), math.log(0.1)], [0.0, math.log(0.5)]]]])
    # Errors are log 2 (beyond 1 deviation, within 2), nothing (counted as 1e-4), and log 2 again.
    beyond = math.log(math.log(2) / 0.5)
    first = 0.6827 * beyond + (0.9545 - 1) * (beyond - math.log(2))
    second = (0.6827 - 1) * math.log(1e-4 / 0.1) + (0.9545 - 1) * math.log(1e-4 / 0.2)
    loss = coverage_quantile(DEPTH.log(), log_std, TARGET)
    assert loss.item() == pytest.approx((2 * first + second) / 3, abs=1e-3)


def test_coverage_is_smallest_where_both_shares_are_missed_by_as_much():
    # Errors with a long tail: their standard deviation is 1.7 times the quantile of 68 %.
    torch.manual_seed(0)
    errors = torch.distributions.StudentT(3.0).sample((1, 1, 400, 400)) * 0.01
    target = errors.exp()
    stds = torch.linspace(0.005, 0.03, 101)
    nothing = torch.zeros_like(target)
    values = [coverage_quantile(nothing, torch.full_like(target, math.log(std)), target) for std in stds]
    best = stds[int(torch.stack(values).argmin())]
    within = [float((errors.abs() < times * best).float().mean()) for times in (1, 2)]
    assert within[0] - 0.6827 == pytest.approx(0.9545 - within[1], abs=0.01)
    assert within[0] > 0.69


def test_errors_count_for_coverage_as_much_larger_as_the_margin_of_their_sample_says():
    log_std = torch.tensor([[[[math.log(0.5), math.log(0.1)], [0.0, math.log(0.5)]]]])
    target = torch.tensor([[[[2.0, 2.5], [NAN, 4.0]]]])  # no error is 0, which no factor makes larger
    apart = [
        coverage_quantile(DEPTH.log(), log_std - math.log(margin), target).item() for margin in (1.0, 3.0)
    ]
    both = coverage_quantile(
        *(torch.cat([value, value]) for value in (DEPTH.log(), log_std, target)), torch.tensor([1.0, 3.0])
    )
    assert both.item() == pytest.approx(sum(apart) / 2)
    assert apart[0] != pytest.approx(apart[1])


@pytest.mark.parametrize('loss', [laplace_nll, coverage_quantile])
def test_losses_of_the_deviation_leave_the_depth_alone(loss):
    log_depth = DEPTH.log().requires_grad_()
    log_std = torch.zeros_like(DEPTH).requires_grad_()
    loss(log_depth, log_std, TARGET).backward()
    assert log_depth.grad is None
    assert log_std.grad.abs().sum() > 0
    assert log_std.grad[0, 0, 1, 0] == 0


def test_a_teacher_is_followed_everywhere():
    log_depth = DEPTH.log().requires_grad_()
    loss = teacher_l1(log_depth, torch.tensor([[[[0.0, 0.0], [0.0, 2.0]]]]))
    assert loss.item() == pytest.approx((0 + math.log(2) + math.log(4) + abs(math.log(8) - 2)) / 4)
    loss.backward()
    assert (log_depth.grad[0, 0] != 0).tolist() == [[False, True], [True, True]]


def test_the_sky_is_learned_where_it_is_known():
    logit = torch.tensor([[[[2.0, -1.0], [0.5, 3.0]]]], requires_grad=True)
    loss = sky_cross_entropy(logit, torch.tensor([[[[1.0, 0.0], [1.0, NAN]]]]))
    right = [1 / (1 + math.exp(-value)) for value in (2.0, 1.0, 0.5)]
    assert loss.item() == pytest.approx(-sum(map(math.log, right)) / 3)
    loss.backward()
    assert logit.grad.sign().tolist() == [[[[-1, 1], [-1, 0]]]]


def test_gradient_sees_shape_and_not_level():
    target = torch.arange(1.0, 17.0).view(1, 1, 1, 16).repeat(1, 1, 16, 1)
    dense = torch.ones(1)
    assert gradient_l1((3 * target).log(), target, dense).item() == pytest.approx(0.0, abs=1e-5)
    # A step of log 2 in the middle: of the 16 - s pairs at distance s, s straddle it.
    stepped = torch.where(torch.arange(16) < 8, target, 2 * target)
    expected = math.log(2) * sum(step / (16 - step) for step in STEPS) / len(STEPS)
    assert gradient_l1(stepped.log(), target, dense).item() == pytest.approx(expected, rel=1e-4)
    assert gradient_l1(stepped.log(), target, torch.zeros(1)).item() == 0.0


def test_coarse_compares_with_the_mean_of_what_is_known_in_a_cell():
    target = torch.tensor([[[[1.0, NAN, NAN, NAN], [math.e**2, NAN, NAN, NAN]]]])
    coarse = (torch.tensor([[[[4.0, 100.0]]]]),)
    assert coarse_l1(coarse, target).item() == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize('loss', [log_l1, depth_l1, depth_l2])
def test_unknown_pixels_have_no_gradient_and_known_ones_the_right_one(loss):
    log_depth = DEPTH.double().log().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: loss(value, TARGET.double()), (log_depth + 0.01,))
    loss(log_depth, TARGET.double()).backward()
    assert torch.isfinite(log_depth.grad).all()
    assert log_depth.grad[0, 0, 1, 0] == 0


@pytest.mark.parametrize('loss', [log_l1, depth_l1, depth_l2])
def test_a_batch_is_the_mean_of_its_parts_even_where_one_has_no_truth(loss):
    target = torch.cat([TARGET, torch.full_like(TARGET, NAN)])
    depth = DEPTH.repeat(2, 1, 1, 1).log()
    parts = [loss(depth[i : i + 1], target[i : i + 1]) for i in range(2)]
    assert loss(depth, target).item() == pytest.approx(float(sum(parts)) / 2)
