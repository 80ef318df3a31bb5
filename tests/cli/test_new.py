"""Protects `ppdet new`: a dataset of any format becomes a config whose commands run and whose plan fits."""

from __future__ import annotations

import json
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import ppdet
from ppdet.cli import main
from ppdet.config.packaged import packaged_configs
from ppdet.data.formats.registry import read_parts, write_any
from ppdet.data.tools import new as new_module
from ppdet.data.tools.new import new_config
from ppdet.data.tools.recipe import BACKBONE, DETECTOR, OWN, SCRATCH, fit_recipe
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.experiment.config import load_config
from ppdet.utils.errors import UserError
from ppdet.utils.machine import Machine, this_machine
from ppdet.zoo.locate import can_be_had

CPU = Machine(gpus=0, memory=16 << 30, cores=2)
#: The module; `ppdet.zoo` has a function of its name.
LOCATE = import_module("ppdet.zoo.locate")
GPU = Machine(gpus=1, memory=24 << 30, cores=16)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_module, "can_be_had", lambda source: False)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_dataset(folder, SyntheticOptions(train=10, val=4, height=64, width=64))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_format(shapes: Path, kind: str, target: Path) -> Path:
    """The dataset in another format."""
    if kind == "coco":
        return shapes
    write_any(read_parts(shapes), target, kind, images="copy")
    return target


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "labelme", "cvat"])
def test_from_a_folder_to_a_trained_detector(shapes: Path, project: Path, kind: str) -> None:
    data = as_format(shapes, kind, project / "mine")
    assert main(["new", "--data", str(data), "--output", "mine.yml"]) == 0
    text = (project / "mine.yml").read_text("utf-8")
    commands = [
        line.removeprefix("#   ppdet ") for line in text.splitlines() if line.startswith("#   ppdet ")
    ]
    assert [command.split()[0] for command in commands] == ["train", "eval", "infer", "export"]
    short = {
        "train": ["-o", "epoch=1", "worker_num=0"],
        "eval": ["-o", "worker_num=0", "--runtime", "native"],
    }
    short["infer"] = ["--runtime", "native"]
    for command in commands[:3]:
        words = shlex.split(command)
        assert main([*words, *short[words[0]]]) == 0, command
    assert (project / "output" / "detections.json").is_file()


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "labelme"])
def test_parts_and_classes_are_those_of_the_dataset(shapes: Path, project: Path, kind: str) -> None:
    made = new_config(as_format(shapes, kind, project / "mine"), output="mine.yml", machine=CPU)
    experiment = load_config(made.config)
    names = [json.loads(path.read_text("utf-8"))["categories"] for path in made.annotations]
    assert experiment.num_classes == len(names[0]) == 6
    images = [len(json.loads(path.read_text("utf-8"))["images"]) for path in made.annotations]
    assert images == [10, 4] and "images: train 10, val 4" in " ".join(made.notes)


