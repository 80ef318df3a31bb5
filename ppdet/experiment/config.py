"""An experiment: everything that a configuration says, checked. Its fields are a YAML's top-level keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Optional, Union

from ppdet.config.compat import TOP_LEVEL_KEYS
from ppdet.config.compat_check import Facts, check_rule, move_keys
from ppdet.config.dump import dump
from ppdet.config.errors import ConfigError, Place, Problem, suggestion
from ppdet.config.load import load_text, load_tree
from ppdet.config.not_provided import NOT_PROVIDED
from ppdet.config.overrides import Overrides
from ppdet.config.packaged import config_path
from ppdet.config.ranges import DecayRate, NonNegativeInt, PositiveInt, Seed
from ppdet.config.registry import Table, import_plugins, plugin_path
from ppdet.config.resolve import Resolver
from ppdet.config.schema import schema_of
from ppdet.config.spec import Spec
from ppdet.config.tree import Block, Leaf, Listing, replacements
from ppdet.data import readers
from ppdet.data.datasets.base import Dataset
from ppdet.engine import optim, schedules
from ppdet.engine.hooks import Hook
from ppdet.metrics.base import Metric
from ppdet.metrics.coco import CocoMetric
from ppdet.modeling.interfaces import Detector
from ppdet.utils.errors import FileError
from ppdet.utils.files import write_text

_COCO: Spec[Metric] = Spec.of(CocoMetric)


@dataclass(frozen=True)
class Experiment:
    """What to train, evaluate or run, on which data, and how. Made by `load_config`; never changes.

    Components are `Spec` objects: checked, not built yet.

    Attributes:
        architecture: The detector.
        num_classes: Object classes, without background.
        metric: What evaluation reports: ``COCO``, ``VOC``, or a metric of your own.
        map_type: How VOC averages precision: at 11 recalls (2007), or over the whole curve (2010 on).
        coco_engine: What computes COCO's numbers; ``fast`` is hotcoco (``ppdet[fast]``), equal to 1e-6.
        TrainDataset: Images to train on.
        EvalDataset: Images to evaluate on.
        TestDataset: Images to run on, or the class names for them.
        TrainReader: From images to training batches.
        EvalReader: From images to evaluation batches.
        TestReader: From images to inference batches.
        worker_num: Processes that load data, per reader; 0 to load in the main process.
        LearningRate: Base rate and schedule.
        OptimizerBuilder: Optimiser, weight decay, gradient clipping.
        reference_batch_size: Total batch that the learning rate is meant for; the rate follows the real one.
        accumulate: Batches per optimiser step: a larger total batch than fits in memory.
        epoch: Epochs to train.
        max_iters: Stop after so many steps, whatever `epoch` says.
        use_ema: Evaluate and save an exponential moving average of the weights.
        ema_decay: Its decay per step.
        ema_decay_type: How the decay grows during the first steps.
        ema_black_list: Parts of names of weights that are not averaged but taken as they are.
        ema_filter_no_grad: Weights that are not trained are not averaged but taken as they are.
        amp: Train in mixed precision.
        amp_level: ``O1`` mixed, ``O2`` almost all in half precision.
        custom_white_list: Operators that mixed precision always runs in half precision.
        custom_black_list: Operators that mixed precision always runs in float32.
        master_grad: With ``O2``, keep gradients in float32.
        amp_dtype: Half precision to use; ``auto`` takes bfloat16 where the device has it.
        norm_type: Normalisation of all parts that take one; each part's own default if null.
        find_unused_parameters: Let data-parallel training cope with parameters that get no gradient.
        pretrain_weights: Weights to start from: zoo name, path or URL.
        weights: Weights to evaluate or run: zoo name, path or URL.
        save_dir: Folder for checkpoints and logs; each experiment makes its own inside.
        filename: Name of the experiment's folder in `save_dir`; that of the YAML if null.
        snapshot_epoch: Save, and with ``--eval`` evaluate, every so many epochs.
        snapshot_iter: Save every so many steps too.
        keep_last: Checkpoints to keep besides the final and the best one; null for all.
        eval_iter: With ``--eval``, evaluate every so many steps instead of with the snapshots.
        validation_loss: With ``--eval``, report the training losses on the validation images too.
        best_metric: Number that decides on the best checkpoint, e.g. ``segm.AP``; null for the first one.
        best_is: Whether more or less of it is better.
        patience: Stop after so many evaluations without a new best.
        max_skipped: Steps whose loss or gradient is not finite to leave out before giving up.
        log_iter: Log every so many steps.
        seed: Seed of everything random; null is 0.
        deterministic: Use only operators that repeat exactly, at the price of some speed.
        channels_last: On a GPU, let convolutions run in NHWC where that is faster; for mixed precision.
        cudnn_exhaustive_search: On a GPU, try all algorithms of a convolution; for images of one size.
        use_gpu: Whether ``--device auto`` may choose a GPU; false chooses the CPU.
        use_vdl: Log for VisualDL too.
        vdl_log_dir: Where to.
        use_tensorboard: Log for TensorBoard too.
        tensorboard_log_dir: Where to, in the experiment's folder.
        use_wandb: Log for Weights & Biases too.
        use_mlflow: Log for MLflow too.
        use_clearml: Log for ClearML too.
        hooks: Hooks of your own, called during training.
        plugins: Python files or modules with the user's own components. Listing one runs its code.
    """

    architecture: Spec[Detector]
    num_classes: PositiveInt
    metric: Spec[Metric] = _COCO
    map_type: Literal["11point", "integral"] = "11point"
    coco_engine: Literal["pycocotools", "fast"] = "pycocotools"
    TrainDataset: Optional[Spec[Dataset]] = None
    EvalDataset: Optional[Spec[Dataset]] = None
    TestDataset: Optional[Spec[Dataset]] = None
    TrainReader: Optional[Spec[readers.TrainReader]] = None
    EvalReader: Optional[Spec[readers.EvalReader]] = None
    TestReader: Optional[Spec[readers.TestReader]] = None
    worker_num: NonNegativeInt = 2
    LearningRate: Optional[Spec[schedules.LearningRate]] = None
    OptimizerBuilder: Optional[Spec[optim.OptimizerBuilder]] = None
    reference_batch_size: Optional[PositiveInt] = None
    accumulate: PositiveInt = 1
    epoch: PositiveInt = 12
    max_iters: Optional[PositiveInt] = None
    use_ema: bool = False
    ema_decay: DecayRate = 0.9998
    ema_decay_type: Literal["threshold", "normal", "exponential"] = "threshold"
    ema_black_list: Optional[list[str]] = None
    ema_filter_no_grad: bool = False
    amp: bool = False
    amp_level: Literal["O1", "O2"] = "O1"
    custom_white_list: Optional[list[str]] = None
    custom_black_list: Optional[list[str]] = None
    master_grad: bool = False
    amp_dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    norm_type: Optional[str] = None
    find_unused_parameters: bool = False
    pretrain_weights: Optional[str] = None
    weights: Optional[str] = None
    save_dir: str = "output"
    filename: Optional[str] = None
    snapshot_epoch: PositiveInt = 1
    snapshot_iter: Optional[PositiveInt] = None
    keep_last: Optional[NonNegativeInt] = None
    eval_iter: Optional[PositiveInt] = None
    validation_loss: bool = False
    best_metric: Optional[str] = None
    best_is: Literal["max", "min"] = "max"
    patience: Optional[PositiveInt] = None
    max_skipped: NonNegativeInt = 0
    log_iter: PositiveInt = 20
    seed: Optional[Seed] = None
    deterministic: bool = False
    channels_last: bool = False
    cudnn_exhaustive_search: bool = False
    use_gpu: bool = True
    use_vdl: bool = False
    vdl_log_dir: str = "vdl_log_dir/scalar"
    use_tensorboard: bool = False
    tensorboard_log_dir: str = "tensorboard"
    use_wandb: bool = False
    use_mlflow: bool = False
    use_clearml: bool = False
    hooks: tuple[Spec[Hook], ...] = ()
    plugins: tuple[str, ...] = ()
    #: The YAML it was loaded from.
    source: Path = field(init=False, default=Path(), compare=False)
    #: Place of each top-level key that is written somewhere.
    origins: Mapping[str, Place] = field(init=False, default_factory=dict, compare=False, repr=False)
    #: Where a component replaces one of another class: which arguments of that did not carry over.
    replacements: tuple[str, ...] = field(init=False, default=(), compare=False, repr=False)

    @property
    def name(self) -> str:
        """Name of the experiment's folder: `filename`, or that of the YAML without its ending."""
        return self.filename or self.source.stem

    def __reduce__(self) -> tuple[Any, ...]:  # a MappingProxyType cannot be copied or pickled
        arguments = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return _made, (arguments, self.source, dict(self.origins), self.replacements)

    def to_yaml(self, *, origins: bool = False) -> str:
        """The whole experiment, defaults included, as one YAML without ``_BASE_`` that loads as this one.

        Args:
            origins: Add where each value is written, as a comment.
        """
        return dump(self, self.origins, origins=origins)

    def with_shared(self, name: str, value: Any) -> Experiment:
        """The same experiment with another value of a shared argument, in every component that takes it.

        Args:
            name: A shared argument (`ppdet.config.spec.Shared`), e.g. ``conventions``.
            value: Its value.
        """
        arguments = {
            f.name: _with_argument(getattr(self, f.name), name, value) for f in fields(self) if f.init
        }
        return _made(arguments, self.source, self.origins, self.replacements)

    def save(self, path: Union[str, Path]) -> None:
        """Write `to_yaml` with origins into a file, in one step; its folder is made if need be.

        Raises:
            ConfigError: If it cannot be written.
        """
        try:
            write_text(Path(path), self.to_yaml(origins=True))
        except FileError as error:
            raise ConfigError([Problem(Place(str(path)), f"{error}; choose another save_dir")]) from error


