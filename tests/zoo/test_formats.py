"""Protects Darknet, safetensors and static-graph files: exact round trips, and hostile files are refused."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as official

from ppdet.utils.errors import WeightsError
from ppdet.utils.metadata import CheckpointMetadata
from ppdet.zoo import Layout, WeightFile, read_weights
from ppdet.zoo import static_graph as static
from ppdet.zoo.darknet import NETWORKS, layout, read_darknet, write_darknet
from ppdet.zoo.safetensors import read_safetensors, write_safetensors
from ppdet.zoo.saving import WRITTEN, same_tensors, save_weights
from tests.support import SHARED, requires_shared
from tests.zoo import files

TINY = SHARED / "weights" / "yolov3-tiny.weights"


# Darknet.


@requires_shared
def test_real_tiny_weights_and_back(tmp_path: Path) -> None:
    data = TINY.read_bytes()
    assert hashlib.sha256(data).hexdigest().startswith("dccea06f")
    read = read_weights(TINY)
    assert read.layout is Layout.DARKNET
    assert read.metadata.origin == {"format": "darknet", "cfg": "yolov3-tiny", "header": [0, 2, 0, 32013312]}
    assert read.tensors["backbone.conv0.conv.weight"].shape == (16, 3, 3, 3)
    assert read.tensors["yolo_head.yolo_output.1.bias"].shape == (255,)
    for suffix in WRITTEN:
        between = save_weights(read, tmp_path / f"between{suffix}")
        again = save_weights(read_weights(between), tmp_path / "again.weights")
        assert again.read_bytes() == data


@requires_shared
def test_layout_of_yolov3_has_the_published_keys() -> None:
    assert dict(layout("yolov3", 80)) == files.shapes_2x("yolov3_darknet53_270e_coco")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("num_classes", [1, 3, 80])
def test_network_and_classes_follow_from_the_length(tmp_path: Path, network: str, num_classes: int) -> None:
    """Tensors of zeros but for the first value of each; every one comes back in its place."""
    tensors = {}
    for i, (key, shape) in enumerate(layout(network, num_classes)):
        tensors[key] = np.zeros(shape, np.float32)
        tensors[key].flat[0] = i
    path = tmp_path / "x.weights"
    assert write_darknet(path, tensors, header=(0, 1, 5, 77)) == network
    read = read_darknet(path)
    assert (read.network, read.num_classes, read.header) == (network, num_classes, (0, 1, 5, 77))
    assert read.tensors.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(read.tensors[key], value)


def test_files_of_another_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.weights"
    path.write_bytes(struct.pack("<3iQ", 0, 2, 0, 0) + b"\0" * 4000)
    with pytest.raises(WeightsError, match="fit neither yolov3 nor yolov3-tiny"):
        read_darknet(path)
    with pytest.raises(WeightsError, match="refused"):
        read_weights(path)


def test_other_models_are_not_written_as_darknet(tmp_path: Path) -> None:
    file = WeightFile(tmp_path / "x", Layout.V2, {"a": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError, match="neither yolov3 nor yolov3-tiny"):
        save_weights(file, tmp_path / "y.weights")
    assert list(tmp_path.iterdir()) == []


# safetensors.

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array(2.5),
    "c": np.array([1, -2], np.int64),
    "d": np.array([True, False]),
    "e": np.zeros((0, 4), np.float16),
    "ü": np.array([255], np.uint8),
}


def test_official_reader_reads_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, ARRAYS, {"note": "ä"})
    read = official.load_file(path)
    assert read.keys() == ARRAYS.keys()
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(read[key], value)
        assert read[key].dtype == value.dtype


def test_we_read_what_the_official_writer_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    official.save_file(ARRAYS, path, metadata={"note": "ä"})
    read, metadata = read_safetensors(path)
    assert metadata == {"note": "ä"}
    assert read.keys() == ARRAYS.keys()
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(read[key], value)


def _safetensors(header: object, body: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (struct.pack("<Q", 2**62) + b"{}", "header would have"),
        (struct.pack("<Q", 2) + b"{]", "no safetensors"),
        (_safetensors([1]), "no object"),
        (_safetensors({"a": 1}), "'a' is not described as a tensor"),
        (_safetensors({"a": {**GOOD, "dtype": "O"}}), "not described as a tensor"),
        (_safetensors({"a": {**GOOD, "shape": [-2]}}), "not described as a tensor"),
        (_safetensors({"a": {**GOOD, "shape": [2**40, 2**40]}}), "does not have its bytes"),
        (_safetensors({"a": {**GOOD, "shape": [3]}}), "does not have its bytes"),
        (_safetensors({"a": {**GOOD, "data_offsets": [0, 16], "shape": [4]}}), "does not have its bytes"),
        (_safetensors({"a": {**GOOD, "data_offsets": [8, 0]}}), "does not have its bytes"),
        (_safetensors({"a": GOOD, "b": GOOD}), "overlap or leave holes"),
        (_safetensors({"a": GOOD}, b"\0" * 16), "overlap or leave holes"),
    ],
)
def test_broken_safetensors_are_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=says):
        read_safetensors(path)


# Conversion.


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_names_and_conventions_survive_conversion(tmp_path: Path, suffix: str) -> None:
    metadata = CheckpointMetadata(conventions="dygraph2020", metrics={"bbox": {"AP": 0.4}}, step=3)
    file = WeightFile(tmp_path / "x", Layout.Y2020, {"a": np.ones(2, np.float32)}, metadata=metadata)
    target = save_weights(file, tmp_path / "sub" / f"y{suffix}", class_names=["cat", "Hündin"])
    read = read_weights(target)
    assert same_tensors(read, file)
    assert read.metadata.class_names == ("cat", "Hündin")
    assert read.metadata.conventions == "dygraph2020"
    assert read.metadata.step == 3
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    file = WeightFile(tmp_path / "x", Layout.V2, {"a": np.ones(2, np.float32)})
    with pytest.raises(WeightsError, match=r"\.pdparams, \.safetensors, \.weights, not '\.pth'"):
        save_weights(file, tmp_path / "y.pth")


# Static-graph archives.

VARIABLES = {
    "conv1_weights": np.arange(8, dtype=np.float32).reshape(2, 4),
    "bn_conv1_scale": np.ones(300, np.float32),
    "res3a_branch1_weights": np.zeros((2, 2), np.float32),
    "fc_0.w_0": np.zeros((2, 3), np.float32),
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_static_backbone(tmp_path: Path, mode: str) -> None:
    path = files.write_static(tmp_path / "ResNet50_cos_pretrained.tar", VARIABLES, mode=mode)
    read = read_weights(path)
    assert read.layout is Layout.STATIC
    assert set(read.dropped) == {"fc_0.w_0"}
    assert set(read.tensors) == {
        "backbone.conv1.conv1.conv.weight",
        "backbone.conv1.conv1.norm.weight",
        "backbone.res3.res3a.short.conv.weight",
    }
    np.testing.assert_array_equal(
        read.tensors["backbone.conv1.conv1.conv.weight"], VARIABLES["conv1_weights"]
    )


def test_static_backbone_of_variant_d(tmp_path: Path) -> None:
    variables = {"conv1_1_weights": np.zeros(1, np.float32), "res3a_branch1_weights": np.zeros(1, np.float32)}
    read = read_weights(files.write_static(tmp_path / "x.tar", variables))
    assert "backbone.res3.res3a.short.conv.conv.weight" in read.tensors


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # mode is any of w, w:gz
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def _member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


TENSOR = files.lod_tensor(np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (_member("../evil", TENSOR), r"'\.\./evil' points outside"),
        (_member("a/../../evil", TENSOR), "points outside"),
        (_member("/etc/evil", TENSOR), "points outside"),
        (_member("a\\..\\evil", TENSOR), "points outside"),
        (_member("C:/evil", TENSOR), "points outside"),
        (_member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link to '/etc/passwd'"),
        (_member("x", type=tarfile.LNKTYPE, linkname="y"), "is a link"),
        (_member("x", type=tarfile.FIFOTYPE), "special file"),
        (_member("x", type=tarfile.CHRTYPE), "special file"),
    ],
)
def test_hostile_archives_are_refused(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], says: str
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = _tar(folder / "x.tar", member)
    with pytest.raises(WeightsError, match=f"refused.*{says}"):
        read_weights(path)
    assert [p.name for p in tmp_path.iterdir()] == ["inner"]
    assert [p.name for p in folder.iterdir()] == ["x.tar"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are lowered so that the test need not make gigabytes."""
    zeros = b"\0" * 1_000_000
    monkeypatch.setattr(static, "MAX_VARIABLE", 100_000)
    with pytest.raises(WeightsError, match="'big' of 1000000 bytes"):
        read_weights(_tar(tmp_path / "one.tar.gz", _member("big", zeros), mode="w:gz"))
    monkeypatch.setattr(static, "MAX_VARIABLE", 2_000_000)
    monkeypatch.setattr(static, "MAX_TOTAL", 100)
    parts = [_member(f"v{i}", TENSOR) for i in range(5)]
    with pytest.raises(WeightsError, match="refused: member 'v3' of 32 bytes"):
        read_weights(_tar(tmp_path / "many.tar", *parts))
    monkeypatch.setattr(static, "MAX_TOTAL", 10**9)
    monkeypatch.setattr(static, "MAX_MEMBERS", 3)
    with pytest.raises(WeightsError, match="refused: member 'v3'"):
        read_weights(_tar(tmp_path / "members.tar", *parts))


