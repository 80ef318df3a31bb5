"""Protects the readers against what the tools themselves write, in small files of their vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ppdet.data.formats.brush import decode_brush, encode_brush
from ppdet.data.formats.dataset import LabelledDataset
from ppdet.data.formats.registry import read_any, recognise
from ppdet.utils.errors import DataError
from tests.data.support import write_image

HEIGHT, WIDTH = 40, 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images/a.jpg and images/b.jpg."""
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / name, HEIGHT, WIDTH)
    return tmp_path


def rows(dataset: LabelledDataset) -> list[tuple[str, list[float]]]:
    """Class and x, y, width, height of each object."""
    names = {row["id"]: row["name"] for row in dataset.content["categories"]}
    return [
        (names[row["category_id"]], [round(v, 2) for v in row["bbox"]])
        for row in dataset.content["annotations"]
    ]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><labels>
<label><name>cat</name><color>#c06060</color><type>any</type><attributes/></label>
<label><name>dog</name></label></labels></job></meta>
<image id="0" name="a.jpg" width="50" height="40">
  <box label="cat" source="manual" occluded="1" xtl="1.00" ytl="2.00" xbr="11.00" ybr="8.00" z_order="0">
    <attribute name="colour">red</attribute><attribute name="is_crowd">false</attribute></box>
  <box label="cat" source="manual" occluded="0" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90.0"></box>
  <polygon label="dog" occluded="0" points="1.0,1.0;9.0,1.0;9.0,9.0" group_id="1"></polygon>
  <polygon label="dog" occluded="0" points="20.0,20.0;29.0,20.0;29.0,29.0" group_id="1"></polygon>
  <ellipse label="cat" occluded="0" cx="25" cy="20" rx="10" ry="5"></ellipse>
  <mask label="dog" occluded="0" rle="1, 2, 1, 2" left="3" top="4" width="3" height="2" z_order="0"></mask>
  <points label="cat" points="3.0,3.0"></points><tag label="cat"></tag>
