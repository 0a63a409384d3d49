"""Dense metric depth from a camera and a sparse lidar. Importing this loads neither torch nor rclpy."""
