"""Protects that the operations of policies do what their names say, to image, boxes and masks together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.data.geometry import decode_runs
from ppdet.data.transforms.policies import POLICIES, UNIFORM, AutoAugment, RandAugment, TrivialAugment
from ppdet.data.transforms.policy_operations import COLOURS, PlannedOperation, amount_of, run_operation
from ppdet.structures import Sample, Target
from tests.data.augmentation.scenes import check_target, same, samples, scene
from tests.data.support import sample_of, target_of

PHOTO = np.random.default_rng(2).integers(0, 256, (60, 80, 3), np.uint8)
NAMES = sorted(
    {name for policy in POLICIES.values() for part in policy for name, _, _ in part} | set(UNIFORM)
)
POLICY_TRANSFORMS = [
    *(AutoAugment(autoaug_type=name) for name in ("v0", "v1", "v2", "v3")),  # type: ignore[arg-type]  # each is one
    RandAugment(num_ops=3, magnitude=9.0),
    TrivialAugment(),
]


def run(name: str, sample: Sample, amount: float, share: float = 1.0, seed: int = 0) -> Sample:
    """An operation whose amount is in pixels of this image, where it is in pixels."""
    assert sample.image is not None
    if name.startswith(("Translate", "Cutout")):
        amount *= 640 / max(sample.image.shape[:2])
    return run_operation(sample, PlannedOperation(name, amount, share, seed))


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(sample=samples(), level=st.floats(0, 10), seed=st.integers(0, 1000))
def test_any_operation_keeps_ground_truth_in_order(
    name: str, sample: Sample, level: float, seed: int
) -> None:
    planned = PlannedOperation(name, amount_of(name, level, np.random.default_rng(seed)), 1.0, seed)
    assert sample.image is not None
    before = sample.image.copy()
    done = run_operation(sample, planned)
    assert done.image is not None
    check_target(done.replace(image=np.ascontiguousarray(done.image)))
    np.testing.assert_array_equal(sample.image, before)
    assert same(done, run_operation(sample, planned))


@pytest.mark.parametrize("transform", POLICY_TRANSFORMS, ids=lambda t: type(t).__name__)
@settings(max_examples=25, deadline=None)
@given(sample=samples(), seed=st.integers(0, 2**32 - 1))
def test_any_policy_keeps_ground_truth_in_order(transform: Any, sample: Sample, seed: int) -> None:
    done = transform(sample, np.random.default_rng(seed))
    check_target(done)
    assert same(done, transform(sample, np.random.default_rng(seed)))


@pytest.mark.parametrize("transform", POLICY_TRANSFORMS, ids=lambda t: type(t).__name__)
def test_floats_stay_floats_and_images_without_objects_go_through(transform: Any) -> None:
    for target in (None, Target.empty(), Target.empty(with_masks=True)):
        for seed in range(10):
            done = transform(sample_of(PHOTO.astype(np.float32), target), np.random.default_rng(seed))
            assert done.image.dtype == np.float32
            assert done.image.shape == PHOTO.shape


def test_the_colour_operations() -> None:
    image = PHOTO
    values = PHOTO.astype(int)
    np.testing.assert_array_equal(
        COLOURS["Solarize"](image, 100), np.where(values < 100, values, 255 - values)
    )
    expected = np.where(values < 128, np.minimum(values + 50, 255), values)
    np.testing.assert_array_equal(COLOURS["SolarizeAdd"](image, 50), expected)
    np.testing.assert_array_equal(COLOURS["Posterize"](image, 4), values // 16 * 16)
    np.testing.assert_allclose(COLOURS["Brightness"](image, 0.5), values * 0.5, atol=1)
    gray = COLOURS["Color"](image, 0.0)
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    dull = (image // 4 + 90).astype(np.uint8)
    stretched = COLOURS["AutoContrast"](dull, 0)
    assert stretched.min() == 0
    assert stretched.max() >= 254
    counts = np.bincount(COLOURS["Equalize"](dull, 0)[..., 0].ravel(), minlength=256)
    assert abs(counts[:128].sum() / counts.sum() - 0.5) < 0.05
    assert COLOURS["Contrast"](image, 1.5).std() > image.std() > COLOURS["Contrast"](image, 0.5).std()
    steps = [
        np.abs(np.diff(COLOURS["Sharpness"](image, f).astype(int), axis=1)).mean() for f in (0.1, 1.0, 1.9)
    ]
    assert steps[0] < steps[1] < steps[2]


@pytest.mark.parametrize(
    ("name", "level", "amounts"),
    [
        ("ShearX_BBox", 10, {0.3, -0.3}),
        ("Rotate_BBox", 5, {15.0, -15.0}),
        ("TranslateY_BBox", 4, {100.0, -100.0}),
        ("TranslateY_Only_BBoxes", 5, {60.0, -60.0}),
        ("Cutout", 8, {80.0}),
        ("BBox_Cutout", 10, {0.75}),
        ("Color", 0, {0.1}),
        ("Sharpness", 10, {1.9}),
        ("Posterize", 10, {4.0}),
        ("Solarize", 5, {128.0}),
        ("SolarizeAdd", 10, {110.0}),
    ],
)
def test_levels_stand_for_the_published_amounts(name: str, level: float, amounts: set[float]) -> None:
    drawn = {round(amount_of(name, level, np.random.default_rng(seed)), 9) for seed in range(20)}
    assert drawn == amounts


def test_whole_images_move_with_their_objects() -> None:
    sample = scene([square(30, 20, 20)], (60, 80))
    moved = run("TranslateX_BBox", sample, 10.0)
    assert moved.target is not None
    assert moved.image is not None
    np.testing.assert_allclose(moved.target.boxes, [[40, 20, 60, 40]])
    assert moved.image[30, 5].tolist() == [128, 128, 128]
    gone = run("TranslateX_BBox", sample, -60.0)
    assert gone.target is not None
    assert len(gone.target) == 0
    sheared = run("ShearY_BBox", sample, 0.5).target
    assert sheared is not None
    # y grows by half the distance from the centre, x = 40.
    np.testing.assert_allclose(sheared.boxes, [[30, 15, 50, 45]])


def test_pixels_are_those_of_large_images() -> None:
    for side, pixels in ((1280, 100.0), (640, 100.0), (320, 50.0), (64, 10.0)):
        target = target_of([[side // 2, 0, side // 2 + 10, 10]])
        sample = sample_of(np.zeros((16, side, 3), np.uint8), target)
        moved = run_operation(sample, PlannedOperation("TranslateX_BBox", 100.0, 1.0, 0)).target
        assert moved is not None
        assert moved.boxes[0, 0] - side // 2 == pytest.approx(pixels)


def test_holes_are_where_they_are_drawn() -> None:
    image = np.full((60, 80, 3), 7, np.uint8)
    plain = sample_of(image, target_of([[0, 0, 10, 10], [40, 20, 60, 40]]))
    sizes = set()
    for seed in range(30):
        done = run("Cutout", plain, 10.0, seed=seed).image
        assert done is not None
        rows, columns = np.nonzero(done[..., 0] == 128)
        assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        sizes.add(len(rows))
        done = run("BBox_Cutout", plain, 0.5, seed=seed).image
        assert done is not None
        rows, columns = np.nonzero(done[..., 0] == 128)
        assert rows.max() < 46
        assert rows.max() - rows.min() <= 10
    assert max(sizes) == 20 * 20
    crowd = (
        plain.replace(target=plain.target.replace(is_crowd=np.array([True, True]))) if plain.target else plain
    )
    assert run("BBox_Cutout", crowd, 0.5).image is image


@pytest.mark.parametrize("runs", [False, True])
def test_in_boxes_masks_move_with_the_pixels_and_boxes_follow(runs: bool) -> None:
    # The triangle fills the upper left of its box, the square beside it is not touched.
    triangle = np.array([[10.0, 10], [40, 10], [10, 40]])
    sample = scene([triangle, square(50, 10, 8)], (60, 80), runs=runs)
    for name, amount in (
        ("Flip_Only_BBoxes", 1.0),
        ("TranslateY_Only_BBoxes", 12.0),
        ("ShearX_Only_BBoxes", 0.2),
    ):
        sample_alone = sample.replace(
            target=sample.target.replace(is_crowd=np.array([False, True])) if sample.target else None
        )
        done = run(name, sample_alone, amount)
        assert done.image is not None
        assert done.target is not None
        assert done.target.masks is not None
        white = done.image[:, :45, 0] > 191
        bitmap = decode_runs(done.target.masks[0]).astype(bool)  # type: ignore[arg-type]  # it is moved
        assert (bitmap[:, :45] != white).sum() <= 12
        rows, columns = np.nonzero(bitmap)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(done.target.boxes[0], extent)
        assert done.target.masks[1] == (sample.target.masks or ())[1] if sample.target else False  # type: ignore[comparison-overlap]  # as it was


def test_without_masks_boxes_stay_unless_the_object_is_gone() -> None:
    sample = scene([square(10, 10, 20)], (60, 80), masks=False)
    for amount, count in ((15.0, 1), (-19.0, 1), (20.0, 0), (-30.0, 0)):
        done = run("TranslateX_Only_BBoxes", sample, amount)
        assert done.target is not None
        assert len(done.target) == count
        assert sample.target is not None
        np.testing.assert_array_equal(done.target.boxes, sample.target.boxes[:count])
    masked = run("TranslateX_Only_BBoxes", scene([square(10, 10, 20)], (60, 80)), 20.0)
    assert masked.target is not None
    assert len(masked.target) == 0


def test_in_boxes_colours_end_at_the_box() -> None:
    sample = sample_of(PHOTO, target_of([[10.4, 10, 30, 30]]))
    done = run("Equalize_Only_BBoxes", sample, 1.0).image
    assert done is not None
    changed = (done != PHOTO).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) >= (10, 29)
    assert columns.min() >= 10
    assert columns.max() <= 29
    assert run("Equalize_Only_BBoxes", sample, 1.0, share=0.0).image is not None
    np.testing.assert_array_equal(run("Equalize_Only_BBoxes", sample, 1.0, share=0.0).image, PHOTO)


def test_operations_are_drawn_by_their_probabilities() -> None:
    sample = sample_of(PHOTO)
    policy = AutoAugment(autoaug_type="v0")
    draws = [policy.draw(sample, np.random.default_rng(seed)) for seed in range(4000)]
    counts = Counter(planned.name for drawn in draws for planned in drawn)
    # One list of five is drawn, then each of its operations: 0.2 * 0.8, 0.2 * 0.6, 0.2 * 1.0.
    assert counts["Equalize"] / 4000 == pytest.approx(0.16, abs=0.02)
    assert counts["TranslateX_BBox"] / 4000 == pytest.approx(0.12, abs=0.02)
    assert counts["ShearY_BBox"] / 4000 == pytest.approx(0.2, abs=0.02)
    assert counts["Sharpness"] == 0
    shares = {
        planned.share for drawn in draws for planned in drawn if planned.name == "TranslateY_Only_BBoxes"
    }
    np.testing.assert_allclose(sorted(shares), [0.2 / 3, 0.6 / 3])


def test_uniform_policies_draw_every_operation_and_strength() -> None:
    sample = sample_of(PHOTO)
    drawn = [TrivialAugment().draw(sample, np.random.default_rng(seed)) for seed in range(2000)]
    assert {len(planned) for planned in drawn} == {0, 1}
    names = Counter(planned[0].name for planned in drawn if planned)
    assert set(names) == set(UNIFORM)
    assert min(names.values()) > 90
    still = RandAugment(num_ops=2, magnitude=0.0)
    for seed in range(60):
        done = still(sample, np.random.default_rng(seed)).image
        planned = still.draw(sample, np.random.default_rng(seed))
        if not {"Equalize", "AutoContrast"} & {one.name for one in planned}:
            assert done is not None
            assert np.abs(done.astype(int) - PHOTO).max() <= 2
