"""Protects OpenVINO as a format and a runtime: the detections of the model, and the description inside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ppdet.export import openvino as openvino_export
from ppdet.export.bundle import export_model
from ppdet.export.errors import ExportError
from ppdet.export.info import KEY, describe
from ppdet.export.onnx import repair_floor_division
from ppdet.export.openvino import export_openvino, keep_ties_in_order
from ppdet.export.sessions import OPENVINO_MODEL
from ppdet.export.verify import generated_images, prepare
from ppdet.inference.predictors import predict
from ppdet.ops.indexing import LOWEST
from ppdet.utils.packages import MissingPackageError
from tests.export.small import NAMES, reader, small_model
from tests.support import requires_onnx, requires_openvino


@requires_onnx
@requires_openvino
@pytest.mark.slow
def test_the_file_says_what_it_is_and_runs_without_ppdet(tmp_path: Path) -> None:
    import openvino

    model = small_model("yolov3_tiny")
    bundle = tmp_path / "bundle"
    export_model(model, bundle, describe(model, reader(), NAMES), formats=["openvino"])
    assert not (bundle / "model.onnx").exists()
    loaded = openvino.Core().read_model(bundle / OPENVINO_MODEL)
    assert json.loads(loaded.get_rt_info(KEY).value)["class_names"] == list(NAMES)

    photos = tmp_path / "photos" / "more"
    photos.mkdir(parents=True)
    image = generated_images()[0]
    (photos / "é.png").write_bytes(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())
    (photos / "broken.jpg").write_bytes(b"no image")
    words = [sys.executable, "predict.py", str(tmp_path / "photos"), "--threshold", "0", "--draw", "drawn"]
    done = subprocess.run(words, cwd=bundle, capture_output=True, text=True, env={"PYTHONPATH": ""})
    assert done.returncode == 1  # for the file that is no image
    assert "skipped" in done.stderr
    assert "broken.jpg" in done.stderr
    (line,) = done.stdout.splitlines()
    (batch,) = prepare(reader(), [image])
    wanted = predict(model, batch)[0]
    objects = json.loads(line)["objects"]
    assert [o["name"] for o in objects] == [NAMES[i] for i in wanted.labels]
    np.testing.assert_allclose([o["box"] for o in objects], wanted.boxes, atol=0.05)
    (drawn,) = (bundle / "drawn").iterdir()
    picture = cv2.imdecode(np.fromfile(drawn, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == image.shape
    assert np.abs(picture[:, :, ::-1].astype(int) - image).max() > 100  # has boxes in it


def test_without_the_package_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*names: str) -> None:
        raise MissingPackageError(f"{names[0]} is not installed; pip install 'ppdet[openvino]'")

    monkeypatch.setattr(openvino_export, "require_packages", missing)
    model = small_model("yolov3_tiny")
    with pytest.raises(MissingPackageError, match=r"ppdet\[openvino\]"):
        export_openvino(model, tmp_path, describe(model, reader(), NAMES))
    assert list(tmp_path.iterdir()) == []


def tied_scores(kind: str) -> np.ndarray:
    """``[3, 1200]`` with many equal numbers."""
    rng = np.random.default_rng(0)
    if kind == "repeated":
        return np.repeat(rng.random((3, 120), np.float32), 10, axis=1)
    if kind == "few values":
        return rng.integers(-20, 20, (3, 1200)).astype(np.float32)
    if kind == "padded":
        scores = rng.random((3, 1200), np.float32)
        scores[:, 40:] = LOWEST
        return scores
    return np.full((3, 1200), -0.5, np.float32)


def sort_of(k: int, folder: Path) -> Any:
    """A network that finds the best `k` of each row of ``x``: numbers ``y``, places ``i``."""
    import onnx
    import openvino

    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["images", "rows"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    i = onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, None)
    best = onnx.numpy_helper.from_array(np.array([k]), "k")
    node = onnx.helper.make_node("TopK", ["x", "k"], ["y", "i"])
    graph = onnx.helper.make_graph([node], "g", [x], [y, i], [best])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)])
    onnx.save(made, folder / "sort.onnx")
    return openvino.Core().read_model(folder / "sort.onnx")


@requires_onnx
@requires_openvino
@pytest.mark.parametrize("k", [1, 100, 1200])
@pytest.mark.parametrize("kind", ["repeated", "few values", "padded", "all equal"])
def test_the_first_of_equal_scores_comes_first(kind: str, k: int, tmp_path: Path) -> None:
    """Random weights give many; kernels of OpenVINO order them otherwise."""
    import openvino

    model = sort_of(k, tmp_path)
    keep_ties_in_order(model)
    assert not any(one.get_attributes().get("stable") for one in model.get_ops())  # which is slow
    scores = tied_scores(kind)
    found = openvino.Core().compile_model(model, "CPU")({"x": scores})
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found["i"], expected)
    np.testing.assert_array_equal(found["y"], np.take_along_axis(scores, expected, axis=1))


@requires_onnx
@requires_openvino
def test_a_sort_that_takes_too_many_is_named(tmp_path: Path) -> None:
    keep_ties_in_order(sort_of(46_340, tmp_path))
    with pytest.raises(ExportError, match=r"best 46341 scores .* nms_top_k to 46340"):
        keep_ties_in_order(sort_of(46_341, tmp_path))


@requires_onnx
@requires_openvino
def test_whole_quotients_are_rounded_down_to_themselves(tmp_path: Path) -> None:
    """On some processors OpenVINO's division is not exact: 6 / 3 is a little less than 2."""
    import onnx
    import openvino
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    whole = onnx.TensorProto.INT64
    x, y, z = (make_tensor_value_info(name, whole, ["n"]) for name in "xyz")
    nodes = [
        make_node("Cast", ["x"], ["a"], to=onnx.TensorProto.FLOAT),
        make_node("Cast", ["y"], ["b"], to=onnx.TensorProto.FLOAT),
        make_node("Div", ["a", "b"], ["q"]),
        make_node("Floor", ["q"], ["f"]),
        make_node("Cast", ["f"], ["z"], to=whole),
    ]
    model = make_model(make_graph(nodes, "g", [x, y], [z]), opset_imports=[make_opsetid("", 16)])
    repair_floor_division(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "quotients.onnx")
    dividends = np.concatenate([np.arange(40000), np.arange(16_000_000, 16_040_000)])
    divisors = np.resize(np.arange(1, 4097), dividends.shape)
    compiled = openvino.Core().compile_model(str(tmp_path / "quotients.onnx"), "CPU")
    found = compiled({"x": dividends, "y": divisors})["z"]
    np.testing.assert_array_equal(found, dividends // divisors)
