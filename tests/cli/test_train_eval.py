"""Protects the main job: train, evaluate and infer with the checkpoint, through the commands a user types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ppdet import load_config
from ppdet.zoo import read_metadata
from tests.cli.small import NAMES, assert_told, command, make_project, process, save_weights


@pytest.mark.slow
def test_train_then_eval_then_infer(tmp_path: Path) -> None:
    make_project(tmp_path)
    done = process("train", "-c", "small.yml", "--eval", "-o", "LearningRate.base_lr=0.02", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trained 4 steps" in done.stdout
    run = tmp_path / "output/small"
    resolved = load_config(run / "config.yml")
    assert resolved.LearningRate is not None
    assert resolved.LearningRate.arguments["base_lr"] == 0.02
    again = load_config(tmp_path / "small.yml", overrides=["LearningRate.base_lr=0.02", "filename=small"])
    assert resolved.to_yaml() == again.to_yaml()
    assert "base_lr: 0.02  # override" in re.sub(" +#", "  #", (run / "config.yml").read_text("utf-8"))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [record["step"] for record in records if record["kind"] == "train"]
    assert steps == [1, 2, 3, 4]
    assert "step 4/4" in (run / "train.log").read_text("utf-8")
    assert "The training is complete" in (run / "report.html").read_text("utf-8")
    assert json.loads((run / "run.json").read_text("utf-8"))["last_step"] == 4
    assert len(list((run / "pictures").rglob("*.jpg"))) == 4  # two images, two evaluations
    metadata = read_metadata(run / "model_final.pdparams")
    assert metadata.class_names == NAMES
    assert metadata.step == 4

    words = (
        "--weights",
        "output/small/model_final",
        "--json",
        "out/metrics.json",
        "--save_results",
        "out/found.json",
        "--report",
        "out/page.html",
    )
    done = command("eval", "-c", "small.yml", *words, "--classwise", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text("utf-8"))
    assert set(metrics["bbox"]) >= {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"}
    assert set(metrics["fps"]["split_ms"]) == {"read", "preprocess", "forward", "post"}
    assert metrics["fps"]["fps"] > 0
    assert metrics["analysis"]["numbers"]["AP"]["value"] == pytest.approx(metrics["bbox"]["AP"], abs=1e-9)
    page = (tmp_path / "out/page.html").read_text("utf-8")
    assert "<h1>small/model_final</h1>" in page and page.count("data:image/webp") == 2
    assert set(metrics["classwise"]["bbox"]) == set(NAMES)
    assert all(name in done.stdout for name in NAMES)
    for row in json.loads((tmp_path / "out/found.json").read_text("utf-8")):
        assert row["category_id"] in {3, 7, 12}
        assert row["image_id"] in {1, 2}

    words = ("--weights", "output/small/model_final", "--infer_dir", "data/val2017")
    done = process("infer", "-c", "small.yml", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "output/detections.json").read_text("utf-8"))) == 2


@pytest.mark.slow
def test_resume_goes_on(tmp_path: Path) -> None:
    make_project(tmp_path)
    assert command("train", "-c", "small.yml", "-o", "epoch=1", cwd=tmp_path).returncode == 0
    done = command("train", "-c", "small.yml", "-r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 2" in done.stderr
    assert "step 3/4" in done.stderr
    assert "step 1/4" not in done.stderr
    assert_told(command("train", "-c", "small.yml", "-r", "nowhere", cwd=tmp_path), "nowhere")


@pytest.mark.slow
def test_dry_run_builds_everything_and_writes_nothing(tmp_path: Path) -> None:
    make_project(tmp_path)
    words = (
        "--dry-run",
        "-o",
        "reference_batch_size=8",
        "pretrain_weights=https://example.org/never-fetched.pdparams",
    )
    done = command("train", "-c", "small.yml", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in (
        "FasterRCNN",
        "4 images",
        "2 images",
        "3: cat, dog, bird",
        "2 steps per epoch, 4 steps in all",
        "0.00025 at first, 0.00138 at most",
        "x0.25",
        "never-fetched.pdparams (to be downloaded)",
    ):
        assert part in done.stdout, done.stdout
    assert not (tmp_path / "output").exists()
    done = command(
        "train", "-c", "small.yml", "--dry-run", "-o", "pretrain_weights=gone.pdparams", cwd=tmp_path
    )
    assert_told(done, "gone.pdparams", "there is no such file")


@pytest.mark.slow
def test_eval_matches_classes_by_name(tmp_path: Path) -> None:
    make_project(tmp_path)
    save_weights(tmp_path, "w.pdparams", class_names=("fish", "dog", "bird"))
    assert_told(
        command("eval", "-c", "small.yml", "--weights", "w", cwd=tmp_path), "'cat'", "fish, dog, bird"
    )
    save_weights(tmp_path, "w.pdparams", class_names=("bird", "cat", "dog"))
    done = command("eval", "-c", "small.yml", "--weights", "w", "-o", "EvalReader.batch_size=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_eval_without_weights_is_told(tmp_path: Path) -> None:
    make_project(tmp_path)
    assert_told(command("eval", "-c", "small.yml", cwd=tmp_path), "--weights")


@pytest.mark.slow
def test_eval_with_several_looks(tmp_path: Path) -> None:
    make_project(tmp_path)
    save_weights(tmp_path, "w.pdparams")
    words = ("eval", "-c", "small.yml", "--weights", "w", "--runtime", "native", "--save_results", "d.json")

    def results(*more: str) -> list[dict[str, Any]]:
        done = command(*words, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads((tmp_path / "d.json").read_text())
        return found

    plain = results()
    assert plain
    assert results("--slice_infer", "--slice_size", "1000") == plain
    assert results("--tta") != plain
    sizes = "{MultiscaleTestResize: {origin_target_size: [64, 64], target_size: [48], use_flip: true}}"
    steps = f"EvalReader.sample_transforms.1={sizes}"
    one, two = (results("-o", steps, f"EvalReader.batch_size={batch}") for batch in (1, 2))
    assert one != plain
    assert len(one) == pytest.approx(len(two), abs=2)  # batches round differently
