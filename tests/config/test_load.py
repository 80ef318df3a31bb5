"""Protects inheritance and overrides: what wins, what merges, what is reported, and where a value is from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ppdet.config.errors import ConfigError, Problem
from ppdet.config.load import load_tree
from ppdet.config.packaged import config_path, packaged_configs
from ppdet.config.tree import Block, Node, plain
from tests.config.toys import write


def tree_of(folder: Path, text: str, *overrides: str) -> Block:
    problems: list[Problem] = []
    tree = load_tree(write(folder, text), overrides, problems)
    assert not problems, problems
    return tree


def at(tree: Node, *path: Any) -> Node:
    for step in path:
        tree = tree.items[step]  # type: ignore[union-attr]
    return tree


def failure(folder: Path, text: str, *overrides: str) -> str:
    problems: list[Problem] = []
    try:
        load_tree(write(folder, text), overrides, problems)
    except ConfigError as error:
        problems += error.problems
    assert len(problems) == 1
    return str(problems[0])


def test_base_is_a_string_or_a_list_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "a: {x: 1, y: 1}\nlist: [1, 2, 3]\n", "sub/first.yml")
    write(tmp_path, "_BASE_: first.yml\na: {y: 2}\nb: 2\n", "sub/second.yml")
    write(tmp_path, "b: 3\nlist: [9]\n", "third.yml")
    tree = tree_of(tmp_path, "_BASE_: [sub/second.yml, './third.yml']\na: {z: 4}\n")
    assert plain(tree) == {"a": {"x": 1, "y": 2, "z": 4}, "list": [9], "b": 3}
    assert str(at(tree, "a", "x").place).endswith("sub/first.yml:1")
    assert str(at(tree, "a", "y").place).endswith("sub/second.yml:2")
    assert at(tree, "a", "z").place.path == ("a", "z")
    assert plain(tree_of(tmp_path, "_BASE_: third.yml")) == {"b": 3, "list": [9]}


def test_a_base_used_twice_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path, "a: 1\n", "root.yml")
    write(tmp_path, "_BASE_: root.yml\nb: 1\n", "l.yml")
    write(tmp_path, "_BASE_: root.yml\nc: 1\n", "r.yml")
    assert plain(tree_of(tmp_path, "_BASE_: [l.yml, r.yml]")) == {"a": 1, "b": 1, "c": 1}


def test_circle_is_reported_with_its_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a: 1\n_BASE_: third.yml\n", "second.yml")
    write(tmp_path, "_BASE_: second.yml\n", "third.yml")
    assert failure(Path(), "_BASE_: second.yml\n") == (
        "third.yml:1: _BASE_ goes round in a circle: second.yml -> third.yml -> second.yml"
    )


def test_missing_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path, "a: 1", "model.yml")
    message = failure(tmp_path, "a: 1\n_BASE_: modle.yml\n")
    assert "x.yml:2: " in message
    assert "modle.yml" in message
    assert "did you mean 'model.yml'?" in message
    assert "there is no folder" in failure(tmp_path, "_BASE_: nowhere/x.yml")
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9\n")
    assert "not UTF-8" in failure(tmp_path, "_BASE_: latin.yml")
    assert "must be a mapping" in failure(tmp_path, "- 1\n")
    assert "takes a path" in failure(tmp_path, "_BASE_: {a: 1}\n")
    (tmp_path / "bom.yml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert plain(tree_of(tmp_path, "_BASE_: bom.yml")) == {"a": 1}


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ("{x: 1, y: {z: 1}}", "{y: {w: 2}}", {"x": 1, "y": {"z": 1, "w": 2}}),
        ("[1, 2]", "[3]", [3]),
        ("{x: 1}", "null", None),
        ("{x: 1}", "word", "word"),
        ("3", "{x: 1}", {"x": 1}),
        ("{name: A, x: 1}", "{name: A, y: 2}", {"name": "A", "x": 1, "y": 2}),
        ("{name: A, x: 1}", "{name: B, y: 2}", {"name": "B", "y": 2}),
        ("{name: A, x: 1}", "{y: 2}", {"name": "A", "x": 1, "y": 2}),
        ("!A {x: 1}", "{y: 2}", {"name": "A", "x": 1, "y": 2}),
        ("!A {x: 1}", "!B {y: 2}", {"name": "B", "y": 2}),
        # A tagged object is whole, as in 2.x: what the base said of it is gone.
        ("!A {x: 1}", "!A {y: 2}", {"name": "A", "y": 2}),
    ],
)
def test_merging(tmp_path: Path, base: str, over: str, merged: Any) -> None:
    write(tmp_path, f"k: {base}\n", "base.yml")
    assert plain(tree_of(tmp_path, f"_BASE_: base.yml\nk: {over}\n")) == {"k": merged}


READER = """
TrainReader:
  sample_transforms:
  - Decode: {}
  - RandomFlip: {prob: 0.5}
  - Pad:
  batch_size: 1
