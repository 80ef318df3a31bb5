"""Draw docs/images/architecture.svg: the packages of ppdet and who imports whom, read from the code.

Usage: ``python tools/draw_architecture.py [FILE]``. Rows are those of the architecture test, so an arrow
always points down. An arrow that follows from two others (a to b, b to c, hence a to c) is left out.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.test_architecture import LAYERS, PACKAGE, RANK, imports_of, part_named, part_of, tree_of

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
#: Pixels: size of a box, of a gap between boxes or for a passing arrow, and from one row to the next.
BOX_WIDTH, BOX_HEIGHT, GAP, ROW = 190, 86, 26, 132
WIDTH = 940
#: Sweeps that order the rows so that arrows cross less; a dozen suffices for so few boxes.
SWEEPS = 12


class Place(NamedTuple):
    """Where something stands in the picture: its row, and its centre from the left, in pixels."""

    row: int
    x: float


def imports_between_parts() -> dict[str, set[str]]:
    """Each package -> the packages that it imports."""
    graph: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        part = part_of(path)
        if part not in RANK:
            continue
        targets = graph.setdefault(part, set())
        for _, module in imports_of(tree_of(path)):
            pieces = module.split(".")
            if pieces[0] == "ppdet" and (target := part_named(pieces[1:])) in RANK and target != part:
                targets.add(target)
    return graph


def without_shortcuts(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Edges that do not follow from others (the transitive reduction of a graph without cycles)."""

    def reach(part: str) -> set[str]:
        return graph[part].union(*(reach(target) for target in graph[part]))

    return sorted(
        (part, target)
        for part, targets in graph.items()
        for target in targets
        if not any(target in reach(other) for other in targets)
    )


def rows_with_passages(
    parts: set[str], edges: list[tuple[str, str]]
) -> tuple[list[list[str]], dict[tuple[str, str], list[str]]]:
    """The rows from the top, with a passage in every row that an edge crosses; and the way of each edge."""
    ranks = sorted({RANK[part] for part in parts}, reverse=True)
    rows = [[part for part in LAYERS[rank] if part in parts] for rank in ranks]
    ways = {}
    for start, end in edges:
        first, last = ranks.index(RANK[start]), ranks.index(RANK[end])
        passages = [f"{start}>{end}@{row}" for row in range(first + 1, last)]
        for row, passage in zip(range(first + 1, last), passages):
            rows[row].append(passage)
        ways[start, end] = [start, *passages, end]
    return rows, ways


def arranged(rows: list[list[str]], ways: dict[tuple[str, str], list[str]]) -> dict[str, Place]:
    """Places of boxes and passages; each moves towards the mean of its neighbours, sweep by sweep."""
    neighbours: dict[str, list[str]] = {node: [] for row in rows for node in row}
    for way in ways.values():
        for above, below in zip(way, way[1:]):
            neighbours[above].append(below)
            neighbours[below].append(above)
    places: dict[str, Place] = {}
    for sweep in range(SWEEPS + 1):
        for number, row in enumerate(rows):
            if sweep:
                mean = {n: sum(places[m].x for m in neighbours[n]) / max(1, len(neighbours[n])) for n in row}
                row.sort(key=lambda node: (mean[node], node))
            widths = [0 if "@" in node else BOX_WIDTH for node in row]
            left = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
            for node, width in zip(row, widths):
                places[node] = Place(number, left + width / 2)
                left += width + GAP
    return places


def description(part: str) -> str:
    """First line of a package's docstring."""
    text = ast.get_docstring(tree_of(PACKAGE / part / "__init__.py")) or ""
    return text.split("\n")[0].split(" (docs/")[0].rstrip(".")


def path_along(way: list[str], places: dict[str, Place]) -> str:
    """Path of an arrow: a curve from row to row, straight through passages."""
    first = places[way[0]]
    x, y = first.x, GAP + ROW * first.row + BOX_HEIGHT
    path = f"M{x:.0f} {y}"
    for node in way[1:]:
        place = places[node]
        top = GAP + ROW * place.row
        path += f" C{x:.0f} {(y + top) // 2} {place.x:.0f} {(y + top) // 2} {place.x:.0f} {top}"
        x, y = place.x, top + BOX_HEIGHT
        path += f" L{x:.0f} {y}" if "@" in node else ""
    return path


def drawing() -> str:
    """The picture as SVG."""
    graph = imports_between_parts()
    rows, ways = rows_with_passages(set(graph), without_shortcuts(graph))
    places = arranged(rows, ways)
    height = ROW * len(rows) - (ROW - BOX_HEIGHT) + 2 * GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        "<title>Packages of ppdet and their imports</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#5c6bc0"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    lines += [
        f'<path d="{path_along(way, places)}" fill="none" stroke="#5c6bc0" marker-end="url(#head)"/>'
        for way in ways.values()
    ]
    for part in sorted(graph):
        place = places[part]
        left, top = place.x - BOX_WIDTH / 2, GAP + ROW * place.row
        lines.append(
            f'<rect x="{left:.0f}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#e8eaf6" '
            f'stroke="#3f51b5"/>'
        )
        words = [('font-size="15" font-weight="bold" fill="#1a237e"', part)]
        words += [('font-size="11" fill="#303030"', t) for t in textwrap.wrap(description(part), 31)]
        for number, (style, text) in enumerate(words):
            y = top + 20 + 15 * number + 3 * bool(number)
            lines.append(
                f'<text x="{place.x:.0f}" y="{y}" text-anchor="middle" {style}>{escape(text)}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE).write_text(drawing(), "utf-8")
