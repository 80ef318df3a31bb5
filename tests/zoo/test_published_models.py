"""Protects the promise that published files fit: both generations of all seven, into the real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppdet import load_config, load_weights
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.utils.errors import WeightsError
from ppdet.zoo import Outcome, Purpose
from ppdet.zoo.locate import read_source
from tests.support import ROOT, requires_shared
from tests.zoo import files

pytestmark = [requires_shared, pytest.mark.slow]


def _check_parameters(model: object, expected: dict[str, np.ndarray]) -> None:
    state = model.state_dict()  # type: ignore[attr-defined]  # any layer
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(state[key].numpy(), value, err_msg=key)


@pytest.mark.parametrize("model", files.MODELS)
def test_both_generations_load_completely(model: str, tmp_path: Path) -> None:
    """Nothing missing, nothing unexpected, the same numbers; a 2020 file only in its own conventions."""
    config = ROOT / "configs" / f"{model}.yml"
    with without_random_weights():
        detector = load_config(config).architecture.build()
    state = files.state_2x(model)
    report = load_weights(detector, files.write_pdparams(tmp_path / "new.pdparams", state, protocol=4))
    assert report.counts() == {
        "loaded": len(state),
        "converted": 0,
        "reshaped": 0,
        "skipped": 0,
        "missing": 0,
    }
    _check_parameters(detector, state)

    old = read_source(files.write_pdparams(tmp_path / "old.pdparams", files.state_2020(model)))
    if "yolo" in model:  # nothing in the file tells; see docs/weights.md
        load_weights(detector, old)
        _check_parameters(detector, files.expected_2020(model))
        return
    with pytest.raises(WeightsError, match="'dygraph2020' box conventions"):
        load_weights(detector, old)
    _check_parameters(detector, state)  # untouched
    report = load_weights(detector, old, purpose=Purpose.FINETUNE)
    left = {entry.key for entry in report.of(Outcome.MISSING)}
    assert left == {key for key in state if "rpn_rois" in key or "bbox_delta" in key}
    with without_random_weights():
        aware = load_config(config, ["conventions=dygraph2020"]).architecture.build()
    report = load_weights(aware, old)
    assert not report.missing
    assert {entry.reason for entry in report.of(Outcome.SKIPPED)} <= {
        "second name of a tensor that is loaded"
    }
    _check_parameters(aware, files.expected_2020(model))


def test_backbone_files_reach_every_kind_of_model(tmp_path: Path) -> None:
    """With the prefix, without it, and as a static-graph archive; res5 feeds the head of a C4 model."""
    full = files.state_2x("faster_rcnn_r50_fpn_1x_coco")
    prefixed = {key: value for key, value in full.items() if key.startswith("backbone.")}
    bare = {key[len("backbone.") :]: value for key, value in prefixed.items()}
    bare["fc.weight"] = np.zeros((2, 2), np.float32)
    names = files.keys("backbone_static_names")
    static = {names[key]: value for key, value in prefixed.items()}
    sources = [
        files.write_pdparams(tmp_path / "prefixed.pdparams", prefixed),
        files.write_pdparams(tmp_path / "bare.pdparams", bare),
        files.write_static(tmp_path / "static.tar", static),
    ]
    for config in ("faster_rcnn_r50_fpn_1x_coco", "faster_rcnn_r50_1x_coco"):
        with without_random_weights():
            model = load_config(ROOT / "configs" / f"{config}.yml").architecture.build()
        wanted = {key for key in model.state_dict() if "backbone." in key or ".res5." in key}
        for source in sources:
            report = load_weights(model, source, purpose=Purpose.FINETUNE)
            assert set(report.taken) == wanted, (config, source)
            for key in wanted:
                origin = key.replace("bbox_head.head.", "backbone.")
                np.testing.assert_array_equal(model.state_dict()[key].numpy(), full[origin])
