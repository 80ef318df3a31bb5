"""Protects PP-YOLOE+ against the reference: features, outputs, decoding, detections, both assigners, losses,
gradients, statistics, two optimiser steps and the moving average, from the same weights and images.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.config.spec import Spec
from ppdet.engine.ema import EmaSettings, ModelEma
from ppdet.modeling.assign.soft_targets import SoftTargets
from ppdet.modeling.backbones.csp_resnet import CSPResNet
from ppdet.modeling.detectors.ppyoloe import PPYOLOE
from ppdet.modeling.heads.ppyoloe import PointOutputs, PPYOLOEHead
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.modeling.losses.ppyoloe import PointPredictions, boxes_around, expected_distances
from ppdet.modeling.necks.csp_pan import CustomCSPPAN
from ppdet.modeling.post_process import DecodedBoxes, MultiClassNMS
from ppdet.modeling.reparameterize import for_inference
from ppdet.ops.boxes import paired_iou, pairwise_iou
from ppdet.structures import Batch, BatchTargets, DetectionTensors
from tests.parity.rcnn_support import golden, resized_image
from tests.support import SHARED, load_golden, reference_module, requires_shared

pytestmark = requires_shared

EVAL, TRAIN = "ppyoloe_plus_crn_s_80e_coco", "ppyoloe_plus_crn_s_80e_coco_train"
units = functools.lru_cache(maxsize=1)(lambda: load_golden("modern_units")[0])
#: Parameters whose gradients the runs with objects in both images hold.
SAMPLED_GRADIENTS = 13
RUNS = ("atss", "tal", "nogt_atss", "nogt_tal", "empty_atss", "empty_tal")


def new_model() -> PPYOLOE:
    size = {"width_mult": 0.5, "depth_mult": 0.33}
    with without_random_weights():
        model = PPYOLOE(
            num_classes=80,
            backbone=Spec.of(CSPResNet, use_alpha=True, **size),
            neck=Spec.of(CustomCSPPAN, **size),
            yolo_head=Spec.of(PPYOLOEHead, static_assigner_epoch=30),
        )
    tensor = reference_module("modern_weights").reference_tensor
    state = {key: tensor(key, value.shape) for key, value in model.state_dict().items()}
    assert model.set_state_dict(state) == ([], [])
    return model


@functools.lru_cache(maxsize=1)
def evaluated() -> PPYOLOE:
    model = new_model()
    model.eval()
    return model


def images_of(names: list[str]) -> paddle.Tensor:
    images = [resized_image("yolo", name.removeprefix("yolo_")) for name in names]
    scaled = np.stack([i.astype(np.float32) * np.float32(1 / 255) for i in images])
    return paddle.to_tensor(scaled.transpose(0, 3, 1, 2).copy())


def eval_images(variant: str) -> paddle.Tensor:
    """``main``: both; ``rect``: 256 rows of the first; ``size640``: every pixel of the second doubled."""
    images = images_of(golden(EVAL)[1]["inputs"])
    if variant == "rect":
        return images[:1, :, 32:288]
    if variant == "size640":
        return images[1:].repeat_interleave(2, axis=2).repeat_interleave(2, axis=3)
    return images


def assert_sampled(actual: paddle.Tensor, key: str, tolerance: float = 1e-3, name: str = EVAL) -> None:
    """Error of the sampled values in standard deviations of the tensor."""
    arrays, _ = golden(name)
    assert actual.shape == arrays[f"{key}/shape"].tolist(), key
    sample = arrays[f"{key}/sample"]
    values = actual.numpy().reshape(-1)
    # The number of samples is in the file; the stride follows from it.
    for count in (64, 200, 500, 1000, 2000):
        ours = reference_module("modern_weights").sample_values(values, count)
        if len(ours) == len(sample):
            error = np.abs(ours - sample).max() / arrays[f"{key}/stats"][1]
            assert error <= tolerance, f"{key}: {error:.1e} standard deviations"
            return
    raise AssertionError(f"{key}: no stride gives {len(sample)} samples of {values.size} values")


def test_keys_shapes_and_order() -> None:
    published = json.loads((SHARED / f"keys/{EVAL}.g2.json").read_text())
    entries = [(key, list(value.shape)) for key, value in evaluated().state_dict().items()]
    assert entries == list(published.items())


@functools.lru_cache(maxsize=4)
def eval_outputs(variant: str) -> tuple[list[paddle.Tensor], list[paddle.Tensor], PointOutputs]:
    model = evaluated()
    with paddle.no_grad():
        maps = model.backbone(eval_images(variant))
        features = model.neck(maps)
        return maps, features, model.yolo_head(features)


def test_features_and_outputs() -> None:
    maps, features, outputs = eval_outputs("main")
    head = evaluated().yolo_head
    for i in range(3):
        assert_sampled(maps[i], f"backbone/{i}")
        assert_sampled(features[i], f"neck/{i}")
        average = features[i].mean(axis=[2, 3], keepdim=True)
        assert_sampled(head.stem_cls[i](features[i], average), f"stem_cls/{i}")
        assert_sampled(head.stem_reg[i](features[i], average), f"stem_reg/{i}")
        assert_sampled(outputs.class_logits[i], f"cls_logits/{i}")
        assert_sampled(outputs.box_logits[i], f"reg_logits/{i}")


@pytest.mark.parametrize("prefix", ["", "rect/"])
def test_decoding(prefix: str) -> None:
    arrays, _ = golden(EVAL)
    head, outputs = evaluated().yolo_head, eval_outputs(prefix.rstrip("/") or "main")[2]
    points = head.points(outputs)
    np.testing.assert_array_equal(points.centres.numpy(), arrays[f"{prefix}anchor_points"])
    np.testing.assert_array_equal(points.strides.numpy(), arrays[f"{prefix}stride_tensor"])
    predictions = head.predictions(outputs, points)
    boxes = (predictions.boxes * points.strides).numpy()
    np.testing.assert_allclose(boxes, arrays[f"{prefix}boxes_input_pixels"], rtol=0, atol=0.05)
    distances = expected_distances(predictions.box_logits, head.proj_conv.weight.flatten())
    assert_sampled(distances, f"{prefix}distances")
    scores = paddle.nn.functional.sigmoid(predictions.class_logits)
    best = arrays[f"{prefix}score_max"]
    np.testing.assert_allclose(scores.max(axis=-1).numpy(), best, rtol=0, atol=1e-4)
    # Where two classes are as good to 1e-4, either may be the best.
    chosen = paddle.take_along_axis(
        scores, paddle.to_tensor(arrays[f"{prefix}score_argmax"].astype(np.int64)).unsqueeze(-1), axis=2
    )
    np.testing.assert_allclose(chosen.squeeze(-1).numpy(), best, rtol=0, atol=1e-4)


def rows_of(found: DetectionTensors, image: int) -> np.ndarray:
    """Label, score, x1, y1, x2, y2."""
    labels = found.labels[image].numpy()
    kept = labels >= 0
    scores = found.scores[image].numpy()
    assert (np.diff(scores[kept]) <= 0).all()
    return np.concatenate([labels[kept, None], scores[kept, None], found.boxes[image].numpy()[kept]], axis=1)


def assert_same_detections(found: DetectionTensors, prefix: str) -> None:
    """Ours are clipped to the image, the reference's are not; everything else agrees, in whatever order."""
    arrays, _ = golden(EVAL)
    sizes_key = "" if prefix == "deploy/" else prefix  # the same images
    sizes, scales = arrays[f"{sizes_key}im_shape"], arrays[f"{sizes_key}scale_factor"]
    ends = np.cumsum(arrays[f"{prefix}bbox_num"])
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends)):
        expected = arrays[f"{prefix}bbox"][start:end].copy()
        height, width = np.floor(sizes[i] / scales[i] + 0.5)
        expected[:, 2:] = np.clip(expected[:, 2:], 0, [width, height, width, height])
        rows = rows_of(found, i)
        close = (
            (rows[:, None, 0] == expected[None, :, 0])
            & (np.abs(rows[:, None, 1] - expected[None, :, 1]) <= 1e-4)
            & (np.abs(rows[:, None, 2:] - expected[None, :, 2:]).max(axis=2) <= 0.05)
        )
        lowest = expected[:, 1].min() if len(expected) == 300 else 0.01
        for side, matched in ((rows, close.any(axis=1)), (expected, close.any(axis=0))):
            excused = np.abs(side[:, 1] - lowest) <= 1e-4
            assert (matched | excused).all(), f"no partner: {side[~matched & ~excused]}"
        assert matched.mean() > 0.98


