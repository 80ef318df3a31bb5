"""Protects PP-YOLOE's head and detectors: losses equal to slow loops, both assigners, what the auxiliary head
trains, every parameter learns, predictors follow the weights, wrong arguments are named, and schedule and
optimiser are the reference's.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet import build_model, load_config
from ppdet.config.errors import ArgumentError
from ppdet.config.spec import Spec
from ppdet.inference.predictors import NativePredictor
from ppdet.modeling.backbones.csp_resnet import CSPResNet
from ppdet.modeling.detectors.ppyoloe import PPYOLOEWithAuxHead
from ppdet.modeling.heads.ppyoloe import PointOutputs, PPYOLOEHead
from ppdet.modeling.layers.csp import ChannelAttention
from ppdet.modeling.layers.upsample import double_nearest
from ppdet.modeling.necks.csp_pan import CustomCSPPAN
from ppdet.structures import FeatureShape
from tests.modeling.small_rcnn import small_batch
from tests.modeling.test_every_family import OBJECTS, small_ppyoloe, small_ppyoloe_aux
from tests.modeling.test_soft_assign import MANY, NONE, ONE, targets_of
from tests.oracles import ppyoloe as oracle
from tests.support import GOLDENS, ROOT, load_golden, requires_shared

SHAPES = [FeatureShape(8, 64), FeatureShape(8, 32), FeatureShape(8, 16)]
SIZES = (2, 4, 8)


def head_of(**options: Any) -> PPYOLOEHead:
    return PPYOLOEHead(in_shapes=SHAPES, num_classes=3, reg_max=8, **options)


def random_outputs(seed: int) -> PointOutputs:
    rng = np.random.default_rng(seed)
    return PointOutputs(
        [paddle.to_tensor(rng.normal(-1, 1, (2, 3, n, n)).astype("float32")) for n in SIZES],
        [paddle.to_tensor(rng.normal(0, 2, (2, 36, n, n)).astype("float32")) for n in SIZES],
    )


@pytest.mark.parametrize("case", [NONE, ONE, MANY], ids=["none", "one", "many"])
@pytest.mark.parametrize("epoch", [0, 4], ids=["static", "task-aligned"])
def test_losses_equal_slow_loops(case: tuple[Any, Any], epoch: int) -> None:
    head, outputs = head_of(), random_outputs(3)
    head.begin_epoch(epoch)
    boxes, labels = np.asarray(case[0], np.float32), np.asarray(case[1])
    losses = head.losses(outputs, targets_of(boxes, labels))
    points = head.points(outputs)
    predictions = head.predictions(outputs, points)
    predicted = (predictions.boxes * points.strides).numpy()
    if epoch == 0:
        squares = points.squares(5.0).numpy()
        assigned = oracle.atss(squares, [n * n for n in SIZES], boxes, labels, predicted, classes=3)
    else:
        scores = paddle.nn.functional.sigmoid(predictions.class_logits).numpy()
        assigned = oracle.task_aligned(points.pixels.numpy(), scores, predicted, boxes, labels)
    expected = oracle.losses(
        predictions.class_logits.numpy(),
        predictions.box_logits.numpy(),
        points.centres.numpy(),
        points.strides.numpy()[:, 0],
        boxes,
        assigned,
    )
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_loss_weights_and_the_other_classification_loss() -> None:
    outputs, targets = random_outputs(5), targets_of(*MANY)
    plain = head_of().losses(outputs, targets)
    weighted = head_of(loss_weight={"class": 2.0, "iou": 5.0, "dfl": 0.25}).losses(outputs, targets)
    for name, factor in (("loss_cls", 2.0), ("loss_iou", 2.0), ("loss_dfl", 0.5)):
        assert float(weighted[name]) == pytest.approx(factor * float(plain[name]))
    focal = head_of(use_varifocal_loss=False)
    static = focal.losses(outputs, targets)
    focal.begin_epoch(4)
    later = focal.losses(outputs, targets)
    assert float(static["loss_cls"]) != float(plain["loss_cls"])
    assert all(math.isfinite(float(v)) for losses in (static, later) for v in losses.values())


def test_an_untrained_head_gives_every_class_one_percent() -> None:
    outputs = head_of()([paddle.rand([1, 8, n, n]) for n in SIZES])
    for logits, distances in zip(outputs.class_logits, outputs.box_logits):
        np.testing.assert_allclose(logits.numpy(), -math.log(99), rtol=1e-6)
        np.testing.assert_array_equal(distances.numpy(), 1.0)


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    """The mean over processes, one of which has no objects, is that of a process with both images."""
    from tests.modeling.ranks_run import losses_of

    script = ROOT / "tests/modeling/ranks_run.py"
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    run = subprocess.run(
        [sys.executable, *launcher, "--log_dir", str(tmp_path / "log"), str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    losses_of(slice(0, 2), tmp_path, "both")
    both = np.load(tmp_path / "both.npz")
    ranks = [np.load(tmp_path / f"rank{rank}.npz") for rank in range(2)]
    for name in ("loss_cls", "loss_iou", "loss_dfl"):
        assert np.mean([r[name] for r in ranks]) == pytest.approx(float(both[name]), rel=1e-5)
    gradient = np.concatenate([r["gradient"] for r in ranks]) / 2
    np.testing.assert_allclose(gradient, both["gradient"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("objects", [OBJECTS, [[], []]], ids=["one of two", "none"])
@pytest.mark.parametrize("epoch", [0, 100])
def test_training_is_finite_and_reaches_every_parameter(objects: Any, epoch: int) -> None:
    paddle.seed(1)
    model = small_ppyoloe()
    model.train()
    model.begin_epoch(epoch)
    losses = model(small_batch(objects))
    assert set(losses) == {"loss_cls", "loss_iou", "loss_dfl"}
    assert all(math.isfinite(float(loss)) for loss in losses.values())
    paddle.add_n(list(losses.values())).backward()
    without = [name for name, p in model.named_parameters() if p.trainable and p.grad is None]
    assert without == []
    if objects == [[], []]:
        assert float(losses["loss_iou"]) == float(losses["loss_dfl"]) == 0


@pytest.mark.parametrize(("epoch", "reached"), [(4, True), (5, False)])
def test_the_auxiliary_head_trains_the_backbone_until_it_is_detached(epoch: int, reached: bool) -> None:
    paddle.seed(2)
    model = small_ppyoloe_aux()
    assert isinstance(model, PPYOLOEWithAuxHead)
    model.train()
    model.begin_epoch(epoch)
    batch = small_batch(OBJECTS)
    maps = model.backbone(batch.images)
    own = [x.detach() for x in model.neck(maps)]
    losses = model(batch)
    # The own head's part of the gradient is taken away: what is left is the auxiliary one.
    alone = model.yolo_head.losses(model.yolo_head(own), batch.targets)
    assert all(float(losses[name]) != float(alone[name]) for name in losses)
    for parameter in model.yolo_head.parameters():
        parameter.stop_gradient = True
    for layer in (*model.yolo_head.pred_cls, *model.yolo_head.pred_reg):
        layer.weight.set_value(paddle.zeros(layer.weight.shape))  # no gradient of the own head gets through
    paddle.add_n(list(model(batch).values())).backward()
    gradient = model.backbone.stem[0].conv.weight.grad
    assert (gradient is not None and bool(gradient.abs().sum() > 0)) == reached
    assert model.aux_head.gfl_cls.weight.grad is not None
    assert model.aux_neck.fpn_stages[0][0].conv3.conv.weight.grad.abs().sum() > 0
    own_neck = model.neck.state_dict()
    assert all((own_neck[k] == v).all() for k, v in model.aux_neck.state_dict().items() if "weight" in k)


def test_a_predictor_follows_the_weights_when_it_is_refreshed() -> None:
    paddle.seed(3)
    model, batch = small_ppyoloe(), small_batch(OBJECTS)
    predictor = NativePredictor(model)
    before = predictor(batch)[0]
    model.yolo_head.pred_cls[0].bias.set_value(paddle.full([3], 2.0))
    np.testing.assert_array_equal(predictor(batch)[0].scores, before.scores)
    predictor.refresh()
    after = predictor(batch)[0]
    assert after.scores.max() > 0.5 > before.scores.max()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: head_of(fpn_strides=[32, 16, 8]), r"fpn_strides: the neck's are \[64, 32, 16\]"),
        (lambda: head_of(attn_conv="conv"), "attn_conv: expected one of convbn, repvgg, None, got 'conv'"),
        (
            lambda: head_of(loss_weight={"cls": 1.0}),
            "loss_weight: expected the keys class, iou, dfl",
        ),
        (lambda: CSPResNet(layers=[1, 2]), "expected 3 numbers for 2 layers"),
        (lambda: CSPResNet(return_idx=[4]), r"expected stages 0..3, got \[4\]"),
        (
            lambda: CustomCSPPAN(in_shapes=SHAPES[::-1], out_channels=[8, 8]),
            "expected 3 numbers, one per level",
        ),
        (lambda: CustomCSPPAN(in_shapes=SHAPES, out_channels=[8] * 3), "must double from level to level"),
    ],
)
def test_wrong_arguments_are_named(build: Any, message: str) -> None:
    with pytest.raises((ArgumentError, ValueError), match=message):
        build()


def test_four_levels_relu_and_towers_without_convolution() -> None:
    """As the smallest networks with a finer level have it, and those with rectifiers."""
    size = {"width_mult": 0.125, "depth_mult": 0.33, "act": "relu"}
    backbone = CSPResNet(return_idx=[0, 1, 2, 3], use_large_stem=False, **size)
    neck = CustomCSPPAN(in_shapes=backbone.out_shapes, out_channels=[64] * 4, **size)
    head = Spec.of(PPYOLOEHead, act="relu", attn_conv="None", fpn_strides=[32, 16, 8, 4])
    built = head.build(in_shapes=neck.out_shapes, num_classes=2)
    outputs = built(neck(backbone(paddle.rand([1, 3, 64, 96]))))
    assert [x.shape for x in outputs.class_logits] == [[1, 2, 2 * 2**i, 3 * 2**i] for i in range(4)]
    assert not any("conv" in name for name in built.stem_cls.state_dict())


def test_units() -> None:
    arrays = load_golden("modern_units")[0]
    attention = ChannelAttention(6)
    attention.set_state_dict({k: arrays[f"ese/param/{k}"] for k in ("fc.weight", "fc.bias")})
    expected = arrays["ese/out"]
    np.testing.assert_allclose(
        attention(paddle.to_tensor(arrays["repvgg/x"])).numpy(), expected, rtol=0, atol=1e-5 * expected.max()
    )
    expected = arrays["upsample/out"]
    like = paddle.zeros(expected.shape)
    np.testing.assert_array_equal(double_nearest(paddle.to_tensor(arrays["upsample/x"]), like), expected)


@requires_shared
@pytest.mark.parametrize("recipe", ["plus", "300e"])
@pytest.mark.parametrize("steps", [1832, 10])
def test_learning_rates(recipe: str, steps: int) -> None:
    schedule = f"ppyoloe_{recipe}_{steps}"
    golden = json.loads((GOLDENS / "modern_optimizers.json").read_text())["schedules"][schedule]
    config = "ppyoloe_plus_crn_s_80e_coco" if recipe == "plus" else "ppyoloe_crn_s_300e_coco"
    rates = load_config(config).LearningRate.build().build(steps)
    # Some steps of the golden are beyond the training, at the end of the cosine: there we reach 0.
    expected = {i: lr for i, lr in zip(golden["iterations"], golden["lr"]) if i < golden["epochs"] * steps}
    assert len(expected) >= 10
    ours = [rates.rate_at(step) for step in expected]
    np.testing.assert_allclose(ours, list(expected.values()), rtol=1e-12, atol=1e-15)


@requires_shared
def test_what_the_optimiser_does_to_each_parameter() -> None:
    golden = json.loads((GOLDENS / "modern_optimizers.json").read_text())
    name = "ppyoloe_plus_crn_s_80e_coco"
    experiment = load_config(name)
    with paddle.LazyGuard():
        model = build_model(experiment)
    rows = []
    for key, p in model.named_parameters():
        if not key.endswith(("._mean", "._variance")):
            decay = 5e-4 if p.regularizer is None else p.regularizer._coeff
            rows.append([key, p.trainable, p.optimize_attr["learning_rate"], decay if p.trainable else 0.0])
    expected = [
        [k, t, lr, wd] if t else [k, t, lr, 0.0] for k, t, lr, wd in golden["parameters"][name]["rows"]
    ]
    fixed = "yolo_head.proj_conv.weight"
    assert [r for r in rows if r[0] != fixed] == [r for r in expected if r[0] != fixed]
    assert next(r for r in rows if r[0] == fixed)[1] is False
    optimizer = golden["optimizers"][name]
    assert optimizer["regularizer"] == {"factor": 0.0005, "type": "L2"}
    assert (experiment.epoch, experiment.use_ema, experiment.ema_decay) == (optimizer["epoch"], True, 0.9998)
    assert experiment.ema_black_list == ["proj_conv.weight"]
