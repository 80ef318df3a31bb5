"""A file that says how and where a training runs, for reports and for whoever reads the folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import paddle

from ppdet.engine import distributed
from ppdet.engine.evaluator import hardware, versions
from ppdet.engine.hooks import Hook, Run
from ppdet.utils.files import write_json

FACTS = "run.json"


class RunFacts(Hook):
    """Writes ``run.json``: command, start, lengths, hardware, versions, and what the caller adds.

    Args:
        folder: Folder of the run.
        facts: E.g. the model, the sizes of the datasets, the seed.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self._path = folder / FACTS
        self._facts = dict(facts)

    def before_train(self, trainer: Run) -> None:
        """Write the file."""
        facts = {
            **self._facts,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "from_step": trainer.progress.step,
            "last_step": trainer.last_step,
            "steps_per_epoch": trainer.steps_per_epoch,
            "processes": distributed.world_size(),
            "device": paddle.get_device(),
            "best_metric": trainer.settings.best_metric,
            "best_is": trainer.settings.best_is,
            "seed": trainer.settings.seed,
            "hardware": hardware(),
            "versions": versions(),
        }
        write_json(self._path, facts, indent=1)
