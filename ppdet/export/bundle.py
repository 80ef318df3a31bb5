"""Writes a folder with everything that deploying a model needs.

``model.json`` + ``model.pdiparams`` (Paddle Inference), ``model.onnx``, ``model.xml`` + ``model.bin``
(OpenVINO), ``export.json`` (what it is),
``infer_cfg.yml`` (the same in the words of PaddleDetection 2.x), ``predict.py`` (an example that runs).
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import yaml

from ppdet.export import openvino, paddle2x, standalone
from ppdet.export.info import FILE_NAME, ExportInfo
from ppdet.export.onnx import embed_info, export_onnx
from ppdet.export.paddle_inference import export_paddle
from ppdet.export.sessions import (
    ONNX_MODEL,
    OPENVINO_MODEL,
    OPENVINO_WEIGHTS,
    PADDLE2X_FOLDER,
    PADDLE_MODEL,
    PADDLE_WEIGHTS,
    Runtime,
)
from ppdet.export.verify import Comparison, Reference, reference_of, verify
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Batch

logger = logging.getLogger(__name__)

#: What an export may write, in its subfolder for 2.x too.
FILES = (
    PADDLE_MODEL,
    PADDLE_WEIGHTS,
    ONNX_MODEL,
    OPENVINO_MODEL,
    OPENVINO_WEIGHTS,
    FILE_NAME,
    "infer_cfg.yml",
    "predict.py",
)

#: What 2.x calls families, and its least size of a TensorRT subgraph.
_FAMILIES_2X = {
    "YOLOv3": ("YOLO", 3),
    "PPYOLOE": ("PPYOLOE", 3),
    "PPYOLOEWithAuxHead": ("PPYOLOE", 3),
    "RetinaNet": ("RetinaNet", 40),
}
_OTHER_2X = ("RCNN", 40)

#: What writes each format.
_EXPORTERS: dict[Runtime, Callable[[Detector, Path, ExportInfo], Path]] = {
    "paddle": export_paddle,
    "onnx": export_onnx,
    "openvino": openvino.export_openvino,
    "paddle2x": paddle2x.export_paddle2x,
}


def export_model(
    model: Detector,
    folder: Path,
    info: ExportInfo,
    *,
    formats: Sequence[Runtime] = ("paddle", "onnx"),
    batches: Optional[Sequence[Batch]] = None,
) -> list[Comparison]:
    """Export a model and compare what came out with it.

    Args:
        model: A detector with trained weights.
        folder: Made if it is not there; files of an earlier export are removed first.
        info: See `ppdet.export.info.describe`.
        formats: What to write.
        batches: Prepared images to compare on; None does not compare.

    Returns:
        A comparison per format; none without `batches`.

    Raises:
        ExportError: If a format cannot be written or run.
        VerifyError: If an export differs from its model. What was written stays, without ``export.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / FILE_NAME
    if described.is_file():
        _remove_export(folder)
    reference: Optional[Reference] = None
    results: list[Comparison] = []
    # OpenVINO comes last, since it is made from the ONNX file.
    for runtime in sorted(formats, key=lambda name: name == "openvino"):
        if runtime == "openvino" and "onnx" in formats:
            path = openvino.convert(folder / ONNX_MODEL, folder, info)
        else:
            path = _EXPORTERS[runtime](model, folder, info)
        logger.info("wrote %s", path)
        if batches is not None:
            reference = reference or reference_of(model, batches)
            results.append(verify(reference, folder, info, runtime, batches))
    results.sort(key=lambda result: formats.index(result.runtime))
    info = dataclasses.replace(info, verified={r.runtime: r.to_dict() for r in results})
    if "onnx" in formats:
        embed_info(folder / ONNX_MODEL, info)
    for place in (folder, folder / PADDLE2X_FOLDER) if "paddle2x" in formats else (folder,):
        (place / "infer_cfg.yml").write_text(infer_cfg(info), "utf-8")
    shutil.copyfile(standalone.__file__, folder / "predict.py")
    described.write_text(info.to_json(), "utf-8")
    return results


def _remove_export(folder: Path) -> None:
    """Remove an earlier export: what is left of it would be taken for part of the new one."""
    for place in (folder, folder / PADDLE2X_FOLDER):
        for name in FILES:
            (place / name).unlink(missing_ok=True)


def infer_cfg(info: ExportInfo) -> str:
    """``infer_cfg.yml`` as 2.x wrote it beside its exports."""
    steps = info.preprocess
    family, subgraph = _FAMILIES_2X.get(info.architecture, _OTHER_2X)
    preprocess: list[dict[str, Any]] = []
    if steps.target_size is not None:
        preprocess.append(
            {
                "interp": steps.interp,
                "keep_ratio": steps.keep_ratio,
                "target_size": list(steps.target_size),
                "type": "Resize",
            }
        )
    preprocess += [
        {
            "is_scale": steps.scale != 1.0,
            "mean": list(steps.mean),
            "std": list(steps.std),
            "type": "NormalizeImage",
        },
        {"type": "Permute"},
    ]
    if steps.pad_to_stride > 1:
        preprocess.append({"stride": steps.pad_to_stride, "type": "PadStride"})
    content = {
        "mode": "paddle",
        "draw_threshold": 0.5,
        "metric": "COCO",
        "use_dynamic_shape": True,
        "arch": family,
        "min_subgraph_size": subgraph,
        **({"mask": True} if info.has_masks else {}),
        "Preprocess": preprocess,
        "label_list": list(info.class_names),
    }
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
