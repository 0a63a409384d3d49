import math

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='networks need torch')

import torch

from depth_ros.errors import SettingsError
from depth_ros.estimators.learned import reference_input
from depth_ros.estimators.network import NetworkEstimator
from depth_ros.estimators.network_input import encode
from depth_ros.networks.depth_net import SIZES, SKY_LOG_STD, DepthNet
from depth_ros.networks.encoders import create_encoder
from depth_ros.networks.layout import DISTANCE, GUIDE_CHANNELS, PER_PIXEL, REACHED
from depth_ros.types import Camera, Frame, SparseDepth


def trained(size='small', encoder='conv'):
    """A network whose every layer matters, as after training."""
    torch.manual_seed(0)
    network = DepthNet(size, encoder).eval()
    for name, value in network.named_parameters():
        if name.startswith(('head', 'hidden', 'coarse')) or name.endswith('second.weight'):
            torch.nn.init.normal_(value, std=0.05)
    return network


def scaled(sparse, factor):
    depth = (sparse.depth * np.float32(factor)).astype(np.float32)
    return SparseDepth(sparse.u, sparse.v, depth, sparse.std, sparse.shape)


def nothing(shape):
    return SparseDepth(*(np.zeros(0, np.float32) for _ in range(4)), shape=shape)


@pytest.mark.parametrize('factor', [0.01, 0.37, 4.0, 250.0])
def test_depth_times_s_gives_depth_times_s(factor):
    frame, sparse = reference_input()
    estimator = NetworkEstimator.of(trained())
    depth, std = estimator.estimate(frame, sparse)
    depth_s, std_s = estimator.estimate(frame, scaled(sparse, factor))
    np.testing.assert_allclose(depth_s, depth * factor, rtol=2e-3)
    np.testing.assert_allclose(std_s, std * factor, rtol=2e-3)


def test_twice_the_focal_length_is_twice_as_far_where_no_lidar_gives_the_scale():
    frame, _ = reference_input()
    camera = frame.camera
    network = trained()
    for value in network.camera_stem.parameters():  # directions aside, which change with the focal length too
        if value.ndim == 4:
            torch.nn.init.zeros_(value[:, 3:])
    estimator = NetworkEstimator.of(network)
    longer = Camera(camera.width, camera.height, 2 * camera.fx, 2 * camera.fy, camera.cx, camera.cy)
    depth, _ = estimator.estimate(frame, nothing(camera.shape))
    depth_2, _ = estimator.estimate(Frame(1, frame.image, 'rgb8', longer), nothing(camera.shape))
    np.testing.assert_allclose(depth_2, 2 * depth, rtol=1e-4)


def test_intrinsics_enter():
    frame, sparse = reference_input()
    camera = frame.camera
    moved = Camera(camera.width, camera.height, camera.fx * 1.5, camera.fy * 1.5, camera.cx, camera.cy)
    estimator = NetworkEstimator.of(trained())
    depth, _ = estimator.estimate(frame, sparse)
    depth_2, _ = estimator.estimate(Frame(1, frame.image, 'rgb8', moved), sparse)
    assert not np.allclose(depth, depth_2)


def test_the_lidar_branch_is_absent_without_lidar():
    frame, sparse = reference_input()
    network = trained()
    estimator = NetworkEstimator.of(network)
    without, _ = estimator.estimate(frame, nothing(frame.camera.shape))
    with_lidar, _ = estimator.estimate(frame, sparse)
    torch.nn.init.normal_(network.lidar_stem.weight, std=3.0)
    torch.nn.init.normal_(network.lidar_stem.bias, std=3.0)
    np.testing.assert_array_equal(estimator.estimate(frame, nothing(frame.camera.shape))[0], without)
    assert not np.allclose(estimator.estimate(frame, sparse)[0], with_lidar)


def test_a_fresh_network_passes_through_the_measurements():
    frame, sparse = reference_input()
    depth, _ = NetworkEstimator.of(DepthNet().eval()).estimate(frame, sparse)
    error = np.abs(depth[sparse.row, sparse.column] - sparse.depth) / sparse.depth
    assert np.median(error) < 0.03


