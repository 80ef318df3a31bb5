"""What whole networks give for a computed image: the same numbers are recorded and compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

import ppdet
from ppdet.modeling.interfaces import Detector
from tests.reference_weights import sample_values
from tests.support import ROOT, with_reference_weights

#: A config of every family.
NETWORKS = (
    "faster_rcnn_r50_1x_coco",
    "faster_rcnn_r50_fpn_1x_coco",
    "mask_rcnn_r50_fpn_1x_coco",
    "cascade_mask_rcnn_r50_fpn_1x_coco",
    "retinanet_r50_fpn_1x_coco",
    "yolov3_darknet53_270e_coco",
)
HEIGHT, WIDTH = 128, 160
#: Values that are recorded of a feature map, and detections of an image.
SAMPLES, DETECTIONS = 20, 20


def computed_image() -> np.ndarray:
    """``[1, 3, HEIGHT, WIDTH]`` float32 around 0: waves of several lengths, another phase in each channel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 10.0
    channels = [
        np.sin(x + phase) + np.cos(0.3 * y * (1 + phase)) + np.sin(0.11 * x * y) for phase in range(3)
    ]
    return np.stack(channels)[None].astype(np.float32)


def network(name: str) -> Detector:
    """The detector that a config describes, with weights from names."""
    config = ppdet.load_config(ROOT / "configs" / f"{name}.yml")
    model = with_reference_weights(lambda: ppdet.build_model(config))
    model.eval()
    return model


@paddle.no_grad()
def recorded(name: str) -> dict[str, Any]:
    """Features and detections of a network for the computed image."""
    model = network(name)
    images = paddle.to_tensor(computed_image())
    features = model.backbone(images)
    maps = {f"backbone/{i}": feature for i, feature in enumerate(features)}
    if getattr(model, "neck", None) is not None:
        maps |= {f"neck/{i}": feature for i, feature in enumerate(model.neck(features))}
    detections = model.detect(images, paddle.to_tensor([[float(HEIGHT), float(WIDTH)]]), paddle.ones([1, 2]))
    rows = paddle.concat(
        [detections.labels.astype("float32")[..., None], detections.scores[..., None], detections.boxes], -1
    )
    return {
        "parameters": sum(int(np.prod(p.shape)) for p in model.parameters()),
        "features": {
            key: {"shape": value.shape, "std": float(value.std()), "values": _rounded(value)}
            for key, value in maps.items()
        },
        "detections": [[float(f"{v:.6g}") for v in row] for row in rows[0, :DETECTIONS].numpy()],
    }


def _rounded(feature: paddle.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in sample_values(feature.numpy(), SAMPLES)]
