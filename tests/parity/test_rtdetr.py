"""Protects RT-DETR's inference against the reference: every part from the image to the detections, other
input sizes, and the re-parameterised form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import paddle
import pytest
from paddle import Tensor

from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.reparameterize import for_inference
from ppdet.modeling.transformers import rtdetr
from ppdet.modeling.transformers.rtdetr import grid_anchors
from ppdet.ops.constants import Kept
from ppdet.structures import DetectionTensors
from tests.parity.rtdetr_support import (
    Arrays,
    assert_same_detections,
    assert_sample,
    golden,
    images_of,
    model_of,
    order_of,
    ordered,
)
from tests.support import GOLDENS, requires_shared

pytestmark = requires_shared

R18, R50 = "rtdetr_r18vd_6x_coco", "rtdetr_r50vd_6x_coco"
CONFIGS = [R18, pytest.param(R50, marks=pytest.mark.slow)]
#: Tolerances of MODERN.md, section 7: decoder, cross attention, boxes (0..1), detections (score, pixels).
LIMITS: dict[str, tuple[float, float, float, tuple[float, float]]] = {
    R18: (1e-3, 1e-2, 1e-4, (1e-4, 0.05)),
    R50: (5e-3, 1e-2, 5e-4, (1e-3, 0.2)),
}


class Heard:
    """What the layers of a model put out while it runs."""

    def __init__(self, model: DETR) -> None:
        self.outputs: dict[str, list[Tensor]] = {}
        self._model = model

    @contextmanager
    def listening(self) -> Iterator[dict[str, list[Tensor]]]:
        transformer = self._model.transformer
        layers = [("query_pos", transformer.query_pos_head)]
        layers += [("aifi", self._model.neck.encoder[0])]
        layers += [(f"proj/{i}", layer) for i, layer in enumerate(self._model.neck.input_proj)]
        for layer in transformer.decoder.layers:
            layers += [("self_attn", layer.self_attn), ("cross_attn", layer.cross_attn), ("hidden", layer)]
            layers += [
                ("sampling_offsets", layer.cross_attn.sampling_offsets),
                ("attention_logits", layer.cross_attn.attention_weights),
            ]
        hooks = [layer.register_forward_post_hook(self._keep(name)) for name, layer in layers]
        try:
            yield self.outputs
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Tensor) -> None:
            self.outputs.setdefault(name, []).append(output)

        return hook


def detections_of(found: DetectionTensors, image: int) -> tuple[Tensor, Tensor, Tensor]:
    return found.labels[image], found.scores[image], found.boxes[image]


def check_detections(
    found: DetectionTensors, arrays: Arrays, prefix: str, limits: tuple[float, float]
) -> None:
    at = (
        prefix if f"{prefix}im_shape" in arrays else f"{prefix.split('_')[0]}/" if prefix != "deploy/" else ""
    )
    sizes = np.floor(arrays[f"{at}im_shape"] / arrays[f"{at}scale_factor"] + 0.5)
    assert arrays[f"{prefix}bbox_num"].tolist() == [300] * len(sizes)
    for i, (size, rows) in enumerate(zip(sizes, arrays[f"{prefix}bbox"].reshape([-1, 300, 6]))):
        assert_same_detections(detections_of(found, i), rows, size, limits)


@pytest.mark.parametrize("config", CONFIGS)
def test_from_image_to_detections(config: str) -> None:
    arrays, meta = golden(config)
    loose, looser, boxes, limits = LIMITS[config]
    model = model_of(config)
    model.eval()
    images = images_of(meta["inputs"])
    with paddle.no_grad(), Heard(model).listening() as heard:
        backbone = model.backbone(images)
        neck = model.neck(backbone)
        transformer = model.transformer
        memory = transformer.memory(neck)
        selection = transformer.select(memory)
        layers = transformer._refine(
            selection.content, paddle.nn.functional.sigmoid(selection.box_logits), memory, None
        )
        found = model.detect(
            images, paddle.to_tensor(arrays["im_shape"]), paddle.to_tensor(arrays["scale_factor"])
        )
        content = transformer.enc_output(memory.tokens)
        logits = transformer.enc_score_head(content)
        deltas = transformer.enc_bbox_head(content)
    for i in range(3):
        assert_sample(backbone[i], arrays, f"backbone/{i}", 1e-3)
        assert_sample(heard[f"proj/{i}"][0], arrays, f"proj/{i}", 1e-3)
        assert_sample(neck[i], arrays, f"neck/{i}", 1e-3)
    assert_sample(heard["aifi"][0], arrays, "aifi", 1e-3)
    assert_sample(memory.tokens, arrays, "memory", 1e-3)
    assert_sample(content, arrays, "enc/output_memory", 1e-3)
    assert_sample(logits, arrays, "enc/class_logits", 1e-3)
    assert_sample(deltas, arrays, "enc/box_deltas", 1e-3)
    np.testing.assert_allclose(logits.max(axis=-1).numpy(), arrays["enc/max_logit"], rtol=0, atol=2e-3)
    order = order_of(selection, arrays["enc/topk_index"])
    first = ordered(selection.predictions.boxes, order)
    np.testing.assert_allclose(first, arrays["enc/topk_boxes"], rtol=0, atol=boxes)
    assert_sample(ordered(selection.class_logits, order), arrays, "enc/topk_logits", 1e-3)
    for i, layer in enumerate(layers):
        for name in ("query_pos", "self_attn", "sampling_offsets", "attention_logits", "hidden"):
            assert_sample(ordered(heard[name][i], order), arrays, f"dec/{i}/{name}", loose)
        assert_sample(ordered(heard["cross_attn"][i], order), arrays, f"dec/{i}/cross_attn", looser)
        assert_sample(ordered(layer.logits, order), arrays, f"dec/{i}/logits", loose)
        refined = ordered(layer.boxes, order)
        np.testing.assert_allclose(refined, arrays[f"dec/{i}/boxes"], rtol=0, atol=boxes)
    check_detections(found, arrays, "", limits)


@pytest.mark.parametrize("config", CONFIGS)
def test_reparameterised(config: str) -> None:
    arrays, meta = golden(config)
    fused = for_inference(model_of(config))
    assert not any("bottlenecks.0.conv1" in key for key in fused.state_dict())
    with paddle.no_grad():
        images = images_of(meta["inputs"])
        neck = fused.neck(fused.backbone(images))
        found = fused.detect(
            images, paddle.to_tensor(arrays["im_shape"]), paddle.to_tensor(arrays["scale_factor"])
        )
    for i in range(3):
        assert_sample(neck[i], arrays, f"deploy/neck/{i}", 1e-3)
    state = fused.state_dict()
    names = [key.removeprefix("deploy/param/") for key in arrays if key.startswith("deploy/param/")]
    assert names
    for name in names:
        ours, theirs = state[name].numpy().ravel(), arrays[f"deploy/param/{name}"]
        step = max(1, ours.size // 200) | 1
        np.testing.assert_allclose(ours[::step][:200], theirs, rtol=1e-5, atol=1e-6)
    check_detections(found, arrays, "deploy/", LIMITS[config][3])


def swapped_anchors(grids: Any) -> Tensor:
    """Anchors as the reference has them: x divided by the height, y by the width."""
    anchors = grid_anchors(grids)
    parts, start = [], 0
    for height, width in grids:
        part = anchors[start : start + height * width]
        scale = paddle.to_tensor([width / height, height / width, 1.0, 1.0])
        parts.append(part * scale)
        start += height * width
    return paddle.concat(parts)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("prefix", ["rect/", "rect_anchors_fixed/"])
def test_rectangular_input(config: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """320 x 256 pixels. Ours is `rect_anchors_fixed`; with the reference's anchors the rest agrees too."""
    arrays, meta = golden(config)
    loose, _, boxes, limits = LIMITS[config]
    model = model_of(config)
    model.eval()
    if prefix == "rect/":
        monkeypatch.setattr(rtdetr, "grid_anchors", swapped_anchors)
        monkeypatch.setattr(rtdetr, "_ANCHORS", Kept(1))
    images = images_of(meta["inputs"][:1])[:, :, 32:288]
    sizes, scales = (paddle.to_tensor(arrays[f"rect/{name}"]) for name in ("im_shape", "scale_factor"))
    with paddle.no_grad(), Heard(model).listening() as heard:
        features = model.neck(model.backbone(images))
        transformer = model.transformer
        memory = transformer.memory(features)
        selection = transformer.select(memory)
        predictions = transformer(features)
        found = model.post_process(predictions, images, sizes, scales)
    order = order_of(selection, arrays[f"{prefix}enc/topk_index"])
    first = ordered(selection.predictions.boxes, order)
    np.testing.assert_allclose(first, arrays[f"{prefix}enc/topk_boxes"], rtol=0, atol=boxes)
    assert_sample(ordered(selection.class_logits, order), arrays, f"{prefix}enc/topk_logits", 1e-3)
    anchors = rtdetr.grid_anchors(memory.grids).numpy()[None]
    theirs = arrays[f"{prefix}enc/anchors"]
    valid = np.unpackbits(arrays[f"{prefix}enc/valid_mask"])[: anchors.shape[1]].astype(bool)
    np.testing.assert_array_equal(((anchors > 0.01) & (anchors < 0.99)).all(axis=-1)[0], valid)
    logits = np.log(anchors / (1 - anchors), where=anchors < 1, out=np.full_like(anchors, np.inf))
    np.testing.assert_allclose(logits[0, valid], theirs[0, valid], rtol=1e-5, atol=1e-5)
    assert np.isinf(theirs[0, ~valid]).all()
    if prefix == "rect/":
        assert_sample(heard["aifi"][0], arrays, "rect/aifi", 1e-3)
        assert_sample(memory.tokens, arrays, "rect/memory", 1e-3)
        for i, hidden in enumerate(heard["hidden"]):
            assert_sample(ordered(hidden, order), arrays, f"rect/dec/{i}/hidden", loose)
    last = len(heard["hidden"]) - 1
    refined = ordered(predictions.boxes, order)
    np.testing.assert_allclose(refined, arrays[f"{prefix}dec/{last}/boxes"], rtol=0, atol=boxes)
    check_detections(found, arrays, prefix, limits)


