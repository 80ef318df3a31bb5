"""Protects downloads from bad networks: every fault of a server is survived or named, and no half or wrong
file ever has the final name.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from ppdet.utils.errors import WeightsError
from ppdet.utils.lock import file_lock
from ppdet.zoo import locate, read_source
from ppdet.zoo.download import Options, fetch
from ppdet.zoo.locate import addresses, cache_path, what_is_wrong
from tests.zoo import server

FAST = Options(tries=3, back_off=0.01, timeout=2.0)
CONTENT = pickle.dumps({"w": np.random.default_rng(0).standard_normal(50_000)}, 4)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def _fetch(
    site: server.Site, target: Path, *, sha256: Optional[str] = SHA256, options: Options = FAST
) -> Path:
    return fetch([f"{site.url}/m.pdparams"], target, sha256=sha256, check=what_is_wrong, options=options)


def _leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"m.pdparams.lock"}


RECOVERED: dict[str, list[server.Answer]] = {
    "no fault": [],
    "dropped once": [server.drop_after(100_000)],
    "dropped four times": [server.drop_after(70_000)] * 4,
    "dropped, then Range ignored": [server.drop_after(100_000), server.ignore_range],
    "dropped, then another range": [server.drop_after(100_000), server.wrong_range],
    "hung up twice": [server.hang_up, server.hang_up],
    "busy": [server.status(503), server.status(429)],
    "promises too little": [server.promise_less],
    "promises too much": [server.promise_more],
    "no length": [server.no_length],
    "garbage once": [server.send(b"<!DOCTYPE html> please log in")],
    "empty once": [server.send(b"")],
    "truncated pickle once": [server.send(CONTENT[:-5])],
}


@pytest.mark.parametrize("known", [True, False], ids=["sha256 known", "sha256 unknown"])
@pytest.mark.parametrize("name", RECOVERED)
def test_recovers(tmp_path: Path, name: str, known: bool) -> None:
    target = tmp_path / "m.pdparams"
    with server.serve(CONTENT, answers=list(RECOVERED[name])) as site:
        _fetch(site, target, sha256=SHA256 if known else None)
    assert target.read_bytes() == CONTENT
    assert _leftovers(tmp_path) == {"m.pdparams", "m.pdparams.sha256"}
    assert (tmp_path / "m.pdparams.sha256").read_text() == f"{SHA256}  m.pdparams\n"


REFUSED: dict[str, tuple[list[server.Answer], str]] = {
    "not there": ([server.status(404)], "HTTP status 404"),
    "forbidden": ([server.status(403)], "HTTP status 403"),
    "always busy": ([server.status(503)] * 9, "HTTP status 503"),
    "always hangs up": ([server.hang_up] * 9, "connection|closed|reset"),
    "always garbage": ([server.send(b"<html>no</html>")] * 9, "web page"),
    "always another file": ([server.send(pickle.dumps({}, 4))] * 9, "sha256 is .*, expected"),
    "always promises too much": ([server.promise_more] * 9, r"closed after \d+ of \d+ bytes|connection"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_gives_up_with_a_reason(tmp_path: Path, name: str) -> None:
    answers, says = REFUSED[name]
    target = tmp_path / "m.pdparams"
    with (
        server.serve(CONTENT, answers=list(answers)) as site,
        pytest.raises(WeightsError, match=says) as caught,
    ):
        _fetch(site, target)
    assert not target.exists()
    message = str(caught.value)
    assert f"{site.url}/m.pdparams" in message
    assert str(target) in message
    assert "PPDET_WEIGHTS_DIR" in message
    if name in ("not there", "forbidden"):
        assert len(site.ranges) == 1  # asking again would not help


def test_resumes_where_it_stopped(tmp_path: Path) -> None:
    target = tmp_path / "m.pdparams"
    with server.serve(CONTENT, answers=[server.drop_after(150_000)]) as site:
        _fetch(site, target)
    assert site.ranges[0] is None
    assert site.ranges[1] == "bytes=150000-"


def test_resumes_in_another_run(tmp_path: Path) -> None:
    target = tmp_path / "m.pdparams"
    dropped = [server.drop_after(150_000), *[server.status(503)] * 3]
    with server.serve(CONTENT, answers=dropped) as site:
        with pytest.raises(WeightsError):
            _fetch(site, target)
        assert (tmp_path / "m.pdparams.part").stat().st_size == 150_000
        _fetch(site, target)
    assert site.ranges[-1] == "bytes=150000-"
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_starts_again(tmp_path: Path) -> None:
    other = pickle.dumps({"w": np.zeros(60_000)}, 4)
    target = tmp_path / "m.pdparams"

    def change(handler: server.Handler, content: bytes, start: int) -> None:
        server.drop_after(100_000)(handler, content, start)
        handler.site.content, handler.site.etag = other, '"v2"'

    with server.serve(CONTENT, answers=[change]) as site:
        _fetch(site, target, sha256=None)
    assert target.read_bytes() == other


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_strong_validator_it_starts_again(tmp_path: Path, etag: Optional[str]) -> None:
    target = tmp_path / "m.pdparams"
    with server.serve(CONTENT, etag=etag, answers=[server.drop_after(100_000)]) as site:
        _fetch(site, target, sha256=None)
    assert site.ranges == [None, None]
    assert target.read_bytes() == CONTENT


def test_a_longer_part_of_another_file_is_dropped(tmp_path: Path) -> None:
    target = tmp_path / "m.pdparams"
    with server.serve(
        CONTENT, answers=[server.drop_after(len(CONTENT) - 1), *[server.status(503)] * 3]
    ) as site:
        with pytest.raises(WeightsError):
            _fetch(site, target)
        with (tmp_path / "m.pdparams.part").open("ab") as part:
            part.write(b"x" * 1000)
        _fetch(site, target)
    assert target.read_bytes() == CONTENT


def test_size_limit_before_and_during(tmp_path: Path) -> None:
    small = Options(tries=2, back_off=0.01, max_bytes=1000)
    for answers in ([], [server.no_length]):
        with (
            server.serve(CONTENT, answers=list(answers)) as site,
            pytest.raises(WeightsError, match="limit of 1000"),
        ):
            _fetch(site, tmp_path / "m.pdparams", options=small)


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = tmp_path / "m.pdparams"
    with pytest.raises(WeightsError, match=r"no connection.*(?s:.*)put it at .*m\.pdparams"):
        fetch([f"http://127.0.0.1:{port}/m.pdparams"], target, options=FAST)


def test_mirror_first_then_the_owner(tmp_path: Path) -> None:
    target = tmp_path / "m.pdparams"
    with server.serve(CONTENT, answers=[server.status(404)]) as mirror, server.serve(CONTENT) as owner:
        fetch([f"{mirror.url}/m", f"{owner.url}/m"], target, sha256=SHA256, options=FAST)
    assert len(mirror.paths) == len(owner.paths) == 1
    assert target.read_bytes() == CONTENT


def test_follows_redirects(tmp_path: Path) -> None:
    with server.serve(CONTENT) as owner, server.serve(b"") as site:
        site.answers.append(server.redirect(f"{owner.url}/real"))
        _fetch(site, tmp_path / "m.pdparams")
    assert owner.paths == ["/real"]


def test_what_is_there_is_not_fetched(tmp_path: Path) -> None:
    target = tmp_path / "m.pdparams"
    target.write_bytes(b"mine")
    with server.serve(CONTENT) as site:
        _fetch(site, target)
    assert site.paths == []
    assert target.read_bytes() == b"mine"


def test_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsError, match=r"cannot be made.*PPDET_HOME"):
        fetch(["http://127.0.0.1:1/m"], tmp_path / "file" / "m.pdparams", options=FAST)


# Two at once.


def _fetch_in_process(url: str, target: str) -> None:
    fetch([url], Path(target), sha256=SHA256, options=FAST)


@pytest.mark.slow
def test_processes_fetch_once(tmp_path: Path) -> None:
    target = tmp_path / "m.pdparams"

    def slowly(handler: server.Handler, content: bytes, start: int) -> None:
        time.sleep(0.5)
        server.right(handler, content, start)

    with server.serve(CONTENT, answers=[slowly]) as site:
        context = multiprocessing.get_context("spawn")
        jobs: list[Any] = [
            context.Process(target=_fetch_in_process, args=(f"{site.url}/m", str(target))) for _ in range(2)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert len(site.paths) == 1
    assert target.read_bytes() == CONTENT


def test_a_lock_is_exclusive_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with file_lock(path):
            held.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with pytest.raises(WeightsError, match="still held"), file_lock(path, timeout=0.05, poll=0.01):
        pass
    threading.Timer(0.1, leave.set).start()
    with file_lock(path, timeout=60, poll=0.01):  # waits
        assert leave.is_set()
    holder.join()
    code = (
        "import os, sys; from pathlib import Path; from ppdet.utils.lock import file_lock\n"
        "with file_lock(Path(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    with file_lock(path, timeout=60, poll=0.01):
        pass


# From names to files.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("PPDET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PPDET_MIRRORS", raising=False)
    monkeypatch.delenv("PPDET_WEIGHTS_DIR", raising=False)
    return tmp_path / "home"


def test_any_url_goes_through_the_cache(cache: Path) -> None:
    with server.serve(CONTENT) as site:
        for _ in range(2):
            read = read_source(f"{site.url}/models/m.pdparams?x=1")
    assert read.tensors.keys() == {"w"}
    assert len(site.paths) == 1
    assert read.path.is_relative_to(cache)
    assert read.path.parts[-2:] == ("models", "m.pdparams")


@pytest.mark.parametrize(
    "spelling",
    [
        "faster_rcnn_r50_fpn_1x_coco",
        "https://paddledet.bj.bcebos.com/models/faster_rcnn_r50_fpn_1x_coco.pdparams",
        "https://bj.bcebos.com/v1/paddledet/models/faster_rcnn_r50_fpn_1x_coco.pdparams",
        "ppdet://models/faster_rcnn_r50_fpn_1x_coco.pdparams",
    ],
)
def test_published_names_and_urls_through_a_mirror(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    with server.serve(CONTENT) as site:
        monkeypatch.setenv("PPDET_MIRRORS", f"https://paddledet.bj.bcebos.com/={site.url}/mirror/")
        read = read_source(spelling)
    assert site.paths == ["/mirror/models/faster_rcnn_r50_fpn_1x_coco.pdparams"]
    assert len(read.metadata.class_names) == 80
    assert read.metadata.conventions == ""


def test_the_2020_entry_brings_its_conventions(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.serve(CONTENT) as site:
        monkeypatch.setenv("PPDET_MIRRORS", f"https://paddlemodels.bj.bcebos.com/={site.url}/")
        read = read_source("yolov3_darknet53_270e_coco@2020")
    assert read.metadata.conventions == "dygraph2020-yolo"


def test_offline_folder(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / "ResNet50_cos_pretrained.pdparams").write_bytes(CONTENT)
    monkeypatch.setenv("PPDET_WEIGHTS_DIR", str(folder))
    assert locate("ResNet50_cos_pretrained").path == folder / "ResNet50_cos_pretrained.pdparams"


def test_offline_folder_tells_generations_apart(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 2020 and the 2.x file of a config have the same last name."""
    name = "mask_rcnn_r50_1x_coco.pdparams"
    old = tmp_path / "offline" / "paddlemodels.bj.bcebos.com" / "object_detection" / "dygraph" / name
    old.parent.mkdir(parents=True)
    old.write_bytes(CONTENT)
    (tmp_path / "offline" / name).write_bytes(CONTENT)
    monkeypatch.setenv("PPDET_WEIGHTS_DIR", str(tmp_path / "offline"))
    assert locate("mask_rcnn_r50_1x_coco@2020").path == old
    assert locate("mask_rcnn_r50_1x_coco").path == tmp_path / "offline" / name