def load_config(config: Union[str, os.PathLike[str]], overrides: Overrides = ()) -> Experiment:
    """Read a configuration, its bases and its plugins.

    Args:
        config: A YAML file, or the name of a configuration that comes with ppdet
            (``"faster_rcnn_r50_fpn_1x_coco"``; `ppdet configs list` shows them).
        overrides: What to change: a mapping of dotted keys to values
            (``{"TrainReader.batch_size": 2}``), or ``"a.b.c=value"`` items.

    Returns:
        A new experiment; nothing of it is shared with others.

    Raises:
        ConfigError: With everything that is wrong, each with file and line.
    """
    problems: list[Problem] = []
    root = load_tree(os.fspath(config), overrides, problems)
    return _resolved(root, config_path(config), problems, run_plugins=True)


def load_config_text(text: str, name: str, overrides: Overrides = ()) -> Experiment:
    """Read the resolved configuration that a checkpoint carries.

    No code is run: a plugin that the text lists is used only if this process has imported it already, since
    a checkpoint may come from a stranger.

    Args:
        text: The YAML, as `Experiment.to_yaml` wrote it.
        name: What messages call it.
        overrides: As in `load_config`.

    Raises:
        ConfigError: With everything that is wrong.
    """
    problems: list[Problem] = []
    root = load_text(text, name, overrides, problems)
    return _resolved(root, Path(name), problems, run_plugins=False)


