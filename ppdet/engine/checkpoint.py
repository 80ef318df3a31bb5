"""Checkpoints of a run: weights (`.pdparams`), everything else that training needs (`.pdopt`), and a ledger.

The ledger, ``checkpoints.json``, says which checkpoints are whole, with size and SHA-256 of every file. It is
written last, so a run killed at any instant leaves a ledger whose files are all there: a checkpoint it names
is never overwritten in place.

What ``-r`` means, in this order:

1. ``auto``: the last checkpoint in the ledger of this run's folder.
2. A folder: the last checkpoint in its ledger.
3. A path, with ``.pdparams`` or ``.pdopt`` or without: that checkpoint; it may be one of PaddleDetection 2.x
   (see `ppdet.engine.resume_paddle2x`).

Nothing found, a missing file or a torn one is an error that names it; training never starts over by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from ppdet.utils import safe_pickle
from ppdet.utils.errors import CheckpointError, FileError, WeightsError
from ppdet.utils.files import check_file, remove_leftovers, write_durably
from ppdet.utils.metadata import METADATA_KEY, CheckpointMetadata

logger = logging.getLogger(__name__)

LEDGER = "checkpoints.json"
FINAL = "model_final"
BEST = "best_model"
_SUFFIXES = (".pdparams", ".pdopt")
#: Of the pickles; 2 and later keep arrays as bytes, 4 is what Paddle writes.
_PROTOCOL = 4


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        weights: State dict of the model as it is evaluated (the average, with EMA).
        state: The rest: see `ppdet.engine.state_dicts`.
        notes: What the ledger adds: results of the evaluation that followed the saving.
        path: Its files without ending.
        parameter_names: Of a checkpoint of PaddleDetection 2.x: key -> the parameter name that its `state`
            speaks of. None for a checkpoint of our own.
    """

    weights: dict[str, np.ndarray]
    state: dict[str, Any]
    notes: dict[str, Any]
    path: Path
    parameter_names: Optional[dict[str, str]] = None


def _write(path: Path, write: Callable[[Any], None]) -> dict[str, Any]:
    try:
        return write_durably(path, write)
    except FileError as error:
        raise CheckpointError(
            f"{error}. Nothing that was saved before is lost; make room or choose another save_dir, then "
            "resume (-r)"
        ) from error


