"""Interrupts and the processes that a command starts."""

import multiprocessing
import os
import signal

import pytest

from depth_ros.processes import hear_interrupts, interrupts_held

CONTEXT = multiprocessing.get_context('spawn')


def hear(outcomes):
    try:
        hear_interrupts()
    except KeyboardInterrupt:
        outcomes.put('interrupted')
    else:
        outcomes.put('not interrupted')


@pytest.mark.parametrize('outcome', ['interrupted', 'not interrupted'])
def test_a_process_hears_what_came_while_it_started_when_it_wants_to(outcome):
    outcomes = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=hear, args=(outcomes,))
    with interrupts_held():
        process.start()
    if outcome == 'interrupted':
        os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 0
    assert outcomes.get() == outcome


def interrupt_held(done):
    with interrupts_held():
        signal.raise_signal(signal.SIGINT)
        done.append('all of it')


def test_an_interrupt_is_heard_when_all_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt):
        interrupt_held(done)
    assert done
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
