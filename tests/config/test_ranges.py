"""Protects that any number out of its range is an error of the configuration, with file and line."""

from __future__ import annotations

import math
import typing
from pathlib import Path
from typing import Any, Optional

import pytest

from ppdet.config import ConfigError
from ppdet.config.components import COMPONENTS
from ppdet.config.ranges import DecayRate, Fraction, PositiveInt, Range
from ppdet.config.registry import Table
from ppdet.config.schema import Parameter, bare, describe, limits_of, schema_of
from ppdet.experiment.config import Experiment, load_config
from tests.support import ROOT

CONFIG = ROOT / "configs" / "faster_rcnn_r50_fpn_1x_coco.yml"


def numbers(annotation: Any) -> list[Any]:
    """Every number in a type, with its range if it has one."""
    if bare(annotation) in (int, float):
        return [annotation]
    return [
        one for part in typing.get_args(bare(annotation)) if part is not Ellipsis for one in numbers(part)
    ]


def parameters() -> list[tuple[str, Parameter]]:
    table = Table({})
    components = [("", Experiment), *((f"{name}.", table.get(name)) for name in COMPONENTS)]
    return [
        (f"{prefix}{parameter.name}", parameter)
        for prefix, component in components
        for parameter in schema_of(component).values()
        if not parameter.derived and numbers(parameter.annotation)
    ]


def test_every_number_states_its_range() -> None:
    found = parameters()
    assert len(found) > 200
    without = [
        name
        for name, parameter in found
        if any(typing.get_origin(one) is not typing.Annotated for one in numbers(parameter.annotation))
    ]
    assert without == [], "give these a type of ppdet.config.ranges"


def test_defaults_are_in_their_ranges() -> None:
    def inside(value: Any, kinds: list[Any]) -> bool:
        if isinstance(value, (list, tuple)):
            return all(inside(item, kinds) for item in value)
        if isinstance(value, dict):
            return all(inside(item, kinds) for item in value.values())
        return any(limits_of(kind).holds(value) for kind in kinds)

    wrong = [name for name, p in parameters() if not inside(p.default, numbers(p.annotation))]
    assert wrong == []


def test_bounds() -> None:
    assert [Range(1).holds(v) for v in (0, 1, 2, "x", None, True)] == [False, True, True, True, True, True]
    assert not any(Range(least).holds(math.nan) for least in (-math.inf, 0))
    open_range = Range(0, 1, open_least=True, open_most=True)
    assert [open_range.holds(v) for v in (0, 0.5, 1)] == [False, True, False]
    assert describe(PositiveInt) == "an integer of 1 or more"
    assert describe(Optional[Fraction]) == "a number from 0 to 1 or null"
    assert describe(list[DecayRate]) == "a list, each a number from 0 and below 1"
    assert describe(typing.Annotated[float, Range(0, open_least=True)]) == "a number above 0"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epoch", 0, "an integer of 1 or more"),
        ("accumulate", 0, "an integer of 1 or more"),
        ("seed", -1, "an integer from 0 to 4294967295 or null"),
        ("log_iter", 0, "an integer of 1 or more"),
        ("worker_num", -1, "an integer of 0 or more"),
        ("num_classes", 0, "an integer of 1 or more"),
        ("TrainReader.batch_size", 0, "an integer of 1 or more"),
        ("LearningRate.base_lr", -1, "a number above 0"),
        ("OptimizerBuilder.optimizer.momentum", 2, "a number from 0 and below 1"),
        ("TrainReader.sample_transforms.RandomFlip.prob", 1.5, "a number from 0 to 1"),
        ("TrainReader.sample_transforms.Resize.target_size", [0, 1333], "0"),
        ("TrainDataset.repeat", 0, "an integer of 1 or more"),
    ],
)
def test_a_number_out_of_range_is_named(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    """Each of these used to pass the load, and to end in an exception later."""
    with pytest.raises(ConfigError) as error:
        load_config(str(CONFIG), [f"{key}={value}"])
    assert key.split(".")[-1] in str(error.value)
    assert expected in str(error.value)
    if "." not in key:
        path = tmp_path / "x.yml"
        path.write_text(f"_BASE_: {CONFIG}\n{key}: {value}\n")
        with pytest.raises(ConfigError, match=rf"x\.yml:2: {key}: expected an? .*, got {value}"):
            load_config(str(path))
