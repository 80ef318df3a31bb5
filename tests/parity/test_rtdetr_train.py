"""Protects RT-DETR's training against the reference: matches, losses of every layer, gradients, statistics,
denoising queries, images without objects, parameter groups, schedule, optimiser steps and moving average.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet import build_model, load_config
from ppdet.engine.ema import EmaSettings, ModelEma
from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.modeling.losses.detr import DINOLoss, denoising_pairs, matched_pairs
from ppdet.modeling.queries import QueryOutputs, QueryTargets
from ppdet.modeling.transformers import denoising, rtdetr
from ppdet.modeling.transformers.denoising import DenoisingDraws, denoising_queries
from ppdet.modeling.transformers.rtdetr import Selection
from ppdet.structures import Batch, BatchTargets
from tests.parity.rtdetr_support import (
    Arrays,
    assert_sample,
    golden,
    images_of,
    load_weights,
    model_of,
    order_of,
    ordered,
)
from tests.support import GOLDENS, ROOT, reference_module, requires_shared

pytestmark = requires_shared

R18, R50 = "rtdetr_r18vd_6x_coco", "rtdetr_r50vd_6x_coco"
SLOW = pytest.mark.slow
RUNS = [
    (R18, "denoise"),
    *(pytest.param(R18, run, marks=SLOW) for run in ("main", "nogt", "nogt_denoise", "empty")),
    *(pytest.param(R50, run, marks=SLOW) for run in ("main", "denoise")),
]
#: Tolerances of MODERN.md, section 7: boxes (0..1), decoder logits, norms of gradients.
LIMITS = {R18: (1e-4, 1e-3, 5e-3), R50: (5e-4, 5e-3, 3e-2)}
#: Zero in exact arithmetic, since a normalisation by batch statistics follows.
ROUNDING = {
    "neck.input_proj.0.1.bias",
    "neck.input_proj.1.1.bias",
    "neck.encoder.0.layers.0.norm2.bias",
}


def batch_of(arrays: Arrays, run: str, files: list[str]) -> Batch:
    labels = [arrays[f"{run}/gt/{i}/class"].ravel() for i in range(2)]
    most = max(1, *(len(rows) for rows in labels))
    boxes, classes = np.zeros((2, most, 4), np.float32), np.full((2, most), -1, np.int64)
    for i, rows in enumerate(labels):
        centre, size = np.split(arrays[f"{run}/gt/{i}/bbox"].astype(np.float64) * 320, 2, axis=1)
        boxes[i, : len(rows)] = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        classes[i, : len(rows)] = rows
    targets = BatchTargets(
        boxes=paddle.to_tensor(boxes),
        labels=paddle.to_tensor(classes),
        is_crowd=paddle.zeros([2, most], "bool"),
        weights=paddle.ones([2, most]),
    )
    sizes = paddle.full([2, 2], 320.0)
    return Batch(images_of(files), sizes, paddle.ones([2, 2]), (0, 1), ("a", "b"), targets)


def draws_of(arrays: Arrays, prefix: str, flip: str, valid: np.ndarray, ratio: float) -> DenoisingDraws:
    """The golden's draws; its new labels are those of the flipped queries only, in order."""
    images, queries = valid.shape
    flips = arrays[f"{prefix}/{flip}"].reshape(images, queries)
    labels = np.zeros((images, queries), np.int64)
    labels[(flips < ratio / 2) & valid] = arrays[f"{prefix}/new_label"]
    return DenoisingDraws(
        paddle.to_tensor(flips),
        paddle.to_tensor(labels),
        paddle.to_tensor(arrays[f"{prefix}/sign"].astype(np.float32)),
        paddle.to_tensor(arrays[f"{prefix}/magnitude"]),
    )


