"""Launch files: they compile, name files that exist, and, where launch is installed, build and describe themselves."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
NODES = {path.stem for path in (ROOT / 'depth_ros/nodes').glob('*.py')}


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
    if importlib.util.find_spec('launch_ros') is None:
        pytest.skip('launch_ros is not installed; it comes with ROS 2, PyPI has none')
    spec = importlib.util.spec_from_file_location('launched', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = module.generate_launch_description().get_launch_arguments()
    assert arguments
    assert all(argument.description != 'no description given' for argument in arguments)
