"""What the package says about itself agrees with what it is."""

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest

from depth_ros.cli.main import COMMANDS
from depth_ros.cli.params_command import markdown_lines

ROOT = Path(__file__).parents[1]
# Import name -> what package.xml calls it, where the two differ.
KEYS = {
    'cv2': 'python3-opencv',
    'llvmlite': 'python3-numba',  # numba's own compiler
    'numba': 'python3-numba',
    'numpy': 'python3-numpy',
    'scipy': 'python3-scipy',
    'yaml': 'python3-yaml',
}
# Not on a robot: bags and training need them, and say so where they are missing.
OPTIONAL = {'rosbags', 'open3d', 'torch', 'onnxruntime', 'openvino', 'safetensors', 'transformers', 'mcap', 'onnx'}


def imported():
    for path in (ROOT / 'depth_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split('.')[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield node.module.split('.')[0], path


def test_every_import_is_declared():
    declared = {element.text for element in ElementTree.parse(ROOT / 'package.xml').iter('exec_depend')}
    known = set(sys.stdlib_module_names) | OPTIONAL | {'depth_ros'}
    unknown = ((name, path.name) for name, path in imported() if name not in known)
    missing = {(name, file) for name, file in unknown if KEYS.get(name, name) not in declared}
    assert not missing


def test_every_declared_dependency_is_used():
    declared = {element.text for element in ElementTree.parse(ROOT / 'package.xml').iter('exec_depend')}
    used = {KEYS.get(name, name) for name, _ in imported()}
    launch_files = ' '.join(path.read_text(encoding='utf-8') for path in (ROOT / 'launch').glob('*.py'))
    unused = {name for name in declared - used if name not in launch_files}
    assert not unused


def test_the_changelog_has_the_current_version_and_catkin_pkg_reads_it():
    changelog = pytest.importorskip('catkin_pkg.changelog')
    version = ElementTree.parse(ROOT / 'package.xml').findtext('version')
    parsed = changelog.get_changelog_from_path(str(ROOT), package_name='depth_ros')
    assert any(found == version for found, _, _ in parsed.foreach_version())


def test_the_package_file_is_valid():
    package = pytest.importorskip('catkin_pkg.package')
    parsed = package.parse_package(str(ROOT))
    assert parsed.get_build_type() == 'ament_python'


def test_console_scripts_load():
    scripts = [point for point in entry_points(group='console_scripts') if point.module.startswith('depth_ros.')]
    assert {'depth_ros', 'depth_node', 'bag_player', 'bag_recorder'} <= {point.name for point in scripts}
    for point in scripts:
        if '.nodes.' in point.module:
            pytest.importorskip('rclpy')
        assert callable(point.load())


def test_the_readme_lists_the_parameters_as_they_are():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    table = re.search(r'<!-- parameters -->\n(.*?)<!-- /parameters -->', text, re.DOTALL).group(1)
    assert table.strip().splitlines() == list(markdown_lines()), 'run: depth_ros params --markdown'


def test_the_readme_names_only_files_and_commands_that_exist():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    for link in re.findall(r'\]\(([^)#]+)\)', text):
        if not link.startswith('http'):
            assert (ROOT / link).exists(), link
    for command in set(re.findall(r'depth_ros (\w+)', text)) & set(COMMANDS):
        done = subprocess.run(
            [sys.executable, '-m', 'depth_ros.cli.main', command, '--help'], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_files_that_setup_installs_exist():
    done = subprocess.run(
        [sys.executable, 'setup.py', '--version'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ElementTree.parse(ROOT / 'package.xml').findtext('version') in done.stdout, done.stderr
    assert list((ROOT / 'launch').glob('*.launch.py'))
    assert list((ROOT / 'config').glob('*.yaml'))
    assert list((ROOT / 'config/rviz').glob('*.rviz'))