def test_a_path_into_the_cache_keeps_its_entry(cache: Path) -> None:
    path = cache_path("https://paddledet.bj.bcebos.com/models/mask_rcnn_r50_1x_coco.pdparams")
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    entry = locate(path).entry
    assert entry is not None
    assert entry.name == "mask_rcnn_r50_1x_coco"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("faster_rcnn_r50_fpn_1x_coc", "did you mean faster_rcnn_r50_fpn_1x_coco"),
        ("output/model_final", "there is no such file, nor with one of"),
        ("model.pdparams", "there is no such file"),
        ("ftp://host/m.pdparams", "only http, https and hf"),
        ("file:///etc/passwd", "only http, https and hf"),
        ("http://", "names no file"),
        ("https://../x/y", "names no file"),
    ],
)
def test_wrong_sources(cache: Path, source: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        locate(source)


def test_without_download_the_command_is_named(cache: Path) -> None:
    with pytest.raises(WeightsError, match="`ppdet weights download mask_rcnn_r50_1x_coco` fetches"):
        locate("mask_rcnn_r50_1x_coco", download=False)


@pytest.mark.parametrize(
    "url",
    ["https://h/../../etc/passwd", "https://h/a/%2e%2e/%2e%2e/b", "https://u@h/x/y", "https://h/..%2fx"],
)
def test_urls_stay_in_the_cache(cache: Path, url: str) -> None:
    assert cache_path(url).resolve().is_relative_to((cache / "weights").resolve())


def test_wrong_mirrors_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPDET_MIRRORS", "nonsense")
    with pytest.raises(WeightsError, match="PPDET_MIRRORS: 'nonsense'"):
        addresses("https://h/x")
