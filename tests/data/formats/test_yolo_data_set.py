"""Protects training on YOLO datasets in place: the same samples as from COCO's annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppdet.cli.data.sources import source_parts
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.yolo import YOLODataSet
from ppdet.data.formats.registry import read_parts, write_any
from ppdet.data.image_files import forget_listings
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.utils.errors import DataError
from tests.data.formats.test_registry import arguments

FIELDS = ["image", "gt_bbox", "gt_class", "gt_poly"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset in COCO's and in YOLO's format."""
    write_dataset(tmp_path / "coco", SyntheticOptions(train=4, val=3, height=64, width=64))
    write_any(read_parts(tmp_path / "coco"), tmp_path / "yolo", "yolo")
    return tmp_path / "coco", tmp_path / "yolo"


@pytest.mark.parametrize("part", ["train", "val"])
def test_samples_are_those_of_coco(folders: tuple[Path, Path], part: str) -> None:
    coco = COCODataSet(
        dataset_dir=str(folders[0]),
        image_dir=part,
        anno_path=f"annotations/instances_{part}.json",
        data_fields=FIELDS,
    )
    yolo = YOLODataSet(dataset_dir=str(folders[1]), part=part, data_fields=FIELDS)  # type: ignore[arg-type]
    assert len(yolo) == len(coco)
    assert yolo.categories.names == coco.categories.names
    for ours, theirs in zip(yolo, coco):  # type: ignore[call-overload]
        assert Path(ours.path).name == Path(theirs.path).name
        assert ours.original_size == theirs.original_size
        np.testing.assert_allclose(ours.target.boxes, theirs.target.boxes, atol=0.3)
        assert ours.target.labels.tolist() == theirs.target.labels.tolist()
        assert len(ours.target.masks) == len(ours.target.boxes)


def test_options_and_check(folders: tuple[Path, Path]) -> None:
    train = YOLODataSet(dataset_dir=str(folders[1]), sample_num=2, repeat=3)
    assert (len(train), train.has_masks) == (6, False)
    val = YOLODataSet(dataset_dir=str(folders[1]), part="val", categories=train.categories)
    assert check_dataset(train, val, num_classes=6) == []


def test_errors_name_file_and_line(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match=r"data\.yaml: it has no test; there are train, val"):
        YOLODataSet(dataset_dir=str(folders[1]), part="test")
    label = next((folders[1] / "labels" / "train").glob("*.txt"))
    label.write_text("9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=rf"{label.name}:1: class number 9, the list has 6 classes"):
        YOLODataSet(dataset_dir=str(folders[1]))
    for file in (folders[1] / "labels" / "train").glob("*.txt"):
        file.unlink()
    forget_listings()
    with pytest.raises(DataError, match="no object is left"):
        YOLODataSet(dataset_dir=str(folders[1]))
    with pytest.raises(DataError, match=r"dataset_dir .* does not exist"):
        YOLODataSet(dataset_dir=str(folders[1] / "x"))


def test_a_configuration_names_its_parts(folders: tuple[Path, Path]) -> None:
    changes = [
        f"{block}={{name: YOLODataSet, dataset_dir: {folders[1]}, part: {part}}}"
        for block, part in (("TrainDataset", "train"), ("EvalDataset", "val"))
    ]
    parts = source_parts(arguments("-c", "quickstart_ppyoloe", "-o", *changes))
    assert {name: len(part.content["images"]) for name, part in parts.items()} == {"train": 4, "val": 3}
