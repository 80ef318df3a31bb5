"""Protects the numbers of reports: against pycocotools, tidecv and slow loops, and totals that must agree."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from ppdet.metrics.analysis import average_precision, bootstrap, tide
from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.calibration import BINS
from ppdet.metrics.analysis.instances import (
    objects_of_coco,
    objects_of_truth,
    predictions_of_coco,
    predictions_of_detections,
)
from ppdet.metrics.analysis.subsets import occlusion
from ppdet.structures import Detections, GroundTruth, ImageTruth
from ppdet.utils.errors import DataError
from tests.metrics.analysis.scenes import Row, analysis_of, scene
from tests.oracles import analysis as oracle


def reference(truth: Row, rows: list[Row], task: str = "bbox", **params: Any) -> Any:
    """`COCOeval` after its three steps."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in rows]), task)
        for name, value in params.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("digits", [2, 9])
def test_twelve_numbers_are_those_of_pycocotools(seed: int, digits: int) -> None:
    truth, rows = scene(seed, crowd=0.1, digits=digits)
    analysis = analysis_of(truth, rows)
    evaluation = reference({**truth, "info": {}}, rows)
    ours = [analysis.numbers[name].value for name in bootstrap.NAMES]
    np.testing.assert_allclose(ours, evaluation.stats, rtol=0, atol=1e-12)
    precision = evaluation.eval["precision"]  # [T, R, K, A, M]
    np.testing.assert_allclose(
        np.nan_to_num(analysis.precision(0.75), nan=-1), precision[5, :, :, 0, -1].T, atol=1e-12
    )
    per_class = [row.ap.value for row in analysis.classes]
    np.testing.assert_allclose(per_class, precision[:, :, :, 0, -1].mean(axis=(0, 1)), atol=1e-12)


