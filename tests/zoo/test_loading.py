"""Protects the promise of a load report: what it says happened is what happened, and too little is an error.

Models here are a few layers with the published names; nothing depends on their size.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from ppdet.structures import Categories, box_conventions
from ppdet.utils.errors import WeightsError
from ppdet.utils.metadata import CheckpointMetadata
from ppdet.zoo import Layout, LoadReport, Outcome, Purpose, WeightFile, load_weights
from ppdet.zoo.class_rows import take_class_rows
from ppdet.zoo.matching import match_keys
from tests.modeling.small_detr import small_detr
from tests.zoo import files


class _Tree(nn.Layer):
    """Parameters under given dotted names, filled with minus one."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for key, shape in shapes.items():
            *layers, leaf = key.split(".")
            layer: nn.Layer = self
            for name in layers:
                if name not in layer._sub_layers:
                    layer.add_sublayer(name, nn.Layer())
                layer = layer._sub_layers[name]
            filled = nn.initializer.Constant(-1.0)
            layer.add_parameter(leaf, layer.create_parameter(shape, default_initializer=filled))

    def forward(self) -> None:
        """Never called."""


BACKBONE = {f"backbone.res2.res2a.branch2{c}.conv.weight": (2, 2) for c in "abcdefghijklmnopqrst"}
HEAD = {
    "rpn_head.rpn_rois_delta.weight": (4, 2),
    "bbox_head.bbox_score.weight": (2, 4),
    "bbox_head.bbox_score.bias": (4,),
    "bbox_head.bbox_delta.bias": (12,),
}
SHAPES = {**BACKBONE, **HEAD}


def _filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def _file(tensors: dict[str, np.ndarray], **metadata: object) -> WeightFile:
    return WeightFile(
        Path("x.pdparams"),
        Layout.V2,
        tensors,
        metadata=CheckpointMetadata(**metadata),  # type: ignore[arg-type]  # the caller names fields
    )


def _outcomes(report: LoadReport) -> dict[str, Outcome]:
    return {entry.key: entry.outcome for entry in report.entries}


def test_everything_fits() -> None:
    model, state = _Tree(SHAPES), _filled(SHAPES)
    report = load_weights(model, _file(state))
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[key])
    assert report.counts() == {"loaded": 24, "converted": 0, "reshaped": 0, "skipped": 0, "missing": 0}
    assert report.missing == []


def test_from_a_path_and_from_the_public_name(tmp_path: Path) -> None:
    import ppdet

    state = _filled(SHAPES)
    files.write_pdparams(tmp_path / "model_final.pdparams", state)
    model = _Tree(SHAPES)
    ppdet.load_weights(model, tmp_path / "model_final")
    np.testing.assert_array_equal(
        model.state_dict()["bbox_head.bbox_score.bias"].numpy(), state["bbox_head.bbox_score.bias"]
    )


def test_dtype_becomes_the_models() -> None:
    model = _Tree(SHAPES)
    load_weights(model, _file({key: value.astype(np.float64) for key, value in _filled(SHAPES).items()}))
    assert {value.dtype for value in model.state_dict().values()} == {paddle.float32}


def test_a_missing_head_is_an_error_and_changes_nothing() -> None:
    model = _Tree(SHAPES)
    with pytest.raises(WeightsError, match=r"4 tensors of the model are not loaded.*--allow-partial"):
        load_weights(model, _file(_filled(BACKBONE)))
    assert all((value.numpy() == -1).all() for value in model.state_dict().values())


def test_a_missing_head_may_be_allowed() -> None:
    model = _Tree(SHAPES)
    report = load_weights(model, _file(_filled(BACKBONE)), allow_partial=True)
    assert set(report.missing) == set(HEAD)
    assert (model.state_dict()["bbox_head.bbox_score.bias"].numpy() == -1).all()
    assert not (model.state_dict()[next(iter(BACKBONE))].numpy() == -1).any()


def test_finetuning_starts_heads_anew() -> None:
    report = load_weights(_Tree(SHAPES), _file(_filled(BACKBONE)), purpose=Purpose.FINETUNE)
    assert set(report.missing) == set(HEAD)


