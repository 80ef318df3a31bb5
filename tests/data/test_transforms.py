"""Protects that a transform moves image, boxes and masks together, and that draws stay in range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.data.batching import collate, collate_polygons
from ppdet.data.geometry import clip_polygon, crop_target, decode_runs, encode_runs, trace_bitmap
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.color import RandomDistort, distort
from ppdet.data.transforms.crop import CropParams, RandomCrop, centres_inside, iou_with_crop
from ppdet.data.transforms.expand import ExpandParams, RandomExpand
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.mixup import Mixup
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import BatchRandomResize, RandomResize, Resize, ResizeParams
from ppdet.data.transforms.yolo_format import BboxXYXY2XYWH, Gt2YoloTarget, NormalizeBox, PadBox, PadGT
from ppdet.structures import Sample, Target
from ppdet.utils.errors import DataError
from tests.data.support import sample_of, target_of

HEIGHT, WIDTH = 24, 32
rng = np.random.default_rng(0)


def extent(points: np.ndarray) -> list[float]:
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


@st.composite
def rectangles(draw: st.DrawFn) -> list[int]:
    x1, x2 = sorted(draw(st.lists(st.integers(0, WIDTH), min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(st.integers(0, HEIGHT), min_size=2, max_size=2, unique=True)))
    return [x1, y1, x2, y2]


def painted(rectangle: list[int]) -> Sample:
    """An image whose only white part is the object, which has a box, a polygon, and run lengths."""
    x1, y1, x2, y2 = rectangle
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    polygon = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
    runs = encode_runs(image[..., 0] // 255)
    return sample_of(image, target_of([rectangle, rectangle], ((polygon,), runs)))


def check_together(sample: Sample, *, exact: bool = True) -> None:
    """Box, polygon, run lengths and white pixels are in the same place."""
    assert sample.image is not None
    assert sample.target is not None
    for box, mask in zip(sample.target.boxes, sample.target.masks or ()):
        if isinstance(mask, tuple):
            polygon = np.concatenate(mask) if mask else np.zeros((1, 2))
            np.testing.assert_allclose(extent(polygon), box, atol=1e-3)
        else:
            white = sample.image[..., 0] > 127
            bitmap = decode_runs(mask).astype(bool)
            assert bitmap.shape == white.shape
            if exact:
                np.testing.assert_array_equal(bitmap, white)
                rows, columns = np.nonzero(white)
                assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.tolist()


@given(rectangles())
def test_flip_moves_all_together_and_twice_is_nothing(rectangle: list[int]) -> None:
    sample = painted(rectangle)
    flip = RandomFlip()
    once = flip.apply(sample, True)
    check_together(once)
    twice = flip.apply(once, True)
    np.testing.assert_array_equal(twice.image, sample.image)
    assert twice.target is not None
    assert sample.target is not None
    np.testing.assert_array_equal(twice.target.boxes, sample.target.boxes)
    assert flip.apply(sample, False) is sample


@given(rectangles(), st.integers(1, 4), st.integers(1, 4))
def test_resize_by_whole_factors_moves_all_together(rectangle: list[int], fy: int, fx: int) -> None:
    resize = Resize(target_size=[HEIGHT * fy, WIDTH * fx], keep_ratio=False, interp=0)
    result = resize(painted(rectangle), rng)
    check_together(result)
    assert result.scale_factor == (fy, fx)
    assert result.image_size == (HEIGHT * fy, WIDTH * fx)


@given(rectangles(), st.integers(8, 90), st.integers(8, 90), st.booleans())
def test_resize_keeps_box_and_polygon_together(rectangle: list[int], a: int, b: int, keep: bool) -> None:
    result = Resize(target_size=[a, b], keep_ratio=keep)(painted(rectangle), rng)
    check_together(result, exact=False)
    assert result.image is not None
    assert result.image.shape[:2] == result.image_size
    if keep:
        # At the limit on one side, not above it on the other, but for rounding.
        sides = sorted(result.image_size)
        assert sides[0] <= min(a, b) + 0.5
        assert sides[1] <= max(a, b) + 0.5
        assert sides[0] >= min(a, b) - 0.5 or sides[1] >= max(a, b) - 0.5


@given(rectangles(), st.integers(0, 20), st.integers(0, 20))
def test_expand_moves_all_together(rectangle: list[int], y: int, x: int) -> None:
    params = ExpandParams((HEIGHT + 21, WIDTH + 22), (y, x))
    check_together(RandomExpand(fill_value=(0, 0, 0)).apply(painted(rectangle), params))


@given(rectangles(), rectangles())
def test_crop_moves_all_together(rectangle: list[int], window: list[int]) -> None:
    crop = CropParams(window[0], window[1], window[2] - window[0], window[3] - window[1])
    result = RandomCrop().apply(painted(rectangle), crop)
    assert result.target is not None
    centre = (rectangle[0] + rectangle[2]) / 2, (rectangle[1] + rectangle[3]) / 2
    inside = window[0] < centre[0] < window[2] and window[1] < centre[1] < window[3]
    assert len(result.target) == (2 if inside else 0)
    check_together(result)


@given(
    st.lists(st.tuples(st.integers(-20, 60), st.integers(-20, 60)), min_size=3, max_size=3, unique=True),
    st.integers(5, 40),
    st.integers(5, 40),
)
def test_clipped_triangle_covers_the_same_pixels(
    points: list[tuple[int, int]], width: int, height: int
) -> None:
    """Point in polygon, tested on a grid, is the oracle."""
    triangle = np.array(points, np.float64)
    clipped = clip_polygon(triangle, np.array([width, height], np.float32))
    # Offsets that no edge between whole points runs along.
    y, x = np.mgrid[0:height, 0:width] + np.array([0.3717, 0.6291])[:, None, None]
    wanted = contains(triangle, x, y)
    found = contains(clipped.astype(np.float64), x, y)
    # The grid may fall on an edge within rounding.
    assert (wanted != found).sum() <= 1
    if len(clipped):
        assert clipped.min() >= 0
        assert (clipped.max(axis=0) <= [width, height]).all()


def contains(polygon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Even-odd rule."""
    inside = np.zeros(x.shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0)):
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def test_crop_keeps_count_of_masks_when_a_polygon_is_cut_away() -> None:
    far = np.array([[0, 0], [2, 0], [2, 2]], np.float32)
    target = target_of([[0, 0, 30, 20], [10, 10, 20, 20]], ((far,), (far + 12,)))
    cropped = crop_target(target, (8, 8), (10, 10))
    assert cropped.masks is not None
    assert cropped.masks[0] == ()
    assert len(cropped.masks) == len(cropped) == 2


