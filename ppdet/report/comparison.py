"""The page that compares trainings, or detections of several models on the same ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import yaml

from ppdet.metrics.analysis import bootstrap
from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.bootstrap import Interval
from ppdet.report.detections_file import analysis_of_files, read_json
from ppdet.report.page import ReportError, percent, render, signed
from ppdet.report.runs import TrainingRun, read_run
from ppdet.report.training import training_charts
from ppdet.utils.files import write_text

#: Detections that ``ppdet eval --save_results`` writes into the folder of a training.
DETECTIONS = "detections.json"
#: Images listed on either side.
IMAGES = 30


@dataclass(frozen=True)
class Entrant:
    """One of those compared.

    Attributes:
        name: For tables.
        run: Its training, or None.
        detections: Its detections, or None.
        metrics: What ``ppdet eval --json`` wrote, if it is beside the detections; else empty.
    """

    name: str
    run: Optional[TrainingRun]
    detections: Optional[Path]
    metrics: Mapping[str, Any]


def read_entrants(sources: Sequence[Path]) -> list[Entrant]:
    """Folders of trainings, or files of detections.

    Raises:
        ReportError: If there are fewer than two, or one is neither.
    """
    if len(sources) < 2:
        raise ReportError("a comparison needs two trainings, or two files of detections")
    entrants = []
    for source in sources:
        if source.suffix == ".json":
            entrants.append(Entrant(source.stem, None, source, {}))
            continue
        run = read_run(source)
        file = source / DETECTIONS
        entrants.append(Entrant(run.name, run, file if file.is_file() else None, _metrics(source)))
    names = [entrant.name for entrant in entrants]
    if len(set(names)) < len(names):  # models of one name in different folders
        full = [str(source.with_suffix("")) for source in sources]
        entrants = [Entrant(n, e.run, e.detections, e.metrics) for n, e in zip(full, entrants)]
    return entrants


def _metrics(folder: Path) -> Mapping[str, Any]:
    path = folder / "metrics.json"
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, Mapping) else {}


def compare(sources: Sequence[Path], target: Path, annotations: Optional[Path] = None) -> str:
    """Write the page of a comparison.

    Args:
        sources: Folders of trainings or files of detections; the others are compared with the first.
        target: The page.
        annotations: Ground truth; with it, and detections of all, differences get intervals.

    Returns:
        The verdict, in a sentence or two.

    Raises:
        ReportError: If files are missing or do not fit each other.
    """
    entrants = read_entrants(sources)
    names = [entrant.name for entrant in entrants]
    runs = [entrant.run for entrant in entrants if entrant.run is not None]
    analyses = _analyses(entrants, annotations)
    differences = paired_differences(analyses)
    charts = overlaid_charts(runs)
    in_a_sentence = verdict(names, differences, runs)
    with_configs = len(runs) == len(entrants)
    sections = [("summary", "Summary")]
    sections += [("scores", "Scores"), ("classes", "Classes"), ("images", "Images")] if analyses else []
    sections += [("curves", "Curves")] if charts else []
    sections += [("config", "Config")] if with_configs else []
    page = render(
        "comparison",
        {"charts": charts},
        kind="Comparison",
        title=f"{names[0]} against {', '.join(names[1:])}",
        facts=[annotations.name] if annotations else ["training curves only"],
        sections=sections,
        verdict=in_a_sentence,
        names=names,
        rows=_overview(entrants, analyses),
        differences=differences,
        class_rows=_class_rows(analyses),
        image_rows=[_image_differences(analyses[0], other) for other in analyses[1:]],
        charts=charts,
        config_rows=config_differences(runs) if with_configs else [],
        drawings=len(analyses[0].weights) - 1 if analyses else 0,
    )
    write_text(target, page)
    return in_a_sentence


def _analyses(entrants: Sequence[Entrant], annotations: Optional[Path]) -> list[Analysis]:
    if annotations is None:
        if all(entrant.run is None for entrant in entrants):
            raise ReportError("which annotations are these detections of? Add --anno_path FILE")
        return []
    missing = [entrant.name for entrant in entrants if entrant.detections is None]
    if missing:
        raise ReportError(
            f"{', '.join(missing)}: no {DETECTIONS} in the folder. Make it with ppdet eval --save_results "
            f"FOLDER/{DETECTIONS}, or leave out --anno_path"
        )
    return [analysis_of_files(e.detections, annotations) for e in entrants if e.detections is not None]


def paired_differences(analyses: Sequence[Analysis]) -> list[dict[str, Interval]]:
    """Differences from the first, by number, of each of the others; on the same drawings of images."""
    if not analyses:
        return []
    first = analyses[0]
    found = []
    for other in analyses[1:]:
        drawn = other.drawn_with(first.weights)
        found.append(
            {
                name: bootstrap.difference(first.drawn.numbers[name], drawn.numbers[name])
                for name in bootstrap.NAMES
                if first.numbers[name].value >= 0
            }
        )
    return found


def verdict(
    names: Sequence[str], differences: Sequence[Mapping[str, Interval]], runs: Sequence[TrainingRun]
) -> str:
    """One sentence: which is better, or that the images do not show it."""
    if not differences:
        scores = {run.name: run.best() for run in runs}
        known = {name: point[1] for name, point in scores.items() if point is not None}
        if len(known) < 2:
            return "There are no scores to compare; train with --eval, or add --anno_path."
        best = max(known, key=known.__getitem__)
        shown = ", ".join(f"{name} {percent(value)}" for name, value in known.items())
        return (
            f"{best} has the highest score of its training ({shown}); whether that is more than chance takes "
            "--anno_path and the detections of both."
        )
    sentences = []
    for name, table in zip(names[1:], differences):
        gap = table.get("AP")
        if gap is None:
            sentences.append(f"{name} and {names[0]} cannot be compared: there are no objects.")
            continue
        if gap.low > 0 or gap.high < 0:
            better, worse = (name, names[0]) if gap.value > 0 else (names[0], name)
            least, most = sorted((abs(gap.low), abs(gap.high)))
            sentences.append(
                f"{better} is better than {worse} by {percent(abs(gap.value))} AP ({percent(least)} to "
                f"{percent(most)} with 95 % confidence): that is more than chance."
            )
        else:
            sentences.append(
                f"Whether {name} is better than {names[0]} is not decided by these images: it differs by "
                f"{signed(gap.value)} AP, and anything from {signed(gap.low)} to {signed(gap.high)} would be "
                "no surprise."
            )
    return " ".join(sentences)


def _overview(entrants: Sequence[Entrant], analyses: Sequence[Analysis]) -> list[tuple[str, list[str]]]:
    """Name and one value per entrant of every fact that some entrant has."""
    rows: list[tuple[str, list[str]]] = []
    for number in bootstrap.NAMES if analyses else ():
        values = [analysis.numbers[number] for analysis in analyses]
        if values[0].value >= 0:
            rows.append(
                (number, [f"{percent(v.value)} ({percent(v.low)} to {percent(v.high)})" for v in values])
            )
    if analyses:
        best = [analysis.curve.best for analysis in analyses]
        rows.append(("best F1", [f"{percent(p.f1)} at {p.threshold:.2f}" for p in best]))
        rows.append(("D-ECE", [f"{analysis.calibration.error:.3f}" for analysis in analyses]))
    facts = [_run_facts(entrant) for entrant in entrants]
    for name in dict.fromkeys(name for table in facts for name in table):
        rows.append((name, [table.get(name, "") for table in facts]))
    return rows


def _run_facts(entrant: Entrant) -> dict[str, str]:
    found: dict[str, str] = {}
    run, fps = entrant.run, entrant.metrics.get("fps")
    if run is not None:
        best = run.best()
        if best is not None:
            found[f"best {run.main_score} in training"] = f"{percent(best[1])} at step {best[0]:,}"
        found["steps"] = f"{run.step:,}"
        if "parameters" in run.facts:
            found["parameters"] = f"{run.facts['parameters'] / 1e6:.1f} million"
        if run.logs:
            found["images per second in training"] = f"{run.logs[-1]['images_per_second']:.1f}"
            found["peak memory in training"] = f"{run.logs[-1]['memory'] / 1e9:.2f} GB"
    if fps:
        found["images per second, batch 1"] = f"{fps['fps']:.2f} ({fps['device']}, {fps['runtime']})"
    return found


def _class_rows(analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """AP of each class and, of each of the others, the difference from the first with its interval."""
    rows: list[dict[str, Any]] = []
    if not analyses:
        return rows
    first = analyses[0]
    drawn = [first.drawn, *(other.drawn_with(first.weights) for other in analyses[1:])]
    for label, name in enumerate(first.objects.class_names):
        values = [one.class_ap[:, label] for one in drawn]
        if np.isnan(values[0][0]):
            continue
        objects = int((first.matches.counts & (first.objects.label == label)).sum())
        gaps = [bootstrap.difference(values[0], other) for other in values[1:]]
        rows.append({"name": name, "objects": objects, "ap": [float(v[0]) for v in values], "gaps": gaps})
    return rows


def _image_differences(one: Analysis, other: Analysis) -> dict[str, list[tuple[str, int, int]]]:
    """Images that one gets right and the other not: name, errors of either, at either's best threshold."""
    errors = [_errors_by_image(analysis) for analysis in (one, other)]
    gap = errors[1] - errors[0]
    names = one.objects.file_names
    order = np.argsort(gap, kind="stable")

    def rows(chosen: np.ndarray) -> list[tuple[str, int, int]]:
        return [(names[i], int(errors[0][i]), int(errors[1][i])) for i in chosen]

    return {
        "better": rows(order[gap[order] < 0][:IMAGES]),
        "worse": rows(order[gap[order] > 0][::-1][:IMAGES]),
    }


