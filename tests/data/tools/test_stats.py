"""Protects `ppdet data stats`: figures against slow loops, verdicts about two sets, reach, and the page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ppdet import build_model, load_config
from ppdet.cli import main
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.image_files import forget_listings
from ppdet.data.tools.input_size import InputSize, object_boxes
from ppdet.data.tools.reach import anchor_reach
from ppdet.data.tools.stats import compare_sets, dataset_stats
from ppdet.report.dataset import dataset_page
from tests.cli.small import make_project
from tests.data.support import write_image

WIDTH, HEIGHT = 96, 64
AS_IT_IS = InputSize(0, 0, 1.0, True)
Box = Sequence[float]


def dataset(
    folder: Path, boxes: list[list[tuple[int, Box]]], names: Sequence[str] = ("cat", "dog")
) -> COCODataSet:
    """Images with (class, [x, y, width, height]) each."""
    (folder / "images").mkdir(parents=True)
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    write_image(folder / "images" / "0.jpg", HEIGHT, WIDTH, 0)
    for number, objects in enumerate(boxes):
        if number:
            os.link(folder / "images" / "0.jpg", folder / "images" / f"{number}.jpg")
        image = {"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT}
        content["images"].append(image)
        for label, box in objects:
            row = {"id": len(content["annotations"]), "image_id": number, "category_id": label + 1}
            content["annotations"].append({**row, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0})
    (folder / "a.json").write_text(json.dumps(content), "utf-8")
    forget_listings()
    return COCODataSet(dataset_dir=str(folder), image_dir="images", anno_path="a.json")


def iou(one: Box, other: Box) -> float:
    """Of two xyxy boxes, by hand."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def test_figures(tmp_path: Path) -> None:
    found = dataset_stats(
        dataset(
            tmp_path,
            [
                [(0, [0, 0, 24, 16]), (1, [0, 0, 24, 12])],  # IoU 0.75, in the upper left corner
                [(0, [72, 48, 24, 16]), (0, [60, 40, 8, 8])],
                [],
            ],
        ),
        InputSize(32, 64, 1.0, True),
    )
    assert (found["images"], found["images_without_objects"], found["objects"]) == (3, 1, 4)
    assert found["objects_per_image"] == [0, 1, 2, 2, 2]
    assert found["crowding"] == {"iou_0.3": 0.5, "iou_0.5": 0.5}
    assert found["aspect_ratio"] == [0.5, 0.62, 0.67, 0.75, 1.0]
    shares = sorted(np.sqrt(area / (WIDTH * HEIGHT)) for area in (24 * 16, 24 * 12, 24 * 16, 64))
    assert found["box_side_share"] == [
        round(float(v), 4) for v in np.quantile(shares, [0, 0.25, 0.5, 0.75, 1])
    ]
    assert found["box_side_in_input"][0] == 4.0  # 8 pixels at half the size
    centres = np.array(found["centres"])
    assert centres.shape == (8, 8)
    assert centres[0, 1] == 0.25  # (12, 6) of 96 x 64
    assert centres[1, 1] == 0.25
    assert centres[7, 7] == 0.25
    assert centres.sum() == pytest.approx(1)
    assert found["histograms"]["objects_per_image"]["count"][:3] == [1, 0, 2]
    sides = found["histograms"]["box_side"]
    assert dict(zip(sides["from"], sides["count"]))[16.0] == 3
    assert sum(sides["count"]) == 4


def test_crowding_equals_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    boxes = [
        [(0, [*rng.uniform(0, 12, 2).round(1), *rng.uniform(8, 24, 2).round(1)]) for _ in range(count)]
        for count in (0, 1, 7, 12)
    ]
    made = dataset(tmp_path, boxes)
    best = []
    for row in range(len(made)):
        target = made[row].target
        own = [] if target is None else target.boxes.tolist()
        best += [max([iou(a, b) for b in own if b is not a], default=0) for a in own]
    found = dataset_stats(made)["crowding"]
    for limit in (0.3, 0.5):
        assert found[f"iou_{limit}"] == pytest.approx(np.mean(np.array(best) >= limit), abs=1e-4)
    assert 0 < found["iou_0.5"] < found["iou_0.3"] < 1


def random_images(
    seed: int, count: int, *, dogs: float = 0.5, side: float = 1.0
) -> list[list[tuple[int, Box]]]:
    rng = np.random.default_rng(seed)
    return [
        [
            (int(rng.random() < dogs), [2, 2, *(side * rng.uniform(4, 30, 2)).round(1)])
            for _ in range(int(rng.integers(1, 5)))
        ]
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("other", "differs"),
    [({}, set()), ({"dogs": 0.9}, {"classes"}), ({"side": 0.4}, {"sizes"})],
    ids=["alike", "classes", "sizes"],
)
def test_sets_are_compared(tmp_path: Path, other: dict[str, float], differs: set[str]) -> None:
    train = dataset(tmp_path / "train", random_images(0, 150))
    val = dataset(tmp_path / "val", random_images(1, 60, **other))
    found = compare_sets(train, val)
    assert {name for name, one in found.items() if name != "missing" and one["differs"]} == differs
    assert found["missing"] == []


