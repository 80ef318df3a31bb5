"""Protects what travels with a checkpoint: it comes back as it went in, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppdet.utils import safe_pickle
from ppdet.utils.errors import WeightsError
from ppdet.utils.metadata import METADATA_KEY, CheckpointMetadata

FULL = CheckpointMetadata(
    class_names=("cat", "Katze", "猫"),
    config={"num_classes": 3, "nested": {"a": [1, 2.5, None]}},
    metrics={"bbox": {"AP": 0.37}},
    step=90_000,
    epoch=12,
    version="0.1.0",
    conventions="dygraph2020",
    origin={"format": "darknet"},
)


@pytest.mark.parametrize("metadata", [CheckpointMetadata(), FULL])
def test_round_trip_through_a_file(tmp_path: Path, metadata: CheckpointMetadata) -> None:
    path = tmp_path / "model.pdparams"
    paddle.save({"w": paddle.ones([2]), METADATA_KEY: paddle.to_tensor(metadata.to_array())}, str(path))
    array = safe_pickle.load(path)[METADATA_KEY]
    assert CheckpointMetadata.from_array(array) == metadata


def test_fields_of_a_newer_version_are_left_out() -> None:
    text = json.dumps({"class_names": ["a"], "field_of_tomorrow": 1}).encode()
    assert CheckpointMetadata.from_array(np.frombuffer(text, np.uint8)) == CheckpointMetadata(
        class_names=("a",)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "list, not an object"),
        (b'{"class_names": "abc"}', "class_names is a str"),
        (b'{"class_names": [1]}', "no name"),
        (b'{"step": "1"}', "step is a str"),
        (b'{"config": []}', "config is a list"),
    ],
)
def test_damage_is_named(text: bytes, says: str) -> None:
    with pytest.raises(WeightsError, match=says) as caught:
        CheckpointMetadata.from_array(np.frombuffer(text, np.uint8), source="x.pdparams")
    assert "x.pdparams" in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((2, 2), np.uint8)])
def test_other_arrays_are_no_metadata(array: np.ndarray) -> None:
    with pytest.raises(WeightsError, match="is no metadata"):
        CheckpointMetadata.from_array(array)