def as_experiment(config: Union[str, os.PathLike[str], Experiment], overrides: Overrides = ()) -> Experiment:
    """An experiment as it is, or one loaded with `load_config`.

    Raises:
        TypeError: If there are overrides for an experiment that is loaded already.
    """
    if not isinstance(config, Experiment):
        return load_config(config, overrides)
    if overrides:
        raise TypeError("an Experiment is frozen; give the overrides to ppdet.load_config")
    return config


def _resolved(root: Block, source: Path, problems: list[Problem], *, run_plugins: bool) -> Experiment:
    _require_experiment(root)
    plugins = _plugins(root)
    table = Table(import_plugins(plugins, problems, run=run_plugins))
    root = move_keys(root, problems)
    resolver = Resolver(root, table, problems)
    arguments, places = resolver.top_level(Experiment)
    _check_keys(root, table, resolver, problems)
    if problems:
        raise ConfigError(_that_matter(problems))
    arguments["plugins"] = tuple(plugin_path(entry, place) for entry, place in plugins)
    return _made(arguments, source, places, tuple(replacements(root)))


def _with_argument(value: Any, name: str, new: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_with_argument(item, name, new) for item in value)
    if not isinstance(value, Spec):
        return value
    arguments = {key: _with_argument(item, name, new) for key, item in value.arguments.items()}
    parameter = schema_of(value.component).get(name)
    if parameter is not None and parameter.shared:
        arguments[name] = new
    return Spec(value.component, arguments, value.origin, value.origins)


def _require_experiment(root: Block) -> None:
    """Tell the description of a YOLO dataset from a configuration.

    Raises:
        ConfigError: If it is one.
    """
    if (
        "architecture" not in root.items
        and "names" in root.items
        and {"train", "val", "nc"} & set(root.items)
    ):
        raise ConfigError(
            [
                Problem(
                    root.place,
                    "this describes a YOLO dataset, it is no configuration. `ppdet new --data` with this "
                    "file's folder writes one",
                )
            ]
        )


def _made(
    arguments: Mapping[str, Any], source: Path, origins: Mapping[str, Place], replaced: tuple[str, ...]
) -> Experiment:
    # The name is kept in whatever file the experiment is saved.
    filename = arguments.get("filename") or source.stem or None
    experiment = Experiment(**{**arguments, "filename": filename})
    object.__setattr__(experiment, "source", source)
    object.__setattr__(experiment, "origins", MappingProxyType(dict(origins)))
    object.__setattr__(experiment, "replacements", replaced)
    return experiment


def _plugins(root: Block) -> list[tuple[str, Place]]:
    listed = root.items.get("plugins")
    items = listed.items if isinstance(listed, Listing) else ()
    return [(n.value, n.place) for n in items if isinstance(n, Leaf) and isinstance(n.value, str)]


def _that_matter(problems: list[Problem]) -> list[Problem]:
    """All of them; of an architecture that is not provided only it and its other missing components."""
    missing = [p for p in problems if p.not_provided]
    return missing if any(p.place.path == ("architecture",) for p in missing) else problems


def _check_keys(root: Block, table: Table, resolver: Resolver, problems: list[Problem]) -> None:
    """Top-level keys that are neither ours, nor 2.x's, nor a component's."""
    ours = schema_of(Experiment)
    foreign = NOT_PROVIDED | resolver.unknown
    for key, node in root.items.items():
        if key in ours or key in table or key in resolver.shared or key in foreign:
            continue
        if key in TOP_LEVEL_KEYS:
            check_rule(TOP_LEVEL_KEYS[key], node, Facts(), problems)
        else:
            known = [*ours, *table.names, *TOP_LEVEL_KEYS]
            problems.append(Problem(node.place, f"there is no key {key!r}{suggestion(str(key), known)}"))
