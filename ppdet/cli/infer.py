"""Detect objects in images, draw them and save them as JSON."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ppdet.cli.common import (
    CommandError,
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    load_trained,
    make_folder,
)
from ppdet.utils.errors import UserError

if TYPE_CHECKING:
    from ppdet.structures import Detections

logger = logging.getLogger(__name__)

#: Formats that drawn images are written in; others become PNG.
_WRITTEN = {".jpg", ".jpeg", ".png", ".bmp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet infer``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE|NAME|URL", help="weights to use; default: the config's `weights`"
    )
    parser.add_argument("--infer_img", metavar="FILE", help="one image")
    parser.add_argument("--infer_dir", metavar="DIR", help="all images of a folder and below")
    parser.add_argument(
        "--output_dir", default="output", metavar="DIR", help="where drawn images go (default: output)"
    )
    parser.add_argument(
        "--draw_threshold",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="lowest score that is drawn (default: 0.5)",
    )
    parser.add_argument(
        "--save_results",
        metavar="FILE",
        help="where the detections go as JSON (default: OUTPUT_DIR/detections.json)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES|FILE",
        help="class names, `a,b,c` or one a line, for weights that carry none",
    )
    add_runtime_argument(parser)
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, draw, save."""
    from tqdm import tqdm

    from ppdet.data.datasets.image_folder import ImageFolder
    from ppdet.export.choose import choose_predictor
    from ppdet.recipes import build_loader

    wanted = [path for path in (args.infer_img, args.infer_dir) if path]
    if not wanted:
        raise CommandError("nothing to look at: give --infer_img FILE or --infer_dir DIR")
    images = ImageFolder().of(wanted)
    trained = load_trained(
        args, names_needed=True, classes=args.classes, extra=("TestReader.skip_corrupt=true",)
    )
    folder = make_folder(Path(args.output_dir))
    places = drawn_names([images[i].path for i in range(len(images))], args.infer_dir)
    loader = build_loader(
        trained.experiment, "TestReader", images, num_workers=0 if len(images) < 8 else None
    )
    predictor = choose_predictor(
        args.runtime,
        trained.model,
        trained.experiment,
        images=len(images),
        reader="TestReader",
        class_names=trained.class_names,
    )
    rows: list[dict[str, Any]] = []
    for batch in tqdm(loader, desc="infer", unit="batch", disable=len(images) < 2):
        for path, found in zip(batch.paths, predictor(batch)):
            target = folder / places[path]
            _draw(path, found, trained.class_names, args.draw_threshold, target)
            rows.append(
                {"image": path, "drawn": target.as_posix(), "objects": as_rows(found, trained.class_names)}
            )
            shown = sum(row["score"] >= args.draw_threshold for row in rows[-1]["objects"])
            logger.debug("%s: %d objects drawn in %s", path, shown, target)
    results = Path(args.save_results) if args.save_results else folder / "detections.json"
    make_folder(results.parent)
    results.write_text(json.dumps(rows, ensure_ascii=False, indent=1), "utf-8")
    count = sum(obj["score"] >= args.draw_threshold for row in rows for obj in row["objects"])
    print(
        f"{len(rows)} images, {count} objects with a score of at least {args.draw_threshold:g}: "
        f"drawn in {folder}, listed in {results}"
    )
    if loader.skipped:
        print(f"{loader.skipped} images could not be read and were skipped; their names are above")
    if not rows:
        raise UserError("no image could be read")
    return 0


def as_rows(found: Detections, names: Sequence[str]) -> list[dict[str, Any]]:
    """Detections of an image for a JSON file: name, score, box as x1 y1 x2 y2 in pixels, mask as RLE."""
    rows: list[dict[str, Any]] = []
    for index in range(len(found)):
        row: dict[str, Any] = {
            "name": names[int(found.labels[index])],
            "label": int(found.labels[index]),
            "score": round(float(found.scores[index]), 5),
            "box": [round(float(v), 2) for v in found.boxes[index]],
        }
        if found.masks is not None:
            counts = found.masks[index]["counts"]
            text = counts.decode("ascii") if isinstance(counts, bytes) else counts
            row["mask"] = {"size": list(found.masks[index]["size"]), "counts": text}
        rows.append(row)
    return rows


def drawn_names(paths: Sequence[str], root: Optional[str]) -> dict[str, str]:
    """Where each drawn image goes in the output folder: as it lies below `root`, in a format we write."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        inside = root is not None and Path(path).is_relative_to(root)
        place = Path(path).relative_to(str(root)) if inside else Path(Path(path).name)
        if place.suffix.lower() not in _WRITTEN:
            place = place.with_suffix(".png")
        stem, number = place.stem, 1
        while place.as_posix() in taken:
            number += 1
            place = place.with_name(f"{stem}_{number}{place.suffix}")
        taken.add(place.as_posix())
        names[path] = place.as_posix()
    return names


def _draw(path: str, found: Detections, names: Sequence[str], threshold: float, target: Path) -> None:
    import cv2

    from ppdet.data.transforms.decode import read_image
    from ppdet.draw import draw_detections

    picture = draw_detections(read_image(path), found, names, threshold=threshold)
    # Written by Python, since OpenCV cannot open names outside the code page on Windows.
    encoded = cv2.imencode(target.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encoded.tobytes())
