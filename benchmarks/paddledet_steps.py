"""One side of `beside_paddledet.py`: steps and inferences of PaddleDetection, in its own environment.

Reads one line of JSON for each thing to do and answers with one line. Imports nothing of this project: both
packages are called ppdet.
"""

import json
import sys
import time

import numpy as np
import paddle


def build(config: str) -> paddle.nn.Layer:
    """The model of a YAML file."""
    from ppdet.core.workspace import create, global_config, load_config

    load_config(config)
    global_config.update({"num_classes": 80, "norm_type": "bn", "use_gpu": False})
    return create(global_config["architecture"])


def inputs(path: str, architecture: str) -> dict:
    """A batch as PaddleDetection's readers give it."""
    arrays = np.load(path)
    count = len(arrays["images"])
    batch = {
        "image": paddle.to_tensor(arrays["images"]),
        "im_shape": paddle.to_tensor(arrays["image_sizes"]),
        "scale_factor": paddle.to_tensor(arrays["scale_factors"]),
        "im_id": paddle.arange(count).reshape([count, 1]),
        "epoch_id": 0,
    }
    boxes, labels = arrays["boxes"], arrays["labels"].astype("int32")
    if architecture == "RetinaNet":
        batch["gt_bbox"] = [paddle.to_tensor(each) for each in boxes]
        batch["gt_class"] = [paddle.to_tensor(each[:, None]) for each in labels]
        batch["is_crowd"] = [paddle.zeros([len(each), 1], "int32") for each in labels]
        return batch
    batch["gt_bbox"], batch["gt_class"] = paddle.to_tensor(boxes), paddle.to_tensor(labels[..., None])
    batch["pad_gt_mask"] = paddle.ones([count, boxes.shape[1], 1])
    if "yolov3" in sys.argv[1]:
        batch.update(yolo_targets(arrays))
    return batch


def yolo_targets(arrays: dict) -> dict:
    """Targets and boxes of YOLOv3, which its reader makes on the host."""
    from ppdet.core.workspace import global_config
    from ppdet.data.transform.batch_operators import Gt2YoloTarget

    head = global_config["YOLOv3Head"]
    make = Gt2YoloTarget(head["anchors"], head["anchor_masks"], [32, 16, 8], num_classes=80)
    side = arrays["images"].shape[2]
    low, high = arrays["boxes"][..., :2], arrays["boxes"][..., 2:]
    relative = np.concatenate([(low + high) / 2, high - low], axis=2) / side
    samples = [
        {
            "image": image,
            "gt_bbox": box,
            "gt_class": label[:, None],
            "gt_score": np.ones((len(label), 1), "float32"),
        }
        for image, box, label in zip(arrays["images"], relative.astype("float32"), arrays["labels"])
    ]
    made = make(samples)
    targets = {f"target{i}": paddle.to_tensor(np.stack([s[f"target{i}"] for s in made])) for i in range(3)}
    return {**targets, "gt_bbox": paddle.to_tensor(relative.astype("float32"))}


def launches(run) -> int:
    """Operators that a call launches."""
    paddle.set_flags({"FLAGS_low_precision_op_list": 1})
    paddle.base.core.clear_low_precision_op_list()
    run()
    found = paddle.base.core.get_low_precision_op_list()
    paddle.set_flags({"FLAGS_low_precision_op_list": 0})
    return sum(sum(map(int, str(counts).split(","))) for counts in found.values())


def main() -> None:
    """Answer until the input ends."""
    config, batch_file = sys.argv[1:3]
    model = build(config)
    optimizer = paddle.optimizer.Momentum(
        1e-4, parameters=[p for p in model.parameters() if not p.stop_gradient], weight_decay=1e-4
    )
    batch = inputs(batch_file, type(model).__name__)

    def step() -> None:
        loss = model(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()

    def infer() -> None:
        with paddle.no_grad():
            model(batch)

    for line in sys.stdin:
        what = json.loads(line)
        run = step if what["task"].startswith("step") else infer
        model.train() if run is step else model.eval()
        if what["task"].endswith("launches"):
            answer = launches(run)
        else:
            began = time.perf_counter()
            run()
            answer = time.perf_counter() - began
        print("answer", json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
