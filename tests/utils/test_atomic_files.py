"""Protects files that are whole or not there: the old one stays until the new one is complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppdet.utils.errors import FileError
from ppdet.utils.files import replacing, write_json, write_text


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    with replacing(path) as temporary:
        temporary.write_text("one", "utf-8")
        assert not path.exists()
    assert path.read_text("utf-8") == "one"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("error", [ValueError("fault"), KeyboardInterrupt()])
def test_the_old_file_stays_where_writing_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_text("half", "utf-8")
        raise error
    assert path.read_text("utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(FileError, match=r"x\.json: cannot be written"):
        write_json(tmp_path / "file" / "x.json", {})


def test_json_keeps_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "Käfer"}, indent=1)
    text = (tmp_path / "x.json").read_text("utf-8")
    assert "Käfer" in text
    assert json.loads(text) == {"name": "Käfer"}
