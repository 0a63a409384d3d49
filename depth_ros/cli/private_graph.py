"""The environment of processes that talk to each other and to nobody else."""

from __future__ import annotations

import os


def private_graph() -> dict[str, str]:
    """Environment for child processes on a graph of their own, on this machine only."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    if environment.get('ROS_DISTRO') == 'humble':  # later releases warn of this one
        environment['ROS_LOCALHOST_ONLY'] = '1'
    return environment
