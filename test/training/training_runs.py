"""A small run to train, and what tests read of its checkpoints."""

import torch

from depth_ros.networks.checkpoint import load_checkpoint
from depth_ros_training.settings import load

CONFIG = """
data:
  sources: [1 samples scenes]
  validation: [1 samples scenes]
  crop_height: 64
  crop_width: 128
  batch: 2
  workers: 0
view: {no_lidar: 0.0}
optimizer: {warmup_steps: 2, average: 0.9}
run: {steps: 6, steps_per_epoch: 3, precision: 32-true, threads: 1, keep: 2, pictures: 1}
"""


def settings_of(data, **changes):
    return load(data / 'config.yaml', {name.replace('__', '.'): value for name, value in changes.items()})


def weights(path):
    return load_checkpoint(path)[0].state_dict()


def distance(first, second):
    # Single weights tell little: Adam turns a gradient of next to nothing, whose sign is rounding, into a full step.
    return torch.cat([(first[name] - second[name]).ravel() for name in first]).norm()