def test_masks_are_matched_by_masks() -> None:
    truth, rows = scene(1, images=8)

    def as_polygon(row: Row) -> list[list[float]]:
        x, y, w, h = row["bbox"]
        return [[x, y, x + w, y, x + w, y + h / 2, x, y + h]]

    for row in truth["annotations"]:
        row["segmentation"] = as_polygon(row)
    from pycocotools import mask as mask_utils

    for row in rows:
        encoded = mask_utils.merge(mask_utils.frPyObjects(as_polygon(row), 480, 640))
        row["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        del row["bbox"]
    objects = objects_of_coco(truth, with_masks=True)
    analysis = Analysis(objects, predictions_of_coco(rows, objects, with_masks=True))
    stats = reference({**truth, "info": {}}, rows, "segm").stats
    ours = [analysis.numbers[name].value for name in bootstrap.NAMES]
    np.testing.assert_allclose(ours, stats, rtol=0, atol=1e-12)


def test_a_drawing_is_the_dataset_with_its_images_repeated() -> None:
    truth, rows = scene(3, images=12)
    analysis = analysis_of(truth, rows)
    for times in np.random.default_rng(0).integers(0, 4, (3, 12)).astype(float):
        repeated: Row = {"images": [], "annotations": [], "categories": truth["categories"], "info": {}}
        found: list[Row] = []
        for image, count in zip(truth["images"], times.astype(int)):
            for _ in range(count):
                copy = len(repeated["images"]) + 1
                repeated["images"].append({**image, "id": copy})
                for row in truth["annotations"]:
                    if row["image_id"] == image["id"]:
                        number = len(repeated["annotations"]) + 1
                        repeated["annotations"].append({**row, "image_id": copy, "id": number})
                found += [{**row, "image_id": copy} for row in rows if row["image_id"] == image["id"]]
        drawn = analysis.drawn_with(times[None])
        ours = [drawn.numbers[name][0] for name in bootstrap.NAMES]
        np.testing.assert_allclose(ours, reference(repeated, found).stats, rtol=0, atol=1e-12)


def test_intervals_hold_their_value_and_shrink_with_images() -> None:
    small, large = (analysis_of(*scene(5, images=count)) for count in (20, 80))
    widths = []
    for analysis in (small, large):
        ap = analysis.numbers["AP"]
        assert ap.low < ap.value < ap.high
        widths.append(ap.high - ap.low)
    assert 0.3 < widths[1] / widths[0] < 0.75, "twice as sure with four times the images"


def test_the_interval_covers_what_other_datasets_give() -> None:
    """Of datasets of the same kind, about 95 % have an interval that holds the long-run AP."""
    truth, rows = scene(11, images=3000, classes=1)
    long_run = analysis_of(truth, rows).drawn_with(np.ones((1, 3000))).numbers["AP50"][0]
    held = 0
    for seed in range(40):
        analysis = analysis_of(*scene(100 + seed, images=100, classes=1))
        drawn = analysis.drawn_with(bootstrap.drawings(100, 600_000, seed=seed))
        ap = bootstrap.interval(drawn.numbers["AP50"])
        held += ap.low <= long_run <= ap.high
    assert held >= 34  # of 40 at 95 %, fewer come once in 80 tries; these seeds give 38


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    truth, rows = scene(7, images=60)
    worse = [{**row, "bbox": [row["bbox"][0] + 4, *row["bbox"][1:]]} for row in rows]
    one, other = analysis_of(truth, worse), analysis_of(truth, rows)
    weights = one.weights
    gap = bootstrap.difference(one.drawn_with(weights).numbers["AP"], other.drawn_with(weights).numbers["AP"])
    assert gap.value == pytest.approx(other.numbers["AP"].value - one.numbers["AP"].value)
    assert gap.low > 0, "noise of the images cancels out"
    assert one.numbers["AP"].high > other.numbers["AP"].low, "while the two intervals overlap"
    same = bootstrap.difference(*(one.drawn_with(weights).numbers["AP"] for _ in range(2)))
    assert (same.low, same.value, same.high) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_errors_are_those_of_the_paper(seed: int) -> None:
    truth, rows = scene(seed, images=40, spread=0.25)
    errors = analysis_of(truth, rows).errors
    counts, costs = oracle.tide(truth["annotations"], rows)
    assert errors.counts == counts
    assert all(counts.values()), "the scene has every kind"
    for name in tide.KINDS:
        assert errors.cost[name] == pytest.approx(costs[name], abs=1e-12)
    assert sum(errors.counts[name] for name in tide.KINDS[:-1]) == (errors.kind >= 0).sum()


#: What tidecv 1.0.1 gives for scenes 0 to 2: AP50; counts; costs of the six kinds, of all false positives,
#: and of all false negatives.
TIDECV = [
    (
        6.0611922,
        [6, 120, 24, 1, 44, 40],
        [0.84038465, 39.71104945, 0.61932676, 0.00375038, 0.80200532, 2.67871576, 18.9388078, 17.86004356],
    ),
    (
        4.28866304,
        [1, 62, 11, 3, 55, 20],
        [0.38636001, 34.5556585, 0.17705314, 0.1076564, 2.7658637, 1.8281298, 18.97866369, 12.13360572],
    ),
    (
        3.25610463,
        [1, 76, 20, 2, 57, 20],
        [0.00993467, 35.72523082, 0.69798541, 0.00362231, 1.54532489, 1.36236136, 19.02112309, 11.05158523],
    ),
]


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_tidecv(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # tidecv samples recall at k / 100, COCO at k * 0.01: they differ by a rounding error that decides ties.
    monkeypatch.setattr(average_precision, "RECALLS", np.arange(101) / 100)
    truth, rows = scene(seed, spread=0.3)
    errors = analysis_of(truth, rows).errors
    ap50, counts, costs = TIDECV[seed]
    assert 100 * errors.ap50 == pytest.approx(ap50, abs=1e-7)
    assert list(errors.counts.values()) == counts
    ours = [*errors.cost.values(), errors.false_positives, errors.false_negatives]
    assert [100 * value for value in ours] == pytest.approx(costs, abs=1e-7)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.1])
