"""The interface of a metric: it receives ground truth and detections, and computes numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from ppdet.structures import Detections, GroundTruth
from ppdet.structures.sample import rle_as_text


class Metric(ABC):
    """Collects detections and scores them against ground truth.

    A metric of your own overrides `compute`, and `names` and `classwise` where it can. Its constructor takes
    ``truth: Derived[GroundTruth]``, which the evaluation derives from the dataset, and its own arguments.

    Detections are kept once, as the arrays they came in, by image. An image that comes twice (a sampler
    that pads the last batch, a rank that repeats) counts once: the last one stays.

    Args:
        truth: Annotated objects of every image.

    Attributes:
        truth: The same.
    """

    def __init__(self, truth: GroundTruth) -> None:
        self.truth = truth
        self._detections: dict[int, Detections] = {}

    def update(self, detections: Iterable[Detections]) -> None:
        """Add the detections of some images."""
        for one in detections:
            self._detections[one.image_id] = one

    def reset(self) -> None:
        """Forget all detections."""
        self._detections.clear()

    def __len__(self) -> int:
        """Images seen."""
        return len(self._detections)

    @property
    def detections(self) -> list[Detections]:
        """Detections by rising image id, so that the numbers do not depend on the order of arrival."""
        return [self._detections[i] for i in sorted(self._detections)]

    @abstractmethod
    def compute(self) -> dict[str, dict[str, float]]:
        """Numbers by task and name, e.g. ``{"bbox": {"AP": 0.37, "AP50": 0.58}}``."""

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the numbers of `compute`, e.g. ``("bbox.AP",)``, before it has run.

        `best_metric` is checked against them when training starts. Empty if they cannot be listed; a misspelt
        `best_metric` is then reported by the first evaluation.
        """
        return ()

    def classwise(self) -> dict[str, dict[str, Optional[float]]]:
        """AP by task and class name, as of the last `compute`; None for a class without objects.

        Empty for a metric without numbers by class.
        """
        return {}

    def results(self) -> list[dict[str, Any]]:
        """The detections in COCO's results format: plain lists and numbers, ready for JSON.

        Image ids are those of the annotation file, also where they are text there.
        """
        given = {i.image_id: i.given_id for i in self.truth.images if i.given_id is not None}
        rows = coco_results(self.detections, self.truth.category_ids, with_masks=self.truth.with_masks)
        for row in rows if given else ():
            row["image_id"] = given.get(row["image_id"], row["image_id"])
        return rows


def coco_results(
    detections: Sequence[Detections], category_ids: Sequence[Optional[int]], *, with_masks: bool
) -> list[dict[str, Any]]:
    """Convert detections to COCO results.

    Args:
        detections: Per image.
        category_ids: Id of each label in the annotation file; detections of a label without id are left out.
        with_masks: Add ``segmentation``, with ``counts`` as text.

    Returns:
        One dict per detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels),
        ``score``.
    """
    rows = []
    for one in detections:
        boxes = one.boxes.astype("float64")
        boxes[:, 2:] -= boxes[:, :2]
        for i, (box, score, label) in enumerate(
            zip(boxes.tolist(), one.scores.tolist(), one.labels.tolist())
        ):
            if category_ids[label] is None:
                continue
            row = {
                "image_id": one.image_id,
                "category_id": category_ids[label],
                "bbox": box,
                "score": score,
            }
            if with_masks and one.masks is not None:
                row["segmentation"] = rle_as_text(one.masks[i])
            rows.append(row)
    return rows
