"""Train a detector from a config."""

from __future__ import annotations

import argparse

from ppdet.cli.common import add_config_arguments, add_device_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet train``."""
    add_config_arguments(parser)
    parser.add_argument(
        "-r",
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|DIR",
        help="go on from the last checkpoint in this config's output folder, or from DIR's",
    )
    parser.add_argument(
        "--eval", action="store_true", help="evaluate after every snapshot_epoch; keeps the best"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--dry-run", action="store_true", help="build everything, print a summary and stop")
    add_device_argument(parser)
