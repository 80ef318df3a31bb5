"""Protects `ppdet data merge`: datasets of other formats and places become one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppdet.cli import main
from ppdet.data.tools.merge import merge_datasets
from ppdet.utils.errors import DataError
from tests.data import people


def test_formats_and_folders_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people.write_voc(tmp_path / "voc")
    content = people.coco()
    content["images"] = content["images"][:2]
    content["annotations"] = content["annotations"][:4]
    content["categories"][1]["name"] = "wolf"
    (tmp_path / "coco").mkdir()
    people.write_coco(tmp_path / "coco", content)
    output = tmp_path / "all.json"
    words = [str(tmp_path / "voc"), str(tmp_path / "coco" / "anno.json"), "--output", str(output)]
    assert main(["data", "merge", *words, "--json", str(tmp_path / "counts.json")]) == 0
    assert "6 images, 12 annotations, 3 categories" in capsys.readouterr().out
    merged = json.loads(output.read_text("utf-8"))
    assert [row["name"] for row in merged["categories"]] == ["cat", "dog", "wolf"]
    names = [row["file_name"] for row in merged["images"]]
    assert names == [*(f"voc/JPEGImages/{k}.jpg" for k in "abcd"), "coco/images/a.jpg", "coco/images/b.jpg"]
    assert all((tmp_path / name).is_file() for name in names)
    wolf = [row for row in merged["annotations"] if row["category_id"] == 3]
    assert [row["image_id"] for row in wolf] == [5, 6]
    x1, y1, x2, y2 = people.BOXES["dog"]
    assert all(row["bbox"] == [x1, y1, x2 - x1, y2 - y1] for row in wolf)
    assert json.loads((tmp_path / "counts.json").read_text())["annotations"] == 12


def test_a_dataset_without_objects_brings_its_images(tmp_path: Path) -> None:
    people.write_coco(tmp_path, people.coco())
    empty = {**people.coco(), "annotations": []}
    empty["images"] = empty["images"][3:]
    (tmp_path / "empty.json").write_text(json.dumps(empty), "utf-8")
    merged = merge_datasets([tmp_path / "empty.json", tmp_path / "anno.json"])
    assert len(merged.content["images"]) == 4
    assert merged.image_dir == tmp_path / "images"


def test_what_is_wrong_names_its_source(tmp_path: Path) -> None:
    people.write_coco(tmp_path, people.coco())
    (tmp_path / "images" / "c.jpg").unlink()
    with pytest.raises(DataError, match=r"anno\.json(.|\n)*c\.jpg"):
        merge_datasets([tmp_path / "anno.json"])
    with pytest.raises(DataError, match="nowhere does not exist"):
        merge_datasets([tmp_path / "nowhere"])
