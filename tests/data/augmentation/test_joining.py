"""Protects that joined images have the objects of all of them, each where its pixels are."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.config.errors import ArgumentError
from ppdet.data.geometry import decode_runs, join_targets
from ppdet.data.transforms.affine import AffineParams
from ppdet.data.transforms.copy_paste import CopyPaste
from ppdet.data.transforms.mixup import Mixup
from ppdet.data.transforms.mosaic import Mosaic, MosaicParams
from ppdet.structures import Sample, Target
from ppdet.utils.errors import DataError
from tests.data.augmentation.scenes import check_target, rasterised, same, samples, scene
from tests.data.support import sample_of, target_of


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)


def with_partners(sample: Sample, *partners: Sample) -> Sample:
    return sample.replace(partners=partners)


def plain(canvas: tuple[int, int], size: tuple[int, int]) -> AffineParams:
    """Half of the canvas each way."""
    return AffineParams(np.array([[size[1] / canvas[1], 0, 0], [0, size[0] / canvas[0], 0]]), size)


def quarters() -> list[Sample]:
    """Four images of different sizes, each with a square at the same share of its sides, labelled 0..3."""
    made = []
    for label, (height, width) in enumerate([(20, 40), (40, 20), (40, 40), (10, 20)]):
        sample = scene([square(width * 0.25, height * 0.25, min(height, width) / 2)], (height, width))
        assert sample.target is not None
        made.append(sample.replace(target=sample.target.replace(labels=np.array([label]))))
    return made


def test_mosaic_puts_every_image_in_its_corner() -> None:
    first, *others = quarters()
    mosaic = Mosaic(input_dim=40, enable_mixup=False, fill_value=(0, 0, 0))
    params = MosaicParams((44, 36), AffineParams(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (80, 80)), None)
    done = mosaic.apply(with_partners(first, *others), params)
    check_target(done)
    assert done.partners == ()
    assert done.target is not None
    # The first is 20 x 40 after the resize, with its lower right corner at (36, 44): 4 columns are cut off.
    # The second is 40 x 20 with its lower left corner there, the third 40 x 40, the fourth 20 x 40.
    expected = [[6, 29, 16, 39], [41, 14, 51, 24], [6, 54, 26, 74], [46, 49, 56, 59]]
    np.testing.assert_allclose(done.target.boxes, expected)
    assert done.target.labels.tolist() == [0, 1, 2, 3]
    assert done.image is not None
    assert done.target.masks is not None
    covered = sum(rasterised(mask, (80, 80)) for mask in done.target.masks)
    assert np.abs(done.image[..., 0] / 255 - covered).mean() < 0.02


def test_mosaic_maps_the_canvas_to_the_result() -> None:
    first, *others = quarters()
    mosaic = Mosaic(input_dim=40, enable_mixup=False, fill_value=(0, 0, 0))
    done = mosaic.apply(
        with_partners(first, *others), MosaicParams((44, 36), plain((80, 80), (40, 40)), None)
    )
    assert done.image is not None
    assert done.image.shape == (40, 40, 3)
    assert done.target is not None
    np.testing.assert_allclose(done.target.boxes[0], [3, 14.5, 8, 19.5])


def test_mosaic_drops_by_what_is_left_after_both_cuts() -> None:
    """Half goes with the canvas and half of the rest with the map: a quarter is left, and counts."""
    sample = scene([square(0, 0, 20)], (40, 40))
    empty = sample_of(np.zeros((40, 40, 3), np.uint8), Target.empty(with_masks=True))
    # 10 columns of the square leave the canvas on the left; the map shows 10 of its 20 rows.
    centre = MosaicParams((40, 30), AffineParams(np.array([[1.0, 0, 0], [0, 1.0, -10]]), (40, 40)), None)
    for least, count in ((0.24, 1), (0.26, 0)):
        mosaic = Mosaic(input_dim=40, enable_mixup=False, min_visible=least)
        done = mosaic.apply(with_partners(sample, empty, empty, empty), centre)
        assert done.target is not None
        assert len(done.target) == count


def test_mosaic_blends_a_fifth_image() -> None:
    first, *others = quarters()
    fifth = scene([square(2, 10, 20)], (40, 40))
    mosaic = Mosaic(input_dim=40, mixup_scale=[1.0, 1.0], fill_value=(0, 0, 0))
    assert mosaic.needs_partners == 4
    seen, places = set(), set()
    for seed in range(12):
        done = mosaic(with_partners(first, *others, fifth), np.random.default_rng(seed))
        check_target(done)
        assert done.target is not None
        assert done.target.weights is None
        assert done.image is not None
        x1, y1, x2, y2 = done.target.boxes[-1].astype(int)
        assert done.image[y1:y2, x1:x2].min() >= 127  # half of white
        seen.add(len(done.target))
        places.add((x1, y1, x2, y2))
    assert len(seen) > 1
    assert places == {(2, 10, 22, 30), (18, 10, 38, 30)}
    alone = mosaic.apply(with_partners(first, *others, fifth), None)
    assert alone.partners == ()
    assert alone.image is first.image
    assert mosaic(first, np.random.default_rng(0)).image is first.image


@settings(max_examples=40, deadline=None)
@given(st.lists(samples(masks=True), min_size=5, max_size=5), st.integers(0, 2**32 - 1), st.booleans())
def test_any_mosaic_is_good_ground_truth(five: list[Sample], seed: int, mixup: bool) -> None:
    mosaic = Mosaic(input_dim=[32, 48], enable_mixup=mixup, prob=0.9, degrees=[-40, 40])
    pair = with_partners(*five)
    done = mosaic(pair, np.random.default_rng(seed))
    check_target(done)
    assert same(done, mosaic(pair, np.random.default_rng(seed)))
    assert done.target is not None
    assert (done.target.masks is None) == (len(done.target) > 0 and done.target.masks is None)


def test_an_image_without_masks_or_objects_does_not_take_those_of_others() -> None:
    masked = scene([square(0, 0, 8)], (16, 16)).target
    plain_target = target_of([[0, 0, 4, 4]])
    assert masked is not None
    joined = join_targets([masked, Target.empty()])
    assert joined.masks is not None
    assert len(joined.masks) == 1
    assert join_targets([masked, plain_target]).masks is None
    assert join_targets([Target.empty(with_masks=True)] * 2).masks == ()
    assert join_targets([Target.empty()]).masks is None
    difficult = plain_target.replace(difficult=np.array([True]), weights=np.float32([0.5]))
    both = join_targets([plain_target, difficult])
    assert both.difficult is not None
    assert both.weights is not None
    assert both.difficult.tolist() == [False, True]
    assert both.weights.tolist() == [1, 0.5]


def test_mixup_keeps_the_ignored_objects_of_either_image() -> None:
    known = target_of([[0, 0, 4, 4]]).replace(difficult=np.array([True]))
    image = np.zeros((8, 8, 3), np.uint8)
    mixed = Mixup().apply(
        with_partners(sample_of(image, target_of([[1, 1, 2, 2]])), sample_of(image, known)), 0.5
    )
    assert mixed.target is not None
    assert mixed.target.difficult is not None
    assert mixed.target.difficult.tolist() == [False, True]


def pasted(
    below: list[np.ndarray],
    above: list[np.ndarray],
    *,
    crowds: Optional[list[bool]] = None,
    min_visible: float = 0.1,
    other_size: tuple[int, int] = (40, 40),
) -> Sample:
    """Objects on black, and gray ones of another image copied over them."""
    sample = scene(below, (40, 40), is_crowd=crowds)
    partner = scene(above, other_size)
    assert partner.image is not None
    assert partner.target is not None
    partner = partner.replace(
        image=partner.image // 2, target=partner.target.replace(labels=partner.target.labels + 10)
    )
    copy = CopyPaste(min_visible=min_visible)
    return copy.apply(with_partners(sample, partner), tuple(range(len(above))))


def test_copied_objects_cover_those_below() -> None:
    done = pasted([square(5, 5, 20), square(30, 20, 5)], [square(15, 0, 30)])
    check_target(done)
    assert done.image is not None
    assert done.target is not None
    assert done.target.masks is not None
    assert done.image[10, 10, 0] == 255
    assert done.image[10, 20, 0] == 127
    # The first has columns 5 to 15 left, the second is covered, the copy ends at the border.
    assert done.target.labels.tolist() == [0, 10]
    np.testing.assert_allclose(done.target.boxes, [[5, 5, 15, 25], [15, 0, 40, 30]])
    left = decode_runs(done.target.masks[0])  # type: ignore[arg-type]  # made as runs
    np.testing.assert_array_equal(left.astype(bool), done.image[..., 0] == 255)


def test_what_is_not_covered_keeps_its_polygon() -> None:
    done = pasted([square(0, 0, 10)], [square(20, 20, 10)])
    assert done.target is not None
    assert done.target.masks is not None
    np.testing.assert_array_equal(done.target.masks[0][0], square(0, 0, 10))
    np.testing.assert_array_equal(done.target.masks[1][0], square(20, 20, 10))


def test_an_object_in_two_parts_keeps_one_box() -> None:
    done = pasted([square(0, 0, 40)], [np.array([[15.0, 0], [25, 0], [25, 40], [15, 40]])])
    assert done.target is not None
    np.testing.assert_allclose(done.target.boxes[0], [0, 0, 40, 40])


@pytest.mark.parametrize(("least", "crowd", "kept"), [(0.4, False, 1), (0.6, False, 0), (0.6, True, 1)])
def test_covered_objects_go_by_their_share(least: float, crowd: bool, kept: int) -> None:
    done = pasted([square(0, 0, 20)], [square(10, 0, 20)], crowds=[crowd], min_visible=least)
    assert done.target is not None
    assert int((done.target.labels < 10).sum()) == kept


def test_copies_from_an_image_of_another_size_end_at_the_border() -> None:
    done = pasted([], [square(30, 30, 20), square(45, 45, 10)], other_size=(60, 60))
    check_target(done)
    assert done.target is not None
    np.testing.assert_allclose(done.target.boxes, [[30, 30, 40, 40]])
    smaller = pasted([square(0, 0, 40)], [square(0, 0, 10)], other_size=(10, 20))
    check_target(smaller)
    assert smaller.target is not None
    assert len(smaller.target) == 2


def test_crowds_are_not_copied_and_masks_are_needed() -> None:
    sample = scene([square(0, 0, 10)], (40, 40))
    crowd = scene([square(20, 20, 10)], (40, 40), is_crowd=[True])
    copy = CopyPaste()
    generator = np.random.default_rng(0)
    assert copy.draw(with_partners(sample, crowd), generator) == ()
    assert copy.draw(sample, generator) == ()
    with pytest.raises(DataError, match="gt_poly"):
        copy.draw(with_partners(sample, scene([square(0, 0, 9)], (40, 40), masks=False)), generator)
    many = scene([square(k, k, 9) for k in range(20)], (40, 40))
    few = CopyPaste(max_objects=3)
    drawn = {few.draw(with_partners(sample, many), np.random.default_rng(seed)) for seed in range(30)}
    assert max(len(rows) for rows in drawn) == 3
    assert len(drawn) > 20
    without = CopyPaste(prob=0.0)(with_partners(sample, many), generator)
    assert without.image is sample.image
    assert without.partners == ()


@settings(max_examples=60, deadline=None)
@given(samples(masks=True), samples(masks=True), st.integers(0, 2**32 - 1))
def test_any_copy_is_good_ground_truth(sample: Sample, partner: Sample, seed: int) -> None:
    copy = CopyPaste(min_visible=0.2)
    pair = with_partners(sample, partner)
    done = copy(pair, np.random.default_rng(seed))
    check_target(done)
    assert same(done, copy(pair, np.random.default_rng(seed)))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"mixup_scale": [2.0, 1.0]}, "mixup_scale"),
        ({"input_dim": [1]}, "input_dim"),
        ({"fill_value": []}, "fill_value"),
    ],
)
def test_arguments_without_sense_are_named(arguments: dict[str, list[float]], name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Mosaic(**arguments)  # type: ignore[arg-type]  # any of them
    assert caught.value.argument == name
