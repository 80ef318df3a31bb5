"""Progress for people and programs: bar, log file, JSON lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from tqdm import tqdm

from ppdet.engine.hooks import Hook, Run, StepLog
from ppdet.utils.files import write_text

logger = logging.getLogger(__name__)

LOG_FILE = "train.log"
RECORDS = "metrics.jsonl"


class ProgressBar(Hook):
    """A bar with the current numbers on a terminal, a line per log elsewhere."""

    def __init__(self) -> None:
        self._bar: Optional[tqdm[Any]] = None

    def before_train(self, trainer: Run) -> None:
        """Open the bar where training stands."""
        # disable=None: no bar where output goes to a file
        self._bar = tqdm(
            total=trainer.last_step,
            initial=trainer.progress.step,
            unit="step",
            disable=None,
            dynamic_ncols=True,
        )

    def after_step(self, trainer: Run) -> None:
        """One further."""
        if self._bar is not None:
            self._bar.update(trainer.progress.step - self._bar.n)

    def after_log(self, trainer: Run, log: StepLog) -> None:
        """The numbers."""
        line = describe(log, trainer.last_step)
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(f"loss {log.losses['loss']:.4f} lr {log.learning_rate:.2e}")
        logger.info(line)

    def after_train(self, trainer: Run) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def describe(log: StepLog, last_step: int) -> str:
    """A log as one line."""
    terms = " ".join(f"{name} {value:.4f}" for name, value in log.losses.items())
    hours, rest = divmod(int(log.eta), 3600)
    return (
        f"epoch {log.epoch} step {log.step}/{last_step} {terms} lr {log.learning_rate:.6f} "
        f"data {log.data_time:.3f} s batch {log.batch_time:.3f} s {log.images_per_second:.1f} img/s "
        f"eta {hours}:{rest // 60:02d}:{rest % 60:02d} mem {log.memory / 2**20:.0f} MB"
    )


class LogFile(Hook):
    """Copies what the package logs during training into a file.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handler: Optional[logging.Handler] = None

    def before_train(self, trainer: Run) -> None:
        """Open the file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(self._folder / LOG_FILE, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger("ppdet").addHandler(self._handler)

    def after_train(self, trainer: Run) -> None:
        """Close the file."""
        if self._handler is not None:
            logging.getLogger("ppdet").removeHandler(self._handler)
            self._handler.close()


class JsonLines(Hook):
    """Every log and every evaluation as a line of JSON; steps that a resumed run repeats appear once.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORDS

    def before_train(self, trainer: Run) -> None:
        """Drop lines of steps that will be done again (or all, if this is a new run)."""
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        write_text(self._path, "".join(line + "\n" for line in lines if self._stays(line, trainer)))

    @staticmethod
    def _stays(line: str, trainer: Run) -> bool:
        progress = trainer.progress
        try:
            record = json.loads(line)
            again = record["kind"] == "eval" and progress.unevaluated
            return 0 < record["step"] <= progress.step - again
        except (ValueError, KeyError, TypeError):
            return False  # the line that a kill cut off

    def after_log(self, trainer: Run, log: StepLog) -> None:
        """Write a log."""
        self._write({"kind": "train", **vars(log), "losses": dict(log.losses)})

    def after_evaluation(self, trainer: Run, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Write the numbers of an evaluation."""
        self._write(
            {"kind": "eval", "step": trainer.progress.step, "epoch": trainer.progress.epoch, **metrics}
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
