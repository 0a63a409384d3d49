"""The depth node on good input: what comes out, and what is said about it."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from ros_graph import HEIGHT, WIDTH

from depth_ros.messages.image import read_rows


def test_depth_has_stamp_frame_and_truth_of_the_image(depth):
    _, peer = depth()
    peer.settle()
    message = peer.answered(peer.moment())
    assert (message.header.frame_id, message.encoding) == ('camera', '32FC1')
    assert (message.width, message.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(read_rows(message, np.dtype('f4'), 1), 8.0, atol=1e-4)
