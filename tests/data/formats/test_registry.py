"""Protects how datasets are recognised and read: the layouts that tools export, in their parts."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
import yaml

from ppdet.cli.common import CommandError
from ppdet.cli.data.sources import add_source_arguments, source_of, source_parts
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions
from ppdet.data.formats.registry import read_any, read_parts, recognise
from ppdet.utils.errors import DataError
from tests.data import people

BOX = people.BOXES["dog"]


def write_data_yaml(folder: Path, **changes: object) -> None:
    """A YOLO dataset with data.yaml: images a, b for training and c, d for validation."""
    people.write_yolo(folder)
    for part, names in (("train", "ab"), ("val", "cd")):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (folder / kind / part).mkdir()
            for name in names:
                (folder / kind / f"{name}.{suffix}").rename(folder / kind / part / f"{name}.{suffix}")
    content = {"train": "images/train", "val": "images/val", "names": {0: "cat", 1: "dog"}, **changes}
    (folder / "data.yaml").write_text(yaml.safe_dump(content), "utf-8")


def boxes_of(dataset: LabelledDataset, name: str) -> list[tuple[float, ...]]:
    """x1, y1, x2, y2 of the objects of a class, rounded."""
    (number,) = [row["id"] for row in dataset.content["categories"] if row["name"] == name]
    rows = [row["bbox"] for row in dataset.content["annotations"] if row["category_id"] == number]
    return [tuple(round(v, 3) for v in (x, y, x + w, y + h)) for x, y, w, h in rows]


def check(dataset: LabelledDataset, images: int) -> None:
    """A dog and a cat in every image, whose files are where the dataset says."""
    assert len(dataset.content["images"]) == images
    assert boxes_of(dataset, "dog") == [BOX] * images
    for row in dataset.content["images"]:
        assert (dataset.image_dir / row["file_name"]).is_file()


@pytest.mark.parametrize("kind", ["coco", "voc", "labelme"])
def test_a_folder_of_one_part(tmp_path: Path, kind: str) -> None:
    if kind == "coco":
        people.write_coco(tmp_path, people.coco())
    else:
        getattr(people, f"write_{kind}")(tmp_path)
    assert recognise(tmp_path) == kind
    parts = read_parts(tmp_path)
    assert list(parts) == [""]
    check(parts[""], 4)
    check(read_any(tmp_path), 4)


def test_yolo_with_and_without_a_table_of_classes(tmp_path: Path) -> None:
    people.write_yolo(tmp_path)
    assert recognise(tmp_path) == "yolo"
    with pytest.raises(DataError, match=r"neither data\.yaml nor classes\.txt"):
        read_any(tmp_path)
    check(read_any(tmp_path, options=ReadOptions(names=["cat", "dog"])), 4)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    check(read_any(tmp_path), 4)


@pytest.mark.parametrize("train", ["images/train", "./images/train/", "../images/train", "list.txt", "ABS"])
def test_data_yaml_as_people_write_it(tmp_path: Path, train: str) -> None:
    """Folders, Roboflow's ``../``, lists of images, absolute paths."""
    value = str(tmp_path / "images/train") if train == "ABS" else train
    write_data_yaml(tmp_path, train=value, path="/datasets/on another machine")
    (tmp_path / "list.txt").write_text("./images/train/a.jpg\nimages/train/b.jpg\n")
    for source in (tmp_path, tmp_path / "data.yaml"):
        assert recognise(source) == "yolo"
        parts = read_parts(source)
        assert list(parts) == ["train", "val"]
        check(parts["train"], 2)
        check(read_any(source), 4)


def test_what_data_yaml_lacks_is_named(tmp_path: Path) -> None:
    write_data_yaml(tmp_path, val="images/valid")
    with pytest.raises(DataError, match=r"data\.yaml: val is 'images/valid'"):
        read_any(tmp_path)
    write_data_yaml(tmp_path / "b", names=None)
    with pytest.raises(DataError, match=r"data\.yaml: no class names"):
        read_any(tmp_path / "b")


