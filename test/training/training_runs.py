"""What tests read of the checkpoints of a run."""

import torch

from depth_ros.networks.checkpoint import load_checkpoint


def weights(path):
    return load_checkpoint(path)[0].state_dict()


def distance(first, second):
    # Single weights tell little: Adam turns a gradient of next to nothing, whose sign is rounding, into a full step.
    return torch.cat([(first[name] - second[name]).ravel() for name in first]).norm()