@pytest.mark.parametrize("prefix", ["", "rect/", "size640/"])
def test_detections(prefix: str) -> None:
    arrays, _ = golden(EVAL)
    outputs = eval_outputs(prefix.rstrip("/") or "main")[2]
    sizes, scales = (paddle.to_tensor(arrays[prefix + key]) for key in ("im_shape", "scale_factor"))
    with paddle.no_grad():
        assert_same_detections(evaluated().yolo_head.decode(outputs, sizes, scales), prefix)


def test_a_batch_gives_what_single_images_give() -> None:
    arrays, _ = golden(EVAL)
    images, sizes, scales = eval_images("main"), arrays["im_shape"], arrays["scale_factor"]
    together = evaluated().detect(images, paddle.to_tensor(sizes), paddle.to_tensor(scales))
    for i in range(2):
        one = slice(i, i + 1)
        alone = evaluated().detect(images[one], paddle.to_tensor(sizes[one]), paddle.to_tensor(scales[one]))
        np.testing.assert_allclose(rows_of(alone, 0), rows_of(together, i), rtol=0, atol=0.01)


def test_reparameterised() -> None:
    arrays, meta = golden(EVAL)
    twin = for_inference(evaluated())
    state = twin.state_dict()
    before = set(evaluated().state_dict())
    assert sorted(set(state) - before) == sorted(meta["info"]["deploy"]["added_keys"])
    samples = [key for key in arrays if key.startswith("deploy/param/")]
    assert samples
    for key in samples:
        values = state[key.removeprefix("deploy/param/")].numpy()
        ours = reference_module("modern_weights").sample_values(values, 200)
        np.testing.assert_allclose(ours, arrays[key], rtol=0, atol=1e-5 * np.abs(arrays[key]).max())
    assert twin.neck is not None
    with paddle.no_grad():
        features = twin.neck(twin.backbone(eval_images("main")))
        for i in range(3):
            assert_sampled(features[i], f"deploy/neck/{i}")
        sizes, scales = (paddle.to_tensor(arrays[key]) for key in ("im_shape", "scale_factor"))
        assert_same_detections(twin.yolo_head.decode(twin.yolo_head(features), sizes, scales), "deploy/")


