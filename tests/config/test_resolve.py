"""Protects the check of a configuration: what is accepted as what, and that every error can be acted on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from ppdet.config import ArgumentError, ConfigError, Spec
from tests.config.toys import Toy, ToyAssigner, ToyBackbone, ToyFlip, ToyHead, ToyStep, load, toy, write


def problems_of(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("number: 3", "number", 3.0),
        ("number: 1e-3", "number", 0.001),
        ("word: abc", "word", "abc"),
        ("flag: yes", "flag", True),
        ("mode: slow", "mode", "slow"),
        ("mode: 1", "mode", 1),
        ("either: 3", "either", 3),
        ("either: [3, 4.0]", "either", [3, 4]),
        ("pair: [1, 2]", "pair", (1, 2.0)),
        ("table: {a: 1}", "table", {"a": 1}),
        ("table: null", "table", None),
        ("free: {a: [1, {b: x}]}", "free", {"a": [1, {"b": "x"}]}),
        ("second: null", "second", None),
        ("second: ~", "second", None),
    ],
)
def test_values(tmp_path: Path, line: str, key: str, value: Any) -> None:
    got = toy(tmp_path, f"Toy:\n  {line}\n")[key]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("number: x", "number: expected a number, got the string 'x'"),
        ("number: true", "number: expected a number, got true"),
        ("number: null", "number: expected a number, got null"),
        ("word: 3", "word: expected a string, got 3; put it in quotes"),
        ("flag: 1", "flag: expected true or false, got 1"),
        ("flag: 'true'", "flag: expected true or false, got the string 'true'"),
        (
            "mode: slwo",
            "mode: expected one of 'fast', 'slow', 1, got the string 'slwo'; did you mean 'slow'?",
        ),
        ("mode: true", "mode: expected one of 'fast', 'slow', 1, got true"),
        ("either: 1.5", "either: expected an integer or a list, each an integer, got 1.5"),
        ("either: [1, x]", "either.1: expected an integer, got the string 'x'"),
        ("pair: [1]", "pair: expected a list of 2: an integer, a number, got the list [1]"),
        ("table: {a: x}", "table.a: expected an integer, got the string 'x'"),
        ("table: {1: 1}", "table.1: expected a key that is a string, got 1"),
        ("table: [1]", "table: expected a mapping to an integer or null, got the list [1]"),
        ("steps: {ToyFlip: {}}", "steps: expected a list, each a ToyStep or null, got a mapping (ToyFlip)"),
        ("wrod: x", "wrod: Toy has no argument 'wrod'; did you mean 'word'?"),
        ("backbone: null", "backbone: expected a Backbone, got null"),
        ("backbone: [ToyBackbone]", "backbone: expected a Backbone, got the list ['ToyBackbone']"),
        ("backbone: {depth: 3}", "backbone: expected a Backbone with a name: in it"),
        ("backbone: ToyBakcbone", "backbone: there is no component ToyBakcbone; did you mean 'ToyBackbone'?"),
        ("backbone: ToyHead", "backbone: ToyHead is no Backbone; there are: "),
        (
            "backbone: SwinTransformer",
            "backbone: not provided: SwinTransformer (architecture Toy); Backbones here: ",
        ),
        ("head: {weights: [1, x]}", "head.weights.1: expected a number, got the string 'x'"),
        (
            "head: {weights: 1.5}",
            "head.weights: expected a list, each a number or null, got 1.5; write [...] ar",
        ),
        (
            "head: {assigner: {fg: 1}}",
            "head.assigner.fg: ToyAssigner has no argument 'fg'; did you mean 'fg_thresh'",
        ),
        ("head: {in_channel: x}", "head.in_channel: expected an integer, got the string 'x'"),
        ("head: {num_classes: 5}", "head.num_classes: ToyHead.num_classes is 5, but num_classes is 4 at "),
        ("steps: [{ToyFlip: {prob: x}}]", "steps.0.ToyFlip.prob: expected a number"),
        ("steps: [ToyHead]", "steps.0: ToyHead is no ToyStep; there are: ToyFlip, ToyStep"),
    ],
)
def test_every_mismatch_says_where_what_and_how(tmp_path: Path, line: str, message: str) -> None:
    found = problems_of(tmp_path, f"Toy:\n  {line}\n")
    assert len(found) == 1
    assert found[0].startswith(f"x.yml:3: Toy.{message}")


def test_all_problems_at_once_each_once(tmp_path: Path) -> None:
    text = """Toy:
  numbr: 1
  flag: 2
  second: ToyHead
  steps:
  - ToyFlip: {prob: x}
