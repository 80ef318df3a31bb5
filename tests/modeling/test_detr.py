"""Protects RT-DETR's behaviour: losses with and without objects and denoising, settings that inference may
change, the matching, and what a fresh network starts from.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.config import ArgumentError
from ppdet.config.spec import Spec
from ppdet.modeling.assign.hungarian import HungarianMatcher, match_on_host
from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.losses.detr import DINOLoss
from ppdet.modeling.queries import QueryPredictions, QueryTargets
from ppdet.modeling.reparameterize import for_inference
from ppdet.modeling.transformers.rtdetr import RTDETRTransformer
from ppdet.structures import Batch, DetectionTensors, FeatureShape
from tests.modeling.small_detr import small_detr
from tests.modeling.small_rcnn import small_batch

BOX, OTHER = [10.0, 10.0, 50.0, 40.0], [60.0, 5.0, 90.0, 60.0]
CASES = {"some": [[BOX, OTHER], [BOX]], "one": [[BOX], []], "none": [[], []]}


@pytest.mark.parametrize("denoising", [0, 10])
@pytest.mark.parametrize("objects", CASES)
def test_every_loss_exists_and_every_parameter_has_a_gradient(objects: str, denoising: int) -> None:
    paddle.seed(1)
    model = small_detr(num_denoising=denoising)
    model.train()
    losses = model(small_batch(CASES[objects]))
    suffixes = ("", "_aux", "_dn", "_aux_dn") if denoising else ("", "_aux")
    names = [f"loss_{part}{suffix}" for suffix in suffixes for part in ("class", "bbox", "giou")]
    assert sorted(losses) == sorted(names)
    assert all(loss.shape == [] and np.isfinite(float(loss)) for loss in losses.values())
    for name, loss in losses.items():
        assert (float(loss) > 0) == (objects != "none" or name in ("loss_class", "loss_class_aux")), name
    paddle.add_n(list(losses.values())).backward()
    missing = [name for name, p in model.named_parameters() if p.trainable and p.grad is None]
    assert [name for name in missing if not name.endswith(("._mean", "._variance"))] == []


def test_denoising_does_not_reach_the_other_queries() -> None:
    """The mask hides it: without it, the queries would read the truth off their neighbours."""
    paddle.seed(1)
    model = small_detr(num_denoising=10)
    model.eval()  # batch statistics are the same either way, running ones are kept
    batch = small_batch(CASES["some"])
    assert batch.targets is not None
    targets = QueryTargets.of(batch.targets, batch.images)
    with paddle.no_grad():
        features = model.neck(model.backbone(batch.images))
        with_noise = model.transformer.train_outputs(features, targets)
        predictions = model.transformer(features)
    assert with_noise.denoising is not None
    np.testing.assert_allclose(with_noise.layers[-1].boxes.numpy(), predictions.boxes.numpy(), atol=1e-5)
    np.testing.assert_allclose(with_noise.layers[-1].logits.numpy(), predictions.logits.numpy(), atol=1e-4)


def test_crowds_are_no_objects() -> None:
    batch = small_batch(CASES["some"])
    assert batch.targets is not None
    crowd = paddle.to_tensor([[False, True], [True, False]])
    targets = QueryTargets.of(
        type(batch.targets)(batch.targets.boxes, batch.targets.labels, crowd, batch.targets.weights),
        batch.images,
    )
    assert targets.valid.tolist() == [[True, False], [False, False]]
    assert not targets.boxes[1].any()


def detected(model: DETR, batch: Batch) -> DetectionTensors:
    model.eval()
    with paddle.no_grad():
        return model.detect(batch.images, batch.image_sizes, batch.scale_factors)


def changed(state: dict[str, Any], **transformer: Any) -> DETR:
    model = small_detr(**transformer)
    missing, unexpected = model.set_state_dict(state)
    assert not missing
    assert not unexpected
    return model


def test_fewer_queries_and_layers_at_inference_need_no_training() -> None:
    """Section 4.4 of the paper: the same weights serve other numbers of queries and of decoder layers."""
    paddle.seed(2)
    model = small_detr(num_decoder_layers=3)
    state, batch = model.state_dict(), small_batch(CASES["some"])
    full = detected(model, batch)
    fewer = detected(changed(state, num_decoder_layers=3, num_queries=5), batch)
    # Three classes of five queries; the rest of the 30 rows is padding.
    assert (fewer.labels[:, :15] >= 0).all()
    assert (fewer.labels[:, 15:] == -1).all()
    assert not fewer.scores[:, 15:].any()
    assert not fewer.boxes[:, 15:].any()
    with paddle.no_grad():
        features = model.neck(model.backbone(batch.images))
        targets = QueryTargets.of(batch.targets, batch.images)  # type: ignore[arg-type]
        layers = model.transformer.train_outputs(features, targets).layers
    for i in range(3):
        short = changed(state, num_decoder_layers=3, eval_idx=i)
        short.eval()
        with paddle.no_grad():
            predictions = short.transformer(short.neck(short.backbone(batch.images)))
        np.testing.assert_allclose(predictions.boxes.numpy(), layers[i].boxes.numpy(), atol=1e-5)
        np.testing.assert_allclose(predictions.logits.numpy(), layers[i].logits.numpy(), atol=1e-4)
    assert full.boxes.shape == [2, 30, 4]


def test_small_images_have_fewer_tokens_than_queries() -> None:
    model = small_detr(num_queries=50)
    sizes = paddle.to_tensor([[32.0, 64.0]])
    model.eval()
    with paddle.no_grad():
        found = model.detect(paddle.randn([1, 3, 32, 64]), sizes, paddle.ones([1, 2]))
        tokens = model.transformer(model.neck(model.backbone(paddle.randn([1, 3, 32, 64]))))
    assert tokens.boxes.shape == [1, 4 * 8 + 2 * 4 + 1 * 2, 4]
    assert found.boxes.shape == [1, 30, 4]


def test_padding_belongs_to_what_boxes_are_measured_in() -> None:
    """An image padded at the right: boxes are shares of the padded input, and clipped to the content."""
    model = small_detr()
    predictions = QueryPredictions(
        paddle.full([1, 2, 3], 1.0), paddle.to_tensor([[[0.25, 0.5, 0.1, 0.2]] * 2])
    )
    images, scale = paddle.zeros([1, 3, 64, 128]), paddle.to_tensor([[0.5, 0.25]])
    found = model.post_process(predictions, images, paddle.to_tensor([[64.0, 36.0]]), scale)
    # Centre (32, 32), sides 12.8 x 12.8 of the input; the content ends at x = 36, which is 144 originally.
    np.testing.assert_allclose(found.boxes[0, 0].numpy(), [102.4, 51.2, 144, 76.8], rtol=1e-5)


def test_the_fast_form_detects_the_same() -> None:
    paddle.seed(4)
    model = small_detr()
    batch = small_batch(CASES["some"])
    expected, found = detected(model, batch), detected(for_inference(model), batch)
    np.testing.assert_allclose(found.scores.numpy(), expected.scores.numpy(), atol=1e-4)


@pytest.mark.parametrize(("queries", "objects"), [(6, 3), (3, 3), (2, 3), (4, 1), (4, 0)])
def test_matching_is_optimal(queries: int, objects: int) -> None:
    rng = np.random.default_rng(queries)
    costs = rng.standard_normal((2, 1, queries, 4))
    valid = np.array([[True] * objects + [False] * (4 - objects)])
    for one, match in zip(costs[:, 0], match_on_host(costs, valid)[:, 0]):
        pairs = [(query, column) for column, query in enumerate(match) if query >= 0]
        assert len(pairs) == len({query for query, _ in pairs}) == min(queries, objects)
        assert all(column < objects for _, column in pairs)
        best = min(
            sum(one[q, g] for q, g in zip(chosen, columns))
            for columns in itertools.combinations(range(objects), len(pairs))
            for chosen in itertools.permutations(range(queries), len(pairs))
        )
        assert sum(one[pair] for pair in pairs) == pytest.approx(best)


def test_costs_that_are_no_numbers_do_not_stop_the_matching() -> None:
    """The loss is no number then, which the trainer reports; scipy's own message would hide it."""
    logits, boxes = paddle.zeros([1, 4, 3]), paddle.full([1, 4, 4], 0.5)
    logits[0, 1] = float("nan")
    objects = paddle.to_tensor([[[0.5, 0.5, 0.2, 0.2]]])
    targets = QueryTargets(objects, paddle.zeros([1, 1], "int64"), paddle.ones([1, 1], "bool"))
    match = HungarianMatcher()([QueryPredictions(logits, boxes)], targets)
    assert int(match[0, 0, 0]) in (0, 2, 3)


