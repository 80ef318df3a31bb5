"""Protects the AP: pycocotools' numbers, from either engine, for boxes and masks, whatever the ids are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.data.formats.coco import parse_coco, read_coco
from ppdet.data.ground_truth import truth_of_coco
from ppdet.metrics.coco import STAT_NAMES, CocoMetric
from ppdet.structures import Categories, Detections
from ppdet.utils.errors import DataError, UserError
from ppdet.utils.scores import choose, flatten
from tests.support import GOLDENS, requires_shared

CATS = Categories(("cat", "dog", "bird"), (7, 3, 90))


def truth(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "images": [{"id": id_, "file_name": f"{id_}.jpg", "height": 100, "width": 100} for id_ in (11, 5)],
        "annotations": [
            {"id": 0, "image_id": 11, "category_id": 7, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
            {"id": 1, "image_id": 11, "category_id": 3, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 20, 30], "area": 600, "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 90, "name": "bird"}],
    }
    return {**content, **changes}


def dets(image_id: int, rows: list[tuple[float, ...]]) -> Detections:
    """Rows of label, score, x1, y1, x2, y2."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(image_id, table[:, 2:], table[:, 1], table[:, 0].astype(np.int64))


def coco_metric(
    annotations: Any,
    categories: Categories,
    *,
    engine: Any = "pycocotools",
    with_masks: bool = False,
    image_ids: Any = None,
) -> CocoMetric:
    """A metric on the ground truth of an annotation file or its content."""
    if isinstance(annotations, Path):
        parsed = read_coco(annotations, with_masks=with_masks)
    else:
        parsed = parse_coco(annotations, with_masks=with_masks)
    return CocoMetric(truth=truth_of_coco(parsed, categories, image_ids=image_ids), coco_engine=engine)


PERFECT = [
    dets(11, [(0, 0.9, 10, 10, 50, 50), (1, 0.8, 50, 50, 90, 90)]),
    dets(5, [(1, 0.7, 0, 0, 20, 30)]),
]


@pytest.fixture(params=["pycocotools", "fast"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "fast":
        pytest.importorskip("hotcoco")
    return str(request.param)


def golden_detections(task: str, categories: Categories) -> list[Detections]:
    rows = json.loads((GOLDENS / f"coco_results_{task}.json").read_text())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row)
    found = []
    for image_id, mine in by_image.items():
        boxes = np.array([r.get("bbox", (0, 0, 1, 1)) for r in mine], np.float64)
        boxes[:, 2:] += boxes[:, :2]
        found.append(
            Detections(
                image_id,
                boxes,  # float64, as the golden file has them
                np.array([r["score"] for r in mine]),
                np.array([categories.ids.index(r["category_id"]) for r in mine]),
                tuple(r["segmentation"] for r in mine) if task == "segm" else None,
            )
        )
    return found


@requires_shared
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_golden(task: str, engine: Any) -> None:
    path = GOLDENS / "coco_gt_tiny_val2017.json"
    listed = json.loads(path.read_text())["categories"]
    categories = Categories(tuple(c["name"] for c in listed), tuple(c["id"] for c in listed))
    metric = coco_metric(path, categories, with_masks=task == "segm", engine=engine)
    metric.update(golden_detections(task, categories))
    numbers = metric.compute()[task]
    expected = json.loads((GOLDENS / "coco_eval.json").read_text())[task]
    assert list(numbers) == list(STAT_NAMES)
    np.testing.assert_allclose(list(numbers.values()), expected["stats"], rtol=0, atol=1e-9)
    for name, value in expected["per_class_AP"].items():
        assert metric.classwise()[task][name] == (None if value is None else pytest.approx(value, abs=1e-9))


def test_perfect_detections_with_sparse_ids_and_an_annotation_of_id_zero(engine: Any) -> None:
    metric = coco_metric(truth(), CATS, engine=engine)
    metric.update(PERFECT)
    numbers = metric.compute()["bbox"]
    assert numbers["AP"] == pytest.approx(1.0)
    assert numbers["APl"] == -1  # there are no large objects
    for number in ("bbox", "bbox.AP50"):
        assert metric.classwise()[number] == {
            "cat": pytest.approx(1.0),
            "dog": pytest.approx(1.0),
            "bird": None,
        }


def test_ap50_of_a_class_is_its_precision_at_the_first_threshold(engine: Any) -> None:
    """A box that overlaps its object by 0.6 counts at 0.5 and 0.55 and 0.6 of ten thresholds."""
    metric = coco_metric(truth(), CATS, engine=engine)
    metric.update([dets(11, [(0, 0.9, 10, 10, 50, 34.1)])])
    metric.compute()
    assert metric.classwise()["bbox.AP50"]["cat"] == pytest.approx(1.0)
    assert metric.classwise()["bbox"]["cat"] == pytest.approx(0.3)


def test_no_detections_is_zero(engine: Any) -> None:
    metric = coco_metric(truth(), CATS, engine=engine)
    metric.update([dets(11, []), dets(5, [])])
    numbers = metric.compute()["bbox"]
    assert numbers["AP"] == 0.0
    assert numbers["AR100"] == 0.0
    assert metric.classwise()["bbox"]["cat"] == 0.0
    assert metric.results() == []


def test_nothing_run_at_all_is_zero_too(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert coco_metric(truth(), CATS, engine=engine).compute()["bbox"]["AP"] == 0.0
    assert "2 images were not run" in caplog.text


def test_an_image_that_comes_twice_counts_once_and_order_does_not_matter(engine: Any) -> None:
    once, twice = (coco_metric(truth(), CATS, engine=engine) for _ in range(2))
    noisy = [*PERFECT[:1], dets(5, [(1, 0.95, 60, 60, 90, 90), (1, 0.7, 0, 0, 20, 30)])]
    once.update(noisy)
    twice.update([*noisy[::-1], noisy[1]])
    assert once.compute() == twice.compute()
    assert once.compute()["bbox"]["AP"] < 0.99


def test_classes_are_matched_by_name_not_by_place() -> None:
    shuffled = Categories(("bird", "dog", "cat"), (1, 2, 3))
    metric = coco_metric(truth(), shuffled)
    relabel = np.array([2, 1, 0])
    metric.update(Detections(d.image_id, d.boxes, d.scores, relabel[d.labels]) for d in PERFECT)
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)
    assert {r["category_id"] for r in metric.results()} == {7, 3}


def test_class_unknown_to_the_file_is_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    metric = coco_metric(truth(), Categories((*CATS.names, "unicorn"), (*CATS.ids, 91)))
    metric.update([*PERFECT[:1], dets(5, [(3, 0.99, 0, 0, 20, 30), (1, 0.7, 0, 0, 20, 30)])])
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)
    assert "unicorn" in caplog.text


