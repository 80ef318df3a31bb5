"""Steps and inferences of torchvision, in an environment of its own: see `beside.py` one folder up.

python torchvision_side.py MODEL BATCH.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from protocol import answer
from torchvision.models import detection


def main() -> None:
    """Answer until the input ends."""
    arrays = np.load(sys.argv[2])
    side = arrays["images"].shape[2]
    model = getattr(detection, sys.argv[1])(
        weights=None, weights_backbone=None, trainable_backbone_layers=3, num_classes=81,
        min_size=side, max_size=side,
    )  # fmt: skip
    images = list(torch.from_numpy(arrays["images"]))
    targets = []
    for boxes, labels in zip(arrays["boxes"], arrays["labels"]):
        masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
            mask[y1:y2, x1:x2] = 1
        targets.append(
            {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels) + 1, "masks": masks}
        )
    trained = [p for p in model.parameters() if p.requires_grad]
    # With a learning rate of 0, so that every step is the same work: see `beside.py`.
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        model.train()
        sum(model(images, targets).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def infer() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    answer({"step": step, "infer": infer})


main()
