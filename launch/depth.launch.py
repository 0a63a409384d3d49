"""Depth from a camera and a lidar.

``ros2 launch depth_ros depth.launch.py image:=/camera/image camera_info:=/camera/camera_info points:=/lidar``
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from depth_ros.ros.transport import shared_file, transport_environment
from launch import LaunchDescription

TOPICS = {
    'image': 'camera images (raw; compressed ones are looked for in <image>/compressed)',
    'camera_info': 'calibration of the camera',
    'points': 'lidar sweeps',
    'odometry': 'odometry, if there is any',
}
# Launch argument -> parameter. Without a value the parameter file decides.
OVERRIDES = {'use_sim_time': 'use_sim_time', 'autostart': 'autostart', 'image_transport': 'input.image_transport'}
BOOLEANS = ('', 'true', 'false', 'True', 'False')
FILES = ('base_params_file', 'params_file')


def transport(context):
    # The node would do so itself; this way drivers that the same launch starts afterwards have it, too.
    environment, notes = transport_environment()
    return [
        *(SetEnvironmentVariable(name, value) for name, value in environment.items()),
        *(LogInfo(msg=note) for note in notes),
    ]


def depth_node(context):
    given = {name: context.launch_configurations[argument] for argument, name in OVERRIDES.items()}
    overrides = {
        name: value.lower() == 'true' if value in BOOLEANS else value for name, value in given.items() if value != ''
    }
    files = {name: context.launch_configurations[name] for name in FILES}
    for name, file in files.items():
        # Launch itself would warn, and start the node without the parameters.
        if file and not Path(file).is_file():
            raise FileNotFoundError(f'{name} is {file!r}, which is no file; name a YAML file with parameters')
    return [
        LifecycleNode(
            package='depth_ros',
            executable='depth_node',
            name='depth_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=[*(file for file in files.values() if file), overrides],
            remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
    ]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument('params_file', default_value='', description='YAML file with parameters; it comes last'),
        DeclareLaunchArgument(
            'base_params_file', default_value=str(shared_file('config/depth_node.yaml')),
            description='YAML file with parameters that params_file may override',
        ),
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node and its topics'),
        DeclareLaunchArgument(
            'image_transport', default_value='', choices=['', 'auto', 'raw', 'compressed'],
            description='images to read; empty = as the parameter files say',
        ),
        DeclareLaunchArgument(
            'use_sim_time', default_value='', choices=BOOLEANS, description='time from /clock (bags, simulation)'
        ),
        DeclareLaunchArgument(
            'autostart', default_value='', choices=BOOLEANS, description='configure and activate it (default true)'
        ),
        DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal'),
        *(DeclareLaunchArgument(name, default_value=name, description=text) for name, text in TOPICS.items()),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=transport), OpaqueFunction(function=depth_node)])
