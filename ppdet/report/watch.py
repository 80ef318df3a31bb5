"""A training in the terminal, from the files of its folder alone, so that any process may look."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

from ppdet.report.page import ReportError, percent
from ppdet.report.runs import TrainingRun, read_run

_BLOCKS = "▁▂▃▄▅▆▇█"
#: Seconds without a new record, in times of the usual distance between two, after which a run seems to stand.
_SILENT = 5.0


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """Values as a row of blocks, the mean of several where there are more than `width`."""
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    if not finite:
        return ""
    if len(finite) > width:
        edges = [round(i * len(finite) / width) for i in range(width + 1)]
        finite = [sum(finite[a:b]) / (b - a) for a, b in zip(edges, edges[1:])]
    low, high = min(finite), max(finite)
    steps = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(steps * (v - low) / (high - low)) if high > low else 0] for v in finite)


def summary_line(run: TrainingRun) -> str:
    """The state of a training as one line of plain text."""
    parts = [f"{run.name}: step {run.step}" + (f"/{run.last_step}" if run.last_step else "")]
    if run.logs:
        log = run.logs[-1]
        loss = log["losses"].get("loss")
        if loss is not None:
            parts.append(f"loss {loss:.4f}")
        parts.append(f"lr {log['learning_rate']:.2e}")
        parts.append(f"{log['images_per_second']:.1f} img/s")
        parts.append(f"eta {_duration(log['eta'])}")
    name = run.main_score
    best = run.best()
    if name is not None and best is not None:
        parts.append(f"{name} {percent(run.scores()[name][-1][1])}, best {percent(best[1])} at {best[0]}")
    return "  ".join(parts)


def is_finished(run: TrainingRun) -> bool:
    """Whether all steps are done, and the evaluation that follows them if there were others."""
    if run.last_step is None or run.step < run.last_step:
        return False
    return not run.evaluations or run.evaluations[-1]["step"] >= run.last_step


def follow(folder: Path, interval: float) -> Iterator[TrainingRun]:
    """The training whenever its files have changed, until it is finished; the first one at once.

    Raises:
        ReportError: If the folder is not one of a training.
    """
    seen: Optional[tuple[int, int]] = None
    while True:
        run = read_run(folder)
        state = (len(run.logs), len(run.evaluations))
        if state != seen:
            seen = state
            yield run
        if is_finished(run):
            return
        time.sleep(interval)


def watch_in_terminal(folder: Path, interval: float) -> None:
    """Show a view that changes with the training, until it is finished or Ctrl-C is pressed.

    Raises:
        ReportError: If Rich is not installed, or the folder is not one of a training.
    """
    try:
        from rich.live import Live
    except ImportError:
        raise ReportError('watching needs Rich: pip install "ppdet[report]", or pipe the output') from None
    with Live(view(read_run(folder)), refresh_per_second=4, transient=False) as live:
        for run in follow(folder, interval):
            live.update(view(run))


def view(run: TrainingRun, now: Optional[float] = None) -> Any:
    """What `watch_in_terminal` shows: a Rich renderable."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    last = run.last_step
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    series: list[tuple[str, list[float]]] = []
    if run.logs:
        names = list(dict.fromkeys(name for row in run.logs[-50:] for name in row["losses"]))
        for name in sorted(names, key=lambda name: name != "loss"):
            series.append(
                (name, [row["losses"][name] for row in run.logs if row["losses"].get(name) is not None])
            )
        series.append(("learning rate", [row["learning_rate"] for row in run.logs]))
        series.append(("images per second", [row["images_per_second"] for row in run.logs]))
    for name, values in series:
        if values:
            table.add_row(name, Text(sparkline(values), style="cyan"), f"{values[-1]:.4g}")
    name = run.main_score
    best = run.best()
    if name is not None and best is not None:
        values = [value for _, value in run.scores()[name]]
        text = f"{percent(values[-1])}  best {percent(best[1])} at step {best[0]:,}"
        table.add_row(name, Text(sparkline(values), style="green"), text)
    head = Table.grid(expand=True)
    head.add_column(ratio=1)
    head.add_column(justify="right")
    head.add_row(f"step {run.step:,}" + (f" of {last:,}" if last else ""), _state(run, now))
    parts: list[Any] = [head]
    if last:
        parts.append(ProgressBar(total=last, completed=min(run.step, last)))
    parts += [Text(""), table]
    for _, level, message in run.warnings[-3:]:
        parts.append(Text(f"{level.lower()}: {message}", style="yellow", overflow="ellipsis", no_wrap=True))
    return Panel(Group(*parts), title=run.name, border_style="dim", padding=(1, 2))


def _state(run: TrainingRun, now: Optional[float]) -> str:
    if is_finished(run):
        return "finished"
    if not run.logs:
        return "starting"
    log = run.logs[-1]
    age = (time.time() if now is None else now) - (run.folder / "metrics.jsonl").stat().st_mtime
    distance = log["step"] - run.logs[-2]["step"] if len(run.logs) > 1 else log["step"]
    if age > max(60.0, _SILENT * distance * log["batch_time"]):
        return f"no news for {_duration(age)}"
    return f"eta {_duration(log['eta'])}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
