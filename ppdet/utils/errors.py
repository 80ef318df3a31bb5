"""Errors that a user can act on."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: a config, a dataset, a weight file, a command.

    The message names the thing, the value and the cure; the command line prints it without a
    traceback and exits with status 2.
    """


class WeightsError(UserError):
    """A weight file that cannot be found, fetched, trusted or fitted to the model."""


class DataError(UserError):
    """A dataset that is missing, broken, or does not fit the model."""


class FileError(UserError):
    """A file that cannot be written."""


class TrainingError(UserError):
    """Training cannot start or continue; the message says why and what to do."""


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, found or trusted."""
