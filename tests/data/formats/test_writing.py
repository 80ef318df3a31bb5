"""Protects the command: a new place, whole or not at all, counts of what is lost, names that stay inside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ppdet.cli import main
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.formats.dataset import LabelledDataset
from ppdet.data.formats.registry import FORMATS, read_any, read_parts, write_any
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.utils.errors import DataError, FileError
from tests.data import people


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A synthetic dataset with masks in parts train and val."""
    write_dataset(tmp_path / "shapes", SyntheticOptions(train=4, val=2, height=64, width=64))
    return tmp_path / "shapes"


def convert(*words: object) -> int:
    """`ppdet data convert`."""
    return main(["data", "convert", *map(str, words)])


def test_the_command(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shapes.parent
    assert convert(shapes, folder / "voc", "--to", "voc", "--json", folder / "counts.json") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{shapes}: COCO\n{folder / 'voc'} train: 4 images, ")
    assert "outlines and masks (their box is kept): PASCAL VOC cannot hold them" in said
    written = json.loads((folder / "counts.json").read_text())
    assert (written["from"], written["to"], written["images"]) == ("coco", "voc", {"train": 4, "val": 2})
    image = next((folder / "voc" / "JPEGImages").rglob("*.jpg"))
    assert image.samefile(next(shapes.rglob(image.name)))
    assert convert(folder / "voc", folder / "copied", "--to", "yolo", "--images", "copy") == 0
    assert next((folder / "copied").rglob("*.jpg")).stat().st_nlink == 1
    assert convert(folder / "voc", folder / "bare", "--to", "yolo", "--images", "none") == 0
    assert not list((folder / "bare").rglob("*.jpg"))


def test_one_file(shapes: Path) -> None:
    target = shapes.parent / "all.json"
    assert convert(shapes, target, "--to", "coco") == 0
    assert len(json.loads(target.read_text())["images"]) == 6
    assert len(read_any(target).content["images"]) == 6
    assert convert(shapes, shapes.parent / "all.txt", "--to", "yolo") == 2
    assert sorted(path.name for path in shapes.parent.iterdir()) == ["all.json", "shapes"]


def test_a_configuration_in_place_of_the_path(shapes: Path) -> None:
    values = []
    for block, part in (("TrainDataset", "train"), ("EvalDataset", "val")):
        values += [f"{block}.dataset_dir={shapes}", f"{block}.image_dir={part}"]
        values += [f"{block}.anno_path=annotations/instances_{part}.json"]
    target = shapes.parent / "yolo"
    assert convert(target, "--to", "yolo", "-c", "quickstart_ppyoloe", "-o", *values) == 0
    assert {name: len(part.content["images"]) for name, part in read_parts(target).items()} == {
        "train": 4,
        "val": 2,
    }


def test_what_is_there_stays(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(shapes.rglob("*"))
    assert convert(shapes, shapes, "--to", "yolo") == 2
    assert "exists already" in capsys.readouterr().err
    assert convert(shapes, shapes / "inside", "--to", "yolo") == 2
    assert "is inside of" in capsys.readouterr().err
    assert convert(shapes, "--to", "yolo") == 2
    assert "say where to write" in capsys.readouterr().err
    assert convert(shapes, shapes.parent / "x") == 2
    assert "say which format to write: --to" in capsys.readouterr().err
    assert sorted(shapes.rglob("*")) == before


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path: Path) -> None:
    people.write_coco(tmp_path / "coco", people.coco())
    shutil.rmtree(tmp_path / "coco" / "images")
    with pytest.raises(DataError, match=r"image a\.jpg is not in .*--images none"):
        write_any(read_parts(tmp_path / "coco"), tmp_path / "out", "yolo")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        write_any(read_parts(tmp_path / "coco"), tmp_path / "file" / "out", "yolo", images="none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "file"]
    write_any(read_parts(tmp_path / "coco"), tmp_path / "out", "yolo", images="none")


def renamed(folder: Path, name: str) -> dict[str, LabelledDataset]:
    """The dataset of `people` whose first image has another name."""
    content = people.coco()
    people.write_coco(folder, content)
    content["images"][0]["file_name"] = name
    return {"": LabelledDataset(content, folder / "images", "coco")}


@pytest.mark.parametrize("name", ["../images/a.jpg", "..\\images\\a.jpg", "ABSOLUTE"])
@pytest.mark.parametrize("kind", [name for name, form in FORMATS.items() if form.write])
def test_names_stay_inside(tmp_path: Path, name: str, kind: str) -> None:
    name = str(tmp_path / "in" / "images" / "a.jpg") if name == "ABSOLUTE" else name
    parts = renamed(tmp_path / "in", name)
    write_any(parts, tmp_path / "out" / "deep", kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]
    assert len(list((tmp_path / "out" / "deep").rglob("*.jpg"))) == 4


def test_names_that_a_format_does_not_tell_apart(tmp_path: Path) -> None:
    parts = renamed(tmp_path / "in", "b.png")
    with pytest.raises(DataError, match=r"images b\.png and b\.jpg of train: .* one name in YOLO; rename"):
        write_any(parts, tmp_path / "out", "yolo", images="none")


def test_boxes_beside_their_outline_are_counted(tmp_path: Path) -> None:
    people.write_coco(tmp_path, people.coco())
    dataset = read_any(tmp_path)
    dataset.content["annotations"][0]["bbox"][2] -= 5
    dataset.content["annotations"][1]["keypoints"] = [1, 2, 2]
    done = write_any({"": dataset}, tmp_path / "out", "yolo")
    assert done.counts == {
        "boxes that are not the bounds of their outline (the outline is kept)": 1,
        'values of "keypoints"': 1,
    }
    assert write_any({"": dataset}, tmp_path / "coco", "coco").counts == {}


@pytest.mark.parametrize("kind", [name for name, form in FORMATS.items() if form.write])
def test_from_every_format_to_what_trains(shapes: Path, kind: str) -> None:
    """A tool's export, `ppdet data convert --to coco`, a dataset of a training that passes the check."""
    write_any(read_parts(shapes), shapes.parent / kind, kind)
    target = shapes.parent / f"{kind} trains"
    assert convert(shapes.parent / kind, target, "--to", "coco") == 0
    both = [
        COCODataSet(
            dataset_dir=str(target),
            image_dir=f"images/{part}",
            anno_path=f"annotations/instances_{part}.json",
            categories=None,
        )
        for part in ("train", "val")
    ]
    assert [len(dataset) for dataset in both] == [4, 2]
    expected = COCODataSet(
        dataset_dir=str(shapes), image_dir="train", anno_path="annotations/instances_train.json"
    )
    assert len(both[0].packed.boxes) == len(expected.packed.boxes)
    assert check_dataset(both[0]) == []