@pytest.mark.parametrize(("kept", "enough"), [(20, True), (19, True), (18, False), (0, False)])
def test_95_percent_of_the_backbone(kept: int, enough: bool) -> None:
    """19 of 20 tensors are 95 %."""
    state = _filled({**dict(list(BACKBONE.items())[:kept]), **HEAD})
    model = _Tree(SHAPES)
    if enough:
        load_weights(model, _file(state), purpose=Purpose.FINETUNE)
    else:
        with pytest.raises(WeightsError, match=f"only {kept} of the 20 tensors of the backbone"):
            load_weights(model, _file(state), purpose=Purpose.FINETUNE)
        load_weights(model, _file(state), purpose=Purpose.FINETUNE, allow_partial=True)


def test_a_backbone_alone_counts_as_one() -> None:
    """A bare backbone from a detector's file, and too little for it."""
    bare = {key[len("backbone.") :]: shape for key, shape in BACKBONE.items()}
    model, state = _Tree(bare), _filled(SHAPES)
    report = load_weights(model, _file(state))
    assert len(report.taken) == 20
    np.testing.assert_array_equal(
        model.state_dict()["res2.res2a.branch2a.conv.weight"].numpy(),
        state["backbone.res2.res2a.branch2a.conv.weight"],
    )
    with pytest.raises(WeightsError, match="only 2 of the 20"):
        load_weights(_Tree(bare), _file(dict(list(state.items())[:2])), purpose=Purpose.FINETUNE)


def test_what_the_model_lacks_is_reported() -> None:
    report = load_weights(_Tree(SHAPES), _file({**_filled(SHAPES), "fc.weight": np.zeros(3, np.float32)}))
    (skipped,) = report.of(Outcome.SKIPPED)
    assert (skipped.key, skipped.reason) == ("fc.weight", "the model has no such tensor")


# Class counts and names.


def test_another_class_count_keeps_the_rest() -> None:
    file_shapes = {**SHAPES, "bbox_head.bbox_score.weight": (2, 6), "bbox_head.bbox_score.bias": (6,)}
    report = load_weights(_Tree(SHAPES), _file(_filled(file_shapes)), purpose=Purpose.FINETUNE)
    assert report.missing == ["bbox_head.bbox_score.weight", "bbox_head.bbox_score.bias"]
    (entry, _) = report.of(Outcome.MISSING)
    assert entry.reason == "file has [2, 6], model [2, 4]; keeps its initial values"
    assert len(report.taken) == 22


def test_classes_from_takes_overlapping_names() -> None:
    old, new = ("person", "bicycle", "car", "dog", "cat"), ("cat", "boat", "person")
    state = {
        **_filled(BACKBONE),
        "rpn_head.rpn_rois_delta.weight": np.zeros((4, 2), np.float32),
        "bbox_head.bbox_score.weight": np.arange(12, dtype=np.float32).reshape(2, 6),
        "bbox_head.bbox_score.bias": np.arange(6, dtype=np.float32),
        "bbox_head.bbox_delta.bias": np.arange(20, dtype=np.float32),
    }
    model = _Tree(SHAPES)
    report = load_weights(model, _file(state, class_names=old), class_names=new, classes_from=old)
    read = {key: value.numpy() for key, value in model.state_dict().items()}
    np.testing.assert_array_equal(read["bbox_head.bbox_score.bias"], [4, -1, 0, 5])
    np.testing.assert_array_equal(read["bbox_head.bbox_score.weight"], [[4, -1, 0, 5], [10, -1, 6, 11]])
    np.testing.assert_array_equal(
        read["bbox_head.bbox_delta.bias"], [16, 17, 18, 19, -1, -1, -1, -1, 0, 1, 2, 3]
    )
    reshaped = report.of(Outcome.RESHAPED)
    assert {entry.key for entry in reshaped} == set(HEAD) - {"rpn_head.rpn_rois_delta.weight"}
    assert reshaped[0].reason == "2 of 3 classes by name; the others keep their initial values"
    assert report.notes == ()


def test_equal_count_of_other_classes_is_noted() -> None:
    report = load_weights(
        _Tree(SHAPES), _file(_filled(SHAPES), class_names=("a", "b", "c")), class_names=("c", "d", "e")
    )
    assert any("a, b, c" in note and "--classes-from" in note for note in report.notes)


