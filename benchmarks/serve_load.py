"""A service under load: 32 clients for 30 seconds, with batches and without, in one run.

    python benchmarks/serve_load.py WEIGHTS [-c CONFIG] [--clients 32] [--seconds 30] [--rounds 3]

Sides alternate, each with a service in a process of its own. A client keeps its connection and sends the next
image when it has the answer. Clients run in this process, on the same cores as the service, so a service on a
machine of its own is faster. The first `WARM_UP` seconds count for nothing. Memory is the resident size of
the service, twice a second; "growth" is its highest value of the last third less that of the first.
"""

from __future__ import annotations

import argparse
import http.client
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

WARM_UP = 3.0
SIDES = {"batches of up to 4": 4, "no batches": 1}
FORM = "multipart/form-data; boundary=edge"


class Round(NamedTuple):
    """What one round of one side came to.

    Attributes:
        seconds: Of each answer with status 200.
        errors: Answers of another kind, and broken connections.
        duration: Length of the round in seconds.
        batch: Mean number of images in a batch.
        peak: Most memory in bytes.
        growth: How much it grew from the first third to the last, in bytes.
    """

    seconds: list[float]
    errors: int
    duration: float
    batch: float
    peak: int
    growth: int


def pictures(count: int) -> list[bytes]:
    """Forms with one JPEG each: smooth noise of 640 by 480 pixels."""
    rng = np.random.default_rng(0)
    forms = []
    for _ in range(count):
        noise = cv2.resize(rng.integers(0, 255, (24, 32, 3), np.uint8), (640, 480))
        image = cv2.imencode(".jpg", noise)[1].tobytes()
        head = b'--edge\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
        forms.append(head + image + b"\r\n--edge--\r\n")
    return forms


def start(words: list[str]) -> tuple[subprocess.Popen[str], int]:
    """A service and its port, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ppdet", "serve", *words, "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"serving .* on http://127\.0\.0\.1:(\d+)", line)
        if found:
            return process, int(found.group(1))
    raise SystemExit("the service did not start:\n" + "".join(said))


def client(
    port: int, forms: list[bytes], first: int, begin: float, end: float, out: list[Optional[float]]
) -> None:
    """Send images until `end`; adds the seconds of each answer since `begin`, None for an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    number = first
    while time.perf_counter() < end:
        number += 1
        before = time.perf_counter()
        try:
            connection.request("POST", "/v1/detect", forms[number % len(forms)], {"Content-Type": FORM})
            answer = connection.getresponse()
            answer.read()
            good = answer.status == 200
        except (OSError, http.client.HTTPException):
            connection.close()
            good = False
        if before >= begin:
            out.append(time.perf_counter() - before if good else None)
    connection.close()


def resident(pid: int) -> int:
    """Bytes of memory of a process (Linux)."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"))
    return 1024 * int(kilobytes)


def mean_batch(port: int) -> float:
    """Images per batch, as the service counts them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    total, count = (
        float(re.findall(rf"^ppdet_batch_images_{name} (\S+)$", text, re.M)[0]) for name in ("sum", "count")
    )
    return total / count


def one_round(words: list[str], clients: int, seconds: float) -> Round:
    """A fresh service under load."""
    forms = pictures(64)
    process, port = start(words)
    try:
        begin = time.perf_counter() + WARM_UP
        end = begin + seconds
        out: list[Optional[float]] = []
        threads = [
            threading.Thread(target=client, args=(port, forms, 7 * i, begin, end, out))
            for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        memory = []
        while time.perf_counter() < end:
            time.sleep(0.5)
            if time.perf_counter() >= begin:
                memory.append(resident(process.pid))
        for thread in threads:
            thread.join()
        duration = time.perf_counter() - begin
        third = max(1, len(memory) // 3)
        growth = max(memory[-third:]) - max(memory[:third])
        good = [one for one in out if one is not None]
        return Round(good, len(out) - len(good), duration, mean_batch(port), max(memory), growth)
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    """Run both sides in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("-c", "--config")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    words = [args.weights, *(["-c", args.config] if args.config else [])]
    rounds: dict[str, list[Round]] = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side, size in SIDES.items():
            found = one_round([*words, "--batch_size", str(size)], args.clients, args.seconds)
            rounds[side].append(found)
            print(f"{side}: {len(found.seconds) / found.duration:.1f} images/s", file=sys.stderr)
    print(f"{args.clients} clients, {args.seconds:g} s, {args.rounds} rounds of each side\n")
    print("| | answers | errors | images/s | spread | p50 ms | p95 ms | batch | peak MB | growth MB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    rates = {side: [len(one.seconds) / one.duration for one in some] for side, some in rounds.items()}
    for side, some in rounds.items():
        seconds = np.array([value for one in some for value in one.seconds])
        p50, p95 = (1000 * np.percentile(seconds, p) for p in (50, 95))
        rate = rates[side]
        print(
            f"| {side} | {len(seconds):,} | {sum(one.errors for one in some)} | "
            f"{statistics.median(rate):.1f} | {min(rate):.1f}-{max(rate):.1f} | {p50:.0f} | {p95:.0f} | "
            f"{statistics.mean(one.batch for one in some):.2f} | {max(one.peak for one in some) / 1e6:.0f} | "
            f"{max(one.growth for one in some) / 1e6:.1f} |"
        )
    first, second = (statistics.median(rates[side]) for side in SIDES)
    print(f"\nimages/s with batches against without: {first / second:.2f}")


if __name__ == "__main__":
    main()
