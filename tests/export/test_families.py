"""Protects what an export promises: every family, in every format, finds what its model finds.

Batches of images of different sizes go through one file, so batch and image size are free, and every region
is pooled from its own image.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import pytest

from ppdet.cli.export import _tensorrt
from ppdet.experiment.export import available_formats
from ppdet.export import onnx as onnx_export
from ppdet.export.bundle import export_model
from ppdet.export.errors import ExportError, VerifyError
from ppdet.export.info import describe, read_info
from ppdet.export.onnx import KEY, export_onnx, obstacle, repair_leaky_relu, repair_roi_align
from ppdet.export.runtime import ExportedPredictor
from ppdet.export.sessions import ONNX_MODEL, OPENVINO_WEIGHTS, Runtime
from ppdet.export.tensorrt import obstacles
from ppdet.export.verify import (
    Comparison,
    Listed,
    difference,
    generated_images,
    prepare,
    reference_of,
    verify,
)
from ppdet.inference.predictors import NativePredictor, predict
from ppdet.inference.runner import ImageRunner
from ppdet.inference.views import Tiling, ViewOptions
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Sample
from tests.export.small import FAMILIES, NAMES, reader, small_model
from tests.support import CAN_EXPORT_ONNX, requires_onnx, requires_openvino

RUNTIMES: tuple[Runtime, ...] = ("paddle", "onnx") if CAN_EXPORT_ONNX else ("paddle",)
#: Families that OpenVINO runs too: every kind of part, and no more, since it takes seconds for each.
OPENVINO = ("cascade_mask_fpn", "retinanet", "yolov3", "ppyoloe", "rtdetr")
HAS_OPENVINO = CAN_EXPORT_ONNX and find_spec("openvino") is not None


@dataclass
class Family:
    """A small detector, its export in every format, and how that compares.

    Attributes:
        name: Of the family.
        model: The detector.
        candidates: What its last NMS took before the export; None without NMS.
        folder: Of the export.
        results: By runtime.
    """

    name: str
    model: Detector
    candidates: Optional[int]
    folder: Path
    results: dict[Runtime, Comparison]


def exported(
    model: Detector, folder: Path, *, formats: tuple[Runtime, ...] = RUNTIMES, uint8: bool = False
) -> list[Comparison]:
    """An export of a small detector, compared on images of two sizes."""
    info = describe(model, reader(), NAMES, uint8_input=uint8)
    batches = prepare(reader(), generated_images())
    return export_model(model, folder, info, formats=formats, batches=batches)


@pytest.fixture(scope="module")
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """One export for all tests of a family; pytest runs them one after the other."""
    name: str = request.param
    model = small_model(name)
    candidates = None if model.final_nms is None else model.final_nms.max_candidates
    formats = (*RUNTIMES, "openvino") if HAS_OPENVINO and name in OPENVINO else RUNTIMES
    folder = tmp_path_factory.mktemp(name)
    results = exported(model, folder, formats=formats)
    assert [result.runtime for result in results] == list(formats)
    yield Family(name, model, candidates, folder, {result.runtime: result for result in results})
    shutil.rmtree(folder)  # dozens of megabytes


def test_the_packages_that_tests_need_are_there() -> None:
    assert (obstacle() is None) == CAN_EXPORT_ONNX


@pytest.mark.parametrize(("python", "cure"), [((3, 12), "pip install"), ((3, 13), "use 3.9 to 3.12")])
def test_without_the_packages_there_is_no_onnx(
    python: tuple[int, int],
    cure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    monkeypatch.setattr(onnx_export.sys, "version_info", python)
    model = small_model("yolov3_tiny")
    with pytest.raises(ExportError, match=cure):
        export_onnx(model, tmp_path, describe(model, reader(), NAMES))
    caplog.set_level("WARNING", "ppdet")
    assert available_formats() == ("paddle",)
    assert cure in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_every_family_in_both_formats(family: Family) -> None:
    for runtime in RUNTIMES:
        result = family.results[runtime]
        assert result.passed
        assert result.images == 3
        assert result.objects > 5, "nothing was compared"
        assert result.objects == result.exported
        assert (result.mask_prob > 0) == ("mask" in family.name), "probabilities of masks are compared"


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_several_looks_are_the_same(family: Family) -> None:
    """Tiles at two sizes, mirrored too, merge to the same detections whatever runs the network."""
    model = family.model
    views = ViewOptions(multi_scale=True).views(reader(), model.final_nms)
    views = replace(views, sizes=views.sizes[:2], tiling=Tiling((240, 200)))
    assert len(views.of(240, 320)) == 12
    predictors = [NativePredictor(model), *(ExportedPredictor(family.folder, r) for r in RUNTIMES)]
    sample = Sample(0, "x", generated_images()[0])
    native, *others = (
        found for p in predictors for _, found in ImageRunner(reader(), p, views).stream([sample])
    )
    assert len(native) > 2
    for other in others:
        gaps = difference(Listed(native, None), Listed(other, None), len(native) + 1)
        assert gaps.unmatched == 0
        assert gaps.box_pixels < 0.05
        assert gaps.score < 1e-3
        assert gaps.mask_iou > 0.99


@requires_onnx
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_every_family_keeps_to_what_tensorrt_documents(family: Family) -> None:
    model, path = family.model, family.folder / ONNX_MODEL
    assert obstacles(path) == []
    assert model.final_nms is None or model.final_nms.max_candidates == family.candidates == 4096
    assert _tensorrt(path) == f"every operator of {path.name} is one that version 10.15 documents"


@requires_onnx
@requires_openvino
@pytest.mark.slow
@pytest.mark.parametrize("family", OPENVINO, indirect=True)
def test_every_kind_of_detector_in_openvino(family: Family) -> None:
    result = family.results["openvino"]
    assert result.passed
    assert result.objects
    assert (family.folder / OPENVINO_WEIGHTS).is_file()
    (batch, _) = prepare(reader(), generated_images())
    found = ExportedPredictor(family.folder, "openvino").run(batch)
    assert len(found) == (4 if family.model.has_masks else 3)


@requires_onnx
@pytest.mark.slow
@pytest.mark.parametrize("family", ["rtdetr"], indirect=True)
def test_without_nms_there_is_none(family: Family) -> None:
    """Outputs are fixed, and the opset is one that runtimes know."""
    import onnx

    model = onnx.load(str(family.folder / ONNX_MODEL))
    operations = {node.op_type for node in model.graph.node}
    assert "GridSample" in operations
    assert not {"NonMaxSuppression", "NonZero", "Loop", "If"} & operations
    assert min(opset.version for opset in model.opset_import if not opset.domain) >= 16


@pytest.mark.slow
def test_older_convention_of_pooling(tmp_path: Path) -> None:
    assert all(result.passed for result in exported(small_model("mask_fpn", aligned=False), tmp_path))


@pytest.mark.slow
def test_bytes_in_and_normalisation_inside(tmp_path: Path) -> None:
    assert all(
        result.passed and result.objects
        for result in exported(small_model("retinanet"), tmp_path, uint8=True)
    )
    with pytest.raises(ExportError, match="uint8"):
        ExportedPredictor(tmp_path, RUNTIMES[-1])


#: For tests that one export with masks is enough for.
with_masks = pytest.mark.parametrize("family", ["mask_fpn"], indirect=True)


@pytest.mark.slow
@with_masks
def test_a_predictor_stands_in_for_the_model(family: Family) -> None:
    (batch, _) = prepare(reader(), generated_images())
    wanted = predict(family.model, batch)
    for runtime in RUNTIMES:
        found = ExportedPredictor(family.folder, runtime)(batch)
        assert [len(d) for d in found] == [len(d) for d in wanted]
        assert [d.image_id for d in found] == [0, 1]
        np.testing.assert_allclose(found[1].boxes, wanted[1].boxes, atol=0.05)
        masks = found[1].masks
        assert masks is not None
        assert masks[0]["size"] == [330, 220]


@requires_onnx
@pytest.mark.slow
@with_masks
def test_everything_is_in_the_folder(family: Family) -> None:
    import onnx

    bundle = family.folder
    info = read_info(bundle)
    assert info.class_names == NAMES
    assert info.verified["onnx"]["unmatched"] == 0
    properties = {p.key: p.value for p in onnx.load(str(bundle / "model.onnx")).metadata_props}
    assert json.loads(properties[KEY])["class_names"] == list(NAMES)
    assert json.loads(properties["names"]) == {"0": "cat", "1": "dog", "2": "bird"}
    assert "label_list:\n- cat\n- dog\n- bird\n" in (bundle / "infer_cfg.yml").read_text("utf-8")


@pytest.mark.slow
@with_masks
def test_the_example_needs_nothing_of_ours(family: Family, tmp_path: Path) -> None:
    bundle = family.folder
    image = generated_images()[1]
    path = tmp_path / "é.png"
    path.write_bytes(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())
    (batch,) = prepare(reader(), [image])
    wanted = predict(family.model, batch)[0]
    for runtime in RUNTIMES:
        words = [sys.executable, "predict.py", str(path), "--runtime", runtime, "--threshold", "0"]
        done = subprocess.run(words, cwd=bundle, capture_output=True, text=True, env={"PYTHONPATH": ""})
        assert done.returncode == 0, done.stderr
        objects = json.loads(done.stdout)["objects"]
        assert [o["name"] for o in objects] == [NAMES[i] for i in wanted.labels]
        np.testing.assert_allclose([o["box"] for o in objects], wanted.boxes, atol=0.05)
    assert "ppdet" not in {
        line.split()[1].split(".")[0]
        for line in (bundle / "predict.py").read_text("utf-8").splitlines()
        if line.lstrip().startswith(("import ", "from "))
    }


@pytest.mark.slow
def test_an_export_of_another_model_fails_with_a_table(tmp_path: Path) -> None:
    """The comparison sees a difference: the model changes between two batches of the same export."""
    model = small_model("yolov3_tiny")
    info = describe(model, reader(), NAMES)
    batches = prepare(reader(), generated_images())
    export_model(model, tmp_path, info, formats=["paddle"])
    with pytest.raises(ExportError, match="not verified"):
        ExportedPredictor(tmp_path, "paddle")
    assert verify(reference_of(model, batches), tmp_path, info, "paddle", batches).passed
    for parameter in model.yolo_head.parameters():
        parameter.set_value(parameter * 1.05)
    with pytest.raises(VerifyError, match="unmatched") as error:
        verify(reference_of(model, batches), tmp_path, info, "paddle", batches)
    assert "limit" in str(error.value)


def test_a_runtime_that_fails_is_told_and_harms_nobody(tmp_path: Path) -> None:
    from ppdet.export.worker import run_apart

    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="onnx: exit status 1"):
        run_apart(tmp_path, "onnx", [(np.zeros((1, 3, 8, 8), np.float32),) * 3])


def test_a_roi_align_of_unknown_origin_is_refused() -> None:
    import onnx

    node = onnx.helper.make_node("RoiAlign", ["x", "boxes", "zeros"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(ExportError, match="unknown origin"):
        repair_roi_align(graph)


def test_leaky_rectifiers_get_their_slope_back() -> None:
    import onnx

    node = onnx.helper.make_node("LeakyRelu", ["x"], ["y"], alpha=7e31)
    graph = onnx.helper.make_graph([node], "g", [], [])
    repair_leaky_relu(graph, {0.1})
    assert graph.node[0].attribute[0].f == pytest.approx(0.1)
    with pytest.raises(ExportError, match="different slopes"):
        repair_leaky_relu(graph, {0.1, 0.2})