def train_batch(run: str) -> Batch:
    arrays, meta = golden(TRAIN)
    boxes = arrays[f"{run}/gt/bbox"]
    real = arrays[f"{run}/gt/pad_gt_mask"][..., 0] > 0
    labels = np.where(real, arrays[f"{run}/gt/class"][..., 0], -1).astype(np.int64)
    if boxes.shape[1] == 0:  # batches have one row at least
        boxes, labels = np.zeros((2, 1, 4), np.float32), np.full((2, 1), -1)
    return Batch(
        images=images_of(meta["runs"][run]["inputs"]),
        image_sizes=paddle.full([2, 2], 320.0),
        scale_factors=paddle.ones([2, 2]),
        image_ids=(0, 1),
        paths=("a", "b"),
        targets=BatchTargets(
            boxes=paddle.to_tensor(boxes),
            labels=paddle.to_tensor(labels),
            is_crowd=paddle.zeros(labels.shape, dtype="bool"),
            weights=paddle.ones(labels.shape),
        ),
    )


def watched(model: PPYOLOE) -> dict[str, Any]:
    """What the head assigns and predicts in its next step."""
    seen: dict[str, Any] = {}
    head = model.yolo_head
    assign, losses = head._assign, head._losses

    def keep_assigned(*arguments: Any) -> SoftTargets:
        seen["assigned"] = assign(*arguments)
        return seen["assigned"]

    def keep_predictions(predictions: PointPredictions, *arguments: Any) -> dict[str, paddle.Tensor]:
        seen["predictions"] = predictions
        return losses(predictions, *arguments)

    head._assign, head._losses = keep_assigned, keep_predictions  # type: ignore[method-assign]  # of this model
    return seen


def parameters_of(model: PPYOLOE) -> dict[str, paddle.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.trainable}


#: `loss` of the reference is their weighted sum; its entries are unweighted, ours are weighted.
WEIGHTS = {"loss_cls": 1.0, "loss_iou": 2.5, "loss_dfl": 0.5}


def assert_losses(losses: dict[str, paddle.Tensor], prefix: str, tolerance: float = 1e-4) -> None:
    arrays, _ = golden(TRAIN)
    assert set(losses) == set(WEIGHTS)
    for name, weight in WEIGHTS.items():
        expected = weight * float(arrays[f"{prefix}/{name}"])
        assert float(losses[name]) == pytest.approx(expected, rel=tolerance), name
    total = sum(float(loss) for loss in losses.values())
    assert total == pytest.approx(float(arrays[f"{prefix}/loss"]), rel=tolerance)