def test_the_published_input_size() -> None:
    """640 x 640, where the outermost anchors of the finest level are not used."""
    arrays, meta = golden(R18)
    model = model_of(R18)
    model.eval()
    picture = cv2.imread(str(GOLDENS / "inputs" / meta["inputs"][1]))[:, :, ::-1].transpose(2, 0, 1)
    doubled = picture.repeat(2, axis=1).repeat(2, axis=2)[None].astype(np.float32) * np.float32(1 / 255)
    images = paddle.to_tensor(doubled)
    sizes, scales = (paddle.to_tensor(arrays[f"size640/{name}"]) for name in ("im_shape", "scale_factor"))
    with paddle.no_grad():
        backbone = model.backbone(images)
        neck = model.neck(backbone)
        memory = model.transformer.memory(neck)
        selection = model.transformer.select(memory)
        found = model.post_process(model.transformer(neck), images, sizes, scales)
    for i in range(3):
        assert_sample(backbone[i], arrays, f"size640/backbone/{i}", 1e-3)
        assert_sample(neck[i], arrays, f"size640/neck/{i}", 1e-3)
    anchors = grid_anchors(memory.grids).numpy()
    inside = ((anchors > 0.01) & (anchors < 0.99)).all(axis=-1)
    np.testing.assert_array_equal(inside, np.unpackbits(arrays["size640/enc/valid_mask"])[: len(inside)])
    assert inside[:6400].sum() == 6084
    order = order_of(selection, arrays["size640/enc/topk_index"])
    first = ordered(selection.predictions.boxes, order)
    np.testing.assert_allclose(first, arrays["size640/enc/topk_boxes"], rtol=0, atol=1e-4)
    assert_sample(ordered(selection.class_logits, order), arrays, "size640/enc/topk_logits", 1e-3)
    check_detections(found, arrays, "size640/", (1e-4, 0.05))
