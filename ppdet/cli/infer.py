"""Detect objects in images or a video, draw them, and save them as JSON, COCO's JSON, CSV or YOLO's text.

ppdet infer --weights output/x/best_model --infer_dir photos
"""

from __future__ import annotations

import argparse
from typing import Union

from ppdet.cli.common import (
    CommandError,
    add_classes_argument,
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    add_view_arguments,
    add_weights_argument,
    load_trained,
    views_from,
)
from ppdet.utils.files import expanded

#: Choices of ``--formats``; those of `ppdet.experiment.predict`, which would take seconds to import here.
FORMATS = ("json", "coco", "csv", "yolo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet infer``."""
    add_config_arguments(parser, required=False)
    add_weights_argument(parser, "run")
    parser.add_argument(
        "--infer_img", type=expanded, metavar="FILE", help="one image, or a pattern such as 'photos/*.jpg'"
    )
    parser.add_argument("--infer_dir", type=expanded, metavar="DIR", help="all images of a folder and below")
    parser.add_argument(
        "--video_file", type=expanded, metavar="FILE", help="all frames of a video; drawn as a video"
    )
    parser.add_argument(
        "--output_dir",
        default=expanded("output"),
        type=expanded,
        metavar="DIR",
        help="where drawn images go (default: output)",
    )
    parser.add_argument(
        "--draw_threshold",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="lowest score that is drawn (default: 0.5)",
    )
    parser.add_argument("--no_draw", action="store_true", help="save the detections, draw nothing")
    parser.add_argument(
        "--visualize",
        choices=("True", "true", "False", "false"),
        metavar="True|False",
        help="PaddleDetection's spelling: False is --no_draw",
    )
    parser.add_argument(
        "--anno_path",
        type=expanded,
        metavar="FILE",
        help="COCO annotation file: its objects are drawn beside the detections, and its image ids go into "
        "COCO's JSON",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=FORMATS,
        default=["json"],
        help="how detections are saved in OUTPUT_DIR: detections.json (default), coco.json, detections.csv, "
        "labels/ (YOLO)",
    )
    parser.add_argument(
        "--save_threshold",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="lowest score that is saved (default: 0, all detections of the model)",
    )
    parser.add_argument("--save_results", type=expanded, metavar="FILE", help="where the JSON goes instead")
    add_classes_argument(parser)
    add_view_arguments(parser)
    add_runtime_argument(parser)
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, draw, save."""
    from ppdet.engine import distributed
    from ppdet.experiment.predict import PredictOptions, predict
    from ppdet.inference.images import ImageList, list_images
    from ppdet.inference.video import Video

    images = [path for path in (args.infer_img, args.infer_dir) if path]
    if bool(images) == bool(args.video_file):
        raise CommandError("name the input: --infer_img FILE, --infer_dir DIR, or --video_file FILE")
    draw = not args.no_draw and args.visualize not in ("False", "false")
    options = PredictOptions(
        threshold=args.draw_threshold,
        save_threshold=args.save_threshold,
        formats=tuple(args.formats),
        json_path=args.save_results,
        annotations=args.anno_path,
        draw=draw,
        views=views_from(args),
    )
    if args.video_file:
        source: Union[Video, ImageList] = Video(str(args.video_file))
    else:  # a missing folder is reported before the weights are loaded
        named = images[0] if len(images) == 1 else images
        source = list_images(named, leave_out=args.output_dir)
    result = predict(load_trained(args), source, args.output_dir, options)
    if not distributed.is_main():
        return 0
    drawn = f"drawn in {result.folder}, " if draw else ""
    print(
        f"{result.count} {'frames' if args.video_file else 'images'}, {result.objects} objects with a score "
        f"of at least {args.draw_threshold:g}: {drawn}"
        f"listed in {', '.join(str(path) for path in result.files.values())}"
    )
    if result.skipped:
        print(f"{result.skipped} images could not be read and were skipped; their names are above")
    return 0