def assert_assigned(seen: dict[str, Any], run: str) -> None:
    arrays, _ = golden(TRAIN)
    assigned = seen["assigned"]
    np.testing.assert_array_equal(assigned.labels.numpy(), arrays[f"{run}/assign/labels"])
    positive = tuple(arrays[f"{run}/assign/index"].T)
    np.testing.assert_array_equal(assigned.gt_index.numpy()[positive], arrays[f"{run}/assign/gt"])
    np.testing.assert_array_equal(assigned.boxes.numpy()[positive], arrays[f"{run}/assign/boxes"])
    np.testing.assert_allclose(
        assigned.scores.numpy()[positive], arrays[f"{run}/assign/score"], rtol=0, atol=1e-3
    )
    if f"{run}/pred_boxes" in arrays:
        strides = paddle.to_tensor(arrays["stride_tensor"])
        boxes = (seen["predictions"].boxes * strides).numpy()
        np.testing.assert_allclose(boxes, arrays[f"{run}/pred_boxes"], rtol=0, atol=0.05)
        # The reference logs it and leaves it out of the loss; we do not compute it.
        l1 = np.abs(boxes[positive] - arrays[f"{run}/assign/boxes"]) / strides.numpy()[positive[1]]
        assert l1.mean() == pytest.approx(float(arrays[f"{run}/loss/loss_l1"]), rel=1e-4)


def assert_gradients(model: PPYOLOE, run: str) -> None:
    arrays, meta = golden(TRAIN)
    gradients = {k: v.grad.numpy() for k, v in model.named_parameters() if v.grad is not None}
    assert list(gradients) == meta["grad_names"][run]
    norms = np.array([np.linalg.norm(g.astype(np.float64)) for g in gradients.values()])
    expected = arrays[f"{run}/grad_norms"]
    np.testing.assert_array_equal(norms[expected == 0], 0)
    # The gradient of an `alpha` is one number, the sum of a whole map, whose terms nearly cancel in some:
    # it is exact to rounding of the terms, so the smallest are measured against the largest.
    is_alpha = np.array([name.endswith("alpha") for name in gradients])
    scale = np.where(is_alpha, np.maximum(expected, 0.1 * expected[is_alpha].max()), expected)
    relative = np.abs(norms - expected)[expected > 0] / scale[expected > 0]
    worst = list(np.array(list(gradients))[expected > 0])[int(relative.argmax())]
    assert relative.max() <= 5e-3, f"{worst}: {relative.max():.1e}"
    assert np.median(relative) <= 1e-4
    assert np.linalg.norm(norms) == pytest.approx(float(arrays[f"{run}/grad_norm_total"]), rel=1e-3)
    sampled = [key for key in arrays if key.startswith(f"{run}/grad/")]
    for key in sampled:
        ours = reference_module("modern_weights").sample_values(gradients[key.split("/", 2)[2]], 100)
        error = np.sqrt(np.mean((ours - arrays[key]) ** 2)) / max(np.sqrt(np.mean(arrays[key] ** 2)), 1e-30)
        assert error <= 5e-3 or not arrays[key].any(), f"{key}: {error:.1e}"
    assert len(sampled) == (0 if run.startswith(("nogt", "empty")) else SAMPLED_GRADIENTS)