def test_two_members_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="two members are called 'v'"):
        read_weights(_tar(tmp_path / "x.tar", _member("a/v", TENSOR), _member("b/v", TENSOR)))


def _lod(
    version: int = 0,
    levels: int = 0,
    inner: int = 0,
    desc: bytes = b"\x08\x05\x10\x02",
    data: bytes = b"\0" * 8,
) -> bytes:
    return struct.pack("<IQIi", version, levels, inner, len(desc)) + desc + data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends too early"),
        (_lod(version=1), "version 1"),
        (_lod(levels=1000), "1000 LoD levels"),
        (_lod(inner=7), "tensor version"),
        (_lod(desc=b""), "descriptor of 0 bytes"),
        (_lod(desc=b"\x08\x16\x10\x02"), "Paddle type 22"),
        (_lod(desc=b"\x08\x05\x10" + b"\xff" * 9 + b"\x01"), r"shape \(-1,\)"),
        (_lod(desc=b"\x08\x05\x10\x03"), "needs other than its 8 bytes"),
        (_lod(desc=b"\x08\x05\x10\xff\xff\xff\xff\x7f"), "needs other than"),
        (_lod(desc=b"\x08\x05\x10\xff"), "ends too early"),
        (_lod(desc=b"\x1d\x00"), "ends too early"),
    ],
)
def test_broken_tensors_are_named(data: bytes, says: str) -> None:
    with pytest.raises(WeightsError, match=says) as caught:
        static.read_lod_tensor(data, source="archive: conv1_weights")
    assert "archive: conv1_weights" in str(caught.value)


