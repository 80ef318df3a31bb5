"""Errors, files, versions and safe pickles; knows nothing of detection."""
