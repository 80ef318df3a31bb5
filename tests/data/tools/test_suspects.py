"""Protects what `data check` finds worth a look: planted faults are found and named, and nothing else is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.cli import main
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.tools import likeness
from ppdet.data.tools.likeness import find_copies, perceptual_hash
from ppdet.data.tools.suspects import suspects
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from tests.support import SHARED, requires_shared

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]


def dataset(folder: Path, boxes: list[tuple[int, list[float]]], names: list[str]) -> COCODataSet:
    """One image of 64 by 48 with objects, as (class, x y width height)."""
    rows = [
        {"id": i, "image_id": 1, "category_id": label, "bbox": box, "iscrowd": 0}
        for i, (label, box) in enumerate(boxes, start=1)
    ]
    folder.mkdir(exist_ok=True)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": rows,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    cv2.imwrite(str(folder / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    (folder / "a.json").write_text(json.dumps(content), "utf-8")
    return COCODataSet(dataset_dir=str(folder), image_dir="", anno_path="a.json", data_fields=FIELDS)


GOOD: list[tuple[int, list[float]]] = [(0, [2, 2, 20, 20]), (1, [10, 10, 30, 30])]
FAULTS: dict[str, tuple[list[tuple[int, list[float]]], list[str], str]] = {
    "box-tiny": ([(0, [5, 5, 1, 9])], ["cat", "dog"], "image id 1: .*a.jpg: cat .5, 5, 6, 14."),
    "box-whole": ([(0, [0, 0, 64, 48])], ["cat", "dog"], "cat .0, 0, 64, 48."),
    "box-repeated": ([(0, [2, 2, 20, 20.5])], ["cat", "dog"], "cat .2, 2, 22, 22. and .2, 2, 22, 22.5., "),
    "class-alike": ([], ["traffic light", "Traffic_Lights"], "'traffic light' .1 objects. and 'Traffic_"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found_and_named(tmp_path: Path, kind: str) -> None:
    boxes, names, text = FAULTS[kind]
    (found,) = suspects(dataset(tmp_path, [*GOOD, *boxes], names))
    assert found.kind == kind
    assert re.search(text, found.text), found.text


def test_a_good_dataset_has_no_suspects(tmp_path: Path) -> None:
    # One box for two classes, and names that only begin alike are as they should be.
    boxes = [*GOOD, (1, [2, 2, 20, 20])]
    assert suspects(dataset(tmp_path, boxes, ["bus", "buses of glass"])) == []
    twice = [*GOOD, (1, [10, 10, 30, 30])]
    assert [p.kind for p in suspects(dataset(tmp_path, twice, ["glass", "gla"]))] == ["box-repeated"]


def test_rare_classes_are_named_when_asked_for(tmp_path: Path) -> None:
    made = dataset(tmp_path, [*GOOD, GOOD[0]], ["cat", "dog", "cow"])
    texts = [p.text for p in suspects(made, min_objects=2) if p.kind == "class-rare"]
    assert texts == ["class 'dog' has 1 objects, fewer than 2", "class 'cow' has 0 objects, fewer than 2"]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "shapes", SyntheticOptions(train=12, val=6, height=96, width=128))
    return tmp_path / "shapes"


def both(folder: Path) -> tuple[COCODataSet, COCODataSet]:
    def part(name: str) -> COCODataSet:
        anno = f"annotations/instances_{name}.json"
        return COCODataSet(dataset_dir=str(folder), image_dir=name, anno_path=anno, data_fields=FIELDS)

    return part("train"), part("val")


def test_copies_and_look_alikes_are_found(shapes: Path) -> None:
    assert find_copies(*both(shapes)) == []
    train, val = sorted((shapes / "train").iterdir()), sorted((shapes / "val").iterdir())
    shutil.copy(train[0], train[1])
    small = cv2.resize(cv2.imread(str(train[2])), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(train[3]), small, [cv2.IMWRITE_JPEG_QUALITY, 60])
    brighter = np.clip(cv2.imread(str(train[4])).astype(int) + 12, 0, 255).astype(np.uint8)
    cv2.imwrite(str(val[0]), brighter)
    found = {(p.kind, *re.findall(r"\w+\.jpg", p.text)) for p in find_copies(*both(shapes))}
    assert found == {
        ("image-copied", train[1].name, train[0].name),
        ("image-alike", train[3].name, train[2].name),
        ("train-val-alike", val[0].name, train[4].name),
    }


def test_hashes_of_flat_pictures_say_nothing() -> None:
    assert perceptual_hash(np.full((40, 60, 3), 90, np.uint8)) is None
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8), (320, 240))
    first, second = perceptual_hash(picture), perceptual_hash(cv2.flip(picture, 1))
    assert first is not None and second is not None and bin(first ^ second).count("1") > 10


def test_the_nearest_pairs_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = [int(value) for value in rng.integers(0, 2**63, 60)]
    hashes[50] = hashes[3] ^ 0b1011
    hashes[59] = hashes[58] ^ (1 << 63)
    looks = [likeness._Look("training", str(i), b"", bits) for i, bits in enumerate(hashes)]
    monkeypatch.setattr(likeness, "_BLOCK", 7)
    pairs = [(one.path, other.path, bits) for one, other, bits in likeness._pairs(looks)]
    plain = [
        (str(i), str(k), bin(hashes[i] ^ hashes[k]).count("1"))
        for k in range(60)
        for i in range(k)
        if bin(hashes[i] ^ hashes[k]).count("1") <= 6
    ]
    assert pairs == plain == [("3", "50", 3), ("58", "59", 1)]


def test_a_leak_is_told_beside_a_nearer_look_alike() -> None:
    """The nearest image of a validation image may be in its own set; that of the training set counts too."""
    bits = int(np.random.default_rng(0).integers(0, 2**63))
    parts = (("training", bits ^ 0b111), ("validation", bits), ("validation", bits ^ 1))
    looks = [likeness._Look(part, str(i), b"", value) for i, (part, value) in enumerate(parts)]
    pairs = [(one.path, other.path, bits) for one, other, bits in likeness._pairs(looks)]
    assert sorted(pairs) == [("0", "1", 3), ("0", "2", 2), ("1", "2", 1)]


def test_an_error_hides_nothing(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shapes / "annotations" / "instances_train.json"
    content = json.loads(file.read_text("utf-8"))
    content["annotations"].append({**content["annotations"][0], "id": 1000})
    file.write_text(json.dumps(content), "utf-8")
    words = ["data", "check", "--dataset_dir", str(shapes), "--image_dir", "train", "--num_classes", "2"]
    words += ["--anno_path", "annotations/instances_train.json", "--json", str(tmp_path / "p.json")]
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert "num-classes" in shown and "box-repeated" in shown
    rows = json.loads((tmp_path / "p.json").read_text("utf-8"))
    assert [(row["kind"], row["error"]) for row in rows] == [("num-classes", True), ("box-repeated", False)]


@requires_shared
def test_real_photographs_are_not_suspected(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--dataset_dir", str(SHARED / "data" / "tiny_coco"), "--image_dir", "train2017"]
    given += ["--anno_path", "annotations/instances_train2017.json", "--val_image_dir", "val2017"]
    given += ["--val_anno_path", "annotations/instances_val2017.json", "--copies"]
    assert main(["data", "check", *given]) == 0
    assert "no problems found" in capsys.readouterr().out


def test_a_config_names_both_sets(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(*(sorted((shapes / part).iterdir())[0] for part in ("train", "val")))
    blocks = []
    for key, part in (("TrainDataset", "train"), ("EvalDataset", "val")):
        blocks += [f"{key}.dataset_dir={shapes}", f"{key}.image_dir={part}"]
        blocks += [f"{key}.anno_path=annotations/instances_{part}.json"]
    config = ["-c", "quickstart_yolov3", "-o", *blocks]
    assert main(["data", "check", *config]) == 2
    assert "train-val-overlap" in capsys.readouterr().err
    assert main(["data", "stats", *config]) == 0
    assert ["images", "12", "6"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    for words in ([], ["-c", "quickstart_yolov3", "--anno_path", "a.json"]):
        assert main(["data", "check", *words]) == 2
        assert "name one dataset" in capsys.readouterr().err


def test_the_command_names_them(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shapes / "annotations" / "instances_train.json"
    content = json.loads(file.read_text("utf-8"))
    first = content["images"][0]
    content["images"].append({**first, "id": 1000, "file_name": "copy.jpg"})
    content["annotations"].append({**content["annotations"][0], "id": 1000, "image_id": 1000})
    file.write_text(json.dumps(content), "utf-8")
    shutil.copy(shapes / "train" / first["file_name"], shapes / "train" / "copy.jpg")
    words = ["data", "check", "--dataset_dir", str(shapes), "--image_dir", "train", "--copies"]
    words += ["--anno_path", "annotations/instances_train.json", "--json", str(tmp_path / "p.json")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "image-copied" in shown and "no errors" in shown
    rows = json.loads((tmp_path / "p.json").read_text("utf-8"))
    assert [(row["kind"], row["error"]) for row in rows] == [("image-copied", False)]
