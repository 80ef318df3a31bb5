"""Protects the comparison: better or noise is told apart, and what differs is what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppdet.cli import main
from ppdet.report.comparison import compare, config_differences, overlaid_charts
from ppdet.report.page import ReportError
from ppdet.report.runs import read_run
from tests.report.folders import data_of, write_detections, write_run


def test_a_real_difference_is_told_from_chance(tmp_path: Path) -> None:
    good, annotations = write_detections(tmp_path, images=60)
    bad, _ = write_detections(tmp_path, images=60, shift=12)
    page = tmp_path / "comparison.html"
    text = compare([bad, good], page, annotations)
    assert text.startswith("detections0 is better than detections12 by") and "more than chance" in text
    html = page.read_text("utf-8")
    assert text in html.replace("&#39;", "'") and 'class="diff up"' in html
    assert compare([good, bad], page, annotations).startswith("detections0 is better")
    copy = tmp_path / "copy.json"
    copy.write_text(good.read_text())
    assert "is not decided" in compare([good, copy], page, annotations)


def test_images_are_listed_on_the_side_that_is_right(tmp_path: Path) -> None:
    good, annotations = write_detections(tmp_path, images=30)
    bad, _ = write_detections(tmp_path, images=30, shift=40)
    compare([bad, good], tmp_path / "c.html", annotations)
    html = (tmp_path / "c.html").read_text("utf-8")
    better, worse = html.split("detections0 makes fewer errors")[1].split("detections40 makes fewer errors")
    assert better.count(".jpg") > worse.split("</section>")[0].count(".jpg")


def test_runs_are_compared_by_curves_and_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one")
    config = "epoch: 4\nLearningRate: {base_lr: 0.02}\nreader:\n- !Flip {prob: 0.5}\n"
    other = write_run(tmp_path / "other", steps=100, ap=lambda step: 0.1, config=config)
    assert main(["compare", str(one), str(other), "--output", str(tmp_path / "c.html")]) == 0
    assert "one has the highest score of its training" in capsys.readouterr().out
    html = (tmp_path / "c.html").read_text("utf-8")
    (loss,) = (chart for chart in data_of(html)["charts"] if chart["id"] == "loss")
    assert [series["label"] for series in loss["series"]] == ["one", "other"]
    assert loss["series"][1]["values"][loss["x"].index(105)] is None
    runs = [read_run(one), read_run(other)]
    assert config_differences(runs) == [
        ("LearningRate.base_lr", ["0.01", "0.02"]),
        ("reader.0.name", ["", "Flip"]),
        ("reader.0.prob", ["", "0.5"]),
    ]
    assert overlaid_charts(runs[:1]) == []


def test_mistakes_are_told(tmp_path: Path) -> None:
    detections, annotations = write_detections(tmp_path, images=3)
    run = write_run(tmp_path / "run")
    page = tmp_path / "c.html"
    with pytest.raises(ReportError, match="two trainings"):
        compare([detections], page, annotations)
    with pytest.raises(ReportError, match="which annotations"):
        compare([detections, detections], page)
    with pytest.raises(ReportError, match=r"run: no detections\.json.*ppdet eval --save_results"):
        compare([detections, run], page, annotations)
    assert not page.exists()


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first, annotations = write_detections(tmp_path / "a", images=4)
    second, _ = write_detections(tmp_path / "b", images=4)
    text = compare([first, second], tmp_path / "c.html", annotations)
    assert "a/detections0" in text and "b/detections0" in text
