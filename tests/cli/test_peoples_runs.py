"""Protects whole runs as people start them: refusals come early, and warnings reach every door."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

import ppdet
from ppdet.cli import VERBS, make_parser
from ppdet.data.image_files import find_images, forget_listings
from ppdet.inference import images
from tests.cli.small import assert_told, command, make_project, save_weights
from tests.data import people


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("runs"))
    config = ppdet.load_config(folder / "small.yml")
    save_weights(folder, "weights.pdparams", config={"yaml": config.to_yaml()})
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset, a config and weights that carry it; the current folder."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    forget_listings()
    return made


VAL = "data/annotations/instances_val2017.json"
INFER = ("infer", "--weights", "weights.pdparams", "--runtime", "native", "--device", "cpu", "--no_draw")


def test_a_folder_of_annotations_is_refused_before_anything_is_written(project: Path, tmp_path: Path) -> None:
    """Results of an earlier run stay, and no unfinished file is left beside them."""
    words = (*INFER, "--infer_dir", "data/val2017", "--output_dir", str(tmp_path / "out"))
    assert command(*words, "--formats", "json", cwd=project).returncode == 0
    before = (tmp_path / "out" / "detections.json").read_bytes()
    (tmp_path / "out" / "labels").mkdir()
    (tmp_path / "out" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    formats = ("--formats", "json", "coco", "csv", "yolo")
    done = command(*words, *formats, cwd=project)
    assert_told(done, "a.txt: has 5 columns", "--output_dir")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detections.json", "labels"]
    assert (tmp_path / "out" / "detections.json").read_bytes() == before
    (tmp_path / "out" / "labels" / "a.txt").unlink()
    assert command(*words, *formats, cwd=project).returncode == 0


def test_a_folder_is_listed_once(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []

    def counted(folder: Path, **options: object) -> list[str]:
        listed.append(folder)
        return find_images(folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "find_images", counted)
    (tmp_path / "in").mkdir()
    for path in Path("data/val2017").iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "in" / "notes.txt").write_text("left out")
    words = ("--infer_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / "in" / "out"))
    done = command(*INFER, *words, cwd=project)
    assert done.returncode == 0, done.stderr
    assert listed == [tmp_path / "in"]
    rows = json.loads((tmp_path / "in" / "out" / "detections.json").read_text("utf-8"))
    assert [Path(row["image"]).name for row in rows] == sorted(
        path.name for path in Path("data/val2017").iterdir()
    )
    listed.clear()
    ppdet.predict(ppdet.load_detector("weights.pdparams"), tmp_path / "in", tmp_path / "other")
    assert listed == [tmp_path / "in"]


@pytest.mark.parametrize("left", ["nothing", "crowds"])
@pytest.mark.parametrize(
    ("words", "block"),
    [
        ("train -c small.yml --dry-run", "TrainDataset"),
        ("train -c small.yml --dry-run", "EvalDataset"),
        ("train -c small.yml --eval", "EvalDataset"),
        ("eval --weights weights.pdparams", "EvalDataset"),
        ("data check --dataset_dir data --image_dir val2017 --anno_path", ""),
    ],
)
def test_a_dataset_without_objects_ends_every_command(
    project: Path, tmp_path: Path, words: str, block: str, left: str
) -> None:
    """Nothing trains on it, and no AP of -1 decides on the best weights."""
    content = json.loads(Path(VAL.replace("val", "train") if block == "TrainDataset" else VAL).read_text())
    objects = [{**row, "iscrowd": 1} for row in content["annotations"]]
    (tmp_path / "none.json").write_text(
        json.dumps({**content, "annotations": objects if left == "crowds" else []})
    )
    path = str(tmp_path / "none.json")
    more = ["-o", f"{block}.anno_path={path}"] if block else [path]
    before = set(Path("output").rglob("*")) if Path("output").is_dir() else set()
    done = command(*words.split(), *more, cwd=project)
    assert_told(done, "none.json", "no-objects: no object is left")
    assert (set(Path("output").rglob("*")) if Path("output").is_dir() else set()) == before


def test_a_voc_dataset_is_scored_as_coco_too(project: Path, tmp_path: Path) -> None:
    """2.x needed ``metric: VOC`` beside it, and said so after the first epoch."""
    people.write_voc(tmp_path / "voc")
    given = (
        f"{{name: VOCDataSet, dataset_dir: {tmp_path / 'voc'}, anno_path: train.txt, label_list: labels.txt}}"
    )
    blocks = (f"TrainDataset={given}", f"EvalDataset={given}", f"save_dir={tmp_path}", "num_classes=2")
    for metric, number in (("COCO", "bbox.AP "), ("VOC", "bbox.mAP ")):
        words = ("train", "-c", "small.yml", "--eval", "-o", *blocks, f"metric={metric}", "max_iters=1")
        done = command(*words, cwd=project)
        assert done.returncode == 0, done.stderr
        assert number in done.stderr


def test_a_folder_of_a_training_names_its_checkpoints(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ppdet.UserError, match="no checkpoint"):
        ppdet.load_detector(tmp_path)
    for name in ("0", "1", "model_final", "best_model"):
        (tmp_path / f"{name}.pdparams").write_bytes(b"")
    with pytest.raises(
        ppdet.UserError, match=r"name a checkpoint in it: .*best_model, .*model_final, .*[01]$"
    ):
        ppdet.load_detector(tmp_path)


#: What names a file or folder and nothing else, in the help of options.
PATHS = re.compile(r"(RUN|DIR|FILE(\.html)?|DETECTIONS\.json)(\|(RUN|DIR|FILE|DETECTIONS\.json))*")


def path_options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Options and arguments that are paths, those of actions within the parser too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from path_options(inner)
        elif PATHS.fullmatch(str(action.metavar)) or action.type is Path:
            yield action


def test_every_path_of_every_verb_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves ``--json=~/x`` to the program."""
    monkeypatch.setenv("HOME", "/nowhere/home")
    checked = 0
    for verb in VERBS:
        actions = getattr(import_module(f"ppdet.cli.{verb}"), "ACTIONS", {None: ""})
        for action in actions:
            for option in path_options(make_parser(verb, action)):
                name = f"{verb} {action or ''} {option.option_strings or option.dest}"
                assert option.type is not None, name
                assert option.type("~/x") == Path("/nowhere/home/x"), name  # type: ignore[operator]
                checked += 1
    assert checked > 30


