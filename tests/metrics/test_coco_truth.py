"""Protects that COCO's numbers are pycocotools' own, digit by digit, and need no annotation file."""

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

from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.ground_truth import truth_of_samples
from ppdet.metrics.coco import CocoMetric
from ppdet.structures import Categories, Detections, Sample, Target
from ppdet.utils.errors import DataError

#: In an order that is neither that of the ids nor that of the names.
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 90, "name": "ant"}]
SIZE = 120


def polygon(x: float, y: float, w: float, h: float) -> list[list[float]]:
    """A triangle inside a box: its area is half of the box's."""
    return [[x, y, x + w, y, x + w / 2, y + h]]


def content(images: int = 8, seed: int = 3) -> dict[str, Any]:
    """Boxes with two decimals, crowds, objects that training leaves out, areas that are those of masks."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for image_id in range(images):
        for _ in range(int(rng.integers(0, 7))):
            x, y = (round(float(v), 2) for v in rng.uniform(0, SIZE / 2, 2))
            w, h = (round(float(v), 2) for v in rng.uniform(4, SIZE / 2, 2))
            row = {"image_id": image_id * 11, "category_id": CATEGORIES[int(rng.integers(0, 3))]["id"]}
            row |= {"id": len(rows), "bbox": [x, y, w, h], "area": round(w * h / 2, 3), "iscrowd": 0}
            rows.append({**row, "segmentation": polygon(x, y, w, h)})
    for row in rows[::5]:
        row["iscrowd"] = 1
    rows[1] |= {"ignore": 1}
    rows[2] |= {"bbox": [300.0, 300.0, 20.0, 20.0], "segmentation": polygon(100, 100, 10, 10)}  # outside
    return {
        "images": [
            {"id": i * 11, "file_name": f"{i}.jpg", "height": SIZE, "width": SIZE} for i in range(images)
        ][::-1],
        "annotations": rows,
        "categories": CATEGORIES,
    }


def detections_near(truth: dict[str, Any], names: tuple[str, ...]) -> list[Detections]:
    """Annotated boxes, most of them moved, with masks."""
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(1)
    name_of = {row["id"]: row["name"] for row in truth["categories"]}
    found = []
    for image in truth["images"]:
        mine = [row for row in truth["annotations"] if row["image_id"] == image["id"]] * 2
        boxes = np.array([row["bbox"] for row in mine], np.float64).reshape(-1, 4)
        boxes = (boxes + rng.normal(size=boxes.shape) * rng.choice([0, 1, 4], (len(mine), 1))).clip(min=1)
        runs = [coco_mask.frPyObjects(polygon(*box), SIZE, SIZE)[0] for box in boxes]
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([names.index(name_of[row["category_id"]]) for row in mine], np.int64)
        order = np.argsort(-(scores := rng.random(len(mine)).astype(np.float32)))
        masks = tuple(runs[i] for i in order)
        found.append(
            Detections(image["id"], boxes[order].astype(np.float32), scores[order], labels[order], masks)
        )
    return found


def stats_of_pycocotools(path: Path, metric: CocoMetric, task: str) -> list[float]:
    """The reference itself, on the annotation file and the results."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        for row in coco.dataset["annotations"]:
            row["id"] += 1  # it takes a match with id 0 for no match
        coco.createIndex()
        rows = metric.results()
        for row in rows:
            row.pop("segmentation" if task == "bbox" else "bbox", None)
        evaluation = COCOeval(coco, coco.loadRes(rows), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An annotation file, with its images beside it."""
    for i in range(8):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    (tmp_path / "anno.json").write_text(json.dumps(content()), "utf-8")
    return tmp_path / "anno.json"


@pytest.mark.parametrize("names", [None, ("ant", "bee", "cat", "dog")])
def test_a_coco_file_gives_the_numbers_of_pycocotools(path: Path, names: Any) -> None:
    """Also where the labels are those of a model with another order and one more class."""
    shared = None if names is None else Categories.from_names(names)
    dataset = COCODataSet(dataset_dir=str(path.parent), anno_path="anno.json", categories=shared)
    truth = dataset.ground_truth(with_masks=True)
    assert sum(map(len, truth.images)) > sum(len(dataset[i].target or ()) for i in range(len(dataset)))
    boxes = [box for image in truth.images for box in image.boxes_xywh.tolist()]
    assert sorted(boxes) == sorted(row["bbox"] for row in content()["annotations"])
    metric = CocoMetric(truth=truth)
    metric.update(detections_near(content(), dataset.categories.names))
    numbers = metric.compute()
    for task in ("bbox", "segm"):
        values = list(numbers[task].values())
        assert 0.1 < values[0] < 0.9
        assert values == stats_of_pycocotools(path, metric, task)


def test_samples_alone_give_the_numbers_of_pycocotools(tmp_path: Path) -> None:
    """Whole numbers, which float32 holds; areas are those of the boxes."""
    truth = content()
    for row in truth["annotations"]:
        row["bbox"] = [float(round(v)) for v in row["bbox"]]
        row["area"] = row["bbox"][2] * row["bbox"][3]
    (tmp_path / "anno.json").write_text(json.dumps(truth), "utf-8")
    categories = Categories(tuple(str(c["name"]) for c in CATEGORIES), (7, 2, 90))
    samples = []
    for image in truth["images"]:
        mine = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        boxes = np.array([row["bbox"] for row in mine], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([categories.ids.index(row["category_id"]) for row in mine], np.int64)
        crowd = np.array([bool(row["iscrowd"]) for row in mine], bool)
        samples.append(
            Sample(image_id=image["id"], path=image["file_name"], target=Target(boxes, labels, crowd))
        )
    metric = CocoMetric(truth=truth_of_samples(samples, categories, source="samples"))
    metric.update(detections_near(truth, categories.names))
    values = list(metric.compute()["bbox"].values())
    assert 0.1 < values[0] < 0.9
    assert values == stats_of_pycocotools(tmp_path / "anno.json", metric, "bbox")


def one_sample(**changes: Any) -> Sample:
    target = Target(
        np.array([[10, 10, 30, 40]], np.float32),
        np.zeros(1, np.int64),
        np.zeros(1, bool),
        masks=((np.array([[10, 10], [30, 10], [30, 40], [10, 40]], np.float32),),),
    )
    return Sample(**{"image_id": 1, "path": "1.jpg", "target": target, "original_size": (50, 60), **changes})


CAT = Categories.from_names(["cat"])


def test_masks_of_samples_are_scored_and_give_the_areas() -> None:
    truth = truth_of_samples([one_sample()], CAT, source="samples", with_masks=True)
    assert truth.images[0].areas == pytest.approx([600])
    metric = CocoMetric(truth=truth)
    from pycocotools import mask as coco_mask

    runs = coco_mask.frPyObjects([[10, 10, 30, 10, 30, 40, 10, 40]], 50, 60)[0]
    found = Detections(
        1, np.array([[10, 10, 30, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), (runs,)
    )
    metric.update([found])
    assert metric.compute()["segm"]["AP"] == pytest.approx(1)
    image = np.zeros((50, 60, 3), np.uint8)
    decoded = truth_of_samples([one_sample(original_size=(0, 0), image=image)], CAT, source="samples")
    assert decoded.images[0].size == (50, 60)


@pytest.mark.parametrize(
    ("samples", "with_masks", "words"),
    [
        ([one_sample(target=None)], False, r"1\.jpg: no ground truth"),
        ([one_sample(), one_sample(path="2.jpg")], False, r"1\.jpg and 2\.jpg both have image_id 1"),
        ([one_sample(target=Target.empty())], True, r"1\.jpg: no masks"),
        ([one_sample(original_size=(0, 0))], True, r"1\.jpg: polygons need the size"),
    ],
)
def test_samples_that_cannot_be_scored_are_named(samples: list[Sample], with_masks: bool, words: str) -> None:
    with pytest.raises(DataError, match=words):
        truth_of_samples(samples, CAT, source="samples", with_masks=with_masks)