def test_labels_without_image_are_counted(tmp_path: Path) -> None:
    write_data_yaml(tmp_path)
    (tmp_path / "images/train/a.jpg").unlink()
    assert read_parts(tmp_path)["train"].counts == {"label files that belong to no image left out": 1}


def test_vocdevkit_with_lists(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    people.write_voc(root)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nc\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("d\n")
    for source in (tmp_path, tmp_path / "VOCdevkit", root):
        assert recognise(source) == "voc"
        parts = read_parts(source)
        assert list(parts) == ["train", "val"]
        check(parts["train"], 3)
        check(read_any(source), 4)


def test_a_list_of_images_and_xml_files(tmp_path: Path) -> None:
    people.write_voc(tmp_path)
    (tmp_path / "train.txt").write_text("JPEGImages/a.jpg Annotations/a.xml\n")
    check(read_any(tmp_path / "train.txt"), 1)


@pytest.mark.parametrize("kind", ["coco", "voc", "labelme"])
def test_roboflow_exports(tmp_path: Path, kind: str) -> None:
    """Folders train, valid and test with images and annotations side by side."""
    for part in ("train", "valid", "test"):
        folder = tmp_path / part
        if kind == "coco":
            people.write_images(folder)
            (folder / "_annotations.coco.json").write_text(json.dumps(people.coco()))
        else:
            getattr(people, f"write_{kind}")(folder)
            for inner in list(folder.iterdir()):
                if inner.is_dir():
                    for file in inner.iterdir():
                        file.rename(folder / file.name)
                    inner.rmdir()
    shutil.rmtree(tmp_path / "test") if kind == "labelme" else None
    assert recognise(tmp_path) == kind
    parts = read_parts(tmp_path)
    assert sorted(parts) == (["train", "val"] if kind == "labelme" else ["test", "train", "val"])
    for part in parts.values():
        check(part, 4)
    check(read_any(tmp_path), 4 * len(parts))


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        recognise(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with pytest.raises(DataError, match=r"not recognised.*--from"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="no format is named 'cocoa'"):
        read_any(tmp_path, "cocoa")
    content = {**people.coco(), "annotations": []}
    people.write_coco(tmp_path, content)
    with pytest.raises(DataError, match="no object for any of 4 images"):
        read_any(tmp_path)


def test_entities_are_refused(tmp_path: Path) -> None:
    people.write_voc(tmp_path)
    bomb = '<!DOCTYPE a [<!ENTITY x "cat">]>' + people.voc().replace("<name>cat", "<name>&x;")
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "Annotations" / "a.xml").write_bytes(bomb.encode(encoding))
        with pytest.raises(DataError, match=r"a\.xml: it defines XML entities"):
            read_any(tmp_path)


def arguments(*words: str) -> argparse.Namespace:
    """Parsed arguments of an action that works on a dataset."""
    parser = argparse.ArgumentParser()
    add_source_arguments(parser)
    return parser.parse_args(list(words))


def test_the_ways_to_name_a_dataset(tmp_path: Path) -> None:
    people.write_coco(tmp_path / "coco", people.coco())
    people.write_voc(tmp_path / "voc")
    coco, voc = str(tmp_path / "coco"), str(tmp_path / "voc")
    check(source_of(arguments(coco)), 4)
    check(source_of(arguments("--dataset_dir", coco, "--anno_path", "anno.json", "--image_dir", "images")), 4)
    words = ["--dataset_dir", voc, "--anno_path", "train.txt", "--label_list", "labels.txt"]
    check(source_of(arguments(*words)), 4)
    changes = [
        f"{block}.{key}={value}"
        for block in ("TrainDataset", "EvalDataset")
        for key, value in (("dataset_dir", coco), ("anno_path", "anno.json"), ("image_dir", "images"))
    ]
    parts = source_parts(arguments("-c", "quickstart_ppyoloe", "-o", *changes))
    assert list(parts) == ["train", "val"]
    check(parts["val"], 4)
    for words in ([], [coco, "--anno_path", "anno.json"]):
        with pytest.raises(CommandError, match="name one dataset"):
            source_of(arguments(*words))