</image>
<image id="1" name="b.jpg" width="50" height="40"></image>
</annotations>
"""


def test_cvat(folder: Path) -> None:
    (folder / "annotations.xml").write_text(CVAT, "utf-8")
    assert recognise(folder) == recognise(folder / "annotations.xml") == "cvat"
    dataset = read_any(folder)
    assert rows(dataset) == [
        ("cat", [1, 2, 10, 6]),
        ("cat", [15, 5, 10, 20]),
        ("dog", [1, 1, 28, 28]),
        ("cat", [15, 15, 20, 10]),
        ("dog", [4, 4, 2, 2]),
    ]
    first, _, both, _, mask = dataset.content["annotations"]
    assert (first["occluded"], first["iscrowd"], first["attributes"]) == (1, 0, {"colour": "red"})
    assert len(both["segmentation"]) == 2
    assert mask["area"] == 4
    assert dataset.counts == {
        "shapes without area left out (points)": 1,
        "shapes without area left out (tag)": 1,
    }
    assert len(dataset.content["images"]) == 2


def region(kind: str, value: dict[str, object], **more: object) -> dict[str, object]:
    """A region of Label Studio."""
    sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": "x", "type": kind, "from_name": "l", "to_name": "img", **sizes, "value": value, **more}


def test_label_studio(folder: Path) -> None:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[3:9, 4:14] = 1
    box = {"x": 10, "y": 10, "width": 20, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}
    results = [
        region("rectanglelabels", box),
        region("rectanglelabels", {**box, "rotation": 90}),
        region("polygonlabels", {"points": [[0, 0], [20, 0], [20, 50]], "polygonlabels": ["dog"]}),
        region("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "ellipselabels": ["dog"]}),
        region(
            "brushlabels",
            {"format": "rle", "rle": list(encode_brush(bitmap)), "brushlabels": ["cat"]},
            id="y",
        ),
        region("choices", {"choices": ["good"]}),
    ]
    tasks = [
        {
            "id": 7,
            "data": {"image": "/".join(["", "data", "upload", "1", "1f2e3d4c-a.jpg"])},
            "annotations": [{"result": results}],
        },
        {
            "id": 8,
            "data": {"img": "s3://bucket/deep/b.jpg"},
            "annotations": [{"was_cancelled": True, "result": []}],
            "predictions": [{"result": [region("rectanglelabels", box, score=0.5)]}],
        },
    ]
    (folder / "project-1-at-2024.json").write_text(json.dumps(tasks))
    assert recognise(folder) == "label-studio"
    dataset = read_any(folder)
    assert rows(dataset) == [
        ("cat", [5, 4, 10, 10]),
        ("cat", [-5, 4, 10, 10]),
        ("dog", [0, 0, 10, 20]),
        ("dog", [20, 18, 10, 4]),
        ("cat", [4, 3, 10, 6]),
        ("cat", [5, 4, 10, 10]),
    ]
    assert dataset.content["annotations"][-1]["score"] == 0.5
    assert dataset.counts["regions of other kinds left out (choices)"] == 1
    assert dataset.counts["images with predictions of a model only, taken as annotations"] == 1
    assert [image["file_name"] for image in dataset.content["images"]] == ["a.jpg", "b.jpg"]


def test_brushes_with_literal_values() -> None:
    """A stream as other encoders write it: values one by one, words of 3 bits."""
    bits = f"{1 * 2 * 4:032b}" + f"{2:05b}" + f"{0:04b}" * 3 + f"{3:04b}" + "011" + f"{7:04b}"
    bits += "000" * 4 + "111" * 4
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    bitmap = decode_brush(data, (1, 2))
    assert bitmap is not None
    assert bitmap.tolist() == [[0, 1]]
    for cut in range(len(data)):
        assert decode_brush(data[:cut], (1, 2)) is None
    assert decode_brush(data, (2, 2)) is None


@pytest.mark.parametrize("seed", range(3))
def test_brushes_come_back(seed: int) -> None:
    bitmap = (np.random.default_rng(seed).random((37, 90)) > 0.3).astype(np.uint8)
    bitmap[5:30] = seed % 2
    decoded = decode_brush(encode_brush(bitmap), bitmap.shape)
    assert decoded is not None
    np.testing.assert_array_equal(decoded, bitmap)


def test_via_of_version_1_and_2(folder: Path) -> None:
    rect = {"name": "rect", "x": 1, "y": 2, "width": 10, "height": 5}
    polygon = {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]}
    circle = {"name": "circle", "cx": 20, "cy": 20, "r": 5}
    point = {"name": "point", "cx": 1, "cy": 1}
    said: list[dict[str, object]] = [{"type": {"cat": True}, "age": "3"}, {"type": "dog"}, {"type": "dog"}]
    regions = [
        {"shape_attributes": shape, "region_attributes": attributes}
        for shape, attributes in zip((rect, polygon, circle, point), (*said, {}))
    ]
    expected = [("cat", [1, 2, 10, 5]), ("dog", [1, 1, 8, 8]), ("dog", [15, 15, 10, 10])]
    first = {"a.jpg99": {"filename": "a.jpg", "size": 99, "regions": dict(enumerate(regions))}}
    (folder / "via.json").write_text(json.dumps(first))
    assert recognise(folder) == "via"
    dataset = read_any(folder)
    assert rows(dataset) == expected
    assert dataset.content["annotations"][0]["attributes"] == {"age": 3}
    assert dataset.counts == {"shapes without area left out (point)": 1}
    second = {"_via_settings": {}, "_via_img_metadata": {"a.jpg99": {**first["a.jpg99"], "regions": regions}}}
    (folder / "via.json").write_text(json.dumps(second))
    assert rows(read_any(folder)) == expected
    for entry in second["_via_img_metadata"]["a.jpg99"]["regions"][:2]:  # type: ignore[index]
        entry["region_attributes"] = {"colour": "red", "form": "round"}
    (folder / "via.json").write_text(json.dumps(second).replace('"type"', '"kind"'))
    with pytest.raises(DataError, match=r"attributes colour, form, kind; call the one with the class label"):
        read_any(folder)


def test_via_csv(folder: Path) -> None:
    lines = [
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes",
        'a.jpg,9,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{""name"":""cat""}"',
        'b.jpg,9,"{}",0,0,"{}","{}"',
    ]
    (folder / "via_export.csv").write_text("\n".join(lines))
    assert recognise(folder) == "via-csv"
    dataset = read_any(folder)
    assert rows(dataset) == [("cat", [1, 2, 3, 4])]
    assert len(dataset.content["images"]) == 2


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("retinanet", "images/a.jpg,1,2,11,8,cat\nimages/b.jpg,,,,,\n"),
        ("tensorflow", "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,50,40,cat,1,2,11,8\n"),
        (
            "open-images",
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
            "IsDepiction,IsInside\na,xclick,/m/01yrx,1,0.02,0.22,0.05,0.2,1,0,0,0,0\n",
        ),
    ],
)
def test_tables(folder: Path, kind: str, text: str) -> None:
    (folder / "train.csv").write_text(text)
    (folder / "class-descriptions-boxable.csv").write_text("/m/01yrx,cat\n")
    assert recognise(folder / "train.csv") == recognise(folder) == kind
    dataset = read_any(folder)
    assert rows(dataset) == [("cat", [1, 2, 10, 6])]
    assert bool(dataset.content["annotations"][0].get("occluded")) == (kind == "open-images")
    (folder / "train.csv").write_text(text.replace(",2,11", ",x,11").replace("0.22", "x"))
    with pytest.raises(DataError, match=r"train\.csv:\d: .*four numbers"):
        read_any(folder / "train.csv", kind)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("1.0,1.0;9.0,1.0;9.0,9.0", "1,1;nan,2"), r"polygon 2 \(dog\) has the points"),
        (('xtl="1.00"', 'xtl="x"'), r"image a\.jpg: box 0 \(cat\) has xtl 'x'"),
        (("1, 2, 1, 2", "1, 2, 1, 9"), r"run lengths are not those of 3 x 2"),
        (('width="50" height="40">\n', 'width="500000" height="400000">\n'), None),
    ],
)
def test_broken_files_of_cvat(folder: Path, change: tuple[str, str], words: str | None) -> None:
    (folder / "annotations.xml").write_text(CVAT.replace(*change), "utf-8")
    if words is None:  # the image file is there, but a shape is drawn before it is asked for its size
        with pytest.raises(DataError, match="too large for masks"):
            read_any(folder)
    else:
        with pytest.raises(DataError, match=words):
            read_any(folder)
