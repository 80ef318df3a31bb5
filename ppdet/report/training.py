"""The page that shows a training."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ppdet.report.page import DASH, percent, render
from ppdet.report.runs import TrainingRun, read_run
from ppdet.report.training_advice import training_advice
from ppdet.utils.files import write_text

#: Points of a curve at most, and moments of the pictures: bounds the file.
POINTS = 2000
MOMENTS = 12
REPORT = "report.html"


def write_training_report(folder: Path, target: Optional[Path] = None) -> Path:
    """Read the folder of a training and write its page.

    Args:
        folder: Of the training.
        target: The page; ``report.html`` in the folder if None.

    Returns:
        Where it is.

    Raises:
        UserError: If the folder is not one of a training, or the page cannot be written.
    """
    path = folder / REPORT if target is None else target
    write_text(path, training_page(read_run(folder)))
    return path


def training_page(run: TrainingRun) -> str:
    """The page of a training, as HTML."""
    best = run.best()
    pictures = run.pictures()
    moments = [pictures[i] for i in spread(len(pictures), MOMENTS)]
    charts = training_charts(run)
    return render(
        "training",
        {
            "charts": charts,
            "steps_per_epoch": run.steps_per_epoch,
            "best": None if best is None else {"step": best[0], "value": best[1]},
            "pictures": [
                {"step": step, "images": [[path.stem, _jpeg(path)] for path in paths]}
                for step, paths in moments
            ],
            "summary": {
                "logs": [run.logs[i] for i in spread(len(run.logs), POINTS)],
                "evaluations": run.evaluations,
                "facts": run.facts,
            },
        },
        kind="Training",
        title=run.name,
        facts=_facts_line(run),
        sections=[
            ("summary", "Summary"),
            ("curves", "Curves"),
            *([("pictures-section", "Pictures")] if moments else []),
            ("evaluations", "Evaluations"),
            ("setup", "Setup"),
        ],
        verdict=verdict(run),
        cards=_cards(run),
        advice=training_advice(run),
        charts=charts,
        moments=moments,
        score_names=_score_names(run),
        evaluations=_evaluation_rows(run),
        fact_rows=_fact_rows(run.facts),
        warnings=run.warnings[-200:],
        config=run.config,
    )


def spread(count: int, most: int) -> list[int]:
    """At most `most` indices of `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def training_charts(run: TrainingRun) -> list[dict[str, Any]]:
    """Curves for the script: id, title, x, series, and how to draw them. Charts without values are left "
    "out."""
    rows = [run.logs[i] for i in spread(len(run.logs), POINTS)]
    steps = [row["step"] for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row["losses"]))
    names.sort(key=lambda name: name != "loss")
    losses = [_series(name, [row["losses"].get(name) for row in rows]) for name in names[:6]]
    found = [_chart("loss", "Loss terms", steps, losses, smooth=True)]
    scores = run.scores()
    for task in dict.fromkeys(name.partition(".")[0] for name in scores):
        wanted = [n for n in ("loss", "AP", "AP50", "AP75", "APs", "APm", "APl") if f"{task}.{n}" in scores]
        mine = wanted or [name.partition(".")[2] for name in scores if name.startswith(f"{task}.")][:6]
        at = sorted({step for n in mine for step, _ in scores[f"{task}.{n}"]})
        series = []
        for n in mine:
            values = dict(scores[f"{task}.{n}"])
            series.append(_series(n, [values.get(step) for step in at]))
        title = "Validation loss" if task == "loss" else f"{task} AP"
        found.append(_chart(f"score-{task}", title, at, series, points=True, marks_best=True))
    rate = [_series("learning rate", [row.get("learning_rate") for row in rows])]
    found.append(_chart("rate", "Learning rate", steps, rate, digits=6))
    if any(row.get("gradient_norm") is not None for row in rows):
        norm = [_series("gradient norm", [row.get("gradient_norm") for row in rows])]
        found.append(_chart("norm", "Gradient norm", steps, norm, smooth=True))
    times = [
        _series("step", [row.get("batch_time") for row in rows]),
        _series("of it waiting for data", [row.get("data_time") for row in rows]),
    ]
    found.append(_chart("time", "Time per step", steps, times, unit="seconds", smooth=True))
    speed = [_series("images per second", [row.get("images_per_second") for row in rows])]
    found.append(_chart("speed", "Throughput per process", steps, speed, digits=1, smooth=True))
    memory = [_series("GB", [row.get("memory", 0) / 1e9 for row in rows])]
    found.append(_chart("memory", "Peak memory", steps, memory, unit="GB", digits=2))
    return [chart for chart in found if chart["x"] and chart["series"]]


def _series(label: str, values: Sequence[Optional[float]]) -> dict[str, Any]:
    return {"label": label, "values": [None if v is None else float(f"{v:.5g}") for v in values]}


def _chart(
    name: str, title: str, x: Sequence[int], series: list[dict[str, Any]], **how: Any
) -> dict[str, Any]:
    drawn = {"unit": "", "digits": 3, "smooth": False, "points": False, "marks_best": False, **how}
    return {"id": name, "title": title, "x": list(x), "series": series, **drawn}


def verdict(run: TrainingRun) -> str:
    """The training in a sentence or two."""
    last, best = run.last_step, run.best()
    name = run.main_score
    state = f"{run.step:,} steps are done"
    if last is not None:
        state = "The training is complete" if run.step >= last else f"{run.step:,} of {last:,} steps are done"
    text = f"{state}."
    finite = [row["losses"]["loss"] for row in run.logs if row["losses"].get("loss") is not None]
    if len(finite) > 1:
        text += f" The loss went from {finite[0]:.3f} to {finite[-1]:.3f}."
    if best is not None and name is not None:
        text += f" The best {name} is {percent(best[1])}, at step {best[0]:,}."
    else:
        text += " There was no evaluation (ppdet train --eval makes them)."
    return text


def _facts_line(run: TrainingRun) -> list[str]:
    facts = run.facts
    hardware = facts.get("hardware", {})
    items = [facts.get("model"), facts.get("started"), hardware.get("gpu") or hardware.get("cpu")]
    return [str(item) for item in items if item]


def _cards(run: TrainingRun) -> list[dict[str, str]]:
    cards = []
    best, name, last = run.best(), run.main_score, run.last_step
    if best is not None and name is not None:
        end = run.scores()[name][-1][1]
        cards.append({"name": f"Best {name}", "value": percent(best[1]), "note": f"at step {best[0]:,}"})
        cards.append(
            {"name": f"Last {name}", "value": percent(end), "note": f"{len(run.evaluations)} evaluations"}
        )
    per = run.steps_per_epoch
    epochs = f"{run.step / per:.1f} epochs" if per else ""
    cards.append(
        {"name": "Steps", "value": f"{run.step:,}", "note": f"of {last:,}, {epochs}" if last else epochs}
    )
    if run.logs:
        row = run.logs[-1]
        loss = row["losses"].get("loss")
        cards.append(
            {"name": "Loss", "value": f"{loss:.3f}" if loss is not None else DASH, "note": "last log"}
        )
        waiting = row["data_time"] / row["batch_time"] if row["batch_time"] else 0.0
        cards.append(
            {
                "name": "Images per second",
                "value": f"{row['images_per_second']:.1f}",
                "note": f"{100 * waiting:.0f} % waiting for data",
            }
        )
        cards.append({"name": "Peak memory", "value": f"{row['memory'] / 1e9:.1f} GB", "note": "per process"})
    return cards


def _score_names(run: TrainingRun) -> list[str]:
    return list(run.scores())[:14]


def _evaluation_rows(run: TrainingRun) -> list[dict[str, Any]]:
    by_step: dict[int, dict[str, float]] = {}
    for name, values in run.scores().items():
        for step, value in values:
            by_step.setdefault(step, {})[name] = value
    best = run.best()
    per = run.steps_per_epoch
    names = _score_names(run)
    return [
        {
            "step": step,
            "epoch": f"{step / per:.1f}" if per else "",
            "values": [row.get(name) for name in names],
            "best": best is not None and step == best[0],
        }
        for step, row in sorted(by_step.items())
    ]


def _fact_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            rows += [(f"{name}: {key}", str(one)) for key, one in value.items()]
        elif isinstance(value, list):
            rows.append((name.replace("_", " "), " ".join(str(one) for one in value)))
        else:
            rows.append((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)))
    return rows


def _jpeg(path: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
