"""Protects the backbone and the pyramid: the published weights must give the published features."""

from __future__ import annotations

import gzip
import json

import paddle
import pytest
from paddle import nn

from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.necks.fpn import FPN
from tests.parity.rcnn_support import assert_sampled, golden, normalised_batch, resized_image
from tests.support import GOLDENS, requires_shared, with_reference_weights

RCNN = [
    ("faster_rcnn_r50_fpn_1x_coco", {"depth": 50}),
    ("faster_rcnn_r50_vd_fpn_1x_coco", {"depth": 50, "variant": "d"}),
    ("faster_rcnn_r34_fpn_1x_coco", {"depth": 34}),
    ("faster_rcnn_r50_1x_coco", {"depth": 50, "num_stages": 3, "return_idx": [2]}),
    ("retinanet_r50_fpn_1x_coco", {"depth": 50, "return_idx": [1, 2, 3]}),
]
RETINA_FPN = {"has_extra_convs": True, "extra_stage": 2, "use_c5": False}


class Features(nn.Layer):
    """Backbone and neck under the names that detectors give them."""

    def __init__(self, backbone: ResNet, neck: FPN | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck


def build(name: str, arguments: dict) -> Features:
    backbone = ResNet(**arguments)
    if name == "faster_rcnn_r50_1x_coco":
        return Features(backbone, None)
    extra = RETINA_FPN if name.startswith("retinanet") else {}
    return Features(backbone, FPN(in_shapes=backbone.out_shapes, **extra))


@requires_shared
@pytest.mark.parametrize(("name", "arguments"), RCNN)
def test_features_match(name: str, arguments: dict) -> None:
    arrays, meta = golden(name)
    model = with_reference_weights(lambda: build(name, arguments))
    model.eval()
    family = "retina" if name.startswith("retinanet") else "rcnn"
    images = normalised_batch(
        [resized_image(family, file) for file in meta["files"]], 1 if model.neck is None else 32
    )
    images = paddle.to_tensor(images)
    assert images.shape == arrays["image/shape"].tolist()
    with paddle.no_grad():
        features = model.backbone(images)
        for i, feature in enumerate(features):
            assert_sampled(feature, arrays, f"backbone/{i}")
        for shape, feature in zip(model.backbone.out_shapes, features):
            assert feature.shape[1] == shape.channels
            assert feature.shape[2] == -(-images.shape[2] // shape.stride)
        if model.neck is not None:
            pyramid = model.neck(features)
            for i, feature in enumerate(pyramid):
                assert_sampled(feature, arrays, f"neck/{i}")
            for shape, feature in zip(model.neck.out_shapes, pyramid):
                assert feature.shape[1] == shape.channels
                assert feature.shape[2] == -(-images.shape[2] // shape.stride)


@requires_shared
@pytest.mark.parametrize(("name", "arguments"), RCNN)
def test_parameter_attributes_match(name: str, arguments: dict) -> None:
    _, meta = golden(f"{name}_train")
    expected = {
        key: value for key, value in meta["param_attrs"].items() if key.split(".")[0] in ("backbone", "neck")
    }
    actual = {}
    for key, parameter in build(name, arguments).named_parameters():
        if key.endswith(("._mean", "._variance")):
            continue  # running statistics; Paddle lists them among the parameters
        decay = None if parameter.regularizer is None else parameter.regularizer._coeff
        attributes = [parameter.trainable, parameter.optimize_attr["learning_rate"], decay]
        if attributes != [True, 1.0, None]:
            actual[key] = attributes
    assert actual == expected


@requires_shared
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *RCNN,
        ("faster_rcnn_r101_fpn_1x_coco", {"depth": 101}),
        ("faster_rcnn_r34_vd_fpn_1x_coco", {"depth": 34, "variant": "d"}),
    ],
)
def test_keys_match(name: str, arguments: dict) -> None:
    keys = json.loads((GOLDENS.parent / "keys" / f"{name}.g2.json").read_text())
    expected = {key: shape for key, shape in keys.items() if key.split(".")[0] in ("backbone", "neck")}
    assert {k: v.shape for k, v in build(name, arguments).state_dict().items()} == expected
    listed = json.loads(gzip.decompress((GOLDENS / "parameters.json.gz").read_bytes()))
    if name in listed:
        assert dict(listed[name]).items() >= expected.items()
