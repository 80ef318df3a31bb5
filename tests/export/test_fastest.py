"""Protects the measurement behind `auto`: the faster runtime, measured once per model and machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ppdet.export import fastest as module
from ppdet.export.fastest import fastest
from ppdet.export.info import FILE_NAME, describe
from tests.export.small import NAMES, reader, small_model

SLOW, QUICK = 0.02, 0.0


class Session:
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, *arrays: Any) -> list[Any]:
        assert len(arrays) == 3
        time.sleep(self._seconds)
        return []


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A described folder; names of runtimes need no packages."""
    info = describe(small_model("yolov3_tiny"), reader(), NAMES)
    (tmp_path / FILE_NAME).write_text(info.to_json(), "utf-8")
    monkeypatch.setattr(module, "runtime_name", lambda name: f"{name} 1.0")
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[str]:
    """Runtimes of these speeds; the list is of those that were opened."""
    opened: list[str] = []

    def open_session(folder: Path, runtime: str) -> Session:
        opened.append(runtime)
        return Session(seconds[runtime])

    monkeypatch.setattr(module, "open_session", open_session)
    return opened


@pytest.mark.parametrize("quick", ["onnx", "openvino"])
def test_the_faster_one_is_remembered(export: Path, quick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnx": export, "openvino": export}
    opened = use(monkeypatch, {name: QUICK if name == quick else SLOW for name in both})
    assert fastest(both, cache=export) == quick
    assert opened == ["onnx", "openvino"]
    assert fastest(both, cache=export) == quick
    assert len(opened) == 2  # nothing was measured again


def test_another_machine_version_or_model_is_measured_again(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"onnx": export, "openvino": export}
    opened = use(monkeypatch, dict.fromkeys(both, QUICK))
    fastest(both, cache=export)
    for change in ("version", "machine", "model"):
        if change == "version":
            monkeypatch.setattr(module, "runtime_name", lambda name: f"{name} 2.0")
        elif change == "machine":
            monkeypatch.setattr(module, "hardware", lambda: {"cpu": "another", "cores": 64})
        else:
            info = describe(small_model("yolov3_tiny"), reader(), ("a", "b", "c"))
            (export / FILE_NAME).write_text(info.to_json(), "utf-8")
        before = len(opened)
        fastest(both, cache=export)
        assert len(opened) == before + 2, change


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"onnx": "fast"}', '{"onnx": 1.0}'])
def test_a_damaged_memory_is_written_anew(export: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnx": export, "openvino": export}
    opened = use(monkeypatch, {"onnx": SLOW, "openvino": QUICK})
    fastest(both, cache=export)
    (memory,) = export.glob("fastest-*.json")
    memory.write_text(text)
    assert fastest(both, cache=export) == "openvino"
    assert len(opened) == 4


def test_one_runtime_is_not_measured(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = use(monkeypatch, {})
    assert fastest({"paddle": export}, cache=export) == "paddle"
    assert opened == []
