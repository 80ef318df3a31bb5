"""Bytes that training sends per step, and the efficiency to be expected on many GPUs.

    python benchmarks/scale.py [--measure NAME ...] [--page FILE]

The first table counts: every trained parameter has one float32 gradient, which is averaged once per step, and
nothing else of size travels. The second one estimates, with the assumptions that it prints. `--measure`
trains
the named configs for some steps in two processes of this machine, on small images, and reads from the
loopback
interface how many bytes a step really sends.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet import build_model, load_config
from ppdet.zoo.table import entries
from tests.fake_coco import write_coco

CONFIGS = (
    "faster_rcnn_r50_fpn_1x_coco",
    "mask_rcnn_r50_fpn_1x_coco",
    "cascade_rcnn_r50_fpn_1x_coco",
    "retinanet_r50_fpn_1x_coco",
    "yolov3_darknet53_270e_coco",
    "ppyoloe_plus_crn_s_80e_coco",
    "ppyoloe_plus_crn_l_80e_coco",
    "rtdetr_r50vd_6x_coco",
)
GPUS = (8, 64, 512)
#: Gigabits per second and machine.
NETWORKS = (25, 100, 400)
GPUS_OF_A_MACHINE = 8
#: Operations per second that a training step gets out of one GPU: 40 % of 15.7 TFLOP/s (V100, float32).
OPERATIONS = 0.4 * 15.7e12
#: A step is a forward pass and twice as much for the gradients.
STEP = 3.0
#: Bytes per second at which the GPUs of a machine average (NVLink).
NVLINK = 150e9
#: Seconds of one message, and bytes of the buckets that gradients travel in.
LATENCY, BUCKET = 10e-6, 32e6
#: Share of the network's nominal speed that arrives.
ARRIVES = 0.85


@dataclass(frozen=True)
class Family:
    """What counts for scaling.

    Attributes:
        name: Its config.
        gradient_bytes: Of all trained parameters.
        step_seconds: Of one GPU, by `OPERATIONS`.
        batch: Images of one GPU.
    """

    name: str
    gradient_bytes: int
    step_seconds: float
    batch: int


def family_of(name: str) -> Family:
    """Counted from the model that a config builds."""
    experiment = load_config(name)
    model = build_model(experiment)
    numbers = sum(p.size for p in model.parameters() if p.trainable)
    gflops = next(e.gflops for e in entries() if e.config == f"{name}.yml" and e.gflops is not None)
    batch = experiment.TrainReader.arguments["batch_size"]
    return Family(name, 4 * numbers, STEP * gflops * 1e9 * batch / OPERATIONS, batch)


def averaging_seconds(family: Family, gpus: int, gigabits: float) -> float:
    """Time to average the gradients: within machines by NVLink, between them in a ring of machines."""
    machines = max(1, gpus // GPUS_OF_A_MACHINE)
    local = min(gpus, GPUS_OF_A_MACHINE)
    seconds = 2 * (local - 1) / local * family.gradient_bytes / NVLINK
    seconds += 2 * (machines - 1) / machines * family.gradient_bytes / (gigabits * 1e9 / 8 * ARRIVES)
    buckets = math.ceil(family.gradient_bytes / BUCKET)
    return seconds + buckets * 2 * math.log2(gpus) * LATENCY


def efficiency(family: Family, gpus: int, gigabits: float, *, overlaps: bool) -> float:
    """Images per second and GPU, as a share of those of one GPU alone.

    With overlap, averaging goes on during the backward pass, two thirds of the step, but for its last bucket.
    """
    averaging = averaging_seconds(family, gpus, gigabits)
    hidden = 0.0
    if overlaps:
        last = min(1.0, BUCKET / family.gradient_bytes)
        hidden = min(averaging * (1 - last), 2 / 3 * family.step_seconds)
    return family.step_seconds / (family.step_seconds + averaging - hidden)


def measured_bytes(name: str) -> float:
    """Bytes per step that two processes of this machine send each other."""
    with tempfile.TemporaryDirectory() as folder:
        write_coco(Path(folder) / "data")
        few, many = (_sent(name, Path(folder), steps) for steps in (2, 6))
    return (many - few) / 4


def _sent(name: str, folder: Path, steps: int) -> int:
    values = [
        *(f"max_iters={steps}", "epoch=100", "snapshot_epoch=100", "worker_num=0", "pretrain_weights=null"),
        *("TrainReader.batch_size=1", f"save_dir={folder / str(steps)}", "TrainDataset.dataset_dir=data"),
    ]
    before = _loopback()
    words = ["launch", "--nproc", "2", "--", "train", "-c", name, "-o", *values]
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-m", "ppdet", *words], cwd=folder, check=True, env=environment)
    return _loopback() - before


def _loopback() -> int:
    """Bytes that programs of this machine have sent each other."""
    for line in Path("/proc/net/dev").read_text("ascii").splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[9])
    raise RuntimeError("there is no loopback interface")


def counted_table(families: Sequence[Family], measured: dict[str, float]) -> str:
    """Bytes per step."""
    lines = ["| config | trained parameters | gradients, MB | sent per process and step, MB | measured, MB |"]
    lines.append("|---|---|---|---|---|")
    for family in families:
        size = family.gradient_bytes
        seen = f"{measured[family.name] / 2 / 1e6:.1f}" if family.name in measured else ""
        lines.append(
            f"| {family.name} | {size / 4e6:.1f} M | {size / 1e6:.1f} | {size / 1e6:.1f} to "
            f"{2 * size / 1e6:.1f} | {seen} |"
        )
    return "\n".join(lines)


def estimated_table(families: Sequence[Family], *, overlaps: bool) -> str:
    """Efficiency by network and GPUs."""
    inside = [(GPUS_OF_A_MACHINE, NETWORKS[0])]  # no network takes part
    cases = inside + [(g, n) for g in GPUS if g > GPUS_OF_A_MACHINE for n in NETWORKS]
    heads = [f"{g}" if g <= GPUS_OF_A_MACHINE else f"{g} at {n} Gb/s" for g, n in cases]
    lines = [f"| config | step, ms | {' | '.join(heads)} |", "|---|---|" + "---|" * len(cases)]
    for family in families:
        cells = [f"{efficiency(family, *case, overlaps=overlaps):.0%}" for case in cases]
        lines.append(f"| {family.name} | {1000 * family.step_seconds:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(families: Sequence[Family], measured: dict[str, float], command: str) -> str:
    """All tables, with what they assume."""
    return f"""# How training scales over many GPUs

