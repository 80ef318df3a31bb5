"""Protects the Python API: train, load without a config, detect, draw, evaluate, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

import ppdet
from ppdet.engine.hooks import Run
from ppdet.experiment.train import plan_training
from ppdet.experiment.trained import CheckpointDetector, ExportedDetector, SourceError
from ppdet.inference.images import samples_of
from ppdet.utils.errors import DataError, FileError, WeightsError
from tests.cli.small import NAMES, make_project, save_weights

IMAGE = "data/val2017/000000000001.jpg"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and its dataset."""
    return make_project(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def result(project: Path) -> ppdet.TrainResult:
    """A short training, started from Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return ppdet.train(ppdet.load_config("small.yml", {"max_iters": 1}), hooks=[Counter()])


@pytest.fixture(autouse=True)
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the config are relative to the project."""
    monkeypatch.chdir(project)


class Counter(ppdet.Hook):
    """Counts steps."""

    steps = 0

    def after_step(self, trainer: Run) -> None:
        """Count."""
        Counter.steps += 1


def test_a_training_from_python_leaves_what_the_command_line_leaves(result: ppdet.TrainResult) -> None:
    assert (result.steps, result.stopped, Counter.steps) == (1, None, 1)
    assert set(result.metrics) == {"bbox"}
    assert result.best is not None
    for name in ("config.yml", "metrics.jsonl", "train.log", "report.html"):
        assert (result.folder / name).is_file(), name
    assert result.best.is_file()
    assert result.final.is_file()


def test_nothing_is_drawn_for_weights_that_are_loaded(result: ppdet.TrainResult) -> None:
    paddle.seed(1)
    expected = paddle.rand([3]).numpy()
    paddle.seed(1)
    ppdet.load_detector(result.final, runtime="native")
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), expected)


def test_what_partial_weights_leave_out_is_drawn(result: ppdet.TrainResult, tmp_path: Path) -> None:
    state = paddle.load(str(result.final))
    key = "bbox_head.bbox_score.weight"
    del state[key]
    paddle.save(state, str(tmp_path / "partial.pdparams"))
    detector = ppdet.load_detector(
        tmp_path / "partial.pdparams",
        config="small.yml",
        classes=NAMES,
        runtime="native",
        allow_partial=True,
    )
    assert isinstance(detector, CheckpointDetector)
    assert detector.model.state_dict()[key].numpy().std() > 0


class Stop(ppdet.Hook):
    """Stops as Ctrl-C does."""

    def after_step(self, trainer: Run) -> None:
        """Stop."""
        trainer.stop("enough")


def test_a_stopped_training_names_the_weights_that_it_saved(tmp_path: Path) -> None:
    config = ppdet.load_config("small.yml", {"max_iters": 3, "save_dir": str(tmp_path)})
    result = ppdet.train(config, hooks=[Stop()], evaluate=False)
    assert (result.steps, result.stopped) == (1, "enough")
    assert result.final.name == "iter_1.pdparams"
    assert result.final.is_file()


def test_a_checkpoint_needs_no_config(result: ppdet.TrainResult, tmp_path: Path) -> None:
    assert result.best is not None
    detector = ppdet.load_detector(result.best, runtime="native")
    assert isinstance(detector, CheckpointDetector)
    assert detector.class_names == NAMES
    (found,) = detector(IMAGE, threshold=0.0)
    assert found.class_names == NAMES
    assert found.path == IMAGE
    assert set(found.names) <= set(NAMES)
    drawn = detector.draw(IMAGE, found)
    assert drawn.dtype == np.uint8
    assert detector.experiment.name == "small"
    again = ppdet.evaluate(detector)
    assert again.metrics["bbox"] == pytest.approx(result.metrics["bbox"])
    assert {one.image_id for one in again.detections} == {1, 2}
    again.save(tmp_path / "metrics.json")
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"bbox", "fps", "classwise"}


