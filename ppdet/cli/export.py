"""Export trained weights for Paddle Inference and ONNX Runtime, and prove that they find the same objects."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.cli.common import (
    CommandError,
    add_config_arguments,
    add_device_argument,
    load_trained,
    make_folder,
)

if TYPE_CHECKING:
    from ppdet.export.runtime import Runtime

logger = logging.getLogger(__name__)

#: Images of a folder that are compared.
MOST_IMAGES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet export``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE|NAME|URL", help="weights to export; default: the config's `weights`"
    )
    parser.add_argument(
        "--output_dir", metavar="DIR", help="where to (default: output_inference/<name of the config>)"
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=("paddle", "onnx", "paddle2x"),
        help="what to write; paddle2x has the outputs of PaddleDetection 2.x "
        "(default: paddle, and onnx where its packages are installed)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES|FILE",
        help="class names, `a,b,c` or one a line, for weights that carry none",
    )
    parser.add_argument(
        "--uint8",
        action="store_true",
        help="take [N, H, W, 3] uint8 RGB images and normalise them inside the graph",
    )
    parser.add_argument(
        "--verify_dir", metavar="DIR", help="compare on images of this folder; default: made-up images"
    )
    parser.add_argument(
        "--verify_ap",
        action="store_true",
        help="also evaluate the model and its exports on the config's EvalDataset: AP within 0.1",
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="do not compare the export with the model it was made from"
    )
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Export and compare."""
    from ppdet.data.datasets.image_folder import ImageFolder
    from ppdet.data.transforms.decode import read_image
    from ppdet.experiment.build import build_dataset, require
    from ppdet.experiment.verify_ap import verify_ap
    from ppdet.export.bundle import export_model
    from ppdet.export.info import describe
    from ppdet.export.verify import made_up_images, prepare, table
    from ppdet.structures import Categories

    files = ImageFolder().of([args.verify_dir]) if args.verify_dir else None
    trained = load_trained(args, names_needed=True, classes=args.classes)
    dataset = None
    if args.verify_ap:
        if args.no_verify or args.uint8:
            raise CommandError("--verify_ap goes neither with --no-verify nor with --uint8")
        categories = Categories.from_names(trained.class_names)
        dataset = build_dataset(trained.experiment, "EvalDataset", categories)
    folder = make_folder(Path(args.output_dir or Path("output_inference") / trained.experiment.name))
    reader = require(trained.experiment, "TestReader").build()
    info = describe(trained.model, reader, trained.class_names, uint8_input=args.uint8)
    batches = None
    if not args.no_verify:
        images = made_up_images()
        if files is not None:
            images = [read_image(files[i].path) for i in range(min(len(files), MOST_IMAGES))]
        batches = prepare(reader, images)
    formats = args.formats or usual_formats()
    results = export_model(trained.model, folder, info, formats=formats, batches=batches)
    if results:
        print(table(results))
        if not sum(result.objects for result in results):
            print("no objects were found in these images; compare on real ones with --verify_dir DIR")
    if dataset is not None:
        print(verify_ap(trained.model, folder, trained.experiment, dataset, [r.runtime for r in results]))
    sizes = ", ".join(f"{p.name} {p.stat().st_size / 1e6:.1f} MB" for p in sorted(folder.rglob("model.*")))
    checked = "equal to the model within the limits" if results else "NOT compared with the model"
    print(f"exported to {folder}: {sizes}; {checked}")
    return 0


def usual_formats() -> tuple[Runtime, ...]:
    """What is written if the user names nothing."""
    from ppdet.export.onnx import obstacle

    reason = obstacle()
    if reason:
        logger.warning("model.onnx is left out: %s", reason)
        return ("paddle",)
    return ("paddle", "onnx")
