"""Protects anchors: figures against plain Python, planted clusters, the block and the file written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.cli import main
from ppdet.data.tools.anchors import REACHED, fit_anchors, measure_anchors
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.doctor.oracles import iou
from ppdet.experiment.config import load_config
from ppdet.utils.errors import DataError


def sizes_of(seed: int, count: int) -> np.ndarray:
    """Widths and heights of many orders."""
    return np.exp(np.random.default_rng(seed).normal(3, 0.8, (count, 2)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 9))
def test_figures_are_those_of_plain_code(seed: int, objects: int, anchors: int) -> None:
    sizes, shapes = sizes_of(seed, objects), sizes_of(seed + 1, anchors)
    best = [max(iou([0, 0, *size], [0, 0, *shape]) for shape in shapes) for size in sizes]
    found = measure_anchors(sizes, shapes)
    assert found.mean_iou == pytest.approx(sum(best) / objects)
    assert found.recall == pytest.approx(sum(value >= REACHED for value in best) / objects)
    areas = [width * height for width, height in found.anchors]
    assert areas == sorted(areas) and len(areas) == anchors


def test_clusters_are_found() -> None:
    rng = np.random.default_rng(0)
    means = np.array([[10, 20], [40, 40], [120, 50]], float)
    sizes = np.concatenate([mean * rng.normal(1, 0.03, (200, 2)) for mean in means])
    found = fit_anchors(sizes, 3)
    np.testing.assert_allclose(found.anchors, means, rtol=0.05)
    assert found.recall == 1.0 and found.mean_iou > 0.9


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_fitted_anchors_cover_better_than_those_of_coco(seed: int) -> None:
    sizes = sizes_of(seed, 300)
    coco = np.array([[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119]], float)
    found = fit_anchors(sizes, len(coco), seed=seed)
    assert found.mean_iou > measure_anchors(sizes, coco).mean_iou
    assert found == fit_anchors(sizes, len(coco), seed=seed)


def test_the_refinement_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = sizes_of(0, 500)
    fitted = fit_anchors(sizes, 6)
    monkeypatch.setattr("ppdet.data.tools.anchors._GENERATIONS", 0)
    assert fitted.mean_iou > fit_anchors(sizes, 6).mean_iou


def test_too_few_objects() -> None:
    with pytest.raises(DataError, match="1 different sizes of objects are too few for 2 anchors"):
        fit_anchors(np.ones((5, 2)), 2)
    with pytest.raises(DataError, match="no object"):
        measure_anchors(np.zeros((0, 2)), np.ones((1, 2)))


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("shapes")
    write_dataset(folder, SyntheticOptions(train=20, val=1, height=128, width=128))
    files = [f"TrainDataset.dataset_dir={folder}", "TrainDataset.image_dir=train"]
    return ["-o", *files, "TrainDataset.anno_path=annotations/instances_train.json", "num_classes=6"]


@pytest.mark.parametrize("config", ["yolov3_tiny_coco", "quickstart_faster_rcnn"])
def test_the_command_writes_a_config_that_loads(
    config: str, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, figures = tmp_path / "mine.yml", tmp_path / "figures.json"
    words = ["data", "anchors", "-c", config, "--write", str(target), "--json", str(figures), *overrides]
    assert main(words) == 0
    shown, found = capsys.readouterr().out, json.loads(figures.read_text("utf-8"))
    assert found["fitted"]["mean_iou"] > found["today"]["mean_iou"] and found["yaml"] in shown
    text = target.read_text("utf-8")
    assert f"_BASE_: {config}.yml" in text and text.endswith(found["yaml"] + "\n")
    part = load_config(target).architecture.arguments
    if "yolo_head" in part:
        assert part["yolo_head"].arguments["anchors"] == found["arguments"]["anchors"]
    else:
        written = part["rpn_head"].arguments["anchor_generator"].arguments["anchor_sizes"]
        assert written == found["arguments"]["anchor_generator"]["anchor_sizes"]
    assert main(words) == 2 and target.read_text("utf-8") == text
    other = tmp_path / "below" / "again.yml"
    other.parent.mkdir()
    assert main(["data", "anchors", "-c", str(target), "--write", str(other), *overrides]) == 0
    assert "_BASE_: ../mine.yml" in other.read_text("utf-8")
    load_config(other)


def test_detectors_without_anchors_say_so(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for config in ("quickstart_retinanet", "quickstart_ppyoloe"):
        assert main(["data", "anchors", "-c", config, *overrides]) == 2
        assert "has no anchors to fit" in capsys.readouterr().err