@pytest.mark.parametrize(
    ("key", "value", "initial", "expected"),
    [
        ("mask_head.mask_fcn_logits.bias", [0, 1, 2], [-1, -1], [2, 0]),
        ("yolo_head.pred_cls.2.bias", [0, 1, 2], [-1, -1], [2, 0]),
        ("aux_head.gfl_cls.bias", [0, 1, 2], [-1, -1], [2, 0]),
        ("transformer.enc_score_head.bias", [0, 1, 2], [-1, -1], [2, 0]),
        ("transformer.dec_score_head.5.bias", [0, 1, 2], [-1, -1], [2, 0]),
        ("head.retina_cls.bias", [0, 1, 2, 10, 11, 12], [-1] * 4, [2, 0, 12, 10]),
        (
            "yolo_head.yolo_output.1.bias",
            [*range(8), *range(10, 18)],
            [-1] * 14,
            [0, 1, 2, 3, 4, 7, 5, 10, 11, 12, 13, 14, 17, 15],
        ),
        (  # two IoU channels first
            "yolo_head.yolo_output.0.bias",
            [90, 91, *range(8), *range(10, 18)],
            [-1] * 16,
            [90, 91, 0, 1, 2, 3, 4, 7, 5, 10, 11, 12, 13, 14, 17, 15],
        ),
        ("bbox_head.bbox_delta_stage2.bias", [1, 2, 3, 4], [-1] * 4, [1, 2, 3, 4]),
        ("bbox_head.bbox_score_stage0.bias", [0, 1, 2, 9], [-1] * 3, [2, 0, 9]),
    ],
)
def test_rows_of_every_predictor(key: str, value: list[int], initial: list[int], expected: list[int]) -> None:
    taken = take_class_rows(
        key,
        np.array(value, np.float32),
        np.array(initial, np.float32),
        file_names=["a", "b", "c"],
        model_names=["c", "a"],
    )
    assert taken is not None
    np.testing.assert_array_equal(taken[0], expected)


def test_classes_from_covers_every_layer_of_rtdetr_that_depends_on_classes() -> None:
    old, new = ("a", "b", "c"), ("c", "new", "a", "b")
    paddle.seed(1)
    donor, model = small_detr(num_classes=3), small_detr(num_classes=4)
    before = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    state = {key: value.numpy() for key, value in donor.state_dict().items()}
    report = load_weights(model, _file(state, class_names=old), class_names=new, classes_from=old)
    after = model.state_dict()
    by_class = {key for key, value in before.items() if value.shape != state[key].shape}
    assert {entry.key for entry in report.of(Outcome.RESHAPED)} == by_class
    assert len(by_class) == 7  # weight and bias of one encoder's and two decoder heads, and an embedding
    for key in by_class:
        embedding = key.endswith("embed.weight")
        rows = [x if embedding else x.T for x in (after[key].numpy(), state[key], before[key])]
        np.testing.assert_array_equal(rows[0][[0, 2, 3]], rows[1][[2, 0, 1]], err_msg=key)
        np.testing.assert_array_equal(rows[0][1], rows[2][1], err_msg=key)


@pytest.mark.parametrize(
    ("key", "value", "initial"),
    [
        ("backbone.conv.weight", np.zeros((3, 3)), np.zeros((3, 3))),
        ("bbox_head.bbox_score.bias", np.zeros(7), np.zeros(3)),
        ("bbox_head.bbox_score.weight", np.zeros((5, 4)), np.zeros((6, 3))),
    ],
)
def test_what_has_no_rows_to_take(key: str, value: np.ndarray, initial: np.ndarray) -> None:
    assert take_class_rows(key, value, initial, file_names=["a", "b", "c"], model_names=["c", "a"]) is None


# Conventions.


def test_2020_weights_do_not_go_into_a_normal_model_for_evaluation() -> None:
    with pytest.raises(WeightsError, match=r"'dygraph2020' box conventions.*`conventions: dygraph2020`"):
        load_weights(_Tree(SHAPES), _file(_filled(SHAPES), conventions="dygraph2020"))


