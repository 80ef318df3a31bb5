"""Protects parity in a clone that has nothing beside it: its goldens are used and suffice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.make import COPIED, PARTS
from tests.golden.networks import NETWORKS, recorded
from tests.reference_weights import reference_tensor
from tests.support import GOLDENS, ROOT, SMALL_GOLDENS, reference_module, requires_shared

RECORDED = json.loads((SMALL_GOLDENS / "networks.json").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_what_was_recorded(name: str) -> None:
    expected, ours = RECORDED[name], recorded(name)
    assert ours["parameters"] == expected["parameters"]
    assert ours["features"].keys() == expected["features"].keys()
    for key, feature in expected["features"].items():
        actual = ours["features"][key]
        assert actual["shape"] == feature["shape"], key
        error = np.abs(np.array(actual["values"]) - feature["values"]).max()
        assert error <= 1e-4 * feature["std"], f"{key}: {error / feature['std']:.1e} standard deviations"
    assert_same_rows(np.array(ours["detections"]), np.array(expected["detections"]))


def assert_same_rows(ours: np.ndarray, expected: np.ndarray) -> None:
    """Each detection but the last has a partner: same label, score within 1e-4, box within 0.05 pixels.

    The last one may be another where the next score is nearly the same.
    """
    for rows, others in ((ours, expected), (expected, ours)):
        for row in rows[:-1]:
            near = (others[:, 0] == row[0]) & (np.abs(others[:, 1] - row[1]) <= 1e-4)
            assert (np.abs(others[near, 2:] - row[2:]).max(axis=1, initial=0) <= 0.05).any(), row


def test_rows_that_differ_are_seen() -> None:
    row = [1.0, 0.5, 10.0, 10.0, 20.0, 20.0]
    for index, change in ((0, 1), (1, 0.01), (4, 0.1)):
        other: list[Any] = [*row]
        other[index] += change
        with pytest.raises(AssertionError):
            assert_same_rows(np.array([row, row]), np.array([other, other]))


def test_weights_from_names_are_those_of_the_goldens() -> None:
    # First value and mean of the absolute values.
    facts = {
        ("backbone.conv1.conv1.conv.weight", (64, 3, 7, 7)): (-0.168016985, 0.110881968),
        ("backbone.res2.res2a.branch2c.norm.weight", (256,)): (1.02718282, 0.999430009),
        ("backbone.res2.res2a.branch2c.norm._variance", (256,)): (0.81936729, 0.99829679),
        ("bbox_head.bbox_score.bias", (81,)): (-0.0259114578, 0.141648501),
        ("mask_head.head.upsample.conv5_mask.weight", (256, 256, 2, 2)): (0.117573597, 0.0844964172),
        ("yolo_head.yolo_output.0.bias", (255,)): (-0.000641200226, 4.48506103),
    }
    for (key, shape), (first, mean) in facts.items():
        value = reference_tensor(key, shape)
        assert value.dtype == np.float32
        assert (value.flat[0], np.abs(value).mean(dtype=np.float64)) == pytest.approx((first, mean), rel=1e-6)


@requires_shared
def test_weights_from_names_are_the_same_in_both_places() -> None:
    theirs = reference_module("reference_weights").reference_tensor
    for key, shape in (
        ("backbone.stage.0.1.conv2.batch_norm.weight", (64,)),
        ("neck.fpn.fpn_inner_res5_sum_lateral.weight", (256, 512, 1, 1)),
        ("bbox_head.bbox_score_stage2.bias", (81,)),
        ("bbox_head.head.fc6.weight", (1568, 128)),
    ):
        np.testing.assert_array_equal(reference_tensor(key, shape), theirs(key, shape))


@requires_shared
def test_small_goldens_are_parts_of_the_full_ones() -> None:
    for name in COPIED:
        assert (SMALL_GOLDENS / name).read_bytes() == (GOLDENS / name).read_bytes(), name
    for name in PARTS:
        small, full = np.load(SMALL_GOLDENS / f"{name}.npz"), np.load(GOLDENS / f"{name}.npz")
        assert len(small.files) > 10
        for key in small.files:
            np.testing.assert_array_equal(small[key], full[key])


def test_small_goldens_stay_small() -> None:
    files = [path for path in SMALL_GOLDENS.iterdir() if path.suffix in {".npz", ".json", ".gz"}]
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.slow
def test_a_clone_alone_compares_every_family(tmp_path: Path) -> None:
    files = {
        "tests/ops/test_goldens.py": 20,
        "tests/ops/test_masks.py": 5,
        "tests/modeling/test_assign_goldens.py": 25,
        "tests/engine/test_schedules.py": 10,
        "tests/modeling/test_soft_assign.py": 6,
        "tests/modeling/test_reparameterize.py": 2,
        "tests/modeling/test_detr_goldens.py": 10,
        "tests/parity/test_retina.py": 1,
        "tests/parity/test_yolo.py": 10,
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-v", *files],
        cwd=ROOT,
        env={**os.environ, "PPDET_REFERENCE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    for file, least in files.items():
        passed = len(re.findall(rf"^{re.escape(file)}::.* PASSED", done.stdout, re.MULTILINE))
        assert passed >= least, f"{file}: {passed} tests passed"