@given(rectangles())
def test_tracing_a_bitmap_stays_within_half_a_pixel(rectangle: list[int]) -> None:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    bitmap[rectangle[1] : rectangle[3], rectangle[0] : rectangle[2]] = 1
    (part,) = trace_bitmap(bitmap)
    np.testing.assert_allclose(extent(part), rectangle, atol=0.25)


def test_flip_probability() -> None:
    sample = sample_of(np.zeros((2, 2, 3), np.uint8))
    for prob in (0.0, 0.25, 1.0):
        draws = [RandomFlip(prob=prob).draw(sample, np.random.default_rng(k)) for k in range(400)]
        assert abs(np.mean(draws) - prob) < 0.08
    with pytest.raises(ValueError, match=r"prob: expected 0\.\.1, got 2"):
        RandomFlip(prob=2)


def test_prob_of_expand_and_distort_is_that_of_doing_nothing() -> None:
    sample = sample_of(np.zeros((20, 20, 3), np.uint8))
    never = RandomExpand(prob=1.0)
    assert all(never.draw(sample, np.random.default_rng(k)) is None for k in range(20))
    always = RandomExpand(prob=0.0, ratio=2.0)
    drawn = [always.draw(sample, np.random.default_rng(k)) for k in range(50)]
    assert sum(d is not None for d in drawn) > 40
    for params in drawn:
        if params is not None:
            assert 20 < params.size[0] <= 40
            assert 0 <= params.offset[0] <= params.size[0] - 20
    quiet = RandomDistort(
        hue=[-18, 18, 1], saturation=[0.5, 1.5, 1], contrast=[2, 3, 1], brightness=[1, 2, 1]
    )
    assert quiet.draw(sample, rng).operations == ()
    loud = RandomDistort(hue=[-18, 18, 0], saturation=[0.5, 1.5, 0], contrast=[2, 3, 0], brightness=[1, 2, 0])
    operations = dict(loud.draw(sample, rng).operations)
    assert set(operations) == {"hue", "saturation", "contrast", "brightness"}
    assert 2 <= operations["contrast"] <= 3
    fixed = RandomDistort(contrast=[2, 3, 0], random_apply=False, random_channel=True)
    seen = {fixed.draw(sample, np.random.default_rng(k)).channels for k in range(60)}
    assert len(seen) > 3


