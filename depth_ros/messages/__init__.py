"""Messages to arrays and back.

Duck-typed: messages of rclpy and of bag readers have the same fields, so one decoder serves both.
"""