def test_lod_levels_and_packed_dims_are_read() -> None:
    head = struct.pack("<IQQ", 0, 1, 16) + b"\0" * 16 + struct.pack("<Ii", 0, 6)
    read = static.read_lod_tensor(
        head + b"\x08\x05\x12\x02\x01\x02" + np.ones(2, "<f4").tobytes(), source="x"
    )
    np.testing.assert_array_equal(read, np.ones((1, 2), np.float32))


# Damage of any format.


def _valid(tmp: Path) -> list[bytes]:
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.float32)}
    write_safetensors(tmp / "x.safetensors", arrays, {"k": "v"})
    files.write_static(tmp / "x.tar", {"conv1_weights": arrays["a"]})
    files.write_static(tmp / "x.tar.gz", {"conv1_weights": arrays["a"]}, mode="w:gz")
    return [(tmp / name).read_bytes() for name in ("x.safetensors", "x.tar", "x.tar.gz")]


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return _valid(tmp_path_factory.mktemp("valid"))


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, 2),
    edits=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40_000),
)
def test_damaged_files_are_read_or_refused(
    valid: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
    which: int,
    edits: list[tuple[int, int]],
    cut: int,
) -> None:
    data = bytearray(valid[which])
    for place, value in edits:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(data[: cut if cut < len(data) else None]))
    try:
        read = read_weights(path)
    except WeightsError as error:
        assert str(path) in str(error)
    else:
        assert all(not value.dtype.hasobject for value in read.tensors.values())
