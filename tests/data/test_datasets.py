"""Protects reading datasets: what is kept and counted, one category table, errors that name things."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.data.datasets import cache
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.image_folder import ImageFolder
from ppdet.data.datasets.packed import PackedMasks
from ppdet.data.datasets.voc import VOCDataSet
from ppdet.data.formats import coco as formats_coco
from ppdet.data.geometry import decode_runs, encode_runs
from ppdet.data.image_files import forget_listings
from ppdet.data.json_stream import stream_json
from ppdet.data.problems import CURES, DatasetProblemsError
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.stats import dataset_stats
from ppdet.structures import Categories
from ppdet.utils.errors import DataError
from tests.data.support import coco_content, write_coco, write_image

MASKS = ["image", "gt_bbox", "gt_class", "is_crowd", "gt_poly"]


@pytest.fixture(autouse=True)
def fresh_listings() -> None:
    forget_listings()


def test_labels_follow_the_order_of_the_file(tmp_path: Path) -> None:
    data = COCODataSet(**write_coco(tmp_path, coco_content()))
    assert data.categories == Categories(("cat", "dog", "owl"), (7, 3, 12))
    assert [data[k].image_id for k in range(len(data))] == list(range(100, 106))
    target = data[2].target
    assert target is not None
    assert target.labels.tolist() == [2, 0]
    assert target.boxes.tolist() == [[2, 3, 10, 9], [12, 4, 20, 10]]
    assert data[2].path.endswith("images/2.jpg")
    assert data[2].original_size == (32, 40)
    with pytest.raises(IndexError):
        data[6]


def test_validation_takes_its_labels_from_training_by_name(tmp_path: Path) -> None:
    """REQUIREMENTS 3: another order, other ids, a class missing."""
    train = COCODataSet(**write_coco(tmp_path / "train", coco_content()))
    content = coco_content()
    content["categories"] = [{"id": 1, "name": "owl"}, {"id": 2, "name": "dog"}]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 7]
    for annotation in content["annotations"]:
        annotation["category_id"] = {12: 1, 3: 2}[annotation["category_id"]]
    val = COCODataSet(**write_coco(tmp_path / "val", content), categories=train.categories)
    assert val.categories == train.categories
    assert set(val.packed.labels.tolist()) == {1, 2}
    first = next(a for a in content["annotations"] if a["category_id"] == 1)
    row = val.packed.image_ids.tolist().index(first["image_id"])
    target = val[row].target
    assert target is not None
    assert 2 in target.labels


def test_a_class_unknown_to_training_is_an_error_that_names_it(tmp_path: Path) -> None:
    arguments = write_coco(tmp_path, coco_content())
    with pytest.raises(
        DatasetProblemsError, match=r"category-unknown: class 'cat' \(is it 'cats'\?\)"
    ) as error:
        COCODataSet(**arguments, categories=Categories(("cats", "dog", "owl"), (1, 2, 3)))
    assert "anno.json" in str(error.value)


def test_images_without_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = write_coco(tmp_path, coco_content(9))
    with caplog.at_level("INFO"):
        assert len(COCODataSet(**arguments)) == 9
    assert "9 of 9 images (3 without objects kept, 0 dropped)" in caplog.text
    assert len(COCODataSet(**arguments, allow_empty=False)) == 6
    assert len(COCODataSet(**arguments, empty_ratio=0.25)) == 8
    assert len(COCODataSet(**arguments, empty_ratio=0.0)) == 6
    assert len(COCODataSet(**arguments, sample_num=4)) == 4
    assert len(COCODataSet(**arguments, sample_num=4, repeat=3)) == 12
    repeated = COCODataSet(**arguments, repeat=2)
    assert repeated[11].image_id == repeated[2].image_id
    few = coco_content(1)
    for allow_empty in (True, False):
        with pytest.raises(DatasetProblemsError, match=r"no-objects: no object is left in \d of 1 images"):
            COCODataSet(**write_coco(tmp_path / "few", few), allow_empty=allow_empty)


def test_what_cannot_be_trained_on_is_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = coco_content()
    a = content["annotations"]
    a[0]["iscrowd"] = 1
    a[0]["segmentation"] = {"size": [31, 40], "counts": [100, 31 * 40 - 100]}
    a[1]["bbox"][2] = 0
    a[2]["bbox"][3] = 0
    a[3]["bbox"] = [200, 200, 5, 5]
    a[4]["ignore"] = 1
    for k in (10, 11, 12):
        a.append({**a[5], "id": k})
    arguments = write_coco(tmp_path, content)
    with caplog.at_level("INFO"):
        data = COCODataSet(**arguments)
    for what in ("1 crowd regions", "2 objects without area", "1 objects outside", "1 objects marked ignore"):
        assert what in caplog.text
    assert data.packed.object_counts().tolist() == [0, 0, 0, 0, 0, 4]
    crowded = COCODataSet(**arguments, load_crowd=True, data_fields=MASKS)
    target = crowded[1].target
    assert target is not None
    assert target.is_crowd.tolist() == [True]
    assert target.masks is not None
    mask = target.masks[0]
    assert isinstance(mask, dict)
    assert decode_runs(mask).sum() == 31 * 40 - 100


@pytest.mark.parametrize("fields", [MASKS, ["image"]])
def test_large_files_are_parsed_once(
    tmp_path: Path, fields: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """REQUIREMENTS 27. The second start must not open the file; a changed file or option must."""
    monkeypatch.setattr(cache, "SMALLEST", 1)
    monkeypatch.setenv("PPDET_HOME", str(tmp_path / "home"))
    arguments = write_coco(tmp_path, coco_content())
    reads: list[Path] = []
    monkeypatch.setattr(formats_coco, "stream_json", lambda path: reads.append(path) or stream_json(path))
    first = COCODataSet(**arguments, data_fields=fields)
    with caplog.at_level("INFO"):
        second = COCODataSet(**arguments, data_fields=fields)
    assert len(reads) == 1
    assert "6 of 6 images (2 without objects kept" in caplog.text
    assert second.categories == first.categories
    assert second.has_masks == first.has_masks
    assert [second[k].path for k in range(6)] == [first[k].path for k in range(6)]
    for name in ("boxes", "labels", "is_crowd", "image_ids", "sizes"):
        np.testing.assert_array_equal(getattr(first.packed, name), getattr(second.packed, name))
    COCODataSet(**arguments, data_fields=fields, allow_empty=False)
    assert len(reads) == 2
    COCODataSet(**arguments, data_fields=fields, categories=Categories(("owl", "dog", "cat"), (1, 2, 3)))
    assert len(reads) == 3
    content = coco_content()
    content["annotations"].pop()
    write_coco(tmp_path, content)
    assert len(COCODataSet(**arguments, data_fields=fields).packed.boxes) == 5
    for entry in (tmp_path / "home" / "annotations").iterdir():
        entry.write_bytes(b"PK broken")
    assert len(COCODataSet(**arguments, data_fields=fields).packed.boxes) == 5
    (tmp_path / "home2").write_text("a file where the cache should be")
    monkeypatch.setenv("PPDET_HOME", str(tmp_path / "home2"))
    assert len(COCODataSet(**arguments, data_fields=fields).packed.boxes) == 5


def test_masks_survive_packing() -> None:
    bitmap = np.zeros((6, 5), np.uint8)
    bitmap[2:4, 1:3] = 1
    polygons = (
        np.array([[0, 0], [1, 0], [1, 1]], np.float32),
        np.array([[2, 2], [3, 2], [3, 3], [2, 3]], np.float32),
    )
    masks = [polygons, encode_runs(bitmap), (), polygons[:1]]
    packed = PackedMasks.pack(masks)
    for index, mask in enumerate(masks):
        found = packed.mask(index, (6, 5))
        if isinstance(mask, dict):
            assert isinstance(found, dict)
            np.testing.assert_array_equal(decode_runs(found), bitmap)
        else:
            assert len(found) == len(mask)
            for one, other in zip(found, mask):
                np.testing.assert_array_equal(one, other)


def test_annotations_are_a_few_arrays_and_no_objects(tmp_path: Path) -> None:
    """REQUIREMENTS 14: reading Python objects copies their memory into every worker."""
    small = COCODataSet(**write_coco(tmp_path / "a", coco_content(3)), data_fields=MASKS)
    large = COCODataSet(**write_coco(tmp_path / "b", coco_content(60)), data_fields=MASKS)

    def objects(value: Any, seen: set[int]) -> int:
        if id(value) in seen or isinstance(value, type):
            return 0
        seen.add(id(value))
        inner = value.__dict__.values() if hasattr(value, "__dict__") else ()
        if isinstance(value, (list, tuple, set, dict)):
            inner = value.values() if isinstance(value, dict) else value
        return 1 + sum(objects(v, seen) for v in inner)

    assert objects(small, set()) == objects(large, set())
    again = pickle.loads(pickle.dumps(large))
    first, second = large[4].target, again[4].target
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.boxes, second.boxes)


def test_targets_are_copies(tmp_path: Path) -> None:
    data = COCODataSet(**write_coco(tmp_path, coco_content()))
    target = data[1].target
    assert target is not None
    target.boxes[:] = 0
    fresh = data[1].target
    assert fresh is not None
    assert fresh.boxes.any()


def set_value(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


#: What is done to a good file, and the kind and the words that the error must have.
DEFECTS: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    "no images": (set_value("images", value=[]), "no-images", "images"),
    "no categories": (set_value("categories", value=[]), "no-categories", "categories"),
    "category name twice": (set_value("categories", 1, "name", value="cat"), "category-repeated", "'cat'"),
    "category id twice": (set_value("categories", 1, "id", value=7), "category-repeated", "id 7"),
    "image id twice": (
        set_value("images", 1, "id", value=100),
        "image-repeated",
        r"image id 100: 0\.jpg, 1\.jpg",
    ),
    "image without name": (set_value("images", 1, "file_name", value=None), "image-incomplete", "101"),
    "annotation id twice": (
        set_value("annotations", 1, "id", value=1),
        "annotation-repeated",
        "annotation 1",
    ),
    "image id unknown": (
        set_value("annotations", 1, "image_id", value=9),
        "annotation-image",
        "annotation 2 .*9",
    ),
    "category id unknown": (
        set_value("annotations", 1, "category_id", value=99),
        "annotation-category",
        r"annotation 2 of 2\.jpg has category_id 99",
    ),
    "box not finite": (
        set_value("annotations", 1, "bbox", 0, value=float("nan")),
        "box-invalid",
        r"annotation 2 of 2\.jpg",
    ),
    "box of three": (set_value("annotations", 1, "bbox", value=[1, 2, 3]), "box-invalid", "annotation 2"),
    "box inverted": (
        set_value("annotations", 1, "bbox", value=[9, 9, -3, 4]),
        "box-inverted",
        "annotation 2",
    ),
    "mask missing": (set_value("annotations", 1, "segmentation", value=[]), "mask-missing", "annotation 2"),
    "polygon of two points": (
        set_value("annotations", 1, "segmentation", value=[[1, 2, 3, 4]]),
        "mask-invalid",
        "annotation 2",
    ),
    "run lengths below zero": (
        set_value(
            "annotations", 1, "segmentation", value={"size": [32, 40], "counts": [2**31, 1280 - 2**31]}
        ),
        "mask-invalid",
        "annotation 2",
    ),
    "run lengths of another size": (
        set_value("annotations", 1, "segmentation", value={"size": [9, 9], "counts": [81]}),
        "mask-invalid",
        "annotation 2",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    """REQUIREMENTS 2."""
    change, kind, words = DEFECTS[name]
    content = coco_content()
    change(content)
    with pytest.raises(DatasetProblemsError, match=words) as error:
        COCODataSet(**write_coco(tmp_path, content, images=False), data_fields=MASKS)
    assert kind in {problem.kind for problem in error.value.problems}
    assert CURES[kind] in str(error.value)
    assert "anno.json" in str(error.value)


def test_boxes_with_corners_in_place_of_sizes(tmp_path: Path) -> None:
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["bbox"] = [20, 10, 38, 28]
    with pytest.raises(DatasetProblemsError, match="box-corners: 6 of 6"):
        COCODataSet(**write_coco(tmp_path, content))


def test_all_defects_are_reported_at_once_on_one_screen(tmp_path: Path) -> None:
    content = coco_content(300)
    for annotation in content["annotations"]:
        annotation["bbox"] = [5, 5, -1, 3]
    content["annotations"][0]["image_id"] = 1
    with pytest.raises(DatasetProblemsError) as error:
        COCODataSet(**write_coco(tmp_path, content, images=False))
    assert len(error.value.problems) == len(content["annotations"])
    assert len(str(error.value).splitlines()) < 15
    assert "and 296 more" in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    arguments = write_coco(tmp_path, coco_content())
    (tmp_path / "images" / "3.jpg").unlink()
    forget_listings()
    with pytest.raises(DatasetProblemsError, match=r"image-missing: image id 103: .*3\.jpg does not exist"):
        COCODataSet(**arguments)
    for key, word in (
        ("dataset_dir", "dataset_dir"),
        ("image_dir", "image_dir"),
        ("anno_path", "annotation file"),
    ):
        with pytest.raises(DataError, match=f"{word}.*absent.*does not exist"):
            COCODataSet(**{**arguments, key: "absent"})
    for text, word in (("", "empty"), (" \n", "empty"), ("{", "not valid JSON"), ("[]", "JSON object")):
        (tmp_path / "anno.json").write_text(text)
        with pytest.raises(DataError, match=word):
            COCODataSet(**arguments)
    with pytest.raises(DataError, match="no field gt_box"):
        COCODataSet(**arguments, data_fields=["gt_box"])


def test_check_against_model_and_files(tmp_path: Path) -> None:
    arguments = write_coco(tmp_path, coco_content())
    data = COCODataSet(**arguments)
    assert check_dataset(data, num_classes=3, decode=False) == []
    with pytest.raises(DatasetProblemsError, match=r"num-classes: num_classes is 80.* have 3: cat, dog, owl"):
        check_dataset(data, num_classes=80)
    with pytest.raises(DatasetProblemsError, match=r"mask-missing.*gt_poly"):
        check_dataset(data, with_masks=True)
    (tmp_path / "images" / "1.jpg").write_bytes((tmp_path / "images" / "1.jpg").read_bytes()[:-9])
    write_image(tmp_path / "images" / "2.jpg", 40, 32)
    with pytest.raises(DatasetProblemsError) as error:
        check_dataset(data, num_classes=3, decode=True)
    assert [problem.kind for problem in error.value.problems] == ["image-corrupt", "image-size"]
    assert "image id 101" in error.value.problems[0].text
    assert "40x32" in error.value.problems[1].text


def test_image_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", 4, 4)
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "sub" / "a.JPG", 4, 4)
    (tmp_path / "notes.txt").write_text("cat\ndog\n")
    folder = ImageFolder(dataset_dir=str(tmp_path), image_dir=".", anno_path="notes.txt")
    assert [Path(folder[k].path).name for k in range(len(folder))] == ["b.png", "a.JPG"]
    assert folder.categories.names == ("cat", "dog")
    one = folder.of([tmp_path / "b.png", tmp_path / "sub"])
    assert len(one) == 2
    assert one.categories == folder.categories
    given = ImageFolder(anno_path="absent.json", categories=Categories(("owl",), (1,)))
    assert given.of([tmp_path]).categories.names == ("owl",)
    with pytest.raises(DataError, match="no class names"):
        _ = ImageFolder().categories
    with pytest.raises(DataError, match=r"absent\.json does not exist"):
        _ = ImageFolder(anno_path="absent.json").categories
    with pytest.raises(DataError, match=r"nothing\.jpg does not exist"):
        folder.of([tmp_path / "nothing.jpg"])
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no images"):
        folder.of([tmp_path / "none"])


VOC = """<annotation><size><width>40</width><height>30</height></size>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>20</xmin><ymin>9</ymin><xmax>4</xmax><ymax>33.5</ymax></bndbox></object>
<object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


