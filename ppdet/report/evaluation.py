"""The page that explains an evaluation, and the same numbers as JSON and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.calibration import BINS, Calibration
from ppdet.metrics.analysis.operating_points import OperatingPoint, ThresholdCurve
from ppdet.metrics.analysis.tide import KINDS, Errors
from ppdet.report.gallery import Gallery, build_gallery
from ppdet.report.page import percent, render, rows_csv
from ppdet.report.wording import ERRORS, advice, verdict

#: Overlaps whose precision-recall curves are drawn.
OVERLAPS = (0.5, 0.75, 0.9)
#: Classes that the confusion matrix shows at first, those with the most errors.
MATRIX_CLASSES = 18
SECTIONS = (
    ("summary", "Summary"),
    ("classes", "Classes"),
    ("curves", "Curves"),
    ("confusion", "Confusion"),
    ("errors", "Errors"),
    ("subsets", "Hard objects"),
    ("calibration", "Calibration"),
    ("gallery", "Images"),
)


def evaluation_page(
    analysis: Analysis,
    *,
    title: str,
    facts: Sequence[str] = (),
    images: Optional[Path] = None,
    speed: Optional[Mapping[str, Any]] = None,
) -> str:
    """The page.

    Args:
        analysis: Of the detections.
        title: What was evaluated.
        facts: More about it, for the line below the title.
        images: Folder of the images; None shows boxes on an empty ground.
        speed: The ``fps`` entry of ``metrics.json``; None leaves the section out.

    Returns:
        HTML.
    """
    objects = analysis.objects
    gallery = build_gallery(analysis, images)
    speed_part = None if speed is None else _speed(speed)
    kept = f"{len(analysis.predictions):,} detections"
    size = [f"{len(objects.image_ids):,} images", f"{int(analysis.matches.counts.sum()):,} objects", kept]
    return render(
        "evaluation",
        _script_data(analysis, gallery),
        kind="Evaluation",
        title=title,
        facts=[*facts, *size, "masks" if objects.masks is not None else "boxes"],
        sections=[*SECTIONS, *([("speed", "Speed")] if speed_part else [])],
        verdict=verdict(analysis),
        cards=_cards(analysis, speed),
        advice=advice(analysis),
        numbers=analysis.numbers,
        drawings=len(analysis.weights) - 1,
        images=len(objects.image_ids),
        classes=analysis.classes,
        thresholds_block=thresholds_block(analysis),
        errors=analysis.errors,
        error_rows=_error_rows(analysis.errors),
        error_meanings=[(label, meaning) for label, meaning, _ in ERRORS.values()],
        subsets=analysis.subsets,
        calibration=analysis.calibration,
        calibration_rows=_calibration_rows(analysis.calibration),
        reliability=reliability_svg(analysis.calibration),
        views=gallery.views,
        threshold=analysis.threshold,
        has_masks=objects.masks is not None,
        matrix_most=MATRIX_CLASSES,
        kept_note=gallery.note,
        speed=speed_part,
    )


def _script_data(analysis: Analysis, gallery: Gallery) -> dict[str, Any]:
    """What evaluation.js reads."""
    return {
        "classes": analysis.objects.class_names,
        "precision": _precision(analysis),
        "thresholds": _threshold_curves(analysis),
        "matrix": {
            "threshold": analysis.threshold,
            "most": MATRIX_CLASSES,
            "rows": analysis.confusion.counts.sum(axis=1),
            "cells": gallery.cells,
        },
        "images": gallery.images,
        "views": gallery.views,
        "summary": summary(analysis),
    }


def _error_rows(errors: Errors) -> list[dict[str, Any]]:
    most = max(*errors.cost.values(), 1e-9)
    return [
        {
            "label": ERRORS[name][0],
            "cost": errors.cost[name],
            "count": errors.counts[name],
            "width": max(0.0, 100 * errors.cost[name] / most),
        }
        for name in KINDS
    ]


def summary(analysis: Analysis) -> dict[str, Any]:
    """All numbers of the page as plain lists and numbers, ready for JSON."""
    errors, matrix = analysis.errors, analysis.confusion
    return {
        "images": len(analysis.objects.image_ids),
        "objects": int(analysis.matches.counts.sum()),
        "detections": len(analysis.predictions),
        "numbers": {name: asdict(number) for name, number in analysis.numbers.items()},
        "best_threshold": _point(analysis.curve.best),
        "classes": [
            {"name": row.name, "ap": asdict(row.ap), "ap50": row.ap50.value, **_point(row.point)}
            for row in analysis.classes
        ],
        "errors": {
            "ap50": errors.ap50,
            "counts": errors.counts,
            "cost": errors.cost,
            "false_positives": errors.false_positives,
            "false_negatives": errors.false_negatives,
        },
        "confusion": {
            "threshold": matrix.threshold,
            "overlap": matrix.overlap,
            "names": [*analysis.objects.class_names, "background"],
            "counts": matrix.counts.tolist(),
        },
        "subsets": [asdict(row) for row in analysis.subsets],
        "calibration": {
            "d_ece": analysis.calibration.error,
            "bins": [list(row) for row in _calibration_rows(analysis.calibration)],
        },
    }


def classes_csv(analysis: Analysis) -> str:
    """The table of classes as CSV."""
    header = ["class", "ap", "ap_low", "ap_high", "ap50", "precision", "recall", "f1", "threshold"]
    header += ["objects", "correct", "wrong", "missed"]
    rows = []
    for row in analysis.classes:
        point = row.point
        numbers = [row.ap.value, row.ap.low, row.ap.high, row.ap50.value, point.precision, point.recall]
        rows.append(
            [
                row.name,
                *numbers,
                point.f1,
                point.threshold,
                point.objects,
                point.correct,
                point.wrong,
                point.missed,
            ]
        )
    return rows_csv(header, rows)


def thresholds_block(analysis: Analysis) -> str:
    """The best thresholds as lines to paste."""
    best = analysis.curve.best
    lines = [
        "# one threshold for all classes",
        f"ppdet infer --draw_threshold {best.threshold:g} ...",
        "",
        "# one per class, for a program of your own: detections[scores >= threshold[names]]",
        "threshold = {",
    ]
    lines += [
        f"    {row.name!r}: {row.point.threshold:g},  # F1 {row.point.f1:.3f}"
        for row in analysis.classes
        if row.point.objects
    ]
    return "\n".join([*lines, "}"])


def _point(point: OperatingPoint) -> dict[str, float]:
    return {
        "threshold": point.threshold,
        "precision": point.precision,
        "recall": point.recall,
        "f1": point.f1,
        "objects": point.objects,
        "correct": point.correct,
        "wrong": point.wrong,
        "missed": point.missed,
    }


def _cards(analysis: Analysis, speed: Optional[Mapping[str, Any]]) -> list[dict[str, str]]:
    cards = [
        {
            "name": name,
            "value": percent(number.value),
            "note": f"95 %: {percent(number.low)} to {percent(number.high)}" if number.value >= 0 else "",
        }
        for name, number in analysis.numbers.items()
        if name in ("AP", "AP50", "AP75", "AR100")
    ]
    best = analysis.curve.best
    cards.append({"name": "F1", "value": percent(best.f1), "note": f"at threshold {best.threshold:.2f}"})
    cards.append(
        {"name": "D-ECE", "value": f"{analysis.calibration.error:.3f}", "note": "0 is well calibrated"}
    )
    if speed is not None:
        cards.append(
            {"name": "Images per second", "value": f"{speed['fps']:.1f}", "note": "batch 1, all included"}
        )
    return cards


def _precision(analysis: Analysis) -> dict[str, dict[str, list[float]]]:
    """Precision at 101 recalls by overlap, then by class or ``all``: the mean over classes."""
    found = {}
    for overlap in OVERLAPS:
        table = analysis.precision(overlap)
        present = np.flatnonzero(~np.isnan(table[:, 0]))
        rows = {str(k): np.round(table[k], 4).tolist() for k in present}
        if len(present):
            rows["all"] = np.round(table[present].mean(axis=0), 4).tolist()
        found[str(overlap)] = rows
    return found


def _threshold_curves(analysis: Analysis) -> dict[str, dict[str, Any]]:
    def entry(curve: ThresholdCurve) -> dict[str, Any]:
        lines = {name: np.round(getattr(curve, name), 4).tolist() for name in ("precision", "recall", "f1")}
        return {**lines, "best": _point(curve.best)}

    curves = {str(label): entry(curve) for label, curve in enumerate(analysis.class_curves)}
    return {"all": entry(analysis.curve), **curves}


def _calibration_rows(found: Calibration) -> list[tuple[str, float, float, int]]:
    return [
        (f"{b / BINS:.2f} to {(b + 1) / BINS:.2f}", float(score), float(precision), int(count))
        for b, (score, precision, count) in enumerate(zip(found.score, found.precision, found.detections))
        if count
    ]


def reliability_svg(found: Calibration) -> str:
    """The reliability diagram: precision by score, against the line where scores mean what they say."""
    width, height, left, bottom = 720, 300, 44, 36
    inner_width, inner_height = width - left - 10, height - bottom - 12

    def x(value: float) -> float:
        return left + value * inner_width

    def y(value: float) -> float:
        return 12 + (1 - value) * inner_height

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<line class="axis" x1="{left}" x2="{width - 10}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{100 * tick:.0f} %</text>'
        )
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 18}" text-anchor="middle">{tick:g}</text>')
    for b, (precision, count) in enumerate(zip(found.precision, found.detections)):
        if count:
            top = y(float(precision))
            few = "low" if count < 10 else "fill"
            parts.append(
                f'<rect class="{few}" x="{x(b / BINS) + 1:.1f}" width="{inner_width / BINS - 2:.1f}" '
                f'y="{top:.1f}" height="{max(y(0) - top, 1):.1f}" rx="2"><title>score {b / BINS:.2f} to '
                f"{(b + 1) / BINS:.2f}: {100 * precision:.0f} % of {count:,} correct</title></rect>"
            )
    parts.append(f'<line class="ideal" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}"/>')
    parts.append(
        f'<text x="{x(0.5):.1f}" y="{height - 2}" text-anchor="middle">score; pale bars stand for fewer than '
        "10 detections</text>"
    )
    label = f"Reliability diagram: share of correct detections by score; D-ECE {found.error:.3f}"
    return (
        f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _speed(speed: Mapping[str, Any]) -> dict[str, Any]:
    split = speed["split_ms"]
    most = max([part["p50"] for part in split.values()] + [1e-9])
    stages = [
        {"name": name, "p50": part["p50"], "p95": part["p95"], "width": 100 * part["p50"] / most}
        for name, part in split.items()
    ]
    facts = [("device", speed["device"]), ("runtime", speed["runtime"]), ("batch size", speed["batch_size"])]
    for name in ("hardware", "versions"):
        value = speed.get(name, {})
        facts += value.items() if isinstance(value, Mapping) else [(name, value)]
    sentence = (
        f"{speed['fps']:.2f} images per second, one by one, from the file to the detections, over "
        f"{speed['images']:,} images after {speed['warm_up']} for warming up."
    )
    return {"stages": stages, "facts": facts, "sentence": sentence}