@pytest.mark.parametrize(
    ("component", "arguments", "message"),
    [
        (RTDETRTransformer, {"eval_idx": 6}, "eval_idx: expected -6..5, got 6"),
        (RTDETRTransformer, {"num_levels": 4}, "num_levels: expected 3, got 4"),
        (RTDETRTransformer, {"num_queries": 0}, "num_queries: expected >= 1, got 0"),
        (RTDETRTransformer, {"nhead": 5}, "nhead: expected a divisor of 64 channels, got 5"),
        (DINOLoss, {"loss_coeff": {"class": 1, "bbox": 5}}, "expected class, bbox, giou, got bbox, class"),
        (HungarianMatcher, {"matcher_coeff": {"iou": 1}}, "expected class, bbox, giou, got iou"),
    ],
)
def test_settings_that_make_no_sense(component: Any, arguments: dict[str, Any], message: str) -> None:
    shapes = [FeatureShape(32, stride) for stride in (8, 16, 32)]
    if component is RTDETRTransformer:
        arguments = {"in_shapes": shapes, "num_classes": 3, "hidden_dim": 64, **arguments}
    with pytest.raises(ArgumentError, match=message):
        Spec.of(component, **arguments).build()


def test_a_fresh_network() -> None:
    """Initial values: class priors, boxes at their anchors, points in a star around the boxes."""
    transformer = RTDETRTransformer(
        in_shapes=[FeatureShape(32, stride) for stride in (8, 16, 32)], num_classes=3, hidden_dim=64
    )
    for head in [transformer.enc_score_head, *transformer.dec_score_head]:
        np.testing.assert_allclose(head.bias.numpy(), -np.log(99), rtol=1e-6)
        assert np.abs(head.weight.numpy()).max() <= 1 / 8
    for head in [transformer.enc_bbox_head, *transformer.dec_bbox_head]:
        assert not head.layers[2].weight.any()
        assert not head.layers[2].bias.any()
    attention = transformer.decoder[0].cross_attn
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any()
    offsets = attention.sampling_offsets.bias.numpy().reshape(8, 3, 4, 2)
    np.testing.assert_allclose(np.abs(offsets).max(axis=-1), np.tile([1, 2, 3, 4], (8, 3, 1)), rtol=1e-6)
