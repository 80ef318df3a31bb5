"""Steps and inferences of this project: see `beside.py` one folder up.

    python ppdet_side.py CONFIG BATCH.npz WEIGHTS.pdparams

`ppdet` is imported first, since it chooses the path of Paddle's matrix library.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet import build_model, load_config
from ppdet.modeling.reparameterize import for_inference
from ppdet.structures import Batch, BatchTargets, PolygonBatch

# isort: split
import numpy as np
import paddle
from protocol import answer


def batch_of(arrays: dict[str, np.ndarray]) -> Batch:
    """The batch, each box as a polygon too."""
    images, objects = arrays["labels"].shape
    vertices = arrays["boxes"].reshape(-1, 4)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    targets = BatchTargets(
        boxes=paddle.to_tensor(arrays["boxes"]),
        labels=paddle.to_tensor(arrays["labels"]),
        is_crowd=paddle.zeros([images, objects], dtype="bool"),
        weights=paddle.ones([images, objects]),
        polygons=PolygonBatch(paddle.to_tensor(vertices), paddle.arange(images * objects, dtype="int64")),
    )
    return Batch(
        images=paddle.to_tensor(arrays["images"]),
        image_sizes=paddle.to_tensor(arrays["image_sizes"]),
        scale_factors=paddle.to_tensor(arrays["scale_factors"]),
        image_ids=tuple(range(images)),
        paths=("noise",) * images,
        targets=targets,
    )


def main() -> None:
    """Answer until the input ends."""
    model = build_model(load_config(sys.argv[1], ["num_classes=80", "norm_type=bn", "pretrain_weights=null"]))
    paddle.save(model.state_dict(), sys.argv[3])  # for PaddleDetection, which has the same names
    trained = [p for p in model.parameters() if p.trainable]
    # With a learning rate of 0, so that every step is the same work: see `beside.py`.
    optimizer = paddle.optimizer.Momentum(0.0, parameters=trained, weight_decay=1e-4)
    batch = batch_of(dict(np.load(sys.argv[2])))
    detecting = for_inference(model)  # as predictors do

    def step() -> None:
        model.train()
        paddle.add_n(list(model(batch).values())).backward()
        optimizer.step()
        optimizer.clear_grad()

    def infer() -> None:
        detecting.eval()
        with paddle.no_grad():
            detecting.detect(batch.images, batch.image_sizes, batch.scale_factors)

    answer({"step": step, "infer": infer})


main()
