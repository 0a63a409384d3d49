"""Launch files: they compile, name files that exist, and, where launch is installed, build and describe themselves."""

import ast
import importlib.util
import os
import re
from pathlib import Path

import pytest

from depth_ros.cli.demo_command import SAMPLE_BAG
from depth_ros.ros import transport

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
NODES = {path.stem for path in (ROOT / 'depth_ros/nodes').glob('*.py')}


def described(path):
    if importlib.util.find_spec('launch_ros') is None:
        pytest.skip('launch_ros is not installed; it comes with ROS 2, PyPI has none')
    spec = importlib.util.spec_from_file_location('launched', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def started_by(name, **arguments):
    """Let a launch file set the environment and start nothing; returns what it would do next."""
    description = described(ROOT / 'launch' / name)
    from launch.actions import SetEnvironmentVariable

    from launch import LaunchContext

    context, actions = LaunchContext(), []
    context.launch_configurations.update(arguments)
    for entity in description.entities:
        actions += [entity] if isinstance(entity, SetEnvironmentVariable) else entity.visit(context) or []
    for action in actions:
        if isinstance(action, SetEnvironmentVariable):
            action.visit(context)
    return actions


@pytest.fixture
def environment(monkeypatch):
    """That of a user who has chosen no transport; whatever a test sets in it is undone."""
    known = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE', 'FASTDDS_BUILTIN_TRANSPORTS',
             'ROS_LOCALHOST_ONLY')  # fmt: skip
    for name in {*known, *(name for name in os.environ if name.startswith('FAST'))}:
        monkeypatch.setenv(name, '')  # remembered, set or not
        monkeypatch.delenv(name)
    return monkeypatch


def test_there_are_launch_files():
    assert {path.name for path in LAUNCH_FILES} >= {'depth.launch.py', 'replay.launch.py'}


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_it_compiles_and_names_what_exists(path):
    text = path.read_text(encoding='utf-8')
    ast.parse(text)
    for name in re.findall(r"shared_file\('([^']+)'\)", text):
        assert (ROOT / name).is_file(), name
    executables = re.findall(r"package='depth_ros',\s+executable='([^']+)'", text)
    assert executables
    assert set(executables) <= NODES
    assert all(f'{name} = depth_ros.nodes.{name}:main' in (ROOT / 'setup.py').read_text() for name in executables)


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path):
    arguments = described(path).get_launch_arguments()
    assert arguments
    assert all(argument.description != 'no description given' for argument in arguments)


def notes_of_launch():
    """What ``depth.launch.py`` logs, after it has set the environment."""
    return [part.text for action in started_by('depth.launch.py') for part in getattr(action, 'msg', [])]


@pytest.fixture(params=[transport.prepare_process, notes_of_launch], ids=['node', 'launch'])
def decide(request):
    """A node and its launch file decide alike; returns their notes."""
    return request.param


def test_the_profile_of_the_package_is_used(environment, decide):
    environment.setattr(transport, '_SEGMENT_BYTES', 0)  # a container may have little
    assert decide() == []
    profile = str(transport.shared_file('config/fastdds.xml'))
    assert os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] == profile
    assert os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] == profile


def test_where_only_this_machine_is_to_hear_the_profile_says_so_too(environment, decide):
    environment.setattr(transport, '_SEGMENT_BYTES', 0)
    environment.setenv('ROS_LOCALHOST_ONLY', '1')
    assert decide() == []
    profile = transport.shared_file('config/fastdds_localhost.xml')
    assert os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] == str(profile)
    assert profile.read_text().count('<address>127.0.0.1</address>') == 1
    # Else both are the same.
    local, everywhere = (
        re.sub(r'<!--.*?-->|<interfaceWhiteList>.*?</interfaceWhiteList>|\s', '', path.read_text(), flags=re.DOTALL)
        for path in (profile, transport.shared_file('config/fastdds.xml'))
    )
    assert local == everywhere


@pytest.mark.parametrize('chosen', ['FASTDDS_BUILTIN_TRANSPORTS', 'FASTRTPS_DEFAULT_PROFILES_FILE'])
def test_a_transport_that_the_user_has_chosen_is_kept(environment, decide, chosen):
    environment.setenv(chosen, 'LARGE_DATA')
    assert decide() == []
    assert {name: value for name, value in os.environ.items() if name.startswith('FAST')} == {chosen: 'LARGE_DATA'}


@pytest.mark.skipif(not Path('/dev/shm').is_dir(), reason='there is no shared memory as a file system')
def test_little_shared_memory_is_said_and_left_alone(environment, decide):
    environment.setattr(transport, '_SEGMENT_BYTES', 1 << 60)  # more than any machine has
    (note,) = decide()
    assert '/dev/shm has' in note
    assert not [name for name in os.environ if name.startswith('FAST')]


@pytest.mark.skipif(not SAMPLE_BAG.is_dir(), reason='the sample bag is not installed with the package')
def test_replay_plays_only_what_the_node_reads():
    bag = str(SAMPLE_BAG)
    *_, player, _ = started_by('replay.launch.py', bag=bag)
    words = [''.join(part.text for part in word if hasattr(part, 'text')) for word in player.cmd]
    played = words[words.index('--topics') + 1 : words.index('--wait-for')]
    assert played[0] == words[words.index('--wait-for') + 1], 'the images'
    assert '/tf_static' in played


@pytest.mark.parametrize('name', ['params_file', 'base_params_file'])
def test_a_parameter_file_that_is_not_there_is_refused(tmp_path, name):
    (tmp_path / 'there.yaml').touch()
    assert started_by('depth.launch.py', **{name: str(tmp_path / 'there.yaml')})
    with pytest.raises(FileNotFoundError, match=rf"^{name} is '.*/nowhere.yaml', which is no file; name"):
        started_by('depth.launch.py', **{name: str(tmp_path / 'nowhere.yaml')})


@pytest.mark.skipif(not SAMPLE_BAG.is_dir(), reason='the sample bag is not installed with the package')
def test_replay_ends_with_the_recording_and_with_the_node_but_not_with_rviz():
    rviz, depth, player, end = started_by('replay.launch.py', bag=str(SAMPLE_BAG))
    from launch.events.process import ProcessExited

    from launch import LaunchContext

    def ended(action):
        return ProcessExited(action=action, name='some', cmd=[], cwd=None, env=None, pid=1, returncode=0)

    handler, context = end.event_handler, LaunchContext()
    assert handler.matches(ended(player))
    assert handler.matches(ended(depth))
    assert not handler.matches(ended(rviz))
    context.register_event_handler(handler)
    (action,) = handler.handle(ended(player), context)
    assert action.event.reason == 'some has ended'
    context.register_event_handler(handler)  # it had gone: a second shutdown fails
    context._set_is_shutdown(True)
    assert not handler.handle(ended(player), context)
