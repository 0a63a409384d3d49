"""Estimators: from an image and sparse depth to dense depth and its standard deviation."""
