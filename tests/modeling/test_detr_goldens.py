"""Protects the parts of query detectors against single operations of the reference: attention, positions,
matching, denoising, losses with their gradients, decoding, and the blocks of PP-HGNetV2.
"""

from __future__ import annotations

import functools

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn

from ppdet.modeling.assign.hungarian import HungarianMatcher
from ppdet.modeling.backbones.hgnet_v2 import HGStage, HGStem, StagePlan
from ppdet.modeling.heads.detr import DETRPostProcess
from ppdet.modeling.layers.attention import DeformableAttention, SelfAttention, star_offsets
from ppdet.modeling.layers.transformer_layer import TransformerLayer, grid_positions
from ppdet.modeling.losses.detr import DINOLoss
from ppdet.modeling.queries import DenoisingOutputs, QueryOutputs, QueryPredictions, QueryTargets
from ppdet.modeling.transformers.denoising import (
    DenoisingDraws,
    attention_mask,
    denoising_queries,
    number_of_groups,
)
from ppdet.modeling.transformers.rtdetr import grid_anchors
from ppdet.ops.deformable import deformable_sampling
from ppdet.ops.normalized_boxes import inverse_sigmoid
from tests.support import load_golden

Arrays = dict[str, np.ndarray]


@functools.cache
def units() -> Arrays:
    arrays, _ = load_golden("modern_units")
    return {key: arrays[key] for key in arrays.files if key != "meta"}


def close(actual: Tensor, key: str, share: float = 1e-5) -> None:
    """Equal within a share of the golden's largest value."""
    expected = units()[key]
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=share * np.abs(expected).max())


def given(layer: nn.Layer, unit: str) -> nn.Layer:
    """A layer with the golden's parameters, in evaluation mode."""
    prefix = f"{unit}/param/"
    state = {key.removeprefix(prefix): units()[key] for key in units() if key.startswith(prefix)}
    missing, unexpected = layer.set_state_dict(state)
    assert not missing
    assert not unexpected
    layer.eval()
    return layer


def tensor(key: str, *, gradient: bool = False) -> Tensor:
    return paddle.to_tensor(units()[key], stop_gradient=not gradient)


def test_deformable_sampling_and_its_gradients() -> None:
    names = ("value", "locations", "weights")
    value, locations, weights = (tensor(f"deformable_core/{name}", gradient=True) for name in names)
    grids = [tuple(row) for row in units()["deformable_core/shapes"].tolist()]
    out = deformable_sampling(value, grids, locations, weights)
    close(out, "deformable_core/out")
    out.sum().backward()
    for name, x in zip(names, (value, locations, weights)):
        close(x.grad, f"deformable_core/grad_{name}", 1e-4)


def test_deformable_attention() -> None:
    layer = DeformableAttention(32, 4, 3, 4)
    bias = units()["deformable_module/initial_offset_bias"]
    np.testing.assert_allclose(layer.sampling_offsets.bias.numpy(), bias, rtol=0, atol=1e-6)
    assert len(star_offsets(4, 3, 4)) == 96
    given(layer, "deformable_module")
    query, memory, reference = (
        tensor(f"deformable_module/{name}") for name in ("query", "memory", "reference")
    )
    grids = [tuple(row) for row in units()["deformable_core/shapes"].tolist()]
    close(layer(query, reference, memory, grids), "deformable_module/out")


def test_self_attention() -> None:
    layer = given(SelfAttention(32, 4), "mha")
    query = tensor("mha/query")
    close(layer(query, query), "mha/out")
    seen = units()["mha/mask"]
    mask = paddle.to_tensor(np.where(seen, 0, -1e4).astype(np.float32))
    close(layer(query, query, mask), "mha/out_masked")


