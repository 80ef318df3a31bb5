"""Detections of one image on the host: arrays with class names, and ways to show them.

Letters: D detections, K classes.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Optional

import numpy as np

from ppdet.structures.checks import check_shape

#: Rows that a notebook shows of one image.
_SHOWN_ROWS = 20


class Detection(NamedTuple):
    """One detected object.

    Attributes:
        box: ``[4]`` float32 x1, y1, x2, y2 in pixels of the original image.
        score: 0 to 1.
        label: 0..K-1.
        name: Class name; ``class <label>`` where the names are unknown.
        mask: COCO run-length mask of the original image's size, or None.
    """

    box: np.ndarray
    score: float
    label: int
    name: str
    mask: Optional[dict[str, Any]]


@dataclass(frozen=True)
class Detections:
    """Detections of one image, sorted by falling score.

    `len` counts them, iteration gives a `Detection` each, an index (bool mask, slice, integer array) selects
    some of them.

    Attributes:
        image_id: Id of the image in its dataset; the position in the input for images given to a detector.
        boxes: ``[D, 4]`` float32 xyxy in pixels of the original image.
        scores: ``[D]`` float32.
        labels: ``[D]`` int64 in 0..K-1.
        masks: D COCO run-length masks of the original image's size, or None.
        class_names: K names by label; empty where they are unknown.
        path: File of the image; empty where there is none.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Optional[tuple[dict[str, Any], ...]] = None
    class_names: tuple[str, ...] = field(default=(), repr=False)
    path: str = ""

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, 4))
        count = len(self.boxes)
        check_shape("scores", self.scores, (count,))
        check_shape("labels", self.labels, (count,))
        if self.masks is not None and len(self.masks) != count:
            raise ValueError(f"masks: expected {count}, got {len(self.masks)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        for index, name in enumerate(self.names):
            yield Detection(
                box=self.boxes[index],
                score=float(self.scores[index]),
                label=int(self.labels[index]),
                name=name,
                mask=None if self.masks is None else self.masks[index],
            )

    def __getitem__(self, index: Any) -> Detections:
        """The detections that a bool mask, slice or integer array selects."""
        rows = np.arange(len(self))[index]
        if rows.ndim != 1:
            raise TypeError("index Detections with a bool mask, a slice or an integer array")
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else tuple(self.masks[i] for i in rows),
        )

    @property
    def names(self) -> list[str]:
        """Class name of each detection; ``class <label>`` where the names are unknown."""
        return [
            self.class_names[label] if label < len(self.class_names) else f"class {label}"
            for label in self.labels.tolist()
        ]

    def filter(self, *, score: float = 0.0, classes: Optional[Sequence[str]] = None) -> Detections:
        """The detections of at least a score, and of some classes.

        Args:
            score: Lowest score, 0 to 1.
            classes: Class names to keep; None keeps all.

        Raises:
            ValueError: If a class is not one of `class_names`.
        """
        kept = self.scores >= score
        if classes is not None:
            unknown = [name for name in classes if name not in self.class_names]
            if unknown:
                raise ValueError(f"no class {unknown[0]!r}; there are: {', '.join(self.class_names)}")
            kept &= np.isin(self.labels, [self.class_names.index(name) for name in classes])
        return self[kept]

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        head = "<tr><th>class</th><th>score</th><th>x1</th><th>y1</th><th>x2</th><th>y2</th></tr>"
        rows = [
            f"<tr><td>{html.escape(one.name)}</td><td>{one.score:.3f}</td>"
            + "".join(f"<td>{value:.1f}</td>" for value in one.box.tolist())
            + "</tr>"
            for one in self[:_SHOWN_ROWS]
        ]
        rest = len(self) - len(rows)
        more = f"<tr><td colspan='6'>and {rest} more</td></tr>" if rest > 0 else ""
        title = html.escape(self.path or f"image {self.image_id}")
        return f"<p>{title}: {len(self)} detections</p><table>{head}{''.join(rows)}{more}</table>"
