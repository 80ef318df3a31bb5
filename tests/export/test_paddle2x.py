"""Protects programs written for PaddleDetection 2.x: the table that they read says what the model finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from ppdet.export.bundle import export_model
from ppdet.export.errors import ExportError
from ppdet.export.info import describe
from ppdet.export.runtime import arrays_of
from ppdet.export.sessions import PADDLE2X_FOLDER, PaddleSession, padded
from ppdet.export.verify import generated_images, prepare
from ppdet.inference.predictors import predict
from tests.export.small import NAMES, reader, small_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arch"),
    [("faster_fpn", "RCNN"), ("yolov3_tiny", "YOLO"), ("retinanet", "RetinaNet"), ("ppyoloe", "PPYOLOE")],
)
def test_the_table_of_2x(name: str, arch: str, tmp_path: Path) -> None:
    model = small_model(name)
    info = describe(model, reader(), NAMES)
    batches = prepare(reader(), generated_images())
    (result,) = export_model(model, tmp_path, info, formats=["paddle2x"], batches=batches)
    assert result.passed
    assert result.objects > 5
    session = PaddleSession(tmp_path / PADDLE2X_FOLDER, threads=1)
    table, counts = session(*arrays_of(batches[0]))
    wanted = predict(model, batches[0])
    assert (table.dtype, counts.dtype) == (np.float32, np.int32)
    assert table.shape == (counts.sum(), 6)
    assert counts.tolist() == [len(found) for found in wanted]
    first = table[: counts[0]]
    assert first[:, 0].astype(int).tolist() == wanted[0].labels.tolist()
    np.testing.assert_allclose(first[:, 1], wanted[0].scores, atol=1e-3)
    np.testing.assert_allclose(first[:, 2:], wanted[0].boxes, atol=0.5)
    config = yaml.safe_load((tmp_path / PADDLE2X_FOLDER / "infer_cfg.yml").read_text("utf-8"))
    assert config["label_list"] == list(NAMES)
    assert config["arch"] == arch


@pytest.mark.slow
def test_images_without_objects(tmp_path: Path) -> None:
    model = small_model("faster_fpn")
    nms = model.final_nms
    assert nms is not None
    nms.score_threshold = 0.9999
    batches = prepare(reader(), generated_images())
    info = describe(model, reader(), NAMES)
    (result,) = export_model(model, tmp_path, info, formats=["paddle2x"], batches=batches)
    assert (result.objects, result.exported, result.passed) == (0, 0, True)
    table, counts = PaddleSession(tmp_path / PADDLE2X_FOLDER, threads=1)(*arrays_of(batches[0]))
    assert table.tolist() == [[-1, 0, 0, 0, 0, 0]]
    assert counts.tolist() == [0, 0]


def test_rows_go_to_their_images() -> None:
    table = np.array([[2, 0.9, 1, 2, 3, 4], [0, 0.8, 5, 6, 7, 8], [1, 0.7, 0, 0, 1, 1]], np.float32)
    boxes, scores, labels = padded(table, np.array([2, 0, 1], np.int32))
    assert labels.tolist() == [[2, 0], [-1, -1], [1, -1]]
    np.testing.assert_allclose(scores, [[0.9, 0.8], [0, 0], [0.7, 0]])
    assert boxes[0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert padded(np.zeros((0, 6), np.float32), np.zeros(2, np.int32))[2].tolist() == [[-1], [-1]]


def test_what_it_cannot_hold_is_told(tmp_path: Path) -> None:
    model = small_model("mask_fpn")
    with pytest.raises(ExportError, match="no masks"):
        export_model(model, tmp_path, describe(model, reader(), NAMES), formats=["paddle2x"])
    plain = small_model("faster_fpn")
    info = describe(plain, reader(), NAMES, uint8_input=True)
    with pytest.raises(ExportError, match="uint8"):
        export_model(plain, tmp_path, info, formats=["paddle2x"])
