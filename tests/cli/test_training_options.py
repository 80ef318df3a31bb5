"""Protects what a config and the command line can ask of training: each key arrives and does what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from ppdet import load_config
from ppdet.data.transforms.decode import Decode
from ppdet.experiment.build import build_dataset, build_training, train_settings
from ppdet.experiment.evaluate import training_evaluation
from ppdet.experiment.run import PICTURE_THRESHOLD, Pictures, build_hooks, build_trainer
from ppdet.inference.drawing import draw_detections
from ppdet.structures import Detections
from ppdet.utils.colours import class_colour
from ppdet.utils.errors import TrainingError
from ppdet.utils.scores import flatten
from tests.cli.small import assert_told, command, make_project
from tests.engine.test_sinks import tensorboard_values
from tests.support import ROOT

HOOKS = """\
from ppdet import register
from ppdet.engine.hooks import Hook


@register
class Poison(Hook):
    def __init__(self, *, at: int = 0) -> None:
        self.at = at

    def before_train(self, trainer):
        batch_of, hook = trainer._windows, self

        def windows():
            for window in batch_of():
                if trainer.progress.step == hook.at:
                    window[0].targets.boxes[0, 0, 2] = float("inf")
                yield window

        trainer._windows = windows
"""


def test_every_key_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    wanted = {
        "accumulate": 2,
        "snapshot_iter": 3,
        "eval_iter": 4,
        "best_metric": "bbox.AP50",
        "best_is": "min",
        "patience": 5,
        "max_skipped": 6,
    }
    overrides = [f"{key}={value}" for key, value in wanted.items()]
    overrides += ["use_ema=true", "ema_decay=0.5", "ema_decay_type=normal", "amp=true", "amp_dtype=bfloat16"]
    settings = train_settings(load_config("small.yml", overrides=overrides))
    assert {key: getattr(settings, key) for key in wanted} == wanted
    assert settings.ema is not None
    assert (settings.ema.decay, settings.ema.decay_type) == (0.5, "normal")
    assert settings.amp is not None
    assert settings.amp.dtype == "bfloat16"
    assert settings.seed == 7


def test_accumulation_counts_in_the_rate_and_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    overrides = ["accumulate=2", "reference_batch_size=8"]
    training = build_training(load_config("small.yml", overrides=overrides))
    assert training.scale == 0.5  # 2 images x 2 batches of 8
    assert training.steps_per_epoch == 1
    assert training.schedule.rate_at(0) == pytest.approx(0.01 * 0.5 * 0.1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], None),
        (["best_metric=bbox.AP50"], None),
        (["best_metric=bbox.APP"], "no 'bbox.APP', but bbox.AP, bbox.AP50"),
        (["best_metric=segm.AP"], "no 'segm.AP'"),
        (["best_metric=loss.loss"], "needs validation_loss"),
        (["best_metric=loss.loss", "validation_loss=true"], None),
        (["best_metric=bbox.mAP", "metric=VOC"], None),
        (["best_metric=bbox.AP", "metric=VOC"], "no 'bbox.AP', but bbox.mAP"),
    ],
)
def test_best_metric_is_checked_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], error: Optional[str]
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    experiment = load_config("small.yml", overrides=words)
    training = build_training(experiment)
    dataset = build_dataset(experiment, "EvalDataset", training.dataset.categories)
    evaluation = training_evaluation(experiment, training.model, dataset)
    with pytest.raises(TrainingError, match=error) if error else nullcontext():
        build_trainer(experiment, training, tmp_path / "run", evaluation=evaluation)
    names = set(flatten(evaluation.metric.compute()))
    assert set(evaluation.metric.names) == names


def test_pictures_show_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    experiment = load_config("small.yml")
    training = build_training(experiment)
    dataset = build_dataset(experiment, "EvalDataset", training.dataset.categories)
    evaluation = training_evaluation(experiment, training.model, dataset)
    boxes = np.array([[2, 2, 20, 16], [20, 2, 30, 16]], np.float32)
    scores, labels = np.array([0.9, PICTURE_THRESHOLD - 0.01], np.float32), np.array([1, 1])
    first = dataset[0]
    evaluation.metric.update([Detections(first.image_id, boxes, scores, labels)])
    ((name, picture),) = Pictures(evaluation)().items()  # the other image is not among the detections
    assert name == f"eval/{Path(first.path).name}"
    image = Decode()(first, np.random.default_rng(0)).image
    assert image is not None
    sure = Detections(first.image_id, boxes[:1], scores[:1], labels[:1])
    np.testing.assert_array_equal(picture, draw_detections(image, sure, ("cat", "dog", "bird")))
    assert (picture == class_colour(1)).all(-1).any()


def test_missing_logger_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(TrainingError, match="use_tensorboard"):
        build_hooks(load_config("small.yml", overrides=["use_tensorboard=true"]), tmp_path)


@pytest.mark.slow
def test_bad_box_is_kept_and_run_again_by_command(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "my_hooks.py").write_text(HOOKS, "utf-8")
    (tmp_path / "bad.yml").write_text(
        "_BASE_: small.yml\nplugins: [my_hooks.py]\nhooks: [{name: Poison, at: 2}]\n", "utf-8"
    )
    done = command("train", "-c", "bad.yml", cwd=tmp_path)
    assert_told(done, "step 2", "box not finite", "step_2_rank0.pdreplay")
    report = json.loads((tmp_path / "output/bad/replay/step_2_rank0.json").read_text("utf-8"))
    assert report["suspects"]
    kept = "output/bad/replay/step_2_rank0.pdreplay"
    done = command("train", "-c", "bad.yml", "--replay", kept, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert report["suspects"][0] in done.stdout
    assert "learning rate 0.001" in done.stdout
    assert_told(command("train", "-c", "bad.yml", "--replay", "gone.pdreplay", cwd=tmp_path), "gone.pdreplay")


@pytest.mark.slow
def test_profile_early_stop_validation_loss_and_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    make_project(tmp_path)
    done = command("train", "-c", "small.yml", "--profile", "-o", "epoch=20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "output/small").iterdir()] == ["profile"]
    table = json.loads((tmp_path / "output/small/profile/profile.json").read_text("utf-8"))
    assert table["operators"] > 100
    words = ["epoch=9", "patience=1", "validation_loss=true", "best_metric=loss.loss", "best_is=max"]
    words += ["use_tensorboard=true", "use_ema=true", "keep_last=1", "LearningRate.base_lr=0.02"]
    done = command("train", "-c", "small.yml", "--eval", "-o", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loss.loss has not improved in 1 evaluations" in done.stdout
    run = tmp_path / "output/small"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [record["loss"]["loss"] for record in records if record["kind"] == "eval"]
    assert len(losses) == 2 or losses[-1] <= max(losses[:-1])
    assert len(list(run.glob("[0-9]*.pdopt"))) == 1
    shown = [tag for _, tag in tensorboard_values(run / "tensorboard") if tag.endswith(".jpg")]
    assert shown == ["eval/000000000001.jpg", "eval/000000000002.jpg"] * len(losses)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigterm_to_all_processes_of_a_job_saves(tmp_path: Path) -> None:
    """As schedulers send it: loading processes get it too, and the step that is going on needs them."""
    make_project(tmp_path)
    words = ["train", "-c", "small.yml", "-o", "epoch=100000", "worker_num=2"]
    with (tmp_path / "told.txt").open("w") as told:
        child = subprocess.Popen(
            [sys.executable, "-m", "ppdet", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
        log = tmp_path / "output/small/metrics.jsonl"
        while child.poll() is None and not (log.exists() and log.read_text("utf-8").count("\n") >= 3):
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGTERM)
        assert child.wait(timeout=300) == 0, (tmp_path / "told.txt").read_text("utf-8")
    assert ": SIGTERM; -r resumes" in (tmp_path / "told.txt").read_text("utf-8")
    ledger = json.loads((tmp_path / "output/small/checkpoints.json").read_text("utf-8"))
    last = json.loads(log.read_text("utf-8").splitlines()[-1])
    assert ledger["saved"][ledger["last"]]["step"] == last["step"] >= 3
