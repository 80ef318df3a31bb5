"""NMS and RoIAlign of the device, held to NumPy."""

from __future__ import annotations

import numpy as np
import paddle

from ppdet.doctor import oracles
from ppdet.doctor.checks import Check
from ppdet.ops.nms import batched_nms
from ppdet.ops.roi_align import roi_align

#: Largest difference of a pooled value that rounding explains; features are of size 1.
_ROUNDING = 1e-4


def check_nms(boxes: int = 300) -> Check:
    """The same rows in the same order, for boxes that overlap in four groups."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 200, (boxes, 2))
    values = np.concatenate([corner, corner + rng.uniform(5, 80, (boxes, 2))], axis=1).astype("float32")
    scores, groups = rng.random(boxes).astype("float32"), rng.integers(0, 4, boxes)
    tensors = [paddle.to_tensor(array) for array in (values, scores, groups)]
    found = batched_nms(*tensors, num_groups=4, iou_threshold=0.5)
    expected = oracles.nms(values, scores, groups, 0.5)
    rows = [int(row) for row in found.numpy()]
    text = f"{len(rows)} of {boxes} boxes kept, NumPy keeps {len(expected)}"
    numbers = {"kept": len(rows), "expected": len(expected)}
    return Check("NMS against NumPy", rows == expected, text, numbers)


def check_roi_align() -> Check:
    """Pooled values for boxes inside, across the border, and thinner than a pixel."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 4, 20, 24)).astype("float32")
    boxes = np.array([[8, 8, 90, 70], [-20, 4, 60, 150], [30, 30, 30.2, 60], [0, 0, 96, 80]], "float32")
    pooled = roi_align(
        paddle.to_tensor(features),
        paddle.to_tensor(boxes),
        paddle.to_tensor(np.array([len(boxes)], "int32")),
        resolution=7,
        stride=4,
    )
    expected = [oracles.roi_align(features[0], box, resolution=7, stride=4) for box in boxes]
    worst = float(np.abs(pooled.numpy() - np.stack(expected)).max())
    text = f"largest difference {worst:.1e} for {len(boxes)} boxes"
    return Check("RoIAlign against NumPy", worst < _ROUNDING, text, {"largest_difference": worst})
