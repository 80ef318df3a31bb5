"""Detect objects in images, draw them and save them as JSON."""

from __future__ import annotations

import argparse

from ppdet.cli.common import add_config_arguments, add_device_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet infer``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE|NAME|URL", help="weights to use; default: the config's `weights`"
    )
    parser.add_argument("--infer_img", metavar="FILE", help="one image")
    parser.add_argument("--infer_dir", metavar="DIR", help="all images of a folder")
    parser.add_argument(
        "--output_dir", default="output", metavar="DIR", help="where drawn images go (default: output)"
    )
    parser.add_argument(
        "--draw_threshold",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="lowest score that is drawn (default: 0.5)",
    )
    parser.add_argument(
        "--save_results",
        metavar="FILE",
        help="where the detections go as JSON (default: OUTPUT_DIR/detections.json)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES|FILE",
        help="class names, `a,b,c` or one a line, for weights that carry none",
    )
    add_device_argument(parser)
