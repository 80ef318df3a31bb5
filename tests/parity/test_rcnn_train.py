"""Protects training of the R-CNN family: losses, gradients and updates of the reference, for the same images.

Runs: ``crowd`` (crowd boxes given), ``default`` (dropped), ``nogt`` (the second image has no object),
``crowd_ignore`` (regions in a crowd are ignored).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
import pytest

from ppdet.modeling.detectors.two_stage import TwoStageDetector
from ppdet.modeling.heads.rpn_head import RpnOutputs
from ppdet.structures import Proposals
from tests.parity.rcnn_models import rcnn_spec, reference_rcnn, set_aligned
from tests.parity.rcnn_support import assert_same_regions, golden, training_batch
from tests.support import reference_module, requires_shared

MODELS = {
    "faster_rcnn_r50_fpn_1x_coco": ["crowd", "default", "nogt", "crowd_ignore"],
    "faster_rcnn_r50_vd_fpn_1x_coco": ["default"],
    "faster_rcnn_r34_fpn_1x_coco": ["default", "crowd_ignore"],
    "faster_rcnn_r50_1x_coco": ["crowd"],
    "mask_rcnn_r50_fpn_1x_coco": ["crowd", "default", "nogt"],
    "mask_rcnn_r50_1x_coco": ["crowd"],
    "cascade_rcnn_r50_fpn_1x_coco": ["crowd", "nogt"],
    "cascade_mask_rcnn_r50_fpn_1x_coco": ["crowd", "default", "nogt"],
}
CASES = [
    (name, run, prefix)
    for name, runs in MODELS.items()
    for run in runs
    for prefix in ("aligned", "unaligned")
    if prefix == "aligned" or run == "crowd"
]
pytestmark = [requires_shared, pytest.mark.slow]


@functools.lru_cache(maxsize=1)
def model_of(name: str, ignore_thresh: float) -> TwoStageDetector:
    model = reference_rcnn(name, ignore_thresh=ignore_thresh)
    model.train()
    return model


class GoldenProposals:
    """Stands in for the proposal generator: checks its proposals, and hands out the golden's.

    Top-k and NMS decide between nearly equal numbers, so a few proposals differ; which regions are sampled
    then differs too, and the losses by up to 4e-4. From the same proposals they must be equal.
    """

    def __init__(self, model: TwoStageDetector, arrays: dict[str, np.ndarray], run: str) -> None:
        self.generate = model.rpn_head.train_proposal
        self.expected = [arrays[f"{run}/aligned/roi/stage0/{i}/input"] for i in range(2)]

    def __call__(self, outputs: RpnOutputs, image_sizes: paddle.Tensor) -> Proposals:
        own = self.generate(outputs, image_sizes)
        boxes = np.zeros((2, max(map(len, self.expected)), 4), np.float32)
        valid = np.zeros(boxes.shape[:2], bool)
        for i, expected in enumerate(self.expected):
            mine = own.boxes[i].numpy()[own.valid[i].numpy()]
            assert len(mine) == len(expected)
            assert_same_regions(mine, expected)
            boxes[i, : len(expected)] = expected
            valid[i, : len(expected)] = True
        return Proposals(paddle.to_tensor(boxes), paddle.zeros(valid.shape), paddle.to_tensor(valid))


#: Inputs of rectifiers that are zero but for rounding: the layer before, and the flat index of its output.
#: By its gradients the golden was below zero. On the other side the gradient of the layer's bias differs by
#: that of this input: on a processor without AVX-512 the input was +2.1e-7 and its gradient 1.1e-5. On one
#: with AVX-512 it was -1.2e-5: it is a sum of 12,544 products.
NEAR_ZERO = {
    ("cascade_rcnn_r50_fpn_1x_coco", "crowd", "aligned"): ("bbox_head.head.1.fc6", 426 * 1024 + 418),
    ("cascade_mask_rcnn_r50_fpn_1x_coco", "crowd", "aligned"): ("bbox_head.head.1.fc6", 426 * 1024 + 418),
}


@contextmanager
def rectified_as_the_golden(model: TwoStageDetector, name: str, run: str, prefix: str) -> Iterator[None]:
    """Keep the input of `NEAR_ZERO` below zero, whatever rounding does."""
    if (name, run, prefix) not in NEAR_ZERO:
        yield
        return
    layer, index = NEAR_ZERO[name, run, prefix]

    def below_zero(_layer: paddle.nn.Layer, _inputs: object, output: paddle.Tensor) -> paddle.Tensor:
        value = output.numpy().flat[index]
        assert abs(value) < 5e-5
        nudge = np.zeros(output.shape, np.float32)
        nudge.flat[index] = min(0.0, -1e-5 - value)
        return output + paddle.to_tensor(nudge)

    pinned = dict(model.named_sublayers())[layer].register_forward_post_hook(below_zero)
    try:
        yield
    finally:
        pinned.remove()


@contextmanager
def golden_conditions(model: TwoStageDetector, name: str, run: str) -> Iterator[None]:
    """Run a model on what the golden's second stage was given."""
    arrays, _ = golden(f"{name}_train")
    generate = model.rpn_head.train_proposal
    model.rpn_head.train_proposal = GoldenProposals(model, arrays, run)
    if model.mask_head is not None and model.mask_head.share_bbox_feat:
        original = model.mask_head.losses

        def first_image_twice(features, box_training, targets, *, positives):  # type: ignore[no-untyped-def]
            # The reference looks up the shared features of every image's positives among the first image's
            # rows. Doing the same here shows that nothing else differs.
            first = box_training.features[: box_training.features.shape[0] // 2]
            shared = box_training._replace(features=paddle.concat([first, first]))
            return original(features, shared, targets, positives=positives)

        model.mask_head.losses = first_image_twice
    try:
        yield
    finally:
        model.rpn_head.train_proposal = generate
        if model.mask_head is not None:
            model.mask_head.__dict__.pop("loss", None)


@pytest.mark.parametrize(("name", "run", "prefix"), CASES)
def test_losses_and_gradients(name: str, run: str, prefix: str) -> None:
    arrays, meta = golden(f"{name}_train")
    model = model_of(name, 0.5 if run == "crowd_ignore" else -1.0)
    set_aligned(model, prefix == "aligned")
    batch = training_batch(name, run)
    assert_sampled_image(batch.images.numpy(), arrays, run)
    model.clear_gradients()
    with golden_conditions(model, name, run), rectified_as_the_golden(model, name, run, prefix):
        losses = model(batch)
    where = f"{run}/{prefix}"
    expected = {key.split("/")[-1]: arrays[key].item() for key in arrays if key.startswith(f"{where}/loss/")}
    total = expected.pop("loss")
    for loss in losses.values():
        assert loss.shape == []
        assert loss.dtype == paddle.float32
    assert {key: loss.item() for key, loss in losses.items()} == pytest.approx(expected, rel=1e-4)
    loss = paddle.add_n(list(losses.values()))
    assert loss.item() == pytest.approx(total, rel=1e-4)
    loss.backward()

    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert set(gradients) == set(meta["grad_names"])
    norms = np.array([np.linalg.norm(gradients[key].numpy()) for key in meta["grad_names"]])
    expected_norms = arrays[f"{where}/grad_norms"]
    # A rectifier's input that rounds to the other side of zero moves the norm of a single parameter by some
    # 5e-4: changing the last bit of the image does as much. So: the median and the total tightly.
    np.testing.assert_allclose(norms, expected_norms, rtol=2e-3, atol=1e-6)
    relative = np.abs(norms - expected_norms) / np.maximum(expected_norms, 1e-6)
    assert np.median(relative) <= 1e-4
    assert np.linalg.norm(norms) == pytest.approx(arrays[f"{where}/grad_norm_total"].item(), rel=1e-4)
    for key in (k for k in arrays if k.startswith(f"{where}/grad/")):
        parameter = key.split("/")[-1]
        values = gradients[parameter].numpy()
        sample = reference_module().sample_values(values, 100)
        # The same rectifiers move single values of a mask head by up to 8e-3 standard deviations.
        np.testing.assert_allclose(sample, arrays[key], atol=2e-2 * values.std(), rtol=0, err_msg=parameter)


def assert_sampled_image(images: np.ndarray, arrays: dict[str, np.ndarray], run: str) -> None:
    assert list(images.shape) == arrays[f"{run}/image/shape"].tolist()
    sample = reference_module().sample_values(images, 1000)
    np.testing.assert_allclose(sample, arrays[f"{run}/image/sample"], atol=1e-5)


@pytest.mark.parametrize("name", list(MODELS))
def test_parameter_attributes(name: str) -> None:
    _, meta = golden(f"{name}_train")
    actual = {}
    for key, parameter in rcnn_spec(name).build().named_parameters():
        if key.endswith(("._mean", "._variance")):
            continue  # running statistics; Paddle lists them among the parameters
        decay = None if parameter.regularizer is None else parameter.regularizer._coeff
        attributes = [parameter.trainable, parameter.optimize_attr["learning_rate"], decay]
        if attributes != [True, 1.0, None]:
            actual[key] = attributes
    assert actual == meta["param_attrs"]


@pytest.mark.parametrize("name", ["faster_rcnn_r50_fpn_1x_coco", "cascade_rcnn_r50_fpn_1x_coco"])
def test_two_updates(name: str) -> None:
    arrays, meta = golden(f"{name}_train")
    settings = meta["optimise"]["config"]["OptimizerBuilder"]
    clip = settings.get("clip_grad_by_norm")
    model = reference_rcnn(name)
    model.train()
    optimizer = paddle.optimizer.Momentum(
        learning_rate=meta["optimise"]["lr"],
        momentum=settings["optimizer"]["momentum"],
        parameters=[p for p in model.parameters() if p.trainable],
        weight_decay=paddle.regularizer.L2Decay(settings["regularizer"]["factor"]),
        grad_clip=None if clip is None else paddle.nn.ClipGradByGlobalNorm(clip),
    )
    start = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    batch = training_batch(name, "default")
    for step, tolerance in ((0, 1e-4), (1, 1e-2)):
        if step == 0:
            with golden_conditions(model, name, "default"):
                losses = model(batch)
        else:
            losses = model(batch)
        prefix = f"optimise/step{step}/"
        expected = {key[len(prefix) :]: arrays[key].item() for key in arrays if key.startswith(prefix)}
        assert sum(loss.item() for loss in losses.values()) == pytest.approx(
            expected.pop("loss"), rel=tolerance
        )
        for key, loss in losses.items():
            # In the second step the later stages have some ten positives, of which single ones change sides.
            few = step == 1 and key.endswith(("stage1", "stage2"))
            assert loss.item() == pytest.approx(expected[key], rel=0.1 if few else tolerance), (step, key)
        # The reference's script did not clear the gradients of a first pass: its first update has them twice.
        # (Not two backward passes: Paddle's cross entropy overwrites what the second one needs.)
        total = paddle.add_n(list(losses.values()))
        (2 * total if step == 0 else total).backward()
        optimizer.step()
        optimizer.clear_grad()
        state = model.state_dict()
        for key in (k for k in arrays if k.startswith(f"optimise/delta{step + 1}/")):
            name_of = key.split("/", 2)[2]
            delta = reference_module().sample_values(state[name_of].numpy() - start[name_of], 40)
            limit = (2e-2 if step == 0 else 5e-2) * np.abs(arrays[key]).max()
            np.testing.assert_allclose(delta, arrays[key], atol=limit, rtol=0, err_msg=name_of)
