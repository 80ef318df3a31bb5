"""Keeps the page of a training up to date while it runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ppdet.engine import distributed
from ppdet.engine.hooks import Hook, Run
from ppdet.report.training import write_training_report
from ppdet.utils.errors import UserError

logger = logging.getLogger(__name__)


class TrainingReport(Hook):
    """Writes ``report.html`` after every evaluation and at the end, in the first process.

    A page that cannot be written is a warning: it must not end a training.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def after_evaluation(self, trainer: Run, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Write the page."""
        self._write()

    def after_train(self, trainer: Run) -> None:
        """Write the page with the last logs."""
        self._write()

    def _write(self) -> None:
        if not distributed.is_main():
            return
        try:
            write_training_report(self._folder)
        except UserError as error:
            logger.warning("no report: %s", error)
