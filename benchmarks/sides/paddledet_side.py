"""Steps and inferences of PaddleDetection, in an environment of its own: see `beside.py` one folder up.

    python paddledet_side.py MODEL.yml BATCH.npz WEIGHTS.pdparams

Imports nothing of this project: both packages are called ppdet.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import paddle
from protocol import answer


def joined(tensors: Any, *args: Any, **kwargs: Any) -> paddle.Tensor:
    """`paddle.concat` as it was for 2.6.0, whose R-CNNs join numbers: those have no dimension since then."""
    return _CONCAT([t.reshape([1]) if t.ndim == 0 else t for t in tensors], *args, **kwargs)


_CONCAT, paddle.concat = paddle.concat, joined


def build(config: str) -> paddle.nn.Layer:
    """The model of a YAML file."""
    from ppdet.core.workspace import create, global_config, load_config

    load_config(config)
    global_config.update({"num_classes": 80, "norm_type": "bn", "use_gpu": False})
    if "CustomCSPPAN" in global_config:
        global_config["CustomCSPPAN"]["act"] = "swish"  # the default here, not there
    model = create(global_config["architecture"])
    if "ppyoloe" in config:
        model.post_process = None  # its default is YOLOv3's
    return model


def inputs(arrays: dict[str, np.ndarray], architecture: str) -> dict[str, Any]:
    """A batch as PaddleDetection's readers give it."""
    count = len(arrays["images"])
    boxes, labels = arrays["boxes"], arrays["labels"]
    batch = {
        "image": paddle.to_tensor(arrays["images"]),
        "im_shape": paddle.to_tensor(arrays["image_sizes"]),
        "scale_factor": paddle.to_tensor(arrays["scale_factors"]),
        "im_id": paddle.arange(count).reshape([count, 1]),
        "epoch_id": 0,
    }
    if architecture in ("FasterRCNN", "MaskRCNN", "CascadeRCNN", "RetinaNet"):
        batch["gt_bbox"] = [paddle.to_tensor(each) for each in boxes]
        batch["gt_class"] = [paddle.to_tensor(each[:, None].astype("int32")) for each in labels]
        batch["is_crowd"] = [paddle.zeros([len(each), 1], "int32") for each in labels]
        corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]]
        batch["gt_poly"] = [[[list(map(float, one))] for one in each] for each in corners]
        return batch
    batch["gt_bbox"], batch["gt_class"] = paddle.to_tensor(boxes), paddle.to_tensor(labels[..., None])
    batch["pad_gt_mask"] = paddle.ones([count, boxes.shape[1], 1])
    if architecture == "YOLOv3" and "ppyoloe" not in sys.argv[1]:
        batch.update(yolo_targets(arrays))
    return batch


def yolo_targets(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Targets and boxes of YOLOv3, which its reader makes on the host."""
    from ppdet.core.workspace import global_config
    from ppdet.data.transform.batch_operators import Gt2YoloTarget

    head = global_config["YOLOv3Head"]
    make = Gt2YoloTarget(head["anchors"], head["anchor_masks"], [32, 16, 8], num_classes=80)
    low, high = arrays["boxes"][..., :2], arrays["boxes"][..., 2:]
    side = arrays["images"].shape[2]
    relative = (np.concatenate([(low + high) / 2, high - low], axis=2) / side).astype("float32")
    samples = [
        {"image": image, "gt_bbox": box, "gt_class": label[:, None], "gt_score": np.ones((len(label), 1))}
        for image, box, label in zip(arrays["images"], relative, arrays["labels"])
    ]
    made = make(samples)
    targets = {f"target{i}": paddle.to_tensor(np.stack([s[f"target{i}"] for s in made])) for i in range(3)}
    return {**targets, "gt_bbox": paddle.to_tensor(relative)}


def main() -> None:
    """Answer until the input ends."""
    model = build(sys.argv[1])
    model.set_state_dict(paddle.load(sys.argv[3]))
    trained = [p for p in model.parameters() if not p.stop_gradient]
    # With a learning rate of 0, so that every step is the same work: see `beside.py`.
    optimizer = paddle.optimizer.Momentum(0.0, parameters=trained, weight_decay=1e-4)
    batch = inputs(dict(np.load(sys.argv[2])), type(model).__name__)

    def step() -> None:
        model.train()
        model(batch)["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()

    def infer() -> None:
        model.eval()
        with paddle.no_grad():
            model(batch)

    answer({"step": step, "infer": infer})


main()
