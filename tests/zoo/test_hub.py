"""Protects weights from the Hugging Face Hub: its own client reads from a stand-in on this machine.

Every refusal is put in words; only safe formats are read; what is damaged on the way is not loaded.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ppdet.utils.errors import WeightsError
from ppdet.utils.packages import MissingPackageError
from ppdet.zoo.hub import HubAddress, parse_address
from ppdet.zoo.locate import is_remote, locate, read_source
from ppdet.zoo.safetensors import write_safetensors
from tests.fake_hub import Hub, Repository, hub_of_tests

TENSORS = {"backbone.conv1.weight": np.arange(8, dtype=np.float32)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_of_tests(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    write_safetensors(tmp_path / "made.safetensors", TENSORS, {})
    return (tmp_path / "made.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://me/fruit", HubAddress("me/fruit", None, "")),
        ("hf://me/fruit/", HubAddress("me/fruit", None, "")),
        ("hf://me/fruit@v1.0", HubAddress("me/fruit", "v1.0", "")),
        ("hf://me/fruit@refs%2Fpr%2F1/a/b.pdparams", HubAddress("me/fruit", "refs/pr/1", "a/b.pdparams")),
        ("hf://me/fruit/a/b.pdparams", HubAddress("me/fruit", None, "a/b.pdparams")),
    ],
)
def test_addresses(text: str, address: HubAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["hf://", "hf://me", "hf:///fruit", "hf://me/fr uit", "hf://me@v1/fruit", "hf://a/b@"]
)
def test_other_addresses_are_refused(text: str) -> None:
    for call in (parse_address, locate, is_remote):
        with pytest.raises(WeightsError, match="hf://owner/name"):
            call(text)


def test_weights_are_downloaded_once(hub: Hub, weights: bytes) -> None:
    hub.repositories["me/fruit"] = Repository({"model.safetensors": weights, "README.md": b"# fruit"})
    assert is_remote("hf://me/fruit")
    with pytest.raises(WeightsError, match="ppdet weights download hf://me/fruit"):
        locate("hf://me/fruit", download=False)
    for _ in range(2):
        read = read_source("hf://me/fruit")
        assert np.array_equal(read.tensors["backbone.conv1.weight"], np.arange(8))
    assert hub.requests.count("GET /me/fruit/resolve/main/model.safetensors") == 1
    assert not is_remote("hf://me/fruit")
    assert locate("hf://me/fruit", download=False).path == read.path


def test_a_new_commit_is_loaded_and_an_old_one_can_be_named(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    repository = hub.repositories["me/fruit"] = Repository({"model.safetensors": weights})
    first = repository.commit
    read_source("hf://me/fruit")
    write_safetensors(tmp_path / "new.safetensors", {"a": np.ones(3, np.float32)}, {})
    repository.files["model.safetensors"] = (tmp_path / "new.safetensors").read_bytes()
    repository.commits += 1
    assert set(read_source("hf://me/fruit").tensors) == {"a"}
    assert set(read_source(f"hf://me/fruit@{first}").tensors) == set(TENSORS)


def test_a_repository_of_one_weight_file_needs_no_file_name(hub: Hub, weights: bytes) -> None:
    repository = hub.repositories["me/other"] = Repository(
        {"sub/best.safetensors": weights, "notes.txt": b"x"}
    )
    assert set(read_source("hf://me/other").tensors) == set(TENSORS)
    repository.files["last.pdparams"] = b"x"
    with pytest.raises(
        WeightsError, match=r"hf://me/other/sub/best.safetensors, hf://me/other/last.pdparams"
    ):
        read_source("hf://me/other")
    assert set(read_source("hf://me/other/sub/best.safetensors").tensors) == set(TENSORS)
    hub.repositories["me/other"] = Repository({"notes.txt": b"x"})
    with pytest.raises(WeightsError, match=r"holds no weights .* it has notes.txt"):
        read_source("hf://me/other")


def test_what_cannot_be_read_says_why(hub: Hub, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["me/gated"] = Repository({"model.safetensors": weights}, gated=True)
    hub.repositories["me/secret"] = Repository({"model.safetensors": weights}, private=True)
    hub.repositories["me/fruit"] = Repository({"model.safetensors": weights})
    for address, words in (
        ("hf://me/gone", "there is no .*/me/gone, or it is private: .*HF_TOKEN"),
        ("hf://me/gated", "access to it is granted on request"),
        ("hf://me/fruit@v9", "has no such revision"),
        ("hf://me/fruit/gone.pdparams", "has no such file"),
    ):
        with pytest.raises(WeightsError, match=f"{address}: .*{words}"):
            read_source(address)
    hub.repositories["me/unread"] = hub.repositories["me/secret"]
    read_source("hf://me/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_stranger")
    with pytest.raises(WeightsError, match="or it is private"):
        read_source("hf://me/unread")


def test_a_hub_that_is_down_is_named_and_the_cache_still_serves(
    hub: Hub, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its tries
    hub.repositories["me/fruit"] = Repository({"model.safetensors": weights})
    read_source("hf://me/fruit")
    hub.status = 503
    assert set(read_source("hf://me/fruit").tensors) == set(TENSORS)
    with pytest.raises(WeightsError, match=f"hf://me/other: {hub.url} cannot be reached"):
        read_source("hf://me/other")


def test_a_cache_that_cannot_be_written_is_named(
    hub: Hub, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    hub.repositories["me/fruit"] = Repository({"model.safetensors": weights})
    with pytest.raises(WeightsError, match=r"hf://me/fruit: \[Errno 20\] Not a directory: .*file"):
        read_source("hf://me/fruit")


def test_damaged_weights_are_not_loaded(hub: Hub, weights: bytes) -> None:
    hub.repositories["me/fruit"] = Repository({"model.safetensors": weights})
    hub.damage = True
    with pytest.raises(WeightsError, match="has not the checksum that the hub says; remove"):
        read_source("hf://me/fruit")


class Evil:
    """Runs a command when it is unpickled by Python's own pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_of_the_hub_runs_nothing(hub: Hub, tmp_path: Path) -> None:
    content = pickle.dumps({"w": Evil(tmp_path / "owned")})
    pickle.loads(content)
    (tmp_path / "owned").rmdir()  # so it is an attack
    for name in ("model.pdparams", "model.safetensors"):
        hub.repositories["me/evil"] = Repository({name: content})
        with pytest.raises(WeightsError):
            read_source("hf://me/evil")
        assert not (tmp_path / "owned").exists()


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppdet.utils.packages.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'ppdet\[hub\]'"):
        locate("hf://me/fruit")