def test_matrix_is_that_of_the_loops_and_its_totals_agree(threshold: float) -> None:
    truth, rows = scene(2, spread=0.25)
    analysis = analysis_of(truth, rows)
    matrix = analysis.confusion_at(threshold)
    ids = [row["id"] for row in truth["categories"]]
    assert matrix.counts.tolist() == oracle.confusion(truth["annotations"], rows, threshold, ids)
    assert len(matrix.cases) == matrix.counts.sum()
    for label in range(len(ids)):
        point = analysis.counts(label).at(threshold)
        assert matrix.counts[label].sum() == point.objects
        assert matrix.counts[label, label] == point.correct
        assert matrix.counts[:, label].sum() == point.correct + point.wrong
    shown = sum(row["score"] >= threshold for row in rows)
    assert matrix.counts[:, :-1].sum() == shown


def test_totals_agree_with_crowds_too() -> None:
    truth, rows = scene(4, crowd=0.2)
    analysis = analysis_of(truth, rows)
    objects = sum(not row["iscrowd"] for row in truth["annotations"])
    for point in (analysis.curve.best, analysis.counts(None).at(0.0)):
        assert point.correct + point.missed == objects
        assert sum(analysis.counts(k).at(point.threshold).correct for k in range(4)) == point.correct
    assert analysis.confusion.counts[:-1].sum() == objects
    for aspect in {row.aspect for row in analysis.subsets}:
        assert sum(row.objects for row in analysis.subsets if row.aspect == aspect) == objects


def test_best_threshold_has_the_highest_f1_of_all() -> None:
    truth, rows = scene(6, digits=9)
    analysis = analysis_of(truth, rows)
    found = oracle.matched(truth["annotations"], rows, 0.5)
    for label, category in [(None, None), (1, truth["categories"][1]["id"])]:
        mine = [d for d, row in enumerate(rows) if category in (None, row["category_id"])]
        count = sum(category in (None, row["category_id"]) for row in truth["annotations"])
        best = analysis.counts(label).best()
        values = []
        for threshold in np.arange(0, 10001) / 10000:
            shown = [d for d in mine if rows[d]["score"] >= threshold]
            hits = sum(d in found for d in shown)
            values.append(2 * hits / max(len(shown) + count, 1))
        assert best.f1 == pytest.approx(max(values))
        assert best.threshold == pytest.approx((10000 - int(np.argmax(values[::-1]))) / 10000)
        curve = analysis.counts(label).curve()
        assert curve.f1.tolist() == pytest.approx(values[::100])


def test_calibration_is_that_of_the_loops() -> None:
    truth, rows = scene(8)
    analysis = analysis_of(truth, rows)
    found = oracle.matched(truth["annotations"], rows, 0.5)
    verdicts = [(row["score"], d in found) for d, row in enumerate(rows)]
    assert analysis.calibration.error == pytest.approx(oracle.calibration_error(verdicts, BINS))
    assert analysis.calibration.detections.sum() == len(rows)
    certain = [{**row, "score": float(d in found)} for d, row in enumerate(rows)]
    assert analysis_of(truth, certain).calibration.error == 0


def test_sizes_of_subsets_are_scored_as_cocos_sizes() -> None:
    truth, rows = scene(9, images=40)
    analysis = analysis_of(truth, rows)
    medium = next(row for row in analysis.subsets if row.part == "32 to 96 px")
    assert medium.ap == pytest.approx(analysis.numbers["APm"].value)


def test_occlusion_is_the_largest_share_covered() -> None:
    boxes = [[0, 0, 10, 10], [5, 0, 10, 10], [0, 0, 10, 2], [100, 100, 5, 5]]
    truth = {
        "images": [{"id": 1, "file_name": "a"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)
        ],
    }
    assert occlusion(objects_of_coco(truth)).tolist() == pytest.approx([0.5, 0.5, 1.0, 0.0])


