"""Protects labels made by a detector: what annotation tools open, scores, and uncertain images first."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdet.data.formats.registry import read_any
from ppdet.data.tools.labels import UNCERTAIN, predict_labels, uncertainty
from ppdet.utils.errors import DataError, FileError
from tests.cli.small import command, make_project
from tests.serve.support import KnownDetector

#: Mean red of each image, which is the score of its dog; the cat has 0.9.
REDS = {"calm.png": 255, "more/half.png": 128, "dark.png": 0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, red in REDS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 2] = red  # OpenCV's order
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("kind", ["labelme", "cvat", "label-studio", "coco", "yolo", "voc"])
def test_every_tool_gets_what_the_detector_found(photos: Path, tmp_path: Path, kind: str) -> None:
    made = predict_labels(KnownDetector(), photos, tmp_path / "out", to=kind, score=0.4)
    assert (made.images, made.objects, made.skipped) == (3, 5, 1)  # the dog of the dark image has 0
    read = read_any(tmp_path / "out", kind)
    names = {row["id"]: row["name"] for row in read.content["categories"]}
    found = sorted(
        (names[row["category_id"]], [round(side) for side in row["bbox"]])
        for row in read.content["annotations"]
    )
    assert found == [("cat", [0, 0, 32, 48])] * 3 + [("dog", [32, 0, 32, 48])] * 2
    assert len(read.content["images"]) == 3
    for row in read.content["images"]:
        assert (read.image_dir / row["file_name"]).is_file()


def test_the_most_uncertain_images_come_first(photos: Path, tmp_path: Path) -> None:
    made = predict_labels(KnownDetector(), photos, tmp_path / "out", score=0.95)
    assert made.objects == 1  # of the calm image; those without any stay
    assert [name for name, _ in made.uncertain] == ["more/half.png", "calm.png", "dark.png"]
    assert dict(made.uncertain)["more/half.png"] == pytest.approx(0.2 + 0.996, abs=1e-3)
    with (tmp_path / "out" / UNCERTAIN).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "uncertainty", "objects"]
    assert rows[1] == ["more/half.png", "1.196", "0"]
    assert rows[2] == ["calm.png", "0.200", "1"]


@given(st.lists(st.floats(0, 1)))
def test_uncertainty_is_between_none_and_one_a_detection(scores: list[float]) -> None:
    assert 0 <= uncertainty(scores) <= len(scores)
    assert uncertainty([*scores, 0.5]) == pytest.approx(uncertainty(scores) + 1)
    assert uncertainty([*scores, 1.0]) == pytest.approx(uncertainty(scores))


def test_an_output_folder_inside_of_the_images_is_not_read(photos: Path) -> None:
    first = predict_labels(KnownDetector(), photos, photos / "out")
    assert first.images == 3
    assert (
        predict_labels(KnownDetector(), photos, photos / "again").images == 6
    )  # another folder's are images


def test_wrong_words_are_told(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: not a folder"):
        predict_labels(KnownDetector(), tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="score is 30"):
        predict_labels(KnownDetector(), photos, tmp_path / "out", score=30)
    detector = KnownDetector()
    with pytest.raises(FileError, match="exists already"):
        predict_labels(detector, photos, photos)
    assert detector.network.batches == []  # refused before work is done
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="no image could be read"):
        predict_labels(KnownDetector(), tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    assert command("train", "-c", "small.yml", "-o", "max_iters=1", cwd=folder).returncode == 0
    words = [
        "--weights",
        "output/small/model_final",
        "--output_dir",
        "out",
        "--score",
        "0",
        "--json",
        "o.json",
    ]
    words += ["--runtime", "native"]
    done = command("data", "predict-labels", "data/val2017", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "the most uncertain first" in done.stdout
    told = json.loads(Path("o.json").read_text())
    assert told["images"] == len(list(Path("out").glob("*.json")))
    assert set(json.loads(next(Path("out").glob("*.json")).read_text())) >= {"shapes", "imagePath"}
