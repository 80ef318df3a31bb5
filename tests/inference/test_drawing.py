"""Protects what a user sees in a picture: the right boxes, stable colours, nothing outside, input whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ppdet.data.transforms.decode import read_image
from ppdet.inference import drawing as draw
from ppdet.inference.drawing import (
    GAP,
    MAX_SIDE,
    MIN_SIDE,
    draw_detections,
    save_picture,
    side_by_side,
)
from ppdet.structures import Detections
from ppdet.utils.colours import class_colour
from ppdet.utils.errors import DataError

NAMES = ("cat", "dog", "狗")


def detections(
    boxes: list[list[float]], scores: list[float], labels: list[int], masks: object = None
) -> Detections:
    """Detections of one image."""
    return Detections(
        image_id=1,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
        masks=masks,  # type: ignore[arg-type]
    )


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    return int((image == np.array(colour)).all(-1).sum())


def test_draws_only_what_passes_the_threshold_and_leaves_the_input() -> None:
    image = np.full((600, 800, 3), 90, np.uint8)
    found = detections([[100, 100, 300, 200], [400, 300, 700, 500]], [0.9, 0.4], [0, 1])
    drawn = draw_detections(image, found, NAMES, threshold=0.5)
    assert drawn.shape == image.shape
    assert (image == 90).all()
    assert count(drawn, class_colour(0)) > 400
    assert count(drawn, class_colour(1)) == 0
    # The left edge of the box is where the box says, and its inside is untouched.
    assert tuple(drawn[150, 100]) == class_colour(0)
    assert (drawn[120:180, 120:280] == 90).all()


def test_nothing_to_draw_gives_the_same_picture() -> None:
    image = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    assert (draw_detections(image, detections([], [], []), NAMES) == image).all()


@pytest.mark.parametrize("side", [1, 37, 128, 479, 480, 2000])
def test_small_images_are_enlarged_by_a_whole_number(side: int) -> None:
    drawn = draw_detections(np.zeros((side, side + 5, 3), np.uint8), detections([], [], []), NAMES)
    assert drawn.shape[0] >= MIN_SIDE
    assert drawn.shape[0] % side == 0
    assert drawn.shape[1] == (side + 5) * (drawn.shape[0] // side)
    assert drawn.shape[0] == side or drawn.shape[0] - side < MIN_SIDE


@pytest.mark.parametrize(
    "box", [[0, 0, 5, 5], [-50, -50, 2000, 2000], [595, 595, 600, 600], [300, 300, 300, 300]]
)
def test_labels_stay_inside_at_the_edges(box: list[float]) -> None:
    drawn = draw_detections(np.zeros((600, 600, 3), np.uint8), detections([box], [0.99], [2]), NAMES)
    # The plate behind the text is never cut off: it covers a few hundred pixels wherever the box is.
    assert count(drawn, class_colour(2)) > 300


def test_masks_are_blended_inside_only() -> None:
    from pycocotools import mask as coco_mask

    inside = np.zeros((600, 600), np.uint8, order="F")
    inside[200:400, 200:400] = 1
    image = np.zeros((600, 600, 3), np.uint8)
    found = detections([[150, 150, 450, 450]], [0.9], [0], masks=(coco_mask.encode(inside),))
    drawn = draw_detections(image, found, NAMES)
    assert (drawn[210:390, 210:390] == (0.45 * np.array(class_colour(0))).astype(np.uint8)).all()
    assert (drawn[160:190, 160:440] == 0).all()


def test_pictures_stand_side_by_side_under_their_titles() -> None:
    left, right = np.full((500, 300, 3), 10, np.uint8), np.full((500, 300, 3), 20, np.uint8)
    both = side_by_side({"ground truth": left, "detected": right})
    head = both.shape[0] - 500
    assert both.shape[1] == 600 + GAP
    assert 10 < head < 60
    assert (both[head:, :300] == 10).all()
    assert (both[head:, 300 + GAP :] == 20).all()
    assert (both[:head, :300] < 100).any(), "no title"
    assert (both[:, 300 : 300 + GAP] == 255).all()


def test_truth_is_labelled_without_scores() -> None:
    image = np.zeros((600, 600, 3), np.uint8)
    found = detections([[100, 100, 500, 500]], [1.0], [0])
    plates = [
        count(draw_detections(image, found, NAMES, with_scores=shown)[:100], class_colour(0))
        for shown in (True, False)
    ]
    assert plates[0] > 1.3 * plates[1] > 0


@pytest.mark.parametrize("ascii_only", [False, True])
def test_names_of_other_alphabets(ascii_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ascii_only and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("this OpenCV has letters for ASCII alone")
    monkeypatch.setattr(draw, "_ASCII_ONLY", ascii_only)
    image = np.zeros((600, 600, 3), np.uint8)
    found = detections([[100, 300, 500, 500]], [0.9], [2])
    stands_in = draw_detections(image, found, ("cat", "dog", "class 2"))
    assert (draw_detections(image, found, NAMES) == stands_in).all() == ascii_only
    # Nothing invisible or that ends a line is ever drawn.
    assert (draw_detections(image, found, ("cat", "dog", "a\n\u202e")) == stands_in).all()


def test_colours_are_stable_and_differ_between_neighbours() -> None:
    colours = [class_colour(k) for k in range(80)]
    assert colours == [class_colour(k) for k in range(80)]
    assert colours[:2] == [(255, 103, 38), (32, 31, 204)]
    assert len(set(colours)) == 80
    assert all(max(abs(a - b) for a, b in zip(p, q)) > 60 for p, q in zip(colours, colours[1:]))


@pytest.mark.parametrize("shape", [(20, 4000), (4000, 20), (1, 1), (1, 70000), (3, 2)])
def test_pictures_of_any_shape_are_enlarged_within_bounds_and_written(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    """An enlarged 4000 x 20 would be longer than a JPEG may be."""
    image = np.full((*shape, 3), 90, np.uint8)
    found = detections([[0, 0, shape[1], shape[0]]], [0.9], [0])
    drawn = draw_detections(image, found, NAMES)
    assert max(drawn.shape) <= max(MAX_SIDE, *shape)
    assert drawn.shape[0] % shape[0] == 0
    assert drawn.shape[0] * shape[1] == drawn.shape[1] * shape[0]
    path = save_picture(drawn, tmp_path / "new" / "a.jpg")
    assert path.suffix == (".png" if max(drawn.shape) > 65500 else ".jpg")
    assert read_image(str(path)).shape == drawn.shape
    assert save_picture(drawn, tmp_path / "a.tiff").name == "a.png"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"a\.(jpg|png): cannot be written"):
        save_picture(drawn, tmp_path / "file" / "a.jpg")
