"""Protects the comparison of APs: an export whose AP differs is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppdet import build_model, load_config
from ppdet.experiment import verify_ap as module
from ppdet.experiment.build import require
from ppdet.experiment.trained import CheckpointDetector
from ppdet.experiment.verify_ap import verify_ap
from ppdet.export.bundle import export_model
from ppdet.export.errors import VerifyError
from ppdet.export.info import FILE_NAME, describe
from ppdet.export.verify import generated_images, prepare
from tests.cli.small import NAMES, command, make_project, save_weights


@pytest.mark.slow
def test_ap_of_model_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    experiment = load_config("small.yml")
    model = build_model(experiment)
    reader = require(experiment, "TestReader").build()
    folder = tmp_path / "export"
    batches = prepare(reader, generated_images())
    export_model(model, folder, describe(model, reader, NAMES), formats=["paddle"], batches=batches)
    detector = CheckpointDetector(model, experiment, class_names=NAMES)
    table = verify_ap(detector, folder, ["paddle"])
    assert [line.split()[0] for line in table.splitlines()] == ["AP", "native", "paddle", "limit"]

    # Weights from nowhere find nothing, so numbers are put in their place.
    for found, passes in ((0.4009, True), (0.3985, False), (0.4015, False)):
        numbers = iter([0.4, found])
        monkeypatch.setattr(module, "evaluate", lambda *_: {"bbox": {"AP": next(numbers), "AP50": 0.5}})  # noqa: B023
        if passes:
            assert "40.090" in verify_ap(detector, folder, ["paddle"])
            continue
        description = (folder / FILE_NAME).read_text("utf-8")
        with pytest.raises(VerifyError, match=f"{100 * found:.3f}"):
            verify_ap(detector, folder, ["paddle"])
        assert not (folder / FILE_NAME).exists()
        (folder / FILE_NAME).write_text(description, "utf-8")


@pytest.mark.slow
def test_the_command_takes_it(tmp_path: Path) -> None:
    make_project(tmp_path)
    save_weights(tmp_path, "w.pdparams")
    words = ("export", "-c", "small.yml", "--weights", "w", "--verify_ap", "--output_dir", "out")
    done = command(*words, "--formats", "paddle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "AP on 2 images" in done.stdout
    assert command(*words, "--no-verify", cwd=tmp_path).returncode == 2
