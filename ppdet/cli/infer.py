"""Detect objects in images or a video, draw them and save them as JSON, COCO's JSON, CSV or YOLO's text."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ppdet.cli.common import (
    CommandError,
    Trained,
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    load_trained,
    make_folder,
)
from ppdet.cli.view_options import add_view_arguments, views_from
from ppdet.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from ppdet.data.datasets.image_folder import ImageFolder
    from ppdet.inference.results import Result, ResultWriter
    from ppdet.inference.runner import ImageRunner
    from ppdet.inference.truth import TruthFile
    from ppdet.inference.video import Video

#: Formats that drawn images are written in; others become PNG.
_WRITTEN = {".jpg", ".jpeg", ".png", ".bmp"}
#: File, or folder, of each output format in the output folder.
FORMATS = {"json": "detections.json", "coco": "coco.json", "csv": "detections.csv", "yolo": "labels"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet infer``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE|NAME|URL", help="weights to use; default: the config's `weights`"
    )
    parser.add_argument("--infer_img", metavar="FILE", help="one image")
    parser.add_argument("--infer_dir", metavar="DIR", help="all images of a folder and below")
    parser.add_argument("--video_file", metavar="FILE", help="all frames of a video; drawn as a video")
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
        "--anno_path",
        metavar="FILE",
        help="COCO annotation file: what it says about an image is drawn beside the detections, and its ids "
        "go into COCO's JSON",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=tuple(FORMATS),
        default=["json"],
        help="how detections are saved: "
        + ", ".join(f"{name} in OUTPUT_DIR/{file}" for name, file in FORMATS.items())
        + " (default: json)",
    )
    parser.add_argument(
        "--save_threshold",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="lowest score that is saved (default: 0, everything that the model puts out)",
    )
    parser.add_argument("--save_results", metavar="FILE", help="where the JSON goes instead")
    parser.add_argument(
        "--classes",
        metavar="NAMES|FILE",
        help="class names, `a,b,c` or one a line, for weights that carry none",
    )
    add_view_arguments(parser)
    add_runtime_argument(parser)
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, draw, save."""
    from ppdet.data.datasets.image_folder import ImageFolder
    from ppdet.engine import distributed
    from ppdet.inference.truth import TruthFile
    from ppdet.inference.video import Video

    wanted = [path for path in (args.infer_img, args.infer_dir) if path]
    if bool(wanted) == bool(args.video_file):
        raise CommandError("say what to look at: --infer_img FILE, --infer_dir DIR, or --video_file FILE")
    source = ImageFolder().of(wanted) if wanted else Video(args.video_file)
    distributed.start()
    if isinstance(source, Video) and distributed.world_size() > 1:
        raise CommandError("--video_file: a video is looked at by one process; start one")
    trained = load_trained(
        args, names_needed=True, classes=args.classes, extra=("TestReader.skip_corrupt=true",)
    )
    names = trained.class_names
    truth = TruthFile(Path(args.anno_path), names) if args.anno_path else None
    folder = make_folder(Path(args.output_dir))
    runner = _runner(args, trained, len(source))
    if isinstance(source, Video):
        results = _of_video(args, names, runner, source)
    else:
        results = _gathered(_of_images(args, names, runner, source, truth))
    count = objects = 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(w) for w in _writers(args, folder, names, truth)]
        for result in results:
            count += 1
            objects += int((result.detections.scores >= args.draw_threshold).sum())
            kept = result.detections[result.detections.scores >= args.save_threshold]
            for writer in writers:
                writer.write(result._replace(detections=kept))
    skipped = sum(distributed.gather([runner.skipped]))
    if not distributed.is_main():
        return 0
    print(
        f"{count} {'frames' if args.video_file else 'images'}, {objects} objects with a score of at least "
        f"{args.draw_threshold:g}: drawn in {folder}, "
        f"listed in {', '.join(str(path) for path in _files(args, folder).values())}"
    )
    if skipped:
        print(f"{skipped} images could not be read and were skipped; their names are above")
    if not count:
        raise UserError("no image could be read")
    return 0


def _runner(args: argparse.Namespace, trained: Trained, images: int) -> ImageRunner:
    from ppdet.experiment.build import require
    from ppdet.export.choose import choose_predictor
    from ppdet.inference.runner import ImageRunner

    reader = require(trained.experiment, "TestReader").build()
    views = views_from(args, reader, trained.model)
    predictor = choose_predictor(
        args.runtime,
        trained.model,
        trained.experiment.architecture,
        reader,
        images=images * views.least,
        class_names=trained.class_names,
    )
    return ImageRunner(reader, predictor, views)