def test_home_in_paths_of_python(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    detector = ppdet.load_detector("weights.pdparams")
    result = ppdet.evaluate(detector)
    result.save("~/a/metrics.json")
    result.save_results("~/a/results.json")
    result.save_report("~/a/page.html")
    detector.export("~/exported", formats=["paddle"], verify=False)
    words = ("--json=~/b.json", "--save_results=$HOME/c.json", "--report=~/d.html")
    assert command("eval", "--weights", "weights.pdparams", *words, cwd=project).returncode == 0
    assert command("report", "~/c.json", "--anno_path", VAL, "--output=~/e.html", cwd=project).returncode == 0
    assert command("config", "-c", "small.yml", cwd=project).returncode == 0
    for name in ("a/metrics.json", "a/results.json", "a/page.html", "exported/export.json"):
        assert (tmp_path / name).is_file(), name
    for name in ("b.json", "c.json", "d.html", "e.html"):
        assert (tmp_path / name).is_file(), name
    assert not Path("~").exists()


EVAL = "eval --weights weights.pdparams --runtime native"
REPORT = f"report results.json --anno_path {VAL}"
CHECK = f"data check --dataset_dir data --anno_path {VAL[5:]} --image_dir val2017"


@pytest.mark.parametrize(
    ("words", "target"),
    [
        *((f"{EVAL} {option}", target) for option in ("--json", "--save_results", "--report") for target in
          ("weights.pdparams", VAL)),
        (f"{EVAL} -c small.yml --json", "small.yml"),
        (f"{EVAL} --json", "link.json"),
        *((" ".join(INFER) + " --infer_dir data/val2017 --save_results", target) for target in
          ("weights.pdparams", "data/val2017/000000000001.jpg")),
        (" ".join(INFER) + " -c small.yml --infer_dir data/val2017 --save_results", "small.yml"),
        (" ".join(INFER) + f" --anno_path {VAL} --infer_dir data/val2017 --save_results", VAL),
        ("weights convert weights.pdparams", "weights.pdparams"),
        *((f"{REPORT} {option}", target) for option in ("--json", "--csv", "--output") for target in
          ("results.json", VAL)),
        (f"compare results.json results.json --anno_path {VAL} --output", "results.json"),
        (f"compare results.json results.json --anno_path {VAL} --output", VAL),
        (f"{CHECK} --json", VAL),
        ("data browse -c small.yml --output", "small.yml"),
        ("data browse -c small.yml --json", "small.yml"),
        (f"data slice --anno_path {VAL} --image_dir data/val2017 --output tiles --json", VAL),
        (f"data slice --join results.json --tiles {VAL} --output joined.json --json", "results.json"),
    ],
)  # fmt: skip
def test_results_are_never_written_over_what_is_read(project: Path, words: str, target: str) -> None:
    """Annotations took weeks and weights days; a slip in ``--json`` must not cost them."""
    if not Path("results.json").is_file():
        ppdet.evaluate(ppdet.load_detector("weights.pdparams")).save_results("results.json")
        Path("link.json").symlink_to(VAL)
    before = Path(target).read_bytes()
    done = command(*words.split(), target, cwd=project)
    assert Path(target).read_bytes() == before
    assert done.returncode == 2, done.stdout + done.stderr
    assert target in done.stderr
    assert "would replace a file that is read" in done.stderr or "is an input" in done.stderr


def with_wrong_width(source: Path, target: Path) -> int:
    """A copy of an annotation file whose first image is said to be wider; how many images it has."""
    content = json.loads(source.read_text("utf-8"))
    content["images"][0]["width"] += 7
    target.write_text(json.dumps(content), "utf-8")
    return len(content["images"])


@pytest.mark.parametrize(
    "run",
    [
        lambda option: command("eval", "--weights", "weights.pdparams", "-o", option, cwd=Path()).stderr,
        lambda option: ppdet.evaluate(ppdet.load_detector("weights.pdparams", overrides=[option])),
    ],
    ids=["command", "python"],
)
def test_an_evaluation_warns_of_sizes_that_are_not_those_of_the_images(
    project: Path, tmp_path: Path, run: Callable[[str], object], caplog: pytest.LogCaptureFixture
) -> None:
    source = Path("data/annotations/instances_val2017.json")
    run(f"EvalDataset.anno_path={source.resolve()}")
    assert "another size" not in caplog.text
    count = with_wrong_width(source, tmp_path / "wrong.json")
    run(f"EvalDataset.anno_path={tmp_path / 'wrong.json'}")
    (record,) = [record for record in caplog.records if "another size" in record.getMessage()]
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"1 of {count} evaluation images compared have another size")


