"""The package runs where nothing but a temporary folder can be written, and leaves numba's cache alone elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAY = "import depth_ros, os; print(depth_ros.__file__, os.environ.get('NUMBA_CACHE_DIR'))"


@pytest.fixture
def run(tmp_path):
    """Run code with a copy of the package and a home that nobody can write to; returns the words that it prints."""
    shutil.copytree(
        ROOT / 'depth_ros', tmp_path / 'depth_ros', ignore=shutil.ignore_patterns('__pycache__', 'weights')
    )
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    outside = {name: value for name, value in os.environ.items() if name not in ('NUMBA_CACHE_DIR', 'XDG_CACHE_HOME')}
    home = {'HOME': '/proc/nobody', 'TMPDIR': str(temporary), 'PYTHONPATH': str(tmp_path)}

    def begin(code, **environment):
        done = subprocess.run(
            [sys.executable, '-c', code], cwd=tmp_path, env={**outside, **home, **environment}, capture_output=True,
            text=True, check=False,
        )
        assert done.returncode == 0, done.stderr
        file, *words = done.stdout.split()
        assert Path(file).is_relative_to(tmp_path), 'the copy is what runs'
        return words

    return begin


@pytest.fixture
def read_only(tmp_path, run):
    """Permissions do not stop root; a file where numba wants a folder stops everybody."""
    for folder in (tmp_path / 'depth_ros', *(tmp_path / 'depth_ros').glob('*/')):
        if folder.is_dir():
            (folder / '__pycache__').touch()


def private_folder(tmp_path):
    return tmp_path / 'tmp' / f'depth_ros_numba_{os.getuid()}'


@pytest.mark.usefixtures('read_only')
def test_kernels_are_cached_in_a_private_folder_where_nothing_else_can_be_written(tmp_path, run):
    code = (
        'import depth_ros.geometry.color as color, numpy; print(color.__file__); '
        'print(color.colorize(numpy.ones((2, 2), numpy.float32), 2.0).shape)'
    )
    run(code)
    folder = private_folder(tmp_path)
    assert list(folder.rglob('color._colorize*.nbc'))
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures('read_only')
def test_a_folder_that_others_can_write_to_is_not_taken(tmp_path, run):
    private_folder(tmp_path).mkdir()
    private_folder(tmp_path).chmod(0o777)
    (cache,) = run(SAY)
    assert Path(cache) != private_folder(tmp_path)
    assert Path(cache).stat().st_mode & 0o077 == 0


def test_a_package_that_can_be_written_changes_nothing(tmp_path, run):
    assert run(SAY) == ['None']
    assert not list((tmp_path / 'tmp').iterdir())


@pytest.mark.usefixtures('read_only')
def test_a_home_that_can_be_written_changes_nothing(tmp_path, run):
    assert run(SAY, HOME=str(tmp_path)) == ['None']
    assert run(SAY, XDG_CACHE_HOME=str(tmp_path / 'later')) == ['None']


@pytest.mark.usefixtures('read_only')
def test_the_folder_that_the_user_names_is_kept(tmp_path, run):
    assert run(SAY, NUMBA_CACHE_DIR=str(tmp_path / 'mine')) == [str(tmp_path / 'mine')]
