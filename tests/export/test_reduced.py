"""Protects exports of less precision: smaller, evaluated before and after, refused where they cost much."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ppdet
from ppdet.cli import main
from ppdet.experiment import reduced
from ppdet.experiment.reduced import export_reduced
from ppdet.experiment.trained import CheckpointDetector
from ppdet.export.errors import VerifyError
from ppdet.utils.errors import UserError
from tests.cli.small import make_project
from tests.support import requires_onnx, requires_openvino

pytestmark = [requires_onnx, requires_openvino, pytest.mark.slow]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has seen two steps, beside its data."""
    folder = make_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "-c", "small.yml", "-o", "max_iters=2"]) == 0
    return folder / "output" / "small" / "model_final.pdparams"


@pytest.fixture(scope="module")
def float32(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is reduced."""
    folder = tmp_path_factory.mktemp("float32") / "exported"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(weights.parents[2])
        ppdet.load_detector(weights).export(folder, formats=["openvino"])
    return folder


@pytest.fixture
def project(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = weights.parents[2]
    monkeypatch.chdir(folder)
    return folder


def size(folder: Path) -> int:
    return (folder / "model.bin").stat().st_size


def test_half_and_int8_are_smaller_and_say_what_they_cost(
    project: Path, weights: Path, float32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--weights", str(weights), "--formats", "openvino", "--max_ap_loss", "100"]
    for precision, most in (("float16", 0.55), ("int8", 0.5)):
        place = tmp_path / precision
        more = ["--calibration", "data/train2017"] if precision == "int8" else []
        assert main([*words, "--precision", precision, "--output_dir", str(place), *more]) == 0
        shown = capsys.readouterr().out
        assert "AP on" in shown
        assert "float32" in shown
        assert size(place) < most * size(float32)
        said = json.loads((place / "export.json").read_text("utf-8"))["verified"]["openvino"]
        assert said["precision"] == precision
        assert set(said["ap"]) == set(said["ap_float32"]) == {"bbox"}
        found = ppdet.load_detector(place)(str(project / "data" / "val2017"))
        assert len(found) == len(list((project / "data" / "val2017").iterdir()))


def test_what_costs_too_much_is_refused_and_leaves_nothing(
    project: Path, weights: Path, float32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(detector: CheckpointDetector, folder: Path, *, formats: list[str]) -> None:
        assert formats == ["openvino"]
        shutil.copytree(float32, folder)

    monkeypatch.setattr(CheckpointDetector, "export", copied)  # it would be the same, seconds later
    detector = ppdet.load_detector(weights)
    place = tmp_path / "kept"
    shutil.copytree(float32, place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    measured = {"float32": {"bbox": 0.42}, "float16": {"bbox": 0.40}}
    monkeypatch.setattr(reduced, "average_precisions", lambda detector, predictors: (measured, 4))
    with pytest.raises(VerifyError, match="float16 costs more than 1 AP"):
        export_reduced(detector, place, "float16", max_ap_loss=1.0)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert "42.00" in export_reduced(detector, place, "float16", max_ap_loss=2.5)


def test_wrong_words_are_told(project: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "--weights", str(weights), "--precision", "int8"]
    assert main(words) == 2
    assert "is for --formats openvino" in capsys.readouterr().err
    with pytest.raises(UserError, match="--calibration"):
        export_reduced(ppdet.load_detector(weights), project / "out", "int8")
    assert not (project / "out").exists()
