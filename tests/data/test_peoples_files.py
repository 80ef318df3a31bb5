"""Protects what the readers make of files as people have them: taken right, or refused by file, id, cure."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from ppdet.data.batching import collate
from ppdet.data.category_tables import read_categories
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.image_folder import ImageFolder
from ppdet.data.datasets.voc import VOCDataSet
from ppdet.data.formats.coco import parse_coco
from ppdet.data.formats.masks import decompressed
from ppdet.data.formats.voc import split_pair
from ppdet.data.image_files import find_images, forget_listings, image_size
from ppdet.data.problems import DatasetProblemsError
from ppdet.data.tools.check import check_dataset
from ppdet.structures import Sample
from ppdet.utils.errors import DataError
from ppdet.utils.files import cache_folder, expanded
from tests.data import people
from tests.data.support import target_of, write_image

Image = pytest.importorskip("PIL.Image")

MASKS = ["gt_bbox", "gt_class", "gt_poly"]
CORNERS = [list(box) for box in people.BOXES.values()]


@pytest.fixture(autouse=True)
def fresh_listings() -> None:
    forget_listings()


def coco(folder: Path, content: dict[str, Any], **options: Any) -> COCODataSet:
    return COCODataSet(**people.write_coco(folder, content), **options)


def problem(folder: Path, content: dict[str, Any], words: str, **options: Any) -> str:
    """The one kind of problem that a file has; its message must have `words`."""
    with pytest.raises(DatasetProblemsError, match=words) as error:
        coco(folder, content, **options)
    kinds = {item.kind for item in error.value.problems}
    assert len(kinds) == 1, kinds
    return kinds.pop()


def boxes_of(data: Any, row: int = 0) -> list[list[float]]:
    target = data[row].target
    assert target is not None
    return target.boxes.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"area": 0},
        {"area": None},
        {"area": "400"},
        {"area": -1.0},
        {"area": float("nan")},
        {"iscrowd": "0"},
        {"iscrowd": None},
        {"iscrowd": False},
        {"iscrowd": "false"},
        {"ignore": "0"},
        {"id": "7a"},
        {"id": None},
        {"bbox": ["8", "8.0", "24", 16]},
        {"category_id": "1"},
        {"category_id": 1.0},
        {"image_id": "1"},
        {"image_id": 1.0},
    ],
)
def test_objects_that_other_tools_write_are_kept(tmp_path: Path, change: dict[str, Any]) -> None:
    content = people.coco()
    content["annotations"][0] |= change
    assert boxes_of(coco(tmp_path, content)) == CORNERS


def test_areas_come_from_the_mask_or_the_box() -> None:
    content = people.coco()
    content["annotations"][0] |= {"area": None, "segmentation": [[8, 8, 32, 8, 8, 24]]}
    del content["annotations"][1]["area"]
    content["annotations"][2]["area"] = "400"
    areas = [item.area for item in parse_coco(content, with_masks=True).objects]
    assert areas[:3] == [24 * 16 / 2, 30 * 40, 400]
    assert parse_coco(content, with_masks=False).objects[0].area == 24 * 16


def test_flags_are_read_and_not_taken_for_true(tmp_path: Path) -> None:
    content = people.coco()
    content["annotations"][0]["iscrowd"] = "1"
    content["annotations"][1]["ignore"] = "true"
    data = coco(tmp_path, content, load_crowd=True)
    target = data[0].target
    assert target is not None
    assert target.is_crowd.tolist() == [True]
    content["annotations"][0]["iscrowd"] = "maybe"
    assert problem(tmp_path, content, r"annotation 1 of a\.jpg has iscrowd 'maybe'") == "flag-invalid"


@pytest.mark.parametrize("size", [-1, 0, None, "64", 64.0, ""])
def test_sizes_that_a_file_leaves_out_come_from_the_image(tmp_path: Path, size: Any) -> None:
    content = people.coco()
    for image in content["images"]:
        image["width"] = image["height"] = size
    content["annotations"][1]["bbox"] = [70, 0, 5, 5]
    data = coco(tmp_path, content)
    assert data[0].original_size == (64, 64)
    assert boxes_of(data) == CORNERS[:1]
    assert [remark.kind for remark in data.remarks] == ["box-outside"]


def test_a_dataset_without_objects_is_an_error(tmp_path: Path) -> None:
    """As much one whose objects are all crowd regions, or that has no annotations."""
    content = people.coco()
    for row in content["annotations"]:
        row["iscrowd"] = 1
    assert problem(tmp_path, content, r"left out: 8 crowd regions \(load_crowd: true keeps") == "no-objects"
    assert len(coco(tmp_path, content, load_crowd=True)) == 4
    for nothing in ([], None):
        assert problem(tmp_path, {**content, "annotations": nothing}, "has none") == "no-objects"
    content = people.coco()
    content["annotations"] = content["annotations"][2:]
    assert problem(tmp_path, content, "sample_num keeps the first", sample_num=1) == "no-objects"


@pytest.mark.parametrize(
    "ids",
    [
        [2**53, 2**53 + 1, 2**53 + 2, 5],
        [10**17 + k for k in range(4)],
        [2**63, 2**63 + 1, -(2**70), 0],
        ["frame_1", "frame_2", "7", "0007"],
        ["猫", "a/b", 3, "3x"],
    ],
)
def test_ids_of_any_kind(tmp_path: Path, ids: list[Any]) -> None:
    content = people.coco()
    for image, new in zip(content["images"], ids):
        for row in content["annotations"]:
            if row["image_id"] == image["id"] and not row.get("done"):
                row |= {"image_id": new, "done": True}
        image["id"] = new
    data = coco(tmp_path, content)
    given = [data[row].image_id if data[row].given_id is None else data[row].given_id for row in range(4)]
    wanted = [7 if value == "7" else value for value in ids]
    assert set(given) == set(wanted)
    assert len({data[row].image_id for row in range(4)}) == 4
    for row in range(4):
        name = Path(data[row].path).name
        assert given[row] == wanted["abcd".index(name[0])]
        assert boxes_of(data, row) == CORNERS


def test_ids_that_are_none_are_named(tmp_path: Path) -> None:
    for value in (None, [1], True, 1.5, ""):
        content = people.coco()
        content["images"][3]["id"] = value
        content["annotations"] = content["annotations"][:6]
        assert problem(tmp_path, content, "an image has the id .*'d.jpg'") == "image-incomplete"


def test_a_file_under_two_ids(tmp_path: Path) -> None:
    content = people.coco()
    content["images"][1]["file_name"] = "./a.jpg"
    words = r"a\.jpg has the image ids 1 and 2"
    assert problem(tmp_path, content, words) == "image-file-repeated"


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ("cam 1/é 1.jpg", "cam 1\\é 1.jpg"),
        ("cam 1/é 1.jpg", quote("cam 1/é 1.jpg")),
        ("cam 1/é 1.jpg", "CAM 1/É 1.JPG"),
        ("cam 1/é 1.jpg", unicodedata.normalize("NFD", "cam 1/é 1.jpg")),
        ("cam 1/é 1.jpg", "./cam 1//é 1.jpg"),
        ("cam 1/é 1.jpg", "images/cam 1/é 1.jpg"),
        ("cam 1/é 1.jpg", "/elsewhere/images/cam 1/é 1.jpg"),
        ("cam 1/é 1.jpg", "D:\\sets\\images\\cam 1\\é 1.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("HERE", "HERE"),
    ],
)
def test_names_that_mean_one_file(tmp_path: Path, stored: str, written: str) -> None:
    absolute = tmp_path / "images" / "there.jpg"
    stored, written = (str(absolute) if name == "HERE" else name for name in (stored, written))
    path = tmp_path / "images" / stored
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, 64, 64)
    content = people.coco()
    content["images"][0]["file_name"] = written
    data = coco(tmp_path, content)
    assert Path(data[0].path) == path
    assert Path(data[0].path).is_file()


def test_names_that_mean_no_file_or_two(tmp_path: Path) -> None:
    content = people.coco()
    content["images"][0]["file_name"] = "/elsewhere/pictures/a1.jpg"
    people.write_images(tmp_path / "images")
    words = r"/elsewhere/pictures/a1\.jpg does not exist; is it a\.jpg\?"
    assert problem(tmp_path, content, words) == "image-missing"
    for name in ("x.JPG", "X.jpg"):
        write_image(tmp_path / "images" / name, 64, 64)
    forget_listings()
    content["images"][0]["file_name"] = "x.jpg"
    assert problem(tmp_path, content, r"x\.jpg does not exist; is it X\.jpg\?") == "image-missing"
    content["images"][0]["file_name"] = "cam/a.jpg"  # not a.jpg of another folder
    assert problem(tmp_path, content, r"cam/a\.jpg does not exist") == "image-missing"


def test_home_and_variables_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people.write_coco(tmp_path / "set", people.coco())
    people.write_voc(tmp_path / "voc")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for root in ("~/set", "$DATA/set", "${DATA}/set"):
        assert len(COCODataSet(dataset_dir=root, image_dir="images", anno_path="anno.json")) == 4
    assert len(COCODataSet(dataset_dir="", image_dir="~/set/images", anno_path="$DATA/set/anno.json")) == 4
    assert len(VOCDataSet(dataset_dir="~/voc", anno_path="train.txt", label_list="$DATA/voc/labels.txt")) == 4
    assert len(ImageFolder(image_dir="~/set/images")) == 4
    assert len(ImageFolder().of(["$DATA/set/images"])) == 4
    assert str(expanded("$UNKNOWN/a")) == "$UNKNOWN/a"
    assert not (tmp_path / "~").exists()


def test_a_user_without_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PPDET_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert cache_folder().parent == tmp_path
    monkeypatch.setattr("ppdet.data.datasets.cache.SMALLEST", 1)
    assert len(coco(tmp_path / "set", people.coco())) == 4
    assert list(cache_folder().glob("annotations/*.npz"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    arguments = people.write_coco(tmp_path, people.coco())
    (tmp_path / "anno.json").write_text(json.dumps(people.coco()), encoding)
    assert boxes_of(COCODataSet(**arguments)) == CORNERS
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding)
    assert read_categories(tmp_path / "names.txt").names == ("cat", "dog")


def test_a_category_whose_name_is_a_number(tmp_path: Path) -> None:
    content = people.coco()
    content["categories"][0]["name"] = 7
    assert coco(tmp_path, content).categories.names == ("7", "dog")
    content["categories"][0]["name"] = None
    assert problem(tmp_path, content, "category 0 has the name None") == "category-incomplete"
    content["categories"][0] |= {"name": "cat", "id": "first"}
    for row in content["annotations"][::2]:
        row["category_id"] = "first"
    assert problem(tmp_path, content, "category 'cat' has the id 'first'") == "category-incomplete"


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[8, 8, 32, 8, 32]], "not 3 or more x, y pairs"),
        ([[8, 8, 32, 8, 32, 24], [1, 2]], "not 3 or more x, y pairs"),
        ([["here", 8, 32, 8, 32, 24]], "not 3 or more x, y pairs"),
        ([[None, 8, 32, 8, 32, 24]], "not 3 or more x, y pairs"),
        ([[1e9, 8, 32, 8, 32, 24]], "leaves its image by far"),
        ("polygon", "no list of polygons"),
        ({"size": [64, 64]}, "do not add up"),
        ({"size": ["a", 64], "counts": [4096]}, "not .height, width."),
        ({"size": [64, 64], "counts": [1, 2, 3]}, "do not add up"),
        ({"size": [64, 64], "counts": "猫"}, "do not add up"),
    ],
)
def test_masks_that_are_none(tmp_path: Path, segmentation: Any, words: str) -> None:
    content = people.coco()
    content["annotations"][0]["segmentation"] = segmentation
    text = f"mask-invalid: annotation 1 of a.jpg has .*{words}"
    assert problem(tmp_path, content, text, data_fields=MASKS) == "mask-invalid"
    assert boxes_of(coco(tmp_path, content)) == CORNERS  # who needs no masks is not stopped by them


def test_flat_polygons_and_pairs_are_one_part(tmp_path: Path) -> None:
    square = [8, 8, 32, 8, 32, 24, 8, 24]
    for written in (square, [square], [square, []], [[[8, 8], [32, 8], [32, 24], [8, 24]]]):
        content = people.coco()
        content["annotations"][0]["segmentation"] = written
        target = coco(tmp_path, content, data_fields=MASKS)[0].target
        assert target is not None
        assert target.masks is not None
        assert [part.reshape(-1).tolist() for part in target.masks[0]] == [square]


def test_compressed_runs_are_never_handed_on_cut_short(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(0)
    bitmap = np.asfortranarray(rng.random((64, 64)) < 0.3, np.uint8)
    counts = coco_mask.encode(bitmap)["counts"].decode("ascii")
    lengths = decompressed(counts)
    assert lengths is not None
    assert lengths[1::2].sum() == bitmap.sum()
    assert lengths.tolist() == coco_mask_lengths(bitmap)
    content = people.coco()
    content["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": counts}
    assert len(coco(tmp_path, content, data_fields=MASKS)) == 4
    for cut in (1, 5, len(counts) // 2):
        content["annotations"][0]["segmentation"]["counts"] = counts[:-cut]
        assert problem(tmp_path, content, "do not add up", data_fields=MASKS) == "mask-invalid"


def coco_mask_lengths(bitmap: np.ndarray) -> list[int]:
    """Run lengths counted pixel by pixel, column by column, zeros first."""
    lengths, value = [0], 0
    for pixel in bitmap.T.reshape(-1).tolist():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def test_strings_where_numbers_belong_and_numbers_that_are_none(tmp_path: Path) -> None:
    content = people.coco()
    content["images"][0] |= {"width": "64", "height": "sixty"}
    words = r"image id 1: a\.jpg has height 'sixty' and width '64'"
    assert problem(tmp_path, content, words) == "image-size"
    for value in ("wide", [1], 10**400, True):
        content = people.coco()
        content["annotations"][0]["bbox"][0] = value
        assert problem(tmp_path, content, r"annotation 1 of a\.jpg has bbox") == "box-invalid"
    content = people.coco()
    content["annotations"][0]["area"] = "large"
    assert problem(tmp_path, content, r"annotation 1 of a\.jpg has area 'large'") == "area-invalid"
    content["annotations"][0] = "an object"
    assert problem(tmp_path, content, r'"annotations" contains .an object') == "list-invalid"


def test_root_category_of_roboflow(tmp_path: Path) -> None:
    """Its exports list the project itself as class 0; no object is one."""
    content = people.coco()
    content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    for row in content["categories"][1:]:
        row["supercategory"] = "pets"
    assert coco(tmp_path, content).categories.names == ("cat", "dog")
    content["annotations"][0]["category_id"] = 0
    assert coco(tmp_path, content).categories.names == ("pets", "cat", "dog")


def test_data_yaml_of_roboflow_as_label_list(tmp_path: Path) -> None:
    for names in ("[cat, dog]", "{0: cat, 1: dog}", "\n- cat\n- dog"):
        (tmp_path / "data.yaml").write_text(f"train: ../train/images\nnc: 2\nnames: {names}\n")
        assert read_categories(tmp_path / "data.yaml").names == ("cat", "dog")
    for names in ("{1: cat, 3: dog}", "cat", "[[cat]]"):
        (tmp_path / "data.yaml").write_text(f"names: {names}\n")
        with pytest.raises(DataError, match=r"data\.yaml: .*names"):
            read_categories(tmp_path / "data.yaml")


def test_voc_sizes_are_those_of_the_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = people.write_voc(tmp_path)
    (tmp_path / "Annotations" / "b.xml").write_text(people.voc(size=(48, 48)), "utf-8")
    data = VOCDataSet(**arguments)
    assert boxes_of(data, 1) == CORNERS  # not cut at 48
    assert data[1].original_size == (64, 64)
    assert "1 XML files give another size than their image" in caplog.text
    with pytest.raises(DatasetProblemsError, match=r"b\.xml: size is 48x48 .*JPEGImages/b\.jpg has 64x64"):
        check_dataset(data)


@pytest.mark.parametrize(
    ("text", "difficult"), [("False", False), ("1.0", True), ("", False), ("True", True)]
)
def test_voc_flags(tmp_path: Path, text: str, difficult: bool) -> None:
    arguments = people.write_voc(tmp_path)
    xml = people.voc().replace("<difficult>0", f"<difficult>{text}", 1)
    (tmp_path / "Annotations" / "a.xml").write_text(xml, "utf-8")
    target = VOCDataSet(**arguments)[0].target
    assert target is not None
    assert target.difficult is not None
    assert target.difficult.tolist() == [difficult, False]


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "cp1252", "UTF-16", "gb2312", "utf-8"])
def test_voc_in_the_encoding_that_it_declares(tmp_path: Path, encoding: str) -> None:
    name = "犬" if encoding == "gb2312" else "Käfer"
    arguments = people.write_voc(tmp_path)
    (tmp_path / "labels.txt").write_text(f"cat\n{name}\ndog\n", "utf-8")
    xml = f'<?xml version="1.0" encoding="{encoding}"?>\n' + people.voc().replace("dog", name)
    (tmp_path / "Annotations" / "a.xml").write_bytes(xml.encode(encoding))
    target = VOCDataSet(**arguments)[0].target
    assert target is not None
    assert target.labels.tolist() == [0, 1]
    (tmp_path / "Annotations" / "a.xml").write_bytes(people.voc().replace("dog", "Käfer").encode("cp1252"))
    with pytest.raises(DataError, match=r"a\.xml: not valid XML: .*declares it"):
        VOCDataSet(**arguments)


def test_voc_objects_that_are_broken_are_named_together(tmp_path: Path) -> None:
    arguments = people.write_voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_text(people.voc().replace("bndbox", "robndbox"), "utf-8")
    (tmp_path / "Annotations" / "b.xml").write_text(people.voc().replace("<xmax>32.0", "<xmax>"), "utf-8")
    (tmp_path / "Annotations" / "c.xml").write_text(people.voc().replace(">cat<", ">cow<"), "utf-8")
    with pytest.raises(DatasetProblemsError) as error:
        VOCDataSet(**arguments)
    texts = [item.text.replace(str(tmp_path), "") for item in error.value.problems]
    assert [item.kind for item in error.value.problems] == ["box-invalid"] * 3 + ["class-unlisted"]
    assert texts[0] == "/Annotations/a.xml: object 0 (cat) has no bndbox"
    assert "xmax ''" in texts[2]
    assert texts[3] == "/Annotations/c.xml: object 0 is a 'cow'"
    assert "label_list" in str(error.value)


def test_blanks_in_voc_lists(tmp_path: Path) -> None:
    arguments = people.write_voc(tmp_path)
    (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / "JPEGImages" / "my cat 1.jpg")
    (tmp_path / "Annotations" / "a.xml").rename(tmp_path / "Annotations" / "my cat 1.xml")
    lines = (tmp_path / "train.txt").read_text().replace("/a.", "/my cat 1.")
    (tmp_path / "train.txt").write_text(lines)
    data = VOCDataSet(**arguments)
    assert data[0].path.endswith("my cat 1.jpg")
    assert boxes_of(data) == CORNERS
    assert split_pair("a b.jpg\tc d.xml") == ("a b.jpg", "c d.xml")
    assert split_pair("a.jpg b.jpg c.xml") is None
    assert split_pair("one two three") is None


def test_hidden_and_system_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people.write_images(tmp_path)
    for place in (".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/a.jpg", "._a.jpg", "@eaDir/a.jpg"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "Thumbs.db").write_bytes(b"")
    with caplog.at_level("INFO"):
        assert [Path(path).name for path in find_images(tmp_path)] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert "5 hidden or system files and folders left out" in caplog.text


def test_links_other_suffixes_and_the_output_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people.write_images(tmp_path / "elsewhere")
    root = tmp_path / "in"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    Image.new("RGB", (8, 8), (200, 100, 50)).save(root / "a.gif")
    (root / "b.jfif").write_bytes((tmp_path / "elsewhere" / "a.jpg").read_bytes())
    (root / "c.heic").write_bytes(b"anything")
    (root / "output").mkdir()
    (root / "output" / "drawn.jpg").write_bytes((tmp_path / "elsewhere" / "a.jpg").read_bytes())
    names = [os.path.relpath(path, root) for path in find_images(root, leave_out=root / "output")]
    assert names == ["a.gif", "b.jfif", "link/a.jpg", "link/b.jpg", "link/c.jpg", "link/d.jpg"]
    assert "1 images in the output folder" in caplog.text
    assert "cannot be decoded: 1 .heic" in caplog.text
    # The folder itself as output folder is refused elsewhere; here it leaves nothing out.
    assert len(find_images(root / "output", leave_out=root / "output")) == 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_in_a_header_is_that_of_the_decoded_image(tmp_path: Path, orientation: int) -> None:
    image = Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    data = np.fromfile(tmp_path / "a.jpg", np.uint8)
    assert image_size(str(tmp_path / "a.jpg")) == cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
    assert image_size(str(tmp_path / "absent.jpg")) is None
    (tmp_path / "b.jpg").write_text("no image")
    assert image_size(str(tmp_path / "b.jpg")) is None


def test_check_names_what_is_left_out_or_cut(tmp_path: Path) -> None:
    content = people.coco()
    content["annotations"][0]["bbox"] = [8, 8, 0, 9]
    content["annotations"][3]["bbox"] = [50, 50, 40, 10]
    content["annotations"][5]["bbox"] = [90, 8, 5, 9]
    content["images"][3]["width"] = 70
    data = coco(tmp_path, content)
    with pytest.raises(DatasetProblemsError) as error:
        check_dataset(data, data)
    kinds = [item.kind for item in error.value.problems]
    assert kinds[:2] == ["image-size"] * 2
    assert kinds[2:6] == ["train-val-overlap"] * 4
    assert sorted(set(kinds[6:])) == ["box-clipped", "box-empty", "box-outside"]
    content["images"][3]["width"] = 64
    remarks = check_dataset(coco(tmp_path, content))
    assert [item.text.split(" has ")[0] for item in remarks] == [
        "annotation 1 of a.jpg",
        "annotation 4 of b.jpg",
        "annotation 6 of c.jpg",
    ]
    assert "[50.0, 50.0, 40.0, 10.0]" in remarks[1].text


def test_a_box_of_a_million_pixels_ends_at_its_image() -> None:
    """Kernels that sort boxes by size end the process on it, and without Resize nothing else cuts it."""
    target = target_of([[-1e6, -1e6, 1e6, 1e6], [8, 8, 32, 24]])
    image = np.zeros((3, 64, 48), np.float32)
    sample = Sample(1, "a.jpg", image=image, image_size=(64.0, 48.0), target=target)
    assert collate([sample], with_masks=False)["boxes"].tolist() == [[[0, 0, 48, 64], [8, 8, 32, 24]]]


def test_copies_of_training_images_in_the_validation_set(tmp_path: Path) -> None:
    """Another folder and another name, but the same bytes; of equal size alone is no copy."""
    train = coco(tmp_path / "train", people.coco())
    val = coco(tmp_path / "val", people.coco())
    own = [Path(val[row].path) for row in range(4)]
    for row, path in enumerate(own):
        path.write_bytes(path.read_bytes() + bytes([row]) * 9)  # after the end of the JPEG
    assert check_dataset(train, val) == []
    own[2].write_bytes(Path(train[1].path).read_bytes())
    size = Path(train[0].path).stat().st_size
    content = Path(train[0].path).read_bytes()
    own[3].write_bytes(content[: size // 2] + bytes([content[size // 2] ^ 1]) + content[size // 2 + 1 :])
    with pytest.raises(DatasetProblemsError) as error:
        check_dataset(train, val)
    (found,) = error.value.problems
    assert found.kind == "train-val-overlap"
    assert found.text == f"{own[2]} of the validation set is a copy of {train[1].path} of the training set"


def test_stated_sizes_are_compared_with_headers(tmp_path: Path) -> None:
    content = people.coco()
    assert coco(tmp_path, content).header_problems() == ([], 4)
    content["images"][1]["height"] = 70
    (found,), compared = coco(tmp_path, content, repeat=2).header_problems()
    assert compared == 4
    assert found.text == (
        f"image id 2: {tmp_path}/images/b.jpg is 64x64 (height x width), its annotation says 70x64"
    )
    dataset = coco(tmp_path, content)
    (tmp_path / "images" / "b.jpg").write_text("moved to the archive")
    (found,), _ = dataset.header_problems()
    assert (found.kind, found.text) == (
        "image-corrupt",
        f"image id 2: the header of {tmp_path}/images/b.jpg cannot be read",
    )
