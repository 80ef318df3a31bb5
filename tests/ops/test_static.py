"""Protects that the operations of inference trace into a static graph whose sizes are all unknown.

One graph made of anchors, proposals, pooling and NMS must give, for other image sizes and batch sizes, what
the eager code gives: this is what every export stands on.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from numpy.testing import assert_allclose
from paddle.static import InputSpec

from ppdet.modeling.assign.anchors import AnchorGenerator
from ppdet.ops.nms import class_wise_nms
from ppdet.ops.proposals import generate_proposals
from ppdet.ops.roi_align import flatten_regions, multi_level_roi_align

STRIDES = [8, 16]
REGIONS, CLASSES, KEPT = 30, 3, 12


class SmallDetector(paddle.nn.Layer):
    """The operations in the order of an R-CNN, with weights too few to take time."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors = AnchorGenerator(strides=STRIDES, anchor_sizes=[[16], [32]])
        self.rpn = paddle.nn.Conv2D(2, 15, 1)
        self.classify = paddle.nn.Linear(2 * 9, CLASSES)

    def forward(self, fine, coarse, sizes):
        features = [fine, coarse]
        logits, deltas = [], []
        for feature in features:
            out = paddle.transpose(self.rpn(feature), [0, 2, 3, 1])
            logits.append(paddle.flatten(out[..., :3], 1))
            deltas.append(paddle.reshape(out[..., 3:], [0, -1, 4]))
        regions = generate_proposals(
            paddle.concat(logits, axis=1), paddle.concat(deltas, axis=1), self.anchors(features), sizes,
            pre_nms_top_n=40, post_nms_top_n=REGIONS, nms_thresh=0.7,
        )  # fmt: skip
        flat = flatten_regions(regions.boxes)
        pooled = multi_level_roi_align(features, flat.boxes, flat.per_image, resolution=3, strides=STRIDES)
        scores = paddle.nn.functional.sigmoid(self.classify(paddle.flatten(pooled, 1)))
        scores = paddle.reshape(scores, [-1, REGIONS, CLASSES])
        scores = scores * regions.valid.unsqueeze(-1).astype("float32")
        found = class_wise_nms(
            regions.boxes.unsqueeze(2), scores, score_threshold=0.5, iou_threshold=0.5, keep_top_k=KEPT
        )
        return found.boxes, found.scores, found.labels


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    paddle.seed(0)
    eager = SmallDetector()
    eager.eval()
    path = str(tmp_path_factory.mktemp("graph") / "model")
    maps = [InputSpec([None, 2, None, None], "float32") for _ in STRIDES]
    paddle.jit.save(eager, path, input_spec=[*maps, InputSpec([None, 2], "float32")])
    return eager, paddle.jit.load(path)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "height", "width"), [(1, 16, 16), (1, 64, 96), (3, 96, 32)])
def test_graph_equals_eager(models, images, height, width):
    eager, graph = models
    rng = np.random.default_rng(0)
    inputs = [
        paddle.to_tensor(rng.normal(size=(images, 2, height // s, width // s)).astype("float32"))
        for s in STRIDES
    ]
    inputs.append(paddle.to_tensor(np.tile(np.array([[height, width - 3]], "float32"), (images, 1))))
    expected = eager(*inputs)
    assert expected[0].shape == [images, KEPT, 4]
    assert (expected[2] >= 0).any()
    for ours, theirs in zip(graph(*inputs), expected):
        assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)