def test_encoder_layer_and_positions() -> None:
    layer = given(TransformerLayer(d_model=32, nhead=4, dim_feedforward=64, activation="gelu"), "aifi_layer")
    close(layer(tensor("aifi_layer/source"), tensor("aifi_layer/position")), "aifi_layer/out")
    close(grid_positions(2, 3, 16), "position_embedding/w3_h2_dim16")
    flat = grid_positions(10, 10, 256).numpy().ravel()
    expected = units()["position_embedding/w10_h10_dim256"]
    step = max(1, flat.size // 2000) | 1
    np.testing.assert_allclose(flat[::step][:2000], expected, rtol=0, atol=1e-5)


def test_inverse_sigmoid() -> None:
    close(inverse_sigmoid(tensor("inverse_sigmoid/x")), "inverse_sigmoid/y")


def targets_of(prefix: str, images: int, *, only: int | None = None) -> QueryTargets:
    """Objects of a golden; of `only` one image, the others being empty, or of none for -1."""
    rows = [
        (units()[f"{prefix}gt_bbox{i}"], units()[f"{prefix}gt_class{i}"].ravel())
        if only is None or only == i
        else (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        for i in range(images)
    ]
    most = max(1, *(len(labels) for _, labels in rows))
    boxes, labels = np.zeros((images, most, 4), np.float32), np.zeros((images, most), np.int64)
    valid = np.zeros((images, most), bool)
    for i, (box, label) in enumerate(rows):
        boxes[i, : len(box)], labels[i, : len(box)], valid[i, : len(box)] = box, label, True
    return QueryTargets(*(paddle.to_tensor(x) for x in (boxes, labels, valid)))


def test_matcher() -> None:
    matcher = HungarianMatcher()
    targets = targets_of("matcher/", 2)
    boxes, logits = tensor("matcher/boxes"), tensor("matcher/logits")
    last = QueryPredictions(logits[-1], boxes[-1])
    costs, parts = matcher.costs(last, targets).numpy(), matcher.parts(last, targets)
    matches = matcher([last], targets).numpy()[0]
    for i, count in enumerate((4, 1)):
        np.testing.assert_allclose(costs[i, :, :count], units()[f"matcher/cost{i}"], rtol=1e-5, atol=1e-5)
        for part, values in parts.items():
            expected = units()[f"matcher/part_{part}{i}"]
            np.testing.assert_allclose(values.numpy()[i, :, :count], expected, rtol=1e-5, atol=1e-5)
        queries, objects = units()[f"matcher/match{i}"]
        np.testing.assert_array_equal(matches[i][objects], queries)
        assert (matches[i][count:] == -1).all()


@pytest.mark.parametrize("unit", ["denoising_a", "denoising_b"])
def test_denoising(unit: str) -> None:
    arrays = units()
    targets = targets_of("denoising/", 3)
    valid = targets.valid.numpy()
    groups = number_of_groups(int(arrays[f"{unit}/num_denoising"]), valid.shape[1])
    assert groups == arrays[f"{unit}/groups"]
    repeated = np.tile(valid, [1, 2 * groups])
    flips = arrays[f"{unit}/label_flip"].reshape(repeated.shape)
    labels = np.zeros(flips.shape, np.int64)
    labels[(flips < 0.25) & repeated] = arrays[f"{unit}/new_label"]
    draws = DenoisingDraws(
        *(paddle.to_tensor(x) for x in (flips, labels)),
        paddle.to_tensor(arrays[f"{unit}/sign"].astype(np.float32)),
        tensor(f"{unit}/magnitude"),
    )
    made = denoising_queries(targets, draws, groups=groups, label_noise_ratio=0.5, box_noise_scale=1.0)
    close(made.box_logits, f"{unit}/bbox_unact", 1e-4)
    embedding = np.concatenate([arrays["denoising/embedding"], np.zeros((1, 8), np.float32)])
    shown = np.where(made.valid.numpy(), made.labels.numpy(), 6)
    np.testing.assert_array_equal(embedding[shown], arrays[f"{unit}/class_embed"])
    mask = attention_mask(groups, 2 * valid.shape[1], int(arrays[f"{unit}/num_queries"])).numpy()
    np.testing.assert_array_equal(mask == 0, arrays[f"{unit}/attn_mask"])


def test_losses_and_their_gradients() -> None:
    boxes, logits = (tensor(f"matcher/{name}", gradient=True) for name in ("boxes", "logits"))
    dn_boxes, dn_logits = (tensor(f"dino_loss/dn_{name}", gradient=True) for name in ("boxes", "logits"))
    sets = [QueryPredictions(logits[i], boxes[i]) for i in range(3)]
    shown = DenoisingOutputs(
        [QueryPredictions(dn_logits[i], dn_boxes[i]) for i in range(2)], int(units()["dino_loss/dn_groups"])
    )
    losses = DINOLoss()(QueryOutputs(sets[0], sets[1:], shown), targets_of("matcher/", 2))
    expected = {
        key.rpartition("/")[2]: float(units()[key]) for key in units() if key.startswith("dino_loss/loss/")
    }
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-5)
    paddle.add_n(list(losses.values())).backward()
    for name, x in (("boxes", boxes), ("logits", logits), ("dn_boxes", dn_boxes), ("dn_logits", dn_logits)):
        close(x.grad, f"dino_loss/grad_{name}")


@pytest.mark.parametrize(("unit", "only"), [("dino_loss_empty", -1), ("dino_loss_half_empty", 0)])
def test_losses_without_objects(unit: str, only: int) -> None:
    boxes, logits = tensor("matcher/boxes"), tensor("matcher/logits")
    sets = [QueryPredictions(logits[i], boxes[i]) for i in range(3)]
    losses = DINOLoss()(QueryOutputs(sets[0], sets[1:], None), targets_of("matcher/", 2, only=only))
    for name, value in losses.items():
        assert float(value) == pytest.approx(float(units()[f"{unit}/{name}"]), rel=1e-5), name
    assert len(losses) == 6


@pytest.mark.parametrize(
    ("unit", "grids"),
    [("square640", [(80, 80), (40, 40), (20, 20)]), ("h256_w320", [(32, 40), (16, 20), (8, 10)])],
)
def test_anchors(unit: str, grids: list[tuple[int, int]]) -> None:
    """Those of the reference have x and y divided by the other side, which shows only where they differ."""
    anchors = grid_anchors(grids).numpy()
    inside = ((anchors > 0.01) & (anchors < 0.99)).all(axis=1)
    if unit == "square640":
        ends = np.cumsum([0, *(h * w for h, w in grids)])
        counts = [inside[a:b].sum() for a, b in zip(ends, ends[1:])]
        assert counts == units()[f"rtdetr_anchors/{unit}/valid_count"].tolist()
        packed = np.packbits(inside)
        np.testing.assert_array_equal(packed, units()[f"rtdetr_anchors/{unit}/valid_packed"])
    else:
        assert inside.all()


def test_detections() -> None:
    arrays = units()
    sizes = [tensor(f"detr_post/{name}") for name in ("im_shape", "scale_factor")]
    predictions = QueryPredictions(tensor("matcher/logits")[-1], tensor("matcher/boxes")[-1])
    found = DETRPostProcess(num_top_queries=15)(predictions, paddle.zeros([2, 3, 320, 320]), *sizes)
    assert arrays["detr_post/num"].tolist() == [15, 15]
    original = np.floor(arrays["detr_post/im_shape"] / arrays["detr_post/scale_factor"] + 0.5)
    for i, rows in enumerate(arrays["detr_post/out"].reshape(2, 15, 6)):
        np.testing.assert_array_equal(found.labels[i].numpy(), rows[:, 0])
        np.testing.assert_allclose(found.scores[i].numpy(), rows[:, 1], rtol=1e-5)
        clipped = np.clip(rows[:, 2:], 0, np.tile(original[i, ::-1], 2))
        np.testing.assert_allclose(found.boxes[i].numpy(), clipped, rtol=0, atol=1e-2)


def test_blocks_of_hgnet() -> None:
    stem = given(HGStem(3, 8, 12, frozen=False, lr_mult=1.0), "hgnet_stem")
    close(stem(tensor("hgnet_stem/x")), "hgnet_stem/out")
    light = StagePlan(6, 10, blocks=2, downsample=True, light=True, kernel=5, layers=2)
    stage = given(HGStage(3, light, frozen=False, lr_mult=1.0), "hgnet_stage")
    close(stage(tensor("hgnet_stage/x")), "hgnet_stage/out")
    width = units()["hgnet_stage_plain/param/blocks.0.layers.0.conv.weight"].shape[0]
    out = units()["hgnet_stage_plain/out"].shape[1]
    layers = sum("blocks.0.layers" in key and key.endswith("conv.weight") for key in plain_keys())
    blocks = len({key.split("blocks.")[1][0] for key in plain_keys() if "blocks." in key})
    plain = StagePlan(width, out, blocks=blocks, downsample=False, light=False, kernel=3, layers=layers)
    stage = given(HGStage(3, plain, frozen=False, lr_mult=1.0), "hgnet_stage_plain")
    close(stage(tensor("hgnet_stage_plain/x")), "hgnet_stage_plain/out")


def plain_keys() -> list[str]:
    return [key for key in units() if key.startswith("hgnet_stage_plain/param/")]
