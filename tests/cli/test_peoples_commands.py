"""Protects the command line as new users try it: nothing is overwritten, nothing goes wrong unseen."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tqdm import tqdm

from ppdet import cli, load_config
from ppdet.cli import main
from ppdet.config import ConfigError, Spec
from ppdet.data.image_files import forget_listings
from ppdet.engine.schedules import (
    CosineDecay,
    LearningRate,
    LearningRateSchedule,
    LinearWarmup,
    PiecewiseDecay,
)
from ppdet.experiment.train import RESOLVED, plan_training
from ppdet.utils.scores import headline
from tests.cli.small import make_project, save_weights
from tests.data.support import write_image

BASE = """\
_BASE_: small.yml
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("people"))
    save_weights(folder, "weights.pdparams")
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset, a config and weights with class names; the current folder."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    forget_listings()
    return made


def infer(*words: str) -> int:
    options = ("--weights", "weights.pdparams", "--runtime", "native", "--device", "cpu")
    return main(["infer", "-c", "small.yml", *options, *words])


def pictures(folder: Path, count: int = 3) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    for number in range(count):
        write_image(folder / f"{number}.jpg", 40, 50, number)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("output", ["in", "link", "in/.", "hard"])
def test_drawings_never_replace_the_images(
    project: Path, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pictures(tmp_path / "in")
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "hard").mkdir()
    os.link(tmp_path / "in" / "0.jpg", tmp_path / "hard" / "0.jpg")
    words = ("--infer_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / output))
    assert infer(*words) == 2
    assert "is an input and would be written over" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before
    assert infer(*words, "--visualize", "False") == 0  # nothing is drawn, nothing is replaced
    assert {name: (tmp_path / "in" / name).read_bytes() for name in before} == before


def test_a_drawn_video_never_replaces_the_video(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 48))
    for _ in range(2):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    before = path.read_bytes()
    assert infer("--video_file", str(path), "--output_dir", str(tmp_path)) == 2
    assert path.read_bytes() == before


