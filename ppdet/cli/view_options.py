"""Options of `eval` and `infer` for looking at an image several times."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ppdet.cli.common import CommandError

if TYPE_CHECKING:
    from ppdet.data.readers import Reader
    from ppdet.inference.views import Views
    from ppdet.modeling.interfaces import Detector


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """``--tta``, ``--slice_infer`` and what belongs to them, spelled as in PaddleDetection 2.x."""
    group = parser.add_argument_group("several looks at an image")
    group.add_argument(
        "--tta",
        action="store_true",
        help="look at several sizes (those of the reader's MultiscaleTestResize, else 1, 0.8 and 1.2 times "
        "its own), each mirrored too, and merge",
    )
    group.add_argument(
        "--slice_infer", action="store_true", help="look at overlapping tiles of large images too, and merge"
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
        help="share of a tile that the next one sees too, or vertically and horizontally (default: 0.25)",
    )
    group.add_argument(
        "--combine_method",
        choices=("nms", "concat"),
        default="nms",
        help="nms (default) makes one of detections that match, concat lists them all",
    )
    group.add_argument(
        "--match_threshold",
        type=float,
        metavar="IOU",
        help="IoU from which on detections of different looks are one (default: that of the model's NMS)",
    )


def views_from(args: argparse.Namespace, reader: Reader, model: Detector) -> Views:
    """The looks that the options ask for; without any, those of the reader.

    Raises:
        UserError: If options do not make sense.
    """
    from ppdet.inference.views import Tiling, augmented, fitted, views_of

    views = augmented(reader) if args.tta else views_of(reader)
    if args.slice_infer:
        height, width = _pair("--slice_size", args.slice_size)
        down, right = _pair("--overlap_ratio", args.overlap_ratio)
        views = replace(views, tiling=Tiling((int(height), int(width)), (down, right)))
    views = fitted(views, model)
    if args.match_threshold is not None:
        views = replace(views, match_threshold=args.match_threshold)
    return replace(views, merge=args.combine_method == "nms")


def _pair(option: str, values: list[float]) -> tuple[float, float]:
    if len(values) not in (1, 2):
        raise CommandError(f"{option} takes one number or two, not {len(values)}")
    return values[0], values[-1]