class RunFolder:
    """The folder of a run.

    Args:
        path: ``<save_dir>/<config name>``.
        metadata: What every checkpoint says of itself; step, epoch and metrics are filled in.
        keep_last: Checkpoints to keep, besides the final and the best one; None for all.
    """

    def __init__(
        self,
        path: Path,
        *,
        metadata: Optional[CheckpointMetadata] = None,
        keep_last: Optional[int] = None,
    ) -> None:
        if keep_last is not None and keep_last < 1:
            raise CheckpointError(f"keep_last {keep_last}: keep at least 1 checkpoint to resume from")
        self.path = Path(path)
        self._metadata = metadata or CheckpointMetadata()
        self._keep_last = keep_last

    # -- writing

    def start(self) -> None:
        """Begin a run from scratch: ``-r auto`` shall not find an older one. Its files stay."""
        ledger = self.path / LEDGER
        if ledger.exists():
            logger.warning(
                "%s holds an earlier run; new checkpoints replace those of the same name", self.path
            )
            ledger.unlink()

    def save(self, name: str, weights: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Save a checkpoint to resume from, then drop the oldest beyond `keep_last`.

        Args:
            name: ``"3"``, ``"iter_500"``, `FINAL`.
            weights: State dict for the `.pdparams`.
            state: For the `.pdopt`; has ``progress`` with ``step`` and ``epoch``.

        Raises:
            CheckpointError: If it cannot be written; earlier checkpoints are untouched.
        """
        remove_leftovers(self.path)
        ledger = self._ledger() if (self.path / LEDGER).exists() else {"saved": {}}
        step = int(state["progress"]["step"])
        self._drop_oldest(ledger, keep=self._keep_last)  # first, where an earlier run kept more
        spare = f"iter_{step}" if name in ledger["saved"] else None
        if spare is not None:  # files that the ledger vouches for are never overwritten
            self._write(spare, weights, state, ledger)
            ledger["saved"].pop(name)
            self._write_ledger(ledger)
        self._write(name, weights, state, ledger)
        if spare is not None:
            self._drop(spare, ledger)
        self._drop_oldest(ledger, keep=self._keep_last)
        logger.info("saved %s (step %d)", _file(self.path / name, ".pdparams"), step)

    def _drop_oldest(self, ledger: dict[str, Any], *, keep: Optional[int]) -> None:
        names = [name for name in ledger["saved"] if name != FINAL]
        for name in names[: max(0, len(names) - keep)] if keep is not None else []:
            if name != ledger["last"]:
                self._drop(name, ledger)

    def _drop(self, name: str, ledger: dict[str, Any]) -> None:
        ledger["saved"].pop(name)
        self._write_ledger(ledger)  # first: the ledger must not name what is gone
        for suffix in _SUFFIXES:
            with contextlib.suppress(OSError):
                _file(self.path / name, suffix).unlink()

    def _write(
        self, name: str, weights: Mapping[str, np.ndarray], state: Mapping[str, Any], ledger: dict[str, Any]
    ) -> None:
        files: dict[str, Any] = {}
        for suffix, content in ((".pdparams", self._with_metadata(weights, state)), (".pdopt", dict(state))):
            path = self.path / f"{name}{suffix}"
            try:
                files[path.name] = _write(path, functools.partial(_dump, content))
            except CheckpointError:
                for half in files:  # of a pair that is not complete; a full disk needs the room
                    (self.path / half).unlink()
                raise
        progress = state["progress"]
        ledger["saved"].pop(name, None)  # to the end
        ledger["saved"][name] = {"step": progress["step"], "epoch": progress["epoch"], "files": files}
        ledger["last"] = name
        self._write_ledger(ledger)

    def save_best(
        self, weights: Mapping[str, np.ndarray], progress: Mapping[str, Any], metrics: Mapping[str, Any]
    ) -> None:
        """Replace `best_model.pdparams`."""
        content = self._with_metadata(weights, {"progress": progress}, metrics)
        _write(self.path / f"{BEST}.pdparams", functools.partial(_dump, content))

    def note(self, name: str, notes: Mapping[str, Any]) -> None:
        """Add to the ledger's row of a checkpoint."""
        ledger = self._ledger()
        ledger["saved"][name]["notes"] = dict(notes)
        self._write_ledger(ledger)

    def _with_metadata(
        self,
        weights: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        metrics: Optional[Mapping[str, Any]] = None,
    ) -> dict[str, np.ndarray]:
        progress = state["progress"]
        metadata = dataclasses.replace(
            self._metadata,
            step=int(progress["step"]),
            epoch=int(progress["epoch"]),
            metrics=dict(metrics or {}),
        )
        return {**weights, METADATA_KEY: metadata.to_array()}

    def _write_ledger(self, ledger: Mapping[str, Any]) -> None:
        text = json.dumps(ledger, indent=1).encode("utf-8")
        _write(self.path / LEDGER, lambda f: f.write(text))

    # -- reading

    def _ledger(self) -> dict[str, Any]:
        path = self.path / LEDGER
        try:
            content = json.loads(path.read_text("utf-8"))
            if not isinstance(content["saved"], dict) or content["last"] not in content["saved"]:
                raise ValueError("its entries do not fit each other")
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: no checkpoint to resume from ({LEDGER}: {error.strerror}). Start without "
                "resume (-r), or give it the path of a checkpoint"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: damaged: {error}. Resume (-r) from the path of a checkpoint in the folder"
            ) from error
        return dict(content)

    def find(self, resume: str) -> tuple[Path, Optional[dict[str, Any]]]:
        """Files (without ending) and row of the ledger that ``-r`` names; see the module's docstring.

        Raises:
            CheckpointError: If there is none.
        """
        path = self.path if resume == "auto" else Path(resume)
        if path.is_dir():
            ledger = RunFolder(path)._ledger()
            return path / ledger["last"], ledger["saved"][ledger["last"]]
        if path.suffix in _SUFFIXES:
            path = path.with_suffix("")
        if not any(_file(path, suffix).exists() for suffix in _SUFFIXES):
            raise CheckpointError(f"{resume}: no such folder or checkpoint; resume (-r) takes auto or a path")
        row = None
        with contextlib.suppress(CheckpointError):  # moved elsewhere: files without a ledger are fine
            row = RunFolder(path.parent)._ledger()["saved"].get(path.name)
        return path, row

    def load(self, resume: str) -> Checkpoint:
        """Read a checkpoint to resume from.

        Raises:
            CheckpointError: If a part is missing or torn; names it.
        """
        path, row = self.find(resume)
        for name, record in (row or {}).get("files", {}).items():
            check_file(path.parent / name, record)
        if not _file(path, ".pdopt").exists():
            raise CheckpointError(
                f"{_file(path, '.pdopt')}: missing, so training cannot continue exactly. To start from these "
                f"weights instead, leave out resume (-r) and set pretrain_weights: {_file(path, '.pdparams')}"
            )
        try:
            weights = safe_pickle.load(_file(path, ".pdparams"), keep_names=True)
            state = safe_pickle.load(_file(path, ".pdopt"))
        except WeightsError as error:
            raise CheckpointError(f"torn or foreign checkpoint: {error}") from error
        metadata = weights.pop(METADATA_KEY, None)
        parameter_names = weights.pop(safe_pickle.STRUCTURED_NAMES, None)
        if "progress" not in state:
            return self._of_2x(path, weights, parameter_names, state)
        if metadata is not None:
            step = CheckpointMetadata.from_array(metadata, source=str(path)).step
            if step != state["progress"]["step"]:
                raise CheckpointError(
                    f"{path}: the .pdparams is of step {step}, the .pdopt of {state['progress']['step']}; "
                    "they do not belong together"
                )
        return Checkpoint(weights, state, dict((row or {}).get("notes", {})), path)

    @staticmethod
    def _of_2x(
        path: Path, weights: dict[str, np.ndarray], names: Optional[dict[str, str]], state: dict[str, Any]
    ) -> Checkpoint:
        """A checkpoint whose `.pdopt` is not ours: that of 2.x, or nothing to continue from."""
        instead = (
            "To start from its weights, leave out resume (-r) and set pretrain_weights: "
            f"{_file(path, '.pdparams')}"
        )
        if "last_epoch" not in state or "LR_Scheduler" not in state:
            raise CheckpointError(
                f"{_file(path, '.pdopt')}: neither of ppdet nor of PaddleDetection 2.x (that has last_epoch "
                f"and LR_Scheduler). {instead}"
            )
        if _file(path, ".pdema").exists():
            raise CheckpointError(
                f"{_file(path, '.pdema')}: a training of PaddleDetection 2.x with a moving average, which "
                f"cannot continue exactly. {instead}"
            )
        if names is None:
            raise CheckpointError(
                f"{_file(path, '.pdparams')}: has no {safe_pickle.STRUCTURED_NAMES}, so nothing says which "
                "parameters the .pdopt belongs to. Use the file as paddle.save wrote it, not converted. "
                f"{instead}"
            )
        return Checkpoint(weights, state, {}, path, names)


def _dump(content: dict[str, Any], file: Any) -> None:
    pickle.dump(content, file, _PROTOCOL)


def _file(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
