"""The networks that run on a robot. Modules that need torch are imported by name; this package loads without it."""
