"""Protects the carriers between the parts: they refuse wrong shapes by name, and index without surprises."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import paddle
import pytest

from ppdet.structures import (
    Batch,
    BatchTargets,
    Categories,
    Detections,
    DetectionTensors,
    FeatureShape,
    PolygonBatch,
    Proposals,
    Sample,
    Target,
    conventions,
    original_sizes,
)
from tests.support import ROOT


def target(count=3, **changes):
    fields = {
        "boxes": np.arange(4 * count, dtype="float32").reshape(count, 4),
        "labels": np.arange(count),
        "is_crowd": np.arange(count) % 2 == 1,
    }
    return Target(**{**fields, **changes})


def batch_targets(images=2, rows=3, **changes):
    fields = {
        "boxes": paddle.zeros([images, rows, 4]),
        "labels": paddle.zeros([images, rows], "int64"),
        "is_crowd": paddle.zeros([images, rows], "bool"),
        "weights": paddle.ones([images, rows]),
    }
    return BatchTargets(**{**fields, **changes})


def batch(**changes):
    fields = {
        "images": paddle.zeros([2, 3, 8, 8]),
        "image_sizes": paddle.zeros([2, 2]),
        "scale_factors": paddle.ones([2, 2]),
        "image_ids": (1, 2),
        "paths": ("a.jpg", "b.jpg"),
    }
    return Batch(**{**fields, **changes})


def detections(count=3, **changes):
    fields = {
        "image_id": 7,
        "boxes": np.arange(4 * count, dtype="float32").reshape(count, 4),
        "scores": np.linspace(0.9, 0.1, count, dtype="float32"),
        "labels": np.arange(count),
    }
    return Detections(**{**fields, **changes})


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (target, "boxes", np.zeros((3, 5))),
        (target, "boxes", np.zeros(12)),
        (target, "labels", np.zeros(2)),
        (target, "is_crowd", np.zeros((3, 1))),
        (target, "difficult", np.zeros(4)),
        (target, "weights", np.zeros(1)),
        (target, "masks", ((), ())),
        (batch_targets, "boxes", paddle.zeros([2, 3, 5])),
        (batch_targets, "labels", paddle.zeros([2, 4])),
        (batch_targets, "is_crowd", paddle.zeros([3, 3])),
        (batch_targets, "weights", paddle.zeros([6])),
        (batch, "images", paddle.zeros([2, 1, 8, 8])),
        (batch, "image_sizes", paddle.zeros([2, 3])),
        (batch, "scale_factors", paddle.zeros([1, 2])),
        (batch, "image_ids", (1,)),
        (batch, "paths", ("a", "b", "c")),
        (detections, "boxes", np.zeros((3, 6))),
        (detections, "scores", np.zeros(2)),
        (detections, "labels", np.zeros((3, 1))),
        (detections, "masks", ({},)),
    ],
)
def test_a_wrong_shape_is_refused_by_name(make, name, value):
    make()
    with pytest.raises(ValueError, match=name):
        make(**{name: value})


def test_expected_and_actual_shape_are_told():
    with pytest.raises(ValueError, match=r"\('any', 4\).*\(3, 5\)"):
        target(boxes=np.zeros((3, 5)))


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        (Proposals, {"boxes": [2, 5, 4], "objectness_logits": [2, 5], "valid": [2, 5]}),
        (DetectionTensors, {"boxes": [2, 5, 4], "scores": [2, 5], "labels": [2, 5]}),
        (PolygonBatch, {"vertices": [5, 9, 2], "owner": [5]}),
    ],
)
def test_each_field_of_a_padded_carrier_is_checked(kind, shapes):
    kind(**{name: paddle.zeros(shape) for name, shape in shapes.items()})
    for wrong in shapes:
        changed = {
            name: [*shape[:-1], shape[-1] + 1] if name == wrong else shape for name, shape in shapes.items()
        }
        with pytest.raises(ValueError, match=r"expected shape"):
            kind(**{name: paddle.zeros(shape) for name, shape in changed.items()})


@pytest.mark.parametrize("make", [target, batch_targets, batch, detections])
def test_carriers_are_frozen(make):
    carrier = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        carrier.boxes = None


def test_lengths():
    assert [len(x) for x in (target(), target(0), batch(), detections(), Target.empty())] == [3, 0, 2, 3, 0]


def test_empty_target_has_masks_only_where_wanted():
    assert Target.empty().masks is None
    assert Target.empty(with_masks=True).masks == ()


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (np.array([True, False, True]), [0, 2]),
        (np.array([2, 0]), [2, 0]),
        (np.array([], int), []),
        (np.zeros(3, bool), []),
    ],
)
def test_selecting_objects_takes_every_field_along(index, rows):
    masks = tuple((np.full((3, 2), i),) for i in range(3))
    whole = target(masks=masks, weights=np.array([0.1, 0.2, 0.3]), difficult=np.array([True, False, False]))
    some = whole.select(index)
    assert some.labels.tolist() == rows
    for name in ("boxes", "is_crowd", "weights", "difficult"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[rows])
    assert [m[0][0, 0] for m in some.masks] == rows
    assert target().select(index).masks is None


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, None), [1, 2]),
        (np.array([True, False, True]), [0, 2]),
        (np.array([2, 1]), [2, 1]),
        (slice(0), []),
    ],
)
def test_indexing_detections(index, rows):
    masks = tuple({"size": [1, 1], "counts": bytes([i])} for i in range(3))
    some = detections(masks=masks)[index]
    assert some.labels.tolist() == rows
    assert some.image_id == 7
    assert [m["counts"][0] for m in some.masks] == rows
    np.testing.assert_array_equal(some.boxes, detections().boxes[rows])


def test_a_single_number_is_no_index_of_detections():
    with pytest.raises(TypeError, match="slice"):
        detections()[0]


def test_replacing_gives_a_copy():
    before = target()
    after = before.replace(labels=np.array([5, 5, 5]))
    assert before.labels.tolist() == [0, 1, 2]
    assert after.labels.tolist() == [5, 5, 5]
    sample = Sample(image_id=1, path="a.jpg", target=before)
    assert sample.replace(target=after).target.labels[0] == 5


def test_a_flat_image_is_refused_with_its_file():
    with pytest.raises(ValueError, match=r"cat\.jpg"):
        Sample(image_id=1, path="cat.jpg", image=np.zeros((4, 4)))


def test_categories():
    table = Categories(("cat", "dog"), (17, 3))
    assert len(table) == 2
    assert table.label_of_name("dog") == 1
    assert Categories.from_names(["a", "b", "c"]).ids == (1, 2, 3)
    with pytest.raises(KeyError, match="there are: cat, dog"):
        table.label_of_name("cow")


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (("a",), (1, 2), "1 category names but 2 ids"),
        (("a", "a"), (1, 2), "name"),
        (("a", "b"), (4, 4), "id"),
    ],
)
def test_categories_that_contradict_themselves_are_refused(names, ids, message):
    with pytest.raises(ValueError, match=message):
        Categories(names, ids)


@pytest.mark.parametrize(("channels", "stride"), [(0, 4), (256, 0), (-1, 4)])
def test_feature_shapes_are_positive(channels, stride):
    with pytest.raises(ValueError, match="positive"):
        FeatureShape(channels, stride)


def test_the_list_of_files_with_conventions_is_complete() -> None:
    text = conventions.__doc__ or ""
    folder, listed = "", set()
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        if name.endswith("/"):
            folder = name
        else:
            listed.add(name if "/" in name else folder + name)
    package = ROOT / "ppdet"
    pattern = re.compile(r"[cC]onventions\b|\blast_pixel\b")
    using = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if pattern.search(path.read_text("utf-8"))
    }
    tests = {"parity/test_conventions_2020.py", "zoo/test_layouts.py"}
    assert using - {"structures/conventions.py"} == listed - tests
    assert all((ROOT / "tests" / name).is_file() for name in tests)


def test_original_sizes_are_whole_for_tensors_and_arrays():
    sizes, factors = np.array([[478, 608]], np.float32), np.array([[0.5975, 0.95]], np.float32)
    assert original_sizes(sizes, factors).tolist() == [[800, 640]]
    tensors = original_sizes(paddle.to_tensor(sizes), paddle.to_tensor(factors))
    np.testing.assert_array_equal(tensors.numpy(), original_sizes(sizes, factors))
