"""Protects files of detections: every format says the same, ends properly, and can be read by others."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from ppdet.inference.results import CocoWriter, CsvWriter, JsonWriter, Result, ResultWriter, YoloWriter
from ppdet.inference.truth import TruthFile
from ppdet.inference.video import Video, VideoWriter
from ppdet.ops.masks import encode_window
from ppdet.structures import Detections
from ppdet.utils.errors import DataError, FileError

NAMES = ("cat", "dög, big")
MASK = encode_window(np.ones((20, 10), bool), 10, 20, (100, 200))


def found(*rows: tuple[float, int, list[float]], masks: bool = False) -> Detections:
    """Detections from (score, label, box)."""
    return Detections(
        0,
        np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[0] for row in rows], np.float32),
        np.array([row[1] for row in rows], np.int64),
        tuple(dict(MASK) for _ in rows) if masks else None,
    )


RESULTS = [
    Result("in/b/é.png", "b/é.png", (100, 200), found((0.9, 1, [10, 20, 30, 30]), masks=True), "out/b/é.png"),
    Result("in/empty.jpg", "empty.jpg", (50, 60), found(), "out/empty.jpg", image_id=40),
    Result("v.mp4", "v_000003.jpg", (100, 200), found((0.5, 0, [0, 0, 200, 100])), "out/v.mp4", frame=3),
]


def written(writer: Any, results: list[Result]) -> None:
    """All results through a writer."""
    with writer:
        for result in results:
            writer.write(result)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json(tmp_path: Path, count: int) -> None:
    path = tmp_path / "d.json"
    written(JsonWriter(path, NAMES), RESULTS[:count])
    rows = json.loads(path.read_text("utf-8"))
    assert len(rows) == count
    if count == 3:
        (thing,) = rows[0]["objects"]
        assert thing == {
            "name": "dög, big",
            "label": 1,
            "score": 0.9,
            "box": [10, 20, 30, 30],
            "mask": {"size": [100, 200], "counts": MASK["counts"].decode()},
        }
        assert [("frame" in row, row["drawn"]) for row in rows] == [
            (False, "out/b/é.png"),
            (False, "out/empty.jpg"),
            (True, "out/v.mp4"),
        ]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_coco_can_be_read_by_pycocotools(tmp_path: Path, count: int) -> None:
    path = tmp_path / "coco.json"
    written(CocoWriter(path, NAMES, [7, 3] if count == 3 else None), RESULTS[:count])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert len(coco.imgs) == count
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(NAMES)
    if count == 3:
        assert {i: row["file_name"] for i, row in coco.imgs.items()} == {
            1: "b/é.png",
            40: "empty.jpg",
            2: "v_000003.jpg",
        }
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
        assert annotation["bbox"] == [10, 20, 20, 10]
        assert annotation["category_id"] == 3
        assert annotation["score"] == 0.9
        assert coco.annToMask(annotation).sum() == 200
        assert coco.getAnnIds(imgIds=[40]) == []


def test_csv(tmp_path: Path) -> None:
    written(CsvWriter(tmp_path / "d.csv", NAMES), RESULTS)
    with (tmp_path / "d.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["image", "frame", "label", "name", "score", "x1", "y1", "x2", "y2"],
        ["in/b/é.png", "", "1", "dög, big", "0.90000", "10.00", "20.00", "30.00", "30.00"],
        ["v.mp4", "3", "0", "cat", "0.50000", "0.00", "0.00", "200.00", "100.00"],
    ]


def test_yolo(tmp_path: Path) -> None:
    written(YoloWriter(tmp_path / "labels", NAMES), RESULTS)
    texts = {
        p.relative_to(tmp_path / "labels").as_posix(): p.read_text()
        for p in (tmp_path / "labels").rglob("*.txt")
    }
    assert texts == {
        "b/é.txt": "1 0.100000 0.250000 0.100000 0.100000 0.90000\n",
        "empty.txt": "",
        "v_000003.txt": "0 0.500000 0.500000 1.000000 1.000000 0.50000\n",
    }


def annotation_file(tmp_path: Path, **changes: Any) -> Path:
    """An annotation file of two images."""
    content: dict[str, Any] = {
        "images": [
            {"id": 5, "file_name": "a/x.jpg", "height": 100, "width": 200},
            {"id": 6, "file_name": "y.jpg", "height": 100, "width": 200},
        ],
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "unknown"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 9, "bbox": [10, 20, 20, 10], "area": 200, "iscrowd": 0,
             "segmentation": [[10, 20, 30, 20, 30, 30, 10, 30]]},
            {"id": 2, "image_id": 5, "category_id": 4, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0,
             "segmentation": {"size": [100, 200], "counts": MASK["counts"].decode()}},
        ],
    }  # fmt: skip
    path = tmp_path / "anno.json"
    path.write_text(json.dumps({**content, **changes}), "utf-8")
    return path


def test_truth_is_found_by_name(tmp_path: Path) -> None:
    truth = TruthFile(annotation_file(tmp_path), NAMES)
    assert truth.category_ids == [9, 11]
    for path in ("data/a/x.jpg", "a/x.jpg", "x.jpg"):
        known = truth.of(path, (100, 200))
        assert known is not None
        assert known.image_id == 5
        assert known.objects.boxes.tolist() == [[10, 20, 30, 30]]
        assert known.objects.labels.tolist() == [0]
        assert known.objects.masks is not None
    empty = truth.of("elsewhere/y.jpg", (100, 200))
    assert empty is not None
    assert len(empty.objects) == 0
    assert truth.of("z.jpg", (1, 1)) is None
    both = TruthFile(annotation_file(tmp_path), ("unknown", "cat")).of("x.jpg", (100, 200))
    assert both is not None
    assert both.objects.labels.tolist() == [1, 0]
    assert both.objects.masks is not None
    assert both.objects.masks[1]["counts"] == MASK["counts"]


def test_a_crowd_region_without_mask_is_drawn_as_a_box(tmp_path: Path) -> None:
    row = {"id": 1, "image_id": 5, "category_id": 9, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1}
    known = TruthFile(annotation_file(tmp_path, annotations=[row]), NAMES).of("x.jpg", (100, 200))
    assert known is not None
    assert known.objects.boxes.tolist() == [[0, 0, 9, 9]]
    assert known.objects.masks is None


@pytest.mark.parametrize("kind", [JsonWriter, CocoWriter, CsvWriter])
def test_an_earlier_file_stays_until_the_new_one_is_complete(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "results"
    path.write_text("earlier")
    with kind(path, NAMES) as writer:
        writer.write(RESULTS[0])
        assert path.read_text() == "earlier"
    assert path.read_text("utf-8") != "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_truth_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its classes"):
        TruthFile(annotation_file(tmp_path), ("horse",))
    with pytest.raises(DataError, match="image_id 77"):
        broken = [{"id": 1, "image_id": 77, "category_id": 9, "bbox": [0, 0, 1, 1]}]
        TruthFile(annotation_file(tmp_path, annotations=broken), NAMES)


def test_a_video_is_read_as_it_was_written(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v", 10)
    for level in range(0, 200, 20):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 0] = level
        writer.write(frame)
    writer.write(np.zeros((24, 32, 3), np.uint8))
    writer.close()
    video = Video(str(writer.path))
    assert (len(video), video.rate) == (11, 10)
    frames = list(video)
    assert [frame.image_id for frame in frames] == list(range(11))
    assert all(frame.image is not None and frame.image.shape == (48, 64, 3) for frame in frames)
    red = [float(frame.image[..., 0].mean()) for frame in frames if frame.image is not None]
    np.testing.assert_allclose(red[:10], range(0, 200, 20), atol=12)
    with pytest.raises(DataError, match="does not exist"):
        Video(str(tmp_path / "gone.mp4"))
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="no video"):
        Video(str(tmp_path / "x.mp4"))


@pytest.mark.parametrize("writer", [JsonWriter, CocoWriter, CsvWriter])
@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_breaks_off_leaves_an_earlier_file(
    tmp_path: Path, writer: type[ResultWriter], reason: type[BaseException]
) -> None:
    path = tmp_path / "out.json"
    with writer(path, NAMES) as good:
        for result in RESULTS:
            good.write(result)
    before = path.read_bytes()
    with pytest.raises(reason), writer(path, NAMES) as broken:
        broken.write(RESULTS[0])
        raise reason
    assert path.read_bytes() == before
    partial = tmp_path / "out.incomplete.json"
    assert 0 < len(partial.read_bytes()) < len(before)
    assert sorted(tmp_path.iterdir()) == [partial, path]
    if writer is not CsvWriter:
        json.loads(partial.read_text())


@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_labels_of_a_run_that_breaks_off_are_not_mixed_with_earlier_ones(
    tmp_path: Path, reason: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def texts(folder: Path) -> dict[str, str]:
        return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.txt")}

    path = tmp_path / "labels"
    with YoloWriter(path, NAMES) as good:
        for result in RESULTS:
            good.write(result)
    before = texts(path)
    other = RESULTS[0]._replace(detections=found((0.2, 0, [0, 0, 20, 10])))
    with pytest.raises(reason), YoloWriter(path, NAMES) as broken:
        broken.write(other)
        raise reason
    assert texts(path) == before
    line = "0 0.050000 0.050000 0.100000 0.100000 0.20000\n"
    assert texts(tmp_path / "labels.incomplete") == {"b/é.txt": line}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels", "labels.incomplete"]
    assert "not of this run" not in caplog.text
    with YoloWriter(path, NAMES) as second:
        second.write(other)
    assert texts(path) == {**before, "b/é.txt": line}
    assert f"{path}: 2 text files are not of this run" in caplog.text


def test_labels_never_replace_annotations(tmp_path: Path) -> None:
    """`infer --output_dir` of the folder of a YOLO dataset, whose annotations are in `labels` too."""
    path = tmp_path / "labels" / "val" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(FileError, match=r"val/a\.txt: has 5 columns, .*; choose another --output_dir"):
        YoloWriter(tmp_path / "labels", NAMES)
    assert path.read_text() == "0 0.5 0.5 0.1 0.1\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "labels"]
    for content in ("", "0 0.5 0.5 0.1 0.1 0.9\n", "cat\n"):
        path.write_text(content)
        written(YoloWriter(tmp_path / "labels", NAMES), RESULTS[:1])


def test_images_beyond_the_annotation_file_get_ids_beyond_its_own(tmp_path: Path) -> None:
    """An image that the file lacks must not take the id of one that it has."""
    truth = TruthFile(annotation_file(tmp_path), NAMES)
    with CocoWriter(tmp_path / "c.json", NAMES, truth.category_ids, truth.free_id) as out:
        out.write(Result("x.jpg", "x.jpg", (50, 60), found(), ""))
        out.write(Result("y.jpg", "y.jpg", (50, 60), found(), "", image_id=5))
        out.write(Result("z.jpg", "z.jpg", (50, 60), found(), ""))
    ids = [image["id"] for image in json.loads((tmp_path / "c.json").read_text())["images"]]
    assert ids[1] == 5
    assert len(set(ids)) == 3
    assert min(ids[0], ids[2]) >= truth.free_id > 5
