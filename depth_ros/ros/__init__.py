"""What nodes have in common. Imports rclpy."""
