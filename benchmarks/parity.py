"""Measure every golden test and write the table of `docs/parity.md`.

    python benchmarks/parity.py                      all golden tests (long: full-size networks)
    python benchmarks/parity.py tests/ops            these only; other rows keep what was measured last

Needs the goldens (``../shared`` beside the checkout) and the test requirements. The numbers come from the
tests' own comparisons (`tests/parity/recorder.py`); raw ones are kept in ``output/parity.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PAGE = ROOT / "docs" / "parity.md"
RAW = ROOT / "output" / "parity.json"
#: Files whose tests read goldens, and the golden that a test belongs to unless its parameters name one.
FILES = {
    "tests/parity/test_rcnn_features.py": "",
    "tests/parity/test_rcnn_detect.py": "",
    "tests/parity/test_rcnn_train.py": "",
    "tests/parity/test_yolo.py": "yolov3_darknet53_270e_coco",
    "tests/parity/test_retina.py": "retinanet_r50_fpn_1x_coco",
    "tests/parity/test_ppyoloe.py": "ppyoloe_plus_crn_s_80e_coco",
    "tests/parity/test_rtdetr.py": "rtdetr_r18vd_6x_coco",
    "tests/parity/test_rtdetr_train.py": "rtdetr_r18vd_6x_coco",
    "tests/parity/test_conventions_2020.py": "g1_units",
    "tests/ops/test_goldens.py": "unit_ops",
    "tests/modeling/test_assign_goldens.py": "unit_ops",
    "tests/modeling/test_soft_assign.py": "modern_units",
    "tests/modeling/test_reparameterize.py": "modern_units",
    "tests/modeling/test_detr_goldens.py": "modern_units",
    "tests/data/test_goldens.py": "data_pipeline",
    "tests/data/test_modern_goldens.py": "modern_data",
    "tests/engine/test_schedules.py": "learning_rates",
    "tests/metrics/test_coco.py": "coco_eval",
}
#: What tests call a quantity -> plain words. Whatever is missing here is shown as the test has it.
QUANTITIES = {
    "[image.mean(), image.std()]": "mean and deviation of the image",
    "_inclusive(boxes.numpy())": "boxes",
    "_inclusive(found.boxes.numpy()[0])": "boxes",
    "_inclusive(ours.numpy())": "boxes",
    "_rows(found, first_label=0)": "class, score, box",
    "_rows(found, first_label=1)": "class, score, box",
    "actual.numpy()": "values",
    "anchors[-30:].numpy()": "last anchors",
    "anchors[:30].numpy()": "first anchors",
    "assigned.boxes.numpy()[positive]": "box of each positive",
    "assigned.gt_index.numpy()[positive]": "object of each positive",
    "assigned.labels.numpy()": "class of each anchor",
    "assigned.scores.numpy()[positive]": "target score of each positive",
    "batch.image_sizes.numpy()[0]": "image size",
    "batch.scale_factors.numpy()[0]": "scale",
    "block(x).numpy()": "values",
    "block.reparameterized()(x).numpy()": "values of one convolution",
    "boxes[shown]": "boxes",
    "by_label(ours)": "scores and boxes by class",
    "chosen.squeeze(-1).numpy()": "score of the best class",
    "decoded.scores.numpy().any(axis=-1)": "which boxes have a score",
    "dense": "targets of all cells",
    "dense[:, :, 5:] > 0": "classes of all cells",
    "detections: box": "detections, boxes",
    "detections: score": "detections, scores",
    "fg": "which are positive",
    "flat[::step][:1000]": "pixels, a sample",
    "float(loss)": "each loss",
    "float(losses[name])": "each loss",
    "foreground": "which are positive",
    "found.boxes": "boxes",
    "found.boxes.numpy()[positive]": "box of each positive",
    "found.labels": "classes",
    "found.labels.numpy()": "class of each anchor",
    "found.scores": "scores",
    "found.scores.numpy()": "target scores",
    "generator(maps((1, 1)))[0].numpy()": "anchors of a 1 x 1 map",
    "generator(maps((2, 3)))[0].numpy()": "anchors of a 2 x 3 map",
    "golden_block(use_alpha=False)(x).numpy()": "values",
    "got": "each loss",
    "gt_index[foreground]": "object of each positive",
    "image.ravel()[::step][:1000]": "pixels, a sample",
    "kept.labels": "classes",
    "kept.weights": "mixup weights",
    "l1.mean()": "mean distance of the sides",
    "labels[:count]": "class of each sample",
    "labels[fg]": "class of each positive",
    "level[-30:]": "last anchors of a level",
    "level[:30]": "first anchors of a level",
    "list(numbers.values())": "all summary numbers",
    "loss.item()": "each loss",
    "loss.numpy()[5:]": "losses",
    "match.gt_index.numpy()": "object of each anchor",
    "match.gt_index.numpy()[touching]": "object of each anchor that touches one",
    "match.labels.numpy()": "positive, negative, ignored",
    "metric.classwise()[task][name]": "AP of each class",
    "mine": "mean, deviation, least and most of pixels",
    "norm": "gradient norm of each parameter",
    "normalized": "boxes as shares of the image",
    "norms": "gradient norm of each parameter",
    "norms[expected == 0]": "gradients that are 0",
    "np.flatnonzero(labels == -1)": "which are ignored",
    "np.float32(resized.scale_factor)": "scale",
    "np.linalg.norm(list(norms.values()))": "gradient norm of all",
    "np.linalg.norm(norms)": "gradient norm of all",
    "np.sort(kinds == -1)": "how many are ignored",
    "of_image": "regions per level of each image",
    "ours": "result",
    "ours.boxes[i].numpy()[:count]": "box of each sample",
    "ours.gt_boxes[i].numpy()[fg]": "object's box of each positive",
    "ours.gt_index[i].numpy()[fg]": "object of each positive",
    "ours.numpy()": "result",
    "ours.sum()": "sum",
    "ours[i].numpy()": "anchors",
    "points.centres.numpy()": "anchor points",
    "points.pixels.numpy()": "anchor points in pixels",
    "points.squares(5.0).numpy()": "anchors",
    "points.strides.numpy()": "strides",
    "polygon.reshape(-1)": "polygons",
    "predicted.grad.numpy()[5:]": "gradients",
    "predictions.probs[0, :50].numpy()": "class probabilities",
    "probs[i, :len(expected)]": "mask probabilities",
    "reference_module().sample_values(ours, count)": "a sample of the result",
    "regions.boxes[i].numpy()[valid]": "boxes",
    "regions.objectness_logits[i].numpy()[valid]": "scores",
    "result.target.boxes / 640": "boxes as shares of the image",
    "result.target.labels": "classes",
    "result.target.weights": "mixup weights",
    "right + 1": "right borders",
    "rois[levels == i + 2]": "regions of each level",
    "rows[:, 0]": "classes",
    "rows[:, 1]": "scores",
    "rows[:, 2:]": "boxes",
    "rows[fg]": "which are positive",
    "rows[kinds == 0]": "negatives",
    "rows[kinds == 1]": "positives",
    "rows[labels == 0]": "negatives",
    "rows_of(alone, 0)": "class, score, box",
    "sampled": "scores, a sample",
    "schedule.rate_at(step)": "learning rate",
    "scores.max(axis=-1).numpy()": "best scores",
    "second": "each loss of the second step",
    "stats": "mean, deviation, least and most",
    "sum((loss.item() for loss in losses.values()))": "total loss",
    "sum(got.values())": "total loss",
    "target.boxes": "boxes",
    "target.is_crowd": "crowds",
    "target.labels": "classes",
    "targets.deltas[i].numpy()[fg]": "deltas of each positive",
    "targets.gt_index[i].numpy()[fg]": "object of each positive",
    "total": "gradient norm of all",
    "trained.statistics[key[11:]]": "running mean and variance",
    "xywh": "centre, width, height",
    "{key: loss.item() for key, loss in losses.items()}": "each loss",
}
MODEL = re.compile(r"(?:cascade_|mask_|faster_|retinanet|yolov3)[a-z0-9_]*?_(?:1x|270e)_coco")
HEAD = """# Parity with PaddleDetection 2.x

