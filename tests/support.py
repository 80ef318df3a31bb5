"""Where shared test material is, and how to skip when it is absent."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import numpy as np
import pytest

from tests import reference_weights

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PPDET_REFERENCE", ROOT.parent / "shared"))
GOLDENS = SHARED / "goldens"
#: A part of the goldens that every clone has (`tests/golden/make.py`).
SMALL_GOLDENS = ROOT / "tests" / "golden"
TINY_COCO = SHARED / "data" / "tiny_coco"

#: Marks a test that reads reference material kept beside the checkout, not in it.
requires_shared = pytest.mark.skipif(
    not GOLDENS.is_dir(), reason="reference material (../shared beside the checkout) is absent"
)

#: Whether this machine can export to ONNX; every Python before 3.13 must.
CAN_EXPORT_ONNX = sys.version_info < (3, 13) or importlib.util.find_spec("paddle2onnx") is not None
requires_onnx = pytest.mark.skipif(
    not CAN_EXPORT_ONNX, reason="paddle2onnx has no build for Python 3.13 and newer"
)


requires_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed: pip install 'ppdet[openvino]'",
)


def golden_file(name: str) -> Path:
    """A file of goldens: the full one, or the small one where that is absent."""
    return GOLDENS / name if (GOLDENS / name).is_file() else SMALL_GOLDENS / name


def load_golden(name: str) -> tuple[Any, dict[str, Any]]:
    """Arrays and meta of ``goldens/<name>.npz``."""
    arrays = np.load(golden_file(f"{name}.npz"))
    return arrays, json.loads(str(arrays["meta"])) if "meta" in arrays.files else {}


def reference_module(name: str = "") -> ModuleType:
    """What makes weights from names: `tests.reference_weights`, or another module of the goldens folder."""
    if not name:
        return reference_weights
    found = importlib.util.spec_from_file_location(name, GOLDENS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def with_reference_weights(build: Callable[[], Any]) -> Any:
    """A model with every entry of its state dict made from its name, as the goldens were made."""
    from ppdet.modeling.initial_weights import without_random_weights  # most tests need no Paddle

    with without_random_weights():
        model = build()
    tensor = reference_module().reference_tensor
    missing, unexpected = model.set_state_dict(
        {key: tensor(key, value.shape) for key, value in model.state_dict().items()}
    )
    assert not missing
    assert not unexpected
    return model