def test_distortions_have_their_neutral_amounts() -> None:
    image = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    gray = image @ np.array([0.299, 0.587, 0.114])
    for neutral in (("saturation", 1.0), ("contrast", 1.0), ("brightness", 1.0)):
        np.testing.assert_array_equal(distort(image, [neutral]), image)
    np.testing.assert_allclose(distort(image, [("saturation", 0.0)]), gray[..., None].repeat(3, 2), atol=1)
    np.testing.assert_allclose(distort(image, [("contrast", 0.0)]), round(gray.mean()), atol=1)
    np.testing.assert_array_equal(distort(image, [("brightness", 2.0)]), np.minimum(2.0 * image, 255))
    red = np.full((2, 2, 3), [200, 0, 0], np.uint8)
    np.testing.assert_array_equal(distort(red, [("hue", 0.0)]), red)
    np.testing.assert_allclose(distort(red, [("hue", 256 / 3)]), [[[0, 200, 0]] * 2] * 2, atol=6)  # green
    np.testing.assert_allclose(distort(red, [("hue", -256 / 3)]), [[[0, 0, 200]] * 2] * 2, atol=6)  # blue


@settings(max_examples=30)
@given(st.permutations(["hue", "saturation", "contrast", "brightness"]), st.integers(0, 4))
def test_distortions_are_done_one_after_the_other(order: list[str], count: int) -> None:
    image = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    amounts = {"hue": 5.0, "saturation": 1.4, "contrast": 0.7, "brightness": 1.2}
    operations = [(name, amounts[name]) for name in order[:count]]
    one_by_one = image.astype(np.float32)
    for operation in operations:
        one_by_one = distort(one_by_one, [operation])
    together = distort(image, operations)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, one_by_one)


@settings(max_examples=50)
@given(st.integers(0, 10_000), rectangles())
def test_drawn_crops_are_in_the_image_and_keep_an_object(seed: int, rectangle: list[int]) -> None:
    sample = painted(rectangle)
    assert sample.target is not None
    crop = RandomCrop(thresholds=[0.3], allow_no_crop=False, num_attempts=20).draw(
        sample, np.random.default_rng(seed)
    )
    if crop is not None:
        assert crop.x >= 0
        assert crop.y >= 0
        assert crop.x + crop.width <= WIDTH
        assert crop.y + crop.height <= HEIGHT
        assert iou_with_crop(sample.target.boxes, crop).max() >= 0.3
        assert centres_inside(sample.target.boxes, crop).any()


def test_crop_leaves_images_without_objects_alone() -> None:
    sample = sample_of(np.zeros((9, 9, 3), np.uint8), Target.empty(with_masks=True))
    assert RandomCrop()(sample, rng).image is sample.image


def test_cover_all_box_asks_for_the_worst_object() -> None:
    sample = sample_of(np.zeros((20, 20, 3), np.uint8), target_of([[0, 0, 19, 19], [0, 0, 2, 2]]))
    picky = RandomCrop(thresholds=[0.2], allow_no_crop=False, cover_all_box=True)
    assert all(picky.draw(sample, np.random.default_rng(k)) is None for k in range(5))


def test_mixup_weights_and_edges() -> None:
    first = sample_of(np.full((4, 6, 3), 100, np.uint8), target_of([[0, 0, 1, 1]]))
    second = sample_of(np.full((6, 4, 3), 200, np.uint8), target_of([[0, 0, 2, 2], [1, 1, 3, 3]]))
    pair = first.replace(partners=(second,))
    mixed = Mixup().apply(pair, 0.25)
    assert mixed.image is not None
    assert mixed.target is not None
    assert mixed.target.weights is not None
    assert mixed.image.shape == (6, 6, 3)
    assert mixed.image[0, 0, 0] == 175
    assert mixed.image[5, 5, 0] == 0
    np.testing.assert_array_equal(mixed.target.weights, np.float32([0.25, 0.75, 0.75]))
    assert mixed.partners == ()
    assert Mixup().apply(pair, 0.0).image is second.image
    assert Mixup().apply(pair, 1.0).image is first.image
    assert Mixup().draw(first, rng) == 1.0


