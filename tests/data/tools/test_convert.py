"""Protects the conversion of VOC, YOLO and labelme annotations: the same boxes, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.cli import main
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.formats.labelled import to_coco
from ppdet.data.formats.masks import polygon_area
from ppdet.data.formats.voc import ordered
from ppdet.data.image_files import forget_listings
from ppdet.data.tools.convert import convert
from ppdet.utils.errors import DataError
from tests.data.support import write_image

#: Two objects in image a, none in image b; 40 x 50 pixels.
BOXES = {"a": [("cat", (4.0, 8.0, 24.0, 28.0)), ("dog", (10.0, 0.0, 50.0, 40.0))], "b": []}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    forget_listings()
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in BOXES:
        write_image(tmp_path / "images" / f"{name}.jpg", 40, 50)
    return tmp_path


def write_voc(folder: Path) -> None:
    for name, objects in BOXES.items():
        lines = "".join(
            # Corners in the wrong order, which converters of other projects pass on.
            f"<object><name>{label}</name><bndbox><xmin>{x2}</xmin><ymin>{y1}</ymin><xmax>{x1}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in objects
        )
        (folder / f"{name}.xml").write_text(f"<annotation>{lines}</annotation>")


def write_yolo(folder: Path) -> None:
    lines = []
    for label, (x1, y1, x2, y2) in BOXES["a"]:
        numbers = [(x1 + x2) / 100, (y1 + y2) / 80, (x2 - x1) / 50, (y2 - y1) / 40]
        lines.append(" ".join(map(str, [["cat", "dog"].index(label), *numbers])))
    (folder / "a.txt").write_text("\n".join(lines) + "\n\n")


def write_labelme(folder: Path) -> None:
    for name, objects in BOXES.items():
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[x2, y1], [x1, y2]]}
            for label, (x1, y1, x2, y2) in objects
        ]
        content = {
            "imagePath": f"..\\images\\{name}.jpg",
            "imageHeight": 40,
            "imageWidth": 50,
            "shapes": shapes,
        }
        (folder / f"{name}.json").write_text(json.dumps(content))


WRITERS = {"voc": write_voc, "yolo": write_yolo, "labelme": write_labelme}


@pytest.mark.parametrize("kind", WRITERS)
def test_round_trip(images: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    WRITERS[kind](images / "labels")
    (images / "names.txt").write_text("cat\ndog\n")
    output = images / "out" / "made.json"
    command = ["data", "convert", "--dataset_type", kind, "--anno_dir", str(images / "labels")]
    command += ["--image_dir", str(images / "images"), "--label_list", str(images / "names.txt")]
    command += ["--negatives"]
    assert main([*command, "--output", str(output)]) == 0
    assert "2 images (1 without objects), 2 objects, classes cat, dog" in capsys.readouterr().out
    data = COCODataSet(dataset_dir=str(images), image_dir="images", anno_path="out/made.json")
    for row, name in enumerate(sorted(BOXES)):
        target = data[row].target
        assert target is not None
        assert [data.categories.names[k] for k in target.labels] == [label for label, _ in BOXES[name]]
        wanted = np.array([box for _, box in BOXES[name]]).reshape(-1, 4)
        np.testing.assert_allclose(target.boxes, wanted, atol=1e-3)
        assert data[row].original_size == (40, 50)


def labelme(folder: Path, shape: dict[str, Any]) -> dict[str, Any]:
    content = {"imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 50, "shapes": [shape]}
    (folder / "labels" / "a.json").write_text(json.dumps(content))
    return convert("labelme", folder / "labels", folder / "images", None).content


def test_polygons_and_circles(images: Path) -> None:
    (one,) = labelme(images, {"label": "x", "points": [[0, 0], [10, 0], [0, 10]]})["annotations"]
    assert (one["bbox"], one["area"], one["segmentation"]) == ([0, 0, 10, 10], 50, [[0, 0, 10, 0, 0, 10]])
    (two,) = labelme(images, {"label": "x", "shape_type": "circle", "points": [[9, 9], [12, 13]]})[
        "annotations"
    ]
    np.testing.assert_allclose(two["bbox"], [4, 4, 10, 10], atol=0.05)
    assert two["area"] == pytest.approx(np.pi * 25, rel=0.01)
    (images / "labels" / "a.json").unlink()
    (images / "labels" / "a.txt").write_text("0 0 0 0.2 0 0 0.25\n")
    (three,) = convert("yolo", images / "labels", images / "images", ["x"]).content["annotations"]
    np.testing.assert_allclose(three["segmentation"], [[0, 0, 10, 0, 0, 10]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0.5 0.5 0.1", r"a\.txt:1: 4 numbers for a box"),
        ("0 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1", r"a\.txt:2: class number 2, the list has 2"),
        ("cat 0.5 0.5 0.1 0.1", r"a\.txt:1: .*class number"),
        ("0 nan 0.5 0.1 0.1", r"a\.txt:1: .*finite"),
    ],
)
def test_broken_yolo_lines_are_named(images: Path, text: str, words: str) -> None:
    (images / "labels" / "a.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        convert("yolo", images / "labels", images / "images", ["cat", "dog"])


def test_nothing_is_lost_in_silence(images: Path) -> None:
    (images / "labels" / "c.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(DataError, match=r"1 files belong to no image of .*, first c\.txt"):
        convert("yolo", images / "labels", images / "images", ["cat"])
    with pytest.raises(DataError, match="label_list"):
        convert("yolo", images / "labels", images / "images", None)
    with pytest.raises(DataError, match="no JSON files"):
        convert("labelme", images / "labels", images / "images", None)
    with pytest.raises(DataError, match=r"shape 0: a polygon of 2 points has no area"):
        labelme(images, {"label": "x", "points": [[0, 0], [1, 1]]})
    write_voc(images / "labels")
    with pytest.raises(DataError, match="not in the list: dog"):
        convert("voc", images / "labels", images / "images", ["cat"])


def test_small_parts() -> None:
    assert ordered((5, 1, 2, 4)) == (2, 1, 5, 4)
    assert polygon_area(np.array([[0, 0], [2, 0], [2, 3], [0, 3]])) == 6
    assert to_coco([]) == {"images": [], "annotations": [], "categories": []}
