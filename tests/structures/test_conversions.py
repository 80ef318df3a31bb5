"""Protects detections in the terms of other libraries, labelme, COCO and notebooks: the same objects.

Oracles: pycocotools reads COCO's rows, this project's labelme reader reads labelme's files, supervision and
(where installed) FiftyOne check their own objects. Otherwise a stand-in records what FiftyOne would be given.
"""

from __future__ import annotations

import base64
import builtins
import dataclasses
import importlib.util
import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ppdet.data.formats.labelme import objects_of, read_labelme_file
from ppdet.data.formats.masks import mask_area
from ppdet.structures import Detections
from ppdet.utils.packages import MissingPackageError

HEIGHT, WIDTH = 40, 60
BOXES = np.array([[10, 5, 30, 25], [0.5, 0, 60, 40]], np.float32)


def bitmaps() -> np.ndarray:
    """A ring with a hole, and a few pixels at the border."""
    drawn = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    drawn[0, 5:25, 10:30] = 1
    drawn[0, 10:20, 15:25] = 0
    drawn[1, 38:40, 58:60] = 1
    return drawn


def found(*, with_masks: bool = False, **changes) -> Detections:
    runs = tuple(coco_mask.encode(np.asfortranarray(one)) for one in bitmaps()) if with_masks else None
    made = Detections(
        7,
        BOXES,
        np.array([0.875, 0.25], np.float32),
        np.array([1, 0]),
        runs,
        ("dog", "café <b>"),
        "",
        (40, 60),
    )
    return dataclasses.replace(made, **changes)


def nothing() -> Detections:
    return found()[[False, False]]


def test_coco_rows_are_what_pycocotools_scores_as_perfect() -> None:
    made = found(with_masks=True)
    rows = json.loads(json.dumps(made.to_coco(image_id=900, category_ids=[3, 12])))
    assert [row["category_id"] for row in rows] == [12, 3]
    assert [row["bbox"] for row in rows] == [[10, 5, 20, 20], [0.5, 0, 59.5, 40]]
    assert [row["score"] for row in rows] == [0.875, 0.25]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 900, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 12, "name": "cat"}],
        "annotations": [
            {**row, "id": i, "iscrowd": 0, "area": float(bitmaps()[i - 1].sum())}
            for i, row in enumerate(rows, 1)
        ],
    }
    truth.createIndex()
    for kind in ("bbox", "segm"):
        score = COCOeval(truth, truth.loadRes(rows), kind)
        score.evaluate()
        score.accumulate()
        score.summarize()
        assert score.stats[0] == pytest.approx(1.0)


def test_coco_counts_images_and_classes_as_ppdet_does_unless_told() -> None:
    assert [(row["image_id"], row["category_id"]) for row in found().to_coco()] == [(7, 2), (7, 1)]
    assert "segmentation" not in found().to_coco()[0]
    assert nothing().to_coco() == []


def test_labelme_reads_back_as_the_same_objects(tmp_path: Path) -> None:
    for made in (found(path="/photos/cat.jpg"), found(path="/photos/cat.jpg", with_masks=True), nothing()):
        file = tmp_path / "cat.json"
        file.write_text(json.dumps(made.to_labelme(image_path=None if made.path else "cat.jpg")), "utf-8")
        read = read_labelme_file(file)
        assert (read.image_path, read.size) == ("cat.jpg", (HEIGHT, WIDTH))
        objects = objects_of(read.shapes, read.size, file).objects
        assert [item.name for item in objects] == made.names
        for index, item in enumerate(objects):
            if made.masks is None:
                assert item.box == tuple(BOXES[index])
            else:
                assert mask_area(item.mask) == bitmaps()[index].sum()
                assert (coco_mask.decode(item.mask) == bitmaps()[index]).all()


def test_labelme_keeps_the_score_and_knows_its_image() -> None:
    content = found(path="/photos/cat.jpg").to_labelme()
    assert [shape["score"] for shape in content["shapes"]] == [0.875, 0.25]
    assert found().to_labelme(image_path="../cat.jpg")["imagePath"] == "../cat.jpg"
    with pytest.raises(ValueError, match="image_path"):
        found().to_labelme()
    with pytest.raises(ValueError, match=r"size=\(height, width\)"):
        found(size=None).to_labelme(image_path="cat.jpg")


def test_an_empty_mask_is_a_rectangle_in_labelme() -> None:
    empty = coco_mask.encode(np.zeros((HEIGHT, WIDTH), np.uint8, order="F"))
    shapes = found(masks=(empty, empty)).to_labelme(image_path="a.jpg")["shapes"]
    assert [shape["shape_type"] for shape in shapes] == ["rectangle", "rectangle"]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="supervision no longer supports Python 3.9")
def test_supervision_gets_the_same_arrays() -> None:
    supervision = pytest.importorskip("supervision", reason="the package supervision is not installed")
    made = found(with_masks=True).to_supervision()
    assert isinstance(made, supervision.Detections)
    assert np.array_equal(made.xyxy, BOXES)
    assert made.confidence.tolist() == [0.875, 0.25]
    assert made.class_id.tolist() == [1, 0]
    assert made["class_name"].tolist() == ["café <b>", "dog"]
    assert made.mask.dtype == bool
    assert np.array_equal(made.mask, bitmaps())
    assert made.area.tolist() == [300, 4]
    assert found().to_supervision().mask is None
    assert len(nothing().to_supervision()) == 0
    assert len(nothing().to_supervision()["class_name"]) == 0


