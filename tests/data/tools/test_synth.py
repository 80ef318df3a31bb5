"""Protects the synthetic dataset: the same for the same seed, valid COCO, boxes and masks of what is seen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from ppdet.cli import main
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.shapes import CLASSES, HUES, SCENES, draw_picture, outline
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.utils.errors import DataError

SMALL = SyntheticOptions(train=12, val=4, height=96, width=128, seed=3)
FIELDS = ["gt_bbox", "gt_class", "gt_poly"]


def digest(folder: Path) -> str:
    content = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    return hashlib.sha256(content).hexdigest()


def load(folder: Path, split: str, **arguments: object) -> COCODataSet:
    return COCODataSet(
        dataset_dir=str(folder),
        image_dir=split,
        anno_path=f"annotations/instances_{split}.json",
        data_fields=FIELDS,
        **arguments,  # type: ignore[arg-type]
    )


def test_same_seed_same_files_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    assert write_dataset(tmp_path / "a", SMALL)
    assert write_dataset(tmp_path / "b", SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert not write_dataset(tmp_path / "a", SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    other = SyntheticOptions(train=2, val=1, height=96, width=128, seed=4)
    assert write_dataset(tmp_path / "a", other)
    assert len(list((tmp_path / "a" / "train").iterdir())) == 2
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_an_unfinished_dataset_is_made_again_and_other_files_are_left_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", SMALL)
    whole = digest(tmp_path / "a")
    (tmp_path / "a" / "synthetic.json").unlink()
    (tmp_path / "a" / "train" / "train_00001.jpg").write_bytes(b"half")
    assert write_dataset(tmp_path / "a", SMALL)
    assert digest(tmp_path / "a") == whole
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="photos is not empty"):
        write_dataset(tmp_path / "photos", SMALL)
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["mine.jpg"]


def test_it_passes_the_check_and_pycocotools(tmp_path: Path) -> None:
    write_dataset(tmp_path, SMALL)
    train = load(tmp_path, "train")
    val = load(tmp_path, "val", categories=train.categories)
    assert train.categories.names == CLASSES
    check_dataset(train, val, num_classes=len(CLASSES), with_masks=True, decode=True)
    coco = COCO(str(tmp_path / "annotations" / "instances_train.json"))
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.25, abs=10)
        x, y, w, h = cv2.boundingRect(mask)
        assert np.abs(np.array([x, y, w, h]) - annotation["bbox"]).max() <= 1.5


def test_pictures_have_all_classes_overlaps_and_empty_images() -> None:
    labels: set[int] = set()
    empty = overlaps = 0
    for seed in range(60):
        picture, objects = draw_picture((96, 128), np.random.default_rng(seed))
        assert picture.shape == (96, 128, 3)
        assert picture.dtype == np.uint8
        assert 20 < picture.mean() < 235
        labels |= {item.label for item in objects}
        empty += not objects
        boxes = np.array([item.box for item in objects]).reshape(-1, 4)
        assert (boxes[:, 2:] - boxes[:, :2] >= 3).all()
        assert (boxes >= 0).all()
        assert (boxes <= [128, 96, 128, 96]).all()
        for first in range(len(boxes)):
            for second in range(first):
                low = np.maximum(boxes[first, :2], boxes[second, :2])
                high = np.minimum(boxes[first, 2:], boxes[second, 2:])
                overlaps += bool((high > low).all())
    assert labels == set(range(len(CLASSES)))
    assert empty > 0
    assert overlaps > 10


@pytest.mark.parametrize("name", HUES)
def test_outlines_fit_the_unit_circle(name: str) -> None:
    for seed in range(20):
        points = outline(name, np.random.default_rng(seed))
        assert 0.9 < np.hypot(*points.T).max() <= 1.0 + 1e-9


@pytest.mark.parametrize("change", [{"train": 0}, {"val": 0}, {"height": 20}, {"seed": -1}])
def test_options_out_of_range(change: dict[str, int]) -> None:
    with pytest.raises(DataError):
        SyntheticOptions(**change)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "made")
    size = ["--train", "5", "--val", "2", "--height", "64", "--width", "64"]
    assert main(["data", "synth", folder, *size]) == 0
    assert "written, 5 + 2 images" in capsys.readouterr().out
    assert main(["data", "synth", folder, *size]) == 0
    assert "is there already" in capsys.readouterr().out
    where = [
        "--dataset_dir",
        folder,
        "--anno_path",
        "annotations/instances_train.json",
        "--image_dir",
        "train",
    ]
    val = ["--val_anno_path", "annotations/instances_val.json", "--val_image_dir", "val"]
    assert main(["data", "check", *where, *val, "--masks", "--decode", "--num_classes", "6"]) == 0
    assert "no problems found" in capsys.readouterr().out
    assert main(["data", "check", *where, "--num_classes", "7"]) == 2
    assert "num-classes" in capsys.readouterr().err
    assert main(["data", "stats", *where, "--json", str(tmp_path / "stats.json")]) == 0
    assert json.loads((tmp_path / "stats.json").read_text("utf-8"))["train"]["images"] == 5
    (tmp_path / "made" / "train" / "train_00002.jpg").write_bytes(b"")
    assert main(["data", "check", *where, "--decode"]) == 2
    assert "train_00002.jpg" in capsys.readouterr().err


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """Share of each box that others cover at most, one by one, ``[A]``."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    np.fill_diagonal(shared, 0)
    covered: np.ndarray = shared.max(axis=1, initial=0) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return covered


