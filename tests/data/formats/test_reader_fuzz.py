"""Protects readers against broken files: whatever a file has, the answer is a dataset or an error of data."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ppdet.data.formats.registry import FORMATS, read_parts, recognise, write_any
from ppdet.utils.errors import UserError
from tests.data import people

#: Files of a dataset that are changed, by the suffix of its annotations.
SUFFIXES = {".json", ".xml", ".csv", ".txt", ".yaml"}
ODD = (None, True, -1, 10**400, 1e308, "", "x", "\ud800", [], {}, [[]], [None], {"a": []}, [1, "x"], "nan")
#: Changes of each file.
ROUNDS = 15


def changed_json(content: Any, rng: random.Random) -> Any:
    """A copy in which one value is odd, is gone, or is there twice."""
    content = copy.deepcopy(content)
    places = list(_places(content))
    container, key = rng.choice(places)
    if isinstance(container, dict) and rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(ODD)
    return content


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield value, key
        yield from _places(item)


def changed_text(text: str, rng: random.Random) -> str:
    """A text in which one word is odd, or that is cut short."""
    if rng.random() < 0.2:
        return text[: rng.randrange(len(text))]
    start = rng.randrange(len(text))
    return text[:start] + rng.choice(["", "nan", "-1", '"', "<", "é", "1e999", ",", "\n"]) + text[start + 3 :]


@pytest.mark.parametrize("kind", [name for name, form in FORMATS.items() if form.write])
def test_broken_files_are_errors_of_data(tmp_path: Path, kind: str) -> None:
    people.write_coco(tmp_path / "coco", people.coco())
    parts = read_parts(tmp_path / "coco")
    row = parts[""].content["annotations"][0]
    row |= {"score": 0.5, "attributes": {"colour": "red"}, "occluded": 1}
    row["segmentation"] = [[1, 1, 9, 1, 9, 9], [20, 20, 29, 20, 29, 29]]
    runs = {"size": [64, 64], "counts": [100, 20, 64 * 64 - 120]}
    parts[""].content["annotations"][1]["segmentation"] = runs
    write_any(parts, tmp_path / "out", kind)
    rng = random.Random(kind)
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.suffix in SUFFIXES)
    for path in rng.sample(files, min(3, len(files))):
        text = path.read_text("utf-8")
        for _ in range(ROUNDS):
            if path.suffix == ".json" and rng.random() < 0.8:
                path.write_text(json.dumps(changed_json(json.loads(text), rng)))
            else:
                path.write_text(changed_text(text, rng), "utf-8")
            for action in (recognise, lambda source: read_parts(source, kind)):
                try:
                    action(tmp_path / "out")
                except UserError:
                    pass
                except Exception as error:
                    raise AssertionError(f"{path.name}: {path.read_text('utf-8')[:3000]}") from error
        path.write_text(text, "utf-8")
