"""Protects ``ppdet weights``: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ppdet.cli import main, make_parser
from ppdet.zoo import read_weights
from ppdet.zoo.locate import cache_path
from tests.support import ROOT
from tests.zoo import files, server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("PPDET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PPDET_MIRRORS", raising=False)
    monkeypatch.delenv("PPDET_WEIGHTS_DIR", raising=False)
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small weight file."""
    return files.write_pdparams(tmp_path / "m.pdparams", {"a.weight": np.ones((2, 3), np.float32)})


def test_list(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list", "cascade"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all("cascade" in line for line in lines[1:])
    assert any("41.6" in line and "35.3" in line for line in lines)
    assert main(["weights", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "url", "sha256", "licence", "command"} <= set(rows[0])


def test_show_an_entry_and_a_file(cache: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "show", "mask_rcnn_r50_1x_coco@2020"]) == 0
    shown = capsys.readouterr().out
    assert "dygraph2020" in shown
    assert "31.9" in shown
    assert main(["weights", "show", str(file)]) == 0
    assert "parameters  6" in capsys.readouterr().out


def test_download(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.serve(file.read_bytes()) as site:
        monkeypatch.setenv("PPDET_MIRRORS", f"https://paddledet.bj.bcebos.com/={site.url}/")
        assert main(["weights", "download", "ResNet34_pretrained"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.is_relative_to(cache)
    assert path.read_bytes() == file.read_bytes()


def test_convert_with_names(cache: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = file.parent / "out" / "m.safetensors"
    assert main(["weights", "convert", str(file), str(target), "--classes", "cat,dog"]) == 0
    assert "1 tensors from 2.x" in capsys.readouterr().out
    assert read_weights(target).metadata.class_names == ("cat", "dog")


def test_check_finds_what_changed_since_the_download(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "check"]) == 0
    assert "no weights" in capsys.readouterr().out
    with server.serve(file.read_bytes()) as site:
        monkeypatch.setenv("PPDET_MIRRORS", f"https://paddledet.bj.bcebos.com/={site.url}/")
        main(["weights", "download", "ResNet34_pretrained"])
    capsys.readouterr()
    assert main(["weights", "check"]) == 0
    assert capsys.readouterr().out.startswith("ok")
    path = cache_path("https://paddledet.bj.bcebos.com/models/pretrained/ResNet34_pretrained.pdparams")
    files.write_pdparams(path, {"a.weight": np.zeros((2, 3), np.float32)})
    assert main(["weights", "check"]) == 2
    assert "its sha256 is not" in capsys.readouterr().out


def test_check_reads_files_completely(cache: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "check", str(file)]) == 0
    file.write_bytes(b"\x80\x02cposix\nsystem\n" + b"X\x02\x00\x00\x00ls\x85R.")
    assert main(["weights", "check", str(file)]) == 2
    assert "posix.system" in capsys.readouterr().out


def test_wrong_names_end_with_status_2(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "show", "mask_rcnn_r50_1x_coc"]) == 2
    assert "did you mean mask_rcnn_r50_1x_coco" in capsys.readouterr().err


def test_evaluation_takes_up_the_conventions_of_the_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that says it means other boxes gets a model that means the same, and a line that says so."""
    from ppdet import build_model, load_config
    from ppdet.cli.common import load_model
    from ppdet.utils.metadata import CheckpointMetadata
    from ppdet.zoo import Layout, WeightFile
    from ppdet.zoo.saving import save_weights

    config = ROOT / "configs" / "yolov3_tiny_coco.yml"
    state = build_model(load_config(config)).state_dict()
    metadata = CheckpointMetadata(conventions="dygraph2020-yolo")
    tensors = {key: value.numpy() for key, value in state.items()}
    path = save_weights(
        WeightFile(tmp_path / "x", Layout.V2, tensors, metadata=metadata), tmp_path / "w.pdparams"
    )
    args = make_parser("eval").parse_args(["-c", str(config), "--weights", str(path), "--device", "cpu"])
    with caplog.at_level("INFO", logger="ppdet"):
        trained = load_model(args)
    assert trained.model.conventions.name == "dygraph2020-yolo"
    assert "use the dygraph2020-yolo box conventions" in caplog.text
