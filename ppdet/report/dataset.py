"""The page about a dataset: counts, sizes, where objects are, what anchors reach, and train beside val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ppdet.report.page import render

#: Colours of the sets, variables of the style.
_FILLS = {"train": "var(--s1)", "val": "var(--s2)"}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 220, 44, 34
_CHARTS = {
    "box_side": ("Side of the objects, pixels of the image", "square root of the area"),
    "aspect_ratio": ("Height by width of the objects", "1 is square, above it upright"),
    "objects_per_image": ("Objects per image", "from this number on"),
}


def dataset_page(figures: Mapping[str, Any], name: str) -> str:
    """A page for a browser.

    Args:
        figures: What `ppdet data stats --json` writes: ``train``, and None or figures under ``val``,
            ``alike`` and ``reach``.
        name: Of the dataset or its configuration, for the title.

    Raises:
        ReportError: If Jinja2 is not installed.
    """
    sets = {part: figures[part] for part in _FILLS if figures[part] is not None}
    train = sets["train"]
    sections = [("summary", "Summary"), ("sizes", "Sizes"), ("places", "Places"), ("classes", "Classes")]
    if figures["reach"] is not None:
        sections.append(("reach", "Anchors"))
    return render(
        "dataset",
        figures,
        kind="Dataset",
        title=name,
        facts=[
            f"{one['images']:,} images, {one['objects']:,} objects in {part}" for part, one in sets.items()
        ],
        sections=sections,
        sets=sets,
        cards=_cards(train),
        charts=[
            (title, histogram_svg(title, note, {part: one["histograms"][key] for part, one in sets.items()}))
            for key, (title, note) in _CHARTS.items()
        ],
        maps=[(part, map_svg(one["centres"], part)) for part, one in sets.items()],
        classes=sorted(train["objects_by_class"], key=lambda one: -train["objects_by_class"][one]),
        most=max([1, *train["objects_by_class"].values()]),
        alike=figures["alike"],
        reach=figures["reach"],
    )


def _cards(train: Mapping[str, Any]) -> list[dict[str, str]]:
    side: Sequence[float] = train.get("box_side_in_input") or train["box_side_share"]
    inside = "pixels of the input" if "box_side_in_input" in train else "of the image"
    cards = [
        ("images", f"{train['images']:,}", f"{train['images_without_objects']:,} without objects"),
        ("objects", f"{train['objects']:,}", f"{train['crowd_regions']:,} crowd regions"),
        ("classes", f"{len(train['objects_by_class']):,}", ""),
        ("median side", f"{side[2]:g}" if side else "", inside),
        ("crowded", f"{100 * train['crowding']['iou_0.3']:.1f} %", "IoU of 0.3 with another"),
    ]
    return [{"name": name, "value": value, "note": note} for name, value, note in cards]


def histogram_svg(title: str, note: str, sets: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Bars of one or two sets side by side, each as shares of its own number.

    Args:
        title: For readers of screens.
        note: Below the axis.
        sets: Part -> where each bar begins (``from``) and how many values it stands for (``count``).
    """
    starts = next(iter(sets.values()))["from"]
    shares = {part: _shares(one["count"]) for part, one in sets.items()}
    most = max(1e-9, *(value for one in shares.values() for value in one))
    inner, tall = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - 8
    slot = inner / len(starts)
    bar = (slot - 4) / len(sets)
    parts = []
    for tick in (0.0, 0.5, 1.0):
        y = 8 + (1 - tick) * tall
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * most * tick:.0f} %</text>'
        )
    for index, start in enumerate(starts):
        x = _LEFT + index * slot
        parts.append(f'<text x="{x + slot / 2:.1f}" y="{_HEIGHT - 18}" text-anchor="middle">{start:g}</text>')
        for number, (part, values) in enumerate(shares.items()):
            height = values[index] / most * tall
            parts.append(
                f'<rect fill="{_FILLS[part]}" x="{x + 2 + number * bar:.1f}" y="{8 + tall - height:.1f}" '
                f'width="{bar:.1f}" height="{height:.1f}" rx="2"><title>{part}: {100 * values[index]:.1f} % '
                f"from {start:g} on</title></rect>"
            )
    parts.append(f'<text x="{_LEFT + inner / 2:.1f}" y="{_HEIGHT - 3}" text-anchor="middle">{note}</text>')
    return _svg(_WIDTH, _HEIGHT, title, parts)


def map_svg(cells: Sequence[Sequence[float]], part: str) -> str:
    """Where in their images objects have their centres: darker where there are more."""
    side = 34
    most = max(1e-9, *(value for row in cells for value in row))
    parts = [
        f'<rect x="{x * side}" y="{y * side}" width="{side - 1}" height="{side - 1}" fill="{_FILLS[part]}" '
        f'fill-opacity="{0.06 + 0.94 * value / most:.3f}"><title>{100 * value:.1f} %</title></rect>'
        for y, row in enumerate(cells)
        for x, value in enumerate(row)
    ]
    return _svg(side * len(cells[0]), side * len(cells), f"centres of the objects of {part}", parts, most=300)


def _shares(counts: Sequence[float]) -> list[float]:
    whole = max(1, sum(counts))
    return [count / whole for count in counts]


def _svg(width: int, height: int, label: str, parts: Sequence[str], *, most: Optional[int] = None) -> str:
    limit = "" if most is None else f' style="max-width: {most}px"'
    return (
        f'<svg class="figure" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"{limit}>'
        + "".join(parts)
        + "</svg>"
    )