def test_only_chosen_images_count() -> None:
    metric = coco_metric(truth(), CATS, image_ids={11: 11})
    metric.update(PERFECT[:1])
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)


def test_area_and_crowd_flag_may_be_left_out() -> None:
    bare = [{k: a[k] for k in ("image_id", "category_id", "bbox")} for a in truth()["annotations"]]
    metric = coco_metric(truth(annotations=bare), CATS)
    metric.update(PERFECT)
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)


def test_results_are_xywh_and_json() -> None:
    metric = coco_metric(truth(), CATS)
    metric.update(PERFECT)
    rows = json.loads(json.dumps(metric.results()))
    assert rows[0] == {
        "image_id": 5,
        "category_id": 3,
        "bbox": [0.0, 0.0, 20.0, 30.0],
        "score": pytest.approx(0.7),
    }


def test_a_file_without_the_classes_of_the_model_is_named() -> None:
    with pytest.raises(DataError, match="zebra"):
        coco_metric(truth(categories=[{"id": 1, "name": "zebra"}], annotations=[]), CATS)


def test_missing_or_torn_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json"):
        coco_metric(tmp_path / "gone.json", CATS)
    (tmp_path / "torn.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"torn\.json: not valid JSON"):
        coco_metric(tmp_path / "torn.json", CATS)
    (tmp_path / "masks.json").write_text(json.dumps(truth()))
    with pytest.raises(DataError, match="no segmentation"):
        coco_metric(tmp_path / "masks.json", CATS, with_masks=True)


@pytest.mark.parametrize("ids", [(2**53, 2**53 + 1), (10**17, 10**17 + 1), (-5, 2**62)])
def test_large_ids_are_told_apart(ids: tuple[int, int], engine: Any) -> None:
    """float64, which the engines compute ids in, has one number for the first two."""
    content = json.loads(
        json.dumps(truth()).replace('"id": 11', f'"id": {ids[0]}').replace('"id": 5', f'"id": {ids[1]}')
    )
    for row in content["annotations"]:
        row["image_id"] = ids[0] if row["image_id"] == 11 else ids[1]
        row["category_id"] += 2**60
    for row in content["categories"]:
        row["id"] += 2**60
    metric = coco_metric(content, CATS, engine=engine)
    metric.update(Detections(ids[0 if d.image_id == 11 else 1], d.boxes, d.scores, d.labels) for d in PERFECT)
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)
    assert {row["image_id"] for row in metric.results()} == set(ids)
    assert {row["category_id"] for row in metric.results()} == {7 + 2**60, 3 + 2**60}


def test_ids_that_are_text_come_back_in_results() -> None:
    content = json.loads(
        json.dumps(truth()).replace('"id": 11', '"id": "x1"').replace('"id": 5', '"id": "x2"')
    )
    for row in content["annotations"]:
        row["image_id"] = "x1" if row["image_id"] == 11 else "x2"
    metric = coco_metric(content, CATS, image_ids={"x1": 11, "x2": 5})
    metric.update(PERFECT)
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)
    assert [row["image_id"] for row in metric.results()] == ["x2", "x1", "x1"]


def test_one_number_by_name() -> None:
    numbers = {"bbox": {"AP": 0.3, "AP50": 0.5}, "segm": {"AP": 0.2}}
    assert flatten(numbers) == {"bbox.AP": 0.3, "bbox.AP50": 0.5, "segm.AP": 0.2}
    assert choose(numbers) == ("bbox.AP", 0.3)
    assert choose(numbers, "segm.AP") == ("segm.AP", 0.2)
    with pytest.raises(UserError, match=r"bbox\.AP50"):
        choose(numbers, "AP")
    with pytest.raises(UserError, match="there are none"):
        choose({})