def test_partner_of_a_pair_is_transformed_with_a_draw_of_its_own() -> None:
    image = rng.integers(0, 255, (8, 8, 3), np.uint8)
    pair = sample_of(image).replace(partners=(sample_of(image),))
    states = set()
    for seed in range(40):
        done = RandomFlip()(pair, np.random.default_rng(seed))
        (partner,) = done.partners
        states.add((np.array_equal(done.image, image), np.array_equal(partner.image, image)))
    assert len(states) == 4


def test_random_resize_draws_what_it_is_given() -> None:
    sample = sample_of(np.zeros((30, 40, 3), np.uint8))
    sizes = [[20, 50], [30, 50], [40, 50]]
    some = RandomResize(target_size=sizes)
    assert {some.draw(sample, np.random.default_rng(k)).target for k in range(50)} == {
        (20, 50),
        (30, 50),
        (40, 50),
    }
    ranged = RandomResize(target_size=[[20, 50], [40, 60]], random_range=True)
    drawn = [ranged.draw(sample, np.random.default_rng(k)).target for k in range(300)]
    assert {long for _, long in drawn} == {60}
    assert {short for short, _ in drawn} == set(range(20, 41))
    plain = RandomResize(target_size=[20, 50], random_size=False)
    assert plain.draw(sample, rng) == ResizeParams((20, 50), True, 1)
    varied = RandomResize(target_size=sizes, random_interp=True)
    assert {varied.draw(sample, np.random.default_rng(k)).interp for k in range(80)} == {0, 1, 2, 3, 4}


def test_batch_resize_gives_one_size_to_all() -> None:
    samples = [sample_of(np.zeros((k, 9, 3), np.uint8)) for k in (5, 7, 9)]
    seen = set()
    for seed in range(20):
        done = BatchRandomResize(target_size=[8, 16]).run(samples, np.random.default_rng(seed))
        shapes = {s.image.shape for s in done if s.image is not None}
        assert len(shapes) == 1
        seen |= shapes
    assert seen == {(8, 8, 3), (16, 16, 3)}


@pytest.mark.parametrize("bad", [0, [1, 2, 3], [-1, 5]])
def test_resize_refuses_bad_sizes(bad: object) -> None:
    with pytest.raises(ValueError, match="target_size"):
        Resize(target_size=bad, keep_ratio=True)  # type: ignore[arg-type]


def test_resize_refuses_unknown_interpolation() -> None:
    with pytest.raises(ValueError, match=r"interp: .*got 9"):
        Resize(target_size=9, keep_ratio=True, interp=9)


@pytest.mark.parametrize("is_scale", [True, False])
@pytest.mark.parametrize("norm_type", ["mean_std", "none"])
def test_normalize_is_the_same_for_bytes_and_floats(is_scale: bool, norm_type: str) -> None:
    image = rng.integers(0, 256, (7, 5, 3)).astype(np.uint8)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    normalize = NormalizeImage(mean=mean, std=std, is_scale=is_scale, norm_type=norm_type)
    quick = normalize(sample_of(image), rng).image
    slow = normalize(sample_of(image.astype(np.float32)), rng).image
    wide = image / (255 if is_scale else 1)
    expected = wide if norm_type == "none" else (wide - mean) / np.array(std)
    assert quick is not None
    assert quick.dtype == np.float32
    np.testing.assert_array_equal(quick, slow)
    np.testing.assert_allclose(quick, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "size"), [(-1, (11, 13)), (0, (11, 13)), (1, (11, 13)), (8, (16, 16))])
def test_pad_batch(stride: int, size: tuple[int, int]) -> None:
    tall = sample_of(np.ones((11, 6, 3), np.float32))
    wide = sample_of(np.ones((5, 13, 3), np.float32))
    samples = [Permute()(s, rng) for s in (tall, wide)]
    padded = PadBatch(pad_to_stride=stride).run(samples, rng)
    for before, after in zip((tall, wide), padded):
        assert after.image is not None
        assert after.image.shape == (3, *size)
        height, width = (int(side) for side in before.image_size)
        assert after.image_size == before.image_size
        assert after.image.sum() == after.image[:, :height, :width].sum() == 3 * height * width