def write_voc(folder: Path, xml: str = VOC) -> dict[str, str]:
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    write_image(folder / "JPEGImages" / "a.jpg", 30, 40)
    write_image(folder / "JPEGImages" / "b.jpg", 30, 40)
    (folder / "Annotations" / "a.xml").write_text(xml)
    (folder / "Annotations" / "b.xml").write_text("<annotation><size/></annotation>")
    (folder / "list.txt").write_text(
        "JPEGImages/a.jpg Annotations/a.xml\n\nJPEGImages\\b.jpg Annotations\\b.xml\n"
    )
    (folder / "labels.txt").write_text("cat\ndog\n")
    return {"dataset_dir": str(folder), "anno_path": "list.txt"}


def test_voc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = write_voc(tmp_path)
    with caplog.at_level("INFO"):
        data = VOCDataSet(**arguments, label_list="labels.txt")
    assert "1 objects without area dropped" in caplog.text
    target = data[0].target
    assert target is not None
    assert target.boxes.tolist() == [[4, 9, 20, 30]]
    assert target.labels.tolist() == [1]
    assert target.difficult is not None
    assert target.difficult.tolist() == [True]
    assert len(data) == 2
    assert len(VOCDataSet(**arguments, label_list="labels.txt", allow_empty=False)) == 1
    default = VOCDataSet(**arguments)
    assert default.categories.names[-1] == "tvmonitor"
    assert len(default.categories) == 20
    with pytest.raises(DatasetProblemsError, match="category-unknown"):
        VOCDataSet(**arguments, categories=data.categories)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<annotation>", r"a\.xml: not valid XML"),
        (VOC.replace("dog", "yak"), r"class-unlisted: .*a\.xml: object 0 is a 'yak'"),
        (VOC.replace("<xmin>20", "<xmin>x"), r"a\.xml: object 0 \(dog\)"),
        (VOC.replace("<xmin>20", "<xmin>nan"), r"box-invalid: .*a\.xml: object 0 .*xmin 'nan'"),
    ],
)
def test_broken_voc_names_the_file(tmp_path: Path, xml: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        VOCDataSet(**write_voc(tmp_path, xml), label_list="labels.txt")


def test_stats(tmp_path: Path) -> None:
    stats = dataset_stats(COCODataSet(**write_coco(tmp_path, coco_content())))
    assert stats["objects_by_class"] == {"cat": 2, "dog": 2, "owl": 2}
    assert stats["objects_by_size"] == {"small": 6, "medium": 0, "large": 0}
    assert stats["images_without_objects"] == 2
    assert stats["image_height"] == [30.0, 31.2, 32.5, 33.8, 35.0]
    assert json.dumps(stats)
