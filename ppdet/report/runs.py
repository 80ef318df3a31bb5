"""What a training leaves in its folder, read back: a running, a finished or a broken one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ppdet.report.page import ReportError

#: Names of files, as `ppdet.engine` writes them.
RECORDS, LOG, CONFIG, FACTS, PICTURES = "metrics.jsonl", "train.log", "config.yml", "run.json", "pictures"
_WARNING = re.compile(r"^(\S+ \S+) (WARNING|ERROR) [\w.]+: (.*)$")


@dataclass
class TrainingRun:
    """A training.

    Attributes:
        folder: Its folder.
        logs: Records of the losses, by step.
        evaluations: Records of evaluations, by step.
        facts: Command, versions, hardware, lengths; empty for runs of earlier versions.
        config: The resolved config as text; empty where there is none.
        warnings: Time, level and text of warnings and errors of the log.
    """

    folder: Path
    logs: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    warnings: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def step(self) -> int:
        """The last step recorded."""
        return max((int(row["step"]) for row in [*self.logs[-1:], *self.evaluations[-1:]]), default=0)

    @property
    def steps_per_epoch(self) -> Optional[float]:
        """Steps of an epoch, from the facts or the records."""
        if "steps_per_epoch" in self.facts:
            return float(self.facts["steps_per_epoch"])
        ends = [row for row in self.evaluations if row.get("epoch")]
        return ends[-1]["step"] / ends[-1]["epoch"] if ends else None

    @property
    def last_step(self) -> Optional[int]:
        """Steps of the whole training, from the facts or the time left."""
        if "last_step" in self.facts:
            return int(self.facts["last_step"])
        if not self.logs or not self.logs[-1].get("batch_time"):
            return None
        last = self.logs[-1]
        return int(last["step"]) + round(float(last["eta"]) / float(last["batch_time"]))

    def scores(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value by name of every number of the evaluations, e.g. ``bbox.AP``; without -1."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.evaluations:
            for task, numbers in row.items():
                if isinstance(numbers, Mapping):
                    for name, value in numbers.items():
                        if isinstance(value, (int, float)) and value > -1:
                            found.setdefault(f"{task}.{name}", []).append((int(row["step"]), float(value)))
        return found

    @property
    def main_score(self) -> Optional[str]:
        """The number that decides on the best checkpoint."""
        names = [name for name in self.scores() if not name.startswith("loss.")]
        chosen = self.facts.get("best_metric")
        return chosen if chosen in self.scores() else (names[0] if names else None)

    def best(self) -> Optional[tuple[int, float]]:
        """Step and value of the best evaluation."""
        name = self.main_score
        if name is None:
            return None
        choose = min if self.facts.get("best_is") == "min" else max
        return choose(self.scores()[name], key=lambda point: point[1])

    def pictures(self) -> list[tuple[int, list[Path]]]:
        """Drawn validation images by step."""
        steps = [path for path in (self.folder / PICTURES).glob("*") if path.name.isdigit()]
        return [(int(path.name), sorted(path.glob("*.jpg"))) for path in sorted(steps)]


def read_run(folder: Path) -> TrainingRun:
    """Read the folder of a training.

    Raises:
        ReportError: If it is not one.
    """
    records = folder / RECORDS
    if not records.is_file():
        raise ReportError(f"{folder}: expected the folder of a training with a {RECORDS}; there is none")
    run = TrainingRun(folder, config=_text(folder / CONFIG))
    for line in _text(records).splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the last line of a run that writes at this moment
        (run.evaluations if record.get("kind") == "eval" else run.logs).append(record)
    try:
        run.facts = json.loads(_text(folder / FACTS) or "{}")
    except ValueError:
        run.facts = {}
    for line in _text(folder / LOG).splitlines():
        match = _WARNING.match(line)
        if match is not None:
            run.warnings.append((match[1], match[2], match[3]))
    return run


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""
