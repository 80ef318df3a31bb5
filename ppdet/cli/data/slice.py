"""Cut large images into tiles with their objects, or join the detections of tiles.

ppdet data slice SRC --output DIR --tile 640 --overlap 0.25
ppdet data slice -c FILE|NAME --output DIR
ppdet data slice --join detections.json --tiles DIR/annotations.json --output joined.json
"""

from __future__ import annotations

import argparse

from ppdet.cli.common import CommandError
from ppdet.cli.data.sources import add_source_arguments, source_of
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_source_arguments(parser)
    parser.add_argument(
        "--output", type=expanded, required=True, help="folder for the tiles; with --join the file to write"
    )
    parser.add_argument(
        "--tile",
        nargs="+",
        type=int,
        default=[640],
        metavar="PIXELS",
        help="side of a tile, or its height and width (640)",
    )
    parser.add_argument(
        "--overlap",
        nargs="+",
        type=float,
        default=[0.25],
        metavar="SHARE",
        help="share of a tile that the next one overlaps, or vertically and horizontally (0.25)",
    )
    parser.add_argument(
        "--min_visible",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="leave out of a tile the objects of which it shows less (%(default)s)",
    )
    parser.add_argument(
        "--negatives",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of the tiles without objects, keep so many (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of those (%(default)s)")
    parser.add_argument(
        "--join", type=expanded, metavar="FILE", help="detections of tiles, in COCO's results format"
    )
    parser.add_argument(
        "--tiles", type=expanded, metavar="FILE", help="with --join: annotations.json of the tiles"
    )
    parser.add_argument(
        "--match_threshold",
        type=float,
        default=0.5,
        metavar="IOU",
        help="with --join: IoU from which on detections are one object (%(default)s)",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the counts to a file too")


def run(args: argparse.Namespace) -> int:
    """Cut or join."""
    from ppdet.data.tools.slice import join_detections

    if args.json is not None:
        require_new_place(args.json, [*filter(None, (args.join, args.tiles, args.source, args.anno_path))])
    if args.join is None:
        return _cut(args)
    if args.tiles is None:
        raise CommandError("--join needs --tiles: annotations.json beside the tiles")
    require_new_place(args.output, [args.join, args.tiles])
    joined = join_detections(args.join, args.tiles, match_threshold=args.match_threshold)
    write_json(args.output, joined)
    images = len({row["image_id"] for row in joined})
    print(f"{args.output}: {len(joined)} detections of {images} images")
    if args.json:
        write_json(args.json, {"images": images, "detections": len(joined)})
    return 0


def _cut(args: argparse.Namespace) -> int:
    from ppdet.data.formats.coco import parse_coco
    from ppdet.data.problems import DatasetProblemsError
    from ppdet.data.tools.slice import SliceOptions, slice_dataset
    from ppdet.inference.views import Tiling

    for name in ("tile", "overlap"):
        if len(getattr(args, name)) > 2:
            raise CommandError(f"--{name} takes one number or two")
    tiling = Tiling((args.tile[0], args.tile[-1]), (args.overlap[0], args.overlap[-1]))
    options = SliceOptions(tiling, args.min_visible, args.negatives, args.seed)
    dataset = source_of(args)
    parsed = parse_coco(dataset.content, with_masks=True, masks_needed=False)
    if parsed.problems:
        raise DatasetProblemsError(str(args.source or args.anno_path or args.config), parsed.problems)
    done = slice_dataset(parsed, dataset.image_dir, args.output, options)
    print(
        f"{done.annotations}: {done.images} images cut into {done.tiles} tiles with {done.objects} objects; "
        f"{done.hidden} pieces below min_visible left out, {done.lost} objects in no tile, "
        f"{done.empty} tiles without objects left out"
    )
    if args.json:
        write_json(args.json, {**done._asdict(), "annotations": str(done.annotations)})
    return 0
