"""Curves and pictures for experiment trackers: Weights & Biases, MLflow, ClearML.

Each is used only where the config turns it on, and takes addresses, keys and offline mode from its own
environment variables (``WANDB_MODE=offline``, ``MLFLOW_TRACKING_URI``, ``CLEARML_OFFLINE_MODE=1``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.engine.sinks import Sink
from ppdet.utils.errors import TrainingError

#: Name under which runs are grouped, unless the tracker's own variable gives another.
PROJECT = "ppdet"


class WandbSink(Sink):
    """A run of Weights & Biases; its files go into the folder of the training.

    Args:
        folder: Of the training; its name is that of the run.

    Raises:
        TrainingError: If wandb is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "use_wandb") from None
        self._wandb: Any = wandb
        self._folder = folder
        self._run: Any = None

    def open(self) -> None:
        """Start the run."""
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=project, name=self._folder.name, dir=str(self._folder), resume="auto"
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Write what is left."""
        if self._run is not None:
            self._run.finish()


class MlflowSink(Sink):
    """A run of MLflow, in a folder beside the checkpoints unless ``MLFLOW_TRACKING_URI`` names a server.

    Args:
        folder: Of the training; its name is that of the run.

    Raises:
        TrainingError: If MLflow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import mlflow
        except ImportError:
            raise _missing("mlflow", "use_mlflow") from None
        self._mlflow: Any = mlflow
        self._folder = folder

    def open(self) -> None:
        """Start the run."""
        if "MLFLOW_TRACKING_URI" not in os.environ:
            # MLflow 3 refuses folders without this; its databases need packages that mlflow-skinny lacks.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self._mlflow.set_tracking_uri((self._folder / "mlruns").resolve().as_uri())
        self._mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        self._mlflow.start_run(run_name=self._folder.name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        self._mlflow.log_metrics(dict(values), step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture."""
        self._mlflow.log_image(image, artifact_file=f"{Path(name).with_suffix('')}/{step:08d}.png")

    def close(self) -> None:
        """Write what is left."""
        self._mlflow.end_run()


class ClearMlSink(Sink):
    """A task of ClearML.

    Args:
        folder: Of the training; its name is that of the task.

    Raises:
        TrainingError: If ClearML is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from clearml import Task
        except ImportError:
            raise _missing("clearml", "use_clearml") from None
        self._task_class: Any = Task
        self._name = folder.name
        self._task: Any = None

    def open(self) -> None:
        """Start the task."""
        # Its own hooks into other libraries would upload checkpoints; only what is logged here is sent.
        self._task = self._task_class.init(
            project_name=os.environ.get("CLEARML_PROJECT", PROJECT),
            task_name=self._name,
            auto_connect_frameworks=False,
            auto_connect_arg_parser=False,
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name; the part before the first slash groups them in a plot."""
        for name, value in values.items():
            title, _, series = name.partition("/")
            self._task.get_logger().report_scalar(title, series or title, value, iteration=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture."""
        title, _, series = name.partition("/")
        self._task.get_logger().report_image(title, series or title, iteration=step, image=image)

    def close(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.close()


def _missing(name: str, key: str) -> TrainingError:
    return TrainingError(f'{name} is not installed: pip install "ppdet[{name}]", or {key}: false')
