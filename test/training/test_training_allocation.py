import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource
import sys
from pathlib import Path
from depth_ros.errors import DepthRosError
from depth_ros_training.engine.allocation import keep_freed_memory

if sys.argv[1] == 'keep' and not keep_freed_memory():
    sys.exit(5)
if sys.argv[1] == 'fit':
    from depth_ros_training.engine.fit import fit
    from depth_ros_training.settings import TrainingSettings
    from depth_ros_training.systems.supervised import SupervisedSystem
    try:
        fit(SupervisedSystem, TrainingSettings(), Path(sys.argv[2]), Path(sys.argv[2]) / 'run', progress=False)
    except DepthRosError:  # there are no data
        pass


def work():
    del [bytearray(b'1') * (30 << 20) for _ in range(4)][:]


work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*how):
    """Pages that the kernel has to give while four large blocks are made and freed, ten times."""
    run = subprocess.run([sys.executable, '-c', _COUNT_FAULTS, *how], capture_output=True, text=True, timeout=120)
    if run.returncode == 5:
        pytest.skip('this C library has no mallopt')
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_memory_that_was_freed_is_used_again():
    assert faults('keep') < 0.3 * faults('leave')


def test_training_uses_freed_memory_again(tmp_path):
    assert faults('fit', str(tmp_path)) < 0.3 * faults('leave')
