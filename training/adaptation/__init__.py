"""Adapts a network to a robot by its own recordings."""
