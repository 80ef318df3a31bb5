"""Time of a training step split into data, host and Paddle's operators, and its waits for the device.

    python benchmarks/train_step.py                   every family, small images, a process each; prints
    python benchmarks/train_step.py --page FILE.md    and writes the result page, raw numbers beside it

Operator launches and host reads per step do not depend on the device: a GPU sees the same ones. Host reads
are counted as in training on a GPU, where losses are read with the log only. A few of Paddle's GPU kernels
wait for the device themselves (`WAITING`); their launches are counted in the trace of the profiler.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

from ppdet import load_config  # noqa: E402  # after Paddle's setting
from ppdet.data.tools.synth import SyntheticOptions, write_dataset  # noqa: E402
from ppdet.engine.evaluator import hardware, versions  # noqa: E402
from ppdet.engine.hooks import Hook  # noqa: E402
from ppdet.engine.meter import memory_in_use  # noqa: E402
from ppdet.engine.profiling import TABLE, TRACE, Profile  # noqa: E402
from ppdet.engine.settings import TrainSettings  # noqa: E402
from ppdet.engine.trainer import Trainer  # noqa: E402
from ppdet.experiment.build import build_training  # noqa: E402
from tests.support_sync import count_host_syncs  # noqa: E402

SIZE = 320
_TWO = "TrainReader.batch_size=2"
_RESIZED = [_TWO, f"TrainReader.sample_transforms.Resize.target_size=[{SIZE},{SIZE}]"]
_BATCHES = [_TWO, f"TrainReader.batch_transforms.BatchRandomResize.target_size=[{SIZE}]"]
CONFIGS = {
    "Faster R-CNN R50-FPN": ("faster_rcnn_r50_fpn_1x_coco.yml", _RESIZED),
    "Mask R-CNN R50-FPN": ("mask_rcnn_r50_fpn_1x_coco.yml", _RESIZED),
    "RetinaNet R50-FPN": ("retinanet_r50_fpn_1x_coco.yml", _RESIZED),
    "YOLOv3 DarkNet53": ("yolov3_darknet53_270e_coco.yml", _BATCHES),
    "PP-YOLOE+ s": ("ppyoloe_plus_crn_s_80e_coco.yml", _BATCHES),
    "RT-DETR R18vd": ("rtdetr_r18vd_6x_coco.yml", _BATCHES),
}
WARM_UP, STEPS = 5, 20
#: Operators in the table of each detector: those that take most of the time.
LARGEST = 10

#: Operators whose GPU kernels copy a result to the host and wait for it (Paddle's ``phi/kernels/gpu``): the
#: number of rows, the overlaps of boxes, the number of regions of each image.
WAITING = ("nonzero", "masked_select", "nms", "roi_align", "roi_align_grad")


class Clock(Hook):
    """Wall-clock time of each step, without the profiler."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._last = 0.0

    def after_step(self, trainer: Trainer) -> None:
        """Note the time."""
        now = time.perf_counter()
        if trainer.progress.step > WARM_UP:
            self.times.append(now - self._last)
        self._last = now


def measure(config: str, overrides: list[str], data: Path, *, steps: int) -> dict[str, Any]:
    """Numbers of one detector."""
    common = [f"TrainDataset.dataset_dir={data}", "TrainDataset.image_dir=train"]
    common += ["TrainDataset.anno_path=annotations/instances_train.json", "worker_num=1", "seed=0"]
    common += [f"num_classes={classes(data)}", "pretrain_weights=null"]
    training = build_training(load_config(ROOT / "configs" / config, overrides=[*common, *overrides]))

    def train(count: int, *hooks: Hook) -> None:
        settings = TrainSettings(epochs=10**6, max_iters=count, log_iter=10**6)
        trainer = Trainer(
            training.model, training.optimizer, training.schedule, training.loader, settings, hooks=hooks
        )
        trainer._check_every_step = False  # as on a GPU
        trainer.train()

    clock = Clock()
    train(WARM_UP + steps, clock)
    with count_host_syncs() as reads:
        train(1)
        at_the_end = sum("/ppdet/data/" not in read for read in reads)  # the log that ends a run
        train(4)
    # Preparing images on a CPU reads its own arrays; on a GPU that is done by operators.
    reads = [read for read in reads if "/ppdet/data/" not in read]
    with tempfile.TemporaryDirectory() as folder:
        train(1000, Profile(Path(folder), first=2, steps=min(steps, 5)))
        table = json.loads((Path(folder) / TABLE).read_text("utf-8"))
        launched = launches(Path(folder) / TRACE, min(steps, 5))
    training.loader.close()
    quantiles = statistics.quantiles(clock.times, n=20, method="inclusive")
    return {
        "step_ms_p50": statistics.median(clock.times) * 1e3,
        "step_ms_p95": quantiles[18] * 1e3,
        "profiled": table,
        "host_reads_per_step": (len(reads) - 2 * at_the_end) / 3,
        "host_reads": sorted(set(reads)),
        "waiting_kernels_per_step": {name: launched[name][1] for name in WAITING if name in launched},
        "launches": launched,
        "peak_memory_mb": memory_in_use() / 2**20,
        "parameters": sum(int(p.size) for p in training.model.parameters()),
        "batch": training.loader.batch_size,
    }


