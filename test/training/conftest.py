"""What tests share: two scenes to train on; a simulated drive, and the dataset that is prepared of it."""

import pytest


@pytest.fixture
def data(tmp_path):
    """Folder of the run that ``training_runs.settings_of`` speaks of."""
    pytest.importorskip('torch', reason='training needs torch')
    from training_runs import CONFIG
    from training_scenes import write_scenes

    write_scenes(tmp_path / 'scenes', 2)
    (tmp_path / 'config.yaml').write_text(CONFIG)
    return tmp_path


@pytest.fixture(scope='session')
def bag(tmp_path_factory):
    """12 frames through a simulated street: right camera, odometry, 64 rings, exact depth."""
    pytest.importorskip('torch', reason='training needs torch')
    pytest.importorskip('open3d', reason='simulation needs open3d', exc_type=ImportError)
    from depth_ros_training.cli.main import main

    path = tmp_path_factory.mktemp('bags') / 'drive'
    arguments = ['--frames', '12', '--width', '256', '--height', '96', '--fov', '80', '--lidar', 'hdl64e']
    arguments += ['--world', 'street', '--seed', '3', '--lidar-field', 'camera', '--ideal']
    assert main(['simulate', '--out', str(path), *arguments]) == 0
    return path


@pytest.fixture(scope='session')
def prepared(bag, tmp_path_factory):
    from depth_ros_training.cli.main import main

    out = tmp_path_factory.mktemp('prepared') / 'dataset'
    assert main(['prepare', str(bag), '--out', str(out), '--jobs', '1', '--split', 'time', '--gap', '0.15']) == 0
    return out