def test_collate_pads_targets_and_never_has_zero_rows() -> None:
    image = np.zeros((3, 4, 4), np.float32)
    samples = [
        Sample(image_id=5, path="a", image=image, target=target_of([[0, 0, 1, 1], [1, 1, 2, 2]])),
        Sample(image_id=6, path="b", image=image, target=Target.empty()),
    ]
    batch = collate(samples, with_masks=False)
    assert batch["labels"].tolist() == [[0, 1], [-1, -1]]
    assert batch["boxes"].shape == (2, 2, 4)
    assert not batch["boxes"][1].any()
    assert batch["weights"].tolist() == [[1, 1], [1, 1]]
    assert collate(samples[1:], with_masks=True)["labels"].tolist() == [[-1]]
    assert collate(samples[1:], with_masks=True)["owner"].tolist() == [-1]
    assert "boxes" not in collate([samples[0].replace(target=None)], with_masks=False)


def test_collate_says_which_transform_is_missing() -> None:
    one = Sample(image_id=5, path="a", image=np.zeros((3, 4, 4), np.float32))
    two = one.replace(image=np.zeros((3, 4, 5), np.float32))
    with pytest.raises(DataError, match="PadBatch"):
        collate([one, two], with_masks=False)
    with pytest.raises(DataError, match="NormalizeImage and Permute"):
        collate([sample_of(np.zeros((4, 4, 3), np.uint8))], with_masks=False)
    with pytest.raises(DataError, match=r"made\.jpg.*Permute must come after"):
        RandomFlip().apply(Permute()(sample_of(np.zeros((4, 5, 3), np.uint8)), rng), True)
    with pytest.raises(DataError, match="Decode first"):
        Resize(target_size=4, keep_ratio=True)(Sample(image_id=1, path="a.jpg"), rng)


def test_polygons_of_a_batch() -> None:
    triangle = np.array([[1, 1], [5, 1], [5, 6]], np.float32)
    bitmap = np.zeros((8, 8), np.uint8)
    bitmap[2:5, 3:7] = 1
    boxes = [[0, 0, 4, 4]] * 4
    masks = ((triangle, triangle + 1), encode_runs(bitmap), encode_runs(bitmap), ())
    target = target_of(boxes, masks)
    target = target.replace(is_crowd=np.array([False, False, True, False]))
    out = collate_polygons([target_of([]), target])
    assert out["owner"].tolist() == [4, 4, 5]
    np.testing.assert_array_equal(out["vertices"][0, :3], triangle)
    assert (out["vertices"][0, 3:] == triangle[-1]).all()
    np.testing.assert_allclose(extent(out["vertices"][2]), [3, 2, 7, 5], atol=0.25)


@pytest.mark.parametrize("step", [NormalizeBox(), BboxXYXY2XYWH(), PadGT(), Gt2YoloTarget()])
def test_steps_without_work_change_nothing(step: Transform) -> None:
    sample = sample_of(np.zeros((4, 4, 3), np.uint8), target_of([[0, 0, 1, 1]]))
    assert step(sample, rng) is sample


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (3, 3), (5, 3)])
def test_pad_box_cuts(count: int, kept: int) -> None:
    sample = sample_of(np.zeros((4, 4, 3), np.uint8), target_of([[0, 0, 1, 1]] * count))
    done = PadBox(num_max_boxes=3)(sample, rng)
    assert done.target is not None
    assert done.target.labels.tolist() == list(range(kept))


def test_resize_clips_boxes_on_every_side_and_nothing_else_does() -> None:
    sample = sample_of(np.zeros((10, 20, 3), np.uint8), target_of([[-3, -2, 25, 14]]))
    flipped = RandomFlip().apply(sample, True).target
    assert flipped is not None
    assert flipped.boxes.tolist() == [[-5, -2, 23, 14]]
    resized = Resize(target_size=[20, 40], keep_ratio=False)(sample, rng).target
    assert resized is not None
    assert resized.boxes.tolist() == [[0, 0, 40, 20]]
