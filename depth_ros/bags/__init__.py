"""Bags: read, choose topics, stream, write, import. No ROS needed."""