@pytest.mark.parametrize('shape', [(96, 192), (97, 193), (33, 500)])
@pytest.mark.parametrize('count', [0, 1, 2, 3, 500])
def test_any_image_size_and_number_of_points_gives_depth_everywhere(shape, count):
    rng = np.random.default_rng(0)
    camera = Camera(shape[1], shape[0], 150.0, 150.0, shape[1] / 2, shape[0] / 2)
    frame = Frame(1, rng.integers(0, 255, (*shape, 3), dtype=np.uint8), 'rgb8', camera)
    values = [rng.uniform(0, shape[1] - 1, count), rng.uniform(0, shape[0] - 1, count), rng.uniform(1, 60, count)]
    sparse = SparseDepth(*(value.astype(np.float32) for value in values), np.full(count, 0.03, np.float32), shape)
    depth, std = NetworkEstimator.of(trained()).estimate(frame, sparse)
    assert depth.shape == std.shape == shape
    assert depth.dtype == std.dtype == np.float32
    assert (depth > 0).all()
    assert (std > 0).all()


@pytest.mark.parametrize('encoding', ['bgr8', 'mono8'])
def test_other_encodings_mean_the_same_image(encoding):
    frame, sparse = reference_input()
    gray = frame.gray()
    rgb = Frame(1, np.repeat(gray[..., None], 3, axis=2), 'rgb8', frame.camera)
    other = Frame(1, gray if encoding == 'mono8' else rgb.image[..., ::-1], encoding, frame.camera)
    np.testing.assert_array_equal(encode(rgb, sparse).image, encode(other, sparse).image)


@pytest.mark.parametrize('size', SIZES)
def test_training_gives_coarse_depth_too(size):
    network = DepthNet(size).train()
    arguments = (
        torch.zeros(2, 64, 96, 3, dtype=torch.uint8), torch.zeros(2, 64, 96, 2), torch.ones(2, 64, 96, GUIDE_CHANNELS),
    )  # fmt: skip
    prediction = network(*arguments)
    assert prediction.log_depth.shape == prediction.log_std.shape == (2, 1, 64, 96)
    assert [tuple(level.shape) for level in prediction.coarse] == [(2, 1, 16, 24), (2, 1, 8, 12)]
    assert network.eval()(*arguments).coarse == ()


def test_the_sky_has_a_deviation_beyond_any_error():
    frame, sparse = reference_input()
    network = trained()
    estimator = NetworkEstimator.of(network)
    depth, std = estimator.estimate(frame, sparse)
    torch.nn.init.constant_(network.sky.last.bias[2:], 3.0)  # the lower row of every cell
    same, doubted = estimator.estimate(frame, sparse)
    np.testing.assert_array_equal(same, depth)
    np.testing.assert_allclose(doubted[::2], std[::2], rtol=1e-5)
    away = np.ones(depth.shape, np.uint8)
    away[sparse.row, sparse.column] = 0
    pixels = cv2.distanceTransform(away, cv2.DIST_L2, 5)
    sky = np.zeros(depth.shape, np.bool_)
    sky[1::2] = True
    far, measured = sky & (pixels > 3.5), sky & (pixels < 1)
    assert far.sum() > 10
    assert measured.sum() > 10
    np.testing.assert_allclose((doubted / depth)[far], math.exp(SKY_LOG_STD), rtol=1e-4)
    # Outside of the mesh the nearest measurement is known per cell of some pixels.
    assert np.isclose(doubted[measured], std[measured], rtol=1e-5).mean() > 0.95
    # Without lidar nothing is measured.
    blind, unsure = estimator.estimate(frame, nothing(depth.shape))
    np.testing.assert_allclose((unsure / blind)[1::2], math.exp(SKY_LOG_STD), rtol=1e-4)


def test_between_measurements_what_is_to_be_sky_has_to_look_more_like_it():
    frame, sparse = reference_input()
    network = trained()
    estimator = NetworkEstimator.of(network)
    _, plain = estimator.estimate(frame, sparse)
    torch.nn.init.constant_(network.sky.last.bias, 1.0)
    depth, doubted = estimator.estimate(frame, sparse)
    guide = encode(frame, sparse).guide[: depth.shape[0], : depth.shape[1]]
    far = guide[..., DISTANCE] > 1 + 3.0 * PER_PIXEL
    inside, outside = (far & (guide[..., REACHED] == reached) for reached in (1.0, 0.5))
    assert min(inside.sum(), outside.sum()) > 10
    np.testing.assert_allclose((doubted / depth)[outside], math.exp(SKY_LOG_STD), rtol=1e-4)
    halfway = (np.log(plain / depth) + SKY_LOG_STD) / 2
    np.testing.assert_allclose(np.log(doubted / depth)[inside], halfway[inside], rtol=1e-3)


