"""Protects the comparison of an export with its model: what it forgives, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ppdet.config.spec import Spec
from ppdet.data.transforms.flip import RandomFlip
from ppdet.export.errors import ExportError
from ppdet.export.info import ExportInfo, describe, preprocess_of
from ppdet.export.verify import Comparison, Difference, Listed, as_bytes, table
from ppdet.export.verify import difference as difference_of
from ppdet.modeling.interfaces import Detector
from ppdet.ops.masks import paste_to_rle
from ppdet.structures import Detections
from tests.export.small import NAMES, reader, small_model

RESULT = Comparison("onnx", 3, 5, 5, 0, 0.01, 1e-5, 1.0, 1e-6, 0.1, 1.0)


def detections(boxes: Any, scores: Any, labels: Any, masks: Optional[Any] = None) -> Detections:
    """Detections of image 1."""
    return Detections(
        1,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        masks,
    )


def difference(wanted: Detections, found: Detections, keep_top_k: int) -> Difference:
    """Of lists without mask probabilities."""
    return difference_of(Listed(wanted, None), Listed(found, None), keep_top_k)


TWO = detections([[0, 0, 10, 10], [20, 20, 40, 40]], [0.9, 0.6], [0, 1])


def test_equal_lists_do_not_differ() -> None:
    assert difference(TWO, TWO, 100).unmatched == 0
    assert difference(TWO, TWO, 100).box_pixels == 0


@pytest.mark.parametrize(
    ("found", "unmatched", "pixels", "score"),
    [
        (detections([[0, 0, 10, 10.4], [20, 20, 40, 40]], [0.9, 0.6], [0, 1]), 0, 0.4, 0),
        (detections([[0, 0, 10, 17], [20, 20, 40, 40]], [0.9, 0.6], [0, 1]), 0, 7, 0),
        (detections([[0, 0, 10, 10], [20, 20, 40, 40]], [0.9, 0.5], [0, 1]), 0, 0, 0.1),
        (detections([[0, 0, 10, 10]], [0.9], [0]), 1, 0, 0),
        (detections([[0, 0, 10, 10], [20, 20, 40, 40]], [0.9, 0.6], [0, 0]), 2, 0, 0),
        (detections([], [], []), 2, 0, 0),
        (detections([[0, 0, 10, 10], [20, 20, 40, 40], [1, 1, 5, 5]], [0.9, 0.6, 0.3], [0, 1, 2]), 1, 0, 0),
    ],
)
def test_differences_are_measured(found: Detections, unmatched: int, pixels: float, score: float) -> None:
    result = difference(TWO, found, 100)
    assert result.unmatched == unmatched
    assert result.box_pixels == pytest.approx(pixels, abs=1e-5)
    assert result.score == pytest.approx(score, abs=1e-6)


def test_equal_scores_may_swap() -> None:
    a = detections([[0, 0, 10, 10], [20, 20, 40, 40]], [0.5, 0.5], [0, 0])
    b = detections([[20, 20, 40, 40], [0, 0, 10, 10]], [0.5, 0.5], [0, 0])
    assert difference(a, b, 100).box_pixels == 0


def test_the_end_of_a_list_may_differ_by_a_hair() -> None:
    longer = detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.0505], [0, 2])
    shorter = detections([[0, 0, 10, 10]], [0.9], [0])
    assert difference(longer, shorter, 100).unmatched == 0
    assert difference(shorter, longer, 100).unmatched == 0
    # A list that is full ends where its last score is, not at the threshold.
    one = detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.4], [0, 2])
    other = detections([[0, 0, 10, 10], [80, 80, 90, 90]], [0.9, 0.4], [0, 1])
    assert difference(one, other, 2).unmatched == 0
    assert difference(one, other, 100).unmatched == 2


def test_masks_are_compared() -> None:
    boxes = np.array([[2, 2, 22, 22]], np.float32)
    left = paste_to_rle(np.ones((1, 4, 4), np.float32), boxes, (30, 30))
    half = np.ones((1, 4, 4), np.float32)
    half[:, :, 2:] = 0
    right = paste_to_rle(half, boxes, (30, 30))
    a, b = (detections(boxes, [0.9], [0], masks) for masks in (left, right))
    assert difference(a, a, 100).mask_iou == 1
    assert difference(a, b, 100).mask_iou < 0.7


def test_some_pixels_of_a_small_mask_are_forgiven() -> None:
    boxes = np.array([[2, 2, 8, 8]], np.float32)
    whole = np.zeros((30, 30), np.uint8, order="F")
    whole[2:8, 2:8] = 1
    masks = []
    for missing in (0, 3, 4):
        part = whole.copy(order="F")
        part[2, 2 : 2 + missing] = 0
        masks.append(coco_mask.encode(part))
    lists = [detections(boxes, [0.9], [0], (mask,)) for mask in masks]
    assert difference(lists[0], lists[1], 100).mask_iou == 1
    assert difference(lists[0], lists[2], 100).mask_iou == pytest.approx(32 / 36)


def test_probabilities_of_masks_are_compared_whatever_the_size() -> None:
    probs = np.zeros((2, 4, 4), np.float32)
    other = probs.copy()
    other[1, 2, 3] = 0.25
    assert difference_of(Listed(TWO, probs), Listed(TWO, other), 100).mask_prob == 0.25
    # Probabilities go with their detections, also where those come in another order.
    turned = Listed(TWO[np.array([1, 0])], other[::-1])
    assert difference_of(Listed(TWO, other), turned, 100).mask_prob == 0


@pytest.mark.parametrize(
    "fault",
    [{"unmatched": 1}, {"box_pixels": 0.6}, {"score": 0.002}, {"mask_iou": 0.98}, {"mask_prob": 0.02}],
)
def test_every_limit_counts(fault: dict[str, float]) -> None:
    assert RESULT.passed
    bad = replace(RESULT, **fault)  # type: ignore[arg-type]  # one field at a time
    assert not bad.passed
    assert len(table([RESULT, bad]).splitlines()) == 4


@pytest.fixture(scope="module")
def model() -> Detector:
    """A small detector."""
    return small_model("faster_fpn")


def test_description_survives_its_text(model: Detector) -> None:
    info = describe(model, reader(), NAMES)
    assert ExportInfo.from_json(info.to_json(), "x") == info
    assert (info.score_threshold, info.nms_threshold, info.keep_top_k) == (0.05, 0.5, 20)
    assert info.preprocess.pad_to_stride == 32
    with pytest.raises(ExportError, match=r"x\.json"):
        ExportInfo.from_json("{}", "x.json")


def test_a_detector_without_nms_has_a_description() -> None:
    class WithoutNms(Detector):
        """As a detector that predicts a set."""

    info = describe(WithoutNms(), reader(), NAMES)
    assert (info.score_threshold, info.nms_threshold, info.keep_top_k) == (None, None, None)
    assert not info.has_masks
    assert ExportInfo.from_json(info.to_json(), "x") == info


def test_a_transform_that_no_export_knows_is_named() -> None:
    images = reader()
    images.sample_transforms.append(Spec.of(RandomFlip, prob=0.5).build())
    with pytest.raises(ExportError, match="RandomFlip"):
        preprocess_of(images)


def test_bytes_come_back_from_normalised_pixels() -> None:
    steps = preprocess_of(reader())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3)).astype(np.uint8)
    mean, std = np.array(steps.mean, np.float32), np.array(steps.std, np.float32)
    normalised = ((pixels.astype(np.float32) * np.float32(steps.scale) - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(as_bytes(normalised, steps), pixels)
