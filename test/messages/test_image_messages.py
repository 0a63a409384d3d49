"""Images: views, padding, byte order, and what is refused. Agreement with cv_bridge is tested beside the nodes."""

import array
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from depth_ros.errors import MessageError
from depth_ros.messages.header import set_body
from depth_ros.messages.image import decode_compressed, decode_file, decode_image, fill_image, probe_file


def message_of(pixels, encoding, padding=0, big_endian=False):
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1).view(np.uint8)
    data = np.hstack([rows, np.zeros((height, padding), np.uint8)])
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id=''),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=data.shape[1],
        data=data.reshape(-1),
    )


def random_image(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize(('encoding', 'shape'), [('rgb8', (6, 8, 3)), ('bgr8', (6, 8, 3)), ('mono8', (6, 8))])
@pytest.mark.parametrize('padding', [0, 5])
def test_eight_bits_are_a_view_also_with_padded_rows(encoding, shape, padding):
    pixels = random_image(*shape)
    message = message_of(pixels, encoding, padding)
    image, found = decode_image(message)
    assert found == encoding
    np.testing.assert_array_equal(image, pixels)
    assert np.shares_memory(image, message.data)


def test_sixteen_bits_in_either_byte_order():
    pixels = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    little, _ = decode_image(message_of(pixels.astype('<u2'), 'mono16'))
    big, encoding = decode_image(message_of(pixels.astype('>u2'), 'mono16', big_endian=True))
    assert encoding == 'mono8'
    np.testing.assert_array_equal(big, little)
    # cv_bridge.cpp of vision_opencv: image1.convertTo(image2, type, 255. / 65535.), to the nearest.
    np.testing.assert_array_equal(little, np.rint(pixels * (255.0 / 65535.0)))


def change(**fields):
    message = message_of(random_image(6, 8, 3), 'rgb8')
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ('message', 'text'),
    [
        (change(encoding='32FC1'), "'32FC1'"),
        (change(encoding=''), "''"),
        (change(step=23), 'step is 23'),
        (change(data=np.zeros(100, np.uint8)), 'truncated'),
        (change(width=0), '0x6'),
        (change(encoding='rgb16', step=49), 'multiple of 2'),
        (change(encoding='yuyv', width=5), 'even width'),
    ],
)
def test_what_makes_no_image_is_refused_in_one_line(message, text):
    if message.encoding == 'rgb16':
        message.data = np.zeros(49 * 6, np.uint8)
    with pytest.raises(MessageError, match=text) as caught:
        decode_image(message)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('shape', [(20, 30, 3), (20, 30)])
def test_png_is_exact(shape):
    pixels = random_image(*shape)
    data = cv2.imencode('.png', pixels)[1].reshape(-1)
    image, encoding = decode_compressed(SimpleNamespace(format='bgr8; png compressed bgr8', data=data))
    assert encoding == ('bgr8' if pixels.ndim == 3 else 'mono8')
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_a_compressed_bayer_pattern_is_what_the_raw_one_is(pattern, bits):
    pixels = random_image(20, 30)
    raw, encoding = decode_image(message_of(pixels, f'bayer_{pattern}8'))
    stored = pixels if bits == 8 else pixels.astype(np.uint16) * 257
    data = cv2.imencode('.png', stored)[1].reshape(-1)
    form = f'bayer_{pattern}{bits}; png compressed bayer_{pattern}{bits}'
    image, found = decode_compressed(SimpleNamespace(format=form, data=data))
    assert found == encoding == 'bgr8'
    np.testing.assert_array_equal(image, raw)
    assert probe_file(data, form) is None
    # What image_transport has already turned into colours, or grey, is no pattern.
    for other, shape in ((f'bayer_{pattern}8; png compressed bgr8', (20, 30, 3)), ('mono8; png compressed ', (20, 30))):
        stored = random_image(*shape)
        data = cv2.imencode('.png', stored)[1].reshape(-1)
        np.testing.assert_array_equal(decode_compressed(SimpleNamespace(format=other, data=data))[0], stored)


def test_png_of_sixteen_bits_is_scaled_as_a_raw_image_is():
    pixels = random_image(20, 30, dtype=np.uint16)
    data = cv2.imencode('.png', pixels)[1].reshape(-1)
    image, _ = decode_compressed(SimpleNamespace(format='mono16; png compressed ', data=data))
    np.testing.assert_array_equal(image, decode_image(message_of(pixels, 'mono16'))[0])


