"""Protects RetinaNet's head and detector: loss equal to slow loops, finite without objects, decoding level by
level, no waiting for the device, every parameter trained, exportable, 2.x YAML.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.config.spec import Spec
from ppdet.experiment.config import load_config
from ppdet.inference.predictors import predict
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.retinanet import RetinaNet
from ppdet.modeling.heads.retina import RetinaHead, RetinaOutputs
from ppdet.modeling.heads.retina_features import RetinaFeat
from ppdet.modeling.losses.dense import FocalLoss, SmoothL1Loss
from ppdet.modeling.necks.fpn import FPN
from ppdet.modeling.post_process import MultiClassNMS
from ppdet.structures import Batch, BatchTargets, FeatureShape
from tests.oracles import retina as oracle
from tests.support_sync import count_host_syncs

SHAPES = [FeatureShape(8, 8), FeatureShape(8, 16)]
GRIDS = [(4, 6), (2, 3)]

CASES = {
    "none": ([[[0, 0, 0, 0]], [[0, 0, 0, 0]]], [[-1], [-1]]),
    "one of two images": ([[[3, 2, 40, 30]], [[0, 0, 0, 0]]], [[2], [-1]]),
    "many": (
        [[[0, 0, 32, 32], [1, 1, 33, 31], [40, 10, 47, 31]], [[0, 0, 48, 32], [20, 3, 21, 4], [0] * 4]],
        [[0, 1, 2], [2, 0, -1]],
    ),
    "at the border": ([[[47, 31, 48, 32]], [[0, 0, 1, 1]]], [[0], [1]]),
}


def targets_of(boxes: Any, labels: Any) -> BatchTargets:
    labels = np.asarray(labels, np.int64)
    return BatchTargets(
        boxes=paddle.to_tensor(np.asarray(boxes, np.float32)),
        labels=paddle.to_tensor(labels),
        is_crowd=paddle.zeros(labels.shape, dtype="bool"),
        weights=paddle.ones(labels.shape),
    )


def head_of(**options: Any) -> RetinaHead:
    features = Spec.of(RetinaFeat, feat_out=8, num_convs=1)
    return RetinaHead(in_shapes=SHAPES, num_classes=3, conv_feat=features, **options)


def random_outputs(seed: int, classes: int = 3) -> RetinaOutputs:
    rng = np.random.default_rng(seed)
    logits = [rng.normal(-1, 2, (2, 9 * classes, *grid)).astype(np.float32) for grid in GRIDS]
    deltas = [rng.normal(0, 0.5, (2, 36, *grid)).astype(np.float32) for grid in GRIDS]
    return RetinaOutputs([paddle.to_tensor(x) for x in logits], [paddle.to_tensor(x) for x in deltas])


def by_anchor(maps: list[paddle.Tensor], values: int) -> np.ndarray:
    """Rows in the order row, column, anchor."""
    rows = [np.transpose(m.numpy(), (0, 2, 3, 1)).reshape(2, -1, values) for m in maps]
    return np.concatenate(rows, axis=1)


#: No two anchors overlap one of these equally, so that rounding cannot decide which of them is best.
UNTIED = (
    [[[1.3, 2.1, 30.7, 29.2], [2.9, 1.4, 33.8, 30.3], [33.1, 7.7, 47.9, 31.2]], [[0.7, 0.3, 47.6, 31.9]] * 3],
    [[0, 1, 2], [2, -1, -1]],
)


@pytest.mark.parametrize("case", [CASES["none"], CASES["one of two images"], UNTIED])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.6, "gamma": 1.5}])
def test_loss_equals_slow_loops(case: tuple[Any, Any], options: dict[str, float]) -> None:
    head = head_of(loss_class=Spec.of(FocalLoss, **options))
    outputs, targets = random_outputs(1), targets_of(*case)
    got = {name: float(value) for name, value in head.losses(outputs, targets).items()}
    anchors = paddle.concat(head.anchors(outputs.deltas)).numpy()
    rows = by_anchor(outputs.class_logits, 3), by_anchor(outputs.deltas, 4)
    expected = oracle.losses(*rows, anchors, targets.boxes.numpy(), targets.labels.numpy(), **options)
    assert got == pytest.approx(expected, rel=1e-4)


def test_losses_have_weights_and_smooth_l1_its_beta() -> None:
    outputs, targets = random_outputs(2), targets_of(*CASES["many"])
    plain = head_of().losses(outputs, targets)
    heavy = head_of(
        loss_class=Spec.of(FocalLoss, loss_weight=3.0),
        loss_bbox=Spec.of(SmoothL1Loss, loss_weight=2.0, beta=0.0),
    ).losses(outputs, targets)
    assert float(heavy["loss_cls"]) == pytest.approx(3 * float(plain["loss_cls"]), rel=1e-5)
    assert float(heavy["loss_reg"]) == pytest.approx(2 * float(plain["loss_reg"]), rel=1e-5)
    smooth = head_of(loss_bbox=Spec.of(SmoothL1Loss, beta=1.0)).losses(outputs, targets)
    assert float(smooth["loss_reg"]) < float(plain["loss_reg"])
    with pytest.raises(ValueError, match=r"beta: expected >= 0, got -1"):
        SmoothL1Loss(beta=-1)


def test_decoding_takes_the_best_anchors_of_each_level() -> None:
    outputs = random_outputs(3)
    scales = paddle.to_tensor([[0.5, 2.0], [1.0, 1.0]])
    everything = head_of(nms_pre=1000).decode_boxes(outputs, scales)
    assert everything.boxes.shape == [2, 9 * (24 + 6), 1, 4]
    best = head_of(nms_pre=60).decode_boxes(outputs, scales)
    # 216 anchors at the first level, cut to 60; 54 at the second, all kept.
    assert best.boxes.shape == [2, 60 + 54, 1, 4]
    for i in range(2):
        ranked = np.sort(everything.scores[i, :216].numpy().max(axis=1))[::-1]
        np.testing.assert_allclose(best.scores[i, :60].numpy().max(axis=1), ranked[:60])
    np.testing.assert_array_equal(best.boxes[:, 60:].numpy(), everything.boxes[:, 216:].numpy())


def test_boxes_of_zero_deltas_are_the_anchors_in_original_pixels() -> None:
    outputs = random_outputs(4)
    outputs = RetinaOutputs(outputs.class_logits, [paddle.zeros_like(d) for d in outputs.deltas])
    head = head_of()
    decoded = head.decode_boxes(outputs, paddle.to_tensor([[0.5, 2.0], [1.0, 1.0]]))
    anchors = paddle.concat(head.anchors(outputs.deltas)).numpy()
    np.testing.assert_allclose(decoded.boxes[1, :, 0].numpy(), anchors, atol=1e-4)
    np.testing.assert_allclose(decoded.boxes[0, :, 0].numpy(), anchors * [0.5, 2, 0.5, 2], atol=1e-4)


def test_detections_are_clipped_to_the_original_image() -> None:
    head = head_of(nms=Spec.of(MultiClassNMS, score_threshold=0.1, keep_top_k=50))
    sizes, scales = paddle.to_tensor([[32.0, 48.0], [20.0, 30.0]]), paddle.full([2, 2], 0.5)
    found = head.decode(random_outputs(5), sizes, scales)
    boxes = found.boxes.numpy()
    assert (found.labels.numpy() >= 0).sum() > 50
    assert boxes.min() == 0
    assert (boxes[..., [0, 2]].max(axis=(1, 2)) <= [96, 60]).all()
    assert (boxes[..., [1, 3]].max(axis=(1, 2)) <= [64, 40]).all()
    assert boxes.max() == 96


def small(num_classes: int = 3, **head: Any) -> RetinaNet:
    return RetinaNet(
        num_classes=num_classes,
        backbone=Spec.of(ResNet, depth=18, return_idx=[1, 2, 3], freeze_norm=False, freeze_at=-1),
        neck=Spec.of(FPN, out_channel=16, has_extra_convs=True, extra_stage=2, use_c5=False),
        head=Spec.of(RetinaHead, conv_feat=Spec.of(RetinaFeat, feat_out=16, num_convs=1), **head),
    )


def batch_of(targets: BatchTargets, height: int = 32, width: int = 64) -> Batch:
    count = targets.labels.shape[0]
    return Batch(
        images=paddle.rand([count, 3, height, width]),
        image_sizes=paddle.to_tensor([[height, width]] * count, dtype="float32"),
        scale_factors=paddle.full([count, 2], 0.5),
        image_ids=tuple(range(count)),
        paths=("",) * count,
        targets=targets,
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_classes", [1, 3, 1000])
def test_training_is_finite_and_reaches_every_parameter(case: str, num_classes: int) -> None:
    paddle.seed(1)
    model = small(num_classes)
    boxes, labels = CASES[case]
    model.train()
    losses = model(batch_of(targets_of(boxes, np.minimum(labels, num_classes - 1))))
    assert set(losses) == {"loss_cls", "loss_reg"}
    assert all(np.isfinite(float(v)) and v.shape == [] for v in losses.values())
    paddle.add_n(list(losses.values())).backward()
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None, name
            assert np.isfinite(parameter.grad.numpy()).all(), name


def test_an_untrained_head_gives_every_class_the_prior() -> None:
    head = head_of(prior_prob=0.02)
    assert float(head.retina_cls.bias[0]) == pytest.approx(-math.log(0.98 / 0.02))
    scores = head.decode_boxes(head([paddle.zeros([1, 8, *g]) for g in GRIDS]), paddle.ones([1, 2])).scores
    np.testing.assert_allclose(scores.numpy(), 0.02, rtol=1e-4)
    with pytest.raises(ValueError, match="prior_prob: expected between 0 and 1, got 1"):
        head_of(prior_prob=1.0)


def test_levels_must_agree_in_channels() -> None:
    with pytest.raises(ValueError, match=r"levels of \[8, 16\] channels"):
        RetinaHead(in_shapes=[FeatureShape(8, 8), FeatureShape(16, 16)], num_classes=3)


def test_no_step_waits_for_the_device() -> None:
    model, batch = small(), batch_of(targets_of(*CASES["many"]))
    model.train()
    with count_host_syncs() as reads:
        paddle.add_n(list(model(batch).values())).backward()
    assert not reads, reads
    model.eval()
    with count_host_syncs() as reads, paddle.no_grad():
        model.detect(batch.images, batch.image_sizes, batch.scale_factors)
    assert not reads, reads
    assert [len(found) <= 100 for found in predict(model, batch)] == [True, True]


@pytest.mark.slow
def test_exports_with_sizes_unknown(tmp_path: Path) -> None:
    paddle.seed(2)
    # Nothing is suppressed and all is kept: a level's padding would show as boxes found twice.
    nms = Spec.of(MultiClassNMS, score_threshold=0.05, keep_top_k=400, nms_threshold=1.0)
    model = small(nms_pre=30, prior_prob=0.3, nms=nms)
    model.eval()

    class Wrapper(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Any, sizes: Any, scales: Any) -> tuple[Any, Any, Any]:
            found = self.model.detect(images, sizes, scales)
            return found.boxes, found.scores, found.labels

    shapes = [[None, 3, None, None], [None, 2], [None, 2]]
    spec = [paddle.static.InputSpec(shape, "float32") for shape in shapes]
    static = paddle.jit.to_static(Wrapper(), input_spec=spec, full_graph=True)
    paddle.jit.save(static, str(tmp_path / "model"))
    loaded = paddle.jit.load(str(tmp_path / "model"))
    for height, width in ((64, 96), (32, 64)):
        batch = batch_of(targets_of(*CASES["none"]), height, width)
        boxes, scores, _ = loaded(batch.images, batch.image_sizes, batch.scale_factors)
        with paddle.no_grad():
            expected = model.detect(batch.images, batch.image_sizes, batch.scale_factors)
        assert (scores.numpy() > 0).any()
        np.testing.assert_allclose(scores.numpy(), expected.scores.numpy(), atol=1e-5)
        np.testing.assert_allclose(boxes.numpy(), expected.boxes.numpy(), atol=1e-2)


#: A YAML in the vocabulary of 2.x, tags and repeated facts included.
YAML = """
architecture: RetinaNet
num_classes: 5
metric: COCO
RetinaNet: {backbone: ResNet, neck: FPN, head: RetinaHead}
ResNet: {depth: 18, variant: b, norm_type: bn, freeze_at: 0, return_idx: [1, 2, 3], num_stages: 4}
FPN:
  out_channel: 32
  spatial_scales: [0.125, 0.0625, 0.03125]
  extra_stage: 2
  has_extra_convs: true
  use_c5: false
