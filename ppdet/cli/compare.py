"""Compare trainings, or detections on the same annotations: is one better, or is it noise?

ppdet compare output/run_a output/run_b
ppdet compare a.json b.json --anno_path instances_val.json
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet compare``."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN|DETECTIONS.json",
        help="folders of trainings, or detections as COCO results; others are compared with the first",
    )
    parser.add_argument(
        "--anno_path",
        metavar="FILE",
        help="COCO annotations; differences of AP get intervals. A RUN then needs its detections.json, from "
        "ppdet eval --save_results RUN/detections.json",
    )
    parser.add_argument(
        "--output", default="comparison.html", metavar="FILE.html", help="the page; default: comparison.html"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page; print the verdict and where the page is."""
    from ppdet.report.comparison import compare

    target = Path(args.output)
    annotations = Path(args.anno_path) if args.anno_path else None
    print(compare([Path(source) for source in args.sources], target, annotations))
    print(f"report: {target}")
    return 0
