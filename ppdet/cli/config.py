"""Print a configuration as it is used: every key with its value and the place it comes from.

The output is YAML without `_BASE_` that loads as the same experiment.
"""

from __future__ import annotations

import argparse

from ppdet.utils.files import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet config``."""
    parser.add_argument("file", nargs="?", type=expanded, metavar="FILE", help="the YAML")
    parser.add_argument(
        "-c", "--config", type=expanded, metavar="FILE", help="the same, as other verbs spell it"
    )
    parser.add_argument(
        "-o",
        "--opt",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override values, e.g. -o TrainReader.batch_size=2 LearningRate.base_lr=0.0025",
    )
    parser.add_argument("--no-origins", action="store_true", help="leave out where values come from")


def run(args: argparse.Namespace) -> int:
    """Print the resolved configuration."""
    from ppdet.experiment.config import load_config
    from ppdet.utils.errors import UserError

    if (args.file is None) == (args.config is None):
        raise UserError("name one YAML: ppdet config FILE")
    experiment = load_config(args.file or args.config, args.opt)
    print(experiment.to_yaml(origins=not args.no_origins), end="")
    return 0
