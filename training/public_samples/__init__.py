"""Samples of sensors other than KITTI's in public repositories, as frames of ``depth_ros.bags.frames``."""
