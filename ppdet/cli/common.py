"""Arguments that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from ppdet.utils.errors import UserError

if TYPE_CHECKING:
    from ppdet.experiment.config import Experiment
    from ppdet.modeling.interfaces import Detector

logger = logging.getLogger(__name__)


class CommandError(UserError):
    """A command line whose parts do not make sense together."""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c`` and ``-o``."""
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="YAML of the experiment")
    parser.add_argument(
        "-o",
        "--opt",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override values, e.g. -o epoch=2 TrainReader.sample_transforms.RandomFlip.prob=0",
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|gpu[:i]",
        help="where to compute; auto (default) takes a GPU if Paddle and the machine have one, unless the "
        "config says use_gpu: false",
    )


#: Choices of ``--runtime``; those of `ppdet.export.choose`, which would take seconds to import here.
RUNTIMES = ("auto", "native", "paddle", "paddle-bf16", "onnx")


def add_runtime_argument(parser: argparse.ArgumentParser) -> None:
    """``--runtime``."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="what runs the network: the model itself (native), Paddle Inference, the same in bfloat16 "
        "(coarser), ONNX Runtime, or (default) the fastest that is installed and finds the same objects",
    )


def load_experiment(args: argparse.Namespace, *, extra: tuple[str, ...] = ()) -> Experiment:
    """The experiment that ``-c`` and ``-o`` describe; `extra` overrides come last and win."""
    from ppdet.experiment.config import load_config

    return load_config(args.config, overrides=[*args.opt, *extra])


class Trained(NamedTuple):
    """A model ready to use.

    Attributes:
        experiment: What `-c` and `-o` say.
        model: The detector, in evaluation mode.
        class_names: Its class names by label; empty only if they were not asked for and nothing knows them.
        source: The weight file.
    """

    experiment: Experiment
    model: Detector
    class_names: tuple[str, ...]
    source: str


def load_trained(
    args: argparse.Namespace,
    *,
    names_needed: bool,
    classes: Optional[str] = None,
    extra: tuple[str, ...] = (),
    allow_partial: bool = False,
) -> Trained:
    """The experiment with the weights that ``--weights`` names, or else its own `weights`.

    Args:
        args: With `config`, `opt`, `weights` and `device`.
        names_needed: Whether weights that nobody knows the class names of are an error.
        classes: Class names, for weights that carry none.
        extra: Overrides that come last.
        allow_partial: Accept weights that leave parts of the model as they are.

    Raises:
        UserError: If there are no such weights, or they are not of this model.
    """
    from ppdet.experiment.build import build_model, set_device
    from ppdet.zoo import load_weights, read_source
    from ppdet.zoo.class_names import class_names_of

    experiment = load_experiment(args, extra=extra)
    wanted = args.weights or experiment.weights
    if not wanted:
        raise CommandError(
            f"{args.config} names no weights; say which with --weights FILE, or -o weights=FILE"
        )
    set_device(args.device, use_gpu=experiment.use_gpu)
    file = read_source(wanted)
    names: tuple[str, ...] = ()
    if names_needed or file.metadata.class_names:
        names = class_names_of(file, classes=classes, num_classes=experiment.num_classes)
    conventions = file.metadata.conventions
    if conventions:
        experiment = load_experiment(args, extra=(*extra, f"conventions={conventions}"))
        logger.info("these weights mean boxes in the %s conventions; the model is built in them", conventions)
    model = build_model(experiment)
    report = load_weights(model, file, class_names=names, allow_partial=allow_partial)
    model.eval()
    return Trained(experiment, model, names, report.source)


def make_folder(path: Path) -> Path:
    """A folder that files can be written to, made if it is not there.

    Raises:
        CommandError: If it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise CommandError(
            f"output folder {path} cannot be written: {error.strerror or error}. Choose another "
            "(--output_dir for infer, -o save_dir=... for train), or change its permissions"
        ) from None
    return path
