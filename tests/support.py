"""Where shared test material is, and how to skip when it is absent."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
GOLDENS = SHARED / "goldens"
TINY_COCO = SHARED / "data" / "tiny_coco"

#: Marks a test that reads reference material kept beside the checkout, not in it.
requires_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="reference material (../shared beside the checkout) is absent"
)

#: Whether this machine can export to ONNX; every Python before 3.13 must.
CAN_EXPORT_ONNX = sys.version_info < (3, 13) or importlib.util.find_spec("paddle2onnx") is not None
requires_onnx = pytest.mark.skipif(
    not CAN_EXPORT_ONNX, reason="paddle2onnx has no build for Python 3.13 and newer"
)


def load_golden(name: str) -> tuple[Any, dict[str, Any]]:
    """Arrays and meta of ``goldens/<name>.npz``."""
    arrays = np.load(GOLDENS / f"{name}.npz")
    return arrays, json.loads(str(arrays["meta"])) if "meta" in arrays.files else {}


def reference_module(name: str = "reference_weights") -> ModuleType:
    """A Python module of the goldens folder, e.g. the one that makes weights from names."""
    found = importlib.util.spec_from_file_location(name, GOLDENS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def load_reference_weights(model: Any) -> None:
    """Fill every entry of a model's state dict from its name, as the goldens were made."""
    tensor = reference_module().reference_tensor
    missing, unexpected = model.set_state_dict(
        {key: tensor(key, value.shape) for key, value in model.state_dict().items()}
    )
    assert not missing
    assert not unexpected