def test_a_dataset_that_nobody_has_split_is_split_by_class(shapes: Path, project: Path) -> None:
    whole = shapes / "annotations" / "instances_train.json"
    made = [
        new_config(whole, output=f"{name}.yml", seed=seed, machine=CPU)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    parts = [[json.loads(path.read_text("utf-8"))["images"] for path in one.annotations] for one in made]
    assert [len(part) for part in parts[0]] == [8, 2]
    assert parts[0] == parts[1] != parts[2]
    files = [image["file_name"] for part in parts[0] for image in part]
    assert len(set(files)) == 10 and "8 images train, 2 validate (seed 0)" in " ".join(made[0].notes)


MODELS = [
    "faster_rcnn_r50_fpn_1x_coco",
    "mask_rcnn_r50_fpn_2x_coco",
    "retinanet_r50_fpn_1x_coco",
    "yolov3_darknet53_270e_coco",
    "ppyoloe_plus_crn_s_80e_coco",
    "rtdetr_r18vd_6x_coco",
    "quickstart_retinanet",
]


@pytest.mark.parametrize("model", MODELS)
def test_the_plan_of_a_new_config_fits(shapes: Path, project: Path, model: str) -> None:
    from ppdet.experiment.train import plan_training

    made = new_config(shapes, model=model, output="mine.yml", machine=CPU, epochs=2)
    plan = plan_training(load_config(made.config))
    assert plan.warnings == []
    assert any("random" in note for note in made.notes) is not model.startswith("quickstart")


@pytest.mark.parametrize("start", [DETECTOR, BACKBONE, SCRATCH])
@pytest.mark.parametrize("model", MODELS[:-1])
@pytest.mark.parametrize("images", [2, 40, 500, 1999, 20000])
def test_recipes_fit_the_run(model: str, images: int, start: str) -> None:
    base = load_config(packaged_configs()[model])
    for machine in (CPU, GPU):
        recipe = fit_recipe(base, images=images, start=start, machine=machine)
        assert recipe.steps == recipe.epochs * max(1, images // recipe.batch)
        assert 1 <= recipe.warmup_steps <= max(1, 0.06 * recipe.steps)
        name, arguments = recipe.decay
        ends = arguments["milestones"] if name == "PiecewiseDecay" else [arguments["max_epochs"]]
        # The small COCO schedules of 2.x let the cosine end behind the run (factor 1.2).
        assert all(0 < end <= 1.2 * recipe.epochs + 1 for end in ends)
        assert name != "PiecewiseDecay" or max(ends) < recipe.epochs
        span = 1 / (1 - (recipe.ema_decay or 0.0))  # in steps; the decay has four places
        assert span <= 1.3 * max(2.0, 0.1 * recipe.steps)
        assert 1 <= recipe.batch <= images and 1 <= recipe.snapshot_epoch <= recipe.epochs
        assert recipe.workers <= machine.cores


def test_less_data_is_seen_more_often_and_trained_weights_take_less() -> None:
    base = load_config(packaged_configs()["faster_rcnn_r50_fpn_1x_coco"])

    def epochs(images: int, start: str) -> int:
        return fit_recipe(base, images=images, start=start, machine=GPU).epochs

    assert epochs(200, DETECTOR) > epochs(2000, DETECTOR) > epochs(20000, DETECTOR) == 12
    assert epochs(2000, DETECTOR) < epochs(2000, BACKBONE) < epochs(2000, SCRATCH)
    rates = [fit_recipe(base, images=200, start=start, machine=GPU).base_lr for start in (DETECTOR, BACKBONE)]
    assert rates[0] == pytest.approx(0.1 * rates[1])


def test_published_weights_are_the_start_where_they_can_be_had(
    shapes: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_module, "can_be_had", lambda source: True)
    made = new_config(shapes, machine=GPU)
    assert made.config == Path("shapes.yml")
    experiment = load_config(made.config)
    assert experiment.pretrain_weights == "ppyoloe_plus_crn_s_80e_coco"
    assert "--classes-from" in made.commands[0]


def test_the_published_api_and_json(shapes: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ppdet.new_config is new_config
    assert main(["new", "--data", str(shapes), "--json", "made.json"]) == 0
    content: dict[str, Any] = json.loads((project / "made.json").read_text("utf-8"))
    assert content["config"] == "shapes.yml" and len(content["commands"]) == 4
    shown = capsys.readouterr().out
    assert "shapes.yml is written" in shown and "  ppdet train -c shapes.yml --eval\n" in shown


def test_nothing_is_written_over_or_left_half(shapes: Path, project: Path) -> None:
    made = new_config(shapes, machine=CPU)
    before = {path: path.read_bytes() for path in (made.config, *made.annotations)}
    with pytest.raises(UserError, match="is there already"):
        new_config(shapes, machine=CPU)
    assert {path: path.read_bytes() for path in before} == before
    shutil.copytree(shapes, project / "copy")
    next((project / "copy" / "train").iterdir()).unlink()
    with pytest.raises(UserError, match=r"image-missing: image id \d+: \S+ does not exist"):
        new_config(project / "copy", machine=CPU)
    assert sorted(path.name for path in project.iterdir()) == ["copy", "shapes.yml", "shapes_annotations"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--model", "ppyoloe_plus_crn_s_80_coco"], "did you mean ppyoloe_plus_crn_s_80e_coco"),
        (["--from", "voc"], "no folder with XML files of VOC"),
        (["--output", "mine.txt"], "is named .yml"),
        (["--val", "1.5"], "between 0 and 1"),
        (["--weights", "no_such_weights"], "no_such_weights"),
    ],
)
def test_wrong_words_are_told(
    shapes: Path,
    project: Path,
    words: list[str],
    hint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(new_module, "can_be_had", can_be_had)
    monkeypatch.setattr(LOCATE, "urlopen", lambda *given, **kw: (_ for _ in ()).throw(OSError()))
    data = [] if "--data" in words else ["--data", str(shapes)]
    assert main(["new", *data, *words]) == 2
    assert hint in capsys.readouterr().err
    assert list(project.iterdir()) == []


def test_weights_that_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "w.pdparams"
    file.write_bytes(b"x")
    asked: list[str] = []

    def refuse(request: Any, timeout: float) -> None:
        asked.append(request.full_url)
        raise OSError("unreachable")

    monkeypatch.setattr(LOCATE, "urlopen", refuse)
    assert can_be_had(file) and asked == []
    assert not can_be_had("https://example.invalid/w.pdparams")
    assert asked == ["https://example.invalid/w.pdparams"]


def test_the_machine_is_known() -> None:
    machine = this_machine()
    assert machine.cores >= 1 and machine.memory > 1 << 28
    assert str(Machine(0, 8 << 30, 4)) == "no GPU, 8 GB, 4 cores"
    assert str(Machine(2, 24 << 30, 8)) == "2 GPUs of 24 GB, 8 cores"


def test_the_small_recipe_of_a_small_network() -> None:
    base = load_config(packaged_configs()["quickstart_ppyoloe"])
    assert fit_recipe(base, images=40, start=OWN, machine=CPU).epochs == base.epoch * 352 / 40
    recipe = fit_recipe(base, images=30, start=OWN, machine=CPU)
    assert recipe.epochs == 100 and recipe.batch == 8 and recipe.static_assigner_epoch is not None
