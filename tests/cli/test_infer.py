"""Protects `ppdet infer`: names come from the weights, files land as asked, bad images are named, skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.cli import main
from ppdet.experiment import trained
from ppdet.experiment.predict import drawn_names
from ppdet.utils.errors import UserError
from tests.cli.small import assert_told, command, make_project, process, save_weights
from tests.support import ROOT


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
    done = process("infer", *words, "--output_dir", "drawn", cwd=project)
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


@pytest.mark.parametrize(
    ("words", "looks"),
    [
        (["infer", "--infer_dir", "data/val2017"], 1),
        (["infer", "--infer_dir", "data/val2017", "--tta"], 6),
        (["infer", "--infer_dir", "data/val2017", "--slice_infer"], 1),
        (["eval", "--tta"], 6),
    ],
)
def test_the_runtime_is_chosen_for_all_looks(
    words: list[str],
    looks: int,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(*args: object, images: int, **kwargs: object) -> None:
        raise UserError(f"{images} to choose for")

    monkeypatch.setattr(trained, "choose_predictor", told)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(project)
    images = len(list(Path("data/val2017").iterdir()))
    assert main([*words, "-c", "small.yml", "--weights", "weights.pdparams"]) == 2
    assert f"error: {looks * images} to choose for" in capsys.readouterr().err


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


@pytest.mark.slow
def test_every_format_whatever_the_batch(project: Path) -> None:
    texts = []
    for batch in (1, 2):
        words = ("-o", "weights=weights", f"TestReader.batch_size={batch}", "--infer_dir", "data/val2017")
        more = (
            "--formats",
            "json",
            "coco",
            "csv",
            "yolo",
            "--save_threshold",
            "0.249",
            "--output_dir",
            "all",
        )
        truth = (
            "--anno_path",
            "data/annotations/instances_val2017.json",
            "--runtime",
            "native",
            "--draw_threshold=0",
        )
        done = command("infer", "-c", "small.yml", *words, *more, *truth, cwd=project)
        assert done.returncode == 0, done.stderr
        folder = project / "all"
        texts.append(
            {p.name: p.read_text("utf-8") for p in sorted(folder.rglob("*.*")) if p.suffix != ".jpg"}
        )
        coco = json.loads((folder / "coco.json").read_text("utf-8"))
        want = json.loads((project / "data/annotations/instances_val2017.json").read_text("utf-8"))
        assert {(i["id"], i["file_name"]) for i in coco["images"]} == {
            (i["id"], i["file_name"]) for i in want["images"]
        }
        assert {c["id"] for c in coco["categories"]} == {3, 7, 12}
        assert coco["annotations"]
        assert all(a["score"] >= 0.249 for a in coco["annotations"])
        lines = (folder / "detections.csv").read_text("utf-8").splitlines()
        shown = int(done.stdout.split(" images, ")[1].split()[0])
        assert len(coco["annotations"]) < shown, "the threshold leaves nothing out"
        assert len(lines) - 1 == len(coco["annotations"])
        labels = [line for p in (folder / "labels").iterdir() for line in p.read_text().splitlines()]
        assert len(labels) == len(coco["annotations"])
        # Beside each other: truth and detections.
        image = want["images"][0]
        drawn = cv2.imdecode(np.fromfile(folder / image["file_name"], np.uint8), cv2.IMREAD_COLOR)
        assert drawn is not None
        assert drawn.shape[1] > 1.9 * image["width"] * (drawn.shape[0] // image["height"])
    assert texts[0].keys() == texts[1].keys()
    rows = [json.loads(text["detections.json"]) for text in texts]
    for one, two in zip(*rows):
        assert one["image"] == two["image"]
        # A batch of two rounds differently from one of one.
        np.testing.assert_allclose(
            [thing["score"] for thing in one["objects"]],
            [thing["score"] for thing in two["objects"]],
            atol=1e-3,
        )


@pytest.mark.slow
def test_a_video_and_several_looks(project: Path) -> None:
    writer = cv2.VideoWriter(str(project / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (80, 64))
    for level in range(6):
        writer.write(np.full((64, 80, 3), 40 * level, np.uint8))
    writer.release()
    words = (
        "infer",
        "-c",
        "small.yml",
        "-o",
        "weights=weights",
        "--runtime",
        "native",
        "--video_file",
        "clip.avi",
    )
    looks = ("--tta", "--slice_infer", "--slice_size", "64", "48", "--overlap_ratio", "0.3")
    done = command(*words, *looks, "--output_dir", "video", "--formats", "json", "yolo", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "6 frames" in done.stdout
    rows = json.loads((project / "video" / "detections.json").read_text("utf-8"))
    assert [(row["image"], row["frame"]) for row in rows] == [("clip.avi", i) for i in range(6)]
    assert len(list((project / "video" / "labels").glob("clip_*.txt"))) == 6
    capture = cv2.VideoCapture(str(project / "video" / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert_told(command(*words, "--infer_dir", "data", cwd=project), "--video_file")
    assert_told(command(*words, "--slice_infer", "--slice_size", "1", "2", "3", cwd=project), "--slice_size")
    assert_told(command(*words, "--slice_infer", "--overlap_ratio", "1", cwd=project), "overlap")


@pytest.mark.slow
def test_processes_share_a_folder(project: Path) -> None:
    words = ("-c", "small.yml", "-o", "weights=weights", "--infer_dir", "data/val2017", "--runtime", "native")
    alone = command("infer", *words, "--output_dir", "one", cwd=project)
    assert alone.returncode == 0, alone.stderr
    launcher = (
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node",
        "2",
        "--backend",
        "gloo",
        "--log_dir",
        "logs",
    )
    script = (str(ROOT / "tools" / "infer.py"), *words, "--output_dir", "two", "--device", "cpu")
    done = subprocess.run(
        [sys.executable, *launcher, *script],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (json.loads((project / f / "detections.json").read_text("utf-8")) for f in ("one", "two"))
    assert [row["image"] for row in one] == [row["image"] for row in two]
    assert [row["objects"] for row in one] == [row["objects"] for row in two]
    assert len(list((project / "two").glob("*.jpg"))) == len(one) > 1


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
