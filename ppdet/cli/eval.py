"""Measure the AP and the speed of trained weights on the EvalDataset of a config."""

from __future__ import annotations

import argparse

from ppdet.cli.common import add_config_arguments, add_device_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet eval``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE|NAME|URL", help="weights to evaluate; default: the config's `weights`"
    )
    parser.add_argument("--json", metavar="FILE", help="write every metric and the speed to FILE")
    parser.add_argument(
        "--save_results", metavar="FILE", help="write the detections in COCO's results format"
    )
    parser.add_argument("--classwise", action="store_true", help="show the AP of each class")
    add_device_argument(parser)
