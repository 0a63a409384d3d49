"""Reproduces what papers claim, at small scale."""
