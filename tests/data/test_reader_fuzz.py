"""Protects the one reader of COCO files: whatever a file holds, it gives a dataset or a list of problems."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.geometry import encode_runs
from ppdet.data.image_files import forget_listings
from ppdet.data.problems import DatasetProblemsError
from ppdet.metrics.coco import CocoMetric
from ppdet.utils.errors import DataError
from tests.data import people

#: Every place of the good file that a value can be put to.
Place = tuple[Any, ...]


def places(value: Any, path: Place = ()) -> list[Place]:
    """Paths to every value inside of another, containers too."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [place for key, item in pairs for place in places(item, (*path, key))]
    return [path, *inner] if path else inner


def good() -> dict[str, Any]:
    """One image and both kinds of masks are enough: more of the same finds nothing new."""
    content = people.coco()
    content["images"] = content["images"][:2]
    content["annotations"] = content["annotations"][:4]
    content["annotations"][1]["segmentation"] = {"size": [64, 64], "counts": [64, 64 * 63]}
    bitmap = np.zeros((64, 64), np.uint8)
    bitmap[10:40, 8:30] = 1
    runs = encode_runs(bitmap)
    content["annotations"][2]["segmentation"] = {"size": [64, 64], "counts": runs["counts"].decode("ascii")}
    content["annotations"][3] |= {"iscrowd": 1, "ignore": 0}
    return content


PLACES = places(good())
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, 1e-300, 1e6, 1e18, 1e308]),
)
TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["1", "1.0", "01", "nan", "1e999", "true", "a.jpg", "../a.jpg", "\ud800", "\0", "x" * 300]
    ),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.sampled_from(["id", "size", "counts", "name", "file_name"]), inner, max_size=3),
    ),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people")
    people.write_images(path / "images")
    forget_listings()
    return path


def build(folder: Path, content: Any) -> None:
    """Build the dataset with and without masks, and read all that it has."""
    (folder / "anno.json").write_text(json.dumps(content), "utf-8")
    place = {"dataset_dir": str(folder), "image_dir": "images", "anno_path": "anno.json"}
    for fields, load_crowd in ((["gt_bbox"], False), (["gt_bbox", "gt_poly"], True)):
        data = COCODataSet(**place, data_fields=fields, load_crowd=load_crowd)
        objects = 0
        for index in range(len(data)):
            sample = data[index]
            assert Path(sample.path).is_file()
            assert sample.target is not None
            objects += len(sample.target)
            assert (sample.target.boxes[:, 2:] > sample.target.boxes[:, :2]).all()
            assert set(sample.target.labels.tolist()) <= set(range(len(data.categories)))
        assert objects
        metric = CocoMetric(truth=data.ground_truth(with_masks=load_crowd))
        assert set(metric.compute()) == ({"bbox", "segm"} if load_crowd else {"bbox"})


def test_the_good_file_is_good(folder: Path) -> None:
    build(folder, good())


def check(folder: Path, content: Any) -> None:
    try:
        build(folder, content)
    except DatasetProblemsError as error:
        assert error.problems
        assert all(problem.text for problem in error.problems)
    except DataError as error:
        assert "anno.json" in str(error)


#: 2,000 and more for a thorough run, as after a change of the reader.
EXAMPLES = int(os.environ.get("PPDET_FUZZ_EXAMPLES", "150"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_replaced(folder: Path, place: Place, value: Any) -> None:
    content = copy.deepcopy(good())
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    check(folder, content)


@FUZZ
@given(places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=3))
def test_any_values_left_out(folder: Path, places: list[Place]) -> None:
    content = copy.deepcopy(good())
    for place in places:
        inner: Any = content
        try:
            for key in place[:-1]:
                inner = inner[key]
            del inner[place[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # went with another one
    check(folder, content)


@FUZZ
@given(content=st.dictionaries(st.sampled_from(["images", "annotations", "categories"]), VALUES))
def test_any_object(folder: Path, content: dict[str, Any]) -> None:
    check(folder, content)