LearningRate:
  base_lr: 0.01
  schedulers:
  - !PiecewiseDecay {gamma: 0.1, milestones: [8, 11]}
  - {name: LinearWarmup, steps: 500}
TrainDataset: !COCODataSet {dataset_dir: here, image_dir: train}
BBoxHead:
  bbox_assigner: BBoxAssigner
OptimizerBuilder:
  optimizer: {momentum: 0.9, type: Momentum}
"""


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("TrainReader.batch_size=2", ("TrainReader", "batch_size"), 2),
        ("TrainReader.sample_transforms.1.RandomFlip.prob=0", None, {"RandomFlip": {"prob": 0}}),
        ("TrainReader.sample_transforms.RandomFlip.prob=0", None, {"RandomFlip": {"prob": 0}}),
        ("TrainReader.sample_transforms.1.prob=0", None, {"RandomFlip": {"prob": 0}}),
        ("TrainReader.sample_transforms.RandomFlip={prob: 0}", None, {"RandomFlip": {"prob": 0}}),
        ("TrainReader.sample_transforms.1=!Other {a: 1}", None, {"name": "Other", "a": 1}),
        ("TrainReader.sample_transforms.1={RandomCrop: {}}", None, {"RandomCrop": {}}),
        (
            "LearningRate.schedulers.PiecewiseDecay.gamma=0.5",
            ("LearningRate", "schedulers", 0),
            {"name": "PiecewiseDecay", "gamma": 0.5, "milestones": [8, 11]},
        ),
        ("LearningRate.schedulers.0.milestones.1=9", ("LearningRate", "schedulers", 0, "milestones"), [8, 9]),
        (
            "LearningRate.schedulers.0.PiecewiseDecay.gamma=1e-3",
            ("LearningRate", "schedulers", 0, "gamma"),
            1e-3,
        ),
        (
            "LearningRate.schedulers.LinearWarmup.steps=7",
            ("LearningRate", "schedulers", 1),
            {"name": "LinearWarmup", "steps": 7},
        ),
        (
            "TrainDataset.image_dir=val",
            ("TrainDataset",),
            {"name": "COCODataSet", "dataset_dir": "here", "image_dir": "val"},
        ),
        (
            "BBoxHead.bbox_assigner.fg_thresh=0.6",
            ("BBoxHead",),
            {"bbox_assigner": {"name": "BBoxAssigner", "fg_thresh": 0.6}},
        ),
        ("new.a.b=x", ("new",), {"a": {"b": "x"}}),
        ("epoch=", ("epoch",), None),
        ("weights=https://a.b/c=d.pdparams", ("weights",), "https://a.b/c=d.pdparams"),
        ("a=[1, {b: 2}]", ("a",), [1, {"b": 2}]),
    ],
)
def test_overrides_reach(tmp_path: Path, override: str, path: Any, value: Any) -> None:
    before = plain(tree_of(tmp_path, READER))
    tree = tree_of(tmp_path, READER, override)
    found = at(tree, *(path or ("TrainReader", "sample_transforms", 1)))
    assert plain(found) == value
    rest = {key: part for key, part in plain(tree).items() if key != override.split(".")[0].split("=")[0]}
    assert rest == {key: part for key, part in before.items() if key in rest}


def test_overrides_keep_siblings_and_come_in_order(tmp_path: Path) -> None:
    tree = tree_of(
        tmp_path, READER, "OptimizerBuilder.optimizer.momentum=0.8", "OptimizerBuilder.optimizer.type=SGD"
    )
    assert plain(at(tree, "OptimizerBuilder", "optimizer")) == {"momentum": 0.8, "type": "SGD"}
    assert plain(at(tree_of(tmp_path, READER, "epoch=1", "epoch=2"), "epoch")) == 2


def test_override_of_a_list_item_leaves_an_alias_of_it_alone(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "a: &a [{x: 1}]\nb: *a\n", "a.0.x=2")
    assert plain(tree) == {"a": [{"x": 2}], "b": [{"x": 1}]}


def test_overridden_places(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, READER, "TrainReader.sample_transforms.RandomFlip.prob=0")
    transforms = at(tree, "TrainReader", "sample_transforms")
    prob = at(transforms, 1, "RandomFlip", "prob")
    assert str(prob.place) == "override"
    assert prob.place.path == ("TrainReader", "sample_transforms", "1", "RandomFlip", "prob")
    assert str(at(transforms, 0).place).endswith("x.yml:4")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("TrainReader.sample_transforms.3.Pad.x=0", "there is no item 3: the list at "),
        (
            "TrainReader.sample_transforms.RandomFlap.prob=0",
            "no RandomFlap in the list; its items: 0 Decode, 1 Rand",
        ),
        ("epoch", "expected key=value"),
        ("=3", "is not a key"),
        ("a..b=3", "is not a key"),
        ("a=[1", "not YAML"),
        ("a=!!python/object:x {}", "run code"),
        ("a={b: 1, b: 2}", "written twice"),
    ],
)
def test_overrides_that_cannot_be(tmp_path: Path, override: str, words: str) -> None:
    message = failure(tmp_path, READER, override)
    assert message.startswith("override")
    assert words in message


def test_name_that_is_twice_in_a_list_needs_an_index(tmp_path: Path) -> None:
    text = "t:\n- Resize: {x: 1}\n- Resize: {x: 2}\n"
    assert "use its index: 0, 1" in failure(tmp_path, text, "t.Resize.x=3")
    assert plain(tree_of(tmp_path, text, "t.1.Resize.x=3")) == {
        "t": [{"Resize": {"x": 1}}, {"Resize": {"x": 3}}]
    }


def test_overrides_as_a_mapping(tmp_path: Path) -> None:
    problems: list[Problem] = []
    path = tmp_path / "x.yml"
    path.write_text(READER, "utf-8")
    values = {"epoch": 3, "TrainReader.sample_transforms.RandomFlip.prob": 0.25, "list": (1, 2), "none": None}
    tree = plain(load_tree(path, values, problems))
    assert not problems
    assert (tree["epoch"], tree["list"], tree["none"]) == (3, [1, 2], None)
    assert tree["TrainReader"]["sample_transforms"][1]["RandomFlip"]["prob"] == 0.25
    load_tree(path, {"epoch": object(), "a..b": 1}, problems)
    assert [str(problem) for problem in problems] == [
        "override: epoch: a object is no value of a configuration; use numbers, strings, lists",
        "override: 'a..b' is not a key; expected names joined by dots, as in TrainReader.batch_size",
    ]


def test_packaged_configurations_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = packaged_configs()["quickstart_faster_rcnn"]
    assert config_path("quickstart_faster_rcnn") == config_path("quickstart_faster_rcnn.yml") == expected
    with pytest.raises(ConfigError, match="quickstart_faster_rcnn"):
        config_path("quickstart_faster_rcn")
    (tmp_path / "quickstart_faster_rcnn.yml").write_text("epoch: 1\n", "utf-8")
    assert config_path("quickstart_faster_rcnn.yml") == Path("quickstart_faster_rcnn.yml")


def test_a_base_is_looked_for_beside_the_file_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("_BASE_: quickstart_faster_rcnn.yml\nepoch: 7\n", "utf-8")
    problems: list[Problem] = []
    tree = plain(load_tree(path, (), problems))
    assert (tree["epoch"], tree["architecture"]) == (7, "FasterRCNN")
    (tmp_path / "quickstart_faster_rcnn.yml").write_text("architecture: Mine\n", "utf-8")
    assert plain(load_tree(path, (), problems)) == {"epoch": 7, "architecture": "Mine"}
    outside = tmp_path / "outside.yml"
    outside.write_text("_BASE_: ../setup.yml\n", "utf-8")
    with pytest.raises(ConfigError, match="no such file"):
        load_tree(outside, (), problems)
