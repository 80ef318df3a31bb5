"""Protects that turned, scaled and cut images keep boxes and masks where their pixels are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.config.errors import ArgumentError
from ppdet.data.geometry import decode_runs, mask_outline, warp_pixels, warp_target
from ppdet.data.transforms.affine import AffineParams, AffineRanges, RandomAffine
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.scaled_crop import (
    RandomResizeCrop,
    RandomScaledCrop,
    ResizeCropParams,
    ScaledCropParams,
)
from ppdet.structures import Sample, Target
from tests.data.augmentation.scenes import check_target, rasterised, same, samples, scene
from tests.data.support import sample_of

TRIANGLE = np.array([[12.0, 8.0], [50.0, 14.0], [22.0, 40.0]])
SIZE = (56, 64)
MAPS = [
    pytest.param({"degrees": 30}, id="turn"),
    pytest.param({"degrees": -75, "scale": 0.7}, id="turn-back"),
    pytest.param({"scale": 1.6}, id="grow"),
    pytest.param({"scale": 0.5}, id="shrink"),
    pytest.param({"shear": 20}, id="shear"),
    pytest.param({"translate": 0.35}, id="half-out"),
    pytest.param({"degrees": 10, "scale": 1.2, "shear": 8, "translate": -0.1}, id="all"),
]


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])


def fixed(*, degrees: float = 0, translate: float = 0, scale: float = 1, shear: float = 0) -> AffineRanges:
    return AffineRanges(
        degrees=[degrees] * 2, translate=[translate] * 2, scale=[scale] * 2, shear=[shear] * 2
    )


def map_of(size: tuple[int, int] = SIZE, **arguments: float) -> AffineParams:
    return fixed(**arguments).draw(size, size, np.random.default_rng(0))


@pytest.mark.parametrize("arguments", MAPS)
@pytest.mark.parametrize("runs", [False, True])
def test_masks_boxes_and_pixels_move_together(arguments: dict[str, float], runs: bool) -> None:
    sample = scene([TRIANGLE], SIZE, runs=runs)
    done = RandomAffine(fill_value=(0, 0, 0)).apply(sample, map_of(**arguments))
    check_target(done)
    assert done.image is not None
    assert done.target is not None
    assert done.target.masks is not None
    white = done.image[..., 0] / 255.0
    covered = rasterised(done.target.masks[0], SIZE)
    # Only pixels on the outline may differ.
    assert np.abs(white - covered).mean() < 0.02
    assert (np.abs(white - covered) > 0.75).sum() <= 3
    rows, columns = np.nonzero(covered > 0.5)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    # Neither a sharp corner nor its enlargement has a pixel of its own.
    np.testing.assert_allclose(done.target.boxes[0], extent, atol=1.6 * max(1, arguments.get("scale", 1)))


def test_the_map_is_that_of_its_parts() -> None:
    # A quarter turn counter-clockwise about the centre (2, 1): the right neighbour comes to the top.
    params = map_of((2, 4), degrees=90)
    np.testing.assert_allclose(params.matrix @ [3, 1, 1], [2, 0], atol=1e-12)
    np.testing.assert_allclose(map_of((2, 4), scale=3).matrix @ [3, 1, 1], [5, 1], atol=1e-12)
    np.testing.assert_allclose(map_of((2, 4), translate=0.5).matrix @ [3, 1, 1], [5, 2], atol=1e-12)
    sheared = map_of((2, 4), shear=45).matrix
    np.testing.assert_allclose(sheared @ [3, 1, 1], [3, 2], atol=1e-12)
    np.testing.assert_allclose(sheared @ [2, 2, 1], [3, 2], atol=1e-12)
    other = fixed().draw((2, 4), (10, 20), np.random.default_rng(0))
    np.testing.assert_allclose(other.matrix @ [2, 1, 1], [10, 5], atol=1e-12)


def test_pixels_are_squares_and_not_points() -> None:
    image = np.zeros((4, 6), np.uint8)
    image[1, 2] = 200
    doubled = warp_pixels(image, np.array([[2.0, 0, 0], [0, 2.0, 0]]), (8, 12), linear=False)
    np.testing.assert_array_equal(doubled, np.repeat(np.repeat(image, 2, 0), 2, 1))
    moved = warp_pixels(image, np.array([[1.0, 0, 3], [0, 1.0, 1]]), (4, 6))
    assert moved[2, 5] == 200
    turned = warp_pixels(image, np.array([[0, 1.0, 0], [-1.0, 0, 6]]), (6, 4))
    np.testing.assert_array_equal(turned, np.rot90(image))


def test_a_turned_box_is_that_of_the_mask_where_there_is_one() -> None:
    square = np.array([[20.0, 20], [40, 20], [40, 40], [20, 40]])
    params = map_of(degrees=45)
    tight = warp_target(scene([TRIANGLE], SIZE).target, params.matrix, SIZE).target.boxes[0]
    points = TRIANGLE @ params.matrix[:, :2].T + params.matrix[:, 2]
    expected = np.clip([*points.min(0), *points.max(0)], 0, [64, 56, 64, 56])
    np.testing.assert_allclose(tight, expected, atol=1e-4)
    loose = warp_target(scene([square], SIZE, masks=False).target, params.matrix, SIZE).target.boxes[0]
    np.testing.assert_allclose(loose[2:] - loose[:2], [20 * math.sqrt(2)] * 2, atol=1e-4)


def test_a_box_that_is_not_turned_stays_that_of_the_annotation() -> None:
    sample = scene([TRIANGLE], SIZE)
    assert sample.target is not None
    wider = sample.target.replace(boxes=sample.target.boxes + np.float32([-2, -2, 2, 2]))
    moved = warp_target(wider, map_of(scale=0.5).matrix, SIZE).target
    np.testing.assert_allclose(moved.boxes[0] * 2 - [32, 28, 32, 28], wider.boxes[0], atol=1e-4)


def test_objects_go_by_their_share_and_crowds_stay_while_seen() -> None:
    squares = [np.array([[x, 10.0], [x + 20, 10], [x + 20, 30], [x, 30]]) for x in (0.0, 20.0, 40.0)]
    shifted = map_of(translate=0.25)  # 16 pixels to the right, 14 down: 8 of the last one's 20 columns stay

    def left(min_visible: float, crowds: list[bool]) -> list[int]:
        sample = scene(squares, SIZE, is_crowd=crowds)
        done = RandomAffine(min_visible=min_visible).apply(sample, shifted)
        assert done.target is not None
        check_target(done)
        labels: list[int] = done.target.labels.tolist()
        return labels

    assert left(0.39, [False] * 3) == [0, 1, 2]
    assert left(0.41, [False] * 3) == [0, 1]
    assert left(0.41, [False, False, True]) == [0, 1, 2]
    gone = RandomAffine(min_visible=0.0).apply(scene(squares, SIZE, is_crowd=[True] * 3), map_of(translate=2))
    assert gone.target is not None
    assert len(gone.target) == 0


def test_an_object_whose_mask_is_outside_goes_although_its_box_is_not() -> None:
    # The triangle's corner (0, 0) of its box is empty.
    triangle = np.array([[40.0, 0], [40, 40], [0, 40]])
    params = AffineParams(np.array([[1.0, 0, 44], [0, 1.0, 36]]), SIZE)
    sample = scene([triangle], SIZE)
    assert sample.target is not None
    moved = warp_target(sample.target, params.matrix, SIZE)
    assert moved.target.masks == ((),)
    assert moved.visible.tolist() == [0]
    assert len(moved.kept(0.0)) == 0


def test_outline_of_runs_reaches_as_far_as_the_pixels() -> None:
    sample = scene([TRIANGLE], SIZE, runs=True)
    assert sample.target is not None
    assert sample.target.masks is not None
    rows, columns = np.nonzero(decode_runs(sample.target.masks[0]))  # type: ignore[arg-type]  # made as runs
    points = mask_outline(sample.target.masks[0])
    for angle in np.linspace(0, math.pi, 9):
        way = np.array([math.cos(angle), math.sin(angle)])
        corners = np.stack([columns, rows], 1)[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        assert (points @ way).max() == pytest.approx((corners @ way).max(), abs=1e-4)


TRANSFORMS: list[Transform[Any]] = [
    RandomAffine(
        degrees=[-180, 180], translate=[-0.6, 0.6], scale=[0.2, 3], shear=[-30, 30], min_visible=0.2
    ),
    RandomAffine(degrees=[0, 0], shear=[0, 0], target_size=[20, 30], prob=0.7),
    RandomScaledCrop(target_dim=[24, 36], scale_range=[0.3, 3.0], min_visible=0.1),
    RandomResizeCrop(resizes=[20, [30, 40]], cropsizes=[[8, 16], [20, 60]], prob=0.9),
    RandomResizeCrop(resizes=[[20, 30]], cropsizes=[[8, 40]], prob=1.0, mode="long", allow_no_crop=True),
    RandomResizeCrop(resizes=[[20, 30]], cropsizes=[[8, 40]], prob=1.0, keep_ratio=False, cover_all_box=True),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@settings(max_examples=60, deadline=None)
@given(sample=samples(), seed=st.integers(0, 2**32 - 1))
def test_any_draw_gives_good_ground_truth(transform: Transform[Any], sample: Sample, seed: int) -> None:
    before = sample.replace(image=None if sample.image is None else sample.image.copy())
    done = transform(sample, np.random.default_rng(seed))
    check_target(done)
    assert same(done, transform(sample, np.random.default_rng(seed)))
    assert same(before, sample)
    assert done.target is not None
    assert sample.target is not None
    kept = done.target.labels.tolist()
    assert kept == sorted(set(kept))
    np.testing.assert_array_equal(done.target.is_crowd, sample.target.is_crowd[kept])


@settings(max_examples=60, deadline=None)
@given(sample=samples(), seed=st.integers(0, 2**32 - 1))
def test_no_object_goes_that_is_seen(sample: Sample, seed: int) -> None:
    transform = RandomAffine(degrees=[-90, 90], translate=[-0.5, 0.5], min_visible=0.5)
    params = transform.draw(sample, np.random.default_rng(seed))
    assert params is not None
    done = transform.apply(sample, params)
    assert done.target is not None
    assert sample.target is not None
    for label in set(sample.target.labels.tolist()) - set(done.target.labels.tolist()):
        x1, y1, x2, y2 = sample.target.boxes[label]
        grid = np.stack(np.meshgrid(np.linspace(x1, x2, 9), np.linspace(y1, y2, 9)), -1).reshape(-1, 2)
        moved = grid @ params.matrix[:, :2].T + params.matrix[:, 2]
        inside = ((moved >= 0) & (moved <= [params.size[1], params.size[0]])).all(axis=1)
        # The outline of what went is not wholly inside; of a crowd, nothing is.
        assert not inside.all()
        if sample.target.is_crowd[label] and sample.target.masks is None:
            assert not inside[1:-1].any()


def test_large_scale_jitter_grows_and_shrinks() -> None:
    square = np.array([[4.0, 4], [12, 4], [12, 12], [4, 12]])
    sample = scene([square], (16, 32))
    jitter = RandomScaledCrop(target_dim=32, scale_range=[0.5, 2.0], fill_value=(9, 8, 7))
    small = jitter.apply(sample, ScaledCropParams((8, 16), (0, 0)))
    assert small.image is not None
    assert small.target is not None
    assert small.image.shape == (32, 32, 3)
    assert small.image[20, 3].tolist() == [9, 8, 7]
    np.testing.assert_allclose(small.target.boxes, [[2, 2, 6, 6]])
    large = jitter.apply(sample, ScaledCropParams((32, 64), (0, 10)))
    assert large.target is not None
    np.testing.assert_allclose(large.target.boxes, [[0, 8, 14, 24]])
    check_target(large)
    drawn = [jitter.draw(sample, np.random.default_rng(seed)) for seed in range(200)]
    heights = [params.resized[0] for params in drawn]
    assert (min(heights), max(heights)) == (8, 32)
    assert all(params.offset[0] == 0 for params in drawn)
    assert {params.offset[1] > 0 for params in drawn} == {True, False}


def test_an_object_that_shrinks_to_nothing_goes() -> None:
    speck = scene([square(5, 5, 1), square(8, 8, 12)], (32, 32), runs=True)
    jitter = RandomScaledCrop(target_dim=32)
    done = jitter.apply(speck, ScaledCropParams((8, 8), (0, 0)))
    check_target(done)
    assert done.target is not None
    assert done.target.labels.tolist() == [1]
    line = scene([np.array([[5.0, 5], [9, 5], [5, 5]])], (32, 32))
    assert line.target is not None
    line = line.replace(target=line.target.replace(boxes=np.float32([[5, 4, 9, 6]])))
    kept = jitter.apply(line, ScaledCropParams((32, 32), (0, 0))).target
    assert kept is not None
    assert len(kept) == 1


def test_resize_and_crop_by_either_side() -> None:
    sample = scene([np.array([[0.0, 0], [40, 0], [40, 20], [0, 20]])], (20, 40))
    generator = np.random.default_rng(0)

    def resized(**arguments: Any) -> set[tuple[int, int]]:
        crop = RandomResizeCrop(resizes=[[10, 60]], cropsizes=[[5, 10]], prob=1.0, **arguments)
        params = [crop.draw(sample, generator) for _ in range(20)]
        return {p.resized for p in params if p is not None}

    assert resized() == {(10, 20)}
    assert resized(mode="long") == {(30, 60)}
    assert resized(keep_ratio=False) == {(10, 60)}
    crop = RandomResizeCrop(resizes=[10], cropsizes=[[5, 50]], prob=0.5, thresholds=[0.6])
    params = [crop.draw(sample, generator) for _ in range(100)]
    assert 30 < sum(p is None for p in params) < 70
    parts = [p.part for p in params if p is not None and p.part is not None]
    assert all(part.width * part.height >= 0.6 * 200 for part in parts)
    whole = crop.apply(sample, ResizeCropParams((10, 20), None))
    assert whole.target is not None
    assert whole.target.boxes.tolist() == [[0, 0, 20, 10]]


def test_images_without_objects_and_without_ground_truth_go_through() -> None:
    for transform in TRANSFORMS:
        for target in (Target.empty(with_masks=True), None):
            sample = sample_of(np.zeros((20, 30, 3), np.uint8), target)
            done = transform(sample, np.random.default_rng(1))
            assert done.image is not None
            assert (done.target is None) == (target is None)
            assert target is None or len(done.target or ()) == 0


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        (RandomAffine, {"degrees": [5, -5]}, "degrees"),
        (RandomAffine, {"scale": [1.0]}, "scale"),
        (RandomAffine, {"shear": [-90, 0]}, "shear"),
        (RandomAffine, {"fill_value": [1, 2]}, "fill_value"),
        (RandomScaledCrop, {"scale_range": [2.0, 0.1]}, "scale_range"),
        (RandomResizeCrop, {"resizes": [], "cropsizes": [[1, 2]]}, "resizes"),
        (RandomResizeCrop, {"resizes": [10], "cropsizes": [[3, 2]]}, "cropsizes"),
    ],
)
def test_arguments_without_sense_are_named(kind: Any, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        kind(**arguments)
    assert caught.value.argument == name
