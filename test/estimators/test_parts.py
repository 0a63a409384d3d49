"""Work in parts gives what it gives in one piece, in every process."""

import multiprocessing
import threading

import numpy as np
import pytest

from depth_ros.estimators.network_input import encode
from depth_ros.estimators.parts import in_parts
from depth_ros.types import Camera, Frame, SparseDepth


def moment():
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (97, 163, 3), np.uint8)
    u, v = random.uniform(-0.5, 162.4, 900).astype(np.float32), random.uniform(-0.5, 96.4, 900).astype(np.float32)
    depth = random.uniform(3, 60, 900).astype(np.float32)
    frame = Frame(1, image, 'rgb8', Camera(163, 97, 100.0, 100.0, 81.0, 48.0))
    return frame, SparseDepth(u, v, depth, np.full(900, 0.03, np.float32), (97, 163))


@pytest.mark.parametrize('threads', [2, 3, 7])
def test_the_input_of_the_network_is_the_same_with_any_number_of_threads(threads):
    assert encode(*moment(), threads=threads).guide.tobytes() == encode(*moment()).guide.tobytes()


@pytest.mark.parametrize(('count', 'threads'), [(10, 3), (2, 3), (3, 3), (0, 2), (5, 1)])
def test_every_part_is_done_once(count, threads):
    done = np.zeros(count, int)
    where = set()

    def work(first, last):
        done[first:last] += 1
        where.add(threading.get_ident())

    in_parts(work, count, threads)
    assert (done == 1).all()
    assert threading.get_ident() in where


@pytest.mark.parametrize('broken', [0, 1, 2])
def test_an_error_in_any_part_comes_out_when_all_have_ended(broken):
    ended = []

    def work(first, last):
        if first == broken:
            raise ValueError(f'part {first}')
        ended.append(first)

    with pytest.raises(ValueError, match=f'part {broken}'):
        in_parts(work, 3, 3)
    assert len(ended) == 2


def _bytes_of_input(queue):
    queue.put(encode(*moment(), threads=2).guide.tobytes())


@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_a_child_of_a_fork_has_threads_of_its_own():
    """Loaders of training data are forked from a process that has validated."""
    expected = encode(*moment(), threads=2).guide.tobytes()
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    child = context.Process(target=_bytes_of_input, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=30) == expected
    child.join(30)
    assert child.exitcode == 0
