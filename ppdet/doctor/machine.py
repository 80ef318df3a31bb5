"""What the machine is and what is installed: the facts that an issue needs."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from typing import Any

import paddle

from ppdet.engine.evaluator import hardware, versions
from ppdet.utils.cpu import settings_in_force

#: Packages whose versions change results or speed.
_PACKAGES = ("opencv-python", "opencv-python-headless", "pycocotools", "scipy", "onnxruntime", "openvino")


def facts(device: str) -> dict[str, Any]:
    """Versions, devices and settings; `device` is the one to be checked."""
    cuda = paddle.is_compiled_with_cuda()
    found: dict[str, Any] = {
        "device": device,
        "system": platform.platform(),
        **hardware(),
        **versions(),
        "settings": settings_in_force(),
        "paddle_build": f"CUDA {paddle.version.cuda()}, cuDNN {paddle.version.cudnn()}" if cuda else "CPU",
        "shared_memory_gb": _shared_memory(),
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for index in range(paddle.device.cuda.device_count() if cuda else 0):
        card = paddle.device.cuda.get_device_properties(index)
        capability = f"{card.major}.{card.minor}"
        found[f"gpu_{index}"] = f"{card.name}, {card.total_memory / 2**30:.1f} GB, capability {capability}"
    return found


def _shared_memory() -> float:
    """GB that loading processes have to hand batches over; 0 where there is no such place."""
    try:
        return round(shutil.disk_usage("/dev/shm").total / 2**30, 2)  # asked for its size only
    except OSError:
        return 0.0
