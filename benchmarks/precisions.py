"""ONNX Runtime beside OpenVINO in float32, float16 and int8: time of the network, and AP.

    python benchmarks/precisions.py -c yolov3_tiny_coco --weights yolov3-tiny.weights \
        -o EvalDataset.dataset_dir=DIR --calibration DIR/train2017 --page
        benchmarks/precisions_MACHINE_202611.md

One detector, exported once for each; the networks take turns on prepared images, round by round, in one
process.
Times are medians over rounds of the mean of a round, ratios are those of medians, AP is that of `ppdet eval`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from ppdet import load_config, load_detector
from ppdet.data.transforms.base import pixels
from ppdet.data.transforms.decode import Decode
from ppdet.experiment.build import build_dataset
from ppdet.experiment.reduced import export_reduced
from ppdet.experiment.verify_ap import average_precisions
from ppdet.export.runtime import ExportedPredictor, arrays_of
from ppdet.export.sessions import Runtime, open_session
from ppdet.export.verify import prepare
from ppdet.utils.cpu import usable_cores

CASES: dict[str, tuple[str, Runtime]] = {
    "ONNX Runtime, float32": ("float32", "onnx"),
    "OpenVINO, float32": ("float32", "openvino"),
    "OpenVINO, float16": ("float16", "openvino"),
    "OpenVINO, int8": ("int8", "openvino"),
}


def exported(detector: Any, folder: Path, calibration: Path) -> dict[str, Path]:
    """A folder for each precision."""
    folders = {name: folder / name for name in ("float32", "float16", "int8")}
    detector.export(folders["float32"], formats=["onnx", "openvino"])
    export_reduced(detector, folders["float16"], "float16", max_ap_loss=100)
    export_reduced(detector, folders["int8"], "int8", calibration=[calibration], max_ap_loss=100)
    return folders


def times(folders: dict[str, Path], inputs: list[tuple[np.ndarray, ...]], rounds: int) -> dict[str, float]:
    """Milliseconds an image."""
    sessions = {name: open_session(folders[folder], runtime) for name, (folder, runtime) in CASES.items()}
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):  # the first one warms up
        for name, session in sessions.items():
            began = time.perf_counter()
            for arrays in inputs:
                session(*arrays)
            if number:
                found[name].append(1000 * (time.perf_counter() - began) / len(inputs))
    return {name: float(np.median(values)) for name, values in found.items()}


def versions() -> str:
    """Of what is compared, and the processor."""
    import nncf
    import onnxruntime
    import openvino

    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    return (
        f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}, "
        f"NNCF {nncf.__version__}, {processor}"
    )


def size(folder: Path, runtime: Runtime) -> float:
    """Megabytes of the files that a runtime reads."""
    endings = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}[runtime]
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in endings) / 1e6


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--calibration", type=Path, required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=20, help="images of a round (default: 20)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds that count (default: 11)")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    config = load_config(args.config, args.opt)
    detector = load_detector(args.weights, config=config, runtime="native")
    dataset, decode, rng = build_dataset(config, "EvalDataset"), Decode(), np.random.default_rng(0)
    reader = detector.reader("TestReader")
    images = [pixels(decode(dataset[i], rng)) for i in range(min(args.count, len(dataset)))]
    inputs = [arrays_of(batch) for image in images for batch in prepare(reader, [image])]
    with tempfile.TemporaryDirectory() as scratch:
        folders = exported(detector, Path(scratch), args.calibration)
        measured, count = average_precisions(
            detector, {name: ExportedPredictor(folders[f], r) for name, (f, r) in CASES.items()}
        )
        seconds = times(folders, inputs, args.rounds)
        sizes = {name: size(folders[f], r) for name, (f, r) in CASES.items()}
        shutil.rmtree(scratch, ignore_errors=True)
    base = seconds["ONNX Runtime, float32"]
    rows = [
        f"| {name} | {seconds[name]:.1f} | {base / seconds[name]:.2f} | {100 * measured[name]['bbox']:.1f} | "
        f"{sizes[name]:.1f} |"
        for name in CASES
    ]
    text = "\n".join(
        [
            "# ONNX Runtime, OpenVINO, float16 and int8",
            "",
            f"Command: `python benchmarks/precisions.py -c {args.config} ...`, {versions()}.",
            "",
            f"{args.config}: {len(inputs)} images, {args.rounds} rounds, {usable_cores()} cores; AP of "
            f"{count} images",
            "",
            "| network | ms an image | times ONNX Runtime | AP | MB |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )
    if args.page is None:
        print(text)
    else:
        args.page.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
