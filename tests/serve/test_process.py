"""Protects a service as a process: it says where it is, drains at SIGTERM, starts again after a kill, and
refuses what would be a mistake.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the service needs pip install 'ppdet[serve]'")
pytest.importorskip("uvicorn", reason="the service needs pip install 'ppdet[serve]'")

import ppdet
from ppdet.cli import serve as verb
from ppdet.serve.limits import ServeLimits
from tests.cli.small import assert_told, command, make_project, save_weights
from tests.serve.support import Client, picture, service
from tests.support import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose weights carry their configuration."""
    folder = make_project(tmp_path_factory.mktemp("serve"))
    config = ppdet.load_config(folder / "small.yml").to_yaml()
    save_weights(folder, "small.pdparams", config={"yaml": config})
    return folder


@contextmanager
def served(project: Path, *words: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A service in a process of its own."""
    options = ["--runtime", "native", "--port", str(port), *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "ppdet", "serve", "small.pdparams", *options],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"serving small\.pdparams on http://127\.0\.0\.1:(\d+) ", line)
            if found:
                break
        else:
            raise AssertionError("".join(lines))
        yield process, Client(int(found.group(1)))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_service_drains_at_sigterm(project: Path) -> None:
    """Requests that are under way are answered; the process then ends with status 0."""
    large = picture(2400, 2400)
    with served(project, "--batch_size", "1") as (process, client), ThreadPoolExecutor(4) as pool:
        assert client.detect(picture(), query="?threshold=0").status == 200
        waiting = [pool.submit(client.detect, large, large, large) for _ in range(4)]
        while b"ppdet_requests_under_way 4.0" not in client.ask("GET", "/metrics").body:
            assert not any(one.done() for one in waiting)
        process.send_signal(signal.SIGTERM)
        assert [len(one.result().json()) for one in waiting] == [3] * 4
        _, messages = process.communicate(timeout=20)
        assert process.returncode == 0, messages
        assert "requests under way were answered" in messages
        with pytest.raises(ConnectionRefusedError):
            client.ask("GET", "/healthz")


@pytest.mark.slow
def test_a_killed_service_starts_again_on_its_port(project: Path) -> None:
    with served(project) as (process, client), ThreadPoolExecutor(2) as pool:
        port = client.port
        cut = [pool.submit(client.detect, picture(2400, 2400)) for _ in range(2)]
        time.sleep(0.05)
        process.kill()
        process.wait()
        for one in cut:
            assert one.exception(timeout=10) is not None or one.result().status == 200
    with served(project, port=port) as (process, client):
        assert client.detect(picture()).status == 200
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=20)
        assert process.returncode == 130, messages
        assert "Traceback" not in messages


def test_answers_are_those_of_the_detector(project: Path) -> None:
    """In batches of several requests, by Paddle in a thread of its own: the boxes of one image alone."""
    files = sorted((project / "data").rglob("*.jpg"))
    detector = ppdet.load_detector(project / "small.pdparams", runtime="native")
    with service(detector) as client, ThreadPoolExecutor(8) as pool:
        asked = [path.read_bytes() for path in files]
        answers = list(pool.map(lambda one: client.detect(one, query="?threshold=0.1"), asked))
        batches = client.ask("GET", "/metrics").body.decode()
    for alone, answer in zip(detector(files, threshold=0.1), answers):
        (row,) = answer.json()
        assert [one["name"] for one in row["objects"]] == alone.names and alone.names
        boxes = np.array([one["box"] for one in row["objects"]])
        np.testing.assert_allclose(boxes, alone.boxes, atol=0.02)
        scores = np.array([one["score"] for one in row["objects"]])
        np.testing.assert_allclose(scores, alone.scores, atol=2e-5)
    count, single = (
        float(re.search(rf"ppdet_batch_images_{name} (\S+)", batches).group(1))  # type: ignore[union-attr]
        for name in ("count", r'bucket{le="1.0"}')
    )
    assert count > single, "some shared a batch"


def test_what_is_refused_before_weights_are_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(verb.TOKEN, raising=False)
    (project / "empty").write_text("\n", "utf-8")
    (project / "short").write_text("secret\n", "utf-8")
    for words, parts in (
        (["--host", "0.0.0.0"], ["host 0.0.0.0", "without a token", "--token_file", "--open_to_all"]),
        (["--token_file", "empty"], ["--token_file empty", "is empty"]),
        (["--token_file", "nothing"], ["--token_file nothing", "cannot be read"]),
        (["--token_file", "short"], ["the token has 6 characters", "at least 16"]),
        (["--batch_size", "0"], ["batch_size 0", "1 or more"]),
        (["--timeout", "nan"], ["seconds nan"]),
        (["--max_delay_ms", "-1"], ["delay -0.001", "0 or more"]),
        (["--port", "70000"], ["port 70000", "0 to 65535"]),
    ):
        assert_told(command("serve", "no_such_file", *words, cwd=project), *parts)


def test_a_port_that_is_taken(project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = command("serve", "small.pdparams", "--runtime", "native", "--port", port, cwd=project)
    assert_told(done, f"port {port} of 127.0.0.1", "in use", "--port")


def test_sources_that_are_no_detector(project: Path) -> None:
    assert_told(command("serve", cwd=project), "give WEIGHTS")
    assert_told(command("serve", "nothing.pdparams", cwd=project), "nothing.pdparams")


def test_the_options_have_the_defaults_of_python() -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    assert verb.limits_from(parser.parse_args([])) == ServeLimits()
