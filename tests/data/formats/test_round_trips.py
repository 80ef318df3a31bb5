"""Protects conversions: what both formats hold survives, what one cannot hold is counted by kind."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from ppdet.data.formats.dataset import FEATURES, LabelledDataset
from ppdet.data.formats.masks import read_mask, to_runs
from ppdet.data.formats.registry import FORMATS, read_any, read_parts, write_any
from ppdet.data.geometry import encode_runs
from ppdet.structures.sample import rle_as_text

WRITTEN = [name for name, form in FORMATS.items() if form.write is not None]
#: (height, width) of the images.
SIZES = ((48, 64), (50, 33))
#: Names that formats must quote.
NAMES = ("cat", "Größe 7", "a <b> & 'c'", 'x,y;"z"')
FLAGS = ("iscrowd", "difficult", "truncated", "occluded")

VALUES = st.one_of(
    st.booleans(), st.integers(-5, 5), st.sampled_from(["red", "dark, blue", 'a "b"', "é", "left <- right"])
)


def star(centre: tuple[int, int], radius: int, corners: int) -> list[float]:
    """A convex polygon, flat."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + 0.3
    points = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
    return [round(float(v), 3) for v in points.reshape(-1)]


@st.composite
def masks(draw: st.DrawFn, size: tuple[int, int]) -> tuple[str, Any, list[float]]:
    """Kind, segmentation, and box x1, y1, x2, y2 of an object."""
    kind = draw(st.sampled_from(["box", "outline", "parts", "runs"]))
    if kind == "box":
        x1, y1 = draw(st.integers(0, 100)) / 10, draw(st.integers(0, 100)) / 10
        return kind, [], [x1, y1, x1 + draw(st.integers(10, 150)) / 10, y1 + draw(st.integers(10, 150)) / 10]
    if kind == "runs":
        bitmap = np.zeros(size, np.uint8)
        x, y, side = draw(st.integers(0, 10)), draw(st.integers(0, 10)), draw(st.integers(4, 15))
        bitmap[y : y + side, x : x + 2 * side] = 1
        bitmap[y : y + side // 2, x : x + side // 2] = 0
        return kind, rle_as_text(encode_runs(bitmap)), [x, y, min(x + 2 * side, size[1]), y + side]
    parts = [star((9, 9), draw(st.integers(3, 8)), draw(st.integers(3, 6)))]
    if kind == "parts":
        parts.append(star((24, 30), draw(st.integers(3, 8)), draw(st.integers(3, 6))))
    points = np.array([v for part in parts for v in part]).reshape(-1, 2)
    return kind, parts, [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """The content of an annotation file; images and the first class have an object at least."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    images, annotations = [], []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        size = SIZES[number % 2]
        images.append({"id": number, "file_name": f"i{number} x.png", "height": size[0], "width": size[1]})
        for _ in range(draw(st.integers(0 if number > 1 else 1, 3))):
            kind, segmentation, (x1, y1, x2, y2) = draw(masks(size))
            row: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 10 * draw(st.integers(1, len(names))),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": segmentation,
                "iscrowd": 0,
                "area": (x2 - x1) * (y2 - y1),
                "kind": kind,
            }
            if draw(st.booleans()):
                said = draw(st.sets(st.sampled_from(FLAGS), max_size=2)) if annotations else set()
                row |= dict.fromkeys(said, 1)
                row |= {"score": draw(st.integers(1, 99)) / 100} if draw(st.booleans()) else {}
                keys = st.sampled_from(["colour", "is new"])
                attributes = draw(st.dictionaries(keys, VALUES, max_size=2))
                row |= {"attributes": attributes} if attributes else {}
            annotations.append(row)
    categories = [{"id": 10 * number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def dataset_of(content: dict[str, Any], folder: Path) -> LabelledDataset:
    """A dataset with images of the right sizes."""
    for image in content["images"]:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(path)
    rows = [{key: value for key, value in row.items() if key != "kind"} for row in content["annotations"]]
    return LabelledDataset({**content, "annotations": rows}, folder, "coco")


def expected_losses(content: dict[str, Any], holds: frozenset[str]) -> Counter[str]:
    """What a format that holds some features must count."""
    losses: Counter[str] = Counter()
    kept = Counter[int]()
    used = set()
    for row in content["annotations"]:
        used.add(row["category_id"])
        if row.get("iscrowd") and "iscrowd" not in holds:
            losses["iscrowd"] += 1
            continue
        kept[row["image_id"]] += 1
        feature = row["kind"] if "outline" in holds or row["kind"] == "box" else "outline"
        if feature != "box" and feature not in holds:
            losses[feature] += 1
        for name in (*FLAGS, "score"):
            losses[name] += bool(row.get(name)) and name not in holds
        for value in row.get("attributes", {}).values():
            feature = "yes_no" if isinstance(value, bool) else "attributes"
            losses[feature] += feature not in holds
    if "empty" not in holds:
        losses["empty"] += sum(kept[image["id"]] == 0 for image in content["images"])
    if "unused" not in holds:
        losses["unused"] += len(content["categories"]) - len(used)
    return Counter({FEATURES[what]: count for what, count in losses.items() if count})


def check_same(read: LabelledDataset, content: dict[str, Any], holds: frozenset[str], where: str) -> None:
    """What was read is the content, as far as `holds` goes."""
    names = {row["id"]: row["name"] for row in content["categories"]}
    read_names = {row["id"]: row["name"] for row in read.content["categories"]}
    if "unused" in holds:
        assert sorted(read_names.values()) == sorted(names.values()), where
    of_image: dict[str, list[dict[str, Any]]] = {
        Path(image["file_name"]).name: [
            row for row in read.content["annotations"] if row["image_id"] == image["id"]
        ]
        for image in read.content["images"]
    }
    for image in read.content["images"]:
        assert (read.image_dir / image["file_name"]).is_file(), where
    for image in content["images"]:
        rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        rows = [row for row in rows if "iscrowd" in holds or not row.get("iscrowd")]
        if not rows and "empty" not in holds:
            assert not of_image.get(image["file_name"]), where
            continue
        found = of_image[image["file_name"]]
        assert [read_names[row["category_id"]] for row in found] == [
            names[row["category_id"]] for row in rows
        ]
        for old, new in zip(rows, found):
            check_object(old, new, holds, (image["height"], image["width"]), where)


def check_object(
    old: dict[str, Any], new: dict[str, Any], holds: frozenset[str], size: tuple[int, int], where: str
) -> None:
    """One object is another, as far as `holds` goes. Masks that were outlines once are less exact."""
    traced = old["kind"] == "runs" and "runs" not in holds
    np.testing.assert_allclose(new["bbox"], old["bbox"], atol=0.6 if traced else 2e-3, err_msg=where)
    for name in FLAGS:
        assert bool(new.get(name)) == (bool(old.get(name)) and name in holds), (where, name)
    assert new.get("score") == (old.get("score") if "score" in holds else None), where
    kept = {
        name: value
        for name, value in old.get("attributes", {}).items()
        if ("yes_no" if isinstance(value, bool) else "attributes") in holds
    }
    assert new.get("attributes", {}) == kept, where
    if old["kind"] == "outline" and "outline" in holds:
        np.testing.assert_allclose(new["segmentation"], old["segmentation"], atol=2e-3, err_msg=where)
    elif old["kind"] != "box" and "outline" in holds:
        drawn = [to_runs(read_mask(row["segmentation"], size), size) for row in (old, new)]
        ((overlap,),) = coco_mask.iou(drawn[:1], drawn[1:], [0])
        assert overlap > (0.85 if "runs" not in holds or old["kind"] == "parts" else 0.999), (
            where,
            old["kind"],
        )


@pytest.mark.parametrize("first", WRITTEN)
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a failure is small enough as it is
)
@given(content=contents())
def test_every_pair_of_formats(first: str, content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = dataset_of(content, folder / "images")
        holds = FORMATS[first].holds
        done = write_any({"": dataset}, folder / first, first)
        assert Counter(done.counts) == expected_losses(content, holds)
        once = read_any(folder / first, first)
        check_same(once, content, holds, first)
        for second in WRITTEN:
            target = folder / f"{first} {second}"
            write_any({"": once}, target, second)
            both = holds & FORMATS[second].holds
            check_same(read_any(target), content, both, f"{first} to {second}")


@pytest.mark.parametrize("kind", WRITTEN)
def test_parts_stay_apart_and_are_recognised(tmp_path: Path, kind: str) -> None:
    rows = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 9], "area": 90, "iscrowd": 0}]
    image = {"id": 1, "file_name": "sub/a.png", "height": 48, "width": 64}
    content = {"images": [image], "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    parts = {part: dataset_of(content, tmp_path / "in" / part) for part in ("train", "val")}
    write_any(parts, tmp_path / "out", kind)
    read = read_parts(tmp_path / "out")
    assert sorted(read) == ["train", "val"]
    for part in read.values():
        assert part.kind == kind
        (row,) = part.content["annotations"]
        np.testing.assert_allclose(row["bbox"], [1, 2, 10, 9], atol=1e-6)
        assert part.content["images"][0]["file_name"].endswith("sub/a.png")
