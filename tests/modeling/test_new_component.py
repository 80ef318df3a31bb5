"""Protects docs/new_component.md: its neck and head, as printed there, train a step and predict."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import paddle

import ppdet
from ppdet.inference.host import predict
from tests.modeling.small_rcnn import small_batch
from tests.support import ROOT


def test_the_example_trains_and_predicts(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "new_component.md").read_text("utf-8")
    files = re.findall(r"`([\w./]+)`:\n\n```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["my_parts.py", "my_detector.yml"]
    for name, text in files:
        (tmp_path / name).write_text(text.replace("configs/", f"{ROOT}/configs/"), "utf-8")
    model = ppdet.build_model(ppdet.load_config(tmp_path / "my_detector.yml"))
    assert type(model.neck).__name__ == "SameWidth"
    assert [shape.channels for shape in model.neck.out_shapes] == [32, 32]
    assert model.bbox_head.bbox_score.weight.shape == [96, model.num_classes + 1]
    batch = small_batch([[[10, 10, 50, 40]], []])
    model.train()
    total = paddle.add_n(list(model(batch).values()))
    total.backward()
    assert np.isfinite(total.item())
    for part in (model.neck, model.bbox_head):
        assert all(parameter.grad is not None for parameter in part.parameters())
    model.eval()
    assert [found.image_id for found in predict(model, batch)] == [0, 1]
