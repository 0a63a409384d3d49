"""Training data: samples, where they come from, and how they are varied."""
