"""Protects `ppdet data slice`: what tiles show of an object, and that joining gives back the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ppdet.data.formats.coco import parse_coco
from ppdet.data.tools.slice import SliceOptions, join_detections, slice_dataset
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.inference.views import Tiling
from tests.cli.small import assert_told, command


def _content(annotations: list[dict[str, Any]], size: tuple[int, int] = (100, 200)) -> dict[str, Any]:
    rows = [
        {"id": i, "image_id": 5, "category_id": 9, "iscrowd": 0, **row} for i, row in enumerate(annotations)
    ]
    image = {"id": 5, "file_name": "sub/a.png", "height": size[0], "width": size[1]}
    return {"images": [image], "annotations": rows, "categories": [{"id": 9, "name": "cat"}]}


def _slice(tmp_path: Path, annotations: list[dict[str, Any]], **options: Any) -> tuple[dict[str, Any], Any]:
    """The tiles of a picture of 100 x 200 pixels, each 100 x 100, which meet at x = 100."""
    picture = np.random.default_rng(0).integers(0, 255, (100, 200, 3)).astype(np.uint8)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "in" / "sub" / "a.png"), picture)
    parsed = parse_coco(_content(annotations), with_masks=True, masks_needed=False)
    assert not parsed.problems
    chosen = SliceOptions(Tiling((100, 100), (0, 0)), **options)
    done = slice_dataset(parsed, tmp_path / "in", tmp_path / "out", chosen)
    for row in json.loads(done.annotations.read_text())["images"]:
        tile = cv2.imread(str(tmp_path / "out" / "images" / row["file_name"]))
        x = row["tile_of"]["x"]
        np.testing.assert_array_equal(tile, picture[:, x : x + 100])
    return json.loads(done.annotations.read_text("utf-8")), done


def test_boxes_and_polygons_are_cut(tmp_path: Path) -> None:
    triangle = [80.0, 10.0, 140.0, 40.0, 80.0, 70.0]  # 80 x 60 / 2 = 1800, of which 1/9 + ... is left of 100
    content, done = _slice(
        tmp_path,
        [{"bbox": [90, 20, 40, 30]}, {"bbox": [80, 10, 60, 60], "segmentation": [triangle]}],
        min_visible=0.2,
    )
    assert [row["file_name"] for row in content["images"]] == ["sub/a_0_0.png", "sub/a_0_100.png"]
    assert content["images"][1]["tile_of"] == {
        "image_id": 5,
        "file_name": "sub/a.png",
        "height": 100,
        "width": 200,
        "x": 100,
        "y": 0,
    }
    boxes = [(row["image_id"], row["bbox"]) for row in content["annotations"]]
    # At x = 100 the triangle is 40 pixels high: from 20 to 60. Its right part has a box of its own.
    assert boxes == [
        (1, [90, 20, 10, 30]),
        (1, [80, 10, 20, 60]),
        (2, [0, 20, 30, 30]),
        (2, [0, 20, 40, 40]),
    ]
    assert [row["area"] for row in content["annotations"]] == [300, 1000, 900, 800]
    assert (done.hidden, done.lost, done.objects) == (0, 0, 4)


def test_run_lengths_are_cut(tmp_path: Path) -> None:
    bitmap = np.zeros((100, 200), np.uint8)
    bitmap[30:50, 60:150] = 1
    bitmap[30:40, 90:120] = 0
    runs = coco_mask.encode(np.asfortranarray(bitmap))
    mask = {"size": runs["size"], "counts": runs["counts"].decode()}
    content, _ = _slice(tmp_path, [{"bbox": [60, 30, 90, 20], "segmentation": mask}])
    left, right = (coco_mask.decode(row["segmentation"]) for row in content["annotations"])
    np.testing.assert_array_equal(left, bitmap[:, :100])
    np.testing.assert_array_equal(right, bitmap[:, 100:])
    assert [row["area"] for row in content["annotations"]] == [bitmap[:, :100].sum(), bitmap[:, 100:].sum()]


def test_what_is_hardly_visible_is_left_out_and_counted(tmp_path: Path) -> None:
    content, done = _slice(tmp_path, [{"bbox": [80, 20, 25, 30]}], min_visible=0.3)
    assert [(row["image_id"], row["bbox"]) for row in content["annotations"]] == [(1, [80, 20, 20, 30])]
    assert (done.tiles, done.hidden, done.lost, done.empty) == (2, 1, 0, 0)


def test_an_object_that_no_tile_shows_enough_of_is_counted(tmp_path: Path) -> None:
    _, done = _slice(tmp_path, [{"bbox": [90, 20, 20, 30]}], min_visible=0.8, negatives=0.0)
    assert (done.tiles, done.hidden, done.lost, done.empty) == (0, 2, 1, 2)


def test_joining_gives_back_the_objects(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", SyntheticOptions(train=6, val=1, height=300, width=400))
    whole = json.loads((tmp_path / "data" / "annotations" / "instances_train.json").read_text())
    parsed = parse_coco(whole, with_masks=True)
    options = SliceOptions(Tiling((192, 192), (0.5, 0.5)), min_visible=0.05)
    done = slice_dataset(parsed, tmp_path / "data" / "train", tmp_path / "tiles", options)
    tiles = json.loads(done.annotations.read_text())
    assert done.tiles > 30
    found = [{**row, "score": 0.9} for row in tiles["annotations"]]
    sizes = {row["id"]: (row["height"], row["width"]) for row in tiles["images"]}
    for row in found:
        parts = coco_mask.frPyObjects(row["segmentation"], *sizes[row["image_id"]])
        runs = coco_mask.merge(parts)
        row["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}
    joined = join_detections(found, done.annotations)
    matched = 0
    for item in whole["annotations"]:
        rows = [
            r for r in joined if (r["image_id"], r["category_id"]) == (item["image_id"], item["category_id"])
        ]
        errors = [np.abs(np.array(r["bbox"]) - item["bbox"]).max() for r in rows]
        matched += bool(errors) and min(errors) < 2.5
    assert matched >= 0.9 * len(whole["annotations"])
    assert len(joined) <= 1.15 * len(whole["annotations"])
    assert {tuple(row["segmentation"]["size"]) for row in joined} == {
        (image["height"], image["width"]) for image in whole["images"]
    }


def test_the_command_there_and_back(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", SyntheticOptions(train=2, val=1, height=128, width=200))
    source = ("--anno_path", "data/annotations/instances_train.json", "--image_dir", "data/train")
    cut = command("data", "slice", *source, "--output", "tiles", "--tile", "96", cwd=tmp_path)
    assert cut.returncode == 0, cut.stderr
    assert "2 images cut into" in cut.stdout
    assert_told(command("data", "slice", *source, "--output", "tiles", cwd=tmp_path), "tiles is not empty")
    tiles = json.loads((tmp_path / "tiles" / "annotations.json").read_text())
    found = [{**row, "score": 0.5} for row in tiles["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    back = ("data", "slice", "--join", "found.json", "--output", "joined.json")
    done = command(*back, "--tiles", "tiles/annotations.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["image_id"] for row in json.loads((tmp_path / "joined.json").read_text())} == {1, 2}
    assert_told(command(*back, cwd=tmp_path), "--tiles")
    other = command(*back, "--tiles", "data/annotations/instances_train.json", cwd=tmp_path)
    assert_told(other, "instances_train.json", "tile_of")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ({"annotations": []}, "COCO's results"),
        ([{"image_id": 77, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 1}], "77"),
        ([{"image_id": 1, "category_id": 9, "bbox": [0, 0, "x", 1], "score": 1}], "lacks bbox"),
        ([{"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1]}], "lacks bbox, score"),
    ],
)
def test_wrong_detections_are_told(tmp_path: Path, rows: Any, what: str) -> None:
    _, done = _slice(tmp_path, [{"bbox": [80, 20, 25, 30]}])
    (tmp_path / "found.json").write_text(json.dumps(rows))
    back = ("data", "slice", "--join", "found.json", "--output", "joined.json", "--tiles")
    assert_told(command(*back, str(done.annotations), cwd=tmp_path), what)
    assert not (tmp_path / "joined.json").exists()


def test_wrong_options_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_content([{"bbox": [1, 1, 9, 9]}])))
    (tmp_path / "in").mkdir()
    base = ("data", "slice", "--anno_path", "a.json", "--image_dir", "in", "--output", "out")
    assert_told(command(*base, cwd=tmp_path), "sub/a.png", "no such image")
    assert_told(command(*base, "--overlap", "1", cwd=tmp_path), "overlap")
    assert_told(command(*base, "--min_visible", "2", cwd=tmp_path), "min_visible 2")
    assert_told(command(*base, "--tile", "0", cwd=tmp_path), "tiles of 0")
    assert_told(command("data", "slice", "--output", "out", cwd=tmp_path), "--anno_path")


def test_other_formats_and_configs_are_cut_too(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shapes", SyntheticOptions(train=3, val=2, height=128, width=128))
    done = command("data", "convert", "shapes", "yolo", "--to", "yolo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("data", "slice", "yolo", "--output", "tiles", "--tile", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 images cut into" in done.stdout
    parts = {"Train": "train", "Eval": "val"}
    blocks = [f"{key}Dataset.{name}" for key in parts for name in ("dataset_dir=shapes",)]
    blocks += [f"{key}Dataset.image_dir={part}" for key, part in parts.items()]
    blocks += [f"{key}Dataset.anno_path=annotations/instances_{part}.json" for key, part in parts.items()]
    words = ["-c", "quickstart_yolov3", "-o", *blocks]
    done = command("data", "slice", *words, "--output", "more", "--tile", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 images cut into" in done.stdout
