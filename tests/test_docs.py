"""Protects readers: every command in a ``bash`` block of README and docs runs, every link leads somewhere.

Commands run page by page, in the order they are written, in a sandbox beside a small stand-in for COCO.
Long ones are cut short by the tables `SHORTER` and `SMALLER`, with overrides that a reader could type;
nothing else is changed. A ``yaml`` block that begins with the comment ``# configs/NAME.yml`` is that file.
Commands that need a network or a GPU stand in ``text`` blocks and are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import pytest

from tests.fake_coco import write_coco, write_split
from tests.fake_hub import TOKEN, serve_hub
from tests.support import ROOT, requires_onnx, requires_openvino

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BASH = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
YAML = re.compile(r"^```yaml\n# (configs/\S+\.yml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")

SMALL = " ".join(f"{r}Reader.sample_transforms.Resize.target_size=[64,64]" for r in ("Train", "Eval"))
SMALL_TEST = " ".join(f"{r}Reader.sample_transforms.Resize.target_size=[64,64]" for r in ("Eval", "Test"))
#: Pattern of a command -> words put at its end, so that it ends in seconds; the first that fits counts.
SHORTER = [
    (r"ppdet train -c quickstart", "-o max_iters=2 worker_num=0"),
    (r"ppdet (eval|infer) .*quickstart", "-o worker_num=0"),
    (
        r"(tools/train\.py|ppdet train)(?!.*(--dry-run|--help))",
        f"-o max_iters=2 worker_num=0 pretrain_weights=null {SMALL}",
    ),
    (
        r"ppdet launch (?!.*--print)",
        f"-o max_iters=2 worker_num=0 pretrain_weights=null TrainReader.batch_size=1 {SMALL}",
    ),
    (r"(tools/|ppdet )(eval|infer|export)(_model\.py|\.py)?(?!.*--help)", f"-o worker_num=0 {SMALL_TEST}"),
]
#: What a command is about -> words put at the end of a shortened one, so that the same small network is
#: trained, evaluated and exported.
SMALLER = (
    r"-c (faster_rcnn_r50_fpn_1x_coco|configs/fruit\.yml)",
    "ResNet.depth=18 FPN.out_channel=64 TwoFCHead.out_channel=32 RPNHead.test_proposal.post_nms_top_n=30",
)


def pages() -> list[Path]:
    """Everything a user reads."""
    return [
        ROOT / "README.md",
        ROOT / "README_cn.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted(ROOT.glob("*/README.md")),
    ]


def commands_of(text: str) -> list[str]:
    """Commands of the ``bash`` blocks; lines that end with a backslash go on."""
    lines = "\n".join(BASH.findall(text)).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def shortened(command: str) -> str:
    """The command as the test runs it."""
    if re.match(r"make \w+", command):
        return command.replace("make ", "make -n ", 1)  # what it would do; the parts are tested on their own
    # The choice of the fastest runtime, which exports to all of them, is tested on its own.
    command = command.replace(".venv/bin/", "").replace("ppdet serve ", "ppdet serve --runtime native ")
    for pattern, words in SHORTER:
        if re.search(pattern, command):
            return (
                f"{command} {words} {SMALLER[1]}" if re.search(SMALLER[0], command) else f"{command} {words}"
            )
    return command


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A folder that looks like a fresh checkout with a dataset beside it."""
    for entry in ROOT.iterdir():
        if entry.name not in {"output", "dataset", "configs", ".git", ".venv"}:
            (tmp_path / entry.name).symlink_to(entry)
    for folder in ("dataset", "configs"):
        (tmp_path / folder).mkdir()
        for entry in (ROOT / folder).iterdir():
            if folder == "configs" or entry.is_file():
                (tmp_path / folder / entry.name).symlink_to(entry)
    write_coco(tmp_path / "dataset" / "coco")
    fruit = [{"id": i, "name": name} for i, name in enumerate(("apple", "banana", "cherry"), start=1)]
    for split in ("train", "val"):
        write_split(tmp_path / "dataset" / "fruit", split, images=4, categories=fruit, size=(96, 128), seed=3)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ppdet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ppdet "$@"\n', "utf-8")
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', "utf-8")
    for wrapper in tools.iterdir():
        wrapper.chmod(0o755)
    return tmp_path


@pytest.fixture
def hub_variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What sends the client of the Hugging Face Hub to a stand-in on this machine."""
    with serve_hub() as hub:
        yield {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_XET": "1",
        }


def run(
    command: str, folder: Path, variables: Optional[Mapping[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    """Run one command of a page."""
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MKL_NUM_THREADS": "1",
        **(variables or {}),
    }
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=[requires_onnx, requires_openvino] if p.name == "export.md" else ())
        for p in pages()
        if p.name != "README_cn.md"
    ],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_commands_run(page: Path, sandbox: Path, hub_variables: dict[str, str]) -> None:
    text = page.read_text("utf-8")
    for path, content in YAML.findall(text):
        (sandbox / path).write_text(content, "utf-8")
    for command in commands_of(text):
        done = run(shortened(command), sandbox, hub_variables)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    # supervision, which is on that page, needs Python 3.10
    if page.name == "formats.md" or (page.name == "sharing.md" and sys.version_info >= (3, 10)):
        (sandbox / "page.py").write_text("\n".join(PYTHON.findall(text)), "utf-8")
        done = run("python page.py", sandbox, hub_variables)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


@pytest.mark.slow
def test_python_of_the_readme_runs(sandbox: Path) -> None:
    (block,) = PYTHON.findall((ROOT / "README.md").read_text("utf-8"))
    name = '"quickstart_ppyoloe"'
    assert block.count(name) == 1
    short = block.replace(name, f'ppdet.load_config({name}, {{"max_iters": 2, "worker_num": 0}})')
    (sandbox / "readme.py").write_text(short, "utf-8")
    data = "ppdet data synth dataset/quickstart --train 8 --val 2 --height 128 --width 128"
    for command in (data, "python readme.py"):
        done = run(command, sandbox)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert (sandbox / "exported" / "export.json").is_file()


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text("utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_both_readmes_give_the_same_commands() -> None:
    # So it is enough to run those of one.
    english, chinese = (
        commands_of((ROOT / name).read_text("utf-8")) for name in ("README.md", "README_cn.md")
    )
    assert len(english) >= 5
    assert english == chinese


def test_commands_are_found_and_joined() -> None:
    text = "```bash\n# why\npython a.py \\\n  -o b=1\n\nmake test\n```\n```text\nsudo rm\n```\n"
    assert commands_of(text) == ["python a.py    -o b=1", "make test"]
    assert shortened("make test") == "make -n test"
    assert "max_iters" in shortened("python tools/train.py -c x.yml")
    assert "max_iters" not in shortened("python tools/train.py -c x.yml --dry-run")
