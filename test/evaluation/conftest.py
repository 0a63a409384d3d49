import pytest
from street import write_street


@pytest.fixture(scope='session')
def street(tmp_path_factory):
    """A drive of six images with lidar (rings named) and odometry."""
    return write_street(tmp_path_factory.mktemp('street') / 'drive')


@pytest.fixture(scope='session')
def unposed_street(tmp_path_factory):
    """The same without odometry and without names of rings."""
    return write_street(tmp_path_factory.mktemp('street') / 'unposed', poses=False, named_rings=False)
