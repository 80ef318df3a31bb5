"""Errors, files, versions and safe pickles; nothing that is specific to detection."""
