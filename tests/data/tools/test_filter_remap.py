"""Protects what filters keep and what a change of classes does: nothing is lost or changed silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.cli import main
from ppdet.data.tools.filter import FilterOptions, filter_dataset
from ppdet.data.tools.remap import read_class_map, remap_classes
from ppdet.utils.errors import DataError
from tests.data.support import coco_content, write_coco

NAMES = ["red", "green", "leaf", "twig"]


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """A dataset of four classes, whose ids are not 1 to 4."""
    images = [{"id": 7 * i, "file_name": f"{'day' if i % 2 else 'night'}/{i}.jpg"} for i in range(4)]
    boxes = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 40), st.integers(1, 40))
    rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), boxes), min_size=1, max_size=12))
    return {
        "info": {"year": 2026},
        "images": images,
        "annotations": [
            {"id": 10 + i, "image_id": 7 * image, "category_id": 5 + 2 * label, "bbox": list(box)}
            for i, (image, label, box) in enumerate(rows)
        ],
        "categories": [{"id": 5 + 2 * i, "name": name, "supercategory": "x"} for i, name in enumerate(NAMES)],
    }


def name_of(content: dict[str, Any]) -> dict[int, str]:
    """Class name of each annotation, by id."""
    names = {row["id"]: row["name"] for row in content["categories"]}
    return {row["id"]: names[row["category_id"]] for row in content["annotations"]}


@settings(deadline=None)
@given(contents(), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["fruit", "red", "twig", None])))
def test_objects_go_where_the_map_says(content: dict[str, Any], names: dict[str, Optional[str]]) -> None:
    wanted = {
        number: names.get(name, name)
        for number, name in name_of(content).items()
        if names.get(name, name) is not None
    }
    if all(names.get(name, name) is None for name in NAMES):
        with pytest.raises(DataError, match="no class is left"):
            remap_classes(content, names)
        return
    made = remap_classes(content, names)
    assert name_of(made) == wanted
    table = [row["name"] for row in made["categories"]]
    assert len(set(table)) == len(table) and [row["id"] for row in made["categories"]] == list(
        range(1, len(table) + 1)
    )
    assert made["images"] == content["images"] and made["info"] == content["info"]
    before = {row["id"]: row["bbox"] for row in content["annotations"]}
    assert all(row["bbox"] == before[row["id"]] for row in made["annotations"])


@settings(deadline=None)
@given(
    contents(),
    st.integers(0, 20),
    st.integers(10, 40),
    st.integers(0, 300),
    st.integers(200, 1600),
    st.booleans(),
)
def test_filters_keep_what_fits(
    content: dict[str, Any], least: int, most: int, small: int, large: int, drop_empty: bool
) -> None:
    options = FilterOptions(
        drop_classes=("leaf",),
        min_side=least,
        max_side=most,
        min_area=small,
        max_area=large,
        files="d*",
        drop_empty=drop_empty,
    )
    days = {row["id"] for row in content["images"] if row["file_name"].startswith("day/")}
    wanted = [
        row
        for row in content["annotations"]
        if name_of(content)[row["id"]] != "leaf"
        and row["image_id"] in days
        and least <= min(row["bbox"][2:])
        and max(row["bbox"][2:]) <= most
        and small <= row["bbox"][2] * row["bbox"][3] <= large
    ]
    if not wanted:
        with pytest.raises(DataError, match="no object is left"):
            filter_dataset(content, options)
        return
    made = filter_dataset(content, options)
    assert made["annotations"] == wanted
    assert [row["name"] for row in made["categories"]] == ["red", "green", "twig"]
    left = {row["id"] for row in made["images"]}
    assert left == ({row["image_id"] for row in wanted} if drop_empty else days)


def test_one_class_and_no_more() -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 4, 4]}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    made = filter_dataset(content, FilterOptions(classes=("dog",)))
    assert made["categories"] == [{"id": 2, "name": "dog"}] and len(made["annotations"]) == 1
    for call in (
        lambda: filter_dataset(content, FilterOptions(classes=("dgo",))),
        lambda: filter_dataset(content, FilterOptions(drop_classes=("dgo",))),
        lambda: remap_classes(content, {"dgo": "x"}),
    ):
        with pytest.raises(DataError, match="did you mean 'dog'"):
            call()


def test_maps_are_read(tmp_path: Path) -> None:
    assert read_class_map("a=b, c d=,e=f=g") == {"a": "b", "c d": None, "e": "f=g"}
    file = tmp_path / "map.yml"
    file.write_text("a: b\nc d: null\n1: one\n", "utf-8")
    assert read_class_map(str(file)) == {"a": "b", "c d": None, "1": "one"}
    file.write_text("- a\n", "utf-8")
    wrong = {"a": "neither", "": "changes no class", "a=b,a=c": "twice", str(file): "old: new"}
    wrong[str(tmp_path / "none.yml")] = "cannot be read"
    for text, hint in wrong.items():
        with pytest.raises(DataError, match=hint):
            read_class_map(text)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_content(6)
    write_coco(tmp_path, content)
    name = content["categories"][0]["name"]
    source = [str(tmp_path / "anno.json"), "--image_dir", str(tmp_path / "images")]
    output, counts = tmp_path / "new.json", tmp_path / "counts.json"
    where = ["--output", str(output), "--json", str(counts)]
    assert main(["data", "remap", *source, "--map", f"{name}=renamed", *where]) == 0
    assert json.loads(output.read_text("utf-8"))["categories"][0]["name"] == "renamed"
    assert "6 of 6 images" in capsys.readouterr().out
    assert main(["data", "filter", *source, "--files", "*[02468].jpg", "--drop_empty", *where]) == 0
    after = json.loads(counts.read_text("utf-8"))["images"]
    assert after["before"] == 6 and 0 < after["after"] < 6
    before = (tmp_path / "anno.json").read_bytes()
    assert main(["data", "filter", *source, "--output", str(tmp_path / "anno.json")]) == 2
    assert (tmp_path / "anno.json").read_bytes() == before
