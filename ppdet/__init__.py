"""ppdet: config-driven object-detection training on PaddlePaddle.

The public names below load what they need when they are first used, so `import ppdet` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ppdet.utils.cpu import prepare_environment
from ppdet.utils.packages import missing_package, require_packages

if TYPE_CHECKING:
    from ppdet.config import register
    from ppdet.config.packaged import packaged_configs
    from ppdet.data.datasets.base import Dataset
    from ppdet.data.datasets.samples import SampleDataset
    from ppdet.data.tools.new import NewConfig, new_config
    from ppdet.engine.hooks import Hook
    from ppdet.experiment.build import build_model
    from ppdet.experiment.config import Experiment, load_config
    from ppdet.experiment.evaluate import EvalResult, evaluate
    from ppdet.experiment.predict import PredictOptions, PredictResult, predict
    from ppdet.experiment.sharing import PushOptions, PushResult, push_weights
    from ppdet.experiment.sources import load_detector
    from ppdet.experiment.train import TrainResult, train
    from ppdet.experiment.trained import TrainedDetector, draw
    from ppdet.inference.views import ViewOptions
    from ppdet.metrics.base import Metric
    from ppdet.serve.limits import ServeLimits
    from ppdet.serve.server import ServeOptions, serve_detector
    from ppdet.structures import Categories, Detection, Detections, Sample, Target
    from ppdet.utils.errors import UserError
    from ppdet.zoo import load_weights

prepare_environment()

__version__ = "0.1.0"

_HOME = {
    "Categories": "ppdet.structures",
    "Dataset": "ppdet.data.datasets.base",
    "Detection": "ppdet.structures",
    "Detections": "ppdet.structures",
    "EvalResult": "ppdet.experiment.evaluate",
    "Experiment": "ppdet.experiment.config",
    "Hook": "ppdet.engine.hooks",
    "Metric": "ppdet.metrics.base",
    "NewConfig": "ppdet.data.tools.new",
    "PredictOptions": "ppdet.experiment.predict",
    "PredictResult": "ppdet.experiment.predict",
    "PushOptions": "ppdet.experiment.sharing",
    "PushResult": "ppdet.experiment.sharing",
    "Sample": "ppdet.structures",
    "SampleDataset": "ppdet.data.datasets.samples",
    "Target": "ppdet.structures",
    "ServeLimits": "ppdet.serve.limits",
    "ServeOptions": "ppdet.serve.server",
    "TrainResult": "ppdet.experiment.train",
    "TrainedDetector": "ppdet.experiment.trained",
    "UserError": "ppdet.utils.errors",
    "ViewOptions": "ppdet.inference.views",
    "build_model": "ppdet.experiment.build",
    "draw": "ppdet.experiment.trained",
    "evaluate": "ppdet.experiment.evaluate",
    "load_config": "ppdet.experiment.config",
    "load_detector": "ppdet.experiment.sources",
    "load_weights": "ppdet.zoo",
    "new_config": "ppdet.data.tools.new",
    "packaged_configs": "ppdet.config.packaged",
    "predict": "ppdet.experiment.predict",
    "push_weights": "ppdet.experiment.sharing",
    "register": "ppdet.config",
    "serve_detector": "ppdet.serve.server",
    "train": "ppdet.experiment.train",
}
#: Names that need neither PaddlePaddle nor OpenCV.
_LIGHT = {
    "Categories",
    "Detection",
    "Detections",
    "Sample",
    "ServeLimits",
    "Target",
    "UserError",
    "packaged_configs",
    "register",
}
__all__ = [
    "Categories",
    "Dataset",
    "Detection",
    "Detections",
    "EvalResult",
    "Experiment",
    "Hook",
    "Metric",
    "NewConfig",
    "PredictOptions",
    "PredictResult",
    "PushOptions",
    "PushResult",
    "Sample",
    "SampleDataset",
    "ServeLimits",
    "ServeOptions",
    "Target",
    "TrainResult",
    "TrainedDetector",
    "UserError",
    "ViewOptions",
    "__version__",
    "build_model",
    "draw",
    "evaluate",
    "load_config",
    "load_detector",
    "load_weights",
    "new_config",
    "packaged_configs",
    "predict",
    "push_weights",
    "register",
    "serve_detector",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ppdet' has no attribute {name!r}")
    if name not in _LIGHT:
        require_packages()
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        raise missing_package(error) from error


def __dir__() -> list[str]:
    return sorted(__all__)