def test_a_second_run_does_not_read_the_drawings_of_the_first(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "in")
    (tmp_path / "in" / "small.yml").symlink_to(project / "small.yml")
    (tmp_path / "in" / "weights.pdparams").symlink_to(project / "weights.pdparams")
    monkeypatch.chdir(tmp_path / "in")
    for _ in range(2):
        assert infer("--infer_dir", ".") == 0
        rows = json.loads(Path("output/detections.json").read_text("utf-8"))
        assert [row["image"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_very_long_picture(project: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "long.jpg", 20, 4000)
    assert infer("--infer_img", str(tmp_path / "long.jpg"), "--output_dir", str(tmp_path / "out")) == 0
    assert cv2.imread(str(tmp_path / "out" / "long.jpg")).shape == (20, 4000, 3)


def test_home_in_paths_of_options(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pictures(tmp_path / "in", 1)
    assert infer("--infer_dir=~/in", "--output_dir=$HOME/out", "--save_results=~/found.json") == 0
    assert (tmp_path / "out" / "0.jpg").is_file()
    assert (tmp_path / "found.json").is_file()
    assert not Path("~").exists()


def screen(text: str) -> list[str]:
    """What a terminal shows: a carriage return goes back to the start of the line."""
    lines = []
    for line in text.split("\n"):
        shown: list[str] = []
        for part in line.split("\r"):
            shown[: len(part)] = part
        lines.append("".join(shown).rstrip())
    return lines


def test_log_lines_do_not_mix_with_bars() -> None:
    stream = io.StringIO()
    handler = cli._LinesAboveBars(stream)
    record = logging.LogRecord("ppdet", logging.INFO, "", 0, "epoch 1", None, None)
    bar = tqdm(total=10, file=stream, ncols=80, mininterval=0, desc="a rather long description")
    bar.update(3)
    handler.emit(record)
    bar.close()
    assert screen(stream.getvalue())[0] == "epoch 1"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_class_names_that_a_console_lacks_end_nothing(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    cli._set_up_process(debug=False)
    print("categories 2: 猫, cat")
    logging.getLogger("ppdet.test").info("狗")
    for stream in streams:
        stream.flush()
    assert streams[0].buffer.getvalue() == b"categories 2: \\u732b, cat\n".replace(b"\n", os.linesep.encode())
    assert b"\\u72d7" in streams[1].buffer.getvalue()


def test_near_verbs_and_files_that_are_no_configs(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["trian"])
    assert stopped.value.code == 2
    assert "did you mean train?" in capsys.readouterr().err
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: [cat, dog]\n")
    assert main(["train", "-c", str(tmp_path / "data.yaml")]) == 2
    error = capsys.readouterr().err
    assert "describes a YOLO dataset" in error
    assert "ppdet new --data" in error


def write(project: Path, text: str) -> str:
    (project / "mine.yml").write_text(BASE + text, "utf-8")
    return str(project / "mine.yml")


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("OptimizerBuilder: {optimizer: {type: Adam}}", []),
        ("OptimizerBuilder: {optimizer: {name: Adam}}", []),
        ("OptimizerBuilder: {optimizer: !Adam {}}", []),
        ("OptimizerBuilder: {optimizer: {type: Adam, momentum: null}}", []),
        ("", ["OptimizerBuilder.optimizer.type=Adam"]),
        ("", ["OptimizerBuilder.optimizer.name=Adam"]),
        ("", ["OptimizerBuilder.optimizer={type: Adam}"]),
    ],
)
def test_the_optimiser_can_be_changed(project: Path, text: str, overrides: list[str]) -> None:
    """What was said for Momentum is not handed to Adam, and the summary of the training says so."""
    experiment = load_config(write(project, text), overrides)
    assert experiment.OptimizerBuilder is not None
    optimizer = experiment.OptimizerBuilder.arguments["optimizer"]
    assert optimizer.name == "Adam"
    assert "momentum" not in optimizer.arguments
    (line,) = re.findall(r"replaced  +(.*)", plan_training(experiment, device="cpu").summary())
    place = "override" if overrides else r"\S*mine\.yml:2"
    old = r"Momentum \(\S*small\.yml:\d+\)"
    assert re.fullmatch(rf"Adam \({place}\) replaces {old}; its arguments do not carry over: momentum", line)
    assert copy.deepcopy(experiment).replacements == experiment.replacements


def test_replacements_in_turn_and_with_further_overrides(project: Path) -> None:
    assert load_config("small.yml").replacements == ()
    kind = "OptimizerBuilder.optimizer.type"
    further = ["OptimizerBuilder.optimizer.beta2=0.9", "OptimizerBuilder.clip_grad_by_norm=1"]
    (line,) = load_config("small.yml", [f"{kind}=Adam", *further]).replacements
    assert line.endswith("its arguments do not carry over: momentum")
    keys = ["OptimizerBuilder.optimizer.beta1=0.8", f"{kind}=AdamW"]
    (line,) = load_config("small.yml", keys).replacements
    assert line.endswith("its arguments do not carry over: momentum")  # beta1 stays


def test_arguments_of_the_new_class_stay_in_any_order(project: Path) -> None:
    keys = ["OptimizerBuilder.optimizer.beta1=0.8", "OptimizerBuilder.optimizer.type=AdamW"]
    for overrides in (keys, keys[::-1]):
        experiment = load_config("small.yml", overrides)
        assert experiment.OptimizerBuilder is not None
        optimizer = experiment.OptimizerBuilder.arguments["optimizer"]
        assert (optimizer.name, optimizer.arguments["beta1"]) == ("AdamW", 0.8)
    experiment = load_config("small.yml", ["OptimizerBuilder.regularizer.type=L1"])
    assert experiment.OptimizerBuilder is not None
    assert experiment.OptimizerBuilder.arguments["regularizer"] == {"type": "L1", "factor": 0.0001}
    with pytest.raises(ConfigError, match="beta3"):
        load_config("small.yml", ["OptimizerBuilder.optimizer={type: Adam, beta3: null}"])


def test_a_transform_can_be_taken_out(project: Path) -> None:
    for key in ("RandomFlip", "2", "2.RandomFlip"):
        experiment = load_config("small.yml", [f"TrainReader.sample_transforms.{key}=null"])
        assert experiment.TrainReader is not None
        names = [spec.name for spec in experiment.TrainReader.arguments["sample_transforms"]]
        assert names == ["Decode", "Resize", "NormalizeImage", "Permute"]


def test_plans_that_cannot_reach_their_rates_are_told(project: Path) -> None:
    """40 images, batch 1, 12 epochs: 480 steps against a warm-up of 500 and milestones at 8 and 11."""
    usual = LearningRate().build(40)
    (text,) = usual.misfits(480)
    assert text.startswith("the warm-up lasts 500 steps, the training 480: the rate reaches 9")
    assert text.endswith("LinearWarmup.steps: 48 fits")
    assert LearningRate().build(1000).misfits(12_000) == []
    # A cosine that is over before the warm-up leaves no rate to compare with.
    short = Spec.of(CosineDecay, max_epochs=8), Spec.of(LinearWarmup, steps=100)
    (text,) = LearningRate(schedulers=list(short)).build(2).misfits(16)
    assert "the warm-up lasts 100 steps, the training 16" in text
    (text,) = LearningRate().build(1000).misfits(6_000)
    assert text.startswith("the rate never falls at epoch 8, 11: the training has 6 epochs")
    assert text.endswith("PiecewiseDecay.milestones: [4, 5] fits")
    plan = plan_training(load_config("small.yml", ["epoch=1"]), device="cpu")
    assert "warning        the warm-up lasts 2 steps, the training 2" in plan.summary()
    assert "PiecewiseDecay.milestones: [] fits" in plan.summary()


def test_advice_on_the_schedule_fits() -> None:
    """Lists of as many rates as milestones shrink too, and epochs of a warm-up give way to its steps."""

    def misfits(warmup: LinearWarmup) -> list[str]:
        schedule = LearningRateSchedule(0.1, decay=None, warmup=warmup, steps_per_epoch=40)
        return schedule.misfits(100)

    (text,) = misfits(LinearWarmup(epochs=5, steps=7))
    assert text.startswith("the warm-up lasts 200 steps, the training 100: the rate reaches 66% of its peak")
    assert text.endswith("; LinearWarmup.steps: 10 with epochs: null fits")
    assert misfits(LinearWarmup(steps=10, epochs=None)) == []
    for options, words, less in (
        ({"gamma": 0.1}, "", {"gamma": 0.1}),
        ({"gamma": [0.1, 0.05]}, " with gamma: [0.1]", {"gamma": [0.1]}),
        ({"values": [1.0, 0.1, 0.01]}, " with values: [1.0, 0.1]", {"values": [1.0, 0.1]}),
    ):
        (text,) = PiecewiseDecay(milestones=[8, 9], **options).misfits(2)
        assert text.endswith(f"PiecewiseDecay.milestones: [1]{words} fits")
        assert PiecewiseDecay(milestones=[1], **less).misfits(2) == []


def test_a_dry_run_says_whether_training_evaluates(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It checks the validation images in any case."""
    command = ["train", "-c", "small.yml", "--dry-run", "--device", "cpu"]
    assert main([*command, "--eval"]) == 0
    (used,) = re.findall(r"validation  +(.*)", capsys.readouterr().out)
    assert re.fullmatch(r"\d+ images", used.strip())
    assert main(command) == 0
    (unused,) = re.findall(r"validation  +(.*)", capsys.readouterr().out)
    assert unused == f"{used.strip()}, checked but not used: without --eval nothing is evaluated"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["pretrain_weights=absent.pdparams"], "absent.pdparams"),
        (["best_metric=bbox.APP"], "bbox.APP"),
        (["EvalDataset.image_dir=nowhere"], "EvalDataset: image_dir data/nowhere does not exist"),
        (["TrainDataset.anno_path=annotations/none.json"], "TrainDataset: .*none.json does not exist"),
    ],
)
def test_a_dry_run_refuses_what_training_would(
    project: Path, overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-c", "small.yml", "--dry-run", "--eval", "--device", "cpu", "-o", *overrides]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_plan_warns_of_sizes_that_are_not_those_of_the_images(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = load_config("small.yml")
    plan_training(experiment, device="cpu")
    assert "another size" not in caplog.text
    assert experiment.TrainDataset is not None
    source = Path("data") / experiment.TrainDataset.arguments["anno_path"]
    content = json.loads(source.read_text("utf-8"))
    content["images"][0]["width"] += 7
    (tmp_path / "wrong.json").write_text(json.dumps(content), "utf-8")
    plan_training(
        load_config("small.yml", [f"TrainDataset.anno_path={tmp_path / 'wrong.json'}"]), device="cpu"
    )
    (text,) = [record.getMessage() for record in caplog.records if "another size" in record.getMessage()]
    count = len(content["images"])
    assert text.startswith(f"1 of {count} training images compared have another size")
    assert f"image id {content['images'][0]['id']}: " in text


def test_a_resumed_run_says_what_is_different(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan_training(load_config("small.yml", ["save_dir=again"]), device="cpu", evaluate=False)
    monkeypatch.setattr(type(first.trainer), "resume", lambda self, path: None)
    folder = first.folder
    folder.mkdir(parents=True)
    same = load_config("small.yml", ["save_dir=again"])
    (folder / RESOLVED).write_text(same.to_yaml(), "utf-8")
    other = load_config("small.yml", ["save_dir=again", "epoch=5", "LearningRate.base_lr=0.5"])
    plan = plan_training(same, resume="auto", device="cpu", evaluate=False)
    assert plan.changes == ()
    plan = plan_training(other, resume="auto", device="cpu", evaluate=False)
    assert [line.strip() for line in plan.changes if "epoch" in line] == ["-epoch: 2", "+epoch: 5"]
    assert any("0.5" in line for line in plan.changes)
    assert "differs        +epoch: 5" in plan.summary()


def test_a_resumed_run_states_the_rates_that_are_left(project: Path) -> None:
    """Not those of the steps behind it: here the warm-up of two steps is over."""
    schedulers = "LearningRate.schedulers=[{name: LinearWarmup, steps: 2, start_factor: 0.1}]"
    plan = plan_training(load_config("small.yml", ["epoch=4", schedulers]), device="cpu", evaluate=False)
    rate = plan.parts.schedule.rate_at
    assert rate(0) != rate(2)
    assert f"learning rate  {rate(0):.3g} at first, " in plan.summary()
    plan.trainer.progress.step = 2
    assert f"learning rate  {rate(2):.3g} at first, " in plan.summary()
    plan.trainer.progress.step = plan.trainer.last_step  # nothing is left
    last = f"{rate(plan.trainer.last_step - 1):.3g}"
    assert f"learning rate  {last} at first, {last} at most, {last} at last" in plan.summary()


def test_an_evaluation_shows_ap_and_ap50_of_every_task() -> None:
    metrics = {
        "bbox": {"AP": 0.3, "AP50": 0.5, "APs": 0.1},
        "segm": {"AP": 0.2, "AP50": 0.4},
        "own": {"recall": 0.9},
    }
    assert headline(metrics, "own.recall") == [
        "bbox.AP 0.3000",
        "bbox.AP50 0.5000",
        "segm.AP 0.2000",
        "segm.AP50 0.4000",
        "own.recall 0.9000",
    ]