def test_files_that_are_no_images_are_told_before_work_starts(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree("data/train2017", tmp_path / "train2017")
    (tmp_path / "train2017" / "000000000002.jpg").write_text("version https://git-lfs.github.com/spec/v1")
    words = ("train", "-c", "small.yml", "--dry-run", "-o", f"TrainDataset.image_dir={tmp_path}/train2017")
    assert command(*words, cwd=project).returncode == 0
    (text,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert text.startswith("1 of 4 training images compared are no images: image id 2: ")
    assert "ppdet data check" in text


def test_a_training_from_python_says_what_it_will_do(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the words of the command line; with a warning where the schedule cannot be meant."""
    caplog.set_level(logging.INFO)
    good = {"save_dir": str(tmp_path), "epoch": 2, "max_iters": 4}
    ppdet.train(ppdet.load_config("small.yml", good), evaluate=False, device="cpu")
    (plan,) = [record for record in caplog.records if record.getMessage().startswith("this training:\n")]
    assert plan.levelname == "INFO"
    for row in ("model          FasterRCNN", "starts from    random weights", "4 steps in all"):
        assert row in plan.getMessage()
    caplog.clear()
    weights = ppdet.load_config("small.yml", {**good, "epoch": 1, "max_iters": 2})
    ppdet.train(weights, weights="weights.pdparams", evaluate=False, device="cpu")
    (plan,) = [record for record in caplog.records if record.getMessage().startswith("this training:\n")]
    assert plan.levelname == "WARNING"
    for row in (
        "starts from    weights.pdparams",
        "warning        the warm-up lasts 2 steps, the training 2",
        "PiecewiseDecay.milestones: [] fits",
    ):
        assert row in plan.getMessage()
    assert "73 loaded" in caplog.text  # what transfers