def test_finetuning_from_2020_weights_leaves_the_box_predictors() -> None:
    model, state = _Tree(SHAPES), _filled(SHAPES)
    report = load_weights(model, _file(state, conventions="dygraph2020"), purpose=Purpose.FINETUNE)
    assert set(report.missing) == {"rpn_head.rpn_rois_delta.weight", "bbox_head.bbox_delta.bias"}
    assert any("conventions" in note for note in report.notes)
    assert report.conventions == "dygraph2020"
    np.testing.assert_array_equal(
        model.state_dict()["bbox_head.bbox_score.bias"].numpy(), state["bbox_head.bbox_score.bias"]
    )
    assert (model.state_dict()["bbox_head.bbox_delta.bias"].numpy() == -1).all()


def test_conventions_that_only_the_config_knows_are_noted() -> None:
    model = _Tree(SHAPES)
    model.conventions = box_conventions("dygraph2020")  # type: ignore[assignment]  # any attribute
    report = load_weights(model, _file(_filled(SHAPES)))
    assert any("'dygraph2020'" in note and "config" in note for note in report.notes)
    assert load_weights(model, _file(_filled(SHAPES), conventions="dygraph2020")).notes == ()


# Matching.


def test_bare_backbone_files_match_by_suffix() -> None:
    matched = match_keys(["backbone.res2.a.weight", "neck.x"], ["res2.a.weight", "fc.weight"])
    assert matched == {"backbone.res2.a.weight": "res2.a.weight"}


def test_the_longest_name_wins() -> None:
    assert match_keys(["a.b.c.w"], ["c.w", "b.c.w"]) == {"a.b.c.w": "b.c.w"}
    assert match_keys(["a.b.c.w"], ["b.c.w", "a.b.c.w"]) == {"a.b.c.w": "a.b.c.w"}


def test_res5_of_a_backbone_feeds_the_head_of_c4() -> None:
    model = ["backbone.res4.x.weight", "bbox_head.head.res5.res5a.weight"]
    matched = match_keys(model, ["backbone.res4.x.weight", "backbone.res5.res5a.weight"])
    assert matched["bbox_head.head.res5.res5a.weight"] == "backbone.res5.res5a.weight"


def test_res5_of_a_pyramid_stays_in_the_backbone() -> None:
    model = ["backbone.res5.res5a.weight", "other.res5.res5a.bias"]
    assert match_keys(model, ["backbone.res5.res5a.weight"]) == {
        "backbone.res5.res5a.weight": "backbone.res5.res5a.weight"
    }


def test_one_tensor_for_two_places_is_an_error() -> None:
    with pytest.raises(WeightsError, match=r"'conv\.weight' fits two tensors of the model, 'a.*' and 'b"):
        match_keys(["a.conv.weight", "b.conv.weight"], ["conv.weight"])


def test_a_leaf_alone_matches_nothing() -> None:
    assert match_keys(["a.conv.weight"], ["weight"]) == {}


# The table on the screen.


def test_table_counts_and_groups(caplog: pytest.LogCaptureFixture) -> None:
    file_shapes = {**SHAPES, "bbox_head.bbox_score.weight": (2, 6), "bbox_head.bbox_score.bias": (6,)}
    file_shapes.update({f"mask_head.layer{i}.weight": (1,) for i in range(50)})
    with caplog.at_level(logging.INFO, logger="ppdet"):
        report = load_weights(_Tree(SHAPES), _file(_filled(file_shapes)), purpose=Purpose.FINETUNE)
    text = report.table()
    assert "22 loaded, 0 converted, 0 reshaped, 50 skipped, 2 missing" in text
    assert "file has [2, 6], model [2, 4]" in text
    assert "mask_head.* (50)" in text or "mask_head" in text
    assert len(text.splitlines()) < 20
    assert text in caplog.text


def test_table_has_a_limit() -> None:
    shapes = {f"layer{i}.{j}.weight": (1,) for i in range(12) for j in range(8)}
    report = load_weights(_Tree(SHAPES), _file({**_filled(SHAPES), **_filled(shapes)}))
    assert "... and" in report.table(max_rows=3)


def test_categories_give_the_names() -> None:
    """What callers pass as class names is what `Categories` holds."""
    report = load_weights(
        _Tree(SHAPES),
        _file(_filled(SHAPES), class_names=("a", "b", "c")),
        class_names=Categories.from_names(["a", "b", "c"]).names,
    )
    assert report.notes == ()
    assert report.class_names == ("a", "b", "c")
    assert _outcomes(report)["bbox_head.bbox_score.bias"] is Outcome.LOADED
