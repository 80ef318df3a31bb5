"""Protects evaluation of untrained models from taking hours: however many candidates pass the threshold, the
rows that enter each operator are bounded, and only the last NMS may see more than that of a trained model.

Work is counted, not timed: rows that enter NMS (whose cost is quadratic) and regions that are pooled.
"""

from __future__ import annotations

from typing import Any

import paddle
import pytest
from paddle.vision import ops as kernels

from ppdet.inference.predictors import predict
from ppdet.modeling import post_process
from ppdet.modeling.interfaces import Detector
from tests.modeling.small_rcnn import small_batch
from tests.modeling.test_every_family import FAMILIES

IMAGES = 2
#: In the place of 4096, for models with so few boxes.
MAX_CANDIDATES = 60
KEEP_TOP_K = 10


def work(model: Detector, *, score_threshold: float) -> tuple[list[int], list[int], int]:
    """Rows that enter each NMS, regions that enter each pooling, and detections, of one batch."""
    nms = model.final_nms
    assert nms is not None
    nms.score_threshold = score_threshold
    suppressed: list[int] = []
    pooled: list[int] = []
    original_nms, original_align = kernels.nms, kernels.roi_align

    def counted_nms(boxes: Any, *rest: Any, **named: Any) -> Any:
        suppressed.append(boxes.shape[0])
        return original_nms(boxes, *rest, **named)

    def counted_align(features: Any, boxes: Any, *rest: Any, **named: Any) -> Any:
        pooled.append(boxes.shape[0])
        return original_align(features, boxes, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "nms", counted_nms)
        patch.setattr(kernels, "roi_align", counted_align)
        found = predict(model, small_batch([[]] * IMAGES))
    return suppressed, pooled, sum(len(one) for one in found)


#: RT-DETR has no NMS: its detections are its queries, whatever their scores.
WITH_NMS = [name for name in FAMILIES if name != "rtdetr"]


@pytest.mark.parametrize("family", WITH_NMS)
def test_work_of_an_untrained_model_is_bounded(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert post_process.MAX_CANDIDATES == 4096
    monkeypatch.setattr(post_process, "MAX_CANDIDATES", MAX_CANDIDATES)
    paddle.seed(3)
    model = FAMILIES[family]()
    (*proposals, last), pooled, detections = work(model, score_threshold=-1.0)  # everything passes
    (*fewer_proposals, least), fewer_pooled, none = work(model, score_threshold=1.0)  # nothing does
    # One row is always there: NMS never sees an empty tensor.
    assert (last, least) == (IMAGES * MAX_CANDIDATES + 1, 1)
    # PP-YOLOE's first boxes overlap so much that fewer than `KEEP_TOP_K` of an image survive the NMS.
    assert 0 < detections <= IMAGES * KEEP_TOP_K
    assert none == 0
    assert proposals == fewer_proposals
    # Masks are made of detections only, and those are limited.
    assert 0 <= sum(pooled) - sum(fewer_pooled) <= (detections if "mask" in family else 0)
