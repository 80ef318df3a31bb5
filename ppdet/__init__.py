"""ppdet: config-driven object-detection training on PaddlePaddle.

The public names below load what they need when they are first used, so `import ppdet` costs nothing. It only
sets environment variables that Paddle's matrix library reads (`ppdet.utils.cpu`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ppdet.utils.cpu import prepare_environment

if TYPE_CHECKING:
    from ppdet.config import register
    from ppdet.data.datasets.base import Dataset
    from ppdet.data.datasets.samples import SampleDataset
    from ppdet.engine.hooks import Hook
    from ppdet.experiment.build import build_model, predict
    from ppdet.experiment.config import load_config
    from ppdet.metrics.base import Metric
    from ppdet.structures import Sample, Target
    from ppdet.zoo import load_weights

prepare_environment()

__version__ = "0.1.0"

_HOME = {
    "Dataset": "ppdet.data.datasets.base",
    "Hook": "ppdet.engine.hooks",
    "Metric": "ppdet.metrics.base",
    "Sample": "ppdet.structures",
    "SampleDataset": "ppdet.data.datasets.samples",
    "Target": "ppdet.structures",
    "load_config": "ppdet.experiment.config",
    "register": "ppdet.config",
    "build_model": "ppdet.experiment.build",
    "load_weights": "ppdet.zoo",
    "predict": "ppdet.experiment.build",
}
__all__ = [
    "Dataset",
    "Hook",
    "Metric",
    "Sample",
    "SampleDataset",
    "Target",
    "__version__",
    "build_model",
    "load_config",
    "load_weights",
    "predict",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ppdet' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
