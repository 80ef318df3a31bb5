"""Protects training on several machines: the numbers of one process, an end with a reason after a fault."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ppdet.utils import safe_pickle
from tests.cli.small import make_project, process
from tests.launch.support import Machine, launch, requires_namespaces, start, two_far_machines, two_machines

pytestmark = [pytest.mark.slow, requires_namespaces]

#: One image per process and step, as long as it takes; nothing is saved unless something happens.
LONG = "train -c small.yml -o epoch=5000 snapshot_epoch=5000 TrainReader.batch_size=1"
#: Nothing is drawn at random and every loss is a mean over equally many items, so that the mean over
#: processes is that of one process with all images.
EQUAL = (
    "-o epoch=4 snapshot_epoch=4 ResNet.freeze_norm=true RPNHead.rpn_target_assign.use_random=false "
    "BBoxAssigner.use_random=false TrainReader.sample_transforms.RandomFlip.prob=0"
)


@pytest.fixture
def pair() -> Iterator[list[Machine]]:
    with two_machines() as made:
        yield made


def weights(path: Path) -> dict[str, np.ndarray]:
    state = safe_pickle.load(path)
    return {key: value for key, value in state.items() if getattr(value, "dtype", None) == np.float32}


def assert_same_weights(one: Path, other: Path, *, rtol: float, atol: float) -> None:
    expected, found = weights(one), weights(other)
    assert set(expected) == set(found)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=rtol, atol=atol, err_msg=key)


def last_saved(folder: Path) -> str:
    return str(json.loads((folder / "output/small/checkpoints.json").read_text())["last"])


def test_two_machines_equal_one_process_over_a_bad_network(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    with two_far_machines(delay=0.02, loss=0.01) as pair:
        nodes = launch(
            pair, folder, "--nproc 2", f"train -c small.yml --eval {EQUAL} TrainReader.batch_size=1"
        )
        assert [node.ended(seconds=200) for node in nodes] == [0, 0], nodes[0].text + nodes[1].text
    assert "1 images x 4 processes" in nodes[0].text
    one = process(
        *f"train -c small.yml --eval {EQUAL} TrainReader.batch_size=4 save_dir=alone".split(), cwd=folder
    )
    assert one.returncode == 0, one.stderr
    assert_same_weights(
        folder / "alone/small/model_final.pdparams",
        folder / "output/small/model_final.pdparams",
        rtol=1e-4,
        atol=1e-6,
    )
    scores = [re.findall(r"bbox\.AP [\d.]+, bbox\.AP50 [\d.]+", text) for text in (nodes[0].text, one.stderr)]
    assert scores[0] == scores[1] != []


@pytest.mark.parametrize("fault", ["killed", "hangs", "cut", "first killed", "one stopped"])
def test_a_lost_machine_ends_the_others_with_a_reason_and_a_checkpoint(
    tmp_path: Path, pair: list[Machine], fault: str
) -> None:
    folder = make_project(tmp_path)
    nodes = launch(pair, folder, "--nproc 1", LONG)
    nodes[0].wait_for("step 5/")
    victim = 0 if fault == "first killed" else 1
    began = time.monotonic()
    if fault == "cut":
        pair[1].cut()
    elif fault == "one stopped":
        pair[1].signal(signal.SIGSTOP, among="ppdet train")
    else:
        pair[victim].signal(signal.SIGSTOP if fault == "hangs" else signal.SIGKILL)
    survivor = nodes[1 - victim]
    assert survivor.ended(seconds=60) == 2, survivor.text
    print(f"{fault}: {time.monotonic() - began:.1f} s\n{survivor.text[-600:]}")
    reason = {
        "killed": r"10\.77\.0\.2 .*has gone: it was switched off, or its launcher was killed",
        "hangs": r"10\.77\.0\.2 .*has been silent for 2\d s: it hangs, or the network to it is cut",
        "cut": r"10\.77\.0\.2 .*has been silent for 2\d s: it hangs, or the network to it is cut",
        "one stopped": r"10\.77\.0\.2 .* process \d+ has been stopped \(SIGSTOP\) for 1\d s",
        "first killed": r"the first node has gone: it was switched off, or its launcher was killed",
    }[fault]
    assert re.search(f"error: the training has ended on every node: {reason}", survivor.text), survivor.text
    assert "Traceback" not in survivor.text
    if fault == "cut":  # the machine that is cut off ends by itself
        assert nodes[1].ended(seconds=60 - (time.monotonic() - began)) == 2
        assert "no sign of the first node for 20 s: it hangs, or the network is cut" in nodes[1].text
    step = int(last_saved(folder).removeprefix("iter_"))
    assert step >= 5


def test_a_failing_process_ends_all_with_its_error(tmp_path: Path, pair: list[Machine]) -> None:
    folders = [make_project(tmp_path / name) for name in ("a", "b")]
    broken = folders[1] / "data/train2017/000000000003.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    command = f"{LONG} save_dir={tmp_path / 'shared'}"
    nodes = [start(pair, i, folder, "--nproc 1", command) for i, folder in enumerate(folders)]
    for node in nodes:
        assert node.ended(seconds=100) == 2, node.text
        assert re.search(r"every node: 10\.77\.0\.2 .*failed: .*000000000003\.jpg", node.text), node.text


def test_ctrl_c_on_one_machine_stops_and_saves_all(tmp_path: Path, pair: list[Machine]) -> None:
    folder = make_project(tmp_path)
    nodes = launch(pair, folder, "--nproc 1", LONG)
    nodes[0].wait_for("step 3/")
    pair[1].signal(signal.SIGINT, among="ppdet launch")
    assert [node.ended(seconds=60) for node in nodes] == [0, 0], nodes[1].text
    assert "stopping after this step, on every node" in nodes[1].text
    step = int(last_saved(folder).removeprefix("iter_"))
    assert f"stopped at step {step}: another process stopped; -r resumes" in nodes[0].text


def test_hosts_are_started_by_ssh(
    tmp_path: Path, pair: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_project(tmp_path)
    names = "".join(f"{machine.address}) name={machine.name};;\n" for machine in pair)
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2 $3" = "-tt -o BatchMode=yes" ] || exit 9\n'
        f'case "$4" in\n{names}esac\nexec ip netns exec "$name" sh -c "$5"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    hosts = ",".join(machine.address for machine in pair)
    done = process(
        *("launch", "--hosts", hosts, "--nproc", "1", "--", "train", "-c", "small.yml"),
        *("-o", "max_iters=2", "TrainReader.batch_size=1"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\[10\.77\.0\.1\] trained 2 steps", done.stdout, re.MULTILINE), done.stdout
    assert "[10.77.0.2] this is node 1 of 2" in done.stdout


def test_a_restart_goes_on_exactly_and_with_other_machines(tmp_path: Path, pair: list[Machine]) -> None:
    folder = make_project(tmp_path)
    nodes = launch(pair, folder, "--nproc 1", LONG)
    nodes[0].wait_for("step 3/")
    pair[1].signal(signal.SIGKILL)
    assert nodes[0].ended(seconds=60) == 2
    step = int(last_saved(folder).removeprefix("iter_"))
    until = f"{LONG} max_iters={step + 4}"
    resumed = launch(pair, folder, "--nproc 1", f"{until} -r auto")
    assert [node.ended(seconds=120) for node in resumed] == [0, 0], resumed[0].text
    whole = launch(pair, folder, "--nproc 1", f"{until} save_dir=whole")
    assert [node.ended(seconds=120) for node in whole] == [0, 0], whole[0].text
    final = "small/model_final.pdparams"
    assert_same_weights(folder / "whole" / final, folder / "output" / final, rtol=1e-6, atol=1e-7)
    alone = process(
        *f"train -c small.yml -o epoch=5000 TrainReader.batch_size=1 max_iters={2 * step + 10}".split(),
        *("-r", f"output/small/iter_{step}"),
        cwd=folder,
    )
    assert alone.returncode == 0, alone.stderr
    assert f"1 processes in place of 2: step {step} of then is step {2 * step} of now" in alone.stderr


def test_machines_that_differ_do_not_start(tmp_path: Path, pair: list[Machine]) -> None:
    folders = [make_project(tmp_path / name) for name in ("a", "b")]
    annotations = folders[1] / "data/annotations/instances_train2017.json"
    annotations.write_text(annotations.read_text().replace('"bird"', '"fish"'))
    (folders[1] / "data/train2017/000000000004.jpg").unlink()
    began = time.monotonic()
    nodes = [
        start(pair, i, folder, "--nproc 1", f"train -c small.yml -o epoch={2 + i}")
        for i, folder in enumerate(folders)
    ]
    for node in nodes:
        assert node.ended(seconds=60) == 2
        for text in (
            r"config: `epoch: 3` on 10\.77\.0\.2 \(.*\), `epoch: 2` on 10\.77\.0\.1",
            r"data: TrainDataset\.anno_path is \w+ on 10\.77\.0\.2 \(.*\), \w+ on 10\.77\.0\.1",
            r"data: TrainDataset\.image_dir is \w+ of 3 names on .*, \w+ of 4 names on ",
        ):
            assert re.search(text, node.text), node.text
    print(f"refused after {time.monotonic() - began:.1f} s")
    assert not (folders[0] / "output").exists()
