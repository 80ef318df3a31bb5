"""Protects `ppdet configs`, and what is said where PaddlePaddle or OpenCV is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.cli import main
from ppdet.utils.packages import MissingPackageError, missing_package
from tests.support import ROOT

#: Runs a program as if neither package was installed.
WITHOUT = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {missing} else real(name, *rest)
"""


def without(missing: set[str], program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that cannot import some packages."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing) + program],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_list_show_and_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["configs", "list", "yolov3_tiny"]) == 0
    assert capsys.readouterr().out.startswith("yolov3_tiny_coco  YOLOv3-tiny")
    assert main(["configs", "show", "yolov3_tiny_coco"]) == 0
    shown = capsys.readouterr().out
    assert main(["configs", "copy", "yolov3_tiny_coco", "mine/tiny.yml"]) == 0
    assert Path("mine/tiny.yml").read_text("utf-8") == shown
    capsys.readouterr()
    assert main(["config", "mine/tiny.yml", "--no-origins"]) == 0, "its _BASE_ files are still found"
    capsys.readouterr()
    for words, message in (
        (["copy", "yolov3_tiny_coco", "mine/tiny.yml"], "exists already"),
        (["show", "yolov3_tiny_cocoo"], "did you mean 'yolov3_tiny_coco'"),
        (["list", "yolov9"], "no configuration has 'yolov9' in its name"),
    ):
        assert main(["configs", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_cure(tmp_path: Path) -> None:
    program = "from ppdet.cli import main; sys.exit(main(sys.argv[1:] or {}))"
    for missing, words in ({"paddle"}, ["weights", "list"]), ({"cv2"}, ["infer", "--weights", "x"]):
        done = without(missing, program.format(words), tmp_path)
        (name,) = missing
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert f"is not installed ({name}); pip install 'ppdet[cpu]'" in done.stderr
    done = without({"paddle", "cv2"}, program.format(["configs", "list"]), tmp_path)
    assert done.returncode == 0, done.stderr
    done = without({"cv2"}, "import ppdet; print(ppdet.UserError)\nppdet.train('x')", tmp_path)
    assert done.stderr.splitlines()[-1].endswith(
        "MissingPackageError: OpenCV is not installed (cv2); pip install 'ppdet[cpu]', or any build of OpenCV"
    )


def test_other_missing_modules_stay_what_they_are() -> None:
    error = ModuleNotFoundError("No module named 'mine'", name="mine")
    assert missing_package(error) is error
    named = missing_package(ModuleNotFoundError("No module named 'onnxruntime.x'", name="onnxruntime.x"))
    assert isinstance(named, MissingPackageError)
    assert "ppdet[export]" in str(named)
