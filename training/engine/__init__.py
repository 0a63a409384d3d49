"""The training engine: what all systems share."""
