"""Protects the page of an evaluation: what it holds agrees with the analysis, is safe, whole and small."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdet.cli import main
from ppdet.report import page as page_module
from ppdet.report.detections_file import analysis_of_files
from ppdet.report.evaluation import classes_csv, evaluation_page, summary
from ppdet.report.page import ReportError, finite, render
from ppdet.report.wording import advice, verdict
from tests.metrics.analysis.scenes import analysis_of, scene
from tests.report.folders import data_of, write_detections, write_images
from tests.support import ROOT


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_detections(tmp_path_factory.mktemp("scene"))


def test_page_agrees_with_the_analysis(files: tuple[Path, Path]) -> None:
    analysis = analysis_of_files(*files)
    html = evaluation_page(analysis, title="A <model>", facts=["val"])
    data = data_of(html)
    background = len(analysis.objects.class_names)
    counts = np.zeros((background + 1, background + 1), int)
    for row, column, count, cases in data["matrix"]["cells"]:
        counts[row, column] = count
        assert 1 <= len(cases) <= count
    assert counts.tolist() == analysis.confusion.counts.tolist()
    assert data["matrix"]["rows"] == counts.sum(axis=1).tolist()
    best = data["thresholds"]["all"]["best"]
    assert best["correct"] + best["missed"] == best["objects"] == (~analysis.objects.is_crowd).sum()
    assert data["precision"]["0.5"]["0"] == pytest.approx(analysis.precision(0.5)[0], abs=1e-4)
    assert len(data["images"]) == len(analysis.objects.image_ids)
    assert f"{100 * analysis.numbers['AP'].value:.1f}" in html


def test_pictures_hold_the_states_of_matching(files: tuple[Path, Path]) -> None:
    analysis = analysis_of_files(*files)
    data = data_of(evaluation_page(analysis, title="model"))
    scale = data["images"][0]["width"] / 640
    for row, image in enumerate(data["images"]):
        number = analysis.objects.file_names.index(image["file"])
        mine = analysis.predictions.image == number
        shown = analysis.predictions.score[mine] >= 0.05
        assert [d[5] for d in image["found"]] == pytest.approx(
            analysis.predictions.score[mine][shown], abs=1e-4
        )
        correct = analysis.matches.correct[0, mine][shown]
        assert [d[7] == 0 for d in image["found"]] == correct.tolist(), row
        things = [d[6] for d in image["found"] if d[7] == 0]
        assert len(set(things)) == len(things)
        truth = analysis.objects.xywh[analysis.objects.image == number] * scale
        drawn = np.array([t[:4] for t in image["truth"]]).reshape(-1, 4)
        np.testing.assert_allclose(drawn, truth, atol=0.06)


def test_cases_of_a_cell_point_at_its_objects(files: tuple[Path, Path]) -> None:
    data = data_of(evaluation_page(analysis_of_files(*files), title="model"))
    background = len(data["classes"])
    for row, column, _, cases in data["matrix"]["cells"]:
        for image, thing, found in cases:
            entry = data["images"][image]
            assert (thing == -1) == (row == background) and (column == background) <= (found == -1)
            assert thing == -1 or entry["truth"][thing][4] == row
            assert found == -1 or entry["found"][found][4] == column


def test_names_of_users_stay_text(files: tuple[Path, Path]) -> None:
    html = evaluation_page(analysis_of_files(*files), title="A <model>")
    assert "</script><b>" not in html and "&lt;/script&gt;&lt;b&gt;bold &amp; bad" in html
    assert "<h1>A &lt;model&gt;</h1>" in html
    assert "</script><b>bold & bad" in data_of(html)["classes"]


def test_nothing_is_fetched_from_elsewhere(files: tuple[Path, Path]) -> None:
    html = evaluation_page(analysis_of_files(*files), title="model")
    assert "default-src 'none'" in html
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) <= {
        "https://github.com/leeoniya/uPlot",
        "http://www.w3.org/2000/svg",
    }


def test_plot_library_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {page_module._vendored(name)[:3] for name in page_module.VENDORED} == {"/*!", ".up"}
    monkeypatch.setitem(page_module.VENDORED, "uPlot.min.css", "0" * 64)
    with pytest.raises(ReportError, match="not the published file"):
        page_module._vendored("uPlot.min.css")


def test_numbers_as_json_and_csv(files: tuple[Path, Path]) -> None:
    analysis = analysis_of_files(*files)
    numbers = json.loads(json.dumps(finite(summary(analysis)), allow_nan=False))
    assert numbers["numbers"]["AP"]["value"] == analysis.numbers["AP"].value
    assert np.sum(numbers["confusion"]["counts"]) == analysis.confusion.counts.sum()
    assert sum(numbers["errors"]["counts"].values()) == sum(analysis.errors.counts.values())
    rows = list(csv.DictReader(io.StringIO(classes_csv(analysis))))
    assert [row["class"] for row in rows] == list(analysis.objects.class_names)
    assert all(int(r["correct"]) + int(r["missed"]) == int(r["objects"]) for r in rows)
    assert float(rows[0]["ap"]) == analysis.classes[0].ap.value


def test_a_large_dataset_keeps_to_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    from ppdet.report import gallery

    analysis = analysis_of(*scene(1, images=60))
    monkeypatch.setattr(gallery, "IMAGES", 10)
    made = gallery.build_gallery(analysis, None)
    assert len(made.images) == 10 and "keeps 10 of 60 images" in made.note
    elsewhere = [case for _, _, _, cases in made.cells for case in cases if isinstance(case[0], str)]
    assert elsewhere and all(name[0].endswith(".jpg") for name in elsewhere)
    monkeypatch.setattr(gallery, "BYTES", 500)
    assert 1 <= len(gallery.build_gallery(analysis, None).images) < 10


def test_masks_are_outlines_in_pixels_of_the_picture(tmp_path: Path) -> None:
    detections, annotations = write_detections(tmp_path, images=4)
    truth, rows = json.loads(annotations.read_text()), json.loads(detections.read_text())
    from pycocotools import mask as mask_utils

    for row in [*truth["annotations"], *rows]:
        x, y, w, h = row["bbox"]
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        encoded = mask_utils.merge(mask_utils.frPyObjects(polygon, 480, 640))
        row["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    annotations.write_text(json.dumps(truth))
    detections.write_text(json.dumps(rows))
    html = evaluation_page(analysis_of_files(detections, annotations, masks=True), title="m")
    assert 'id="show-masks"' in html
    image = next(image for image in data_of(html)["images"] if image["truth"])
    x, y, w, h = image["truth"][0][:4]
    outline = np.array(image["truth"][0][6][0]).reshape(-1, 2)
    inside = [min(x + w, image["width"]), min(y + h, image["height"])]
    np.testing.assert_allclose(outline.min(axis=0), [x, y], atol=1.6)
    np.testing.assert_allclose(outline.max(axis=0), inside, atol=1.6)


def test_words_fit_the_numbers() -> None:
    truth, rows = scene(3, images=40, spread=0.25)
    analysis = analysis_of(truth, rows)
    assert f"AP is {100 * analysis.numbers['AP'].value:.1f}" in verdict(analysis)
    texts = " ".join(item.text for item in advice(analysis))
    assert "not tight" in texts, "loose boxes cost most in this scene"
    absent = truth["categories"][2]
    without = [row for row in rows if row["category_id"] != absent["id"]]
    assert any(
        f"Never detected: {absent['name']}" in item.text for item in advice(analysis_of(truth, without))
    )
    perfect = [{**row, "score": 0.9} for row in truth["annotations"]]
    assert not any("cost most" in item.text for item in advice(analysis_of(truth, perfect)))
    nothing = analysis_of({**truth, "annotations": []}, rows)
    assert advice(nothing) == [] and "nothing can be measured" in verdict(nothing)
    expected = "none of the 0 detections matches one."
    assert verdict(analysis_of(truth, [])).endswith(expected)


@pytest.mark.parametrize("case", ["no objects", "no detections", "nothing"])
def test_little_data_makes_a_page(case: str) -> None:
    truth, rows = scene(0, images=0 if case == "nothing" else 3)
    if case == "no objects":
        truth["annotations"] = []
    html = evaluation_page(analysis_of(truth, [] if case != "no objects" else rows), title="little")
    assert data_of(html)["classes"]


def test_command_writes_page_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections, annotations = write_detections(tmp_path, images=5)
    images = write_images(tmp_path / "val", tuple(f"{i}.jpg" for i in (1, 4, 7)))
    words = ["report", str(detections), "--anno_path", str(annotations), "--image_dir", str(images)]
    words += ["--json", str(tmp_path / "n.json"), "--csv", str(tmp_path / "c.csv")]
    assert main(words) == 0
    html = detections.with_suffix(".html").read_text("utf-8")
    assert str(detections.with_suffix(".html")) in capsys.readouterr().out
    assert html.count("data:image/webp;base64") == 3 and html.count("data:image/svg+xml") == 2
    assert json.loads((tmp_path / "n.json").read_text())["images"] == 5
    assert (tmp_path / "c.csv").read_text().startswith("class,ap,")


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections, annotations = write_detections(tmp_path, images=3)
    other = tmp_path / "other.json"
    cases = {
        "[1, 2": "is not JSON",
        '{"a": 1}': "expected COCO's results format",
        '[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]': "none of the 1 detections",
        # Run lengths that are cut short, which the C code of COCO's API would read beyond.
        '[{"image_id": 1, "category_id": 1, "score": 1, "segmentation": {"size": [9, 9], "counts": "P"}}]': (
            "detection 0 has run lengths that do not add up"
        ),
    }
    for text, message in cases.items():
        other.write_text(text)
        assert main(["report", str(other), "--anno_path", str(annotations)]) == 2
        assert message in capsys.readouterr().err
    assert main(["report", str(detections)]) == 2
    assert "--anno_path" in capsys.readouterr().err
    assert main(["report", str(detections), "--anno_path", str(detections)]) == 2
    assert "a COCO annotation file is a JSON object" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "metrics.jsonl" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--json", "x.json"]) == 2
    assert "not for a training" in capsys.readouterr().err


def test_without_jinja2_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from ppdet.report.page import ReportError, render\n"
        "try: render('evaluation', {})\n"
        "except ReportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'pip install "ppdet[report]"' in run.stdout


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections, annotations = write_detections(tmp_path, images=2)
    target = tmp_path / "annotations.json" / "page.html"
    words = ["report", str(detections), "--anno_path", str(annotations), "--output", str(target)]
    assert main(words) == 2
    assert "page.html: cannot be written" in capsys.readouterr().err


def test_numbers_that_are_not_finite_become_null() -> None:
    assert finite({"a": float("nan"), "b": [np.float64("inf"), np.arange(2)], "c": "x"}) == {
        "a": None,
        "b": [None, [0, 1]],
        "c": "x",
    }
    with pytest.raises(Exception, match="sections"):
        render("evaluation", {}, kind="k", title="t", facts=[])