def _files(args: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Where each format asked for goes."""
    files = {name: folder / FORMATS[name] for name in dict.fromkeys(args.formats)}
    if args.save_results:
        files["json"] = Path(args.save_results)
    return files


def _writers(
    args: argparse.Namespace, folder: Path, names: Sequence[str], truth: Optional[TruthFile]
) -> Iterator[ResultWriter]:
    """One per format; none in processes other than the first."""
    from ppdet.engine import distributed
    from ppdet.inference.results import CocoWriter, CsvWriter, JsonWriter, YoloWriter

    for name, path in _files(args, folder).items() if distributed.is_main() else ():
        make_folder(path.parent)
        if name == "json":
            yield JsonWriter(path, names)
        elif name == "coco":
            yield CocoWriter(path, names, truth.category_ids if truth is not None else None)
        else:
            yield (CsvWriter if name == "csv" else YoloWriter)(path, names)


def _gathered(results: Iterator[Result]) -> Iterator[Result]:
    """Results as they come; of several processes all at the end, in the order of the images, in the first."""
    from ppdet.engine import distributed

    if distributed.world_size() == 1:
        yield from results
        return
    everything = distributed.gather(list(results))
    if distributed.is_main():
        yield from sorted(everything, key=lambda result: result.detections.image_id)


def _of_images(
    args: argparse.Namespace,
    names: Sequence[str],
    runner: ImageRunner,
    images: ImageFolder,
    truth: Optional[TruthFile],
) -> Iterator[Result]:
    """Draws this process's share of the images, and says what is in each."""
    from tqdm import tqdm

    from ppdet.data.transforms.base import pixels
    from ppdet.engine import distributed
    from ppdet.inference.drawing import draw_detections, side_by_side
    from ppdet.inference.results import Result

    samples = [images[index] for index in range(len(images))]
    places = drawn_names([sample.path for sample in samples], args.infer_dir)
    share = samples[distributed.rank() :: distributed.world_size()]
    for sample, found in tqdm(
        runner.stream(share), total=len(share), desc="infer", unit="img", disable=len(share) < 2
    ):
        image = pixels(sample)
        picture = draw_detections(image, found, names, threshold=args.draw_threshold)
        known = truth.of(sample.path, sample.original_size) if truth is not None else None
        if known is not None:
            marked = draw_detections(image, known.objects, names, with_scores=False)
            picture = side_by_side({"ground truth": marked, "detected": picture})
        target = Path(args.output_dir) / places[sample.path]
        _save(picture, target)
        yield Result(
            image=sample.path,
            place=places[sample.path],
            size=sample.original_size,
            detections=found,
            drawn=target.as_posix(),
            image_id=None if known is None else known.image_id,
        )


def _of_video(
    args: argparse.Namespace, names: Sequence[str], runner: ImageRunner, video: Video
) -> Iterator[Result]:
    """Draws every frame into a video of the same name, and says what is in each."""
    from tqdm import tqdm

    from ppdet.data.transforms.base import pixels
    from ppdet.inference.drawing import draw_detections
    from ppdet.inference.results import Result
    from ppdet.inference.video import VideoWriter

    stem = Path(args.video_file).stem
    with contextlib.closing(VideoWriter(Path(args.output_dir) / stem, video.rate)) as writer:
        for sample, found in tqdm(runner.stream(video), total=len(video) or None, desc="infer", unit="frame"):
            picture = draw_detections(pixels(sample), found, names, threshold=args.draw_threshold)
            writer.write(picture)
            yield Result(
                image=args.video_file,
                place=f"{stem}_{sample.image_id:06d}.jpg",
                size=sample.original_size,
                detections=found,
                drawn=writer.path.as_posix(),
                frame=sample.image_id,
            )


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
        while place.with_suffix("").as_posix() in taken:
            number += 1
            place = place.with_name(f"{stem}_{number}{place.suffix}")
        taken.add(place.with_suffix("").as_posix())
        names[path] = place.as_posix()
    return names


def _save(picture: np.ndarray, target: Path) -> None:
    import cv2

    # Written by Python, since OpenCV cannot open names outside the code page on Windows.
    encoded = cv2.imencode(target.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encoded.tobytes())