@pytest.mark.parametrize("case", ["nothing", "no detections", "no objects", "one"])
def test_little_data(case: str) -> None:
    truth, rows = scene(0, images=0 if case == "nothing" else 1, classes=2)
    truth["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10.0, 10.0, 50.0, 50.0], "iscrowd": 0}
    ]
    rows = [{"image_id": 1, "category_id": 3, "bbox": [10.0, 10.0, 50.0, 50.0], "score": 0.5}]
    if case in ("nothing", "no objects"):
        truth["annotations"] = []
    if case in ("nothing", "no detections"):
        rows = []
    analysis = analysis_of(truth, rows)
    expected = {"nothing": -1, "no detections": 0, "no objects": -1, "one": 1}[case]
    assert analysis.numbers["AP"].value == expected
    assert (
        analysis.confusion.counts.sum() == {"nothing": 0, "one": 1, "no detections": 1, "no objects": 0}[case]
    )
    assert analysis.errors.counts["missed"] == (case == "no detections")
    assert len(analysis.subsets) == 22 and len(analysis.classes) == 2
    assert analysis.calibration.error == pytest.approx({"one": 0.5, "no objects": 0.5}.get(case, 0))


def test_detections_of_this_package_give_what_their_coco_rows_give() -> None:
    truth, rows = scene(10, images=6)
    objects = objects_of_coco(truth)
    names = [*reversed(objects.class_names), "unknown"]
    id_of_name = {row["name"]: row["id"] for row in truth["categories"]}
    detections = []
    for image_id in objects.image_ids:
        mine = sorted((r for r in rows if r["image_id"] == image_id), key=lambda r: -r["score"])
        boxes = np.array([r["bbox"] for r in mine], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array(
            [names.index(n) for r in mine for n in id_of_name if id_of_name[n] == r["category_id"]], np.int64
        )
        scores = np.array([r["score"] for r in mine], np.float32)
        detections.append(Detections(image_id, boxes, scores, labels))
    found = predictions_of_detections(detections, objects, names)
    expected = predictions_of_coco(rows, objects)
    assert found.label.tolist() == expected.label.tolist()
    np.testing.assert_allclose(found.xywh, expected.xywh, atol=1e-3)
    extra = Detections(1, np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([4]))
    assert predictions_of_detections([extra], objects, names).left_out == 1


def test_ground_truth_of_metrics_is_that_of_its_annotation_file() -> None:
    truth, _ = scene(10, images=5, crowd=0.3)
    for row in truth["annotations"]:
        x, y, w, h = row["bbox"]
        row["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    expected = objects_of_coco(truth, with_masks=True)
    images = []
    for index, image_id in enumerate(expected.image_ids):
        mine = expected.image == index
        polygons = [np.array(row["segmentation"][0]).reshape(-1, 2) for row in truth["annotations"]]
        images.append(
            ImageTruth(
                image_id=image_id,
                path=expected.file_names[index],
                size=(480, 640),
                boxes_xywh=expected.xywh[mine],
                labels=expected.label[mine] + 1,
                areas=expected.area[mine],
                is_crowd=expected.is_crowd[mine],
                difficult=np.ones(int(mine.sum()), bool),
                masks=tuple((polygons[i],) for i in np.flatnonzero(mine)),
            )
        )
    names, ids = ("absent", *expected.class_names), (None, *expected.category_ids)
    found = objects_of_truth(GroundTruth("a test", names, ids, tuple(images), True), with_masks=True)
    for name in ("image_ids", "file_names", "class_names", "category_ids", "masks"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("image", "label", "xywh", "area", "is_crowd", "image_sizes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    skipped = objects_of_truth(GroundTruth("a test", names, ids, tuple(images)), skip_difficult=True)
    assert skipped.is_crowd.all()


def test_rows_that_are_no_results_are_an_error() -> None:
    truth, _ = scene(0)
    with pytest.raises(DataError, match="no score"):
        predictions_of_coco([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}], objects_of_coco(truth))