@pytest.mark.parametrize('encoder', ['resnet18', 'resnet50', 'dinov2_small'])
def test_backbones_come_by_name_without_a_download(encoder, monkeypatch):
    pytest.importorskip('transformers', reason='backbones need transformers')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    network = trained(encoder=encoder)
    image = torch.randint(0, 255, (1, 64, 96, 3), dtype=torch.uint8)
    other = torch.randint(0, 255, (1, 64, 96, 3), dtype=torch.uint8)
    rest = torch.zeros(1, 64, 96, 2), torch.ones(1, 64, 96, GUIDE_CHANNELS)
    with torch.inference_mode():
        first, second = network(image, *rest), network(other, *rest)
    assert first.log_depth.shape == (1, 1, 64, 96)
    assert not torch.allclose(first.log_depth, second.log_depth)


@pytest.mark.parametrize('encoder', ['resnet18', 'dinov2_small'])
def test_all_layers_of_backbones_that_are_trained_get_a_gradient(encoder):
    """Several processes would wait for the others for ever."""
    pytest.importorskip('transformers', reason='backbones need transformers')
    backbone = create_encoder(encoder, SIZES['small'].widths[1:], pretrained=False).train()
    sum(features.square().sum() for features in backbone(torch.rand(1, 3, 64, 96))).backward()
    assert [name for name, value in backbone.named_parameters() if value.requires_grad and value.grad is None] == []


@pytest.mark.parametrize(('encoder', 'finest'), [('efficientnet_lite0', 1), ('efficientnet_lite0_at_half_size', 2)])
def test_an_encoder_at_half_size_sees_no_finer_than_two_pixels(encoder, finest):
    widths = SIZES['small'].widths[1:]
    backbone = create_encoder(encoder, widths, pretrained=False)
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        first, second = backbone(image), backbone(image.unflatten(-1, (48, 2)).flip(-1).flatten(-2))
    levels = [(maps, other) for maps, other in zip(first, second, strict=True) if maps is not None]
    for stride, width, (maps, other) in zip((4, 8, 16, 32), widths, levels, strict=False):
        assert maps.shape == (1, width, 64 // stride, 96 // stride)
        assert torch.allclose(maps, other, atol=1e-5) == (finest == 2)
    assert len(levels) == (4 if finest == 2 else 3)


def test_unknown_sizes_and_encoders_are_refused():
    with pytest.raises(SettingsError, match='small, base'):
        DepthNet('huge')
    with pytest.raises(SettingsError, match='resnet18'):
        DepthNet('small', 'alexnet')


@pytest.mark.parametrize('kind', [OSError, type('ConnectError', (Exception,), {})])
def test_weights_that_cannot_be_fetched_are_named(monkeypatch, kind):
    pytest.importorskip('transformers', reason='backbones need transformers')
    from transformers import AutoBackbone

    def fail(*_, **__):
        raise kind('no route to host')

    monkeypatch.setattr(AutoBackbone, 'from_pretrained', fail)
    with pytest.raises(SettingsError, match=r'microsoft/resnet-18.*no route to host.*pretrained: false'):
        DepthNet('small', 'resnet18', pretrained=True)


def test_no_correction_throws_a_pixel_beyond_the_depths_around_it():
    frame, sparse = reference_input()
    network = trained()
    torch.nn.init.constant_(network.head.bias, 3.0)  # a factor of 20, as on an image unlike all that were trained on
    depth, _ = NetworkEstimator.of(network).estimate(frame, sparse)
    assert depth.max() < 2.5 * sparse.depth.max()
    error = np.abs(depth[sparse.row, sparse.column] - sparse.depth) / sparse.depth
    assert np.median(error) < 0.1, 'at measurements the least'
    free, _ = NetworkEstimator.of(network).estimate(frame, nothing(frame.camera.shape))
    other, _ = NetworkEstimator.of(trained()).estimate(frame, nothing(frame.camera.shape))
    assert (free > 5 * other).all(), 'without lidar nothing limits it'
