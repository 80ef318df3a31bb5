"""Protects `ppdet infer`: names come from the weights, files land as asked, bad images are named, skipped."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.cli.infer import drawn_names
from tests.cli.small import assert_told, command, make_project, save_weights


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, a config and random weights with class names."""
    folder = make_project(tmp_path_factory.mktemp("infer") / "проект")
    save_weights(folder, "weights.pdparams")
    return folder


@pytest.mark.slow
def test_folder_of_images(project: Path) -> None:
    folder = project / "图片"
    (folder / "sub").mkdir(parents=True)
    picture = np.full((50, 80, 3), 128, np.uint8)
    for name in ("ä.jpg", "b.png", "sub/ä.jpg"):
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, picture)[1].tobytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at", "utf-8")
    words = ("-c", "small.yml", "-o", "weights=weights", "--infer_dir=图片", "--draw_threshold=0")
    done = command("infer", *words, "--output_dir", "drawn", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "broken.jpg" in done.stderr
    assert "1 images could not be read" in done.stdout
    assert "3 images" in done.stdout
    rows = json.loads((project / "drawn" / "detections.json").read_text("utf-8"))
    assert sorted(row["image"] for row in rows) == ["图片/b.png", "图片/sub/ä.jpg", "图片/ä.jpg"]
    drawn = {path.relative_to(project / "drawn").as_posix() for path in (project / "drawn").rglob("*.*")}
    assert drawn == {"b.png", "ä.jpg", "sub/ä.jpg", "detections.json"}
    objects = [thing for row in rows for thing in row["objects"]]
    assert objects, "random weights find something at threshold 0.05"
    assert {thing["name"] for thing in objects} <= {"cat", "dog", "bird"}
    for thing in objects:
        x1, y1, x2, y2 = thing["box"]
        assert 0 <= x1 <= x2 <= 80
        assert 0 <= y1 <= y2 <= 50


@pytest.mark.slow
def test_names_are_never_guessed(project: Path) -> None:
    save_weights(project, "nameless.pdparams", class_names=())
    image = "data/val2017/000000000001.jpg"
    words = ("infer", "-c", "small.yml", "--weights", "nameless.pdparams", "--infer_img", image)
    assert_told(command(*words, cwd=project), "--classes")
    assert_told(command(*words, "--classes", "a,b", cwd=project), "2 class names", "3 classes")
    done = command(*words, "--classes", "x,y,z", "--save_results", "found/all.json", cwd=project)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((project / "found" / "all.json").read_text("utf-8"))
    assert row["image"] == image
    assert {thing["name"] for thing in row["objects"]} <= set("xyz")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["--infer_img"]),
        (["--infer_img", "nothing.jpg"], ["nothing.jpg", "does not exist"]),
        (["--infer_dir", "data/annotations"], ["no images"]),
        (["--infer_dir", "data/val2017", "--weights", "gone"], ["gone", "neither a file"]),
        (["--infer_dir", "data/val2017", "--output_dir", "small.yml/x"], ["small.yml/x", "--output_dir"]),
        (["--infer_img", "data/annotations/instances_val2017.json"], ["no image could be read"]),
    ],
)
def test_mistakes_are_told(project: Path, words: list[str], parts: list[str]) -> None:
    assert_told(
        command("infer", "-c", "small.yml", "-o", "weights=weights.pdparams", *words, cwd=project), *parts
    )


def test_drawn_names_are_distinct_and_writable() -> None:
    paths = ["in/a.jpg", "in/b/a.jpg", "in/d.webp", "in/d.tif", "elsewhere/a.jpg"]
    assert drawn_names(paths, "in") == {
        "in/a.jpg": "a.jpg",
        "in/b/a.jpg": "b/a.jpg",
        "in/d.webp": "d.png",
        "in/d.tif": "d_2.png",
        "elsewhere/a.jpg": "a_2.jpg",
    }
    assert drawn_names([], None) == {}
