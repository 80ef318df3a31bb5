"""Protects the analyses of an evaluation's result: they agree with its metrics, for boxes and for masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppdet.experiment.evaluate import EvalResult
from ppdet.experiment.trained import SourceError
from ppdet.metrics.coco import CocoMetric
from ppdet.structures import Detections, GroundTruth, ImageTruth

NAMES = ("cat", "dog")


def encoded(xywh: np.ndarray) -> dict[str, object]:
    """The run lengths of a box's lower left triangle."""
    from pycocotools import mask as mask_utils

    x, y, w, h = xywh.tolist()
    (mask,) = mask_utils.frPyObjects([[x, y, x, y + h, x + w, y + h]], 100, 100)
    return dict(mask)


def result_of(*, masks: bool, seed: int = 0) -> EvalResult:
    rng = np.random.default_rng(seed)
    images, detections = [], []
    for image_id in range(8):
        boxes = np.concatenate([rng.uniform(0, 50, (3, 2)), rng.uniform(10, 45, (3, 2))], axis=1)
        labels = rng.integers(0, 2, 3)
        zeros = np.zeros(3, bool)
        shapes = tuple(encoded(box) for box in boxes) if masks else None
        areas = boxes[:, 2] * boxes[:, 3]
        images.append(
            ImageTruth(image_id, f"{image_id}.jpg", (100, 100), boxes, labels, areas, zeros, zeros, shapes)
        )
        moved = boxes + rng.normal(0, 5, boxes.shape)
        order = np.argsort(-(scores := rng.random(3).astype(np.float32)))
        found = np.concatenate([moved[:, :2], moved[:, :2] + moved[:, 2:]], axis=1).astype(np.float32)
        drawn = tuple(encoded(moved[i]) for i in order) if masks else None
        detections.append(Detections(image_id, found[order], scores[order], labels[order], drawn))
    truth = GroundTruth("a test", NAMES, (1, 2), tuple(images), with_masks=masks)
    metric = CocoMetric(truth=truth)
    metric.update(detections)
    return EvalResult(metric.compute(), metric.classwise(), {}, detections, NAMES, (), truth, {0: "zero.png"})


@pytest.mark.parametrize("masks", [False, True])
def test_analyses_agree_with_the_metrics(masks: bool) -> None:
    result = result_of(masks=masks)
    tasks = {"bbox": result.analysis, **({"segm": result.analyse(masks=True)} if masks else {})}
    assert set(tasks) == set(result.metrics)
    for task, analysis in tasks.items():
        for name, value in result.metrics[task].items():
            assert analysis.numbers[name].value == pytest.approx(value, abs=1e-9), (task, name)
        for row in analysis.classes:
            assert row.ap.value == pytest.approx(result.per_class[task][row.name], abs=1e-9)
    assert result.confusion.counts[:-1].sum() == 24
    assert set(result.curves) == {"", *NAMES}
    assert sum(result.errors.counts.values()) > 0
    assert result.analysis is result.analysis, "computed once"


def test_files_are_those_that_were_read() -> None:
    assert result_of(masks=False).analysis.objects.file_names[:2] == ("zero.png", "1.jpg")


def test_nothing_to_analyse_is_told() -> None:
    with pytest.raises(SourceError, match="no masks were scored"):
        result_of(masks=False).analyse(masks=True)
    with pytest.raises(SourceError, match="nothing to analyse"):
        _ = EvalResult({}, {}, {}, (), (), ()).errors


def test_pages_of_boxes_and_masks(tmp_path: Path) -> None:
    pages = result_of(masks=True).save_report(tmp_path / "page.html", title="small")
    assert [path.name for path in pages] == ["page.html", "page_masks.html"]
    for name in ("page.html", "page_masks.html"):
        html = (tmp_path / name).read_text("utf-8")
        assert ('id="show-masks"' in html) == ("masks" in name)
