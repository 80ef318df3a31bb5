"""Protects the contract on keys: every R-CNN config must name and shape its weights as 2.x does."""

from __future__ import annotations

import json

import pytest

import ppdet
from tests.support import ROOT, SHARED, requires_shared

#: Configs that have another recipe than the one whose key list is stored, and the same network.
SAME_NETWORK = {
    "cascade_faster_rcnn_r50_fpn_1x_coco": "cascade_rcnn_r50_fpn_1x_coco",
    "faster_rcnn_r101_fpn_2x_coco": "faster_rcnn_r101_fpn_1x_coco",
    "mask_rcnn_r50_vd_fpn_2x_coco": "mask_rcnn_r50_vd_fpn_1x_coco",
}
#: No list of keys is stored for this network.
UNLISTED = {"mask_rcnn_r101_fpn_1x_coco", "mask_rcnn_r101_fpn_2x_coco"}
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*_rcnn_*_coco.yml"))


@requires_shared
@pytest.mark.parametrize("name", [n for n in CONFIGS if n not in UNLISTED])
def test_keys_are_those_of_the_published_weights(name: str) -> None:
    stored = SAME_NETWORK.get(name, name.replace("_ms640-800", ""))
    expected = json.loads((SHARED / "keys" / f"{stored}.g2.json").read_text())
    model = ppdet.build_model(ppdet.load_config(ROOT / "configs" / f"{name}.yml"))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected


@requires_shared
def test_mask_r101_is_faster_r101_with_a_mask_head() -> None:
    keys = SHARED / "keys"
    backbone = json.loads((keys / "faster_rcnn_r101_fpn_1x_coco.g2.json").read_text())
    heads = json.loads((keys / "mask_rcnn_r50_fpn_1x_coco.g2.json").read_text())
    expected = backbone | {key: shape for key, shape in heads.items() if key.startswith("mask_head.")}
    model = ppdet.build_model(ppdet.load_config(ROOT / "configs" / "mask_rcnn_r101_fpn_1x_coco.yml"))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected
