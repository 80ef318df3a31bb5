"""Detections of images or a video as files: drawn pictures, and JSON, COCO's JSON, CSV or YOLO's text."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ppdet.data.transforms.base import pixels
from ppdet.engine import distributed
from ppdet.experiment.sources import files_read
from ppdet.experiment.trained import TrainedDetector
from ppdet.inference.drawing import WRITTEN, draw_detections, save_picture, side_by_side
from ppdet.inference.images import Image, ImageList, list_images
from ppdet.inference.results import (
    CocoWriter,
    CsvWriter,
    JsonWriter,
    Result,
    ResultWriter,
    YoloWriter,
)
from ppdet.inference.runner import ImageRunner
from ppdet.inference.truth import TruthFile
from ppdet.inference.video import SUFFIXES as VIDEO_SUFFIXES
from ppdet.inference.video import WRITTEN_VIDEOS, Video, VideoWriter
from ppdet.inference.views import ViewOptions
from ppdet.structures import Detections, Sample
from ppdet.utils.errors import DataError, UserError
from ppdet.utils.files import expanded, writable_folder
from ppdet.utils.progress import progress

#: File, or folder, of each output format in the output folder.
FORMATS = {"json": "detections.json", "coco": "coco.json", "csv": "detections.csv", "yolo": "labels"}


@dataclass(frozen=True)
class PredictOptions:
    """What is written, and how images are seen.

    Attributes:
        threshold: Lowest score that is drawn and counted, 0 to 1.
        save_threshold: Lowest score that is saved, 0 to 1.
        formats: Keys of `FORMATS`.
        json_path: Where the JSON goes in place of the output folder.
        annotations: COCO annotation file: its objects are drawn beside the detections, and its image ids go
            into COCO's JSON.
        draw: Write the drawn pictures.
        views: Test-time augmentation.
    """

    threshold: float = 0.5
    save_threshold: float = 0.0
    formats: tuple[str, ...] = ("json",)
    json_path: Optional[Path] = None
    annotations: Optional[Path] = None
    draw: bool = True
    views: ViewOptions = ViewOptions()  # noqa: RUF009  (immutable)

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise UserError(f"no output format {unknown[0]!r}; there are: {', '.join(FORMATS)}")

    def files(self, folder: Path) -> dict[str, Path]:
        """Where each format goes."""
        files = {name: folder / FORMATS[name] for name in dict.fromkeys(self.formats)}
        if self.json_path is not None:
            files["json"] = expanded(self.json_path)
        return files


@dataclass(frozen=True)
class PredictResult:
    """What was written.

    Attributes:
        folder: Folder of the drawn pictures.
        files: File or folder of each format.
        count: Images or frames.
        objects: Detections of at least the threshold.
        skipped: Images that could not be read; each was logged.
    """

    folder: Path
    files: Mapping[str, Path]
    count: int
    objects: int
    skipped: int


def predict(
    detector: TrainedDetector,
    source: Union[Image, Iterable[Image], ImageList, Video],
    output_dir: Union[str, os.PathLike[str]] = "output",
    options: PredictOptions = PredictOptions(),
) -> PredictResult:
    """Detect objects in many images or a video, draw them, and save what was detected.

    Images are processed one after the other, with few of them in memory. Those that cannot be read are
    logged, counted and passed over. With several processes each takes its share of the images.

    Args:
        detector: From `load_detector`.
        source: As for `TrainedDetector.__call__`, or a video file. An `ImageList` is not looked up again.
        output_dir: Where pictures and files go; made if absent.
        options: What is written.

    Raises:
        UserError: If there are no images, none can be read, or the folder cannot be written.
    """
    detector.require_names()
    distributed.start()
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in VIDEO_SUFFIXES:
        source = Video(os.fspath(source))
    if isinstance(source, Video) and distributed.world_size() > 1:
        raise UserError(f"{source.path}: a video is processed by one process; start one")
    truth = None
    if options.annotations is not None:
        truth = TruthFile(expanded(options.annotations), detector.class_names)
    job = _Job(detector, writable_folder(expanded(output_dir)), options, truth)
    writers = list(job.writers())  # refused before the first image is read
    results = job.video(source) if isinstance(source, Video) else _gathered(job.images(source))
    count = objects = 0
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        for result in results:
            count += 1
            objects += int((result.detections.scores >= options.threshold).sum())
            kept = result._replace(detections=result.detections.filter(score=options.save_threshold))
            for writer in writers:
                writer.write(kept)
    skipped = sum(distributed.gather([job.runner.skipped]))
    if not count and distributed.is_main():
        raise DataError("no image could be read")
    return PredictResult(job.folder, options.files(job.folder), count, objects, skipped)


class _Job:
    """One call of `predict`."""

    runner: ImageRunner

    def __init__(
        self, detector: TrainedDetector, folder: Path, options: PredictOptions, truth: Optional[TruthFile]
    ) -> None:
        self.folder = folder
        self._detector, self._options, self._truth = detector, options, truth

    def writers(self) -> Iterator[ResultWriter]:
        """One per format; none in processes other than the first."""
        names = self._detector.class_names
        for name, path in self._options.files(self.folder).items() if distributed.is_main() else ():
            writable_folder(path.parent)
            if name == "json":
                yield JsonWriter(path, names)
            elif name == "coco":
                truth = self._truth
                ids = (None, 1) if truth is None else (truth.category_ids, truth.free_id)
                yield CocoWriter(path, names, *ids)
            else:
                yield (CsvWriter if name == "csv" else YoloWriter)(path, names)

    def images(self, source: Union[Image, Iterable[Image], ImageList]) -> Iterator[Result]:
        """Results of this process's share of the images, in their order; each is drawn as it comes.

        Raises:
            UserError: If there are no images, or an output would replace one of them.
        """
        images = source if isinstance(source, ImageList) else list_images(source, leave_out=self.folder)
        samples = images.samples
        places = drawn_names([sample.path for sample in samples], images.root)
        self._require_new_files([sample.path for sample in samples], places.values())
        self.runner = self._detector.runner(len(samples), views=self._options.views, skip_corrupt=True)
        return self._drawn_images(samples[distributed.rank() :: distributed.world_size()], places)

    def _drawn_images(self, share: Sequence[Sample], places: Mapping[str, str]) -> Iterator[Result]:
        found = self._detector.stream(self.runner, share)
        for sample, detections in progress(
            found, total=len(share), desc="infer", unit="img", quiet=len(share) < 2
        ):
            known = self._truth.of(sample.path, sample.original_size) if self._truth is not None else None
            target = self.folder / places[sample.path]
            if self._options.draw:
                picture = self._picture(sample, detections)
                if known is not None:
                    names = self._detector.class_names
                    marked = draw_detections(pixels(sample), known.objects, names, with_scores=False)
                    picture = side_by_side({"ground truth": marked, "detected": picture})
                target = save_picture(picture, target)
            yield Result(
                image=sample.path,
                place=places[sample.path],
                size=sample.original_size,
                detections=detections,
                drawn=target.as_posix() if self._options.draw else "",
                image_id=None if known is None else known.image_id,
            )

    def video(self, video: Video) -> Iterator[Result]:
        """Results of all frames, which are drawn into a video of the same name.

        Raises:
            UserError: If that would replace the video.
        """
        stem = Path(video.path).stem
        self._require_new_files([video.path], [f"{stem}{suffix}" for suffix in WRITTEN_VIDEOS])
        self.runner = self._detector.runner(len(video), views=self._options.views)
        return self._drawn_frames(video, stem)

    def _drawn_frames(self, video: Video, stem: str) -> Iterator[Result]:
        with contextlib.ExitStack() as stack:
            writer = VideoWriter(self.folder / stem, video.rate)
            stack.callback(writer.close)
            found = self._detector.stream(self.runner, video)
            for sample, detections in progress(found, total=len(video) or None, desc="infer", unit="frame"):
                if self._options.draw:
                    writer.write(self._picture(sample, detections))
                yield Result(
                    image=video.path,
                    place=f"{stem}_{sample.image_id:06d}.jpg",
                    size=sample.original_size,
                    detections=detections,
                    drawn=writer.path.as_posix() if self._options.draw else "",
                    frame=sample.image_id,
                )

    def _require_new_files(self, inputs: Iterable[str], drawn: Iterable[str]) -> None:
        """Check, before the first image is read, that no output is an input; links lead to what they mean.

        Raises:
            UserError: If one is.
        """
        annotations = self._options.annotations
        read = [*map(Path, inputs), *files_read(self._detector)]
        read += [] if annotations is None else [expanded(annotations)]
        pictures = [self.folder / place for place in drawn] if self._options.draw else []
        written = [*pictures, *self._options.files(self.folder).values()]
        known = {_identity(path) for path in read if path.is_file()}
        for path in written:
            if path.is_file() and _identity(path) in known:
                raise UserError(
                    f"output_dir {self.folder}: {path} is an input and would be written over; "
                    "choose another folder (or file, --save_results)"
                )

    def _picture(self, sample: Sample, detections: Detections) -> np.ndarray:
        names, threshold = self._detector.class_names, self._options.threshold
        return draw_detections(pixels(sample), detections, names, threshold=threshold)


def _identity(path: Path) -> tuple[int, int]:
    """Device and number of a file: the same under every name and through every link."""
    state = path.stat()
    return state.st_dev, state.st_ino


def _gathered(results: Iterator[Result]) -> Iterator[Result]:
    """Results as they come; of several processes all at the end, in the order of the images, in the first."""
    if distributed.world_size() == 1:
        yield from results
        return
    everything = distributed.gather(list(results))
    if distributed.is_main():
        yield from sorted(everything, key=lambda result: result.detections.image_id)


def drawn_names(paths: Sequence[str], root: Union[str, os.PathLike[str], None]) -> dict[str, str]:
    """Where each drawn image goes in the output folder: as it lies below `root`, in a format we write."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        inside = root is not None and Path(path) != Path(root) and Path(path).is_relative_to(root)
        place = Path(path).relative_to(str(root)) if inside else Path(Path(path).name)
        if place.suffix.lower() not in WRITTEN:
            place = place.with_suffix(".png")
        stem, number = place.stem, 1
        while place.with_suffix("").as_posix() in taken:
            number += 1
            place = place.with_name(f"{stem}_{number}{place.suffix}")
        taken.add(place.with_suffix("").as_posix())
        names[path] = place.as_posix()
    return names
