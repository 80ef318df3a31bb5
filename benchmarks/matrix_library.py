"""Speed of Paddle's matrix library on each of its code paths, against what it chooses by itself.

    python benchmarks/matrix_library.py [--rounds 7]

Each figure comes from a process of its own on one thread, which reads MKL_DEBUG_CPU_TYPE once; the
processes of the paths alternate, and time is the processor's, so that other programs disturb little.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

#: Input channels, output channels, height and width, kernel size of the convolutions.
CONVOLUTIONS = [(64, 64, 120, 3), (256, 256, 60, 3), (512, 128, 60, 1), (32, 64, 160, 3)]
PRODUCT = 1536
REPEATS = 5


def processor_seconds(run: Callable[[], Any]) -> float:
    """Median time of the processor, in seconds, that a call takes."""
    run()
    times = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_SELF)
        run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def measure() -> None:
    """Print GFLOP/s of a product and of convolutions with their gradients in this process."""
    import paddle

    left, right = paddle.randn([PRODUCT, PRODUCT]), paddle.randn([PRODUCT, PRODUCT])
    seconds = processor_seconds(lambda: paddle.matmul(left, right))
    print(f"product {PRODUCT}\t{2 * PRODUCT**3 / seconds / 1e9}")
    for inputs, outputs, side, kernel in CONVOLUTIONS:
        image = paddle.randn([1, inputs, side, side])
        weight = paddle.randn([outputs, inputs, kernel, kernel])
        image.stop_gradient = weight.stop_gradient = False

        def step(image: Any = image, weight: Any = weight, padding: int = kernel // 2) -> None:
            output = paddle.nn.functional.conv2d(image, weight, padding=padding)
            paddle.grad(output.sum(), [image, weight])

        operations = 3 * 2 * inputs * outputs * kernel**2 * side**2
        rate = operations / processor_seconds(step) / 1e9
        print(f"conv {kernel}x{kernel} {inputs}->{outputs}, {side}x{side}\t{rate}")


def main() -> int:
    """Run the paths in turn and print a table of medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="processes per path (%(default)s)")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        measure()
        return 0
    from ppdet.engine.evaluator import hardware
    from ppdet.utils.cpu import CPUINFO

    paths = {"as it comes": None, "5 (AVX2)": "5"}
    if "avx512vl" in CPUINFO.read_text("utf-8"):
        paths["7 (AVX-512)"] = "7"  # ends in SIGILL elsewhere
    plain = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(args.rounds):
        for name, value in paths.items():
            chosen = {"MKL_DEBUG_CPU_TYPE": value} if value else {}
            run = subprocess.run(
                [sys.executable, "-W", "ignore", __file__, "--once"],
                env={**plain, **chosen, "OMP_NUM_THREADS": "1"},
                check=True,
                capture_output=True,
                text=True,
            )
            for line in run.stdout.splitlines():
                what, rate = line.split("\t")
                rates[what][name].append(float(rate))
    print(f"{hardware()}, {args.rounds} processes per path, one thread: GFLOP/s, median (least - most)\n")
    print("| | " + " | ".join(paths) + " |\n" + "|---" * (len(paths) + 1) + "|")
    for what, by_path in rates.items():
        cells = [f"{statistics.median(r):.0f} ({min(r):.0f} - {max(r):.0f})" for r in by_path.values()]
        print(f"| {what} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
