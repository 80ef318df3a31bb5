"""Compare trainings, or detections on the same annotations: is one better, or is it noise?

ppdet compare output/run_a output/run_b
ppdet compare a.json b.json --anno_path instances_val.json
"""

from __future__ import annotations

import argparse

from ppdet.utils.files import expanded, require_new_place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet compare``."""
    parser.add_argument(
        "sources",
        nargs="+",
        type=expanded,
        metavar="RUN|DETECTIONS.json",
        help="folders of trainings, or detections as COCO results; others are compared with the first",
    )
    parser.add_argument(
        "--anno_path",
        type=expanded,
        metavar="FILE",
        help="COCO annotations; differences of AP get intervals. A RUN then needs its detections.json, from "
        "ppdet eval --save_results RUN/detections.json",
    )
    parser.add_argument(
        "--output",
        default=expanded("comparison.html"),
        type=expanded,
        metavar="FILE.html",
        help="the page; default: comparison.html",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page; print the verdict and where the page is."""
    from ppdet.report.comparison import compare

    files = [path for path in args.sources if path.is_file()]
    require_new_place(args.output, [*files, *filter(None, [args.anno_path])])
    print(compare(args.sources, args.output, args.anno_path))
    print(f"report: {args.output}")
    return 0
