"""Protects YOLOv3 against the reference: features, outputs, detections, targets, losses, gradients, BN
statistics and two optimizer steps, from the same weights and images.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.config.spec import Spec
from ppdet.modeling.assign.yolo_targets import assign_yolo_targets, yolo_planes
from ppdet.modeling.detectors.yolov3 import YOLOv3
from ppdet.modeling.heads.yolo import COCO_ANCHORS, YOLOBox, YOLOv3Head
from ppdet.modeling.layers.yolo_grid import YoloLayout, yolo_layout
from ppdet.modeling.losses.iou import IouLoss
from ppdet.modeling.losses.yolo import YOLOv3Loss
from ppdet.modeling.post_process import MultiClassNMS
from ppdet.structures import Batch, BatchTargets
from tests.parity.rcnn_support import assert_sampled, golden, normalised_batch, resized_image
from tests.support import GOLDENS, SHARED, reference_module, requires_shared, with_reference_weights

EVAL, TRAIN = "yolov3_darknet53_270e_coco", "yolov3_darknet53_270e_coco_train"
MASKS = ((6, 7, 8), (3, 4, 5), (0, 1, 2))
STRIDES = (32, 16, 8)
LAYOUT = yolo_layout(COCO_ANCHORS, MASKS, STRIDES, num_classes=80)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "label_smooth": {"label_smooth": True},
    "scale_1.05": {"scale_x_y": 1.05},
    "iou": {"iou_loss": Spec.of(IouLoss)},
    "giou": {"iou_loss": Spec.of(IouLoss, giou=True, loss_square=False)},
    "ignore_0.5": {"ignore_thresh": 0.5},
}


def images_of(meta: dict[str, Any]) -> paddle.Tensor:
    return paddle.to_tensor(normalised_batch([resized_image("yolo", f) for f in meta["files"]], stride=1))


def targets_of(
    boxes: np.ndarray, labels: np.ndarray, weights: np.ndarray, size: tuple[int, int]
) -> BatchTargets:
    """Targets from normalised centre-size boxes; rows of width 0 are padding."""
    scale = np.array([size[1], size[0]] * 2, np.float32)
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    pixels = np.concatenate([centre - half, centre + half], axis=-1) * scale
    padding = boxes[..., 2] <= 0
    return BatchTargets(
        boxes=paddle.to_tensor(pixels.astype(np.float32)),
        labels=paddle.to_tensor(np.where(padding, -1, labels).astype(np.int64)),
        is_crowd=paddle.zeros(labels.shape, dtype="bool"),
        weights=paddle.to_tensor(weights.astype(np.float32)),
    )


@functools.lru_cache(maxsize=1)
def train_targets() -> BatchTargets:
    arrays, _ = golden(TRAIN)
    count = [len(arrays[f"gt/{i}/raw_class"]) for i in range(2)]
    labels = np.zeros((2, 50), np.int64)
    for i in range(2):
        labels[i, : count[i]] = arrays[f"gt/{i}/raw_class"][:, 0]
    boxes = np.stack([arrays[f"gt/{i}/bbox"] for i in range(2)])
    return targets_of(boxes, labels, np.ones((2, 50)), (320, 320))


def unit_targets() -> BatchTargets:
    arrays, _ = golden("unit_ops")
    part = {name: arrays[f"yolo_loss/gt_{name}"] for name in ("bbox", "class", "score")}
    return targets_of(part["bbox"], part["class"], part["score"], (64, 96))


def only_level(level: int) -> YoloLayout:
    return dataclasses.replace(LAYOUT, levels=LAYOUT.levels[level : level + 1])


def dense_targets(targets: BatchTargets, level: int, grid: tuple[int, int]) -> np.ndarray:
    """The reference's ``[N, 3, 86, h, w]`` form of a level's targets: x y w h weight score classes."""
    images = len(targets.boxes)
    assigned = assign_yolo_targets(targets, yolo_planes(only_level(level), [grid], images), 80)
    dense = np.zeros((images, 3, 86, *grid), np.float32)
    weights = [assigned.box_weights / assigned.weights, assigned.weights]
    parts = [assigned.offsets, assigned.log_sizes, *weights, assigned.classes]
    values = paddle.concat(parts, axis=-1).numpy()
    for row in zip(*np.nonzero(assigned.weights.squeeze(-1).numpy())):
        cell = np.unravel_index(int(assigned.cells[row][0]), (images, 3, *grid))
        at = (*cell[:2], slice(None), *cell[2:])
        assert not dense[at].any(), "two objects answer for one cell"
        dense[at] = values[row]
    return dense


def assert_targets(dense: np.ndarray, arrays: dict[str, np.ndarray], key: str) -> None:
    expected = np.zeros_like(dense)
    expected[tuple(arrays[f"{key}/index"].T)] = arrays[f"{key}/value"]
    # Where they are not zero must agree to the cell; values to float32 rounding.
    np.testing.assert_array_equal(dense[:, :, 5:] > 0, expected[:, :, 5:] > 0)
    np.testing.assert_allclose(dense, expected, rtol=0, atol=1e-5)


def assert_losses(actual: dict[str, paddle.Tensor], arrays: dict[str, np.ndarray], prefix: str) -> None:
    expected = {k[len(prefix) :]: float(v[0]) for k, v in arrays.items() if k.startswith(f"{prefix}loss")}
    total = expected.pop("loss", None)
    got = {name: float(value) for name, value in actual.items()}
    assert got == pytest.approx(expected, rel=1e-4)
    if total is not None:
        assert sum(got.values()) == pytest.approx(total, rel=1e-4)


def assert_detections(boxes: np.ndarray, expected: np.ndarray) -> None:
    """The same rows (label, score, x1, y1, x2, y2) in any order of nearly equal scores."""
    assert boxes.shape == expected.shape
    rows = boxes[np.lexsort((-boxes[:, 1], boxes[:, 0]))]
    rows_expected = expected[np.lexsort((-expected[:, 1], expected[:, 0]))]
    np.testing.assert_array_equal(rows[:, 0], rows_expected[:, 0])
    np.testing.assert_allclose(rows[:, 1], rows_expected[:, 1], rtol=0, atol=1e-4)
    np.testing.assert_allclose(rows[:, 2:], rows_expected[:, 2:], rtol=0, atol=0.05)


def rows_of(detections: Any, image: int) -> np.ndarray:
    labels = detections.labels[image].numpy()
    kept = labels >= 0
    columns = [labels[kept, None], detections.scores[image].numpy()[kept, None]]
    return np.concatenate([*columns, detections.boxes[image].numpy()[kept]], axis=1)


@functools.lru_cache(maxsize=1)
def eval_model() -> YOLOv3:
    model = with_reference_weights(lambda: YOLOv3(num_classes=80))
    model.eval()
    return model


@requires_shared
def test_keys_shapes_and_order() -> None:
    entries = [[key, list(value.shape)] for key, value in eval_model().state_dict().items()]
    with gzip.open(GOLDENS / "parameters.json.gz") as stream:
        assert entries == json.load(stream)[EVAL]
    assert dict(map(tuple, entries)) == json.loads((SHARED / f"keys/{EVAL}.g2.json").read_text())


@requires_shared
def test_keys_of_the_iou_aware_variant() -> None:
    model = YOLOv3(num_classes=80, yolo_head=Spec.of(YOLOv3Head, iou_aware=True))
    entries = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert entries == json.loads((SHARED / f"keys/{EVAL}.variant_iou_aware.g2.json").read_text())


@requires_shared
def test_evaluation() -> None:
    arrays, meta = golden(EVAL)
    model = eval_model()
    sizes = paddle.to_tensor(arrays["im_shape"]), paddle.to_tensor(arrays["scale_factor"])
    with paddle.no_grad():
        backbone = model.backbone(images_of(meta))
        neck = model.neck(backbone)
        outputs = model.yolo_head(neck)
        decoded = model.yolo_head.post_process.decode(outputs, *sizes)
        detections = model.yolo_head.post_process.nms(decoded)
    for i in range(3):
        assert_sampled(backbone[i], arrays, f"backbone/{i}")
        # 75 layers deep, the reference itself is 1.2e-4 off what float64 gives, and so are we.
        assert_sampled(neck[i], arrays, f"neck/{i}", tolerance=2.5e-4)
        assert_sampled(outputs[i], arrays, f"yolo_out/{i}")
    scores = decoded.scores.transpose([0, 2, 1]).numpy()
    assert list(scores.shape) == arrays["decoded_scores/shape"].tolist()
    sampled = reference_module().sample_values(scores, 1000)
    np.testing.assert_allclose(sampled, arrays["decoded_scores/sample"], rtol=0, atol=1e-6)
    ends = np.cumsum(arrays["bbox_num"])
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends)):
        assert_detections(rows_of(detections, i), arrays["bbox"][start:end])


def test_decoding_and_nms_alone() -> None:
    arrays, _ = golden("unit_ops")
    outputs = [paddle.to_tensor(arrays[f"yolo/out{i}"]) for i in range(3)]
    sizes = paddle.to_tensor(arrays["yolo/im_shape"]), paddle.to_tensor(arrays["yolo/scale_factor"])
    decoded = YOLOBox(layout=LAYOUT)(outputs, *sizes)
    # The reference writes zeros for boxes of low objectness; ours keep their place and have score 0.
    shown = arrays["yolo/boxes"].any(axis=-1)
    assert shown.sum() == 604
    np.testing.assert_array_equal(decoded.scores.numpy().any(axis=-1), shown)
    boxes = decoded.boxes.squeeze(2).numpy()
    np.testing.assert_allclose(boxes[shown], arrays["yolo/boxes"][shown], rtol=0, atol=1e-4)
    scores = decoded.scores.transpose([0, 2, 1]).numpy()
    sampled = reference_module().sample_values(scores, 2000)
    np.testing.assert_allclose(sampled, arrays["yolo/scores/sample"], rtol=0, atol=1e-7)
    nms = MultiClassNMS(score_threshold=0.01, nms_top_k=1000, keep_top_k=100, nms_threshold=0.45)
    detections = nms(decoded)
    first = int(arrays["yolo/num"][0])
    assert_detections(rows_of(detections, 0), arrays["yolo/nms"][:first])
    assert_detections(rows_of(detections, 1), arrays["yolo/nms"][first:])


def test_original_sizes_are_exact_where_the_reference_loses_a_pixel() -> None:
    table = golden("unit_ops")[0]["yolo/truncated_sizes"]
    assert len(table) == 95
    decode = YOLOBox(layout=yolo_layout([[1000, 1000]], [[0]], [32], num_classes=1))
    resized = paddle.to_tensor(table[:, :1].repeat(2, axis=1).astype(np.float32))
    scales = resized / paddle.to_tensor(table[:, 1:2].astype(np.float32))
    confident = paddle.full([len(table), 6, 1, 1], 4.0)
    right = decode([confident], resized, scales).boxes.numpy()[:, 0, 0, 2]
    np.testing.assert_array_equal(right + 1, table[:, 1])
    assert (table[:, 2] == table[:, 1] - 1).all()


@pytest.mark.parametrize("level", range(3))
def test_targets(level: int) -> None:
    grid = 320 // STRIDES[level]
    assert_targets(dense_targets(train_targets(), level, (grid, grid)), golden(TRAIN)[0], f"target{level}")
    small = dense_targets(unit_targets(), level, (64 // STRIDES[level], 96 // STRIDES[level]))
    assert_targets(small, golden("unit_ops")[0], f"yolo_loss/target{level}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_alone(variant: str) -> None:
    arrays, _ = golden("unit_ops")
    outputs = [paddle.to_tensor(arrays[f"yolo/out{i}"], stop_gradient=False) for i in range(3)]
    loss = YOLOv3Loss(layout=LAYOUT, **VARIANTS[variant])
    losses = loss(outputs, unit_targets())
    assert_losses(losses, arrays, f"yolo_loss/{variant}/")
    if variant == "plain":
        paddle.add_n(list(losses.values())).backward()
        for i, output in enumerate(outputs):
            assert_sampled(output.grad, arrays, f"yolo_loss/grad{i}", tolerance=1e-3)


def keep_the_golden_side(layer: paddle.nn.Layer, inputs: Any, output: paddle.Tensor) -> paddle.Tensor:
    """Keep one input of a leaky rectifier below zero, where the golden has it.

    It is -9.7e-7, so rounding decides on its side, and rounding depends on what ran before in the process. On
    the other side the norms of ``yolo_transition.1`` are 0.11 % larger, and single values 2 % off.
    """
    nudge = np.zeros(output.shape, np.float32)
    nudge.flat[280444] = -1e-5
    return output + paddle.to_tensor(nudge)


class Trained:
    """What one reference training run leaves behind."""

    def __init__(self) -> None:
        arrays, meta = golden(TRAIN)
        model = with_reference_weights(lambda: YOLOv3(num_classes=80))
        model.train()
        parts = dict(model.named_sublayers())
        pinned = parts["neck.yolo_block.2.conv_module.conv0.batch_norm"].register_forward_post_hook(
            keep_the_golden_side
        )
        self.outputs = model.raw_outputs(images_of(meta))
        pinned.remove()
        self.losses = model.yolo_head.losses(self.outputs, train_targets())
        paddle.add_n(list(self.losses.values())).backward(retain_graph=True)
        self.statistics = {k: v.numpy().copy() for k, v in model.state_dict().items() if "batch_norm._" in k}
        # The running statistics are parameters to Paddle, but not trained.
        parameters = {k: v for k, v in model.named_parameters() if not k.endswith(("._mean", "._variance"))}
        self.parameters = parameters
        self.gradients = {k: v.grad.numpy().copy() for k, v in parameters.items()}
        names = {k.split("/", 2)[2] for k in arrays if k.startswith("optimise/delta")}
        start = {name: parameters[name].numpy().copy() for name in names}
        optimizer = paddle.optimizer.Momentum(
            0.001, 0.9, parameters=model.parameters(), weight_decay=paddle.regularizer.L2Decay(5e-4)
        )
        self.deltas: list[dict[str, np.ndarray]] = []
        self.step_losses = [self.losses]
        batch = Batch(
            images=images_of(meta),
            image_sizes=paddle.full([2, 2], 320.0),
            scale_factors=paddle.ones([2, 2]),
            image_ids=(0, 1),
            paths=("a", "b"),
            targets=train_targets(),
        )
        for step in range(2):
            if step > 0:
                losses = model(batch)
                self.step_losses.append(losses)
            # The reference's script did not clear the gradients of its first pass, so its first update has
            # them twice: its `delta1` is (twice the gradient of `grad/` + L2) times the rate, to 6 digits.
            paddle.add_n(list(self.step_losses[-1].values())).backward()
            optimizer.step()
            optimizer.clear_grad()
            self.deltas.append({name: parameters[name].numpy() - start[name] for name in names})


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained()


@requires_shared
@pytest.mark.slow
def test_training_outputs_and_losses(trained: Trained) -> None:
    arrays, _ = golden(TRAIN)
    for i, output in enumerate(trained.outputs):
        assert_sampled(output, arrays, f"yolo_out/{i}")
    assert_losses(trained.losses, arrays, "loss/")


@requires_shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("label_smooth", VARIANTS["label_smooth"]),
        ("iou_loss", VARIANTS["iou"]),
        ("scale_x_y_1.05", VARIANTS["scale_1.05"]),
    ],
)
def test_training_loss_variants(trained: Trained, key: str, options: dict[str, Any]) -> None:
    loss = YOLOv3Loss(layout=LAYOUT, **options)
    assert_losses(loss(trained.outputs, train_targets()), golden(TRAIN)[0], f"{key}/loss/")


@requires_shared
@pytest.mark.slow
def test_training_loss_per_output(trained: Trained) -> None:
    for i, output in enumerate(trained.outputs):
        losses = YOLOv3Loss(layout=only_level(i))([output], train_targets())
        assert_losses(losses, golden(TRAIN)[0], f"per_output/{i}/")


#: Limit of first-step gradients that are not chaotic, as a share of the norm or of the largest value.
#: All limits leave room for rounding: over nine runs with the last bits of the image changed, first steps
#: came to 1.06e-3, second steps to 7.4 % (norms), 1.7 % (head) and a cosine of 0.970.
QUIET = 2e-3


def is_chaotic(name: str) -> bool:
    """Whether a gradient lies behind the rectifiers of the 10 x 10 level.

    There the goldens themselves are 0.3 % (norms) and 2 % (single values) away from what float64 gives for
    the same weights, since rounding moves activations across the kink of the leaky rectifier.
    """
    return name.startswith(("backbone.", "neck.yolo_block.0."))


@requires_shared
@pytest.mark.slow
def test_gradients(trained: Trained) -> None:
    arrays, meta = golden(TRAIN)
    norms = {name: float(np.linalg.norm(g.astype(np.float64))) for name, g in trained.gradients.items()}
    assert list(norms) == meta["grad_names"]
    expected = dict(zip(meta["grad_names"], arrays["grad_norms"]))
    for name, norm in norms.items():
        assert norm == pytest.approx(expected[name], rel=1e-2 if is_chaotic(name) else QUIET), name
    quiet = [abs(norm / expected[name] - 1) for name, norm in norms.items() if not is_chaotic(name)]
    assert np.median(quiet) <= 1e-4
    assert np.linalg.norm(list(norms.values())) == pytest.approx(float(arrays["grad_norm_total"]), rel=2e-3)
    sampled = [key for key in arrays if key.startswith("grad/")]
    assert len(sampled) == 24
    for key in sampled:
        ours = reference_module().sample_values(trained.gradients[key[5:]], 100)
        tolerance = 4e-2 if is_chaotic(key[5:]) else QUIET
        assert np.abs(ours - arrays[key]).max() <= tolerance * np.abs(arrays[key]).max(), key


@requires_shared
@pytest.mark.slow
def test_running_statistics_after_a_step(trained: Trained) -> None:
    arrays, _ = golden(TRAIN)
    keys = [key for key in arrays if key.startswith("after_step/")]
    assert len(keys) == 4
    for key in keys:
        np.testing.assert_allclose(trained.statistics[key[11:]], arrays[key], rtol=1e-4, atol=1e-5)


@requires_shared
@pytest.mark.slow
def test_parameter_attributes(trained: Trained) -> None:
    meta = golden(TRAIN)[1]
    changed = {}
    for name, parameter in trained.parameters.items():
        decay = parameter.regularizer
        row = [parameter.trainable, parameter.optimize_attr["learning_rate"], decay and decay._coeff]
        if row != [True, 1.0, None]:
            changed[name] = row
    assert changed == meta["param_attrs"]


@requires_shared
@pytest.mark.slow
def test_two_optimizer_steps(trained: Trained) -> None:
    arrays, _ = golden(TRAIN)
    assert_losses(trained.step_losses[0], arrays, "optimise/step0/")
    second = {name: float(value) for name, value in trained.step_losses[1].items()}
    expected = {name: float(arrays[f"optimise/step1/{name}"][0]) for name in second}
    assert second == pytest.approx(expected, rel=1e-2)
    for name, delta in trained.deltas[0].items():
        reference = arrays[f"optimise/delta1/{name}"]
        ours = reference_module().sample_values(delta, 40)
        tolerance = 5e-2 if is_chaotic(name) else QUIET
        assert np.abs(ours - reference).max() <= tolerance * np.abs(reference).max(), name
    for name, delta in trained.deltas[1].items():
        reference = arrays[f"optimise/delta2/{name}"]
        ours = reference_module().sample_values(delta, 40)
        if name.startswith("yolo_head"):
            assert np.abs(ours - reference).max() <= 4e-2 * np.abs(reference).max(), name
        cosine = float(ours @ reference / (np.linalg.norm(ours) * np.linalg.norm(reference)))
        assert cosine > 0.95, f"{name}: {cosine}"
        assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(reference), rel=0.1), name
