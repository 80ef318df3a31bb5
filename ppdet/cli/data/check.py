"""Find everything that is wrong with a dataset.

ppdet data check -c FILE|NAME --copies
ppdet data check --dataset_dir DIR --anno_path FILE --image_dir DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ppdet.cli.common import CommandError
from ppdet.cli.data.sources import (
    add_dataset_arguments,
    add_validation_arguments,
    annotation_file,
    training_dataset,
    validation_dataset,
)
from ppdet.data.problems import REMARKS, DatasetProblem, DatasetProblemsError, describe
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.fix import change_log, fix_annotations
from ppdet.data.tools.likeness import find_copies
from ppdet.data.tools.lines import lines_of
from ppdet.data.tools.suspects import suspects
from ppdet.utils.files import expanded, require_new_place, write_json, write_text

#: Examples of each kind of problem that are printed.
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_dataset_arguments(parser)
    add_validation_arguments(parser)
    parser.add_argument("--num_classes", type=int, help="what the config says")
    parser.add_argument("--masks", action="store_true", help="the model needs masks")
    parser.add_argument("--decode", action="store_true", help="decode every image too; slow")
    parser.add_argument(
        "--copies",
        action="store_true",
        help="find copies and look-alikes too, within each set and between the two; decodes every image",
    )
    parser.add_argument(
        "--min_objects",
        type=int,
        default=0,
        metavar="N",
        help="name classes with fewer objects (%(default)s)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where there are remarks only; errors exit with 2"
    )
    parser.add_argument(
        "--fix",
        type=expanded,
        metavar="FILE.json",
        help="write the training annotations (COCO) to a new file, with what has one right answer corrected, "
        "and FILE.log with every change",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write every problem to a file too")


def run(args: argparse.Namespace) -> int:
    """Check the dataset."""
    for target in filter(None, (args.json, args.fix)):
        require_new_place(target, [annotation_file(args)[0]])
    if args.fix is not None:
        _fix(args)
    try:
        train = training_dataset(args)
        val = validation_dataset(args, train.categories)
    except DatasetProblemsError as error:  # of an annotation file, without which there is no more to find
        problems = _located(error.problems, Path(error.source))
        _write_problems(args.json, problems)
        raise DatasetProblemsError(error.source, problems, shown=_SHOWN) from None
    try:
        found = check_dataset(
            train, val, num_classes=args.num_classes, with_masks=args.masks, decode=args.decode
        )
    except DatasetProblemsError as error:
        found = list(error.problems)
    found += suspects(train, min_objects=args.min_objects)
    if val is None:
        found = _located(found, annotation_file(args)[0])
    else:
        found += suspects(val)
    found += find_copies(train, val) if args.copies else []
    _write_problems(args.json, found)
    if any(problem.kind not in REMARKS for problem in found):
        raise DatasetProblemsError("dataset", found, shown=_SHOWN)
    if found:
        print(describe("dataset", found, shown=_SHOWN))
    print("no errors" if found else "no problems found")
    return 1 if found and args.strict else 0


def _located(problems: Sequence[DatasetProblem], path: Path) -> list[DatasetProblem]:
    """Problems of a COCO file with the line of each, where it can be told."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return list(problems)
    return [
        problem if line is None else DatasetProblem(problem.kind, f"{path.name}:{line}: {problem.text}")
        for problem, line in zip(problems, lines_of(problems, path))
    ]


def _fix(args: argparse.Namespace) -> None:
    """Write corrected annotations and the list of changes, before the check of what was there."""
    source, image_dir = annotation_file(args)
    if source.suffix.lower() != ".json":
        raise CommandError(f"{source}: only COCO annotations are corrected; `ppdet data convert` makes them")
    content, changes = fix_annotations(source, image_dir)
    log = args.fix.with_suffix(".log")
    require_new_place(log, [source])
    write_json(args.fix, content)
    write_text(log, change_log(source, args.fix, changes))
    print(f"{args.fix}: {len(changes)} changes, listed in {log}")


def _write_problems(path: Optional[Path], problems: Sequence[DatasetProblem]) -> None:
    """Every problem as JSON: kind, text, and whether training can live with it."""
    if path is not None:
        rows = [{"kind": p.kind, "text": p.text, "error": p.kind not in REMARKS} for p in problems]
        write_json(path, rows)
