"""Images: ``sensor_msgs/Image`` and ``CompressedImage`` to arrays and back. Conversions agree with ``cv_bridge``."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from typing import Any

import cv2
import numpy as np

from depth_ros.errors import MessageError
from depth_ros.messages.header import body, set_body, set_stamp

# Encoding -> (dtype, channels, code of the conversion to the result, encoding of the result). None = as it is.
_PLAIN = {
    'rgb8': (np.uint8, 3, None, 'rgb8'),
    'bgr8': (np.uint8, 3, None, 'bgr8'),
    '8UC3': (np.uint8, 3, None, 'bgr8'),
    'mono8': (np.uint8, 1, None, 'mono8'),
    '8UC1': (np.uint8, 1, None, 'mono8'),
    'rgba8': (np.uint8, 4, cv2.COLOR_RGBA2RGB, 'rgb8'),
    'bgra8': (np.uint8, 4, cv2.COLOR_BGRA2BGR, 'bgr8'),
    '8UC4': (np.uint8, 4, cv2.COLOR_BGRA2BGR, 'bgr8'),
    'mono16': (np.uint16, 1, None, 'mono8'),
    '16UC1': (np.uint16, 1, None, 'mono8'),
    'rgb16': (np.uint16, 3, None, 'rgb8'),
    'bgr16': (np.uint16, 3, None, 'bgr8'),
    'rgba16': (np.uint16, 4, cv2.COLOR_RGBA2RGB, 'rgb8'),
    'bgra16': (np.uint16, 4, cv2.COLOR_BGRA2BGR, 'bgr8'),
    # OpenCV names a Bayer pattern by its second row, ROS by its first.
    'bayer_rggb8': (np.uint8, 1, cv2.COLOR_BayerBG2BGR, 'bgr8'),
    'bayer_bggr8': (np.uint8, 1, cv2.COLOR_BayerRG2BGR, 'bgr8'),
    'bayer_gbrg8': (np.uint8, 1, cv2.COLOR_BayerGR2BGR, 'bgr8'),
    'bayer_grbg8': (np.uint8, 1, cv2.COLOR_BayerGB2BGR, 'bgr8'),
    'yuv422': (np.uint8, 2, cv2.COLOR_YUV2BGR_UYVY, 'bgr8'),
    'uyvy': (np.uint8, 2, cv2.COLOR_YUV2BGR_UYVY, 'bgr8'),
    'yuv422_yuy2': (np.uint8, 2, cv2.COLOR_YUV2BGR_YUY2, 'bgr8'),
    'yuyv': (np.uint8, 2, cv2.COLOR_YUV2BGR_YUY2, 'bgr8'),
}
IMAGE_ENCODINGS_READ = tuple(_PLAIN)
# cv_bridge.cpp scales 16 bits to 8 so that white stays white.
_TO_8_BITS = 255 / 65535
_BAYER = re.compile(r'(bayer_[rgb]{4})(?:8|16)')
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_KINDS = {0: 'mono8', 2: 'bgr8'}  # type of colour -> encoding it is decoded to
_JPEG_KINDS = {1: 'mono8', 3: 'bgr8'}  # number of channels -> likewise
_JPEG_FRAMES = 0xC0, 0xC1, 0xC2  # markers of frame headers that all decoders know
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_JPEG_SCAN = 0xDA
_JPEG_TAIL = 65536  # bytes in which the end is looked for


def decode_image(message: Any) -> tuple[np.ndarray, str]:
    """Read an ``Image``.

    Args:
        message: ``sensor_msgs/Image`` of any client library.

    Returns:
        image: (H, W, 3) or (H, W) uint8; a view of the message for rgb8, bgr8, mono8 and their like, else new. 16-bit
            values are divided by 257, so that white stays white.
        encoding: ``rgb8``, ``bgr8`` or ``mono8``.

    Raises:
        MessageError: encoding, size, step and data do not make an image.
    """
    if message.encoding not in _PLAIN:
        raise MessageError(
            f'image encoding is {message.encoding!r}, expected one of {", ".join(_PLAIN)}; convert it with image_proc'
        )
    dtype, channels, code, result = _PLAIN[message.encoding]
    pixels = read_rows(message, np.dtype(dtype), channels)
    if channels == 2 and message.width % 2:
        raise MessageError(
            f'image is {message.width} pixels wide, expected an even width for {message.encoding}, where two pixels '
            'share their colour; fix the driver'
        )
    if code is not None:
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), code)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=_TO_8_BITS)
    return pixels, result


def read_rows(message: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """View the pixels of an ``Image`` after checking its sizes.

    Args:
        message: ``sensor_msgs/Image``.
        dtype: type of a value.
        channels: values per pixel.

    Returns:
        (H, W, channels) or, for one channel, (H, W); a view, rows may be padded; native byte order (copied if it was
        not).

    Raises:
        MessageError: sizes contradict each other or the data is too short.
    """
    width, height, step = message.width, message.height, message.step
    used = width * channels * dtype.itemsize
    if width == 0 or height == 0:
        raise MessageError(f'image is {width}x{height}, expected at least one pixel')
    if step < used:
        raise MessageError(
            f'image step is {step} bytes, expected at least {used} for width {width} of {message.encoding}; '
            'fix the driver'
        )
    data = body(message.data)
    needed = step * (height - 1) + used
    if len(data) < needed:
        raise MessageError(
            f'image has {len(data)} bytes, expected {step * height} for {height} rows of {step}; it is truncated'
        )
    if step % dtype.itemsize:
        raise MessageError(
            f'image step is {step} bytes, expected a multiple of {dtype.itemsize} for {message.encoding}'
        )
    shape = (height, width, channels) if channels > 1 else (height, width)
    strides = (step, channels * dtype.itemsize, dtype.itemsize)[: len(shape)]
    if bool(message.is_bigendian) == (sys.byteorder == 'big') or dtype.itemsize == 1:
        return np.ndarray(shape, dtype, data, 0, strides)
    swapped = np.ndarray(shape, dtype.newbyteorder('S'), data, 0, strides)
    return swapped.astype(dtype)


def decode_compressed(message: Any) -> tuple[np.ndarray, str]:
    """Read a ``CompressedImage``.

    Args:
        message: ``sensor_msgs/CompressedImage`` with JPEG or PNG.

    Returns:
        As ``decode_image``; always new; colour as bgr8.

    Raises:
        MessageError: not a colour or grey image, or damaged.
    """
    if 'compressedDepth' in message.format:
        raise MessageError(f'compressed image format is {message.format!r}, which is depth; expected a camera image')
    return decode_file(body(message.data), message.format)


def decode_file(data: np.ndarray, form: str = '') -> tuple[np.ndarray, str]:
    """Read a JPEG or PNG file.

    Args:
        data: (N,) uint8.
        form: what it is said to be, ``CompressedImage.format``: a Bayer pattern that it names before the first
            semicolon is what a grey file holds, as image_transport stores it.

    Returns:
        As ``decode_compressed``.

    Raises:
        MessageError: not a colour or grey image, or damaged.
    """
    pixels = file_pixels(data)
    if pixels is None:
        raise MessageError(
            f'compressed image of {len(data)} bytes in format {form!r} cannot be decoded, expected whole JPEG or '
            'PNG data'
        )
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=_TO_8_BITS)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    elif pixels.ndim == 2 and (pattern := _bayer(form)):
        pixels = cv2.cvtColor(pixels, _PLAIN[f'{pattern}8'][2])
    return pixels, 'mono8' if pixels.ndim == 2 else 'bgr8'


def file_pixels(data: np.ndarray) -> np.ndarray | None:
    """Pixels as a JPEG or PNG file, (N,) uint8, holds them, blue first; None where it is damaged or cut off."""
    content = memoryview(np.ascontiguousarray(data))
    # Before version 5 OpenCV makes up the rest of a JPEG that is cut off.
    is_cut = bytes(content[:2]) == _JPEG_START and not _ends(content)
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) and not is_cut else None
    except cv2.error:  # a damaged header may name a size beyond all memory
        return None


def _bayer(form: str) -> str:
    found = _BAYER.fullmatch(form.split(';')[0].strip())
    return found[1] if found and f'{found[1]}8' in _PLAIN else ''


def probe_file(data: np.ndarray, form: str = '') -> tuple[tuple[int, int], str] | None:
    """Tell what ``decode_file`` would give without decoding, which takes ten times as long.

    Args:
        data: (N,) uint8.
        form: as in ``decode_file``.

    Returns:
        (height, width) and encoding; None where only decoding tells: what is not whole, of 16 bits, a Bayer pattern, or
        of another kind.
    """
    if _bayer(form):
        return None
    content = memoryview(np.ascontiguousarray(data))
    return _probe_png(content) if bytes(content[:8]) == _PNG_START else _probe_jpeg(content)


def _probe_png(content: memoryview) -> tuple[tuple[int, int], str] | None:
    at, header = len(_PNG_START), None
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], 'big')
        end = at + 12 + size
        if end > len(content) or zlib.crc32(content[at + 4 : end - 4]).to_bytes(4, 'big') != content[end - 4 : end]:
            return None
        name = bytes(content[at + 4 : at + 8])
        if name == b'IHDR':
            header = struct.unpack('>IIBB', content[at + 8 : at + 18])
        elif name == b'tRNS':  # transparent, and so of four channels
            return None
        elif name == b'IEND':
            width, height, bits, kind = header or (0, 0, 0, 0)
            return ((height, width), _PNG_KINDS[kind]) if bits == 8 and kind in _PNG_KINDS else None
        at = end
    return None


def _ends(content: memoryview) -> bool:
    """Whether a JPEG has its end, behind which drivers may fill up. Within an image the marker does not occur."""
    whole, at = bytes(content).rstrip(b'\0'), 2
    # A small picture of the image, with an end of its own, may be in what comes before its pixels.
    while at + 4 <= len(whole) and whole[at] == 0xFF and whole[at + 1] != _JPEG_SCAN:
        at += 1 if whole[at + 1] == 0xFF else 2 + int.from_bytes(whole[at + 2 : at + 4], 'big')
    return _JPEG_END in whole[max(at, len(whole) - _JPEG_TAIL) :]


def _probe_jpeg(content: memoryview) -> tuple[tuple[int, int], str] | None:
    if bytes(content[:2]) != _JPEG_START or not _ends(content):
        return None
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker, size = content[at + 1], int.from_bytes(content[at + 2 : at + 4], 'big')
        if marker in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack('>BHHB', content[at + 4 : at + 10])
            known = bits == 8 and height and channels in _JPEG_KINDS
            return ((height, width), _JPEG_KINDS[channels]) if known else None
        at += 2 + size
    return None


def fill_image(message: Any, pixels: np.ndarray, encoding: str, frame_id: str, time_ns: int) -> Any:
    """Fill an ``Image`` without going through its slow setter.

    Args:
        message: ``sensor_msgs/Image`` of any client library.
        pixels: (H, W) or (H, W, C), C-contiguous, dtype as ``encoding`` says; not to be altered until published.
        encoding: ROS encoding.
        frame_id: optical frame.
        time_ns: stamp, ns.

    Returns:
        The message.
    """
    set_stamp(message.header.stamp, time_ns)
    message.header.frame_id = frame_id
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == 'big')
    message.step = pixels.strides[0]
    set_body(message, pixels)
    return message
