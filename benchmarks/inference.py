"""Speed of single images, read and post-processing included, by each runtime; and of the network alone.

    python benchmarks/inference.py -c configs/yolov3_tiny_coco.yml --weights yolov3-tiny.weights \
        --images dataset/coco/val2017 --json benchmarks/inference_yolov3-tiny_2core_202611.json

Runtimes take turns, round by round, in one process, so that whatever else the machine does falls on all of
them. "paddle dygraph" is the model with Paddle's own number of threads; "network alone" is ONNX Runtime on
inputs that are ready, the same images; "multiplications alone" is the least time that the network's float32
arithmetic takes on this processor. Ratios are of medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from arithmetic import matrix_product_flops, network_flops

from ppdet import build_model, load_config, load_weights
from ppdet.data.datasets.image_folder import ImageFolder
from ppdet.data.readers import Reader
from ppdet.engine.evaluator import evaluate_single
from ppdet.experiment.build import require
from ppdet.experiment.evaluate import single_image_stages
from ppdet.export.bundle import export_model
from ppdet.export.info import describe
from ppdet.export.runtime import ExportedPredictor, arrays_of
from ppdet.export.sessions import INPUTS, ONNX_MODEL, open_session
from ppdet.export.verify import generated_images, prepare
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.inference.runner import ImageRunner

ALONE = "network alone"
STREAMED = "onnx, images prepared meanwhile"
FLOOR = "multiplications alone"
#: Images of each round that are run before the clock starts.
WARM_UP = 2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--config", required=True, help="YAML of the experiment")
    parser.add_argument("--weights", required=True, help="weights")
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=10, help="images per round (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--paddle", action="store_true", help="measure Paddle Inference too, in float32 and bfloat16"
    )
    parser.add_argument("--json", help="where the numbers go")
    return parser.parse_args()


def ready_inputs(reader: Reader, images: Any, count: int) -> list[tuple[np.ndarray, ...]]:
    """What the exported network takes, for each of the images."""
    stages = single_image_stages(ImageRunner(reader, _Keep()), images)[:2]
    prepared = []
    for index in range(count):
        value: Any = index
        for stage in stages:
            value = stage.run(value)
        prepared.append(arrays_of(value.batches[0]))
    return prepared


def network_alone(folder: Path, prepared: list[tuple[np.ndarray, ...]]) -> float:
    """Seconds per image of the exported network on prepared inputs."""
    session = open_session(folder, "onnx")
    for inputs in prepared[:WARM_UP]:
        session(*inputs)
    before = time.perf_counter()
    for inputs in prepared:
        session(*inputs)
    return (time.perf_counter() - before) / len(prepared)


def streamed(predictor: Predictor, reader: Reader, images: Any, count: int) -> float:
    """Seconds per image where files are read and prepared while the network runs, as `infer` does it."""
    runner = ImageRunner(reader, predictor)
    list(runner.stream(images[i] for i in range(WARM_UP)))
    before = time.perf_counter()
    list(runner.stream(images[i] for i in range(count)))
    return (time.perf_counter() - before) / count


class _Keep(Predictor):
    """Runs nothing: only the preparation of images is wanted."""

    runtime = ""

    def run(self, batch: Any) -> Any:
        """What it is given."""
        return batch

    def finish(self, batch: Any, raw: Any) -> list[Any]:
        """Nothing."""
        del batch, raw
        return []


def main() -> None:
    """Measure and print."""
    args = arguments()
    experiment = load_config(args.config)
    model = build_model(experiment)
    load_weights(model, args.weights)
    model.eval()
    reader: Reader = require(experiment, "TestReader").build()
    images = ImageFolder().of([args.images])
    count = min(args.count, len(images))
    formats: list[Any] = ["onnx", *(["paddle"] if args.paddle else [])]
    names = tuple(str(i) for i in range(experiment.num_classes))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        results = export_model(
            model,
            folder,
            describe(model, reader, names),
            formats=formats,
            batches=prepare(reader, generated_images()),
        )
        predictors: list[Predictor] = [
            NativePredictor(model),
            *(ExportedPredictor(folder, f) for f in formats),
            *(ExportedPredictor(folder, "paddle", bfloat16=True) for _ in formats[1:]),
        ]
        rounds: dict[str, list[dict[str, Any]]] = {p.runtime: [] for p in predictors}
        alone: list[float] = []
        meanwhile: list[float] = []
        prepared = ready_inputs(reader, images, count)
        peaks: list[float] = []
        for _ in range(args.rounds):
            for predictor in predictors:
                stages = single_image_stages(ImageRunner(reader, predictor), images)
                report = evaluate_single(range(count), stages, runtime=predictor.runtime, warm_up=WARM_UP)
                rounds[predictor.runtime].append(report.to_dict())
            meanwhile.append(streamed(predictors[1], reader, images, count))
            alone.append(network_alone(folder, prepared))
            peaks.append(matrix_product_flops())
        operations = network_flops(folder / ONNX_MODEL, [dict(zip(INPUTS, inputs)) for inputs in prepared])
    seconds = {name: [r["total_ms"]["mean"] / 1e3 for r in found] for name, found in rounds.items()}
    seconds[STREAMED] = meanwhile
    seconds[ALONE] = alone
    seconds[FLOOR] = [float(np.mean(operations)) / max(peaks)]
    summary = {
        "config": args.config,
        "images": count,
        "rounds": args.rounds,
        "flops_per_image": operations,
        "matrix_product_flops_per_second": peaks,
        "verified": [r.to_dict() for r in results],
        "seconds_per_image": seconds,
        "detail": rounds,
    }
    show(seconds, rounds)
    if args.json:
        Path(args.json).write_text(json.dumps(summary, indent=1), "utf-8")


def show(seconds: dict[str, list[float]], rounds: dict[str, list[dict[str, Any]]]) -> None:
    """A table for people."""
    native = float(np.median(next(iter(seconds.values()))))
    alone = float(np.median(seconds[ALONE]))
    for name, values in seconds.items():
        middle = float(np.median(values))
        spread = f"{1e3 * min(values):.1f} to {1e3 * max(values):.1f}"
        print(
            f"{name:<40}{1e3 * middle:9.1f} ms ({spread}); {native / middle:6.2f} x native, "
            f"{alone / middle:5.2f} x the network alone"
        )
    for name, found in rounds.items():
        split = ", ".join(f"{k} {v['p50']:.1f}" for k, v in found[-1]["split_ms"].items())
        print(f"{name}: {split} ms (p50 of the last round)")


if __name__ == "__main__":
    main()
