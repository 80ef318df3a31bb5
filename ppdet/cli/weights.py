"""Published weights and weight files: list, show, download, convert, check, push to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Callable

from ppdet.cli.common import add_classes_argument, add_config_arguments, load_experiment
from ppdet.utils.errors import WeightsError
from ppdet.utils.files import expanded, require_new_place
from ppdet.utils.tables import text_table
from ppdet.zoo.class_names import parse_classes
from ppdet.zoo.download import sha256_of
from ppdet.zoo.locate import cache_path, locate, read_source
from ppdet.zoo.report import some
from ppdet.zoo.saving import same_tensors, save_weights
from ppdet.zoo.table import ZooEntry, entries, find
from ppdet.zoo.weight_file import WeightFile, read_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the six actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="all published weights, or those whose name contains a word")
    listing.add_argument("word", nargs="?", default="", help="part of a name")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = actions.add_parser("show", help="print the facts about published weights or a file")
    show.add_argument("source", help="zoo name, URL, or path")
    download = actions.add_parser("download", help="fetch weights into the cache and print their path")
    download.add_argument("source", nargs="+", help="zoo names or URLs")
    convert = actions.add_parser("convert", help="write weights in another format")
    convert.add_argument("source", help="zoo name, URL, or path")
    convert.add_argument("target", type=expanded, help="file to write: .pdparams, .safetensors or .weights")
    convert.add_argument(
        "--classes", help="class names to put in: a file, a list a,b,c, or a data set's name"
    )
    check = actions.add_parser(
        "check", help="read weights completely, and compare checksums where there are any"
    )
    check.add_argument("source", nargs="*", help="zoo names, URLs or paths; default: all of the cache")
    _add_push_arguments(actions)


def _add_push_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    push = actions.add_parser("push", help="share a checkpoint on the Hugging Face Hub, with a model card")
    push.add_argument("weights", metavar="FILE|NAME|URL", help="a checkpoint, e.g. output/x/best_model")
    push.add_argument("repository", metavar="OWNER/NAME", help="where to; made if there is none")
    push.add_argument(
        "--licence",
        "--license",
        required=True,
        metavar="ID",
        help="licence that you give the weights, as the hub spells it: apache-2.0, mit, cc-by-4.0, other",
    )
    push.add_argument(
        "--dataset",
        metavar="WORDS",
        help="what the AP was measured on (default: the name of the evaluation's annotation file)",
    )
    push.add_argument(
        "--metrics",
        type=expanded,
        metavar="FILE",
        help="numbers of `ppdet eval --json FILE` (default: those that the checkpoint recorded)",
    )
    push.add_argument(
        "--report",
        type=expanded,
        metavar="FILE",
        help="page of `ppdet eval --report FILE` to share too; it shows images of the dataset",
    )
    push.add_argument("--private", action="store_true", help="make a new repository visible to you only")
    push.add_argument("--dry-run", action="store_true", help="print the model card and send nothing")
    add_config_arguments(push, required=False)
    add_classes_argument(push)


def run(args: argparse.Namespace) -> int:
    """Do one action."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "show": _show,
        "download": _download,
        "convert": _convert,
        "check": _check,
        "push": _push,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    matching = [entry for entry in entries() if args.word.lower() in entry.name.lower()]
    if args.json:
        print(json.dumps([_facts(entry) for entry in matching], indent=2))
        return 0
    rows = [["name", "MB", "box", "mask", "here", "recipe"]]
    for entry in matching:
        numbers = [f"{value:.1f}" if value else "-" for value in (entry.size, entry.box_ap, entry.mask_ap)]
        rows.append([entry.name, *numbers, "yes" if cache_path(entry.url).is_file() else "-", entry.recipe])
    print(text_table(rows, align="<>>><"))
    return 0


def _facts(entry: ZooEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "config": entry.config,
        "url": entry.url,
        "sha256": entry.sha256,
        "megabytes": entry.size,
        "recipe": entry.recipe,
        "box_ap": entry.box_ap,
        "mask_ap": entry.mask_ap,
        "conventions": entry.conventions or None,
        "classes": len(entry.class_names) or None,
        "source": entry.source.about,
        "page": entry.source.page,
        "licence": entry.source.licence,
        "command": entry.command,
        "note": entry.note or None,
    }


