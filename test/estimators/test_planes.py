import numpy as np
import pytest

from depth_ros.estimators.planes import _smooth_down


@pytest.mark.parametrize('width', [8, 24, 31, 40])
@pytest.mark.parametrize('height', [1, 2, 3])
def test_smoothing_does_not_depend_on_where_its_arrays_lie(height, width):
    rng = np.random.default_rng(0)
    links = rng.uniform(0, 1, (height, width)).astype(np.float32)
    planes = rng.uniform(0.1, 1, (5, height, width)).astype(np.float32)
    size = height * width

    def smooth(gap):
        memory = np.zeros(7 * size + 2 * gap, np.float32)
        near = memory[:size].reshape(height, width)
        scratch = memory[size + gap : 2 * size + gap]
        smoothed = memory[2 * (size + gap) :].reshape(planes.shape)
        near[:], smoothed[:] = links, planes
        _smooth_down(smoothed, near, np.float32(3.7), scratch)
        return smoothed

    side_by_side, apart = smooth(0), smooth(4096)
    assert not np.array_equal(apart, planes)
    np.testing.assert_array_equal(side_by_side, apart)