class Step:
    """A training step on the batch of a golden run, and what its parts put out."""

    def __init__(self, model: DETR, arrays: Arrays, meta: dict[str, Any], run: str) -> None:
        batch = batch_of(arrays, run, meta["runs"][run]["inputs"])
        assert batch.targets is not None
        self.arrays, self.run = arrays, run
        self.targets = QueryTargets.of(batch.targets, batch.images)
        self.features = model.backbone(batch.images)
        self.neck = model.neck(self.features)
        transformer = model.transformer
        transformer._num_denoising = meta["runs"][run]["num_denoising"]
        select = transformer.select
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rtdetr.DenoisingDraws, "of", self._draws)
            patch.setattr(transformer, "select", lambda memory: self._keep(select(memory)))
            self.outputs: QueryOutputs = transformer.train_outputs(self.neck, self.targets)
        self.loss = model.detr_head.loss

    def _keep(self, selection: Selection) -> Selection:
        self.selection = selection
        return selection

    def _draws(self, images: int, queries: int, num_classes: int) -> DenoisingDraws:
        assert num_classes == 80
        if f"{self.run}/dn/groups" not in self.arrays:  # no objects in the batch
            zeros = paddle.zeros([images, queries])
            return DenoisingDraws(zeros, zeros.astype("int64"), zeros.unsqueeze(-1), zeros.unsqueeze(-1))
        valid = self.targets.valid.numpy()
        repeated = np.tile(valid, [1, queries // valid.shape[1]])
        return draws_of(self.arrays, f"{self.run}/dn/draw", "label_flip", repeated, 0.5)


def check_outputs(step: Step, config: str) -> None:
    arrays, run = step.arrays, step.run
    boxes, loose, _ = LIMITS[config]
    for i in range(3):
        assert_sample(step.features[i], arrays, f"{run}/backbone/{i}", 1e-3)
        assert_sample(step.neck[i], arrays, f"{run}/neck/{i}", 1e-3)
    order = order_of(step.selection, arrays[f"{run}/enc/topk_index"])
    sets = {"enc": step.outputs.encoder, **{f"dec{i}": one for i, one in enumerate(step.outputs.layers)}}
    for name, one in sets.items():
        key = f"{run}/enc/topk_" if name == "enc" else f"{run}/dec/{name[3:]}/"
        assert_sample(ordered(one.logits, order), arrays, f"{key}logits", loose)
        if f"{key}boxes" in arrays:
            np.testing.assert_allclose(ordered(one.boxes, order), arrays[f"{key}boxes"], rtol=0, atol=boxes)
        else:
            assert_sample(ordered(one.boxes, order), arrays, f"{key}boxes", 1e-3)
    matches = step.loss.matcher(list(sets.values()), step.targets).numpy()
    for name, match in zip(sets, matches):
        for i in range(2):
            queries, objects = arrays[f"{run}/match/{name}/{i}"]
            ours = match[i][match[i] >= 0]
            assert len(ours) == len(objects)
            np.testing.assert_array_equal(match[i][objects], order[i][queries])


def check_denoising(step: Step, config: str) -> None:
    arrays, prefix = step.arrays, f"{step.run}/dn"
    shown = step.outputs.denoising
    assert shown is not None
    boxes, loose, _ = LIMITS[config]
    queries = shown.layers[0].logits.shape[1]
    assert [queries, 300] == arrays[f"{prefix}/split"].tolist()
    assert shown.groups == arrays[f"{prefix}/groups"]
    objects = step.targets.labels.shape[1]
    mask = denoising.attention_mask(shown.groups, 2 * objects, 300).numpy()
    packed = np.packbits(mask == 0, axis=1)
    np.testing.assert_array_equal(packed, arrays[f"{prefix}/attn_mask_packed"])
    for i, one in enumerate(shown.layers):
        key = f"{step.run}/dec/{i}/dn_"
        assert_sample(one.logits, arrays, f"{key}logits", loose)
        if f"{key}boxes" in arrays:
            np.testing.assert_allclose(one.boxes.numpy(), arrays[f"{key}boxes"], rtol=0, atol=boxes)
        else:
            assert_sample(one.boxes, arrays, f"{key}boxes", 1e-3)
    valid = np.tile(step.targets.valid.numpy(), [1, 2 * shown.groups])
    draws = draws_of(arrays, f"{prefix}/draw", "label_flip", valid, 0.5)
    made = denoising_queries(
        step.targets, draws, groups=shown.groups, label_noise_ratio=0.5, box_noise_scale=1.0
    )
    labels = np.where(valid, made.labels.numpy(), 80)
    np.testing.assert_array_equal(labels, arrays[f"{prefix}/labels"])
    np.testing.assert_allclose(made.box_logits.numpy(), arrays[f"{prefix}/bbox_unact"], rtol=0, atol=1e-4)


def check_layer_losses(step: Step) -> None:
    arrays, run, loss = step.arrays, step.run, step.loss
    divisor = paddle.clip(step.targets.valid.astype("float32").sum(), min=1.0)
    sets = [step.outputs.encoder, *step.outputs.layers]
    names = ["enc", *(f"dec{i}" for i in range(len(step.outputs.layers)))]
    matches = paddle.flatten(loss.matcher(sets, step.targets), 0, 1)
    found = [loss.layer_losses(sets, matched_pairs(matches, step.targets.repeated(len(sets)), divisor))]
    if step.outputs.denoising is not None and step.targets.valid.any():
        sets = step.outputs.denoising.layers
        names += [f"dn_dec{i}" for i in range(len(sets))]
        pairs = denoising_pairs(step.outputs.denoising, step.targets.repeated(len(sets)), divisor)
        found.append(loss.layer_losses(sets, pairs))
    for part in ("class", "bbox", "giou"):
        values = np.concatenate([losses[part].numpy() for losses in found])
        assert len(values) == len(names)
        for name, value in zip(names, values):
            expected = float(arrays[f"{run}/layer_loss/{name}/loss_{part}"])
            assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-6), (name, part)
    ours = [key for key in arrays if key.startswith(f"{run}/layer_loss/")]
    assert len(ours) == 3 * len(names)


def gradients_of(model: DETR) -> dict[str, np.ndarray]:
    return {
        name: p.grad.numpy().copy()
        for name, p in model.named_parameters()
        if p.trainable and p.grad is not None and not name.endswith(("._mean", "._variance"))
    }


def check_gradients(
    gradients: dict[str, np.ndarray], arrays: Arrays, meta: Any, run: str, limit: float
) -> None:
    expected = dict(zip(meta["grad_names"][run], arrays[f"{run}/grad_norms"]))
    norms = {name: float(np.linalg.norm(value.astype(np.float64))) for name, value in gradients.items()}
    # Without objects, ours are zeros where the reference has none: every process then has every gradient.
    assert {name for name in norms if norms[name] > 0 or name in expected} == set(expected)
    compared = {name: norm for name, norm in norms.items() if name in expected and name not in ROUNDING}
    assert compared == pytest.approx({name: expected[name] for name in compared}, rel=limit)
    total = float(np.linalg.norm(list(norms.values())))
    assert total == pytest.approx(float(arrays[f"{run}/grad_norm_total"]), rel=limit)
    pick = reference_module("modern_weights").sample_values
    sampled = [key for key in arrays if key.startswith(f"{run}/grad/")]
    for key in sampled:
        theirs = arrays[key]
        difference = pick(gradients[key.split("/", 2)[2]], 100) - theirs
        error = float(np.sqrt(np.mean(difference**2) / max(np.mean(theirs**2), 1e-30)))
        assert error == pytest.approx(0, abs=5e-2), key
    assert len(sampled) > 10 or run not in ("main", "denoise")


def check_statistics(model: DETR, arrays: Arrays, meta: Any, run: str) -> None:
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    pick = reference_module("modern_weights").sample_values
    for key in [key for key in arrays if key.startswith(f"{run}/after_step/")]:
        if not key.endswith("means"):
            ours = pick(state[key.split("/", 2)[2]], 64)
            np.testing.assert_allclose(ours, arrays[key], rtol=1e-4, atol=1e-5, err_msg=key)
    if f"{run}/after_step/means" in arrays:
        means = [state[name].mean(dtype=np.float64) for name in meta["bn_names"]]
        np.testing.assert_allclose(means, arrays[f"{run}/after_step/means"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("config", "run"), RUNS)
def test_a_step(config: str, run: str) -> None:
    arrays, meta = golden(f"{config}_train")
    model = model_of(config)
    model.train()
    model.clear_gradients()
    step = Step(model, arrays, meta, run)
    check_outputs(step, config)
    if f"{run}/dn/groups" in arrays:
        check_denoising(step, config)
    check_layer_losses(step)
    losses = step.loss(step.outputs, step.targets)
    for name in [key for key in arrays if key.startswith(f"{run}/loss/loss_")]:
        term = name.rpartition("/")[2]
        # The reference has the denoising terms, as zeros, without denoising too.
        ours = losses.get(term, paddle.zeros([])) if term.endswith("_dn") else losses[term]
        assert float(ours) == pytest.approx(float(arrays[name]), rel=1e-4), term
    total = paddle.add_n(list(losses.values()))
    assert float(total) == pytest.approx(float(arrays[f"{run}/loss/loss"]), rel=1e-4)
    total.backward()
    check_gradients(gradients_of(model), arrays, meta, run, LIMITS[config][2])
    check_statistics(model, arrays, meta, run)


@pytest.mark.parametrize("config", [R18, R50, "rtdetr_hgnetv2_l_6x_coco"])
def test_parameter_groups(config: str) -> None:
    """Trainable, learning-rate factor, and weight decay, which AdamW applies to all that are trained."""
    known = json.loads((GOLDENS / "modern_optimizers.json").read_text())["parameters"][config]
    experiment = load_config(ROOT / "configs" / f"{config}.yml")
    with paddle.LazyGuard():
        model = build_model(experiment)
    parameters = {
        name: p for name, p in model.named_parameters() if not name.endswith(("._mean", "._variance"))
    }
    assert experiment.OptimizerBuilder is not None
    builder = experiment.OptimizerBuilder.build()
    assert builder._optimizer.name == "AdamW"
    assert builder._optimizer.arguments["weight_decay"] == 0.0001
    assert not builder._no_decay
    rows = [
        [name, p.trainable, p.optimize_attr["learning_rate"] if p.trainable else 0.0, 1e-4 * p.trainable]
        for name, p in parameters.items()
    ]
    if "rows" in known:
        assert sorted(rows) == sorted(known["rows"])
    kinds = [(trainable, rate) for _, trainable, rate, _ in rows]
    for kind in {(k["trainable"], k["lr_multiplier"]) for k in known["kinds"]}:
        expected = sum(k["count"] for k in known["kinds"] if (k["trainable"], k["lr_multiplier"]) == kind)
        assert kinds.count(kind) == expected


@pytest.mark.parametrize("steps", [7329, 10])
def test_schedule(steps: int) -> None:
    known = json.loads((GOLDENS / "modern_optimizers.json").read_text())["schedules"][f"rtdetr_6x_{steps}"]
    experiment = load_config(ROOT / "configs" / f"{R50}.yml")
    assert experiment.LearningRate is not None
    schedule = experiment.LearningRate.build().build(steps)
    rates = [schedule.rate_at(i) for i in known["iterations"]]
    np.testing.assert_allclose(rates, known["lr"], rtol=1e-12)


@pytest.mark.slow
def test_two_optimiser_steps_and_the_average() -> None:
    arrays, meta = golden(f"{R18}_train")
    experiment = load_config(ROOT / "configs" / f"{R18}.yml")
    with without_random_weights():
        model = build_model(experiment)
    assert isinstance(model, DETR)
    load_weights(model)
    model.train()
    assert experiment.OptimizerBuilder is not None
    optimizer = experiment.OptimizerBuilder.build().build(1e-4, model)
    average = ModelEma(EmaSettings(decay=experiment.ema_decay, decay_type="exponential"), model)
    start = {name: p.numpy().copy() for name, p in model.named_parameters()}
    pick = reference_module("modern_weights").sample_values
    names = meta["grad_names"]["main"]
    for t in range(2):
        step = Step(model, arrays, meta, "main")
        losses = step.loss(step.outputs, step.targets)
        for name, value in losses.items():
            # Measured: the image times 1 + 1e-7 noise moves the query of one object in the last layer after
            # the first update (three different ones in five runs), and this loss with it by up to 3.3 %.
            limit = 1e-4 if t == 0 else 4e-2 if name == "loss_class" else 1e-2
            assert float(value) == pytest.approx(float(arrays[f"optimise/step{t}/{name}"]), rel=limit), name
        total = float(paddle.add_n(list(losses.values())))
        assert total == pytest.approx(float(arrays[f"optimise/step{t}/loss"]), rel=1e-2 if t else 1e-4)
        paddle.add_n(list(losses.values())).backward()
        norm = float(
            np.linalg.norm([np.linalg.norm(g.astype(np.float64)) for g in gradients_of(model).values()])
        )
        expected = float(arrays[f"optimise/step{t}/grad_norm_before_clip"])
        assert norm == pytest.approx(expected, rel=1e-2 if t else 5e-3)
        optimizer.step()
        optimizer.clear_grad()
        average.update()
        now = dict(model.named_parameters())
        means = {
            name: float(np.abs(now[name].numpy() - start[name]).mean(dtype=np.float64)) for name in names
        }
        theirs = dict(zip(names, arrays[f"optimise/delta_means{t + 1}"]))
        assert {n: means[n] for n in names if n not in ROUNDING} == pytest.approx(
            {n: theirs[n] for n in names if n not in ROUNDING}, rel=5e-2
        )
        for key in [key for key in arrays if key.startswith(f"optimise/delta{t + 1}/")]:
            name = key.split("/", 2)[2]
            gap = np.abs(pick(now[name].numpy() - start[name], 40) - arrays[key])
            # Entries with a gradient of nearly 0 have a sign by chance; those of keys' biases have exactly 0.
            share = 2 / 3 if name.endswith("in_proj_bias") else 0.9
            rate = 1e-4 * now[name].optimize_attr["learning_rate"]
            assert (gap <= (0.25 if t == 0 else 1.0) * rate).mean() >= share, key
    averaged = average.averaged()
    for key in [key for key in arrays if key.startswith("optimise/ema/")]:
        ours = pick(averaged[key.removeprefix("optimise/ema/")].numpy(), 40)
        np.testing.assert_allclose(ours, arrays[key], rtol=1e-3, atol=2.5e-4, err_msg=key)


def test_the_losses_are_those_of_the_config() -> None:
    experiment = load_config(ROOT / "configs" / f"{R18}.yml")
    with paddle.LazyGuard():
        model = build_model(experiment)
    assert isinstance(model, DETR)
    assert isinstance(model.detr_head.loss, DINOLoss)
    assert model.detr_head.loss._weights == {"class": 1.0, "bbox": 5.0, "giou": 2.0}
    assert model.detr_head.loss.matcher._weights == {"class": 2.0, "bbox": 5.0, "giou": 2.0}