def assert_statistics(model: PPYOLOE, run: str) -> None:
    arrays, meta = golden(TRAIN)
    state = model.state_dict()
    means = [float(state[name].numpy().mean(dtype=np.float64)) for name in meta["bn_names"]]
    np.testing.assert_allclose(means, arrays[f"{run}/after_step/means"], rtol=1e-4, atol=1e-4)
    for key in arrays:
        if key.startswith(f"{run}/after_step/") and not key.endswith("/means"):
            ours = reference_module("modern_weights").sample_values(state[key.split("/", 2)[2]].numpy(), 64)
            np.testing.assert_allclose(ours, arrays[key], rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_assignment_losses_gradients_and_statistics(run: str) -> None:
    model = new_model()
    model.train()
    model.begin_epoch(golden(TRAIN)[1]["runs"][run]["epoch_id"])
    seen = watched(model)
    losses = model(train_batch(run))
    assert_losses(losses, f"{run}/loss")
    assert_assigned(seen, run)
    paddle.add_n(list(losses.values())).backward()
    assert_gradients(model, run)
    assert_statistics(model, run)


@pytest.mark.slow
def test_two_optimiser_steps_and_the_moving_average() -> None:
    arrays, meta = golden(TRAIN)
    sample = reference_module("modern_weights").sample_values
    model = new_model()
    model.train()
    parameters = parameters_of(model)
    start = {name: p.numpy().copy() for name, p in parameters.items()}
    optimizer = paddle.optimizer.Momentum(
        0.001, 0.9, parameters=list(parameters.values()), weight_decay=paddle.regularizer.L2Decay(5e-4)
    )
    ema = ModelEma(EmaSettings(black_list=["proj_conv.weight"]), model)
    batch = train_batch("atss")
    for step in range(2):
        losses = model(batch)
        assert_losses(losses, f"optimise/step{step}", tolerance=1e-2 if step else 1e-4)
        paddle.add_n(list(losses.values())).backward()
        optimizer.step()
        optimizer.clear_grad()
        ema.update()
        changes = [p.numpy() - start[name] for name, p in parameters.items()]
        norms = [np.linalg.norm(change.astype(np.float64)) for change in changes]
        np.testing.assert_allclose(norms, arrays[f"optimise/delta_norms{step + 1}"], rtol=1e-2, atol=1e-6)
        prefix = f"optimise/delta{step + 1}/"
        for key in (k for k in arrays if k.startswith(prefix)):
            name = key.removeprefix(prefix)
            ours = sample(parameters[name].numpy() - start[name], 40)
            # A change is a difference of two float32 weights: some are a few units in their last place.
            limit = 1e-2 * np.abs(arrays[key]).max() + 2 * np.spacing(np.abs(start[name]).max())
            np.testing.assert_allclose(ours, arrays[key], rtol=0, atol=limit, err_msg=key)
    averaged = ema.averaged()
    for key in (k for k in arrays if k.startswith("optimise/ema/")):
        ours = sample(averaged[key.removeprefix("optimise/ema/")].numpy(), 40)
        np.testing.assert_allclose(
            ours, arrays[key], rtol=0, atol=1e-4 * np.abs(arrays[key]).max(), err_msg=key
        )
    assert list(parameters) == meta["grad_names"]["atss"]


# Units


def close(actual: paddle.Tensor, key: str) -> None:
    expected = units()[key]
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_unit_boxes() -> None:
    predicted = paddle.to_tensor(units()["giou/pred"])
    predicted.stop_gradient = False
    targets = paddle.to_tensor(units()["giou/gt"])
    # Rows 0 to 4 are degenerate: there the reference divides by its epsilon, we by ours.
    loss = 1 - paired_iou(predicted, targets, kind="giou")
    expected = units()["giou/loss"][:, 0]
    np.testing.assert_allclose(loss.numpy()[5:], expected[5:], rtol=0, atol=1e-5 * expected.max())
    assert paddle.isfinite(loss).all()
    loss.sum().backward()
    gradient = units()["giou/grad"]
    assert predicted.grad is not None
    assert paddle.isfinite(predicted.grad).all()
    np.testing.assert_allclose(
        predicted.grad.numpy()[5:], gradient[5:], rtol=0, atol=1e-5 * np.abs(gradient[5:]).max()
    )
    close(pairwise_iou(predicted[:12], targets[:12]), "giou/pairwise_iou")


def test_unit_distances() -> None:
    logits = paddle.to_tensor(units()["decode/distribution"]).reshape([2, 5, 4, 17])
    distances = expected_distances(logits, paddle.arange(17, dtype="float32"))
    close(boxes_around(paddle.to_tensor(units()["decode/points"]), distances), "decode/boxes")
    points, distances = (paddle.to_tensor(units()[f"distance2bbox/{key}"]) for key in ("points", "distances"))
    close(boxes_around(points, distances), "distance2bbox/boxes")


@pytest.mark.parametrize("case", ["nms", "nms_small", "nms_none"])
def test_unit_nms(case: str) -> None:
    """Compared as sets of rows within each image."""
    boxes = paddle.to_tensor(units()["nms/boxes"]).unsqueeze(2)
    scores = paddle.to_tensor(units()["nms/scores"]).transpose([0, 2, 1])
    assert boxes.shape[:2] == scores.shape[:2]
    keep, overlap = (100, 0.5) if case == "nms_small" else (300, 0.7)
    nms = MultiClassNMS(
        score_threshold=2.0 if case == "nms_none" else 0.01,
        nms_top_k=1000,
        keep_top_k=keep,
        nms_threshold=overlap,
    )
    found = nms(DecodedBoxes(boxes, scores))
    ends = np.cumsum(units()[f"{case}/num"])
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends)):
        expected = units()[f"{case}/out"][start:end]
        rows = rows_of(found, i)
        assert len(rows) == len(expected)
        for side in (rows, expected):
            side[:] = side[np.lexsort(side.T)]
        np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-4)
