"""Write a page that shows a training, or one that explains detections.

ppdet report output/my_run
ppdet report detections.json --anno_path instances_val.json --image_dir val
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ppdet.cli.common import CommandError
from ppdet.utils.files import expanded, require_new_place

if TYPE_CHECKING:
    from ppdet.metrics.analysis.analysis import Analysis


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet report``."""
    parser.add_argument(
        "source",
        type=expanded,
        metavar="RUN|DETECTIONS.json",
        help="folder of a training, or detections as COCO results",
    )
    parser.add_argument(
        "--anno_path",
        type=expanded,
        metavar="FILE",
        help="COCO annotations that the detections are scored on",
    )
    parser.add_argument(
        "--image_dir",
        type=expanded,
        metavar="DIR",
        help="folder of the images; without it boxes are drawn on an empty ground",
    )
    parser.add_argument(
        "--masks", action="store_true", help="compare masks; default: boxes, where the detections have them"
    )
    parser.add_argument(
        "--output",
        type=expanded,
        metavar="FILE.html",
        help="the page; default: report.html in RUN, or beside DETECTIONS.json",
    )
    parser.add_argument(
        "--json", type=expanded, metavar="FILE", help="write the numbers of the page to FILE too"
    )
    parser.add_argument("--csv", type=expanded, metavar="FILE", help="write the table of classes to FILE too")


def run(args: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    source: Path = args.source
    if source.suffix != ".json":
        if args.anno_path or args.json or args.csv or args.masks or args.image_dir:
            raise CommandError(
                f"{source}: these options are for detections (a .json file), not for a training"
            )
        from ppdet.report.training import write_training_report

        if args.output is not None:
            require_new_place(args.output, [path for path in source.glob("*") if path.suffix != ".html"])
        print(f"report: {write_training_report(source, args.output)}")
        return 0
    if not args.anno_path:
        raise CommandError(f"{source}: which annotations? Add --anno_path FILE")
    from ppdet.report.detections_file import analysis_of_files
    from ppdet.report.evaluation import evaluation_page
    from ppdet.utils.files import write_text

    for target in filter(None, (args.output, args.json, args.csv)):
        require_new_place(target, [source, args.anno_path])
    target = args.output or source.with_suffix(".html")
    analysis = analysis_of_files(source, args.anno_path, masks=args.masks or None)
    page = evaluation_page(analysis, title=source.stem, facts=[args.anno_path.name], images=args.image_dir)
    write_text(target, page)
    write_numbers(analysis, args.json, args.csv)
    if analysis.predictions.left_out:
        print(f"{analysis.predictions.left_out:,} detections of other images or classes were left out")
    print(f"report: {target}")
    return 0


def write_numbers(analysis: Analysis, json_file: Optional[Path], csv_file: Optional[Path]) -> None:
    """The numbers of the page as files."""
    from ppdet.report.evaluation import classes_csv, summary
    from ppdet.report.page import finite
    from ppdet.utils.files import write_json, write_text

    if json_file:
        write_json(json_file, finite(summary(analysis)), indent=1)
    if csv_file:
        write_text(csv_file, classes_csv(analysis))
