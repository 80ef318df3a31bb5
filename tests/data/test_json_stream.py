"""Reading JSON a piece at a time gives what reading it at once gives, wherever the pieces end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppdet.data import json_stream
from ppdet.data.formats.coco import parse_coco, read_coco
from ppdet.data.json_stream import stream_json
from ppdet.utils.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def read(path: Path) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, Iterator) else value for name, value in stream_json(path)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    piece=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_is_what_json_gives(
    tmp_path: Path, content: dict[str, Any], piece: int, indent: Any, encoding: str
) -> None:
    path = tmp_path / "any.json"
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    path.write_bytes(text.encode(encoding, "replace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PIECE", piece)
        assert read(path) == json.loads(text.encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[1]", "this is a list"),
        ('{"a": 1', "line 1 column 8"),
        ('{"a": [1, 2', "not valid JSON"),
        ('{"a": [1 2]}', "line 1 column 10"),
        ('{"a": 1} x', "Extra data"),
        ('{"a": 1,}', "not valid JSON"),
        ("{1: 2}", "not valid JSON"),
        ('{"a": 1, "a": 2}', '"a" occurs twice'),
        ('{"a": "\udcff"}', "not UTF-8 text .*byte 7"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "torn.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=said) as caught:
        read(path)
    assert "torn.json" in str(caught.value)


def test_a_list_that_is_left_is_passed(tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    path.write_text('{"a": [1, [2], 3], "b": [], "c": 5}')
    assert [name for name, _ in stream_json(path)] == ["a", "b", "c"]


@pytest.mark.parametrize("order", ["annotations images categories", "categories annotations images"])
def test_members_may_come_in_any_order(tmp_path: Path, order: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2]},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [1, 1, 2, 2]},
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    path = tmp_path / "any.json"
    path.write_text(json.dumps({name: content[name] for name in order.split()}))
    with pytest.raises(DataError, match=r"annotation 2 of a\.jpg has category_id 4"):
        read_coco(path, with_masks=False)
    content["annotations"].pop()
    path.write_text(json.dumps({name: content[name] for name in order.split()}))
    assert read_coco(path, with_masks=False) == parse_coco(content, with_masks=False)
