"""Training systems: each a small module that composes data, networks and losses."""
