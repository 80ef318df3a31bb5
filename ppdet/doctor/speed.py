"""Images per second of the baselines: single images, from the file to the detections in its pixels."""

from __future__ import annotations

from pathlib import Path

import paddle

from ppdet.data.datasets.image_folder import ImageFolder
from ppdet.doctor.checks import Check
from ppdet.engine.evaluator import evaluate_single
from ppdet.experiment.build import build_model, require
from ppdet.experiment.config import load_config
from ppdet.experiment.evaluate import single_image_stages
from ppdet.inference.predictors import NativePredictor
from ppdet.inference.runner import ImageRunner

BASELINES = (
    "faster_rcnn_r50_1x_coco",
    "faster_rcnn_r50_fpn_1x_coco",
    "mask_rcnn_r50_fpn_1x_coco",
    "cascade_rcnn_r50_fpn_1x_coco",
    "cascade_mask_rcnn_r50_fpn_1x_coco",
    "retinanet_r50_fpn_1x_coco",
    "yolov3_darknet53_270e_coco",
)


def measure(config: str, images: Path, *, count: int) -> Check:
    """Speed with random weights, run by Paddle operator by operator."""
    paddle.seed(0)
    experiment = load_config(config)
    model = build_model(experiment)
    model.eval()
    reader = require(experiment, "TestReader").build()
    folder = ImageFolder().of([str(images)])
    stages = single_image_stages(ImageRunner(reader, NativePredictor(model)), folder)
    report = evaluate_single(range(min(count, len(folder))), stages, runtime="", warm_up=1).to_dict()
    parts = (f"{name} {times['p50']:.0f} ms" for name, times in report["split_ms"].items())
    text = f"{report['fps']:.2f} images/s: {', '.join(parts)}"
    return Check(f"{config}, one image at a time", None, text, report)
