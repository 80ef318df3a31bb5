"""The charts of a dataset as one picture, for a document or a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Colours of the sets, RGB, and of what is around them.
_COLOURS = {"train": (37, 82, 217), "val": (208, 101, 10)}
_TEXT, _LINE = (70, 70, 70), (225, 225, 225)
_WIDTH, _HEIGHT, _MARGIN = 520, 320, 44
#: Classes that are shown: those with most objects.
_CLASSES = 14


def dataset_picture(figures: Mapping[str, Any]) -> np.ndarray:
    """Sizes, heights by widths, objects per image, where objects are, and the largest classes.

    Args:
        figures: What `ppdet data stats --json` writes.

    Returns:
        ``[H, W, 3]`` uint8 RGB.
    """
    sets = {part: figures[part] for part in _COLOURS if figures[part] is not None}
    histograms = [
        _histogram("side of the objects, pixels", "box_side", sets),
        _histogram("height by width of the objects", "aspect_ratio", sets),
        _histogram("objects per image", "objects_per_image", sets),
    ]
    places = [_places(part, one["centres"]) for part, one in sets.items()]
    below = [*places, _classes(sets)]
    below += [_panel("") for _ in range(3 - len(below))]
    return np.concatenate([np.concatenate(row, axis=1) for row in (histograms, below)])


def _panel(title: str) -> np.ndarray:
    panel = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    _write(panel, title, (_MARGIN, 24), size=0.55)
    return panel


def _histogram(title: str, key: str, sets: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    import cv2

    panel = _panel(f"{title} ({' and '.join(sets)})")
    starts = next(iter(sets.values()))["histograms"][key]["from"]
    shares = {part: _shares(one["histograms"][key]["count"]) for part, one in sets.items()}
    most = max(1e-9, *(value for one in shares.values() for value in one))
    bottom, tall = _HEIGHT - _MARGIN, _HEIGHT - 2 * _MARGIN
    slot = (_WIDTH - 2 * _MARGIN) / len(starts)
    bar = (slot - 4) / len(sets)
    for tick in (0.0, 0.5, 1.0):
        y = round(bottom - tick * tall)
        cv2.line(panel, (_MARGIN, y), (_WIDTH - _MARGIN, y), _LINE, 1)
        _write(panel, f"{100 * most * tick:.0f} %", (4, y + 4))
    for index, start in enumerate(starts):
        left = _MARGIN + index * slot
        _write(panel, f"{start:.4g}", (round(left), bottom + 16))
        for number, (part, values) in enumerate(shares.items()):
            x = left + 2 + number * bar
            corner = (round(x), round(bottom - values[index] / most * tall))
            cv2.rectangle(panel, corner, (round(x + bar) - 1, bottom), _COLOURS[part], -1)
    return panel


def _places(part: str, cells: Sequence[Sequence[float]]) -> np.ndarray:
    panel = _panel(f"centres of the objects, {part}")
    share = np.array(cells) / max(1e-9, float(np.max(cells)))
    side = (_HEIGHT - 2 * _MARGIN) // len(share)
    colour = np.array(_COLOURS[part], float)
    for (y, x), value in np.ndenumerate(share):
        top, left = _MARGIN + y * side, _MARGIN + x * side
        mixed = 255 - (0.06 + 0.94 * value) * (255 - colour)
        panel[top : top + side - 1, left : left + side - 1] = mixed.astype(np.uint8)
    return panel


def _classes(sets: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    import cv2

    counts = sets["train"]["objects_by_class"]
    names = sorted(counts, key=lambda name: -counts[name])[:_CLASSES]
    panel = _panel(f"objects by class, train ({len(names)} of {len(counts)} classes)")
    most = max([1, *counts.values()])
    step = (_HEIGHT - 2 * _MARGIN) / _CLASSES
    for row, name in enumerate(names):
        y = round(_MARGIN + row * step)
        end = 190 + round(counts[name] / most * (_WIDTH - 270))
        cv2.rectangle(panel, (190, y + 3), (end, y + round(step) - 2), _COLOURS["train"], -1)
        _write(panel, name[:22], (_MARGIN - 30, y + 12))
        _write(panel, f"{counts[name]:,}", (end + 6, y + 12))
    return panel


def _shares(counts: Sequence[float]) -> list[float]:
    whole = max(1, sum(counts))
    return [count / whole for count in counts]


def _write(panel: np.ndarray, text: str, place: tuple[int, int], *, size: float = 0.38) -> None:
    import cv2

    plain = text.encode("ascii", "replace").decode("ascii")  # OpenCV's font has no other letters
    cv2.putText(panel, plain, place, cv2.FONT_HERSHEY_SIMPLEX, size, _TEXT, 1, cv2.LINE_AA)