def launches(trace: Path, steps: int) -> dict[str, tuple[float, float]]:
    """(milliseconds, launches) per step of every operator, from a trace of the profiler over some steps.

    The time of an operator is that of its kernel with what the host does for it, as in dynamic mode on a
    processor, where the one waits for the other.
    """
    content = json.loads(trace.read_text("utf-8"))
    events = content["traceEvents"] if isinstance(content, dict) else content
    found: dict[str, tuple[float, float]] = {}
    for event in events:
        if event.get("ph") == "X" and event.get("cat") == "DygraphKernelLaunch":
            name = event["name"].split()[0]
            time, count = found.get(name, (0.0, 0.0))
            found[name] = (time + event["dur"] / 1e3 / steps, count + 1 / steps)
    return dict(sorted(found.items(), key=lambda pair: -pair[1][0]))


def classes(data: Path) -> int:
    """Number of categories of the dataset."""
    return len(json.loads((data / "annotations/instances_train.json").read_text("utf-8"))["categories"])


def measure_apart(name: str, steps: int) -> dict[str, Any]:
    """What `measure` gives in a process of its own, since peak memory is that of a process."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        words = ["--only", name, "--steps", str(steps), "--json", str(raw)]
        subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.DEVNULL)
        numbers: dict[str, Any] = json.loads(raw.read_text("utf-8"))[name]
    return numbers


def page(found: dict[str, Any], steps: int) -> str:
    """The result page, as README.md wants it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    cpu, known, at = found["hardware"], found["versions"], commit.stdout.strip()
    load = f"{found['load_average'][0]:.1f}"
    quiet = found["load_average"][0] < 0.5
    rows = []
    for name in CONFIGS:
        if name not in found:
            continue
        one, table = found[name], found[name]["profiled"]
        share = " / ".join(
            f"{100 * table[part] / table['step_ms']:.1f}" for part in ("data_ms", "host_ms", "kernels_ms")
        )
        rows.append(
            f"| {name} | {one['batch']} | {one['step_ms_p50']:.0f} | {one['step_ms_p95']:.0f} | {share} "
            f"| {table['operators']:.0f} | {one['host_reads_per_step']:.0f} "
            f"| {sum(one['waiting_kernels_per_step'].values()):.0f} | {one['peak_memory_mb']:.0f} |"
        )
    profiles = [
        line
        for name in CONFIGS
        if name in found
        for line in ("", f"## {name}", "", *_largest(found[name]["launches"], found[name]["profiled"]))
    ]
    return "\n".join(
        [
            "# A training step: its time, and how often it waits for the device",
            "",
            f"`python benchmarks/train_step.py --steps {steps} --page FILE` at commit {at}, one process",
            f"per detector, {found['image_size']} pixels, {WARM_UP} steps of warm-up, {steps} timed.",
            f"{cpu['cpu']}, {cpu['cores']} cores, {os.environ['MKL_NUM_THREADS']} threads; "
            + ", ".join(f"{what} {version}" for what, version in known.items())
            + ".",
            f"Load average before: {load}"
            + ("." if quiet else ": **the machine was busy, so these times are no result**."),
            "",
            "| Detector | Batch | Step, p50 ms | p95 ms | Data / host / operators, % of a profiled step "
            "| Operators per step | Host reads per step | Kernels that wait per step | Peak memory, MB |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Host reads are those of a step between two logs, as on a GPU; each stops its queue. The GPU",
            f"kernels of {', '.join(WAITING)} wait for the device too.",
            "",
            f"The {LARGEST} operators that take most of a step on a processor, with the profiler running.",
            *profiles,
            "",
        ]
    )


def _largest(launched: dict[str, tuple[float, float]], table: dict[str, float]) -> list[str]:
    """The table of the largest operators of one detector."""
    first = list(launched.items())[:LARGEST]
    return [
        "| Operator | ms | % of the step | Launches |",
        "|---|---|---|---|",
        *(
            f"| `{name}` | {time:.1f} | {100 * time / table['step_ms']:.1f} | {count:.0f} |"
            for name, (time, count) in first
        ),
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--steps", type=int, default=STEPS, help="timed steps (%(default)s)")
    parser.add_argument("--only", choices=list(CONFIGS), help="one detector, in this process")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page; FILE.json beside it")
    args = parser.parse_args()
    logging.getLogger("ppdet").setLevel(logging.WARNING)
    found: dict[str, Any] = {"hardware": hardware(), "versions": versions(), "image_size": SIZE}
    found["load_average"] = os.getloadavg()  # a number above that of cores spoils the times
    for name, (config, overrides) in CONFIGS.items():
        if args.only is None:
            found[name] = measure_apart(name, args.steps)
        elif args.only == name:
            with tempfile.TemporaryDirectory() as folder:
                data = Path(folder) / "data"
                write_dataset(data, SyntheticOptions(train=32, val=1, height=240, width=320))
                found[name] = measure(config, overrides, data, steps=args.steps)
        else:
            continue
        shown = {key: value for key, value in found[name].items() if key not in ("host_reads", "launches")}
        print(name, json.dumps(shown), flush=True)
    files = [args.json, args.page.with_suffix(".json") if args.page else None]
    for path in filter(None, files):
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if args.page:
        args.page.write_text(page(found, args.steps), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
