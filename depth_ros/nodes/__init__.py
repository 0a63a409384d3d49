"""One node per file: convert, call the pipeline, publish. Imports rclpy."""
