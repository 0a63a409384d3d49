"""Dense metric depth from a camera and a sparse lidar. Importing this loads neither torch nor rclpy."""

from depth_ros.numba_cache import place_numba_cache

place_numba_cache()
