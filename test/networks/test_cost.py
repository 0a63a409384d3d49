import pytest

pytest.importorskip('torch', reason='networks need torch')

import torch
from torch import nn

from depth_ros.networks.cost import LayerCost, layer_costs, roofline_ms
from depth_ros.networks.depth_net import SIZES, DepthNet
from depth_ros.networks.layout import GUIDE_CHANNELS


class Small(nn.Module):
    """Takes what DepthNet takes; costs that can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(GUIDE_CHANNELS, 4, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)

    def forward(self, image, rays, guide):
        x = self.grouped(self.first(guide.permute(0, 3, 1, 2)).relu())
        return torch.einsum('bchw,dc->bdhw', x, torch.ones(2, 4, device=x.device))


def test_costs_by_hand():
    layers = layer_costs(Small(), (64, 96))
    pixels = 32 * 48
    first = pixels * 4 * GUIDE_CHANNELS * 9
    assert [layer.multiply_adds for layer in layers] == [first, pixels * 4 * 9, pixels * 4 * 2]
    assert layers[0].shape == (1, 4, 32, 48)
    assert layers[0].values == 64 * 96 * GUIDE_CHANNELS + 4 * GUIDE_CHANNELS * 9 + 4 + pixels * 4


@pytest.mark.parametrize('size', SIZES)
def test_four_times_the_pixels_cost_four_times_as_much(size):
    network = DepthNet(size)
    one, four = (sum(layer.multiply_adds for layer in layer_costs(network, (n * 64, n * 96))) for n in (1, 2))
    assert four == pytest.approx(4 * one, rel=0.01)
    assert next(network.parameters()).device.type == 'cpu', 'the network itself stays'


def test_each_layer_is_bound_by_arithmetic_or_by_memory():
    layers = [LayerCost('convolution', (1,), 500, 10), LayerCost('convolution', (1,), 5, 1000)]
    # 1000 operations at 1000/s; 4000 bytes at 2000/s.
    assert roofline_ms(layers, 1000, 2000, 4) == pytest.approx(1000 + 2000)
    assert roofline_ms(layers, 1000, 2000, 2) == pytest.approx(1000 + 1000)