def check_fiftyone(made) -> None:
    """What FiftyOne documents: relative x, y, width, height; a mask covers its box."""
    first, second = made.detections
    assert (first.label, first.confidence) == ("café <b>", 0.875)
    assert first.bounding_box == pytest.approx([10 / 60, 5 / 40, 20 / 60, 20 / 40])
    assert second.bounding_box == pytest.approx([0.5 / 60, 0, 59.5 / 60, 1])
    assert first.mask.shape == (20, 20)
    assert np.array_equal(first.mask, bitmaps()[0, 5:25, 10:30])
    assert second.mask.shape == (40, 60)
    assert second.mask.sum() == 4


class RecordingFiftyOne:
    """In place of the package: keeps what its classes are called with."""

    Detection = SimpleNamespace
    Detections = SimpleNamespace


def test_what_fiftyone_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", RecordingFiftyOne)
    monkeypatch.setattr("ppdet.structures.detections.require_packages", lambda name: None)
    check_fiftyone(found(with_masks=True).to_fiftyone())
    assert found().to_fiftyone().detections[0].mask is None
    assert nothing().to_fiftyone().detections == []
    thin = found(with_masks=True, boxes=np.array([[59.9, 39.9, 60, 40], [3, 3, 3.1, 3.1]], np.float32))
    assert [one.mask.shape for one in thin.to_fiftyone().detections] == [(1, 1), (1, 1)]
    with pytest.raises(ValueError, match="size of the image"):
        found(size=None).to_fiftyone()
    assert found(size=None, masks=found(with_masks=True).masks).to_fiftyone().detections  # masks know it


@pytest.mark.skipif(
    importlib.util.find_spec("fiftyone") is None,
    reason="FiftyOne (1 GB) is not installed; a stand-in is tested",
)
def test_what_the_real_fiftyone_makes_of_it() -> None:
    import fiftyone

    made = found(with_masks=True).to_fiftyone()
    assert isinstance(made, fiftyone.Detections)
    check_fiftyone(made)
    sample = fiftyone.Sample("cat.jpg", ppdet=made)
    check_fiftyone(fiftyone.Sample.from_dict(sample.to_dict()).ppdet)


@pytest.mark.parametrize("name", ["supervision", "fiftyone"])
def test_a_missing_library_is_named_with_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppdet.utils.packages.find_spec", lambda asked: None)
    with pytest.raises(MissingPackageError, match=rf"\({name}\); pip install {name}"):
        getattr(found(), f"to_{name}")()


def test_libraries_are_not_imported_before_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    imported, real = [], builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *rest: imported.append(name) or real(name, *rest)
    )
    made = found(with_masks=True)
    made.to_coco(), made.to_labelme(image_path="a.jpg"), made._repr_html_()
    assert not {"supervision", "fiftyone", "cv2"} & set(imported)


def svg_of(page: str) -> ET.Element:
    """The picture of a notebook's output, which must be well-formed."""
    (text,) = re.findall(r"<svg.*</svg>", page)
    return ET.fromstring(text)


def embedded(page: str) -> np.ndarray:
    """Pixels of the embedded JPEG."""
    (data,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_notebook_shows_the_image_with_its_boxes(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), (200, 200, 200)).save(tmp_path / "cat.png")
    page = found(path=str(tmp_path / "cat.png"), with_masks=True)._repr_html_()
    svg = svg_of(page)
    space = "{http://www.w3.org/2000/svg}"
    assert svg.get("viewBox") == "0 0 60 40"
    assert "width:360px" in svg.get("style", "")  # small images are enlarged by the browser
    drawn = [[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in svg.iter(f"{space}rect")]
    assert drawn == [[0.5, 0, 59.5, 40], [10, 5, 20, 20]]  # the surest last
    assert [text.text for text in svg.iter(f"{space}text")] == ["dog 0.25", "café <b> 0.88"]
    assert "<b>" not in page
    pixels = embedded(page).astype(int)
    assert abs(pixels[30, 40] - 200).max() < 12  # neither box nor mask
    assert abs(pixels[15, 20] - 200).max() < 60  # the hole
    assert abs(pixels[7, 20] - 200).max() > 60  # in the mask


def test_a_large_photo_stays_small_in_a_notebook(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    page = found(path=str(tmp_path / "large.jpg"), size=(1500, 2000))._repr_html_()
    assert max(embedded(page).shape) <= 640
    assert "width:640px" in svg_of(page).get("style", "")
    assert len(page) < 450_000  # noise is the most that a JPEG can need


def test_a_turned_photo_is_shown_as_it_was_detected(tmp_path: Path) -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 30, HEIGHT))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: what is left comes up
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    page = found(path=str(tmp_path / "turned.jpg"), size=(WIDTH, HEIGHT))._repr_html_()
    pixels = embedded(page)
    assert pixels.shape[:2] == (WIDTH, HEIGHT)
    assert pixels[5].min() > 240
    assert pixels[-5].max() < 15


def test_without_a_fitting_image_a_notebook_shows_the_table_alone(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(tmp_path / "other.png")
    for path in ("", "gone.jpg", str(tmp_path), str(tmp_path / "text.jpg"), str(tmp_path / "other.png")):
        page = found(path=path)._repr_html_()
        assert "<svg" not in page
        assert "<td>café &lt;b&gt;</td><td>0.875</td><td>10.0</td>" in page
    assert "and 5 more" in many(25)._repr_html_()


def many(count: int) -> Detections:
    return Detections(
        0, np.zeros((count, 4), np.float32), np.ones(count, np.float32), np.zeros(count, np.int64)
    )


def test_names_and_paths_are_escaped(tmp_path: Path) -> None:
    evil = tmp_path / "<script>alert(1)<&.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(evil)
    page = found(path=str(evil), class_names=("</text></svg><script>", '"onload="x'))._repr_html_()
    assert "<script" not in page
    assert 'onload="' not in page
    svg_of(page)
