"""Images are read as ``cv_bridge`` reads them, for every encoding that both know.

ROS installations have cv_bridge with its C++ core. The pure-Python one of PyPI knows less: it ignores the step of
rows, has no conversion for 16 bits, for grbg8 and for YUV but ``yuv422``, and knows only the type bits of OpenCV 4.
"""

import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
cv_bridge = pytest.importorskip('cv_bridge')

from sensor_msgs.msg import Image  # noqa: E402

from depth_ros.messages.image import IMAGE_ENCODINGS_READ, decode_image  # noqa: E402

HEIGHT, WIDTH = 12, 18


def layout(encoding):
    if encoding.startswith(('yuv', 'uyvy', 'yuyv')):
        return np.uint8, 2
    channels = 4 if 'a' in encoding[:4] and not encoding.startswith('bayer') else 3
    if encoding.startswith(('mono', 'bayer')):
        channels = 1
    if 'UC' in encoding:
        channels = int(encoding[-1])
    return (np.uint16 if '16' in encoding else np.uint8), channels


class Bridge(cv_bridge.CvBridge):
    """The cv_bridge at hand, told the layout of an encoding where it cannot work it out itself."""

    def encoding_to_dtype_with_channels(self, encoding):
        if int(cv2.__version__.split('.')[0]) < 5:
            return super().encoding_to_dtype_with_channels(encoding)
        dtype, channels = layout(encoding)
        return np.dtype(dtype).name, channels


def message_of(encoding, padding, big_endian=False):
    dtype, channels = layout(encoding)
    row = WIDTH * channels * np.dtype(dtype).itemsize
    rows = np.random.default_rng(IMAGE_ENCODINGS_READ.index(encoding)).integers(0, 256, (HEIGHT, row), np.uint8)
    rows = np.hstack([rows, np.full((HEIGHT, padding), 7, np.uint8)])
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=row + padding, is_bigendian=int(big_endian))
    message.data = rows.tobytes()
    return message


@pytest.mark.parametrize('padding', [0, 8])
@pytest.mark.parametrize('encoding', IMAGE_ENCODINGS_READ)
def test_pixels_agree(encoding, padding):
    pixels, result = decode_image(message_of(encoding, padding))
    assert result in ('rgb8', 'bgr8', 'mono8')
    message, bridge = message_of(encoding, 0), Bridge()
    try:
        expected = bridge.imgmsg_to_cv2(message, result)
    except (KeyError, cv_bridge.CvBridgeError) as error:
        if 'UC' not in encoding and '16' not in encoding:
            pytest.skip(f'this cv_bridge cannot convert {encoding}: {error}')
        # Where no colours are named, any cv_bridge hands over bare values; that of PyPI also where they have 16 bits.
        expected = without_alpha_in_8_bits(bridge.imgmsg_to_cv2(message, 'passthrough'))
    np.testing.assert_array_equal(pixels, expected)


def without_alpha_in_8_bits(values):
    """As the cv_bridge.cpp of vision_opencv: ``image1.convertTo(image2, image2_type, 255. / 65535.)``."""
    values = values[:, :, :3] if values.ndim == 3 else values
    return np.rint(values * (255.0 / 65535.0)) if values.dtype == np.uint16 else values


def test_the_other_byte_order_is_the_same_picture():
    big, little = (message_of('mono16', 0, big_endian=flag) for flag in (True, False))
    native, other = (big, little) if sys.byteorder == 'big' else (little, big)
    other.data = np.frombuffer(native.data, np.uint16).byteswap().tobytes()
    np.testing.assert_array_equal(decode_image(native)[0], decode_image(other)[0])
