"""A recording through the live node: ``ros2 launch depth_ros replay.launch.py bag:=/data/drive rviz:=true``.

Topics and transforms are read from the bag; every one of them can be named instead.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from depth_ros.bags.inspection import inspect_bag
from depth_ros.bags.select import TopicOverrides
from depth_ros.cli.inspect_command import write_node_params
from depth_ros.cli.playback import input_topics
from depth_ros.ros.transport import shared_file
from depth_ros.settings import Settings
from launch import LaunchDescription

ROLES = ('image', 'camera_info', 'points', 'odometry')
FORWARDED = ('params_file', 'image_transport', 'log_level')


def replay(context):
    named = {role: context.launch_configurations[role] for role in ROLES}
    found = inspect_bag(Path(context.launch_configurations['bag']), TopicOverrides(**named), Settings())
    topics = {role: getattr(found.selection, role) or role for role in ROLES}
    forwarded = {'use_sim_time': 'true', **{name: LaunchConfiguration(name) for name in FORWARDED}}
    fixed_frame = []
    if lines := found.fixed.text():
        base = Path(tempfile.mkdtemp(prefix='depth_ros_')) / 'transforms.yaml'
        atexit.register(shutil.rmtree, base.parent, ignore_errors=True)
        write_node_params(found, base)
        forwarded['base_params_file'] = str(base)
        fixed_frame = ['-f', lines[0].split()[0]]
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(shared_file('launch/depth.launch.py'))),
        launch_arguments={**forwarded, **topics, 'image': topics['image'].removesuffix('/compressed')}.items(),
    )
    player = Node(
        package='depth_ros',
        executable='bag_player',
        arguments=[
            LaunchConfiguration('bag'), '--rate', LaunchConfiguration('rate'), '--start-delay', '1.0',
            '--topics', *input_topics(found), '--wait-for', topics['image'], topics['points'],
        ],
        output='screen',
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(shared_file('config/rviz/depth.rviz')), *fixed_frame],
        parameters=[{'use_sim_time': True}],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    end = RegisterEventHandler(OnProcessExit(
        target_action=lambda action: action is not rviz, on_exit=shut_down, handle_once=True
    ))
    # RViz first: where it is not installed, launch stops here, before it has started anything else.
    return [rviz, depth, player, end]


def shut_down(event, context):
    """End with the recording, and with the node: without it the player would wait for it, or play to nobody."""
    if context.is_shutdown:
        return None  # launch_ros fails at a second time, as after Ctrl-C
    return [EmitEvent(event=Shutdown(reason=f'{event.process_name} has ended'))]


def generate_launch_description():
    of_bag = 'in the bag; empty = found by type and name'
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='folder or file of the bag (.mcap, .db3, .bag)'),
        DeclareLaunchArgument('rate', default_value='1.0', description='seconds of the recording per second'),
        DeclareLaunchArgument(
            'rviz', default_value='false', choices=['true', 'false', 'True', 'False'],
            description='show the result in RViz'
        ),
        DeclareLaunchArgument('params_file', default_value='', description='YAML file with parameters of the node'),
        DeclareLaunchArgument('image', default_value='', description=f'topic of the images {of_bag}'),
        DeclareLaunchArgument('camera_info', default_value='', description=f'topic of their calibration {of_bag}'),
        DeclareLaunchArgument('points', default_value='', description=f'topic of the lidar sweeps {of_bag}'),
        DeclareLaunchArgument('odometry', default_value='', description=f'topic of the odometry {of_bag}'),
        DeclareLaunchArgument(
            'image_transport', default_value='', choices=['', 'auto', 'raw', 'compressed'],
            description='images to read; empty = as the parameter file says',
        ),
        DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal'),
        OpaqueFunction(function=replay),
    ])
