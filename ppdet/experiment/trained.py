"""A trained detector, ready to use: from a checkpoint, an export, a zoo name or a URL, without a config."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ppdet.data.readers import Reader
from ppdet.data.transforms.base import pixels
from ppdet.data.transforms.decode import Decode
from ppdet.experiment.build import require
from ppdet.experiment.config import Experiment
from ppdet.experiment.export import ExportResult, available_formats, decoded_images, require_other_files
from ppdet.export.bundle import export_model
from ppdet.export.choose import Choice, choose_predictor
from ppdet.export.fastest import fastest
from ppdet.export.info import ExportInfo, describe, read_info, reader_of
from ppdet.export.runtime import ExportedPredictor, is_installed
from ppdet.export.sessions import Runtime
from ppdet.export.verify import generated_images, prepare
from ppdet.inference.drawing import draw_detections
from ppdet.inference.images import Image, samples_of
from ppdet.inference.predictors import Predictor
from ppdet.inference.runner import ImageRunner, Prediction
from ppdet.inference.views import FinalNms, ViewOptions
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Detections, Sample
from ppdet.utils.errors import UserError, WeightsError
from ppdet.utils.files import writable_folder
from ppdet.zoo.table import class_lists

#: What runs an export folder. Where both of the first line were verified and are installed, the faster one
#: here; Paddle Inference is slower than either (benchmarks/inference_2core-avx512_202611.md).
_CONTENDERS: tuple[Runtime, ...] = ("onnx", "openvino")
_RUNTIMES: tuple[Runtime, ...] = (*_CONTENDERS, "paddle")


class SourceError(UserError):
    """A source that no detector can be made of."""


class TrainedDetector(ABC):
    """Detects objects in images; knows its class names and how images are prepared.

    Made by `load_detector`. Call it with images; `export` it; give it to `ppdet.evaluate`.

    Attributes:
        class_names: K names by label.
        source: Where the weights come from.
        runtime: What runs the network, as chosen by the user.
    """

    def __init__(self, *, source: str, class_names: Sequence[str], runtime: Choice) -> None:
        self.source = source
        self.class_names = tuple(class_names)
        self.runtime: Choice = runtime

    def __call__(
        self,
        images: Union[Image, Iterable[Image]],
        *,
        threshold: float = 0.5,
        views: ViewOptions = ViewOptions(),  # noqa: B008  (immutable)
    ) -> list[Detections]:
        """Detect objects.

        Args:
            images: One image or several: files, folders, patterns, ``[H, W, 3]`` uint8 RGB arrays, PIL
                images.
            threshold: Lowest score that is returned, 0 to 1.
            views: Test-time augmentation.

        Returns:
            Detections of each image in the order given, in pixels of the image as it was given.

        Raises:
            DataError: If an image cannot be read, or an array is not uint8 RGB.
        """
        self.require_names()
        samples = samples_of(images)
        runner = self.runner(len(samples), views=views, skip_corrupt=False)
        detections = [found.detections.filter(score=threshold) for found in self.stream(runner, samples)]
        # Messages call an image in memory by its number; it has no file.
        return [
            found if sample.image is None else replace(found, path="")
            for sample, found in zip(samples, detections)
        ]

    def stream(self, runner: ImageRunner, samples: Iterable[Sample]) -> Iterator[Prediction]:
        """Decoded images with their detections, one after the other, a few in memory at a time.

        Args:
            runner: From `runner`.
            samples: Images; asked for as they are needed.
        """
        for found in runner.stream(samples):
            detections = replace(
                found.detections,
                class_names=self.class_names,
                path=found.sample.path,
                size=found.sample.original_size,
            )
            yield Prediction(found.sample, detections)

    def runner(
        self,
        images: int,
        *,
        views: ViewOptions = ViewOptions(),  # noqa: B008  (immutable)
        skip_corrupt: Optional[bool] = None,
        reader: str = "TestReader",
    ) -> ImageRunner:
        """What prepares images and runs the network on them.

        Args:
            images: About how many images it will see; decides whether an export is worth making.
            views: Test-time augmentation.
            skip_corrupt: Pass over images that cannot be read and count them; None for what the reader says.
            reader: ``TestReader`` or ``EvalReader``.
        """
        built = self.reader(reader)
        planned = views.views(built, self.final_nms)
        predictor = self.predictor(built, images * planned.least)
        return ImageRunner(built, predictor, planned, skip_corrupt=skip_corrupt)

    def require_names(self) -> None:
        """Check that the class names are known.

        Raises:
            WeightsError: If nothing says what the classes are called.
        """
        if not self.class_names:
            raise WeightsError(
                f"{self.source}: has no class names; give them (classes, --classes): "
                f"a file with one name a line, a list, or one of {', '.join(class_lists())}"
            )

    def draw(
        self, image: Union[Image, np.ndarray], detections: Detections, *, threshold: float = 0.0
    ) -> np.ndarray:
        """An image with its detections drawn into it; see `ppdet.draw`."""
        return draw(image, detections, threshold=threshold)

    @property
    @abstractmethod
    def experiment(self) -> Optional[Experiment]:
        """The configuration it was trained with; None for an export."""

    @property
    @abstractmethod
    def has_masks(self) -> bool:
        """Whether its detections have masks."""

    @property
    @abstractmethod
    def final_nms(self) -> Optional[FinalNms]:
        """Its final NMS, which merges test-time augmentation; None where there is none."""

    @abstractmethod
    def reader(self, key: str) -> Reader:
        """How images are prepared: ``TestReader``, or ``EvalReader`` for evaluation."""

    @abstractmethod
    def predictor(self, reader: Reader, images: int) -> Predictor:
        """What runs the network for about so many images that `reader` prepares."""

    @abstractmethod
    def export(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        formats: Optional[Sequence[Runtime]] = None,
        uint8: bool = False,
        verify: bool = True,
        images: Union[Image, Iterable[Image], None] = None,
    ) -> ExportResult:
        """Write the detector for Paddle Inference and ONNX Runtime, and compare the files with it.

        Args:
            folder: Where to; made if absent.
            formats: ``paddle``, ``onnx``, ``openvino``, ``paddle2x``; None for ``paddle``, and ``onnx`` where
                its packages are installed.
            uint8: Take ``[N, H, W, 3]`` uint8 RGB images and normalise them inside the graph.
            verify: Compare the export with the detector.
            images: Images to compare on; None for generated ones.

        Raises:
            ExportError: If a format cannot be written or run.
            VerifyError: If an export does not give the detections of the detector.
        """


class CheckpointDetector(TrainedDetector):
    """A detector that is a Paddle model, with the configuration it was trained with.

    Args:
        model: The detector with its weights.
        experiment: Its configuration.
        class_names: K names by label.
        source: Where the weights come from.
        runtime: What runs the network.

    Attributes:
        model: The detector, in evaluation mode.
    """

    def __init__(
        self,
        model: Detector,
        experiment: Experiment,
        *,
        class_names: Sequence[str],
        source: str = "",
        runtime: Choice = "auto",
    ) -> None:
        super().__init__(source=source, class_names=class_names, runtime=runtime)
        model.eval()
        self.model = model
        self._experiment = experiment

    @property
    def experiment(self) -> Experiment:
        """The configuration it was trained with."""
        return self._experiment

    @property
    def has_masks(self) -> bool:
        """Whether its detections have masks."""
        return self.model.has_masks

    @property
    def final_nms(self) -> Optional[FinalNms]:
        """Its final NMS; None where there is none."""
        return self.model.final_nms

    def reader(self, key: str) -> Reader:
        """The reader of the configuration."""
        built: Reader = require(self._experiment, key).build()
        return built

    def predictor(self, reader: Reader, images: int) -> Predictor:
        """The model itself, or an export of it where that is faster; see `ppdet.export.choose`."""
        return choose_predictor(
            self.runtime,
            self.model,
            self._experiment.architecture,
            reader,
            images=images,
            class_names=self.class_names,
        )

    def export(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        formats: Optional[Sequence[Runtime]] = None,
        uint8: bool = False,
        verify: bool = True,
        images: Union[Image, Iterable[Image], None] = None,
    ) -> ExportResult:
        """Write the detector for other runtimes; see `TrainedDetector.export`."""
        self.require_names()
        require_other_files(folder, [Path(self.source), self.experiment.source])
        decoded = generated_images() if images is None else decoded_images(images)
        reader, target = self.reader("TestReader"), writable_folder(folder)
        info = describe(self.model, reader, self.class_names, uint8_input=uint8)
        comparisons = export_model(
            self.model,
            target,
            info,
            formats=available_formats() if formats is None else tuple(formats),
            batches=prepare(reader, decoded) if verify else None,
        )
        return ExportResult(target, tuple(sorted(target.rglob("model.*"))), tuple(comparisons))


class ExportedDetector(TrainedDetector):
    """A detector that is the export of another.

    Args:
        folder: Of the export.
        runtime: What runs it; ``auto`` is the fastest that the export was verified for.

    Raises:
        ExportError: If the folder holds no export.
        SourceError: If the export was not verified for the runtime.
    """

    def __init__(self, folder: Path, *, runtime: Choice = "auto") -> None:
        self.info: ExportInfo = read_info(folder)
        super().__init__(source=str(folder), class_names=self.info.class_names, runtime=runtime)
        self._folder = folder
        self._predictor: Optional[Predictor] = None
        self._verified()

    def _verified(self) -> list[Runtime]:
        """The runtimes that the user's choice leaves, at least one."""
        verified = [name for name in _RUNTIMES if name in self.info.verified]
        chosen = "paddle" if self.runtime == "paddle-bf16" else self.runtime
        left = [name for name in verified if chosen in ("auto", name)]
        if not left:
            there = ", ".join(verified) or "none"
            raise SourceError(f"{self._folder}: not verified for runtime {self.runtime}; verified: {there}")
        return left

    def _fastest(self) -> Runtime:
        left = self._verified()
        contenders = {name: self._folder for name in left if name in _CONTENDERS and is_installed(name)}
        return fastest(contenders) if contenders else left[0]

    @property
    def experiment(self) -> None:
        """None: an export carries no configuration."""
        return None

    @property
    def has_masks(self) -> bool:
        """Whether its detections have masks."""
        return self.info.has_masks

    @property
    def final_nms(self) -> Optional[FinalNms]:
        """What the export says of its final NMS."""
        return self.info

    def reader(self, key: str) -> Reader:
        """The preparation that the export describes, the same for inference and evaluation."""
        del key
        return reader_of(self.info)

    def predictor(self, reader: Reader, images: int) -> Predictor:
        """The export, loaded once."""
        del reader, images
        if self._predictor is None:
            bfloat16 = self.runtime == "paddle-bf16"
            self._predictor = ExportedPredictor(self._folder, self._fastest(), bfloat16=bfloat16)
        return self._predictor

    def export(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        formats: Optional[Sequence[Runtime]] = None,
        uint8: bool = False,
        verify: bool = True,
        images: Union[Image, Iterable[Image], None] = None,
    ) -> ExportResult:
        """Refused: an export is exported already.

        Raises:
            SourceError: Always.
        """
        raise SourceError(f"{self._folder} is an export already; export the checkpoint it was made from")


def draw(
    image: Image,
    detections: Detections,
    *,
    threshold: float = 0.0,
    with_scores: bool = True,
) -> np.ndarray:
    """Draw detections into a copy of an image: boxes, masks, class names and scores.

    Args:
        image: A file, ``[H, W, 3]`` uint8 RGB, or a PIL image: the one they were detected in.
        detections: Boxes in pixels of `image`.
        threshold: Lowest score that is drawn.
        with_scores: Write the score beside the name.

    Returns:
        ``[H, W, 3]`` uint8 RGB; enlarged by a whole number if `image` is small.

    Raises:
        DataError: If the image cannot be read.
    """
    (sample,) = samples_of(image)
    decoded = Decode()(sample, np.random.default_rng(0))  # draws nothing
    names = detections.class_names or [f"class {i}" for i in range(int(detections.labels.max(initial=0)) + 1)]
    return draw_detections(pixels(decoded), detections, names, threshold=threshold, with_scores=with_scores)
