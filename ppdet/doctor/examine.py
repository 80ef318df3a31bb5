"""All checks in their order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import paddle

from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.doctor import kernels, operators, speed, trainings
from ppdet.doctor.checks import Check


def examine(device: str, *, steps: int = 20, images: int = 5, only: Optional[str] = None) -> Iterator[Check]:
    """Run the checks one by one.

    Args:
        device: Where, as `ppdet.experiment.build.set_device` gives it.
        steps: Steps of each training.
        images: Images that each baseline detects on.
        only: Configs whose name contains this; None for all.

    Yields:
        Each outcome, as soon as it is known.
    """
    yield operators.check_nms()
    yield operators.check_roi_align()
    gpu = device.startswith("gpu")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_dataset(data / "small", SyntheticOptions(train=16, val=1, height=128, width=128))
        write_dataset(data / "large", SyntheticOptions(train=1, val=max(1, images), height=480, width=640))
        for config in filter(lambda name: (only or "") in name, trainings.families()):
            with kernels.recorded() as launches:
                yield trainings.check_training(config, data / "small", device, steps=steps)
            if gpu:
                yield _kernels(config, launches)
                yield trainings.check_training(config, data / "small", device, steps=steps, amp=True)
        paddle.set_device(device)
        for config in filter(lambda name: (only or "") in name, speed.BASELINES):
            yield speed.measure(config, data / "large" / "val", count=images)


def _kernels(config: str, launches: dict[str, dict[str, int]]) -> Check:
    lacking = kernels.missing(launches, kernels.registered(), train=True)
    text = f"{len(launches)} operators, all for GPUs"
    if lacking:
        text = f"no kernel for GPUs: {', '.join(sorted(lacking))}"
    return Check(f"{config}, kernels", not lacking, text, {"missing": lacking})