@pytest.mark.parametrize(
    ('data', 'format_', 'text'),
    [
        (b'', 'jpeg', '0 bytes'),
        (b'no image at all', 'jpeg', 'cannot be decoded'),
        (b'1234', '16UC1; compressedDepth png', 'which is depth'),
    ],
)
def test_compressed_data_that_is_no_image_is_refused(data, format_, text):
    with pytest.raises(MessageError, match=text):
        decode_compressed(SimpleNamespace(format=format_, data=np.frombuffer(data, np.uint8)))


@pytest.mark.parametrize('share', [0.1, 0.5, 0.95])
def test_a_jpeg_that_is_cut_off_is_refused_also_where_opencv_makes_up_the_rest(monkeypatch, share):
    data = encoded('.jpg', 200, 300, 3)
    monkeypatch.setattr(cv2, 'imdecode', lambda data, flags: np.zeros((200, 300, 3), np.uint8))
    assert decode_file(np.frombuffer(data, np.uint8))[1] == 'bgr8'
    cut = data[: int(share * len(data))]
    thumbnail = encoded('.jpg', 20, 30, 3)
    exif = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    for broken in (cut, cut[:2] + exif + cut[2:]):
        with pytest.raises(MessageError, match='whole JPEG'):
            decode_file(np.frombuffer(broken, np.uint8))


def encoded(kind, *shape, dtype=np.uint8, options=()):
    return cv2.imencode(kind, random_image(*shape, dtype=dtype), options)[1].tobytes()


@pytest.mark.parametrize(
    'data',
    [
        encoded('.png', 20, 30),
        encoded('.png', 20, 30, 3),
        encoded('.jpg', 20, 30),
        encoded('.jpg', 20, 30, 3),
        encoded('.jpg', 20, 30, 3, options=[cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
        encoded('.jpg', 20, 30, 3) + bytes(1000),
        encoded('.jpg', 20, 30, 3) + b'what a driver adds',
        encoded('.jpg', 20, 30, 3) + bytes(70_000),
    ],
)
def test_size_and_encoding_are_told_without_decoding(data):
    pixels, encoding = decode_file(np.frombuffer(data, np.uint8))
    assert probe_file(np.frombuffer(data, np.uint8)) == (pixels.shape[:2], encoding) == ((20, 30), encoding)


def test_bytes_that_fill_up_before_a_marker_do_no_harm():
    data = encoded('.jpg', 20, 30, 3)
    filled = np.frombuffer(data[:2] + b'\xff' + data[2:], np.uint8)
    np.testing.assert_array_equal(decode_file(filled)[0], decode_file(np.frombuffer(data, np.uint8))[0])


def changed(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'no image at all',
        encoded('.png', 20, 30, dtype=np.uint16),
        encoded('.png', 20, 30, 4),
        encoded('.bmp', 20, 30),
        encoded('.png', 20, 30, 3)[:-20],
        encoded('.jpg', 20, 30, 3)[:-2],
        encoded('.jpg', 20, 30, 3)[:30],
        changed(encoded('.png', 20, 30, 3), 20),
        changed(encoded('.png', 20, 30, 3), 900),
        b'\x89PNG\r\n\x1a\n' + encoded('.png', 20, 30)[-12:],
    ],
)
def test_only_decoding_tells_of_what_is_not_whole_or_of_another_kind(data):
    assert probe_file(np.frombuffer(data, np.uint8)) is None


def test_a_header_that_names_a_size_beyond_all_memory_is_refused_too():
    data = bytearray(cv2.imencode('.png', random_image(4, 4))[1].tobytes())
    data[16:24] = struct.pack('>II', 200_000, 200_000)
    data[29:33] = struct.pack('>I', zlib.crc32(bytes(data[12:29])))
    with pytest.raises(MessageError, match='cannot be decoded'):
        decode_compressed(SimpleNamespace(format='png', data=np.frombuffer(data, np.uint8)))


def test_what_is_filled_is_read_back():
    pixels = random_image(5, 7, 3)
    message = fill_image(message_of(random_image(1, 1), 'mono8'), pixels, 'bgr8', 'optical', 1_500_000_000)
    image, encoding = decode_image(message)
    np.testing.assert_array_equal(image, pixels)
    assert (encoding, message.header.frame_id, message.header.stamp.nanosec) == ('bgr8', 'optical', 500_000_000)


def test_a_body_is_filled_also_where_there_is_no_private_attribute():
    class Message:
        __slots__ = ('data',)

    message = Message()
    message.data = array.array('B')
    set_body(message, np.arange(6, dtype=np.uint16))
    assert bytes(message.data) == np.arange(6, dtype=np.uint16).tobytes()
