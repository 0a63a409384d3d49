"""Who may import whom."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROS_PACKAGES = (
    'rclpy',
    'rcl_interfaces',
    'lifecycle_msgs',
    'builtin_interfaces',
    'std_msgs',
    'sensor_msgs',
    'geometry_msgs',
    'nav_msgs',
    'diagnostic_msgs',
    'rosgraph_msgs',
    'tf2_ros',
    'tf2_msgs',
    'cv_bridge',
    'launch',
    'launch_ros',
)
# A room may import itself and the rooms named here.
_CORE = {'types', 'errors', 'settings', 'files', 'processes'}
_BELOW_PIPELINE = _CORE | {'geometry', 'messages', 'networks', 'bags', 'estimators'}
WALLS = {
    'errors': set(),
    'types': {'errors'},
    'settings': {'errors', 'settings_files'},
    'settings_files': {'errors'},
    'files': {'errors'},
    'processes': set(),
    'open3d_library': {'errors'},
    'geometry': _CORE,
    'messages': _CORE | {'geometry'},
    'networks': _CORE | {'geometry', 'messages'},
    'bags': _CORE | {'geometry', 'messages'},
    'estimators': _CORE | {'geometry', 'messages', 'networks', 'bags'},
    'pipeline': _BELOW_PIPELINE,
    'evaluation': _BELOW_PIPELINE | {'pipeline', 'open3d_library'},
    'cli': _BELOW_PIPELINE | {'pipeline', 'evaluation'},
    'ros': _BELOW_PIPELINE | {'pipeline', 'evaluation'},
    'nodes': _BELOW_PIPELINE | {'pipeline', 'evaluation', 'ros'},
}


def modules(package, folder):
    for path in sorted(folder.rglob('*.py')):
        parts = path.relative_to(folder).with_suffix('').parts
        yield '.'.join((package, *(part for part in parts if part != '__init__'))), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


ALL = list(modules('depth_ros', ROOT / 'depth_ros'))


@pytest.mark.parametrize(('name', 'path'), ALL, ids=[name for name, _ in ALL])
def test_a_room_imports_only_the_rooms_below_it(name, path):
    room = name.split('.')[1] if '.' in name else None
    for imported in imports(path):
        top = imported.split('.')[0]
        assert top != 'depth_ros_training', f'{name} imports {imported}: a robot does without the training room'
        if top in ROS_PACKAGES:
            assert room in ('ros', 'nodes'), f'{name} imports {imported}: only ros and nodes may'
        parts = imported.split('.')
        if top == 'depth_ros' and len(parts) > 1 and room and parts[1] != room and parts[1] != '__version__':
            assert parts[1] in WALLS[room], f'{name} imports {imported}, which is not below {room}'


def run_without(blocked, code):
    program = f'import sys\nfor name in {tuple(blocked)!r}: sys.modules[name] = None\n{code}'
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment, check=False)


def names_without(*rooms):
    return [name for name, _ in ALL if not any(f'{name}.'.startswith(f'depth_ros.{room}.') for room in rooms)]


def test_everything_but_nodes_imports_where_there_is_no_ros_and_no_torch():
    names = names_without('ros', 'nodes', 'networks', 'estimators.network', 'estimators.export')
    done = run_without((*ROS_PACKAGES, 'open3d', 'torch'), '\n'.join(f'import {name}' for name in names))
    assert done.returncode == 0, done.stderr


def test_networks_import_where_there_is_no_ros():
    pytest.importorskip('torch')
    names = names_without('ros', 'nodes')
    done = run_without(ROS_PACKAGES, '\n'.join(f'import {name}' for name in names))
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy():
    code = "import depth_ros; print([m for m in ('torch', 'rclpy', 'cv2', 'numba', 'scipy') if m in sys.modules])"
    done = run_without((), code)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
