"""Protects that reading large annotation files leaves Python's collector as it was."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from ppdet.data.datasets import cache


def test_the_collector_rests_while_a_large_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setenv("PPDET_HOME", str(tmp_path))
    file = tmp_path / "a.json"
    file.write_text("{}", "utf-8")

    def parse() -> cache.ParsedFile:
        assert not gc.isenabled()
        raise ValueError("a faulty file")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="a faulty file"):
        cache.cached(file, {}, parse)
    assert gc.isenabled()
