"""Split a dataset into train, val and test: classes shared alike, groups of images kept together, or folds.

ppdet data split dataset/fruit --output_dir dataset/fruit_split
ppdet data split annotations.json --shares train=0.7,val=0.2,test=0.1 --group-by prefix --output_dir split
ppdet data split dataset/fruit --folds 5 --output_dir folds
"""

from __future__ import annotations

import argparse
from typing import Any

from ppdet.cli.common import CommandError
from ppdet.cli.data.sources import add_source_arguments, source_of
from ppdet.data.tools.split import folds, group_names, split_images
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_source_arguments(parser)
    parser.add_argument(
        "--output_dir",
        required=True,
        type=expanded,
        metavar="DIR",
        help="where instances_PART.json go, in fold_K with --folds; images stay where they are",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--shares",
        default="train=0.8,val=0.2",
        metavar="PART=SHARE,...",
        help="shares of the images, or numbers of them; one part may be `rest` (%(default)s)",
    )
    ways.add_argument("--folds", type=int, metavar="K", help="K folds for cross-validation")
    parser.add_argument(
        "--group-by",
        metavar="folder|prefix|KEY",
        help="images of one folder, of one name but for its last number, or of one value of a key of the "
        "images are in one part only: frames of a video, pictures of a patient",
    )
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the counts to FILE")


def run(args: argparse.Namespace) -> int:
    """Split, write the parts, and show what is in them."""
    dataset = source_of(args)
    content = dataset.content
    groups = group_names(content, args.group_by) if args.group_by else []
    if args.folds is not None:
        rounds = folds(content, args.folds, seed=args.seed, groups=groups)
        parts = {
            f"fold_{k}/instances_{part}": made for k, one in enumerate(rounds) for part, made in one.items()
        }
    else:
        shares = _shares(args.shares, len(content["images"]))
        made = split_images(content, shares, seed=args.seed, groups=groups)
        parts = {f"instances_{part}": one for part, one in made.items()}
    paths = {name: args.output_dir / f"{name}.json" for name in parts}
    for path in paths.values():
        require_new_place(path, [dataset.image_dir, *filter(None, [args.source])])
    counts: dict[str, Any] = {}
    for name, part in parts.items():
        write_json(paths[name], part)
        counts[name] = _count(part)
        classes = ", ".join(f"{label} {number}" for label, number in counts[name]["classes"].items())
        print(
            f"{paths[name]}: {counts[name]['images']} images, {counts[name]['objects']} objects ({classes})"
        )
    print(f"images: {dataset.image_dir}")
    if args.json is not None:
        write_json(args.json, {"image_dir": str(dataset.image_dir), "parts": counts}, indent=1)
    return 0


def _shares(text: str, images: int) -> dict[str, float]:
    """Shares by part, from ``train=0.8,val=0.2`` or ``train=rest,val=500``."""
    given: dict[str, str] = {}
    for item in text.split(","):
        part, _, value = (word.strip() for word in item.partition("="))
        if not part.isidentifier() or not value or part in given:
            raise CommandError(f"--shares {text}: expected PART=SHARE,... such as train=0.8,val=0.2")
        given[part] = value
    try:
        numbers = {part: float(value) for part, value in given.items() if value != "rest"}
    except ValueError:
        raise CommandError(f"--shares {text}: a share is a number, or `rest`") from None
    whole = any(value > 1 for value in numbers.values())
    shares = {part: value / images if whole else value for part, value in numbers.items()}
    rest = [part for part, value in given.items() if value == "rest"]
    if len(rest) > 1 or (rest and sum(shares.values()) > 1):
        raise CommandError(f"--shares {text}: one part may be `rest`, of {images} images")
    shares.update({part: 1 - sum(shares.values()) for part in rest})
    return {part: shares[part] for part in given}


def _count(part: dict[str, Any]) -> dict[str, Any]:
    names = {category["id"]: category["name"] for category in part["categories"]}
    classes = dict.fromkeys(names.values(), 0)
    for row in part["annotations"]:
        classes[names[row["category_id"]]] += 1
    return {"images": len(part["images"]), "objects": len(part["annotations"]), "classes": classes}
