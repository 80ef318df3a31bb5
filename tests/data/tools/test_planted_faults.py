"""Protects `ppdet data check`: every kind of fault, planted alone, is found and named, and only that one.

What has one right answer is corrected by `--fix`, after which the check is silent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppdet.cli import main
from ppdet.data.formats.coco_objects import box_kind
from ppdet.data.image_files import forget_listings
from ppdet.data.problems import CURES, REMARKS
from ppdet.data.tools.fix import FIXED, fix_annotations
from tests.data.support import write_image

Content = dict[str, Any]
SIDE = 64
COUNT = 12
#: x, y, width, height of the cat and the dog of every image; shifted by a pixel from one to the next.
CAT, DOG = (8, 8, 24, 16), (26, 20, 26, 30)


def good() -> Content:
    images = [{"id": k, "file_name": f"{k}.jpg", "height": SIDE, "width": SIDE} for k in range(1, COUNT + 1)]
    annotations = []
    for image in images:
        for category, (x, y, width, height) in enumerate((CAT, DOG), start=1):
            x += int(image["id"]) % 5
            outline = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [outline],
                }
            )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


class Fault(NamedTuple):
    """A fault: what is done to the content and the folder of images, and what the check is told besides."""

    kind: str
    plant: Callable[[Content, Path], Any]
    words: tuple[str, ...] = ()


def on(key: str, **values: Any) -> Callable[[Content, Path], Any]:
    """Give the fourth row of a list other values."""
    return lambda content, folder: content[key][3].update(values)


def another(key: str, **values: Any) -> Callable[[Content, Path], Any]:
    """Add a row like the fourth, with other values."""
    return lambda content, folder: content[key].append({**content[key][3], **values})


def corners(content: Content, folder: Path) -> None:
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x + 20, y + 20, x + 20 + width, y + 20 + height]


def all_crowd(content: Content, folder: Path) -> None:
    for row in content["annotations"]:
        row["iscrowd"] = 1


def seldom(content: Content, folder: Path) -> None:
    content["categories"].append({"id": 3, "name": "bird"})
    content["annotations"].append(
        {**content["annotations"][0], "id": 99, "category_id": 3, "bbox": [40, 2, 9, 9]}
    )


def plural(content: Content, folder: Path) -> None:
    content["categories"].append({"id": 3, "name": "Cats"})
    content["annotations"].append(
        {**content["annotations"][0], "id": 99, "category_id": 3, "bbox": [40, 2, 9, 9]}
    )


def reencoded(folder: Path, source: str, target: Path) -> None:
    image = cv2.imdecode(np.fromfile(folder / source, np.uint8), cv2.IMREAD_COLOR)
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tofile(target)


def listed(content: Content, name: str) -> None:
    content["images"].append({"id": 50, "file_name": name, "height": SIDE, "width": SIDE})


def copied(content: Content, folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "2.jpg").read_bytes())
    listed(content, "copy.jpg")


def alike(content: Content, folder: Path) -> None:
    reencoded(folder, "2.jpg", folder / "like.jpg")
    listed(content, "like.jpg")


def validation(content: Content, folder: Path, copy: Callable[[Path], None]) -> None:
    """A validation set of one image."""
    val = folder.parent / "val"
    val.mkdir()
    copy(val / "v.jpg")
    rows = {**content, "images": [{**content["images"][0], "file_name": "v.jpg"}]}
    rows["annotations"] = content["annotations"][:2]
    (folder.parent / "val.json").write_text(json.dumps(rows), "utf-8")


def same_in_val(content: Content, folder: Path) -> None:
    validation(content, folder, lambda path: path.write_bytes((folder / "2.jpg").read_bytes()) and None)


def alike_in_val(content: Content, folder: Path) -> None:
    validation(content, folder, lambda path: reencoded(folder, "2.jpg", path))


def unknown_in_val(content: Content, folder: Path) -> None:
    more = {**content, "categories": [*content["categories"], {"id": 3, "name": "bird"}]}
    validation(more, folder, lambda path: write_image(path, SIDE, SIDE, 77))


def turned(content: Content, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(folder / "4.jpg") as image:
        image.save(folder / "4.jpg", exif=exif, quality=95)


def larger(content: Content, folder: Path) -> None:
    write_image(folder / "4.jpg", SIDE, 2 * SIDE, 4)
    content["images"][3].update(width=2 * SIDE)


def grey(content: Content, folder: Path) -> None:
    with Image.open(folder / "4.jpg") as image:
        image.convert("L").save(folder / "4.jpg")


def cut_short(content: Content, folder: Path) -> None:
    path = folder / "4.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


VAL = ("--val_anno_path", "val.json", "--val_image_dir", "val")
CROWD_RUNS = {"size": [SIDE, 9], "counts": [0, 9 * SIDE]}
FAULTS = {
    "orphan": Fault("annotation-image", on("annotations", image_id=999)),
    "unknown class": Fault("annotation-category", on("annotations", category_id=9)),
    "class left out": Fault("annotation-category", on("annotations", category_id=None)),
    "annotation id twice": Fault("annotation-repeated", on("annotations", id=1)),
    "area in words": Fault("area-invalid", on("annotations", area="large")),
    "flag in words": Fault("flag-invalid", on("annotations", iscrowd="perhaps")),
    "three numbers": Fault("box-invalid", on("annotations", bbox=[1, 2, 3])),
    "no box": Fault("box-invalid", on("annotations", bbox=None)),
    "negative width": Fault("box-inverted", on("annotations", bbox=[40, 8, -24, 16])),
    "corners": Fault("box-corners", corners),
    "no width": Fault("box-empty", on("annotations", bbox=[8, 8, 0, 16])),
    "outside": Fault("box-outside", on("annotations", bbox=[80, 8, 20, 16])),
    "over the border": Fault("box-clipped", on("annotations", bbox=[50, 8, 40, 16])),
    "a click": Fault("box-tiny", on("annotations", bbox=[50, 8, 1, 16])),
    "whole image": Fault("box-whole", on("annotations", bbox=[0, 0, SIDE, SIDE])),
    "drawn twice": Fault("box-repeated", another("annotations", id=99)),
    "one on another": Fault("box-overlapping", another("annotations", id=99, bbox=[28, 20, 26, 28])),
    "no classes": Fault("no-categories", lambda content, folder: content.update(categories=[])),
    "class without name": Fault("category-incomplete", lambda c, folder: c["categories"][1].pop("name")),
    "class twice": Fault(
        "category-repeated", lambda c, folder: c["categories"].append({"id": 3, "name": "cat"})
    ),
    "class in plural": Fault("class-alike", plural),
    "rare class": Fault("class-rare", seldom, ("--min_objects", "5")),
    "image without name": Fault("image-incomplete", lambda c, folder: c["images"][3].pop("file_name")),
    "image id twice": Fault("image-repeated", another("images", file_name="5.jpg")),
    "file twice": Fault("image-file-repeated", another("images", id=50)),
    "missing file": Fault("image-missing", lambda c, folder: (folder / "4.jpg").unlink()),
    "no image": Fault("image-corrupt", lambda c, folder: (folder / "4.jpg").write_bytes(b"<html>")),
    "cut short": Fault("image-corrupt", cut_short, ("--decode",)),
    "wrong size": Fault("image-size", on("images", width=2 * SIDE)),
    "no objects": Fault("no-objects", lambda content, folder: content.update(annotations=[])),
    "crowds only": Fault("no-objects", all_crowd),
    "no images": Fault("no-images", lambda content, folder: content.update(images=[], annotations=[])),
    "no list": Fault("list-invalid", lambda content, folder: content.update(annotations={"id": 1})),
    "a copy": Fault("image-copied", copied, ("--copies",)),
    "a look-alike": Fault("image-alike", alike, ("--copies",)),
    "copy in validation": Fault("train-val-overlap", same_in_val, VAL),
    "look-alike in validation": Fault("train-val-alike", alike_in_val, (*VAL, "--copies")),
    "new class in validation": Fault("category-unknown", unknown_in_val, VAL),
    "mask of another size": Fault("mask-invalid", on("annotations", segmentation=CROWD_RUNS), ("--masks",)),
    "no mask": Fault("mask-missing", on("annotations", segmentation=[]), ("--masks",)),
    "turned": Fault("image-turned", turned),
    "another size": Fault("image-unlike", larger),
    "grey": Fault("image-unlike", grey),
    "classes of the model": Fault("num-classes", lambda content, folder: None, ("--num_classes", "80")),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for k in range(1, COUNT + 1):
        write_image(images / f"{k}.jpg", SIDE, SIDE, k)
    monkeypatch.chdir(tmp_path)
    forget_listings()
    return images


def check(annotations: str, *words: str) -> tuple[int, dict[str, bool]]:
    """The exit status, and the kinds that were found: whether each is an error."""
    forget_listings()
    Path("found.json").unlink(missing_ok=True)
    places = ["--dataset_dir", ".", "--image_dir", "images", "--anno_path", annotations]
    status = main(["data", "check", *places, *words, "--json", "found.json"])
    if not Path("found.json").is_file():
        return status, {}
    return status, {row["kind"]: row["error"] for row in json.loads(Path("found.json").read_text("utf-8"))}


def test_the_good_dataset_is_silent(folder: Path) -> None:
    Path("anno.json").write_text(json.dumps(good()), "utf-8")
    assert check("anno.json", "--masks", "--decode", "--copies", "--num_classes", "2", "--strict") == (0, {})


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_named(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fault, content = FAULTS[name], good()
    fault.plant(content, folder)
    Path("anno.json").write_text(json.dumps(content), "utf-8")
    status, found = check("anno.json", *fault.words)
    assert found == {fault.kind: fault.kind not in REMARKS}
    assert status == (0 if fault.kind in REMARKS else 2)
    said = capsys.readouterr()
    assert f"{fault.kind}: " in said.out + said.err
    assert CURES[fault.kind] in said.out + said.err
    assert check("anno.json", *fault.words, "--strict")[0] == (1 if fault.kind in REMARKS else 2)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.kind in FIXED])
def test_what_has_one_right_answer_is_corrected(folder: Path, name: str) -> None:
    fault, content = FAULTS[name], good()
    fault.plant(content, folder)
    before = json.dumps(content)
    Path("anno.json").write_text(before, "utf-8")
    check("anno.json", *fault.words, "--fix", "fixed.json")
    assert Path("anno.json").read_text("utf-8") == before
    log = Path("fixed.log").read_text("utf-8").splitlines()
    assert len(log) == 2
    assert log[1].startswith(f"{fault.kind}: ")
    assert check("fixed.json", *fault.words, "--strict") == (0, {})
    fixed, good_content = json.loads(Path("fixed.json").read_text("utf-8")), good()
    left_out = fault.kind in ("box-empty", "box-outside")
    assert len(fixed["annotations"]) == len(good_content["annotations"]) - left_out
    assert len(fixed["images"]) == COUNT


def test_every_kind_that_can_be_corrected_is_planted() -> None:
    assert {fault.kind for fault in FAULTS.values()} >= FIXED
    assert len(FAULTS) >= 30
    # What only other formats have.
    assert set(CURES) - {fault.kind for fault in FAULTS.values()} == {"class-unlisted"}


def test_values_of_corrections(folder: Path) -> None:
    content = good()
    content["annotations"][0]["bbox"] = [40, 8, -24, 16]
    content["annotations"][1]["bbox"] = [50, -6, 40, 16]
    content["annotations"][2].update(area="large")
    content["images"].append({**content["images"][0], "id": 70})
    content["annotations"][4]["image_id"] = 70
    Path("anno.json").write_text(json.dumps(content), "utf-8")
    fixed, changes = fix_annotations(Path("anno.json"), folder)
    first, second, third = fixed["annotations"][:3]
    assert first["bbox"] == [16, 8, 24, 16]
    assert second["bbox"] == [50, 0, 14, 10]
    assert third["area"] == CAT[2] * CAT[3]
    assert fixed["annotations"][4]["image_id"] == 1
    kinds = [change.kind for change in changes]
    assert kinds == ["image-file-repeated", "box-inverted", "box-clipped", "area-invalid"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-80, 80)] * 4), max_size=6))
def test_corrected_boxes_have_no_remark(boxes: list[tuple[int, ...]]) -> None:
    rows = [{"id": k, "image_id": 1, "category_id": 1, "bbox": list(box)} for k, box in enumerate(boxes)]
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 50, "width": 40}], "annotations": rows}
    path = Path("boxes.json")
    path.write_text(json.dumps(content), "utf-8")
    try:
        fixed, _ = fix_annotations(path, Path())
    finally:
        path.unlink()
    for row in fixed["annotations"]:
        assert box_kind(tuple(row["bbox"]), (50, 40)) is None


def test_only_coco_files_are_corrected_and_nothing_is_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("anno.json").write_text(json.dumps(good()), "utf-8")
    assert check("anno.json", "--fix", "anno.json")[0] == 2
    assert "anno.json" in capsys.readouterr().err
    assert json.loads(Path("anno.json").read_text("utf-8")) == good()
    Path("list.txt").write_text("images/1.jpg a.xml\n", "utf-8")
    assert check("list.txt", "--fix", "fixed.json")[0] == 2
    assert "only COCO annotations are corrected" in capsys.readouterr().err
    Path("list.json").write_text("[]", "utf-8")
    assert check("list.json", "--fix", "fixed.json")[0] == 2
    assert not Path("fixed.json").exists()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("three numbers", '"id": 4,'),
        ("no width", '"id": 4,'),
        ("a click", '"id": 2,'),  # what names its image alone
        ("wrong size", '"id": 4,'),
        ("orphan", '"id": 4,'),
    ],
)
def test_the_line_is_told_where_there_are_lines(
    folder: Path, name: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fault, content = FAULTS[name], good()
    fault.plant(content, folder)
    text = json.dumps(content, indent=1)
    Path("anno.json").write_text(text, "utf-8")
    check("anno.json", *fault.words)
    said = capsys.readouterr()
    match = re.search(r"anno\.json:(\d+): (annotation|image)", said.out + said.err)
    assert match
    lines = text.splitlines()
    number = int(match[1])
    assert lines[number - 1].strip() == row
    start = next(k for k, line in enumerate(lines) if f'"{match[2]}s"' in line)
    assert sum(line.strip() == row for line in lines[start:number]) == 1


def test_no_line_is_told_where_there_is_one_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = good()
    content["annotations"][3]["bbox"] = None
    Path("anno.json").write_text(json.dumps(content) + "\n", "utf-8")
    check("anno.json")
    assert "box-invalid: annotation 4 of 2.jpg" in capsys.readouterr().err
