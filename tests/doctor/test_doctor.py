"""Protects `ppdet doctor`: what it finds where something is wrong, and that it writes down what it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.cli import main
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.doctor import kernels, operators, trainings
from ppdet.doctor.checks import Check
from ppdet.doctor.page import page


def test_operators_of_this_machine_pass() -> None:
    assert operators.check_nms().passed is True
    assert operators.check_roi_align().passed is True


def test_an_operator_that_is_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    nms, pool = operators.batched_nms, operators.roi_align
    monkeypatch.setattr(operators, "batched_nms", lambda *given, **kw: nms(*given, **kw)[:-1])
    monkeypatch.setattr(operators, "roi_align", lambda *given, **kw: pool(*given, **kw) + 0.01)
    assert operators.check_nms().passed is False
    check = operators.check_roi_align()
    assert check.passed is False and "1.0e-02" in check.text


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    write_dataset(folder, SyntheticOptions(train=4, val=1, height=64, width=64))
    return folder


def test_a_training_is_that_of_the_processor(data: Path) -> None:
    check = trainings.check_training("quickstart_yolov3", data, "cpu", steps=3)
    assert check.passed is True, check.text
    found, expected = check.numbers["losses"], check.numbers["processor"]
    assert len(found) == len(expected) == 3 and np.isfinite(found).all()
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


def test_a_training_that_goes_wrong_fails(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([[4.0, 3.0], [4.0, 30.0], [4.0, 3.0], [float("nan"), 3.0]])
    monkeypatch.setattr(trainings, "_losses", lambda *given, **kw: next(runs))
    assert [trainings.check_training("x", data, "cpu", steps=2).passed for _ in range(2)] == [False, False]

    def broken(*given: Any, **kw: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(trainings, "_losses", broken)
    check = trainings.check_training("x", data, "cpu", steps=2)
    assert check.passed is False and check.text == "RuntimeError: no kernel"


def test_kernels_that_a_gpu_lacks_are_named() -> None:
    values = paddle.ones([2])
    with kernels.recorded() as launches:
        paddle.nn.functional.relu(values)
    assert launches["relu"]["float32"] == 1
    assert kernels.missing(launches, {}, train=True) == ["relu"]
    assert kernels.missing(launches, {"relu": ["float32"], "relu_grad": ["float64"]}, train=True) == [
        "relu_grad float32"
    ]


def test_every_family_is_trained() -> None:
    assert trainings.families() == [
        f"quickstart_{name}"
        for name in (
            "cascade_mask_rcnn",
            "faster_rcnn",
            "mask_rcnn",
            "ppyoloe",
            "retinanet",
            "rtdetr",
            "yolov3",
        )
    ]


def test_the_page_counts_what_failed() -> None:
    text = page(
        {"device": "cpu"}, [Check("a", True, "x | y"), Check("b", False, "z"), Check("c", None, "1 fps")]
    )
    assert "Of 3 checks, 1 checks failed" in text and "| b | **FAILED** | z |" in text
    assert "| a | passed | x \\| y |" in text and "| c |  | 1 fps |" in text


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "--only", "quickstart_yolov3", "--steps", "2", "--device", "cpu"]
    assert main([*words, "--output_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "device: cpu" in out and "3 checks, 0 failed" in out
    content = json.loads((tmp_path / "doctor.json").read_text("utf-8"))
    assert content["machine"]["device"] == "cpu" and len(content["checks"]) == 3
    assert "# ppdet doctor" in (tmp_path / "doctor.md").read_text("utf-8")


def test_a_check_that_fails_shows_in_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "check_nms", lambda: Check("NMS", False, "wrong"))
    words = ["doctor", "--only", "no such config", "--device", "cpu", "--output_dir", str(tmp_path)]
    assert main(words) == 1


def test_what_is_known_is_kept_when_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> Check:
        raise KeyboardInterrupt

    monkeypatch.setattr(operators, "check_roi_align", stopped)
    assert main(["doctor", "--device", "cpu", "--output_dir", str(tmp_path)]) == 130
    assert len(json.loads((tmp_path / "doctor.json").read_text("utf-8"))["checks"]) == 1


@pytest.mark.parametrize(
    ("words", "hint"), [(["--steps", "0"], "1 or more"), (["--device", "gpu:9"], "gpu:9")]
)
def test_wrong_options_are_told(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert hint in capsys.readouterr().err
