"""Protects `ppdet launch` without other machines: its errors, commands for hosts, recipes, one machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ppdet.cli import make_parser
from ppdet.launch.facts import data_digests
from tests.cli.small import assert_told, command, make_project, process
from tests.support import ROOT

TRAIN = ("--", "train", "-c", "small.yml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("launch"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("give a verb that several processes can share, after --", "train, eval, infer")),
        (("--", "serve", "x"), ("not 'serve'",)),
        (("--nnodes", "2", *TRAIN), ("--nnodes N and --master IP:PORT go together",)),
        (("--master", "10.0.0.1", *TRAIN), ("--nnodes N and --master IP:PORT go together",)),
        (("--nnodes", "0", *TRAIN), ("--nnodes 0",)),
        (("--nproc", "two", *TRAIN), ("--nproc two: expected auto, or a number",)),
        (("--print", *TRAIN), ("--print goes with --hosts",)),
        (("--hosts", "a,a", *TRAIN), ("--hosts a,a: a is there; name every machine once",)),
        (("--hosts", "a,,b", *TRAIN), ("an empty name is there",)),
        (("--hosts", "10.0.0.1", "--nnodes", "2", *TRAIN), ("leave out --nnodes and --master",)),
        (("--nnodes", "2", "--master", "10.0.0.1:x", *TRAIN), ("expected IP:PORT",)),
        (("--", "train", "-c", "smal.yml"), ("smal.yml",)),
        (("--", "train", "-c", "small.yml", "-o", "epok=2"), ("epok", "epoch")),
    ],
)
def test_wrong_commands_are_told(project: Path, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert_told(command("launch", *words, cwd=project), *parts)


def test_printed_commands_are_those_of_every_host(project: Path) -> None:
    done = command("launch", "--hosts", "10.0.0.1,me@10.0.0.2", "--print", *TRAIN, "-o", "a b=1", cwd=project)
    assert done.returncode == 2  # the overrides are checked before anything is started
    done = command("launch", "--hosts", "10.0.0.1,me@10.0.0.2", "--print", *TRAIN, cwd=project)
    lines = done.stdout.splitlines()
    assert lines[0::2] == ["# 10.0.0.1", "# me@10.0.0.2"]
    for line in lines[1::2]:
        words = shlex.split(line)
        assert words[:4] == ["cd", str(project), "&&", "exec"]
        launched = words[words.index("launch") + 1 :]
        args = make_parser("launch").parse_args(launched)
        assert (args.nnodes, args.master, args.nproc) == (2, "10.0.0.1:29400", "auto")
        assert args.command[-3:] == ["train", "-c", "small.yml"]


@pytest.mark.slow
def test_two_processes_of_one_machine(project: Path) -> None:
    words = ("launch", "--nproc", "2", *TRAIN, "-o", "max_iters=2", "TrainReader.batch_size=1")
    done = process(*words, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 images x 2 processes" in done.stdout
    assert "trained 2 steps" in done.stdout
    for noise in ("Warning", "LAUNCH", "Modified FLAGS", "ccache"):
        assert noise not in done.stdout + done.stderr
    failed = process(*words, "LearningRate.base_lr=1e30", "epoch=50", "max_iters=50", cwd=project)
    assert_told(failed, "the training failed:", "not finite", "workerlog.0")


def test_digests_follow_content_and_names(project: Path, tmp_path: Path) -> None:
    from ppdet import load_config

    def digests(folder: Path) -> dict[str, str]:
        overrides = [f"{key}Dataset.dataset_dir={folder / 'data'}" for key in ("Train", "Eval")]
        return data_digests(load_config(folder / "small.yml", overrides))

    copy = make_project(tmp_path / "copy")
    here, there = digests(project), digests(copy)
    assert set(here) == {
        f"{key}Dataset.{name}"
        for key in ("Train", "Eval")
        for name in ("dataset_dir", "image_dir", "anno_path")
    }
    assert here == there
    (copy / "data/val2017/000000000001.jpg").rename(copy / "data/val2017/000000000009.jpg")
    (copy / "data/annotations/instances_train2017.json").unlink()
    changed = digests(copy)
    assert {key for key in here if here[key] != changed[key]} == {
        "EvalDataset.image_dir",
        "TrainDataset.anno_path",
    }
    assert changed["TrainDataset.anno_path"] == "absent (No such file or directory)"


def test_recipes_for_schedulers_are_valid() -> None:
    slurm = (ROOT / "docs/launch/slurm.sh").read_text("utf-8")
    service, job = yaml.safe_load_all((ROOT / "docs/launch/kubernetes.yaml").read_text("utf-8"))
    pod = job["spec"]["template"]["spec"]
    script = pod["containers"][0]["args"][0]
    for text, nodes in ((slurm, "$SLURM_JOB_NUM_NODES"), (script, str(job["spec"]["completions"]))):
        found = re.search(r"ppdet launch (.*)$", text.replace("\\\n", " "), re.MULTILINE)
        assert found is not None
        words = shlex.split(found[1])
        assert words[words.index("--nnodes") + 1] == nodes
        words[words.index("--nnodes") + 1] = "2"
        args = make_parser("launch").parse_args(words)
        assert args.master.endswith(":29400")
        assert args.wait >= 300
        assert "train" in args.command
    # The name of the first pod is that of the job, its index and the service.
    assert f"{job['metadata']['name']}-0.{service['metadata']['name']}:29400" in script
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["parallelism"] == job["spec"]["completions"]
