"""Worlds with exact truth: procedural scenes, ray-cast cameras and lidars, a drive through them, and bags of it."""
