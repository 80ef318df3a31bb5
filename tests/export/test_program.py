"""Protects tracing: our code is traced as it is written, that of others is translated by Paddle before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn

from ppdet.export.program import DetectionProgram, has_other_code, save_program
from ppdet.modeling.interfaces import Detector
from ppdet.structures import DetectionTensors
from tests.export.small import small_model


class Elsewhere(nn.Layer):
    """A layer as somebody may write it: it reads sizes, and decides by a value."""

    def forward(self, features: Tensor) -> Tensor:
        """Larger where the mean is positive, else smaller."""
        size = features.shape[2:]
        if paddle.mean(features) > 0:
            features = nn.functional.interpolate(features, size=[2 * size[0], 2 * size[1]])
        return nn.functional.interpolate(features, size=size)


class MeanDetector(Detector):
    """One box, as large as the image; its score is the mean of what a layer makes of it."""

    def __init__(self, layer: nn.Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, batch: Any) -> Any:
        raise NotImplementedError

    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        features = self.layer(images)
        scores = paddle.mean(features, axis=[1, 2, 3]).unsqueeze(1)
        boxes = paddle.concat([paddle.zeros_like(image_sizes), image_sizes * scale_factors], axis=1)
        return DetectionTensors(boxes.unsqueeze(1), scores, paddle.zeros_like(scores).astype("int64"))


@pytest.mark.slow
def test_code_of_others_is_translated(tmp_path: Path) -> None:
    model = MeanDetector(Elsewhere())
    model.eval()
    save_program(DetectionProgram(model), tmp_path / "model", uint8_input=False)
    loaded = paddle.jit.load(str(tmp_path / "model"))
    for size, sign in (((32, 48), 1), ((48, 32), -1)):
        images = sign * paddle.rand([2, 3, *size])
        sizes, factors = paddle.to_tensor([size, size], "float32"), paddle.ones([2, 2])
        expected = model.detect(images, sizes, factors)
        boxes, scores, _ = loaded(images, sizes, factors)
        np.testing.assert_allclose(scores.numpy(), expected.scores.numpy(), rtol=1e-5)
        np.testing.assert_array_equal(boxes.numpy(), expected.boxes.numpy())


def test_ours_is_known_from_that_of_others() -> None:
    model = small_model("faster_fpn")
    assert not has_other_code(model)
    assert has_other_code(MeanDetector(nn.ReLU()))
    bbox_post = model.bbox_post_process
    for put, owner, name in (
        (Elsewhere(), model.backbone, "extra"),
        (lambda boxes: boxes, bbox_post, "nms"),
        ([Elsewhere()], bbox_post, "nms"),
    ):
        before = getattr(owner, name, None)
        setattr(owner, name, put)
        assert has_other_code(model), name
        setattr(owner, name, before)
    assert not has_other_code(model)
