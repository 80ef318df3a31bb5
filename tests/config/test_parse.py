"""Protects the reading of YAML: nothing runs, no value is silently another one, everything knows its line."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.config.dump import plain_text
from ppdet.config.errors import ConfigError, Problem
from ppdet.config.parse import MAX_NODES, parse
from ppdet.config.tree import Block, Leaf, Listing, plain


def read(text: str) -> Any:
    problems: list[Problem] = []
    value = plain(parse(text, "x.yml", problems))
    assert not problems
    return value


def problems_of(text: str) -> list[str]:
    problems: list[Problem] = []
    try:
        parse(text, "x.yml", problems)
    except ConfigError as error:
        problems += error.problems
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1e3", 1000.0),
        ("-2E+5", -2e5),
        ("0.", 0.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("12:30", "12:30"),
        ("010", "010"),
        ("2017-01-01", "2017-01-01"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("True", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("日本語", "日本語"),
        ("https://a.b/c.pdparams", "https://a.b/c.pdparams"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    got = read(f"key: {text}")["key"]
    assert got == value
    assert type(got) is type(value)


def test_infinity_and_nan() -> None:
    assert read("a: [.inf, -.inf, 1.0]")["a"] == [math.inf, -math.inf, 1.0]
    assert math.isnan(read("a: .nan")["a"])


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(value=PLAIN)
def test_reads_what_it_writes(value: Any) -> None:
    text = plain_text(value)
    assert "\n" not in text
    assert read(f"k: {text}")["k"] == value


@pytest.mark.parametrize("word", ["1e3", "0E0", "yes", "~", "", "12:30", "!A", "*a", "<<", "#", "a: b", "-"])
def test_words_that_look_like_something_else_stay_strings(word: str) -> None:
    assert read(f"k: {plain_text(word)}")["k"] == word
    assert read(f"k: {plain_text([word])}")["k"] == [word]


def test_yaml_of_pyyaml_means_the_same() -> None:
    value = {"a": [1, 2.5, True, None, "x y"], "b": {"c": -1e-7, "d": "true", "e": "1"}}
    assert read(yaml.safe_dump(value)) == value


def test_tags_of_any_name_flow_block_and_empty() -> None:
    tree = parse("a: !Any {x: 1}\nb: !Other\n  y: 2\nc:\n- !Third\n  z: 3\n- !Fourth\n", "x.yml", [])
    assert plain(tree) == {
        "a": {"name": "Any", "x": 1},
        "b": {"name": "Other", "y": 2},
        "c": [{"name": "Third", "z": 3}, {"name": "Fourth"}],
    }


def test_lines() -> None:
    tree = parse("a:\n  b: 1\n  c:\n  - 2\n  - 3\nd: &x {e: 4}\nf: *x\n", "x.yml", [])
    assert isinstance(tree, Block)
    a, d, f = (tree.items[key] for key in "adf")
    assert isinstance(a, Block)
    assert isinstance(f, Block)
    c = a.items["c"]
    assert isinstance(c, Listing)
    lines = [n.place.line for n in (a, a.items["b"], c, *c.items, d, f, f.items["e"])]
    assert lines == [1, 2, 3, 4, 5, 6, 7, 6]


def test_merge_keys_own_first_then_the_first_named() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\nd:\n  <<: *b\n"
    assert read(text)["c"] == {"x": 3, "y": 1, "z": 2}
    assert read(text)["d"] == {"y": 2, "z": 2}
    assert problems_of("a: [1]\nb:\n  <<: 3\n") == [
        "x.yml:3: '<<' merges mappings; write an alias of one (<<: *name)"
    ]


def test_duplicate_keys_are_all_reported() -> None:
    found = problems_of("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert [p.partition(";")[0] for p in found] == [
        "x.yml:2: 'c' is written twice",
        "x.yml:3: 'a' is written twice",
    ]
    assert "first in line 1" in found[1]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: !!python/object/apply:os.system [echo]", 1, "run code"),
        ("a: 1\nb: !!python/name:os.system x", 2, "run code"),
        ("a: !<tag:yaml.org,2002:python/object:x.y> {}", 1, "run code"),
        ("a: !!binary aGk=", 1, "not a kind of value"),
        ("a: !!set {b}", 1, "not a kind of value"),
        ("a: !x.y {}", 1, "not a name"),
        ("a: !Name [1]", 1, "takes a mapping"),
        ("a: !Name word", 1, "takes a mapping"),
        ("a:\n\tb: 1", 2, "tab"),
        ("a: 1\n b: 2", 2, "':' where none can be"),
        ("a: [1, 2", 1, "not YAML"),
        ("a: *b", 1, "undefined alias"),
        ("a: 1\n---\nb: 2", 2, "document"),
        ("a: &a {b: *a}", 1, "never end"),
        ("? [1]\n: 2", 1, "plain word"),
        ("a: !!int x", 1, "invalid literal"),
    ],
)
def test_refused(text: str, line: int, words: str) -> None:
    found = problems_of(text)
    assert len(found) == 1
    assert found[0].startswith(f"x.yml:{line}: ")
    assert words in found[0]


def test_depth_and_size_are_bounded() -> None:
    assert "too deeply" in problems_of("a: " + "[" * 5000)[0]
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    assert f"more than {MAX_NODES}" in problems_of(bomb)[0]


def test_empty_and_unreadable_documents() -> None:
    assert read("") == {}
    assert read("# nothing\n") == {}
    assert "not YAML" in problems_of("a: \x00")[0]
    assert parse("3", "x.yml", []) == Leaf(3, parse("3", "x.yml", []).place)