def test_images_of_every_kind_give_the_same(result: ppdet.TrainResult) -> None:
    image = pytest.importorskip("PIL.Image")
    detector = ppdet.load_detector(result.final, runtime="native")
    array = np.asarray(image.open(IMAGE))
    kinds = [IMAGE, Path(IMAGE), array, image.open(IMAGE), "data/val2017/*01.jpg"]
    boxes = [one.boxes for one in detector(kinds, threshold=0.0)]
    assert len(boxes) == len(kinds)
    for other in boxes[1:]:
        np.testing.assert_array_equal(boxes[0], other)
    files = [str(path) for path in sorted(Path("data/val2017").iterdir())]
    assert [one.path for one in detector("data/val2017")] == files
    assert detector([]) == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        ("gone.jpg", "image gone.jpg does not exist"),
        ("gone/*.jpg", "no file matches gone"),
        (7, "expected a path"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(image: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        samples_of([image])  # type: ignore[list-item]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.pdiparams", "model.onnx", "paddle2x/model.pdiparams"])
def test_an_export_never_replaces_its_weights(
    result: ppdet.TrainResult, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder is a link."""
    out = tmp_path / "out"
    weights = out / name
    weights.parent.mkdir(parents=True)
    weights.write_bytes(result.final.read_bytes())
    (tmp_path / "link").symlink_to(out, target_is_directory=True)
    detector = ppdet.load_detector(result.final)
    assert Path(detector.source) == result.final
    detector.source = str(weights)
    for folder in (out, tmp_path / "link"):
        with pytest.raises(FileError, match=f"{name} would replace a file that is read from"):
            detector.export(folder, formats=["paddle"], verify=False)
    assert [path for path in out.rglob("*") if path.is_file()] == [weights]
    assert weights.read_bytes() == result.final.read_bytes()


def test_an_export_never_replaces_its_config(result: ppdet.TrainResult, tmp_path: Path) -> None:
    config = tmp_path / "infer_cfg.yml"
    config.write_text((result.folder / "config.yml").read_text("utf-8"), "utf-8")
    detector = ppdet.load_detector(result.final, config=config)
    with pytest.raises(FileError, match=r"infer_cfg\.yml would replace a file that is read"):
        detector.export(tmp_path, formats=["paddle"], verify=False)
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.slow
def test_an_export_has_nothing_of_an_earlier_one(result: ppdet.TrainResult, tmp_path: Path) -> None:
    """The network of other weights in another format would be run in place of the exported one."""
    detector = ppdet.load_detector(result.final)
    old = [tmp_path / "model.onnx", tmp_path / "paddle2x" / "model.pdiparams"]
    old[1].parent.mkdir()
    for path in (*old, tmp_path / "export.json", tmp_path / "notes.txt"):
        path.write_bytes(b"old")
    made = detector.export(tmp_path, formats=["paddle"], verify=False)
    assert [path.name for path in made.files] == ["model.json", "model.pdiparams"]
    assert not any(path.exists() for path in old)
    assert (tmp_path / "notes.txt").read_bytes() == b"old"


@pytest.mark.slow
def test_an_export_is_a_detector_too(result: ppdet.TrainResult, tmp_path: Path) -> None:
    detector = ppdet.load_detector(result.final, runtime="native")
    exported = detector.export(tmp_path / "out", formats=["paddle"], images="data/val2017")
    assert [path.name for path in exported.files] == ["model.json", "model.pdiparams"]
    assert exported.comparisons[0].passed
    other = ppdet.load_detector(tmp_path / "out")
    assert isinstance(other, ExportedDetector)
    assert other.class_names == NAMES
    both = [one("data/val2017", threshold=0.0) for one in (detector, other)]
    for ours, theirs in zip(*both):
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.05)
    measured = [ppdet.evaluate(detector), ppdet.evaluate(other, detector.experiment)]
    assert measured[0].metrics["bbox"]["AP"] == pytest.approx(measured[1].metrics["bbox"]["AP"], abs=1e-3)
    by_config = ppdet.evaluate(detector.experiment, weights=str(tmp_path / "out"))
    assert by_config.metrics == measured[1].metrics
    with pytest.raises(SourceError, match="has no EvalDataset"):
        ppdet.evaluate(other)
    with pytest.raises(SourceError, match="is an export already"):
        other.export(tmp_path / "again")
    with pytest.raises(SourceError, match="verified: paddle"):
        ppdet.load_detector(tmp_path / "out", runtime="onnx")


def test_sources_that_are_no_detector(project: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not an export"):
        ppdet.load_detector(tmp_path)
    with pytest.raises(WeightsError, match="did you mean"):
        ppdet.load_detector("faster_rcnn_r50_fpn_1x_coc")
    save_weights(project, "bare.pdparams", class_names=())
    with pytest.raises(SourceError, match="carries no configuration"):
        ppdet.load_detector("bare")
    nameless = ppdet.load_detector("bare", config="small.yml", runtime="native")
    assert nameless.class_names == ()
    with pytest.raises(WeightsError, match="has no class names"):
        nameless(IMAGE)
    named = ppdet.load_detector("bare", config="small.yml", classes=["x", "y", "z"], runtime="native")
    assert set(named(IMAGE, threshold=0.0)[0].names) <= {"x", "y", "z"}


def test_predictions_as_files(result: ppdet.TrainResult, tmp_path: Path) -> None:
    detector = ppdet.load_detector(result.final, runtime="native")
    options = ppdet.PredictOptions(threshold=0.0, formats=("json", "csv"))
    done = ppdet.predict(detector, "data/val2017", tmp_path / "out", options)
    assert (done.count, done.skipped) == (2, 0)
    rows = json.loads(done.files["json"].read_text())
    assert sum(len(row["objects"]) for row in rows) == done.objects
    assert all(Path(row["drawn"]).is_file() for row in rows)
    quiet = ppdet.predict(detector, IMAGE, tmp_path / "quiet", ppdet.PredictOptions(draw=False))
    assert [path.name for path in quiet.folder.iterdir()] == ["detections.json"]
    with pytest.raises(ppdet.UserError, match="no output format 'xml'"):
        ppdet.PredictOptions(formats=("xml",))


def test_a_checkpoint_runs_no_plugin(project: Path, tmp_path: Path) -> None:
    """Weights may come from a stranger: a plugin that their config lists is not imported."""
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('code of a stranger')\n", "utf-8")
    text = ppdet.load_config("small.yml").to_yaml() + f"\nplugins: [{trap}]\n"
    text = text.replace("plugins: []\n", "")
    save_weights(project, "trap.pdparams", config={"yaml": text})
    with pytest.raises(ppdet.UserError, match="loading weights runs no code"):
        ppdet.load_detector("trap")


def test_datasets_are_objects_too(result: ppdet.TrainResult, tmp_path: Path) -> None:
    experiment = ppdet.load_config("small.yml", {"max_iters": 1, "save_dir": str(tmp_path)})
    boxes = np.array([[10, 10, 50, 50]], np.float32)
    target = ppdet.Target(boxes, np.array([1], np.int64), np.array([False]))
    samples = [ppdet.Sample(image_id=5, path=IMAGE, target=target)]
    dataset = ppdet.SampleDataset([*samples, *samples], NAMES)
    trained = ppdet.train(experiment, datasets={"train": dataset, "eval": samples}, weights=str(result.final))
    assert trained.steps == 1
    assert set(trained.metrics["bbox"]) >= {"AP", "AP50"}
    assert ppdet.train(experiment, datasets={"train": dataset}).metrics == {}
    with pytest.raises(ppdet.UserError, match="no dataset 'val'"):
        ppdet.train(experiment, datasets={"val": dataset})
    measured = ppdet.evaluate(ppdet.load_detector(result.final, runtime="native"), samples)
    assert [one.image_id for one in measured.detections] == [5]


def test_a_plan_writes_nothing_and_says_what_it_starts_from(
    result: ppdet.TrainResult, project: Path, tmp_path: Path
) -> None:
    experiment = ppdet.load_config("small.yml", {"save_dir": str(tmp_path / "new")})
    plan = plan_training(experiment, weights=str(result.final))
    assert f"starts from    {result.final}" in plan.summary()
    assert not (tmp_path / "new").exists()
    resumed = plan_training(ppdet.load_config("small.yml", {"epoch": 3}), resume="auto")
    assert "starts from    step 1 of output/small" in resumed.summary()
    with pytest.raises(ppdet.UserError, match=r"gone\.pdparams: there is no such file"):
        plan_training(experiment, weights="gone.pdparams")