def _gaps(boxes: np.ndarray) -> np.ndarray:
    """Pixels from each box to the nearest other one, ``[A]``."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    gaps = np.maximum(low - high, 0).max(axis=2)
    np.fill_diagonal(gaps, np.inf)
    nearest: np.ndarray = gaps.min(axis=1)
    return nearest


def test_scenes_are_what_they_are_called() -> None:
    found: dict[str, dict[str, float]] = {}
    for name, scene in SCENES.items():
        sides, covered, gaps, counts = [], [], [], []
        for seed in range(12):
            _, objects = draw_picture((240, 320), np.random.default_rng(seed), scene)
            counts.append(len(objects))
            if len(objects) > 1:
                boxes = np.array([item.box for item in objects])
                sides += np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)).tolist()
                covered += _overlaps(boxes).tolist()
                gaps += _gaps(boxes).tolist()
        found[name] = {
            "count": float(np.mean(counts)),
            "side": float(np.median(sides)),
            "ratio": float(np.quantile(sides, 0.95) / np.quantile(sides, 0.05)),
            "covered": float((np.array(covered) > 0.3).mean()),
            "beside": float((np.array(gaps) < 2).mean()),
        }
    mixed = found["mixed"]
    assert found["occluded"]["covered"] > 2 * mixed["covered"]
    assert found["scales"]["ratio"] > 2 * mixed["ratio"]
    assert found["small"]["count"] > 5 * mixed["count"]
    assert found["small"]["side"] < 20 < mixed["side"]
    assert found["touching"]["beside"] > 0.6
    assert found["touching"]["covered"] < found["occluded"]["covered"]


def test_a_scene_of_no_name_is_told() -> None:
    with pytest.raises(DataError, match="no scene 'easy'; there are mixed, occluded"):
        SyntheticOptions(scene="easy")


def test_pictures_of_the_quickstart_stay_as_they_were() -> None:
    """Figures of docs and configs are of these; the digest is of objects, since pixels depend on OpenCV."""
    objects = [draw_picture((128, 128), np.random.default_rng([0, 0, n]))[1] for n in range(8)]
    text = json.dumps([[[item.label, *item.box] for item in one] for one in objects])
    assert [len(one) for one in objects] == [4, 1, 3, 7, 6, 1, 2, 1]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "6f17b74fa2b70a26"
