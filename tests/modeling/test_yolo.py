"""Protects YOLOv3's targets, loss, decoding and detector: equal to slow loops for any objects, finite without
any, no waiting for the device, every parameter trained, exportable, and its facts written once.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.config.errors import ConfigError
from ppdet.config.spec import Spec
from ppdet.experiment.config import load_config
from ppdet.inference.predictors import predict
from ppdet.modeling.assign.yolo_targets import assign_yolo_targets, yolo_planes
from ppdet.modeling.backbones.darknet import DarkNetTiny
from ppdet.modeling.detectors.yolov3 import YOLOv3
from ppdet.modeling.heads.yolo import YOLOBox, YOLOv3Head
from ppdet.modeling.layers.yolo_grid import YoloLayout, yolo_layout
from ppdet.modeling.losses.iou import IouAwareLoss, IouLoss
from ppdet.modeling.losses.yolo import YOLOv3Loss
from ppdet.modeling.necks.yolo_fpn import YOLOv3TinyFPN
from ppdet.modeling.post_process import BBoxPostProcess, MultiClassNMS
from ppdet.structures import Batch, BatchTargets, box_conventions
from tests.oracles import yolo as oracle
from tests.support_sync import count_host_syncs

ANCHORS = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]
MASKS = [[3, 4, 5], [0, 1, 2]]
STRIDES = [32, 16]


def targets_of(boxes: Any, labels: Any, weights: Any = None) -> BatchTargets:
    labels = np.asarray(labels, np.int64)
    return BatchTargets(
        boxes=paddle.to_tensor(np.asarray(boxes, np.float32).reshape([*labels.shape, 4])),
        labels=paddle.to_tensor(labels),
        is_crowd=paddle.zeros(labels.shape, dtype="bool"),
        weights=paddle.ones(labels.shape) if weights is None else paddle.to_tensor(weights),
    )


def batch_of(targets: BatchTargets, height: int = 64, width: int = 96) -> Batch:
    count = targets.labels.shape[0]
    return Batch(
        images=paddle.rand([count, 3, height, width]),
        image_sizes=paddle.to_tensor([[height, width]] * count, dtype="float32"),
        scale_factors=paddle.full([count, 2], 0.5),
        image_ids=tuple(range(count)),
        paths=("",) * count,
        targets=targets,
    )


def tiny(num_classes: int = 3, **head: Any) -> YOLOv3:
    return YOLOv3(
        num_classes=num_classes,
        backbone=Spec.of(DarkNetTiny),
        neck=Spec.of(YOLOv3TinyFPN),
        yolo_head=Spec.of(YOLOv3Head, **{"anchors": ANCHORS, "anchor_masks": MASKS, **head}),
    )


def one_anchor(*, iou_aware: bool = False) -> YoloLayout:
    return yolo_layout([[16, 8]], [[0]], [32], num_classes=2, iou_aware=iou_aware)


#: The object, one on the border, one pixel, empty, padding; and all in one cell.
HARD = {
    "none": ([[[0, 0, 0, 0]], [[0, 0, 0, 0]]], [[-1], [-1]]),
    "one of two images": ([[[3, 4, 40, 60]], [[0, 0, 0, 0]]], [[2], [-1]]),
    "borders and slivers": (
        [[[90, 60, 96, 64], [95, 63, 96, 64], [96, 64, 96, 64], [0, 0, 96, 64]], [[0, 0, 1, 1]] * 4],
        [[0, 1, 2, 0], [1, 1, -1, 2]],
    ),
    "centre on the border": ([[[80, 50, 112, 78]], [[90, 20, 102, 44]]], [[0], [1]]),
    "rivals": (
        [
            [[10, 10, 22, 25], [11, 11, 21, 24], [10, 10, 22, 25]],
            [[60, 33, 61, 62], [60, 33, 61, 62], [0] * 4],
        ],
        [[0, 1, 2], [1, 0, -1]],
    ),
}


def make_layout(*levels: int, iou_aware: bool = False) -> YoloLayout:
    masks, strides = ([values[level] for level in levels] for values in (MASKS, STRIDES))
    return yolo_layout(ANCHORS, masks, strides, num_classes=3, iou_aware=iou_aware)


def make_loss(*levels: int, iou_aware: bool = False, **options: Any) -> YOLOv3Loss:
    return YOLOv3Loss(layout=make_layout(*levels or (0, 1), iou_aware=iou_aware), **options)


def assert_equal_to_oracle(
    outputs: list[np.ndarray], targets: BatchTargets, options: dict[str, Any], **expected_options: Any
) -> None:
    truth = [getattr(targets, name).numpy() for name in ("boxes", "labels", "weights")]
    sums: dict[str, float] = Counter()
    for level, output in enumerate(outputs):
        expected = oracle.level_loss(
            output, *truth, ANCHORS, MASKS[level], STRIDES[level], 3, **expected_options
        )
        assert_losses(make_loss(level, **options), [output], targets, expected)
        sums.update(expected)
    assert_losses(make_loss(**options), outputs, targets, sums)


def assert_losses(
    loss: YOLOv3Loss, outputs: list[np.ndarray], targets: BatchTargets, expected: dict[str, float]
) -> None:
    losses = loss([paddle.to_tensor(o) for o in outputs], targets)
    got = {name: float(value) for name, value in losses.items()}
    assert got == pytest.approx(dict(expected), rel=1e-4, abs=1e-5)


def random_outputs(seed: int, values: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1.5, (2, 3 * values, 64 // s, 96 // s)).astype(np.float32) for s in STRIDES]


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"ignore_thresh": 0.2}, {"ignore_thresh": 0.2}),
        ({"label_smooth": True, "scale_x_y": 1.1}, {"label_smooth": True, "scale_x_y": 1.1}),
        ({"iou_loss": Spec.of(IouLoss, loss_weight=2.0)}, {"iou_weight": 2.0}),
        (
            {"iou_thresh": 0.3, "iou_loss": Spec.of(IouLoss, loss_weight=2.0)},
            {"iou_thresh": 0.3, "iou_weight": 2.0},
        ),
    ],
)
def test_loss_equals_slow_loops(case: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    targets = targets_of(*HARD[case])
    assert_equal_to_oracle(random_outputs(1), targets, options, **expected)


def test_iou_aware_loss_equals_slow_loops() -> None:
    options = {"iou_aware": True, "iou_aware_loss": Spec.of(IouAwareLoss), "iou_loss": Spec.of(IouLoss)}
    targets = targets_of(*HARD["rivals"])
    assert_equal_to_oracle(random_outputs(2, values=9), targets, options, iou_aware=True, iou_weight=2.5)


def test_iou_aware_loss_teaches_the_logit_alone() -> None:
    logit = paddle.to_tensor([0.3], stop_gradient=False)
    box = paddle.to_tensor([[0.0, 0.0, 10.0, 10.0]], stop_gradient=False)
    IouAwareLoss()(logit, box, paddle.to_tensor([[2.0, 1.0, 11.0, 9.0]])).sum().backward()
    assert logit.grad.numpy().all()
    assert box.grad is None or not box.grad.numpy().any()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_loss_equals_slow_loops_for_any_objects(data: st.DataObject) -> None:
    objects = data.draw(st.integers(1, 6))
    # Quarter pixels: exact in float32, so that both sides see the same cell and the same equals.
    edge = st.integers(0, 4 * 60).map(lambda v: v / 4)
    rows = [[data.draw(edge), data.draw(edge)] for _ in range(2 * objects)]
    sides = [[data.draw(edge), data.draw(edge)] for _ in range(2 * objects)]
    boxes = [[x, y, min(x + w, 96), min(y + h, 64)] for (x, y), (w, h) in zip(rows, sides)]
    labels = data.draw(st.lists(st.integers(-1, 2), min_size=2 * objects, max_size=2 * objects))
    weights = data.draw(
        st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2 * objects, max_size=2 * objects)
    )
    targets = targets_of(
        np.reshape(boxes, [2, objects, 4]),
        np.reshape(labels, [2, objects]),
        np.reshape(weights, [2, objects]).astype(np.float32),
    )
    assert_equal_to_oracle(random_outputs(3), targets, {})
    assert_equal_to_oracle(random_outputs(3), targets, {"iou_thresh": 0.25}, iou_thresh=0.25)


def test_further_anchors_take_what_is_free() -> None:
    """Both small anchors are similar to a box of 16 x 20; one of 23 x 27 takes its best anchor back."""
    small, large = [10, 10, 26, 30], [8, 8, 31, 35]
    anchors = paddle.to_tensor([[small, large]], dtype="float32")
    targets = targets_of(anchors.numpy(), [[0, 1]])
    planes = yolo_planes(make_layout(1), [(4, 6)], 1)
    found = assign_yolo_targets(targets, planes, 3, iou_thresh=0.3)
    owners = {
        int(found.cells[0, plane, row, 0]): int(row)
        for plane, row in zip(*np.nonzero(found.weights.squeeze([0, -1]).numpy()))
    }
    first, second = 0 * 24 + 1 * 6 + 1, 1 * 24 + 1 * 6 + 1
    assert owners == {first: 0, second: 1}
    assert int((assign_yolo_targets(targets, planes, 3).weights > 0).sum()) == 1


def test_the_last_object_has_the_cell_and_earlier_classes_remain() -> None:
    outputs = [paddle.to_tensor(o) for o in random_outputs(4)]
    first, second = [10, 10, 22, 25], [12, 11, 23, 27]
    both = make_loss()(outputs, targets_of([[first, second]] * 2, [[0, 1]] * 2))
    alone = make_loss()(outputs, targets_of([[second]] * 2, [[1]] * 2))
    assert float(both["loss_wh"]) == pytest.approx(float(alone["loss_wh"]))
    assert float(both["loss_cls"]) != pytest.approx(float(alone["loss_cls"]))


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("num_classes", [1, 3])
def test_training_is_finite_and_reaches_every_parameter(case: str, num_classes: int) -> None:
    paddle.seed(3)
    loss = Spec.of(YOLOv3Loss, iou_loss=Spec.of(IouLoss), iou_aware_loss=Spec.of(IouAwareLoss))
    model = tiny(num_classes, iou_aware=True, loss=loss)
    boxes, labels = HARD[case]
    batch = batch_of(targets_of(boxes, np.minimum(labels, num_classes - 1)))
    model.train()
    losses = model(batch)
    names = {"loss_xy", "loss_wh", "loss_obj", "loss_cls", "loss_iou", "loss_iou_aware"}
    assert set(losses) == names
    assert all(np.isfinite(float(v)) and v.shape == [] for v in losses.values())
    paddle.add_n(list(losses.values())).backward()
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None, name
            assert np.isfinite(parameter.grad.numpy()).all(), name


def test_a_thousand_classes_and_an_image_smaller_than_the_stride() -> None:
    model = tiny(1000)
    model.train()
    losses = model(batch_of(targets_of([[[2, 2, 9, 9]]] * 2, [[999], [0]]), height=20, width=12))
    assert all(np.isfinite(float(v)) for v in losses.values())


def test_a_batch_without_targets_is_refused() -> None:
    batch = batch_of(targets_of(*HARD["none"]))
    with pytest.raises(ValueError, match="no targets"):
        tiny()(Batch(batch.images, batch.image_sizes, batch.scale_factors, (0, 1), ("", "")))


def test_no_step_waits_for_the_device() -> None:
    model = tiny()
    batch = batch_of(targets_of(*HARD["rivals"]))
    model.train()
    with count_host_syncs() as reads:
        paddle.add_n(list(model(batch).values())).backward()
    assert not reads, reads
    model.eval()
    with count_host_syncs() as reads, paddle.no_grad():
        model.detect(batch.images, batch.image_sizes, batch.scale_factors)
    assert not reads, reads


def one_box_outputs(confidence: float) -> list[paddle.Tensor]:
    """One anchor, two classes, one sure cell (row 1, column 2) of a 2 x 3 grid."""
    values = np.full((1, 7, 2, 3), -20, np.float32)
    values[0, :4] = 0
    values[0, 4, 1, 2] = confidence
    values[0, 5:, 1, 2] = [20, 0]
    return [paddle.to_tensor(values)]


def test_decoding_by_hand() -> None:
    decode = YOLOBox(layout=one_anchor())
    sizes, scales = paddle.to_tensor([[64.0, 96.0]]), paddle.to_tensor([[0.5, 2.0]])
    decoded = decode(one_box_outputs(20.0), sizes, scales)
    # Centre (80, 48), 16 x 8 in the input; x is halved and y doubled on the way to the original.
    np.testing.assert_allclose(decoded.boxes.numpy()[0, 5, 0], [36, 88, 44, 104])
    np.testing.assert_allclose(decoded.scores.numpy()[0], [[0, 0]] * 5 + [[1, 0.5]], atol=1e-6)


def test_conventions_whose_boxes_end_with_their_last_pixel() -> None:
    decode = YOLOBox(layout=one_anchor(), conventions=box_conventions("dygraph2020-yolo"))
    decoded = decode(one_box_outputs(20.0), paddle.to_tensor([[50.0, 82.0]]), paddle.ones([1, 2]))
    np.testing.assert_allclose(decoded.boxes.numpy()[0, 5, 0], [72, 44, 82, 50])


def test_padding_beside_the_image_does_not_shift_boxes() -> None:
    decode = YOLOBox(layout=one_anchor())
    decoded = decode(one_box_outputs(20.0), paddle.to_tensor([[50.0, 82.0]]), paddle.ones([1, 2]))
    np.testing.assert_allclose(decoded.boxes.numpy()[0, 5, 0], [72, 44, 81, 49])


def test_low_objectness_is_dropped_and_empty_boxes_with_it() -> None:
    decode = YOLOBox(layout=one_anchor(), conf_thresh=0.3)
    ones = paddle.ones([1, 2])
    assert not decode(one_box_outputs(-1.0), paddle.to_tensor([[64.0, 96.0]]), ones).scores.numpy().any()
    assert decode(one_box_outputs(1.0), paddle.to_tensor([[64.0, 96.0]]), ones).scores.numpy().any()
    # The box lies right of an image of 60 pixels: clipped, nothing is left of it.
    assert not decode(one_box_outputs(1.0), paddle.to_tensor([[64.0, 60.0]]), ones).scores.numpy().any()


def test_iou_weighs_in_the_score() -> None:
    plain = one_box_outputs(0.0)[0].numpy()
    iou = np.full((1, 1, 2, 3), 2.0, np.float32)
    decode = YOLOBox(layout=one_anchor(iou_aware=True), iou_aware_factor=0.4)
    outputs = [paddle.to_tensor(np.concatenate([iou, plain], axis=1))]
    decoded = decode(outputs, paddle.to_tensor([[64.0, 96.0]]), paddle.ones([1, 2]))
    expected = 0.5**0.6 * oracle.sigmoid(2.0) ** 0.4
    assert float(decoded.scores[0, 5, 0]) == pytest.approx(expected, rel=1e-5)


def test_predictions_do_not_depend_on_the_batch() -> None:
    paddle.seed(5)
    model = tiny()
    nms = Spec.of(MultiClassNMS, score_threshold=0.0, nms_top_k=50, keep_top_k=20, nms_threshold=0.45)
    post = Spec.of(BBoxPostProcess, decode=Spec.of(YOLOBox, conf_thresh=0.0), nms=nms)
    model.yolo_head.post_process = post.build(decode_arguments={"layout": model.yolo_head.layout})
    batch = batch_of(targets_of(*HARD["none"]))
    together = predict(model, batch)
    for i in range(2):
        rows = (batch.images[i : i + 1], batch.image_sizes[i : i + 1], batch.scale_factors[i : i + 1])
        alone = predict(model, Batch(*rows, (i,), ("",)))[0]
        assert len(alone) == 20
        np.testing.assert_allclose(alone.scores, together[i].scores, rtol=1e-4)
        assert (np.diff(alone.scores) <= 0).all()


@pytest.mark.slow
def test_exports_with_sizes_unknown(tmp_path: Path) -> None:
    paddle.seed(7)
    model = tiny()
    model.eval()
    batch = batch_of(targets_of(*HARD["none"]))

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
    for height, width in ((64, 96), (96, 64)):
        images = paddle.rand([2, 3, height, width])
        boxes, scores, _ = loaded(images, batch.image_sizes, batch.scale_factors)
        with paddle.no_grad():
            expected = model.detect(images, batch.image_sizes, batch.scale_factors)
        np.testing.assert_allclose(scores.numpy(), expected.scores.numpy(), atol=1e-5)
        np.testing.assert_allclose(boxes.numpy(), expected.boxes.numpy(), atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchor_masks": [[0]]}, "anchor_masks: there are 1 for 2 output levels"),
        ({"anchor_masks": [[0], [6]]}, r"expected numbers 0\.\.5"),
        ({"anchor_masks": [[0], []]}, "at least one per level"),
        ({"anchors": [[1, 2], [3]]}, r"anchors: got \[3\], expected \[width, height\]"),
        ({"loss": Spec.of(YOLOv3Loss, iou_aware_loss=Spec.of(IouAwareLoss))}, "needs YOLOv3Head.iou_aware"),
    ],
)
def test_facts_that_disagree(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


def test_two_kinds_of_iou_are_refused() -> None:
    with pytest.raises(ValueError, match="giou and ciou are both true"):
        IouLoss(giou=True, ciou=True)
    with pytest.raises(ValueError, match="diou and ciou"):
        IouAwareLoss(diou=True, ciou=True)


#: A YAML in the vocabulary of 2.x, with every fact in the places where 2.x wants it again.
YAML = """
architecture: YOLOv3
norm_type: bn
num_classes: 7
metric: COCO
YOLOv3: {backbone: DarkNet, neck: YOLOv3FPN, yolo_head: YOLOv3Head, post_process: BBoxPostProcess}
DarkNet: {depth: 53, return_idx: [2, 3, 4]}
YOLOv3Head:
  anchors: [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]]
  anchor_masks: [[6, 7, 8], [3, 4, 5], [0, 1, 2]]
  loss: YOLOv3Loss
  iou_aware: true
  iou_aware_factor: 0.4
