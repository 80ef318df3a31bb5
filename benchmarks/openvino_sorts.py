"""Sorts of equal numbers in OpenVINO: ours beside its own stable ones, and its own that promise no order.

    python benchmarks/openvino_sorts.py [--rounds N] [--page FILE.md]

Each config is exported once with random weights, and its network converted three times; the three take turns
on one image of noise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

import ppdet  # noqa: E402  # after Paddle's setting

# isort: split
import numpy as np  # noqa: E402
import openvino  # noqa: E402
from openvino import opset11  # noqa: E402
from pages import origin, spread  # noqa: E402

from ppdet.export.info import describe  # noqa: E402
from ppdet.export.onnx import export_onnx  # noqa: E402
from ppdet.export.openvino import keep_ties_in_order  # noqa: E402
from ppdet.export.sessions import INPUTS  # noqa: E402
from ppdet.utils.cpu import usable_cores  # noqa: E402

#: Config and side of the image.
CASES = {
    "faster_rcnn_r50_fpn_1x_coco": 800,
    "cascade_mask_rcnn_r50_fpn_1x_coco": 800,
    "retinanet_r50_fpn_1x_coco": 800,
    "yolov3_darknet53_270e_coco": 608,
    "ppyoloe_plus_crn_s_80e_coco": 640,
    "rtdetr_r18vd_6x_coco": 640,
}


def stable(model: openvino.Model) -> None:
    """Ask OpenVINO to keep equal numbers in order."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "TopK":
            options = {**node.get_attributes(), "stable": True}
            asked = opset11.topk(node.input_value(0), node.input_value(1), **options)
            for before, after in zip(node.outputs(), asked.outputs()):
                after.get_tensor().set_names(before.get_tensor().get_names())
                before.replace(after)
    model.validate_nodes_and_infer_types()


def untouched(model: openvino.Model) -> None:
    """Leave the order of equal numbers open, as the converter does."""


SIDES: dict[str, Callable[[Any], None]] = {
    "ours": keep_ties_in_order,
    "stable": stable,
    "any order": untouched,
}


def measure(config: str, side: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each network in each round."""
    experiment = ppdet.load_config(config, ["pretrain_weights=null"])
    model = ppdet.build_model(experiment)
    model.eval()
    assert experiment.TestReader is not None
    info = describe(model, experiment.TestReader.build(), ("thing",) * experiment.num_classes)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cores()}
    networks = {}
    with tempfile.TemporaryDirectory() as folder:
        source = export_onnx(model, Path(folder), info)
        for name, change in SIDES.items():
            network = openvino.convert_model(source)
            change(network)
            networks[name] = openvino.Core().compile_model(network, "CPU", settings)
    image = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    given = dict(zip(INPUTS, (image, np.full((1, 2), side, np.float32), np.ones((1, 2), np.float32))))
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(rounds + 2):
        for name, network in networks.items():
            inputs = {node.get_any_name(): given[node.get_any_name()] for node in network.inputs}
            began = time.perf_counter()
            network(inputs)
            if turn > 1:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def page(found: dict[str, dict[str, list[float]]], rounds: int) -> str:
    """The result page."""
    rows = []
    for config, times in found.items():
        ours, asked, open_ = (times[name] for name in SIDES)
        cells = [spread(side, 0) for side in (ours, asked, open_)]
        ratios = [statistics.median(b / a for a, b in zip(ours, other)) for other in (asked, open_)]
        rows.append(
            f"| {config} | {cells[0]} | {cells[1]} | {ratios[0]:.2f} | {cells[2]} | {ratios[1]:.2f} |"
        )
    return "\n".join(
        [
            "# Sorts that keep equal numbers in order, in OpenVINO",
            "",
            *origin(
                f"python benchmarks/openvino_sorts.py --rounds {rounds}",
                f"OpenVINO {metadata.version('openvino')}",
            ),
            "",
            "Milliseconds of an image, median (least - most), and the medians of the ratios to ours in a",
            "round: above 1, ours is faster.",
            "",
            "| Config | ours | stable | ratio | any order | ratio |",
            "|---|--:|--:|--:|--:|--:|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page")
    args = parser.parse_args()
    text = page({config: measure(config, side, args.rounds) for config, side in CASES.items()}, args.rounds)
    print(text)
    if args.page:
        args.page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