ToyHead: {wieghts: [1]}
ResNet:
  dept: 50
epcoh: 3
log_iter: many
"""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, "Toy.word=[]")
    assert sorted(p.place.line for p in caught.value.problems) == [0, 3, 4, 7, 8, 10, 11, 12]
    text = str(caught.value)
    assert text.startswith("8 problems in the configuration:\n  ")
    assert "ResNet.dept: ResNet has no argument 'dept'; did you mean 'depth'?" in text
    assert "epcoh: there is no key 'epcoh'; did you mean 'epoch'?" in text


def test_missing_keys(tmp_path: Path) -> None:
    from ppdet import load_config

    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "architecture: Toy\n"))
    text = str(caught.value)
    assert "backbone is missing; expected a Backbone" in text
    assert "num_classes is missing; expected an integer" in text


@pytest.mark.parametrize(
    "form",
    ["ToyBackbone", "!ToyBackbone {}", "!ToyBackbone", "{name: ToyBackbone}", "{type: ToyBackbone}"],
)
def test_forms_of_a_component(tmp_path: Path, form: str) -> None:
    spec = toy(tmp_path, f"Toy:\n  backbone: {form}\nToyBackbone: {{depth: 7}}\n")["backbone"]
    assert spec == Spec.of(ToyBackbone, depth=7, norm_type="bn", widths=(1, 2))


def test_own_block_lies_under_what_is_written_in_place(tmp_path: Path) -> None:
    text = "Toy:\n  backbone: {name: ToyBackbone, widths: [3]}\nToyBackbone: {depth: 7, widths: [9, 9]}\n"
    assert dict(toy(tmp_path, text)["backbone"].arguments) == {"depth": 7, "norm_type": "bn", "widths": (3,)}


def test_arguments_without_a_name_are_for_the_default(tmp_path: Path) -> None:
    head = toy(tmp_path, "Toy:\n  head: {assigner: {fg_thresh: 0.7}}\n")["head"]
    assert head.component is ToyHead
    # The default's own argument stays where nothing else is written ...
    assert head.arguments["assigner"] == Spec.of(ToyAssigner, fg_thresh=0.7, bg_thresh=0.25)
    # ... but not where the component is named.
    head = toy(tmp_path, "Toy:\n  head: {assigner: ToyAssigner}\n")["head"]
    assert head.arguments["assigner"] == Spec.of(ToyAssigner, fg_thresh=0.5, bg_thresh=0.5)
    # An own block is stronger than a default, of components that the YAML does not mention, too.
    head = toy(tmp_path, "ToyAssigner: {bg_thresh: 0.1}\n")["head"]
    assert head.arguments["assigner"].arguments["bg_thresh"] == 0.1


def test_lists_of_components(tmp_path: Path) -> None:
    text = "Toy:\n  steps:\n  - ToyFlip: {prob: 0.1}\n  - ToyStep:\n  - ToyStep\n  - !ToyStep {size: 2}\n"
    text += "  - {name: ToyFlip}\n"
    steps = toy(tmp_path, text)["steps"]
    assert steps == [
        Spec.of(ToyFlip, prob=0.1),
        Spec.of(ToyStep, size=1),
        Spec.of(ToyStep, size=1),
        Spec.of(ToyStep, size=2),
        Spec.of(ToyFlip, prob=0.5),
    ]


def test_shared_facts(tmp_path: Path) -> None:
    arguments = toy(tmp_path, "norm_type: sync_bn\nnum_classes: 4\nToy: {head: {num_classes: 4}}\n")
    assert arguments["backbone"].arguments["norm_type"] == "sync_bn"
    assert arguments["head"].arguments["num_classes"] == 4
    with pytest.raises(ConfigError, match="num_classes is 5, but num_classes is 4"):
        toy(tmp_path, "num_classes: 4\nToy: {head: {num_classes: 5}}\n")
    # A choice, unlike a fact, a component may make otherwise.
    arguments = toy(tmp_path, "norm_type: sync_bn\nToyBackbone: {norm_type: gn}\n")
    assert arguments["backbone"].arguments["norm_type"] == "gn"
    # Without a top-level value the component's own counts, and a null says nothing.
    arguments = toy(tmp_path, "norm_type: null\nToyBackbone: {norm_type: gn}\n")
    assert arguments["backbone"].arguments["norm_type"] == "gn"


def test_derived_is_left_to_the_parent_and_must_agree(tmp_path: Path) -> None:
    assert "in_channel" not in toy(tmp_path, "")["head"].arguments
    exp = load(tmp_path, "Toy:\n  head: {in_channel: 8}\n")
    assert exp.architecture.build().head.in_channel == 8  # type: ignore[attr-defined]
    exp = load(tmp_path, "Toy:\n  head:\n    in_channel: 9\n")
    with pytest.raises(ConfigError, match=r"x.yml:4: Toy.head.in_channel: ToyHead.in_channel is 9, but .* 8"):
        exp.architecture.build()


def test_what_a_constructor_refuses_has_its_line(tmp_path: Path) -> None:
    exp = load(tmp_path, "ToyBackbone:\n  widths: [1]\n  depth: 0\n")
    with pytest.raises(ConfigError, match=r"x.yml:4: ToyBackbone.depth: expected >= 1, got 0$"):
        exp.architecture.build()
    with pytest.raises(ArgumentError, match="depth: expected >= 1, got 0") as caught:
        Spec.of(ToyBackbone, depth=0).build()
    assert caught.value.argument == "depth"
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.argument, copy.message) == ("depth", "expected >= 1, got 0")


def test_a_derived_argument_that_a_component_does_not_take(tmp_path: Path) -> None:
    exp = load(tmp_path, "Toy:\n  head: ToyLoop\nToyLoop: {child: ToyHead}\n")
    with pytest.raises(ConfigError, match=r"x.yml:3: Toy.head: ToyLoop takes no argument 'in_channel'"):
        exp.architecture.build()
    with pytest.raises(ValueError, match=r"ToyFlip takes no argument 'size'.*`size: Derived\[...\]`"):
        Spec.of(ToyFlip).build(size=1)


def test_bind_gives_some_of_the_derived_arguments() -> None:
    spec = Spec.of(ToyHead, num_classes=2)
    assert spec.bind(in_channel=8).build().in_channel == 8
    assert "in_channel" not in spec.arguments
    with pytest.raises(ValueError, match="takes no argument 'width'"):
        spec.bind(width=1)
    with pytest.raises(ValueError, match=r"ToyHead.in_channel is 8, but .* makes it 9"):
        spec.bind(in_channel=8).build(in_channel=9)


def test_a_build_does_not_reach_the_next(tmp_path: Path) -> None:
    spec = toy(tmp_path, "Toy: {head: {weights: [1.0]}}\n")["head"]
    spec.build(in_channel=1).weights.append(2.0)
    assert spec.build(in_channel=1).weights == [1.0]


def test_command_line_reaches_components_of_every_form(tmp_path: Path) -> None:
    text = "Toy:\n  backbone: !ToyBackbone {depth: 3}\n  steps: [{ToyFlip: {prob: 1}}]\n"
    assert toy(tmp_path, text, "Toy.backbone.depth=4")["backbone"].arguments["depth"] == 4
    # The component's block wins over what is written in place if it is the user's last word.
    assert toy(tmp_path, text, "ToyBackbone.depth=5")["backbone"].arguments["depth"] == 5
    assert toy(tmp_path, text, "Toy.steps.ToyFlip.prob=0")["steps"][0].arguments["prob"] == 0.0
    assert toy(tmp_path, "", "Toy.head.assigner.fg_thresh=0.9")["head"].arguments["assigner"] == Spec.of(
        ToyAssigner, fg_thresh=0.9, bg_thresh=0.25
    )
    assert toy(tmp_path, "", "Toy.backbone.depth=6")["backbone"].arguments["depth"] == 6
    assert problems_of(tmp_path, "", "Toy.backbone.dpeth=6") == [
        "override: Toy.backbone.dpeth: ToyBackbone has no argument 'dpeth'; did you mean 'depth'?"
    ]
    assert problems_of(tmp_path, "", "Tyo.number=1") == [
        "override: Tyo: there is no key 'Tyo'; did you mean 'Toy'?"
    ]


def test_component_inside_itself(tmp_path: Path) -> None:
    assert (
        "contains itself" in problems_of(tmp_path, "Toy: {second: ToyLoop}\nToyLoop: {child: ToyLoop}\n")[0]
    )


def test_unknown_architecture_hides_what_follows_from_it(tmp_path: Path) -> None:
    text = "architecture: PicoDet\nPicoDet: {backbone: CSPResNet, x: 1}\nNoSuchBlock: {}\nToy: {numbr: 2}\n"
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("x.yml:2: architecture: not provided: PicoDet; Detectors here: ")
    assert "FasterRCNN" in problem


def test_own_classes_equal_ours(tmp_path: Path) -> None:
    assert load(tmp_path, "").architecture.component is Toy