RetinaHead:
  conv_feat: {name: RetinaFeat, feat_in: 32, feat_out: 16, num_convs: 2, norm_type: null, use_dcn: false}
  anchor_generator: !RetinaAnchorGenerator
    octave_base_scale: 4
    scales_per_octave: 3
    aspect_ratios: [0.5, 1.0, 2.0]
    strides: [8.0, 16.0, 32.0, 64.0, 128.0]
  bbox_assigner: {name: MaxIoUAssigner, positive_overlap: 0.5, negative_overlap: 0.4, allow_low_quality: true}
  loss_class: {name: FocalLoss, gamma: 2.0, alpha: 0.25, loss_weight: 1.0}
  loss_bbox: {name: SmoothL1Loss, beta: 0.0, loss_weight: 1.0}
  nms: {name: MultiClassNMS, nms_top_k: 1000, keep_top_k: 100, score_threshold: 0.05, nms_threshold: 0.5}
"""


def test_a_yaml_of_2x_builds(tmp_path: Path) -> None:
    (tmp_path / "retina.yml").write_text(YAML)
    model = load_config(tmp_path / "retina.yml").architecture.build()
    assert isinstance(model, RetinaNet)
    assert model.head.retina_cls.weight.shape == [9 * 5, 16, 3, 3]
    assert [shape.stride for shape in model.neck.out_shapes] == [8, 16, 32, 64, 128]


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("feat_in: 32", "feat_in: 256"),
        ("strides: [8.0, 16.0, 32.0, 64.0, 128.0]", "strides: [4.0, 8.0, 16.0, 32.0, 64.0]"),
    ],
)
def test_a_repeated_fact_must_agree(tmp_path: Path, written: str, instead: str) -> None:
    (tmp_path / "retina.yml").write_text(YAML.replace(written, instead))
    with pytest.raises(Exception, match=f"{instead.split(':')[0]} is"):
        load_config(tmp_path / "retina.yml").architecture.build()