def _show(args: argparse.Namespace) -> int:
    entry = find(args.source)
    if entry is not None:
        path = cache_path(entry.url)
        facts = {**_facts(entry), "file": str(path), "here": path.is_file()}
        _print_facts(facts)
        return 0
    located = locate(args.source)
    file = read_weights(located.path)
    metadata = file.metadata
    _print_facts(
        {
            "file": str(located.path),
            "sha256": sha256_of(located.path),
            "layout": file.layout.value,
            "tensors": len(file.tensors),
            "parameters": sum(value.size for value in file.tensors.values()),
            "converted": len(file.converted) or None,
            "left out": len(file.dropped) or None,
            "conventions": metadata.conventions or None,
            "classes": some(metadata.class_names) or None,
            "step": metadata.step,
            "epoch": metadata.epoch,
            "metrics": json.dumps(dict(metadata.metrics)) if metadata.metrics else None,
            "written by": f"ppdet {metadata.version}" if metadata.version else None,
            "origin": json.dumps(dict(metadata.origin)) if metadata.origin else None,
        }
    )
    return 0


def _print_facts(facts: dict[str, object]) -> None:
    print(text_table([[name, str(value)] for name, value in facts.items() if value is not None], align="<"))


def _download(args: argparse.Namespace) -> int:
    for source in args.source:
        print(locate(source).path)
    return 0


def _convert(args: argparse.Namespace) -> int:
    file = read_source(args.source)
    require_new_place(args.target, [file.path])
    names = parse_classes(args.classes) if args.classes else ()
    save_weights(file, args.target, class_names=names)
    if not same_tensors(file, read_weights(args.target)):
        raise WeightsError(f"{args.target}: what was written reads back differently; do not use it")
    done = f", {len(file.converted)} renamed or permuted" if file.converted else ""
    left = f", {len(file.dropped)} left out" if file.dropped else ""
    print(f"{args.target}: {len(file.tensors)} tensors from {file.layout.value}{done}{left}")
    if file.metadata.conventions:
        print(f"these weights use the {file.metadata.conventions!r} box conventions; see docs/weights.md")
    return 0


def _check(args: argparse.Namespace) -> int:
    cached = {cache_path(entry.url): entry for entry in entries()}
    if args.source:
        paths = [locate(source, download=False).path for source in args.source]
    else:
        paths = [path for path in cached if path.is_file()]
    wrong = 0
    for path in paths:
        entry = cached.get(path)
        try:
            file = _read_checked(path, entry)
            print(f"ok     {path}: {file.layout.value}, {len(file.tensors)} tensors")
        except WeightsError as error:
            wrong += 1
            print(f"wrong  {error}")
    if not paths:
        print("the cache holds no weights")
    return 2 if wrong else 0


def _read_checked(path: Path, entry: object) -> WeightFile:
    """Read a file after comparing it with the table's checksum, or with that of its first download."""
    pin = path.with_name(path.name + ".sha256")
    expected = entry.sha256 if isinstance(entry, ZooEntry) else None
    if expected is None and pin.is_file():
        expected = (pin.read_text("utf-8").split() or [""])[0]
    if expected is not None and sha256_of(path) != expected:
        raise WeightsError(f"{path}: its sha256 is not {expected}; remove it and download it again")
    return read_weights(path)


def _push(args: argparse.Namespace) -> int:
    from ppdet.experiment.sharing import PushOptions, push_weights
    from ppdet.experiment.sources import load_detector
    from ppdet.zoo.hub import require_repository

    require_repository(args.repository)
    options = PushOptions(
        licence=args.licence,
        dataset=args.dataset,
        metrics=args.metrics,
        report=args.report,
        private=args.private,
    )
    config = load_experiment(args) if args.config else None
    overrides = args.opt if config is None else ()
    detector = load_detector(
        args.weights, config=config, overrides=overrides, classes=args.classes, device="cpu"
    )
    result = push_weights(detector, args.repository, options, dry_run=args.dry_run)
    if args.dry_run:
        print(result.card)
    print(text_table([[name, f"{size / 1e3:,.0f} kB"] for name, size in result.files.items()], align="<>"))
    if not result.has_numbers:
        print("the card states no AP; ppdet eval --json FILE measures it, --metrics FILE adds it")
    if args.dry_run:
        print("dry run: nothing was sent")
        return 0
    if result.card_kept:
        print("the repository's README.md was written by hand and stays as it is")
    print(f"{result.url}: others load it as hf://{require_repository(args.repository)}")
    return 0