def _errors_by_image(analysis: Analysis) -> np.ndarray:
    """Wrong detections and missed objects of each image at the best threshold."""
    cases = analysis.confusion.cases
    off = cases[cases[:, 0] != cases[:, 1]]
    things, detections = off[off[:, 2] >= 0, 2], off[(off[:, 2] < 0), 3]
    images = len(analysis.objects.image_ids)
    found = np.bincount(analysis.objects.image[things], minlength=images)
    return found + np.bincount(analysis.predictions.image[detections], minlength=images)


def overlaid_charts(runs: Sequence[TrainingRun]) -> list[dict[str, Any]]:
    """The first curve of every chart that two runs or more have, over each other."""
    if len(runs) < 2:
        return []
    of_runs = [{chart["id"]: chart for chart in training_charts(run)} for run in runs]
    found = []
    for name in dict.fromkeys(name for charts in of_runs for name in charts):
        having = [(run, charts[name]) for run, charts in zip(runs, of_runs) if name in charts]
        if len(having) < 2:
            continue
        steps = sorted({step for _, chart in having for step in chart["x"]})
        series = []
        for run, chart in having:
            values = dict(zip(chart["x"], chart["series"][0]["values"]))
            series.append({"label": run.name, "values": [values.get(step) for step in steps]})
        first = having[0][1]
        title = (
            f"{first['title']}: {first['series'][0]['label']}" if len(first["series"]) > 1 else first["title"]
        )
        found.append({**first, "title": title, "x": steps, "series": series})
    return found


def config_differences(runs: Sequence[TrainingRun]) -> list[tuple[str, list[str]]]:
    """Dotted key and one value per run of whatever differs between the resolved configs."""
    tables = []
    for run in runs:
        try:
            tables.append(dict(_leaves(yaml.load(run.config, _TaggedLoader) or {})))
        except yaml.YAMLError as error:
            raise ReportError(f"{run.folder}: config.yml cannot be read: {error}") from None
    rows = []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [str(table[key]) if key in table else "" for table in tables]
        if len(set(values)) > 1 and key not in ("filename", "weights"):
            rows.append((key, values))
    return rows


class _TaggedLoader(yaml.SafeLoader):
    """Reads ``!Name {...}`` as a mapping with a ``name``; builds nothing."""


def _tagged(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    arguments = loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else {}
    return {"name": name, **{str(key): value for key, value in arguments.items()}}


_TaggedLoader.add_multi_constructor("!", _tagged)


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a tree; short lists of plain values are one value."""
    if isinstance(value, Mapping) and value:
        items = [(str(name), one) for name, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value):
        items = [(str(number), one) for number, one in enumerate(value)]
    else:
        return [(key, value)]
    return [leaf for name, one in items for leaf in _leaves(one, f"{key}.{name}" if key else name)]