YOLOv3Loss:
  ignore_thresh: 0.7
  downsample: [32, 16, 8]
  label_smooth: true
  scale_x_y: 1.05
  iou_loss: IouLoss
  iou_aware_loss: IouAwareLoss
IouLoss: {loss_weight: 2.5, loss_square: true}
IouAwareLoss: {loss_weight: 1.0}
BBoxPostProcess:
  decode: {name: YOLOBox, conf_thresh: 0.01, downsample_ratio: 32, clip_bbox: true, scale_x_y: 1.05}
  nms: {name: MultiClassNMS, keep_top_k: 100, score_threshold: 0.01, nms_threshold: 0.45, cpu: true}
"""


def test_a_yaml_of_2x_builds(tmp_path: Path) -> None:
    (tmp_path / "yolo.yml").write_text(YAML)
    model = load_config(tmp_path / "yolo.yml").architecture.build()
    assert isinstance(model, YOLOv3)
    assert model.num_classes == 7
    assert model.yolo_head.yolo_output[0].weight.shape == [3 * (5 + 7 + 1), 1024, 1, 1]
    assert model.yolo_head.loss.scale_x_y == 1.05


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("true, scale_x_y: 1.05", "true, scale_x_y: 1.0", r"YOLOBox\.scale_x_y is 1\.0.*makes it 1\.05"),
        ("[32, 16, 8]", "[32, 8]", r"downsample: expected \[32, 16, 8\].*got the list \[32, 8\]"),
        ("downsample_ratio: 32", "downsample_ratio: 64", r"downsample_ratio: expected 32, got 64"),
    ],
)
def test_a_yaml_that_states_a_fact_twice_differently_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "yolo.yml").write_text(YAML.replace(old, new))
    with pytest.raises(ConfigError, match=rf"yolo.yml:\d+: .*{message}"):
        load_config(tmp_path / "yolo.yml").architecture.build()