Made by `benchmarks/parity.py`, not by hand. Each row is what a golden test compares, and of all its
comparisons the one nearest to its limit: the largest error in units of the tolerance. The goldens come from
PaddleDetection itself (develop, commit 666f597fd0) and, where they begin with `g1_`, from its code of 2020;
weights are made from the names of parameters, so that every layer matters and no download is needed.

"equal" stands for tests that compare exactly and pass: key lists, shapes, index lists, counts.
"""


def measure(paths: list[str]) -> int:
    """Run tests with the recorder and merge what they found into `RAW`; returns pytest's exit code."""
    import pytest

    from tests.parity.recorder import Recorder, wrap

    recorder = Recorder()
    wrap(recorder)
    status = int(pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", *paths], plugins=[recorder]))
    raw = json.loads(RAW.read_text("utf-8")) if RAW.is_file() else {"tests": {}, "opened": []}
    for test, outcome in recorder.outcomes.items():
        raw["tests"][test] = {"outcome": outcome, "rows": recorder.rows.get(test, {})}
    raw["opened"] = sorted({*raw["opened"], *recorder.opened})
    RAW.parent.mkdir(exist_ok=True)
    RAW.write_text(json.dumps(raw, indent=1), "utf-8")
    return status


def golden_of(test: str) -> str | None:
    """The golden that a test belongs to, from its id; None if it reads none."""
    file, _, name = test.partition("::")
    if file not in FILES:
        return None
    model = MODEL.search(name)
    if file.endswith("2020.py"):
        return f"g1_{model.group()}" if model else FILES[file]
    if file.endswith(("test_schedules.py", "test_coco.py")) and not name.startswith("test_golden"):
        return None
    if file.endswith(("test_soft_assign.py", "test_reparameterize.py")) and "golden" not in name:
        return None
    return model.group() if model else FILES[file] or None


def words_of(test: str) -> str:
    """Name of a test function in plain words."""
    name = test.partition("::")[2].split("[")[0]
    return name.removeprefix("test_").replace("_", " ")


def words_for(what: str) -> str:
    """A quantity for the page; nothing for a test that only passes or fails."""
    if not what:
        return ""
    plain = what.replace("_", " ").replace("/", " ")
    return QUANTITIES.get(what, plain if plain.replace(" ", "").isalnum() else f"`{what}`")


def table(tests: dict[str, Any]) -> list[str]:
    """Rows of the page, by golden and test."""
    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    failed = defaultdict(list)
    for test, found in tests.items():
        golden = golden_of(test)
        if golden is None or found["outcome"] == "skipped":
            continue
        if found["outcome"] != "passed":
            failed[golden].append(test)
        rows = found["rows"] or {"": {"unit": "equal", "error": 0, "tolerance": 0, "share": 0, "count": 1}}
        for what, row in rows.items():
            key = (golden, words_of(test), what)
            old = worst.get(key)
            count = row["count"] + (old["count"] if old else 0)
            kept = row if old is None or row["share"] >= old["share"] else old
            worst[key] = {**kept, "count": count}
    lines = ["| golden | test | quantity | compared | worst error | tolerance |", "|---|---|---|--:|--:|--:|"]
    for (golden, test, what), row in sorted(worst.items()):
        exact = row["unit"] in ("equal", "entries that differ") and row["error"] == 0
        error = "equal" if exact else f"{row['error']:.1e} {row['unit']}"
        tolerance = "0" if exact else f"{row['tolerance']:.1e}"
        quantity = words_for(what)
        lines.append(f"| {golden} | {test} | {quantity} | {row['count']} | {error} | {tolerance} |")
    for golden, names in failed.items():
        lines.append(f"| {golden} | **FAILED** | {', '.join(names)} | | | |")
    return lines


def page(raw: dict[str, Any]) -> str:
    """The whole page."""
    import paddle

    from tests.support import GOLDENS

    files = sorted(p.name for p in GOLDENS.iterdir() if p.suffix in (".npz", ".json", ".gz"))
    unread = [name for name in files if name not in raw["opened"]]
    counted = [t for test, t in raw["tests"].items() if golden_of(test) and t["outcome"] != "skipped"]
    passed = sum(t["outcome"] == "passed" for t in counted)
    facts = [
        f"Paddle {paddle.__version__}, CPU. {passed} of {len(counted)} golden tests passed.",
        f"Golden files read: {len(files) - len(unread)} of {len(files)}"
        + (f"; not read: {', '.join(unread)}." if unread else "."),
    ]
    return "\n".join([HEAD, *facts, "", *table(raw["tests"]), ""])


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="test files or folders; default: all golden tests")
    parser.add_argument("--page-only", action="store_true", help="write the page from what was measured last")
    arguments = parser.parse_args()
    status = 0 if arguments.page_only else measure(arguments.paths or list(FILES))
    PAGE.write_text(page(json.loads(RAW.read_text("utf-8"))), "utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
