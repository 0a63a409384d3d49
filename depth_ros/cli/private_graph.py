"""The environment of processes that talk to each other and to nobody else."""

from __future__ import annotations

import os


def private_graph() -> dict[str, str]:
    """Environment for child processes on a graph of their own, on this machine only."""
    # 1 to 100: 0 is that of the robot, and ports of domains above 101 are given to other programs.
    domain = 1 + os.getpid() % 100
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    if environment.get('ROS_DISTRO') == 'humble':  # later releases warn of this one
        environment['ROS_LOCALHOST_ONLY'] = '1'
    return environment
