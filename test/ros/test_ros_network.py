"""The depth node with a network: no lidar, files that are broken, numbers and memory that fail."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnx', reason='networks are exported with onnx')

from broken_networks import changed_graph, greedy_for_wide_images, nan_for_bright_images, set_to_nan
from lifecycle_msgs.msg import Transition
from ros_graph import HEIGHT, WIDTH, cloud_message, image_message, info_message, next_domain
from sensor_msgs.msg import Image
from test_ros_lifecycle import NODE, change, state

from depth_ros.messages.image import fill_image, read_rows
from depth_ros.networks.weights import EXPORTED
from depth_ros.types import Camera


def settle_without_lidar(peer):
    end = time.monotonic() + 20
    while peer.answered(peer.moment(leave_out=('points',)), timeout=1.0) is None:
        assert time.monotonic() < end, f'no depth comes: {[item[1].message for item in peer.diagnostics.values()]}'


def test_without_lidar_every_image_is_answered_and_the_diagnostics_say_what_it_rests_on(depth, weights):
    # What untrained weights say of their deviation means nothing.
    _, peer = depth(
        estimator__method='auto', estimator__checkpoint=weights / EXPORTED.name, grading__withhold=0.1,
        output__max_relative_std=0.0,
    )  # fmt: skip
    settle_without_lidar(peer)
    peer.says('estimator', 'from the image alone', 'no lidar has come yet')
    assert peer.wait(lambda: peer.value('estimator', 'method') == 'auto (exported)', 3.0)
    assert peer.value('estimator', 'weights') == str(weights / EXPORTED.name)
    assert peer.diagnostics['inputs'][1].level == b'\x00', 'lidar is no need'
    answer = peer.answered(peer.moment(leave_out=('points',)))
    assert np.isfinite(read_rows(answer, np.dtype('f4'), 1)).all()
    peer.says('grade', 'no withheld point')
    # Lidar comes: depth rests on it from the same image on.
    peer.settle()
    assert peer.wait(lambda: 'image alone' not in peer.text('estimator'), 10.0), peer.text('estimator')
    assert ' 0 points' not in peer.value('estimator', 'rests on')
    # It stops.
    time.sleep(0.6)
    counted = int(peer.value('estimator', 'answered without lidar'))
    for _ in range(3):
        assert peer.answered(peer.moment(leave_out=('points',))) is not None
    peer.says('estimator', 'from the image alone', 'older than the image', f'{counted + 3} images')
    # It comes without a point in the image.
    nothing = cloud_message(time.time_ns())
    nothing.data, nothing.width, nothing.row_step = b'', 0, 0
    stamp = time.time_ns()
    nothing.header.stamp.sec, nothing.header.stamp.nanosec = divmod(stamp, 10**9)
    assert peer.answered(peer.moment(cloud=nothing, stamp_ns=stamp)) is not None
    peer.says('estimator', 'none of 0 lidar points')


def test_nan_refuses_the_image_and_the_next_one_is_answered(depth, weights, tmp_path):
    file = changed_graph(weights / EXPORTED.name, tmp_path / 'nan.onnx', nan_for_bright_images)
    _, peer = depth(estimator__method='exported', estimator__checkpoint=file)
    peer.settle()
    bright, stamp = np.full((HEIGHT, WIDTH, 3), 200, np.uint8), time.time_ns()
    peer.moment(image=fill_image(Image(), bright, 'rgb8', 'camera', stamp), stamp_ns=stamp)
    peer.says('refusals', 'not_finite (1 in', 'use precision f32')
    assert peer.diagnostics['refusals'][1].level == b'\x02'
    assert peer.answered(stamp, timeout=0.1) is None
    assert peer.answered(peer.moment()) is not None


@pytest.mark.parametrize('fallback', ['true', 'false'])
def test_out_of_memory_is_said_and_classical_steps_in_if_set(depth, weights, tmp_path, fallback):
    file = changed_graph(weights / EXPORTED.name, tmp_path / 'greedy.onnx', greedy_for_wide_images)
    _, peer = depth(estimator__method='exported', estimator__checkpoint=file, estimator__fallback=fallback)
    peer.settle()
    assert peer.wait(lambda: peer.value('estimator', 'method') == 'exported', 3.0)
    stamp, camera = time.time_ns(), Camera(320, 240, 240.0, 240.0, 159.5, 119.5, 'camera')
    peer.moment(image=image_message(stamp, 320, 240), info=info_message(stamp, camera), stamp_ns=stamp)
    answer = peer.answered(stamp)
    if fallback == 'true':
        peer.says('estimator', 'classical in place of exported', 'no memory left for an image of 320x240')
        assert (answer.width, answer.height) == (320, 240)
    else:
        peer.says('refusals', 'out_of_memory', 'set estimator.downscale above')
        assert peer.diagnostics['refusals'][1].level == b'\x02'
        assert answer is None


def broken_files(weights, folder):
    content = (weights / EXPORTED.name).read_bytes()
    (folder / 'cut.onnx').write_bytes(content[: len(content) // 2])
    (folder / 'pickle.safetensors').write_bytes(b'PK\x03\x04' + bytes(100))
    (folder / 'foreign.safetensors').write_bytes((2).to_bytes(8, 'little') + b'{}')
    changed_graph(weights / EXPORTED.name, folder / 'nan.onnx', set_to_nan)
    return {'cut.onnx': 'damaged', 'pickle.safetensors': 'is a pickle', 'foreign.safetensors': 'holds another network',
            'nan.onnx': 'not finite'}


def test_a_broken_file_is_one_line_and_exit_code_2(start, weights, tmp_path):
    for name, words in broken_files(weights, tmp_path).items():
        process = start(NODE, next_domain(), '--ros-args', '-p', f'estimator.checkpoint:={tmp_path / name}')
        assert process.popen.wait(60.0) == 2, process.output
        process._reader.join(2.0)
        assert [words in line for line in process.lines].count(True) == 1, process.output
        assert 'Traceback' not in process.output


def test_a_broken_file_leaves_the_node_unconfigured_and_a_good_one_starts_it(depth, weights, tmp_path):
    file = tmp_path / 'net.onnx'
    file.write_bytes(b'onnx')
    process, peer = depth(autostart='false', estimator__method='auto', estimator__checkpoint=file)
    assert not change(peer, Transition.TRANSITION_CONFIGURE)
    assert state(peer) == 'unconfigured'
    assert 'is damaged' in process.output
    file.write_bytes((weights / EXPORTED.name).read_bytes())
    assert change(peer, Transition.TRANSITION_CONFIGURE)


def test_a_broken_file_gives_way_to_classical_if_set(depth, weights, tmp_path):
    broken_files(weights, tmp_path)
    _, peer = depth(
        estimator__method='auto', estimator__checkpoint=tmp_path / 'pickle.safetensors', estimator__fallback='true'
    )
    peer.settle()
    peer.says('estimator', 'classical in place of network', 'is a pickle', timeout=2.0)


@pytest.mark.parametrize(('downscale', 'seen'), [(0, (WIDTH, HEIGHT)), (2, (WIDTH // 2, HEIGHT // 2))])
def test_the_diagnostics_say_at_which_size_depth_is_estimated(depth, downscale, seen):
    _, peer = depth(estimator__method='classical', estimator__downscale=downscale)
    peer.settle()
    answer = peer.answered(peer.moment())
    assert (answer.width, answer.height) == (WIDTH, HEIGHT)
    expected = '{}x{}, of images of {}x{}'.format(*seen, WIDTH, HEIGHT)
    assert peer.wait(lambda: peer.value('estimator', 'estimated at') == expected, 3.0)
