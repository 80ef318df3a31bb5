"""Exports of less precision: smaller or faster, and as good as measured."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ppdet.data.transforms.base import pixels
from ppdet.data.transforms.decode import Decode
from ppdet.experiment.trained import CheckpointDetector
from ppdet.experiment.verify_ap import average_precisions
from ppdet.export.bundle import FILES
from ppdet.export.errors import VerifyError
from ppdet.export.info import FILE_NAME, read_info
from ppdet.export.openvino import write_half, write_int8
from ppdet.export.runtime import ExportedPredictor, arrays_of
from ppdet.export.sessions import OPENVINO_WEIGHTS
from ppdet.export.verify import prepare
from ppdet.inference.images import samples_of
from ppdet.utils.errors import UserError
from ppdet.utils.files import writable_folder
from ppdet.utils.packages import require_packages
from ppdet.utils.tables import text_table

Precision = Literal["float16", "int8"]
#: Images of calibration that are looked at, evenly spread; NNCF's own default.
_IMAGES = 300
_RUNS = 20


def export_reduced(
    detector: CheckpointDetector,
    folder: Path,
    precision: Precision,
    *,
    calibration: Sequence[Path] = (),
    max_ap_loss: float = 1.0,
) -> str:
    """Write an OpenVINO model of less precision, if it costs no more AP than allowed.

    The float32 model is exported and compared with the detector first; then both are evaluated on the
    EvalDataset of the detector's configuration.

    Args:
        detector: The detector.
        folder: Where to.
        precision: ``float16`` halves the weights; ``int8`` quantises convolutions and matrix products.
        calibration: Images like those that the detector will see, for ``int8``; not those of the EvalDataset.
        max_ap_loss: The most AP that it may cost, in points of 100.

    Returns:
        A table of AP, milliseconds an image, and megabytes, before and after.

    Raises:
        UserError: If there are no images of calibration.
        VerifyError: With the table, if it costs more. Nothing is written then.
    """
    require_packages("openvino", *(["nncf"] if precision == "int8" else []))
    images = _prepared(detector, calibration) if precision == "int8" else []
    target = writable_folder(folder)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"float32": Path(scratch) / "float32", precision: Path(scratch) / precision}
        detector.export(folders["float32"], formats=["openvino"])
        shutil.copytree(folders["float32"], folders[precision])
        if precision == "int8":
            write_int8(folders["float32"], folders[precision], images)
        else:
            write_half(folders["float32"], folders[precision])
        predictors = {name: ExportedPredictor(place, "openvino") for name, place in folders.items()}
        measured, count = average_precisions(detector, predictors)
        times = _milliseconds(detector, predictors)
        table = _table(measured, count, times, folders)
        losses = {
            task: 100 * (measured["float32"][task] - measured[precision][task])
            for task in measured["float32"]
        }
        if max(losses.values()) > max_ap_loss:
            raise VerifyError(
                f"{precision} costs more than {max_ap_loss:g} AP; nothing is written:\n{table}\n"
                "Calibrate with more images like those of the evaluation, or allow more (--max_ap_loss)"
            )
        info = read_info(folders["float32"])
        said = {**info.verified["openvino"], "precision": precision, "ap": measured[precision]}
        info = dataclasses.replace(info, verified={"openvino": {**said, "ap_float32": measured["float32"]}})
        (folders[precision] / FILE_NAME).write_text(info.to_json(), "utf-8")
        for name in FILES:
            (target / name).unlink(missing_ok=True)
        for path in sorted(folders[precision].iterdir(), key=lambda one: one.name == FILE_NAME):
            shutil.copyfile(path, target / path.name)
    return table


def _prepared(detector: CheckpointDetector, calibration: Sequence[Path]) -> list[tuple[np.ndarray, ...]]:
    """Inputs of the network for images of calibration."""
    samples = [sample for place in calibration for sample in samples_of(place)]
    if not samples:
        raise UserError(
            "int8 needs images of calibration, like those that the detector will see: --calibration DIR"
        )
    chosen = [samples[int(k)] for k in np.linspace(0, len(samples) - 1, min(len(samples), _IMAGES))]
    reader, decode, rng = detector.reader("TestReader"), Decode(), np.random.default_rng(0)
    return [arrays_of(prepare(reader, [pixels(decode(sample, rng))])[0]) for sample in chosen]


def _milliseconds(
    detector: CheckpointDetector, predictors: Mapping[str, ExportedPredictor]
) -> dict[str, float]:
    """Median time of an image of the size that the detector takes, in turn."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    batch = prepare(detector.reader("TestReader"), [image])[0]
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(1 + _RUNS):
        for name, predictor in predictors.items():
            before = time.perf_counter()
            predictor.run(batch)
            if turn:
                times[name].append(1e3 * (time.perf_counter() - before))
    return {name: statistics.median(values) for name, values in times.items()}


def _table(
    measured: dict[str, dict[str, float]], images: int, times: dict[str, float], folders: dict[str, Path]
) -> str:
    tasks = list(measured["float32"])
    rows = [[f"AP on {images} images", *tasks, "ms an image", "MB"]]
    for name, scores in measured.items():
        size = (folders[name] / OPENVINO_WEIGHTS).stat().st_size / 1e6
        rows.append(
            [name, *(f"{100 * scores[task]:.2f}" for task in tasks), f"{times[name]:.1f}", f"{size:.1f}"]
        )
    return text_table(rows)
