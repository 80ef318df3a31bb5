"""Speed of several detectors beside each other: single images, from the file to the detections in its pixels.

    python benchmarks/detectors.py --images dataset/quickstart/val2017 --count 4 --rounds 3 \
        -c configs/ppyoloe_plus_crn_s_80e_coco.yml configs/rtdetr_r18vd_6x_coco.yml

The detectors take turns, round by round, in one process, so that whatever else the machine does falls on
all of them, in ONNX Runtime, which `ppdet eval` takes by itself. Weights are random and hardly a score
is above its threshold, so NMS has little to do: what is measured is the network.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle

from ppdet import build_model, load_config
from ppdet.data.datasets.image_folder import ImageFolder
from ppdet.data.readers import Reader
from ppdet.engine.evaluator import evaluate_single
from ppdet.experiment.build import require
from ppdet.experiment.evaluate import single_image_stages
from ppdet.export.bundle import export_model
from ppdet.export.info import FILE_NAME, describe
from ppdet.export.runtime import ExportedPredictor
from ppdet.inference.predictors import Predictor
from ppdet.inference.runner import ImageRunner

#: Of the layers that give scores through a sigmoid and are followed by NMS.
SCORES = ("pred_cls.", "yolo_output.")


def exported(config: str, folder: Path) -> tuple[Reader, Predictor]:
    """The detector of a config with random weights, exported into `folder`."""
    paddle.seed(0)
    experiment = load_config(config)
    model = build_model(experiment)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") and any(layer in name for layer in SCORES):
            parameter.set_value(paddle.full_like(parameter, -9.0))
    model.eval()
    reader: Reader = require(experiment, "TestReader").build()
    names = tuple(str(i) for i in range(experiment.num_classes))
    info = describe(model, reader, names)
    export_model(model, folder, info, formats=["onnx"])
    # Not compared with the model: scores of random weights tie, and ties may come in another order.
    info = replace(info, verified={"onnx": {}})
    (folder / FILE_NAME).write_text(info.to_json(), "utf-8")
    return reader, ExportedPredictor(folder, "onnx")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--configs", required=True, nargs="+", help="YAMLs of the experiments")
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=10, help="images per round (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    args = parser.parse_args()
    images = ImageFolder().of([args.images])
    with tempfile.TemporaryDirectory() as scratch:
        built = {c: exported(c, Path(scratch) / str(i)) for i, c in enumerate(args.configs)}
        times: dict[str, list[float]] = {config: [] for config in built}
        for _ in range(args.rounds):
            for config, (reader, predictor) in built.items():
                stages = single_image_stages(ImageRunner(reader, predictor), images)
                items = range(min(args.count, len(images)))
                report = evaluate_single(items, stages, runtime=predictor.runtime, warm_up=1).to_dict()
                times[config].append(report["total_ms"]["p50"])
                print(Path(config).stem, predictor.runtime, f"{times[config][-1]:.0f} ms", flush=True)
    for config, found in times.items():
        spread = f"({min(found):.0f} to {max(found):.0f})"
        print(f"{Path(config).stem:<36}{float(np.median(found)):8.0f} ms {spread}")


if __name__ == "__main__":
    main()
