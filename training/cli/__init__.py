"""One file per command of ``depth_ros_training``."""
