"""Protects what an export promises: every family, in both formats, finds what its model finds.

Batches of images of different sizes go through one file, so batch and image size are free, and every region
is pooled from its own image.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.experiment.export import available_formats
from ppdet.export import onnx as onnx_export
from ppdet.export.bundle import export_model
from ppdet.export.errors import ExportError, VerifyError
from ppdet.export.info import describe, read_info
from ppdet.export.onnx import KEY, export_onnx, obstacle, repair_leaky_relu, repair_roi_align
from ppdet.export.runtime import ExportedPredictor, Runtime
from ppdet.export.verify import Comparison, Listed, difference, generated_images, prepare
from ppdet.inference.predictors import NativePredictor, predict
from ppdet.inference.runner import ImageRunner
from ppdet.inference.views import Tiling, ViewOptions
from ppdet.structures import Sample
from tests.export.small import FAMILIES, NAMES, reader, small_model
from tests.support import CAN_EXPORT_ONNX, requires_onnx

RUNTIMES: tuple[Runtime, ...] = ("paddle", "onnx") if CAN_EXPORT_ONNX else ("paddle",)
QUICK = ("faster_fpn",)
CASES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]


def exported(name: str, folder: Path, *, aligned: bool = True, uint8: bool = False) -> list[Comparison]:
    """A small detector of a family in both formats, compared on images of two sizes."""
    model = small_model(name, aligned=aligned)
    info = describe(model, reader(), NAMES, uint8_input=uint8)
    batches = prepare(reader(), generated_images())
    return export_model(model, folder, info, formats=RUNTIMES, batches=batches)


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


@pytest.mark.parametrize("name", CASES)
def test_every_family_in_both_formats(name: str, tmp_path: Path) -> None:
    results = exported(name, tmp_path)
    assert [result.runtime for result in results] == list(RUNTIMES)
    for result in results:
        assert result.passed
        assert result.images == 3
        assert result.objects > 5, "nothing was compared"
        assert result.objects == result.exported
        assert (result.mask_prob > 0) == ("mask" in name), "probabilities of masks are compared"
    several_looks_are_the_same(name, tmp_path)


def several_looks_are_the_same(name: str, folder: Path) -> None:
    """Tiles at two sizes, mirrored too, merge to the same detections whatever runs the network."""
    model = small_model(name)
    views = ViewOptions(multi_scale=True).views(reader(), model.final_nms)
    views = replace(views, sizes=views.sizes[:2], tiling=Tiling((240, 200)))
    assert len(views.of(240, 320)) == 12
    predictors = [NativePredictor(model), *(ExportedPredictor(folder, r) for r in RUNTIMES)]
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


@pytest.mark.slow
def test_older_convention_of_pooling(tmp_path: Path) -> None:
    assert all(result.passed for result in exported("mask_fpn", tmp_path, aligned=False))


@pytest.mark.slow
def test_bytes_in_and_normalisation_inside(tmp_path: Path) -> None:
    assert all(result.passed and result.objects for result in exported("retinanet", tmp_path, uint8=True))
    with pytest.raises(ExportError, match="uint8"):
        ExportedPredictor(tmp_path, RUNTIMES[-1])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with masks in both formats."""
    folder = tmp_path_factory.mktemp("bundle")
    exported("mask_fpn", folder)
    return folder


@pytest.mark.slow
def test_a_predictor_stands_in_for_the_model(bundle: Path) -> None:
    model = small_model("mask_fpn")
    (batch, _) = prepare(reader(), generated_images())
    wanted = predict(model, batch)
    for runtime in RUNTIMES:
        found = ExportedPredictor(bundle, runtime)(batch)
        assert [len(d) for d in found] == [len(d) for d in wanted]
        assert [d.image_id for d in found] == [0, 1]
        np.testing.assert_allclose(found[1].boxes, wanted[1].boxes, atol=0.05)
        masks = found[1].masks
        assert masks is not None
        assert masks[0]["size"] == [330, 220]


@requires_onnx
@pytest.mark.slow
def test_everything_is_in_the_folder(bundle: Path) -> None:
    import onnx

    info = read_info(bundle)
    assert info.class_names == NAMES
    assert info.verified["onnx"]["unmatched"] == 0
    properties = {p.key: p.value for p in onnx.load(str(bundle / "model.onnx")).metadata_props}
    assert json.loads(properties[KEY])["class_names"] == list(NAMES)
    assert json.loads(properties["names"]) == {"0": "cat", "1": "dog", "2": "bird"}
    assert "label_list:\n- cat\n- dog\n- bird\n" in (bundle / "infer_cfg.yml").read_text("utf-8")


@pytest.mark.slow
def test_the_example_needs_nothing_of_ours(bundle: Path, tmp_path: Path) -> None:
    image = generated_images()[1]
    path = tmp_path / "é.png"
    path.write_bytes(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())
    (batch,) = prepare(reader(), [image])
    wanted = predict(small_model("mask_fpn"), batch)[0]
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


def test_an_export_of_another_model_fails_with_a_table(tmp_path: Path) -> None:
    """The comparison sees a difference: the model changes between two batches of the same export."""
    model = small_model("yolov3_tiny")
    info = describe(model, reader(), NAMES)
    batches = prepare(reader(), generated_images())
    export_model(model, tmp_path, info, formats=["paddle"])
    with pytest.raises(ExportError, match="not verified"):
        ExportedPredictor(tmp_path, "paddle")
    from ppdet.export.verify import verify

    assert verify(model, tmp_path, info, "paddle", batches).passed
    for parameter in model.yolo_head.parameters():
        parameter.set_value(parameter * 1.05)
    with pytest.raises(VerifyError, match="unmatched") as error:
        verify(model, tmp_path, info, "paddle", batches)
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