`{command}`

The first table counts and, in its last column, measures. The others are estimates, since no GPU was at hand.

## Bytes per step

Every trained parameter has one float32 gradient. A ring of N processes sends 2 (N - 1) / N times their size
from each process: once with 2 processes, nearly twice with many. Beside them travels one number per step,
which
says whether a process wants to stop, and on processors one more, whether the losses are finite. Measured is
what two processes of one machine sent by the counter of the loopback interface, per process and step, as the
difference of 6 and 2 steps.

{counted_table(families, measured)}

## Efficiency to be expected

Images per second and GPU, as a share of those of one GPU. Assumed:

* a step takes {STEP:.0f} times the operations of a forward pass, at {OPERATIONS / 1e12:.1f} TFLOP/s (40 %
of a
  V100 in float32). A faster GPU, or mixed precision, shortens the step and not the averaging: read the
  column of a
  network that is slower by the same factor;
* the batch per GPU is that of the config;
* machines have {GPUS_OF_A_MACHINE} GPUs, which average at {NVLINK / 1e9:.0f} GB/s, and one network card, of
whose
  speed {ARRIVES:.0%} arrive; a message takes {1e6 * LATENCY:.0f} us;
* all steps take equally long and loading never waits. Images of different sizes make them differ, which costs
  more than the network where that is fast.

With overlap, as `paddle.DataParallel` does on GPUs: gradients travel in buckets of {BUCKET / 1e6:.0f} MB
while the
backward pass goes on, all but the last.

{estimated_table(families, overlaps=True)}

Without overlap, as it would be if everything were sent after the backward pass:

{estimated_table(families, overlaps=False)}

## What else grows with the number of processes

Nothing but lists of one entry per process. `tests/engine/test_many_ranks.py` runs the sampler and the merging
of an evaluation for 64 processes: a process's share of an epoch is computed without the others; an evaluation
sends every detection once to each process, however many there are, and some hundred bytes for each of them;
one
process writes logs and checkpoints.
"""


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", nargs="*", default=[], metavar="NAME", help="configs to measure")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page to a file")
    args = parser.parse_args()
    measured = {name: measured_bytes(name) for name in args.measure}
    families = [family_of(name) for name in CONFIGS]
    command = "python benchmarks/scale.py"
    if args.measure:
        command += f" --measure {' '.join(args.measure)}"
    text = page(families, measured, command)
    if args.page is None:
        print(text)
    else:
        args.page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