def test_classes_that_are_missing_are_named(tmp_path: Path) -> None:
    train = dataset(tmp_path / "train", random_images(0, 20))
    val = dataset(tmp_path / "val", random_images(1, 20, dogs=0.0))
    assert compare_sets(train, val)["missing"] == ["dog"]


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> COCODataSet:
    rng = np.random.default_rng(3)
    sizes = 2 ** rng.uniform(1, 6, (60, 2))
    places = rng.uniform(0, 1, (60, 2)) * np.maximum([WIDTH, HEIGHT] - sizes, 0)
    rows = np.concatenate([places, np.minimum(sizes, [WIDTH, HEIGHT])], axis=1).round(1)
    return dataset(tmp_path_factory.mktemp("varied"), [[(0, row)] for row in rows.tolist()])


@pytest.mark.parametrize("config", ["quickstart_faster_rcnn", "quickstart_retinanet"])
def test_reach_of_anchor_boxes_equals_a_search_over_all(config: str, varied: COCODataSet) -> None:
    experiment = load_config(config)
    found = anchor_reach(experiment, varied, AS_IT_IS)
    assert found is not None
    model = build_model(experiment)
    generator = model.rpn_head.anchors if hasattr(model, "rpn_head") else model.head.anchors
    best = np.zeros((len(generator.strides), len(varied)))
    for index, box in enumerate(object_boxes(varied, AS_IT_IS)):
        for level, (stride, cells) in enumerate(zip(generator.strides, generator.cells)):
            for x in range(int(WIDTH // stride) + 3):
                for y in range(int(HEIGHT // stride) + 3):
                    middle = np.array([x, y, x, y]) * stride + generator.offset * stride
                    ious = [iou(box, middle + cell) for cell in cells]
                    best[level, index] = max(best[level, index], *ious)
    most = best.max(axis=0)
    assert found.recall == pytest.approx((most >= 0.5).mean())
    assert found.recall_strict == pytest.approx((most >= 0.7).mean())
    assert found.mean_iou == pytest.approx(most.mean())
    assert [one.share for one in found.levels] == pytest.approx(list((best >= 0.5).mean(axis=1)))
    assert 0 < found.recall < 1


def test_reach_of_sizes_equals_a_search(varied: COCODataSet) -> None:
    experiment = load_config("quickstart_yolov3")
    found = anchor_reach(experiment, varied, AS_IT_IS)
    assert found is not None
    model = build_model(experiment)
    best = []
    for x1, y1, x2, y2 in object_boxes(varied, AS_IT_IS):
        shapes = [pair for level in model.yolo_head.layout.levels for pair in level.anchors]
        best.append(
            max(iou([0, 0, x2 - x1, y2 - y1], _same_centre(x2 - x1, y2 - y1, *pair)) for pair in shapes)
        )
    assert found.mean_iou == pytest.approx(np.mean(best))
    assert found.recall == pytest.approx(np.mean(np.array(best) >= 0.5))


def _same_centre(width: float, height: float, other_width: float, other_height: float) -> list[float]:
    x, y = (width - other_width) / 2, (height - other_height) / 2
    return [x, y, x + other_width, y + other_height]


def test_reach_of_points_equals_a_search(varied: COCODataSet) -> None:
    found = anchor_reach(load_config("quickstart_ppyoloe"), varied, AS_IT_IS)
    assert found is not None
    reached = np.zeros((3, len(varied)), bool)
    for index, (x1, y1, x2, y2) in enumerate(object_boxes(varied, AS_IT_IS)):
        for level, stride in enumerate((8, 16, 32)):
            for x in np.arange(0.5, 20) * stride:
                for y in np.arange(0.5, 20) * stride:
                    sides = (x - x1, y - y1, x2 - x, y2 - y)
                    reached[level, index] |= min(sides) > 0 and max(sides) <= 16 * stride
    assert [one.share for one in found.levels] == pytest.approx(list(reached.mean(axis=1)))
    assert found.recall == pytest.approx(reached.any(axis=0).mean())
    assert 0 < found.recall < 1


def test_a_detector_without_anchors_reaches_nothing_by_them(varied: COCODataSet) -> None:
    assert anchor_reach(load_config("quickstart_rtdetr"), varied, AS_IT_IS) is None


def test_the_command_shows_and_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project"))
    words = ["--json", "stats.json", "--report", "stats.html", "--png", "stats.png"]
    assert main(["data", "stats", "-c", "small.yml", *words]) == 0
    shown = capsys.readouterr().out
    for part in ("objects per image", "train and val, difference", "reached by an anchor box", "bird"):
        assert part in shown
    figures = json.loads(Path("stats.json").read_text("utf-8"))
    assert figures["train"]["images"] == figures["val"]["images"] or figures["val"]["images"]
    assert set(figures) == {"train", "val", "alike", "reach"}
    page = Path("stats.html").read_text("utf-8")
    assert page.count('<svg class="figure"') == 5
    assert "What the anchors reach" in page
    assert "bird" in page
    picture = cv2.imdecode(np.fromfile("stats.png", np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (640, 1560, 3)
    assert [
        (picture == np.array(colour[::-1])).all(axis=2).any() for colour in ((37, 82, 217), (208, 101, 10))
    ]


def test_a_page_of_one_set_escapes_names(tmp_path: Path) -> None:
    made = dataset(tmp_path, [[(0, [0, 0, 24, 16])]], names=["<b>cat</b>", "dog"])
    page = dataset_page({"train": dataset_stats(made), "val": None, "alike": None, "reach": None}, "a<b")
    assert "<b>cat" not in page.split('<script type="application/json"')[0]
    assert "a&lt;b" in page
    assert "What the anchors reach" not in page
