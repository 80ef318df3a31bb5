"""Protects newcomers: common mistakes end with status 2 and one screen that names the thing and the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest

from tests.cli.small import assert_told, command, make_project, process

ANNOTATIONS = "data/annotations/instances_train2017.json"


def in_config(old: str, new: str) -> Callable[[Path], None]:
    """A mistake in the YAML."""

    def make(folder: Path) -> None:
        path = folder / "small.yml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return make


def cut_image(folder: Path) -> None:
    """A download that stopped."""
    path = folder / "data/train2017/000000000002.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def empty_annotations(folder: Path) -> None:
    """An export that failed."""
    (folder / ANNOTATIONS).write_text("", "utf-8")


def no_images(folder: Path) -> None:
    """Annotations of nothing."""
    path = folder / ANNOTATIONS
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "images": [], "annotations": []}), "utf-8")


def other_validation_class(folder: Path) -> None:
    """A class that training does not know."""
    path = folder / "data/annotations/instances_val2017.json"
    path.write_text(path.read_text("utf-8").replace('"dog"', '"dogs"'), "utf-8")


def missing_image(folder: Path) -> None:
    """An image that was not copied."""
    (folder / "data/train2017/000000000003.jpg").unlink()


def file_in_the_way(folder: Path) -> None:
    """The output folder cannot be made."""
    (folder / "output").write_text("a file", "utf-8")


CASES = {
    "misspelt key": (in_config("depth: 18", "dpeth: 18"), ["small.yml:20", "ResNet", "'dpeth'", "'depth'"]),
    "misspelt top-level key": (
        in_config("log_iter: 1", "log_itre: 1"),
        ["small.yml:6", "'log_itre'", "'log_iter'"],
    ),
    "wrong type": (in_config("epoch: 2", "epoch: two"), ["small.yml:4", "epoch", "an integer", "two"]),
    "two mistakes": (
        in_config("epoch: 2\nworker_num: 0", "epoch: two\nworker_nmu: 0"),
        ["2 problems", "small.yml:4", "small.yml:5"],
    ),
    "no dataset folder": (
        in_config("dataset_dir: data", "dataset_dir: dta"),
        ["dta", "does not exist", "dataset_dir"],
    ),
    "corrupt image": (cut_image, ["000000000002.jpg", "cut short"]),
    "missing image": (missing_image, ["000000000003.jpg"]),
    "number of classes": (
        in_config("num_classes: 3", "num_classes: 4"),
        ["3 categories", "cat, dog, bird", "num_classes is 4", "small.yml:3"],
    ),
    "class of validation": (other_validation_class, ["instances_val2017.json", "'dogs'", "'dog'"]),
    "empty annotation file": (empty_annotations, ["instances_train2017.json", "empty"]),
    "no images": (no_images, ["instances_train2017.json", "images"]),
    "unwritable output": (file_in_the_way, ["output/small", "save_dir"]),
}


@pytest.mark.parametrize("case", CASES)
def test_mistake_is_told(case: str, tmp_path: Path) -> None:
    make_mistake, parts = CASES[case]
    make_project(tmp_path)
    make_mistake(tmp_path)
    assert_told(command("train", "-c", "small.yml", "--eval", cwd=tmp_path), *parts)


@pytest.mark.slow
def test_corrupt_image_is_told_by_loading_processes_too(tmp_path: Path) -> None:
    make_project(tmp_path)
    cut_image(tmp_path)
    words = ("train", "-c", "small.yml", "-o", "worker_num=2")
    assert_told(process(*words, cwd=tmp_path), "000000000002.jpg", "cut short")


@pytest.mark.slow
def test_debug_shows_where_it_happened(tmp_path: Path) -> None:
    make_project(tmp_path)
    done = process("train", "-c", "small.yml", "-o", "epoch=two", "--debug", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "override" in done.stderr


def test_config_that_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    make_project(tmp_path)
    assert_told(command("train", "-c", "smal.yml", cwd=tmp_path), "smal.yml", "small.yml")
