"""The commands of ``depth_ros``, one file each."""
