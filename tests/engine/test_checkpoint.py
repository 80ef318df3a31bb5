"""Protects what is on disk: whole or not there, named when damaged, and enough to go on exactly."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.config.components import COMPONENTS
from ppdet.engine.checkpoint import BEST, FINAL, LEDGER, RunFolder
from ppdet.engine.settings import TrainSettings
from ppdet.utils import files, safe_pickle
from ppdet.utils.errors import CheckpointError, FileError
from ppdet.utils.files import write_durably
from ppdet.utils.metadata import METADATA_KEY, CheckpointMetadata
from tests.engine.toys import ToyLoader, assert_same, make_trainer, weights_of

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def state(step: int, epoch: int = 0) -> dict[str, Any]:
    return {"progress": {"step": step, "epoch": epoch}, "optimizer": {}}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_keeps_the_last_and_final_and_best(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, keep_last=2)
    for step in range(5):
        folder.save(str(step), WEIGHTS, state(step))
    folder.save_best(WEIGHTS, state(2)["progress"], {"bbox": {"AP": 0.5}})
    folder.save(FINAL, WEIGHTS, state(5))
    both = {f"{name}.{ending}" for name in ("3", "4", FINAL) for ending in ("pdparams", "pdopt")}
    assert names(tmp_path) == both | {f"{BEST}.pdparams", LEDGER}
    assert folder.find("auto")[0].name == FINAL


def test_the_same_name_again_is_never_half_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save(FINAL, WEIGHTS, state(5))
    folder.save(FINAL, WEIGHTS, state(9))
    assert folder.load("auto").state["progress"]["step"] == 9
    assert names(tmp_path) == {f"{FINAL}.pdparams", f"{FINAL}.pdopt", LEDGER}


@pytest.mark.parametrize("fail_at", range(1, 9))
@pytest.mark.parametrize("name", ["1", "0"])
def test_a_kill_at_any_rename_leaves_something_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int, name: str
) -> None:
    folder = RunFolder(tmp_path, keep_last=1)
    folder.save("0", WEIGHTS, state(1))
    renames = 0
    replace = Path.replace

    class Kill(BaseException):
        pass

    def kill(path: Path, target: Any) -> Any:
        nonlocal renames
        renames += 1
        if renames == fail_at:
            raise Kill
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", kill)
    try:
        folder.save(name, {"a.weight": WEIGHTS["a.weight"] + 1}, state(2))
    except Kill:
        pass
    else:
        assert renames < fail_at
    monkeypatch.undo()
    found = RunFolder(tmp_path).load("auto")
    step = found.state["progress"]["step"]
    np.testing.assert_array_equal(found.weights["a.weight"], WEIGHTS["a.weight"] + step - 1)
    folder.save("2", WEIGHTS, state(3))
    assert not [n for n in names(tmp_path) if n.endswith(".tmp")]
    assert RunFolder(tmp_path).load("auto").state["progress"]["step"] == 3


def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.save("0", WEIGHTS, state(1))
    before = names(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"1\.pdparams.*No space left.*make room"):
        folder.save("1", WEIGHTS, state(2))
    assert names(tmp_path) == before
    assert folder.load("auto").state["progress"]["step"] == 1


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write(file: Any) -> None:
        file.write(b"ne")
        assert path.read_bytes() == b"old"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_durably(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"x"}
    inode = path.stat().st_ino
    write_durably(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != inode  # another file took its name; the old one was not written into


def test_full_disk_in_the_middle_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.save("0", WEIGHTS, state(1))
    before = names(tmp_path)
    calls: list[int] = []

    def full(handle: int, *_: Any) -> None:
        calls.append(handle)
        if len(calls) == 3:  # .pdparams and its folder are through
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"1\.pdopt"):
        folder.save("1", WEIGHTS, state(2))
    assert names(tmp_path) == before


def test_fewer_to_keep_makes_room_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(3):
        RunFolder(tmp_path).save(str(step), WEIGHTS, state(step))
    folder = RunFolder(tmp_path, keep_last=1)
    seen: list[set[str]] = []
    write = RunFolder._write

    def spy(*arguments: Any) -> None:
        seen.append(names(tmp_path))
        write(*arguments)

    monkeypatch.setattr(RunFolder, "_write", spy)
    folder.save("3", WEIGHTS, state(3))
    assert seen == [{"2.pdparams", "2.pdopt", LEDGER}]
    assert names(tmp_path) == {"3.pdparams", "3.pdopt", LEDGER}


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, Path.unlink])
@pytest.mark.parametrize("ending", ["pdparams", "pdopt"])
def test_damage_is_named(tmp_path: Path, damage: Any, ending: str) -> None:
    folder = RunFolder(tmp_path)
    folder.save("4", WEIGHTS, state(1))
    damage(tmp_path / f"4.{ending}")
    with pytest.raises(CheckpointError, match=rf"4\.{ending}: .*(torn|not complete)"):
        folder.load("auto")


def test_damage_without_ledger_is_named_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save("4", WEIGHTS, state(1))
    (tmp_path / LEDGER).unlink()
    assert folder.load(str(tmp_path / "4")).state["progress"]["step"] == 1
    damage_truncate(tmp_path / "4.pdopt")
    with pytest.raises(CheckpointError, match=r"4\.pdopt"):
        folder.load(str(tmp_path / "4"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"saved": {}, "last": "3"}'])
def test_damaged_ledger_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{LEDGER}: damaged"):
        RunFolder(tmp_path).load("auto")


def test_nothing_to_resume_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        RunFolder(tmp_path).load("auto")
    with pytest.raises(CheckpointError, match="no such folder or checkpoint"):
        RunFolder(tmp_path).load("elsewhere/7")


def test_parts_of_two_checkpoints_do_not_make_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save("1", WEIGHTS, state(1))
    folder.save("2", WEIGHTS, state(2))
    (tmp_path / LEDGER).unlink()
    (tmp_path / "1.pdopt").replace(tmp_path / "2.pdopt")
    with pytest.raises(CheckpointError, match=r"of step 2, the \.pdopt of 1"):
        folder.load(str(tmp_path / "2"))


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_best(WEIGHTS, state(2)["progress"], {})
    with pytest.raises(CheckpointError, match=r"best_model\.pdopt: missing.*pretrain_weights"):
        folder.load(str(tmp_path / BEST))
    (tmp_path / "old.pdparams").write_bytes(pickle.dumps(WEIGHTS))
    (tmp_path / "old.pdopt").write_bytes(pickle.dumps({"conv_velocity_0": WEIGHTS["a.weight"]}))
    with pytest.raises(CheckpointError, match=r"neither of ppdet nor of PaddleDetection 2\.x"):
        folder.load(str(tmp_path / "old"))


@pytest.mark.parametrize("spelling", ["auto", "{0}", "{0}/0", "{0}/0.pdparams", "{0}/0.pdopt"])
def test_spellings(tmp_path: Path, spelling: str) -> None:
    folder = RunFolder(tmp_path)
    folder.save("0", WEIGHTS, state(1))
    assert folder.load(spelling.format(tmp_path)).path == tmp_path / "0"


def test_fresh_start_hides_the_old_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    folder.save("0", WEIGHTS, state(1))
    folder.start()
    assert "earlier run" in caplog.text
    with pytest.raises(CheckpointError):
        folder.load("auto")
    assert folder.load(str(tmp_path / "0")).state["progress"]["step"] == 1


def test_files_load_with_paddle_and_carry_metadata(tmp_path: Path) -> None:
    metadata = CheckpointMetadata(class_names=("cat",), config={"epoch": 3})
    folder = RunFolder(tmp_path, metadata=metadata)
    folder.save("0", WEIGHTS, state(7, epoch=1))
    folder.save_best(WEIGHTS, state(7)["progress"], {"bbox": {"AP": 0.5}})
    np.testing.assert_array_equal(
        paddle.load(str(tmp_path / "0.pdparams"))["a.weight"].numpy(), WEIGHTS["a.weight"]
    )
    found = CheckpointMetadata.from_array(safe_pickle.load(tmp_path / "0.pdparams")[METADATA_KEY])
    assert (found.class_names, found.config, found.step, found.epoch) == (("cat",), {"epoch": 3}, 7, 1)
    best = CheckpointMetadata.from_array(safe_pickle.load(tmp_path / f"{BEST}.pdparams")[METADATA_KEY])
    assert best.metrics == {"bbox": {"AP": 0.5}}


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file"):
        write_durably(tmp_path / "file" / "x", lambda f: f.write(b"1"))
    with pytest.raises(CheckpointError, match="keep_last 0"):
        RunFolder(tmp_path, keep_last=0)


# -- resuming a run


SETTINGS = {"epochs": 3, "log_iter": 2}
OPTIMIZERS = [name for name, target in COMPONENTS.items() if "engine.optimizers:" in target]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop_after", [5, 7])
def test_resumed_run_equals_uninterrupted(tmp_path: Path, stop_after: int, optimizer: str) -> None:
    kind = {"type": optimizer}
    whole = make_trainer(settings=TrainSettings(**SETTINGS), optimizer=kind)
    whole.train()
    first = make_trainer(
        settings=TrainSettings(**SETTINGS, max_iters=stop_after),
        folder=RunFolder(tmp_path),
        optimizer=kind,
    )
    first.train()
    loader = ToyLoader()
    second = make_trainer(
        settings=TrainSettings(**SETTINGS),
        folder=RunFolder(tmp_path),
        loader=loader,
        optimizer=kind,
        seed=99,  # another start, which must not matter
    )
    second.resume("auto")
    assert second.progress.step == stop_after
    second.train()
    assert_same(weights_of(whole), weights_of(second))
    assert loader.seen == [(e, b) for e in range(3) for b in range(5)][stop_after:]
    assert whole.schedule() == second.schedule()


def test_best_survives_a_resume(tmp_path: Path) -> None:
    values = iter([0.5, 0.3, 0.4, 0.2])

    def evaluate() -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": next(values)}}

    folder = RunFolder(tmp_path)
    make_trainer(settings=TrainSettings(epochs=2), folder=folder, evaluate=evaluate).train()
    second = make_trainer(settings=TrainSettings(epochs=4), folder=folder, evaluate=evaluate)
    second.resume("auto")
    progress = second.train().progress
    assert (progress.best, progress.best_step, progress.since_best) == (0.5, 5, 3)
    best = CheckpointMetadata.from_array(safe_pickle.load(tmp_path / f"{BEST}.pdparams")[METADATA_KEY])
    assert best.step == 5


def test_evaluation_that_a_kill_cut_off_is_made_up(tmp_path: Path) -> None:
    class Kill(BaseException):
        pass

    def killed() -> dict[str, dict[str, float]]:
        raise Kill

    with pytest.raises(Kill):
        make_trainer(folder=RunFolder(tmp_path), evaluate=killed).train()
    steps: list[int] = []
    second = make_trainer(
        folder=RunFolder(tmp_path),
        evaluate=lambda: steps.append(second.progress.step) or {"bbox": {"AP": 0.1}},
    )
    second.resume("auto")
    second.train()
    assert steps == [5, 10]


def test_another_model_does_not_fit(tmp_path: Path) -> None:
    from tests.engine.toys import ToyDetector

    make_trainer(folder=RunFolder(tmp_path)).train()
    other = make_trainer(model=ToyDetector(norm=False))
    with pytest.raises(CheckpointError, match=r"4 unknown \['norm\._mean'"):
        other.resume(str(tmp_path))


def test_ledger_lists_files_with_size(tmp_path: Path) -> None:
    RunFolder(tmp_path).save("0", WEIGHTS, state(1))
    row = json.loads((tmp_path / LEDGER).read_text())["saved"]["0"]
    assert row["files"]["0.pdparams"]["bytes"] == (tmp_path / "0.pdparams").stat().st_size
