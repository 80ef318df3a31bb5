"""Protects conversions of datasets as people have them: what belongs is taken, what does not is counted."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ppdet.cli import main
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.image_files import forget_listings
from ppdet.data.tools.convert import convert
from ppdet.utils.errors import DataError
from tests.data import people
from tests.data.support import write_image

CLASSES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def fresh_listings() -> None:
    forget_listings()


def boxes(content: dict[str, Any], image: int = 1) -> list[list[float]]:
    return [row["bbox"] for row in content["annotations"] if row["image_id"] == image]


SHOULD = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in people.BOXES.values()]


@pytest.mark.parametrize("kind", ["voc", "yolo", "labelme"])
def test_the_base_is_the_same_in_every_format(tmp_path: Path, kind: str) -> None:
    {"voc": people.write_voc, "yolo": people.write_yolo, "labelme": people.write_labelme}[kind](tmp_path)
    annotations = {"voc": "Annotations", "yolo": "labels", "labelme": "images"}[kind]
    images = "JPEGImages" if kind == "voc" else "images"
    made = convert(kind, tmp_path / annotations, tmp_path / images, CLASSES)
    content, counts = made.content, made.counts
    assert counts == {}
    expected = people.coco()
    assert content["images"] == expected["images"]
    assert content["categories"] == expected["categories"]
    for got, wanted in zip(content["annotations"], expected["annotations"]):
        assert {**got, "segmentation": 0} == {**wanted, "segmentation": 0}


def test_images_without_annotation_file_do_not_become_background(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people.write_voc(tmp_path)
    for name in ("c", "d"):
        (tmp_path / "Annotations" / f"{name}.xml").unlink()
    folders = (tmp_path / "Annotations", tmp_path / "JPEGImages")
    made = convert("voc", *folders, None)
    content, counts = made.content, made.counts
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg"]
    assert counts == {"images without annotation file left out (--negatives keeps them)": 2}
    assert len(convert("voc", *folders, None, negatives=True).content["images"]) == 4
    command = ["data", "convert", "--dataset_type", "voc", "--anno_dir", str(folders[0])]
    assert main([*command, "--output", str(tmp_path / "out.json")]) == 0  # JPEGImages lies beside
    assert "2 images (0 without objects), 4 objects, classes cat, dog" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["b", "b.jpg", "b  1", "JPEGImages/b.jpg Annotations/b.xml", "/x/y/b.jpg"])
def test_a_list_says_which_images_belong(tmp_path: Path, line: str) -> None:
    people.write_voc(tmp_path)
    (tmp_path / "Annotations" / "d.xml").unlink()
    (tmp_path / "list.txt").write_text(f"{line}\n\nd\n")
    folders = (tmp_path / "Annotations", tmp_path / "JPEGImages")
    made = convert("voc", *folders, None, only=tmp_path / "list.txt")
    content, counts = made.content, made.counts
    assert [image["file_name"] for image in content["images"]] == ["b.jpg", "d.jpg"]
    assert boxes(content) == SHOULD
    assert boxes(content, 2) == []
    assert counts["listed images without annotation file, taken as images without objects"] == 1
    (tmp_path / "list.txt").write_text("a\nnowhere\n")
    with pytest.raises(DataError, match=r"list\.txt:2: no image is named 'nowhere'"):
        convert("voc", *folders, None, only=tmp_path / "list.txt")


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_a_wrong_annotation_folder_is_an_error(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    people.write_images(tmp_path / "images")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    command = [
        "data",
        "convert",
        "--dataset_type",
        kind,
        "--anno_dir",
        str(tmp_path / "wrong"),
        "--negatives",
    ]
    command += ["--image_dir", str(tmp_path / "images"), "--label_list", str(tmp_path / "names.txt")]
    assert main([*command, "--output", str(tmp_path / "out.json")]) == 2
    assert "no-objects" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_hidden_files_and_class_lists_among_labels(tmp_path: Path) -> None:
    people.write_yolo(tmp_path)
    (tmp_path / "labels" / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "labels" / "._a.txt").write_bytes(b"\0\1")
    (tmp_path / "images" / "._a.jpg").write_bytes(b"\0\1")
    checkpoints = tmp_path / "images" / ".ipynb_checkpoints"
    checkpoints.mkdir()
    (checkpoints / "a-checkpoint.jpg").write_bytes((tmp_path / "images" / "a.jpg").read_bytes())
    made = convert("yolo", tmp_path / "labels", tmp_path / "images", CLASSES, negatives=True)
    content, counts = made.content, made.counts
    assert len(content["images"]) == 4
    assert counts == {
        "hidden or system files left out": 1,
        "text files that are no labels left out (labels.txt)": 1,
    }
    (tmp_path / "labels" / "e.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"1 files belong to no image .*first e\.txt"):
        convert("yolo", tmp_path / "labels", tmp_path / "images", CLASSES)


def test_yolo_lines_of_other_tools(tmp_path: Path) -> None:
    people.write_yolo(tmp_path)
    (tmp_path / "labels" / "a.txt").write_text("1.0 0.5 0.5 0.25 0.5 0.93210\n0 0.25 0.25 0.5 0.5\n")
    content = convert("yolo", tmp_path / "labels", tmp_path / "images", CLASSES).content
    assert boxes(content) == [[24, 16, 16, 32], [0, 0, 32, 32]]
    assert [row["category_id"] for row in content["annotations"][:2]] == [2, 1]
    for line, words in (("0 32 32 16 32", "not pixels"), ("0.5 0.5 0.5 0.1 0.1", "class number")):
        (tmp_path / "labels" / "a.txt").write_text(line)
        with pytest.raises(DataError, match=rf"a\.txt:1: .*{words}"):
            convert("yolo", tmp_path / "labels", tmp_path / "images", CLASSES)


def test_one_annotation_file_for_two_images(tmp_path: Path) -> None:
    people.write_voc(tmp_path)
    write_image(tmp_path / "JPEGImages" / "a.png", 64, 64)
    with pytest.raises(DataError, match=r"a\.xml: it belongs to 2 images: a\.jpg, a\.png"):
        convert("voc", tmp_path / "Annotations", tmp_path / "JPEGImages", None)


def write_labelme(folder: Path, shapes: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    people.write_labelme(folder)
    content = {**people.labelme("a.jpg"), "shapes": shapes, **changes}
    (folder / "images" / "a.json").write_text(json.dumps(content))
    return convert("labelme", folder / "images", folder / "images", None).content


def test_labelme_images_of_equal_names(tmp_path: Path) -> None:
    for camera, side in (("cam1", 64), ("cam2", 48)):
        folder = tmp_path / "set" / camera
        folder.mkdir(parents=True)
        write_image(folder / "a.jpg", side, 64)
        shapes = [{"label": camera, "shape_type": "rectangle", "points": [[1, 2], [11, 22]]}]
        (folder / "a.json").write_text(json.dumps({"imagePath": "a.jpg", "shapes": shapes}))
    root = tmp_path / "set"
    content = convert("labelme", root, root, None).content
    assert [image["file_name"] for image in content["images"]] == ["cam1/a.jpg", "cam2/a.jpg"]
    assert [image["height"] for image in content["images"]] == [64, 48]
    assert [row["category_id"] for row in content["annotations"]] == [1, 2]
    # The JSON files in a tree of their own.
    for camera in ("cam1", "cam2"):
        (tmp_path / "json" / camera).mkdir(parents=True)
        (root / camera / "a.json").rename(tmp_path / "json" / camera / "a.json")
    assert convert("labelme", tmp_path / "json", root, None).content == content
    (tmp_path / "json" / "again.json").write_text((tmp_path / "json" / "cam1" / "a.json").read_text())
    with pytest.raises(DataError, match=r"again\.json: its image 'a\.jpg' is not in"):
        convert("labelme", tmp_path / "json", root, None)


def test_labelme_groups_are_one_object(tmp_path: Path) -> None:
    parts = [[[0, 0], [10, 0], [0, 10]], [[20, 20], [30, 20], [20, 30]]]
    shapes = [{"label": "cat", "points": part, "group_id": 3} for part in parts]
    shapes.append({"label": "dog", "points": parts[0], "group_id": 3})
    content = write_labelme(tmp_path, shapes)
    cat, dog = (row for row in content["annotations"] if row["image_id"] == 1)
    assert cat["bbox"] == [0, 0, 30, 30]
    assert cat["area"] == 100
    assert cat["segmentation"] == [[0, 0, 10, 0, 0, 10], [20, 20, 30, 20, 20, 30]]
    assert dog["bbox"] == [0, 0, 10, 10]


def test_labelme_labels_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = {"shape_type": "rectangle", "points": [[1, 2], [11, 22]]}
    shapes = [{"label": label, **box} for label in ("cat", "__ignore__", "_background_")]
    content = write_labelme(tmp_path, shapes)
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
    command = ["data", "convert", "--dataset_type", "labelme", "--anno_dir", str(tmp_path / "images")]
    command += ["--image_dir", str(tmp_path / "images"), "--output", str(tmp_path / "out.json")]
    assert main(command) == 0
    assert "2 shapes labelled __ignore__ or _background_ left out" in capsys.readouterr().out


def test_labelme_masks(tmp_path: Path) -> None:
    bitmap = np.zeros((10, 20), np.uint8)
    bitmap[2:8, 5:15] = 255
    bitmap[4:6, 8:10] = 0  # a hole
    mask = base64.b64encode(cv2.imencode(".png", bitmap)[1].tobytes()).decode("ascii")
    shape = {"label": "cat", "shape_type": "mask", "points": [[30, 40], [49, 49]], "mask": mask}
    (row,) = (r for r in write_labelme(tmp_path, [shape])["annotations"] if r["image_id"] == 1)
    assert row["bbox"] == [35, 42, 10, 6]
    assert row["area"] == 10 * 6 - 4
    for broken in ("", "no base64!", None, base64.b64encode(b"no PNG").decode("ascii")):
        with pytest.raises(DataError, match=r"a\.json: shape 0: its mask is no PNG"):
            write_labelme(tmp_path, [{**shape, "mask": broken}])
    with pytest.raises(DataError, match=r"shape 0: its mask leaves the image"):
        write_labelme(tmp_path, [{**shape, "points": [[60, 40], [79, 49]]}])
    polygon = {"label": "cat", "points": [[0, 0], [10, 0], [10, 10], [0, 10]], "group_id": 1}
    (row,) = (
        r
        for r in write_labelme(tmp_path, [{**shape, "group_id": 1}, polygon])["annotations"]
        if r["image_id"] == 1
    )
    assert row["bbox"] == [0, 0, 45, 48]
    assert row["area"] == 56 + 100


@pytest.mark.parametrize(
    "content",
    [{}, {"imagePath": 5, "shapes": []}, {"imagePath": "a.jpg", "shapes": {"a": 1}}],
)
def test_json_files_that_are_not_of_labelme(tmp_path: Path, content: dict[str, Any]) -> None:
    people.write_labelme(tmp_path)
    (tmp_path / "images" / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a\.json: not a file of labelme"):
        convert("labelme", tmp_path / "images", tmp_path / "images", None)


def test_flags_of_2x_for_labelme(tmp_path: Path) -> None:
    people.write_labelme(tmp_path)
    command = ["data", "convert", "--dataset_type", "labelme", "--json_input_dir", str(tmp_path / "images")]
    command += ["--image_input_dir", str(tmp_path / "images"), "--output_dir", str(tmp_path / "out")]
    assert main([*command, "--train_proportion", "0.75", "--val_proportion", "0.5"]) == 2
    assert main([*command, "--train_proportion", "0.75", "--val_proportion", "0.25"]) == 0
    seen = []
    for part, count in (("train", 3), ("val", 1)):
        data = COCODataSet(
            dataset_dir=str(tmp_path / "out"), image_dir=part, anno_path=f"annotations/instance_{part}.json"
        )
        assert len(data) == count
        assert all(len(data[row].target or ()) == 2 for row in range(count))
        seen += [Path(data[row].path).name for row in range(count)]
    assert sorted(seen) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert not (tmp_path / "out" / "annotations" / "instance_test.json").exists()
    name = seen[0]
    (tmp_path / "out" / "train" / name).write_bytes(b"another image")
    assert main([*command, "--train_proportion", "0.75", "--val_proportion", "0.25"]) == 2
    assert (tmp_path / "out" / "train" / name).read_bytes() == b"another image"


def test_flags_of_2x_for_voc(tmp_path: Path) -> None:
    people.write_voc(tmp_path)
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "trainval.txt").write_text("a\nc\n")
    command = ["data", "convert", "--dataset_type", "voc", "--voc_anno_dir", str(tmp_path / "Annotations")]
    command += ["--voc_anno_list", str(tmp_path / "ImageSets" / "trainval.txt")]
    command += ["--voc_label_list", str(tmp_path / "labels.txt"), "--voc_out_name", "voc_train.json"]
    assert main([*command, "--output_dir", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "voc_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "c.jpg"]
    assert boxes(content, 2) == SHOULD


def test_what_is_read_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people.write_labelme(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "images", target_is_directory=True)
    before = (tmp_path / "images" / "a.json").read_bytes()
    command = ["data", "convert", "--dataset_type", "labelme", "--anno_dir", str(tmp_path / "images")]
    command += ["--image_dir", str(tmp_path / "images")]
    for output in (tmp_path / "images" / "a.json", tmp_path / "link" / "a.json"):
        assert main([*command, "--output", str(output)]) == 2
        assert "would replace a file that is read" in capsys.readouterr().err
    assert (tmp_path / "images" / "a.json").read_bytes() == before


def test_check_writes_every_problem_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = people.coco()
    content["annotations"] += [
        {**content["annotations"][0], "id": 100 + k, "bbox": [0, 0, 0, 5]} for k in range(30)
    ]
    people.write_coco(tmp_path, content)
    report = tmp_path / "report.json"
    command = ["data", "check", "--dataset_dir", str(tmp_path), "--anno_path", "anno.json"]
    command += ["--image_dir", "images", "--json", str(report)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.count("box-empty: annotation 1") == 20
    assert "and 10 more" in printed
    assert "no problems found" not in printed
    rows = json.loads(report.read_text())
    assert len(rows) == 30
    assert rows[0]["kind"] == "box-empty"
    assert not rows[0]["error"]
    again = [*command, "--val_anno_path", "anno.json", "--val_image_dir", "images"]
    assert main(again) == 2
    assert "train-val-overlap" in capsys.readouterr().err
    assert sum(row["error"] for row in json.loads(report.read_text())) == 4
    (tmp_path / "anno.json").write_text(json.dumps({**content, "annotations": []}))
    assert main(command) == 2
    assert "no-objects" in capsys.readouterr().err


def test_merged_files_have_every_image_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file under two ids and in another spelling; classes in another order; objects written twice."""
    one, two = people.coco(), people.coco()
    one["images"][1] |= {"file_name": "A.JPG"}  # a.jpg once more, with two objects of its own
    for row in one["annotations"][2:4]:
        row["bbox"][0] += 1
    two["categories"] = [{"id": 5, "name": "dog"}, {"id": 9, "name": "owl"}, {"id": 7, "name": "cat"}]
    for row in two["annotations"]:
        row["category_id"] = {1: 7, 2: 5}[row["category_id"]]
    for number, content in enumerate((one, two)):
        people.write_coco(tmp_path, content)
        (tmp_path / "anno.json").rename(tmp_path / f"{number}.json")
    files = [str(tmp_path / name) for name in ("0.json", "1.json")]
    output = tmp_path / "all.json"
    assert (
        main(["data", "merge", *files, "--image_dir", str(tmp_path / "images"), "--output", str(output)]) == 0
    )
    assert "4 images, 10 annotations, 3 categories" in capsys.readouterr().out
    data = COCODataSet(dataset_dir=str(tmp_path), image_dir="images", anno_path="all.json")
    assert data.categories.names == ("cat", "dog", "owl")
    targets = {Path(data[row].path).name: data[row].target for row in range(4)}
    assert {name: len(target or ()) for name, target in targets.items()} == {
        "a.jpg": 4,
        "b.jpg": 2,
        "c.jpg": 2,
        "d.jpg": 2,
    }
    assert main(["data", "merge", *files, "--image_dir", str(tmp_path / "images"), "--output", files[0]]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
