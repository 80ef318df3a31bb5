"""Arguments that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from ppdet.utils.errors import UserError

if TYPE_CHECKING:
    from ppdet.experiment import Experiment

DEVICE = re.compile(r"auto|cpu|gpu(:\d+)?")


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
        help="where to compute; auto (default) takes a GPU if Paddle and the machine have one",
    )


def load_experiment(args: argparse.Namespace, *, extra: tuple[str, ...] = ()) -> Experiment:
    """The experiment that ``-c`` and ``-o`` describe; `extra` overrides come last and win."""
    from ppdet.config import load_config

    return load_config(args.config, overrides=[*args.opt, *extra])


def set_device(wanted: str) -> str:
    """Compute on the device the user asks for.

    Args:
        wanted: ``auto``, ``cpu``, ``gpu`` or ``gpu:i``.

    Returns:
        Its name as Paddle spells it, e.g. ``"cpu"`` or ``"gpu:0"``.

    Raises:
        CommandError: If there is no such device.
    """
    if not DEVICE.fullmatch(wanted):
        raise CommandError(f"--device {wanted}: expected auto, cpu, gpu or gpu:i")
    import paddle

    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    index = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("gpu") and index >= count:
        reason = (
            f"this machine shows {count} GPU(s)"
            if paddle.is_compiled_with_cuda()
            else f"paddle {paddle.__version__} is the CPU build; docs/install.md tells how to get the other"
        )
        raise CommandError(f"--device {wanted}: {reason}. Use --device cpu or auto")
    chosen = "cpu" if wanted == "cpu" or not count else f"gpu:{index}"
    paddle.set_device(chosen)
    return chosen
