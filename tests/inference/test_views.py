"""Protects what is looked at: tiles cover the image and overlap, sizes come from the reader."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.inference.views import Tiling, View, ViewError, ViewOptions, Views, augmented, cut_view, views_of
from tests.export.small import small_model
from tests.inference.support import picture, reader


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 90), st.integers(1, 90), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_pixel_and_stay_inside(
    height: int, width: int, rows: int, columns: int, overlap: float
) -> None:
    seen = np.zeros((height, width), int)
    windows = Tiling((rows, columns), (overlap, overlap)).windows(height, width)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert (x2 - x1, y2 - y1) == (min(columns, width), min(rows, height))
        seen[y1:y2, x1:x2] += 1
    assert seen.min() >= 1
    assert len(set(windows)) == len(windows)


def test_neighbours_share_the_overlap() -> None:
    windows = Tiling((100, 100), (0.2, 0.25)).windows(260, 250)
    assert sorted({(x1, x2) for x1, _, x2, _ in windows}) == [(0, 100), (75, 175), (150, 250)]
    assert sorted({(y1, y2) for _, y1, _, y2 in windows}) == [(0, 100), (80, 180), (160, 260)]


def test_the_whole_image_is_looked_at_beside_its_tiles() -> None:
    views = Views(flip=True, tiling=Tiling((100, 60), (0.0, 0.0)))
    windows = [(0, 0, 120, 100), (0, 0, 60, 100), (60, 0, 120, 100)]
    assert views.of(100, 120) == [View(window, flip, None) for window in windows for flip in (False, True)]
    assert views.least == 2
    assert views.of(90, 50) == [View((0, 0, 50, 90), flip, None) for flip in (False, True)]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Tiling((0, 5)),
        lambda: Tiling((5, 5), (1.0, 0.2)),
        lambda: Tiling((5, 5), (-0.1, 0.2)),
        lambda: Views(match_threshold=0.0),
        lambda: augmented(reader()),
    ],
)
def test_what_cannot_be_is_told(wrong: object) -> None:
    with pytest.raises(ViewError):
        wrong()  # type: ignore[operator]


def test_a_view_is_an_image_of_its_own() -> None:
    sample = picture(20, 30, [(10, 5, 14, 9, 0, 250)])
    seen = cut_view(sample, View((8, 4, 18, 16), True, None))
    assert seen.image is not None
    assert sample.image is not None
    assert (seen.image == sample.image[4:16, 8:18][:, ::-1]).all()
    assert (seen.original_size, seen.image_size, seen.scale_factor) == ((12, 10), (12.0, 10.0), (1.0, 1.0))
    assert seen.target is None


def test_sizes_come_from_the_reader() -> None:
    assert views_of(reader({"target_size": 32, "keep_ratio": True})).single
    sizes = {"origin_target_size": [40, 60], "target_size": [20], "use_flip": False}
    stated = reader(sizes, several=True)
    assert [size.target for size in views_of(stated).sizes] == [(40, 60), (20, 30)]
    assert not views_of(stated).flip
    assert augmented(stated) == views_of(stated)
    assert views_of(reader({**sizes, "target_size": []}, several=True)).single


def test_sizes_where_the_reader_names_one() -> None:
    kept = augmented(reader({"target_size": [800, 1333], "keep_ratio": True}))
    assert [size.target for size in kept.sizes] == [(800, 1333), (640, 1066), (960, 1600)]
    assert kept.flip
    square = augmented(reader({"target_size": [608, 608], "keep_ratio": False, "interp": 2}))
    assert [size.target for size in square.sizes] == [(608, 608), (480, 480), (736, 736)]
    assert {size.interp for size in square.sizes} == {2}


def test_merging_follows_the_nms_of_the_model() -> None:
    model = small_model("faster_fpn")
    whole = ViewOptions().views(reader(), model.final_nms)
    assert (whole.match_threshold, whole.keep_top_k, whole.single) == (0.5, 20, True)
    tiles = ViewOptions(tile_size=(640, 640)).views(reader(), model.final_nms)
    assert (tiles.keep_top_k, tiles.single) == (None, False)
    assert ViewOptions(match_threshold=0.7).views(reader(), model.final_nms).match_threshold == 0.7
    assert ViewOptions(merge=False).views(reader(), None) == Views(merge=False)
