"""Protects the DarkNet backbones and YOLOv3 necks: shapes at any size, freezing, Darknet's odd pooling, and
errors that name the argument.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppdet.modeling.backbones import darknet
from ppdet.modeling.backbones.darknet import DarkNet, DarkNetTiny
from ppdet.modeling.interfaces import Backbone
from ppdet.modeling.necks.yolo_fpn import YOLOv3FPN, YOLOv3TinyFPN
from ppdet.structures import FeatureShape


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 50), (32, 32), (7, 20)])
def test_shapes_at_any_size(height: int, width: int) -> None:
    backbone = DarkNetTiny()
    neck = YOLOv3TinyFPN(in_shapes=backbone.out_shapes)
    features = neck(backbone(paddle.rand([2, 3, height, width])))
    assert len(features) == len(neck.out_shapes) == 2
    for feature, shape in zip(features, neck.out_shapes):
        cells = [-(-side // shape.stride) for side in (height, width)]
        assert feature.shape == [2, shape.channels, *cells]


def test_darknet53_shapes() -> None:
    backbone = DarkNet()
    neck = YOLOv3FPN(in_shapes=backbone.out_shapes)
    features = backbone(paddle.rand([1, 3, 40, 72]))
    assert [f.shape for f in features] == [[1, 256, 5, 9], [1, 512, 3, 5], [1, 1024, 2, 3]]
    assert [f.shape for f in neck(features)] == [[1, 1024, 2, 3], [1, 512, 3, 5], [1, 256, 5, 9]]
    assert [s.stride for s in neck.out_shapes] == [32, 16, 8]


def test_only_the_returned_stages_are_computed() -> None:
    backbone = DarkNet(return_idx=[0, 1], num_stages=2)
    assert [s.stride for s in backbone.out_shapes] == [2, 4]
    assert [f.shape[1] for f in backbone(paddle.rand([1, 3, 16, 16]))] == [64, 128]
    assert not any(key.startswith("stage.2") for key in backbone.state_dict())


def trained(backbone: Backbone) -> set[str]:
    """First pieces of the names of what gets a gradient."""
    return {name for name, p in backbone.named_parameters() if not p.stop_gradient}


def test_freeze_at() -> None:
    assert "conv0.conv.weight" in trained(DarkNet(num_stages=3, return_idx=[2]))
    names = trained(DarkNet(num_stages=3, return_idx=[2], freeze_at=1))
    assert names
    assert {name.split(".conv")[0].split(".basic")[0] for name in names} >= {"stage.1.downsample", "stage.2"}
    assert all(name.startswith(("stage.2.", "stage.1.downsample.")) for name in names)
    names = trained(DarkNetTiny(freeze_at=3))
    assert {name.split(".")[0] for name in names} == {"conv4", "conv5", "conv6"}


def test_freeze_norm_keeps_statistics_in_training() -> None:
    for frozen in (False, True):
        backbone = DarkNetTiny(freeze_norm=frozen)
        backbone.train()
        before = backbone.conv0.batch_norm._mean.numpy().copy()
        backbone(paddle.rand([2, 3, 32, 32]) + 1)
        assert (backbone.conv0.batch_norm._mean.numpy() == before).all() == frozen
        assert any("batch_norm" in name for name in trained(backbone)) != frozen


def test_stride_one_pooling_looks_right_and_down() -> None:
    x = np.array([[-5, -4, -3], [-9, -8, -7]], np.float32)
    pooled = darknet._pool_same(paddle.to_tensor(x[None, None])).numpy()[0, 0]
    # With zeros as padding the last column and row would be 0.
    np.testing.assert_array_equal(pooled, [[-4, -3, -3], [-8, -7, -7]])


@pytest.mark.parametrize(
    ("component", "arguments", "message"),
    [
        (DarkNet, {"depth": 19}, r"^depth: expected 53, got 19"),
        (DarkNet, {"return_idx": [5]}, r"return_idx: expected stages 0\.\.4"),
        (DarkNet, {"return_idx": []}, "return_idx"),
        (DarkNet, {"num_stages": 6}, r"num_stages: expected 1\.\.5, got 6"),
        (DarkNetTiny, {"freeze_at": 7}, r"freeze_at: expected -1\.\.6, got 7"),
        (YOLOv3FPN, {"in_shapes": [FeatureShape(8, 8), FeatureShape(8, 32)]}, r"strides \[8, 32\]"),
        (YOLOv3TinyFPN, {"in_shapes": [FeatureShape(8, 8)]}, "takes 2 feature maps, got 1"),
    ],
)
def test_errors_name_the_argument(component: type, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        component(**arguments)
