"""Errors of exporting and of running exports."""

from __future__ import annotations

from ppdet.utils.errors import UserError


class ExportError(UserError):
    """A model that cannot be exported or whose export cannot be run."""


class VerifyError(ExportError):
    """An export whose detections differ from those of its model."""
