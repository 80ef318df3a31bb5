"""Protects users of published files: each layout is recognised by its keys and becomes the same tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppdet.utils.errors import WeightsError
from ppdet.zoo import Layout, read_metadata, read_state, read_weights
from ppdet.zoo.layout_2020 import anchors_by_size, background_to_end, convert_2020, is_2020, rename
from ppdet.zoo.static_graph import backbone_key
from tests.support import requires_shared
from tests.zoo import files

RCNN = [model for model in files.MODELS if "rcnn" in model]


@requires_shared
@pytest.mark.parametrize("model", files.MODELS)
def test_names_follow_the_published_map(model: str) -> None:
    """Every key of the map, and no other key is left over."""
    cascade = "cascade" in model
    mapped = {entry["g1"]: key for key, entry in files.keys(f"{model}.map").items()}
    renamed = {key: rename(key, cascade=cascade) for key in files.keys(f"{model}.g1")}
    assert {key: new for key, new in renamed.items() if new is not None} == mapped


@requires_shared
@pytest.mark.parametrize("model", RCNN)
@pytest.mark.slow
def test_2020_files_convert_bit_for_bit(tmp_path: Path, model: str) -> None:
    path = files.write_pdparams(tmp_path / "model.pdparams", files.state_2020(model))
    read = read_weights(tmp_path / "model")
    assert read.path == path
    assert read.layout is Layout.Y2020
    assert read.metadata.conventions == "dygraph2020"
    expected = files.expected_2020(model)
    assert read.tensors.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(read.tensors[key], value, err_msg=key)
    aliases = {"faster_rcnn_r50_1x": 150, "mask_rcnn_r50_1x": 150}.get(model[: -len("_coco")], 4)
    assert len(read.dropped) == (0 if "cascade" in model else aliases)


@requires_shared
@pytest.mark.parametrize("model", RCNN)
def test_what_the_report_calls_converted_is_what_changed(model: str) -> None:
    """Tensors that differ from the file's, and renamed ones, are marked; plain copies are not."""
    entries = files.keys(f"{model}.map")
    converted = convert_2020(files.state_2020(model), source="x").converted
    assert set(converted) == {key for key, e in entries.items() if e["op"] != "copy" or e["g1"] != key}


@requires_shared
def test_2x_and_2020_yolo_files_are_taken_as_they_are(tmp_path: Path) -> None:
    state = files.state_2x("yolov3_darknet53_270e_coco")
    read = read_weights(files.write_pdparams(tmp_path / "yolo.pdparams", state, protocol=4))
    assert read.layout is Layout.V2
    assert not read.converted
    assert read.tensors.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(read.tensors[key], value)


@requires_shared
def test_static_names_follow_the_published_list() -> None:
    for key, name in files.keys("backbone_static_names").items():
        wanted = key.replace("bbox_head.head.", "backbone.")
        assert wanted in {backbone_key(name, variant_d=variant_d) for variant_d in (False, True)}


@pytest.mark.parametrize(
    ("name", "variant_d", "key"),
    [
        ("res3a_branch1_weights", False, "backbone.res3.res3a.short.conv.weight"),
        ("res3a_branch1_weights", True, "backbone.res3.res3a.short.conv.conv.weight"),
        ("res2a_branch1_weights", True, "backbone.res2.res2a.short.conv.weight"),
        ("bn4b22_branch2c_mean", False, "backbone.res4.res4b22.branch2c.norm._mean"),
        ("bn_conv1_offset", False, "backbone.conv1.conv1.norm.bias"),
        ("bnv1_2_variance", True, "backbone.conv1.conv1_2.norm._variance"),
        ("stage.2.0.1.bn.var", False, "backbone.stage.2.basicblock0.conv2.batch_norm._variance"),
        ("fc_0.w_0", False, None),
        ("stage.0.0.0.bn.something", False, None),
    ],
)
def test_static_names(name: str, variant_d: bool, key: object) -> None:
    assert backbone_key(name, variant_d=variant_d) == key


def _grown(name: str) -> dict[str, np.ndarray]:
    return {"bbox_head.bbox_score_0.weight": np.zeros((2, 4), np.float32), name: np.zeros((7, 3), np.float32)}


def test_wrong_anchor_count_is_named() -> None:
    state = _grown("rpn_head.rpn_rois_score.weight")
    state["bbox_head.bbox_feat.head_feat.res5_roi_feat.res5a.x"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError, match=r"old\.pdparams: rpn_head\.rpn_rois_score\.weight .* 15 anchors"):
        convert_2020(state, source="old.pdparams")


def test_any_number_of_classes_converts() -> None:
    """Users' own 2020 files do not have 80 classes."""
    state = {
        "bbox_head.bbox_score_0.weight": np.arange(8, dtype=np.float32).reshape(2, 4),
        "bbox_head.bbox_delta_0.bias": np.arange(16, dtype=np.float32),
        "mask_head.mask_fcn_logits_0.bias": np.arange(4, dtype=np.float32),
    }
    assert is_2020(state)
    tensors = convert_2020(state, source="x").tensors
    np.testing.assert_array_equal(tensors["bbox_head.bbox_score.weight"], [[1, 2, 3, 0], [5, 6, 7, 4]])
    np.testing.assert_array_equal(tensors["bbox_head.bbox_delta.bias"], np.arange(4, 16))
    np.testing.assert_array_equal(tensors["mask_head.mask_fcn_logits.bias"], [1, 2, 3])


def test_operations_on_one_row() -> None:
    np.testing.assert_array_equal(background_to_end(np.array([9, 1, 2])), [1, 2, 9])
    rows = np.array([100 * ratio + size for ratio in range(3) for size in range(5)])
    expected = [100 * ratio + size for size in range(5) for ratio in range(3)]
    np.testing.assert_array_equal(anchors_by_size(rows), expected)


def test_optimizer_state_is_not_weights(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "model.pdopt"
    path.write_bytes(pickle.dumps({"w_velocity_0": np.zeros(1), "last_epoch": 3}, 4))
    with pytest.raises(WeightsError, match=r"'last_epoch' is a int, not a tensor.*pdopt"):
        read_weights(path)


def test_a_file_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no tensors"):
        read_weights(files.write_pdparams(tmp_path / "x.pdparams", {}))


def test_torchvision_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    state = {"backbone.body.conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}
    with pytest.raises(WeightsError, match="torchvision weights"):
        read_weights(files.write_pdparams(tmp_path / "x.pdparams", state))


@pytest.mark.parametrize("given", ["model", "model.pdparams"])
def test_paths_with_and_without_suffix(tmp_path: Path, given: str) -> None:
    files.write_pdparams(tmp_path / "model.pdparams", {"a": np.ones(1, np.float32)})
    assert read_state(tmp_path / given).keys() == {"a"}
    assert read_metadata(tmp_path / given).class_names == ()


def test_a_name_with_dots_keeps_them(tmp_path: Path) -> None:
    """`epoch_1.5` is not `epoch_1` with the suffix .5."""
    files.write_pdparams(tmp_path / "epoch_1.5.pdparams", {"a": np.ones(1, np.float32)})
    assert read_state(tmp_path / "epoch_1.5").keys() == {"a"}


def test_missing_file_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing: there is no such file, nor with one of \.pdparams"):
        read_weights(tmp_path / "nothing")
