"""Protects users of Darknet's own weights: our YOLOv3-tiny is Darknet's network, and scores the same AP."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ppdet import load_config, load_weights
from ppdet.data.loader import Loader
from ppdet.experiment.build import build_dataset, build_loader
from ppdet.inference.predictors import predict
from ppdet.modeling.initial_weights import without_random_weights
from tests.oracles import darknet
from tests.support import ROOT, SHARED, TINY_COCO, requires_shared

pytestmark = requires_shared

WEIGHTS = SHARED / "weights" / "yolov3-tiny.weights"
CFG = SHARED / "weights" / "yolov3-tiny.cfg"
ANNOTATIONS = TINY_COCO / "annotations" / "instances_val2017.json"


def _experiment() -> Any:
    return load_config(
        ROOT / "configs" / "yolov3_tiny_coco.yml",
        [f"EvalDataset.dataset_dir={TINY_COCO}", "worker_num=0", "norm_type=bn"],
    )


def _ap(rows: list[dict[str, Any]], tmp_path: Path) -> float:
    """Box AP by pycocotools."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ANNOTATIONS))
        evaluation = COCOeval(truth, truth.loadRes(str(path)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def _row(image_id: int, category: int, score: float, box: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return {
        "image_id": int(image_id),
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": float(score),
    }


def _loader(experiment: Any) -> tuple[Any, Loader]:
    dataset = build_dataset(experiment, "EvalDataset")
    return dataset, build_loader(experiment, "EvalReader", dataset)


def test_raw_outputs_of_one_image() -> None:
    """Every layer in one number: the maps before decoding."""
    experiment = _experiment()
    with without_random_weights():
        model = experiment.architecture.build()
    load_weights(model, WEIGHTS)
    model.eval()
    _, loader = _loader(experiment)
    batch = next(iter(loader))
    ours = [raw.numpy()[0] for raw in model.raw_outputs(batch.images)]
    theirs = [raw for raw, _ in darknet.Darknet(CFG, WEIGHTS)(batch.images.numpy()[0])]
    for mine, expected in zip(ours, theirs):
        np.testing.assert_allclose(mine, expected, atol=2e-3 * np.abs(expected).std())
    assert len(ours) == len(theirs) == 2


@pytest.mark.slow
def test_ap_of_the_real_weights(tmp_path: Path) -> None:
    experiment = _experiment()
    with without_random_weights():
        model = experiment.architecture.build()
    report = load_weights(model, WEIGHTS)
    assert len(report.class_names) == 80  # a copy of the published file is recognised by its checksum
    oracle = darknet.Darknet(CFG, WEIGHTS)
    dataset, loader = _loader(experiment)
    ids = dataset.categories.ids
    sizes = {
        image["id"]: (image["height"], image["width"])
        for image in json.loads(ANNOTATIONS.read_text())["images"]
    }
    ours, theirs = [], []
    for batch in loader:
        (found,) = predict(model, batch)
        for label, score, box in zip(found.labels, found.scores, found.boxes):
            ours.append(_row(found.image_id, ids[label], score, box))
        rows = darknet.detect(
            oracle(batch.images.numpy()[0]), network=416, original=sizes[batch.image_ids[0]]
        )
        for label, score, box in darknet.suppress(rows, threshold=0.45, keep=100):
            theirs.append(_row(batch.image_ids[0], ids[label], score, box))
    expected = _ap(theirs, tmp_path)
    assert expected > 0.1  # the weights are real
    assert abs(_ap(ours, tmp_path) - expected) < 1e-3
