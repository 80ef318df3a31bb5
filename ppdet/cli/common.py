"""Arguments that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Optional

from ppdet.utils.errors import UserError

if TYPE_CHECKING:
    from ppdet.experiment.config import Experiment
    from ppdet.experiment.trained import CheckpointDetector, TrainedDetector
    from ppdet.inference.views import ViewOptions

logger = logging.getLogger(__name__)

#: Choices of ``--runtime``; those of `ppdet.export.choose`, which would take seconds to import here.
RUNTIMES = ("auto", "native", "paddle", "paddle-bf16", "onnx", "openvino")


class CommandError(UserError):
    """A command line whose parts do not make sense together."""


def add_config_arguments(
    parser: argparse.ArgumentParser, *, required: bool = True, help: Optional[str] = None
) -> None:
    """``-c`` and ``-o``; `help` in place of what is said of ``-c`` elsewhere."""
    default = "" if required else "; default: the one that the weights carry"
    parser.add_argument(
        "-c",
        "--config",
        required=required,
        metavar="FILE|NAME",
        help=help or "YAML of the experiment, or one of `ppdet configs list`" + default,
    )
    parser.add_argument(
        "-o",
        "--opt",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override values, e.g. -o epoch=2 TrainReader.sample_transforms.RandomFlip.prob=0",
    )


def add_weights_argument(parser: argparse.ArgumentParser, action: str) -> None:
    """``--weights``."""
    parser.add_argument(
        "--weights",
        metavar="FILE|DIR|NAME|URL",
        help=f"what to {action}: a checkpoint, the folder of an export, a zoo name, a URL, hf://owner/name; "
        "default: the config's `weights`",
    )


def add_classes_argument(parser: argparse.ArgumentParser) -> None:
    """``--classes``."""
    parser.add_argument(
        "--classes",
        metavar="NAMES|FILE",
        help="class names, `a,b,c` or one a line, for weights that carry none",
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


def add_runtime_argument(parser: argparse.ArgumentParser) -> None:
    """``--runtime``."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="what runs the network: Paddle operation by operation (native), Paddle Inference, the same in "
        "bfloat16 (less exact), ONNX Runtime, OpenVINO, or (default) the fastest of those that are installed "
        "and verified",
    )


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """``--tta``, ``--slice_infer`` and what belongs to them, spelled as in PaddleDetection 2.x."""
    group = parser.add_argument_group("test-time augmentation")
    group.add_argument(
        "--tta",
        action="store_true",
        help="run each image at several sizes (those of the reader's MultiscaleTestResize, else 1, 0.8 and "
        "1.2 times its own), mirrored too, and merge the detections",
    )
    group.add_argument(
        "--slice_infer", action="store_true", help="run overlapping tiles of large images too, and merge"
    )
    group.add_argument(
        "--slice_size",
        nargs="+",
        type=int,
        default=[640],
        metavar="PIXELS",
        help="side of a tile, or its height and width (default: 640)",
    )
    group.add_argument(
        "--overlap_ratio",
        nargs="+",
        type=float,
        default=[0.25],
        metavar="SHARE",
        help="share of a tile that overlaps the next one, or vertically and horizontally (default: 0.25)",
    )
    group.add_argument(
        "--combine_method",
        choices=("nms", "concat"),
        default="nms",
        help="nms (default) merges detections that match, concat lists them all",
    )
    group.add_argument(
        "--match_threshold",
        type=float,
        metavar="IOU",
        help="IoU from which on detections match (default: that of the model's NMS)",
    )


def views_from(args: argparse.Namespace) -> ViewOptions:
    """The test-time augmentation that the options describe."""
    from ppdet.inference.views import ViewOptions

    height, width = _pair("--slice_size", args.slice_size)
    down, right = _pair("--overlap_ratio", args.overlap_ratio)
    return ViewOptions(
        multi_scale=args.tta,
        tile_size=(int(height), int(width)) if args.slice_infer else None,
        tile_overlap=(down, right),
        merge=args.combine_method == "nms",
        match_threshold=args.match_threshold,
    )


def _pair(option: str, values: list[float]) -> tuple[float, float]:
    if len(values) not in (1, 2):
        raise CommandError(f"{option} takes one number or two, not {len(values)}")
    return values[0], values[-1]


def load_experiment(args: argparse.Namespace, *, extra: tuple[str, ...] = ()) -> Experiment:
    """The experiment that ``-c`` and ``-o`` describe; `extra` overrides come last and win."""
    from ppdet.experiment.config import load_config

    return load_config(args.config, [*args.opt, *extra])


def load_trained(args: argparse.Namespace) -> TrainedDetector:
    """The detector that ``--weights`` names, or the `weights` of ``-c``."""
    from ppdet.experiment.evaluate import weights_of
    from ppdet.experiment.sources import load_detector

    config = load_experiment(args) if args.config else None
    if config is None and not args.weights:
        raise CommandError("give --weights (a checkpoint, an export, a zoo name or a URL), or -c")
    return load_detector(
        args.weights if config is None else weights_of(config, args.weights),
        config=config,
        overrides=args.opt if config is None else (),
        classes=getattr(args, "classes", None),
        runtime=getattr(args, "runtime", "auto"),
        device=args.device,
        allow_partial=getattr(args, "allow_partial", False),
    )


def load_model(args: argparse.Namespace) -> CheckpointDetector:
    """As `load_trained`, for verbs that need the model itself.

    Raises:
        CommandError: If the weights are an export.
    """
    from ppdet.experiment.trained import CheckpointDetector

    detector = load_trained(args)
    if not isinstance(detector, CheckpointDetector):
        raise CommandError(f"--weights {args.weights}: is an export; name the checkpoint it was made from")
    return detector
