"""Protects inference from end to end: mirrored images, tiles over borders, order, memory, bad files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from ppdet.experiment.evaluate import single_image_stages
from ppdet.export.verify import generated_images
from ppdet.inference.predictors import NativePredictor
from ppdet.inference.runner import ImageRunner
from ppdet.inference.views import Tiling, ViewOptions, Views
from ppdet.structures import Detections, Sample
from ppdet.utils.errors import DataError
from tests.export.small import reader as small_reader
from tests.export.small import small_model
from tests.inference.support import RectangleFinder, picture, reader

TILES = Views(tiling=Tiling((64, 64), (0.25, 0.25)))


def found_in(sample: Sample, views: Views, *, masks: bool = False, batch_size: int = 1) -> Detections:
    """What the finder of rectangles finds."""
    runner = ImageRunner(reader(batch_size=batch_size), RectangleFinder(masks=masks), views)
    ((_, found),) = list(runner.stream([sample]))
    return found


@given(
    st.integers(0, 150),
    st.integers(0, 100),
    st.integers(4, 199),
    st.integers(4, 149),
    st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_an_object_over_any_borders_is_one_detection(x: int, y: int, w: int, h: int, batch: int) -> None:
    box = (x, y, min(x + w, 200), min(y + h, 150))
    found = found_in(picture(150, 200, [(*box, 1, 250)]), TILES, batch_size=batch)
    np.testing.assert_array_equal(found.boxes, [box])
    assert found.labels.tolist() == [1]


def test_objects_side_by_side_stay_apart() -> None:
    columns = [(5 + 40 * i, 50, 40 + 40 * i, 100, i % 3, 250 - i) for i in range(4)]
    found = found_in(picture(150, 200, columns), TILES, masks=True)
    np.testing.assert_array_equal(found.boxes, [column[:4] for column in columns])
    assert found.masks is not None
    for mask, (x1, y1, x2, y2, *_) in zip(found.masks, columns):
        pixels = np.zeros((150, 200), np.uint8)
        pixels[y1:y2, x1:x2] = 1
        np.testing.assert_array_equal(coco_mask.decode(mask), pixels)


@pytest.mark.parametrize("name", ["mask_fpn", "retinanet", "yolov3_tiny"])
def test_one_tile_and_one_size_are_the_plain_image(name: str) -> None:
    predictor = NativePredictor(small_model(name))
    samples = [Sample(i, "x", image) for i, image in enumerate(generated_images())]
    size = next(small_reader().find(type(small_reader().sample_transforms[1]))).params  # type: ignore[attr-defined]
    plain, one_tile, one_size = (
        [found for _, found in ImageRunner(small_reader(), predictor, views).stream(samples)]
        for views in (None, Views(tiling=Tiling((400, 400))), Views(sizes=(size,)))
    )
    assert sum(map(len, plain)) > 5
    for a, b, c in zip(plain, one_tile, one_size):
        for other in (b, c):
            np.testing.assert_array_equal(a.boxes, other.boxes)
            np.testing.assert_array_equal(a.scores, other.scores)
            np.testing.assert_array_equal(a.labels, other.labels)
            assert a.masks == other.masks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_fpn", "mask_fpn", "retinanet"])
def test_a_mirrored_image_gives_mirrored_detections(name: str) -> None:
    model = small_model(name)
    views = ViewOptions(multi_scale=True).views(small_reader(), model.final_nms)
    assert len(views.of(10, 10)) == 6
    image = generated_images()[0]
    runner = ImageRunner(small_reader(), NativePredictor(model), views)
    (_, one), (_, two) = runner.stream(
        [Sample(0, "x", image), Sample(1, "y", np.ascontiguousarray(image[:, ::-1]))]
    )
    assert 1 < len(one) <= 20
    order, mirrored = _in_order(one.boxes, one), _in_order(_mirror(two.boxes, 320), two)
    np.testing.assert_allclose(_mirror(two.boxes, 320)[mirrored], one.boxes[order], atol=0.02)
    np.testing.assert_allclose(two.scores[mirrored], one.scores[order], atol=1e-4)
    if one.masks is not None and two.masks is not None:
        for i, j in zip(order, mirrored):
            a, b = coco_mask.decode(one.masks[i]), coco_mask.decode(two.masks[j])[:, ::-1]
            assert (a != b).mean() < 2e-4


def _mirror(boxes: np.ndarray, width: int) -> np.ndarray:
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def _in_order(boxes: np.ndarray, found: Detections) -> list[int]:
    return sorted(range(len(found)), key=lambda i: (found.labels[i], *np.round(boxes[i], 0)))


def test_every_size_is_looked_at() -> None:
    sizes = {"origin_target_size": [40, 60], "target_size": [20, 80], "use_flip": True, "interp": 0}
    finder = RectangleFinder()
    runner = ImageRunner(reader(sizes, several=True, batch_size=2), finder)
    ((_, found),) = runner.stream([picture(40, 60, [(10, 10, 30, 30, 2, 250)])])
    assert finder.shapes == [(2, 3, 40, 60), (2, 3, 20, 30), (2, 3, 80, 120)]
    np.testing.assert_allclose(found.boxes, [[10, 10, 30, 30]], atol=2)


def test_stages_of_one_image_do_what_the_stream_does() -> None:
    sample = picture(150, 200, [(30, 20, 120, 90, 0, 250), (100, 100, 180, 140, 1, 200)])
    images: Any = [sample]
    value: Any = 0
    runner = ImageRunner(reader(batch_size=4), RectangleFinder(masks=True), TILES)
    for stage in single_image_stages(runner, images):
        value = stage.run(value)
    wanted = found_in(sample, TILES, masks=True)
    np.testing.assert_array_equal(value[0].boxes, wanted.boxes)
    assert value[0].masks == wanted.masks


def test_few_images_are_in_memory_and_they_come_in_order() -> None:
    asked = 0

    def samples() -> Iterator[Sample]:
        nonlocal asked
        for index in range(60):
            asked += 1
            sample = picture(20, 30, [(index % 20, 5, index % 20 + 5, 15, 0, 250)])
            yield sample.replace(image_id=index)

    most = 0
    for done, found in enumerate(ImageRunner(reader(batch_size=2), RectangleFinder()).stream(samples())):
        assert found.sample.image_id == found.detections.image_id == done
        assert found.detections.boxes[0, 0] == done % 20
        most = max(most, asked - done)
    assert done == 59
    assert most < 16


def test_unreadable_files_are_named_or_skipped(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    samples = [picture(20, 30, []), Sample(1, str(tmp_path / "broken.jpg")), picture(20, 30, [])]
    with pytest.raises(DataError, match=r"broken\.jpg"):
        list(ImageRunner(reader(), RectangleFinder()).stream(samples))
    forgiving = reader()
    forgiving.skips_corrupt = True
    runner = ImageRunner(forgiving, RectangleFinder())
    assert len(list(runner.stream(samples))) == 2
    assert runner.skipped == 1
