"""Protects the choice of a runtime: what `auto` takes and why, and whose export the cache gives."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet import build_model, load_config
from ppdet.cli.common import RUNTIMES
from ppdet.config import Spec
from ppdet.data.readers import Reader
from ppdet.experiment.build import require
from ppdet.experiment.config import Experiment
from ppdet.export import choose, standalone
from ppdet.export.choose import CHOICES, WORTHWHILE, choose_predictor, fingerprint
from ppdet.export.errors import ExportError
from ppdet.export.info import describe
from ppdet.export.runtime import ExportedPredictor
from ppdet.export.sessions import BROKEN_PASSES, open_session
from ppdet.export.verify import generated_images
from ppdet.inference.images import samples_of
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.inference.runner import ImageRunner
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Detections
from tests.cli.small import make_project
from tests.support import requires_onnx, requires_openvino


def cpu_flags() -> str:
    """What the processor says it can do; nothing on systems that do not tell."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def chosen_for(model: Detector, experiment: Experiment) -> tuple[Detector, Spec[Detector], Reader]:
    """What `choose_predictor` takes after the choice."""
    return model, experiment.architecture, require(experiment, "EvalReader").build()


def detections_of(predictor: Predictor, images: list[np.ndarray], experiment: Experiment) -> list[Detections]:
    """What a predictor detects in images."""
    runner = ImageRunner(require(experiment, "TestReader").build(), predictor)
    return [found.detections for found in runner.stream(samples_of(images))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small config."""
    return make_project(tmp_path_factory.mktemp("project"))


@requires_onnx
@pytest.mark.slow
def test_auto_exports_once_and_only_where_it_pays(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load_config(project / "small.yml")
    model = build_model(experiment)
    caplog.set_level(logging.INFO, "ppdet")
    monkeypatch.setattr(choose, "is_installed", lambda name: False)  # of OpenVINO
    few = choose_predictor("auto", *chosen_for(model, experiment), images=WORTHWHILE - 1, cache=tmp_path)
    assert isinstance(few, NativePredictor)
    assert "worth its time from" in caplog.text
    many = choose_predictor("auto", *chosen_for(model, experiment), images=WORTHWHILE, cache=tmp_path)
    assert isinstance(many, ExportedPredictor)
    assert "runtime: ONNX Runtime" in caplog.text

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("exported twice")

    monkeypatch.setattr(choose, "export_model", fail)
    again = choose_predictor("auto", *chosen_for(model, experiment), images=1, cache=tmp_path)
    assert isinstance(again, ExportedPredictor)
    images = generated_images()
    counts = [[len(d) for d in detections_of(p, images, experiment)] for p in (NativePredictor(model), again)]
    assert counts[0] == counts[1]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@requires_onnx
@requires_openvino
@pytest.mark.slow
def test_auto_takes_the_fastest_and_leaves_out_what_fails(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load_config(project / "small.yml")
    model = build_model(experiment)
    asked: list[set[str]] = []

    def openvino_if_there(exports: dict[str, Path], cache: Path) -> str:
        asked.append(set(exports))
        return "openvino" if "openvino" in exports else "onnx"

    monkeypatch.setattr(choose, "fastest", openvino_if_there)
    predictor = choose_predictor("auto", *chosen_for(model, experiment), images=1000, cache=tmp_path)
    assert predictor.runtime.startswith("OpenVINO")
    images = generated_images()
    found, wanted = (detections_of(one, images, experiment) for one in (predictor, NativePredictor(model)))
    assert sum(map(len, wanted))
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)

    real = choose.put_into_cache

    def without_openvino(entry: Path, *rest: Any) -> None:
        if rest[-1] == "openvino":
            raise ExportError("no such operation")
        real(entry, *rest)

    monkeypatch.setattr(choose, "put_into_cache", without_openvino)
    caplog.set_level(logging.INFO, "ppdet")
    fallen = choose_predictor("auto", *chosen_for(model, experiment), images=1000, cache=tmp_path)
    assert fallen.runtime.startswith("ONNX Runtime")
    assert "runtime openvino is left out: no such operation" in caplog.text
    assert asked == [{"onnx", "openvino"}, {"onnx"}]


def test_what_does_not_work_is_no_choice(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load_config(project / "small.yml")
    model = build_model(experiment)
    caplog.set_level(logging.INFO, "ppdet")

    def fail(*args: object, **kwargs: object) -> None:
        raise ExportError("no such operation")

    monkeypatch.setattr(choose, "export_model", fail)
    fallen = choose_predictor("auto", *chosen_for(model, experiment), images=1000, cache=tmp_path)
    assert isinstance(fallen, NativePredictor)
    assert "no such operation" in caplog.text
    with pytest.raises(ExportError, match="no such operation"):
        choose_predictor("onnx", *chosen_for(model, experiment), images=1, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_onnx_auto_is_paddle_inference(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load_config(project / "small.yml")
    model = build_model(experiment)
    caplog.set_level(logging.INFO, "ppdet")
    monkeypatch.setattr(choose, "obstacle", lambda: "ONNX needs something: pip install it")
    predictor = choose_predictor("auto", *chosen_for(model, experiment), images=1000, cache=tmp_path)
    assert "Paddle Inference" in predictor.runtime
    assert "pip install" in caplog.text


def test_the_command_line_offers_every_runtime() -> None:
    assert RUNTIMES == CHOICES


def test_bfloat16_is_refused_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    with pytest.raises(ExportError, match="for CPUs"):
        open_session(tmp_path, "paddle", bfloat16=True)


def test_the_standalone_program_leaves_out_the_same_rewritings() -> None:
    source = Path(standalone.__file__).read_text("utf-8")
    assert all(f'"{name}"' in source for name in BROKEN_PASSES)


def test_native_is_the_model(project: Path) -> None:
    experiment = load_config(project / "small.yml")
    predictor = choose_predictor("native", *chosen_for(build_model(experiment), experiment), images=1000)
    assert isinstance(predictor, NativePredictor)


def test_a_cached_export_is_of_these_weights_and_settings(project: Path) -> None:
    def name(*overrides: str, change: bool = False) -> str:
        experiment = load_config(project / "small.yml", list(overrides))
        import paddle

        paddle.seed(1)
        model = build_model(experiment)
        if change:
            first = model.parameters()[0]
            first.set_value(first + 1e-6)
        assert experiment.EvalReader is not None
        info = describe(model, experiment.EvalReader.build(), ())
        return fingerprint(model, experiment.architecture, info, "onnx")

    same = name()
    assert (
        name("save_dir=elsewhere", "epoch=7", "LearningRate.base_lr=0.5", "log_iter=10", "amp=true") == same
    )
    others = [
        name(change=True),
        name("RPNHead.test_proposal.post_nms_top_n=9"),
        name("EvalReader.sample_transforms.1.Resize.target_size=[32,32]"),
        name("BBoxPostProcess.nms.score_threshold=0.2"),
    ]
    assert len({same, *others}) == 5


def test_a_folder_without_description_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is this an export"):
        ExportedPredictor(tmp_path, "onnx")


@pytest.mark.slow
@pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="this CPU has no bfloat16")
def test_bfloat16_is_coarse_but_alike(project: Path, tmp_path: Path) -> None:
    experiment = load_config(project / "small.yml")
    model = build_model(experiment)
    full, half = (
        choose_predictor(name, *chosen_for(model, experiment), images=1, cache=tmp_path)
        for name in ("paddle", "paddle-bf16")
    )
    assert "bfloat16" in half.runtime
    assert "bfloat16" not in full.runtime
    assert len(list(tmp_path.iterdir())) == 1  # both run the same export
    images = generated_images()
    for one, other in zip(detections_of(full, images, experiment), detections_of(half, images, experiment)):
        assert not np.array_equal(one.scores, other.scores)
        count = min(len(one), len(other))
        assert count
        np.testing.assert_allclose(one.scores[:count], other.scores[:count], atol=0.05)


def test_auto_on_a_gpu_is_the_static_graph(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No GPU is needed: what would run there is recorded."""
    experiment = load_config(project / "small.yml")
    model = build_model(experiment)
    monkeypatch.setattr(choose.paddle, "get_device", lambda: "gpu:0")
    made: list[str] = []
    monkeypatch.setattr(choose, "put_into_cache", lambda entry, *rest: made.append(rest[-1]))
    monkeypatch.setattr(choose, "ExportedPredictor", lambda folder, runtime, bfloat16: Recorded(runtime))
    chosen = choose_predictor("auto", *chosen_for(model, experiment), images=WORTHWHILE, cache=tmp_path)
    assert made == ["paddle"]
    assert isinstance(chosen, Recorded)
    assert chosen.runtime == "paddle"
    few = choose_predictor("auto", *chosen_for(model, experiment), images=WORTHWHILE - 1, cache=tmp_path)
    assert isinstance(few, NativePredictor)

    def fail(*args: object) -> None:
        raise ExportError("its numbers differ")

    monkeypatch.setattr(choose, "put_into_cache", fail)
    caplog.set_level(logging.INFO, "ppdet")
    other = choose_predictor("auto", *chosen_for(model, experiment), images=WORTHWHILE, cache=tmp_path)
    assert isinstance(other, NativePredictor)
    assert "runtime paddle is left out: its numbers differ" in caplog.text


class Recorded(NativePredictor):
    """In the place of an export that runs on a GPU."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
