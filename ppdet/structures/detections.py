"""Detections of one image on the host: arrays with class names, in the forms of others too.

Letters: D detections, K classes.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from ppdet.structures.checks import check_shape
from ppdet.structures.notebook import picture, table
from ppdet.structures.sample import rle_as_text
from ppdet.utils.packages import require_packages

#: Rows that a notebook shows of one image.
_SHOWN_ROWS = 20
#: Version of labelme's format that is written.
_LABELME = "5.3.0"


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
        size: (height, width) of the image in pixels; None where unknown.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Optional[tuple[dict[str, Any], ...]] = None
    class_names: tuple[str, ...] = field(default=(), repr=False)
    path: str = ""
    size: Optional[tuple[int, int]] = None

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

    def to_coco(
        self,
        *,
        image_id: Union[int, str, None] = None,
        category_ids: Optional[Sequence[int]] = None,
    ) -> list[dict[str, Any]]:
        """The detections in COCO's results format, ready for `json.dump` and pycocotools' ``loadRes``.

        Args:
            image_id: Id of the image in the annotation file; None for `image_id`.
            category_ids: Ids by label in the annotation file; None for label + 1.

        Returns:
            Per detection ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels), ``score``,
            and with masks ``segmentation`` (run lengths as text).
        """
        own = self.image_id if image_id is None else image_id
        rows: list[dict[str, Any]] = []
        for one in self:
            x1, y1, x2, y2 = one.box.tolist()
            category = one.label + 1 if category_ids is None else category_ids[one.label]
            row = {"image_id": own, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            masks = {} if one.mask is None else {"segmentation": rle_as_text(one.mask)}
            rows.append({**row, "score": one.score, **masks})
        return rows

    def to_labelme(self, *, image_path: Optional[str] = None) -> dict[str, Any]:
        """The content of a labelme file, for correcting the detections by hand.

        A detection with a mask becomes a shape ``mask`` (labelme 5.3 and newer), another one a
        ``rectangle``. Each has its score under the key ``score``, which labelme keeps.

        Args:
            image_path: Where the image is, relative to the file; None for the image's name, so that the
                file belongs beside it.

        Raises:
            ValueError: If the image's size or name is not known.
        """
        height, width = self._known_size()
        place = PurePath(self.path).name if image_path is None else image_path
        if not place:
            raise ValueError("these detections have no image file; name one (image_path)")
        return {
            "version": _LABELME,
            "flags": {},
            "shapes": [_labelme_shape(one) for one in self],
            "imagePath": place,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }

    def to_supervision(self) -> Any:
        """A ``supervision.Detections``: pixels, masks as bitmaps, names under ``data["class_name"]``.

        Raises:
            MissingPackageError: If the package supervision is not installed.
        """
        require_packages("supervision")
        import supervision

        return supervision.Detections(
            xyxy=self.boxes,
            mask=np.stack([_bitmap(mask) for mask in self.masks]) if self.masks else None,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def to_fiftyone(self) -> Any:
        """A ``fiftyone.Detections`` label for a field of a sample: ``sample["ppdet"] = found.to_fiftyone()``.

        Boxes are x, y, width, height as shares of the image's sides; masks are cut to their boxes.

        Raises:
            MissingPackageError: If the package fiftyone is not installed.
            ValueError: If the image's size is not known.
        """
        require_packages("fiftyone")
        import fiftyone

        height, width = self._known_size()
        labels = []
        for one in self:
            x1, y1, x2, y2 = one.box.tolist()
            labels.append(
                fiftyone.Detection(
                    label=one.name,
                    bounding_box=[x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
                    confidence=one.score,
                    mask=None if one.mask is None else _cut(_bitmap(one.mask), one.box),
                )
            )
        return fiftyone.Detections(detections=labels)

    def _known_size(self) -> tuple[int, int]:
        if self.size is not None:
            return self.size
        if self.masks:
            height, width = self.masks[0]["size"]
            return int(height), int(width)
        raise ValueError(
            "the size of the image is not known; add it: dataclasses.replace(found, size=(height, width))"
        )

    def _repr_html_(self) -> str:
        """The image with its boxes where its file is known, and a table, for notebooks."""
        shown = self[:_SHOWN_ROWS]
        texts = [f"{one.name} {one.score:.2f}" for one in shown]
        title = html.escape(self.path or f"image {self.image_id}")
        rows = [[one.name, f"{one.score:.3f}", *(f"{v:.1f}" for v in one.box.tolist())] for one in shown]
        return (
            f"<p>{title}: {len(self)} detections</p>"
            + picture(self.path, self.size, shown.boxes, shown.labels, texts, shown.masks)
            + table(("class", "score", "x1", "y1", "x2", "y2"), rows, len(self) - len(rows))
        )


def _bitmap(mask: dict[str, Any]) -> np.ndarray:
    """A run-length mask as ``[H, W]`` bool."""
    from pycocotools import mask as coco_mask

    bitmap: np.ndarray = coco_mask.decode(mask).astype(bool)
    return bitmap


def _cut(bitmap: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a bitmap inside of a box: the pixels whose edges are nearest to it, at least one."""
    height, width = bitmap.shape
    x1, y1, x2, y2 = (round(value) for value in box.tolist())
    left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return bitmap[top : max(y2, top + 1), left : max(x2, left + 1)]


def _labelme_shape(one: Detection) -> dict[str, Any]:
    """A shape; a mask is a PNG in base64."""
    shape: dict[str, Any] = {
        "label": one.name,
        "score": one.score,
        "group_id": None,
        "description": "",
        "flags": {},
    }
    bitmap = None if one.mask is None else _bitmap(one.mask)
    if bitmap is None or not bitmap.any():  # a mask that no pixel passed the threshold of
        x1, y1, x2, y2 = one.box.tolist()
        return {**shape, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}
    return {**shape, **labelme_mask(bitmap)}


def labelme_mask(bitmap: np.ndarray) -> dict[str, Any]:
    """What labelme's shape says of a mask ``[H, W]``, a PNG of the part between two points, both included.

    The bitmap has at least one pixel that is set.
    """
    from PIL import Image

    rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1], columns[0], columns[-1]))
    buffer = io.BytesIO()
    Image.fromarray(bitmap[top : bottom + 1, left : right + 1].astype(np.uint8)).save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"shape_type": "mask", "points": [[left, top], [right, bottom]], "mask": encoded}
