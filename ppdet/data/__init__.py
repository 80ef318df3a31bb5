"""Datasets, transforms, and loaders that repeat exactly."""
