"""Fixtures that start real nodes; all tests of this folder are marked ``ros``."""

import contextlib
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ros)


@pytest.fixture
def start():
    """Start processes that are ended with the test."""
    from ros_graph import Process

    with contextlib.ExitStack() as running:

        def begin(module, domain, *arguments, **env):
            process = Process(module, domain, arguments, env.items())
            running.callback(process.end)  # killed, it would leave 70 MB in /dev/shm
            return process

        yield begin


@pytest.fixture
def peer():
    from ros_graph import Peer

    made = []

    def make(domain, **options):
        made.append(Peer(domain, **options))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture
def depth(start, peer):
    """A running depth node with a peer that listens to its depth; returns both."""
    from ros_graph import STATIC, next_domain
    from sensor_msgs.msg import Image

    def begin(connect=True, **parameters):
        domain = next_domain()
        flat = {'estimator.method': 'nearest', 'grading.withhold': 0.0, 'transforms.static': f"['{STATIC}']", **{
            name.replace('__', '.'): value for name, value in parameters.items()}}
        arguments = [word for name, value in flat.items() if value is not None for word in ('-p', f'{name}:={value}')]
        other = peer(domain)
        other.listen(Image, 'depth/image')
        process = start('depth_ros.nodes.depth_node', domain, '--ros-args', *arguments)
        if connect and flat.get('autostart') != 'false':
            other.connected()
        return process, other

    return begin


@pytest.fixture(scope='module')
def shared_depth():
    """One depth node for all tests of a file, settled: between tests it must have recovered by itself."""
    from ros_graph import STATIC, Peer, Process, next_domain
    from sensor_msgs.msg import Image

    domain = next_domain()
    other = Peer(domain)
    other.listen(Image, 'depth/image')
    process = Process(
        'depth_ros.nodes.depth_node', domain,
        ['--ros-args', '-p', 'estimator.method:=nearest', '-p', f"transforms.static:=['{STATIC}']"],
    )
    other.connected()
    other.settle()
    yield other
    code = process.end()
    other.close()
    assert code == 0, process.output
    assert 'Traceback' not in process.output
