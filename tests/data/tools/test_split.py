"""Protects splits: a partition of the images, whole groups, classes shared alike, the same for a seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.cli import main
from ppdet.data.tools.split import folds, group_names, split_images, stratify
from ppdet.utils.errors import DataError
from tests.data.support import coco_content, write_coco

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def dataset(rng: np.random.Generator, images: int, classes: int) -> dict[str, Any]:
    """Images with 0 to 4 objects of classes of which some are rare."""
    weights = 0.5 ** np.arange(classes)
    rows = []
    for image in range(images):
        for label in rng.choice(classes, rng.integers(0, 5), p=weights / weights.sum()):
            box = [1.0, 1.0, 4.0, 4.0]
            rows.append({"id": len(rows) + 1, "image_id": image, "category_id": int(label), "bbox": box})
    files = [
        {"id": i, "file_name": f"{i % 7}/cam{i % 5}_{i:04d}.jpg", "patient": i // 3} for i in range(images)
    ]
    names = [{"id": label, "name": f"class {label}"} for label in range(classes)]
    return {"images": files, "annotations": rows, "categories": names}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(3, 60),
    st.integers(1, 6),
    st.sampled_from(["", "folder", "patient"]),
)
def test_parts_are_a_partition_with_whole_groups(seed: int, images: int, classes: int, by: str) -> None:
    content = dataset(np.random.default_rng(seed), images, classes)
    groups = group_names(content, by) if by else []
    if groups and len(set(groups)) < len(SHARES):
        with pytest.raises(DataError, match="groups of images: too few"):
            split_images(content, SHARES, seed=seed, groups=groups)
        return
    parts = split_images(content, SHARES, seed=seed, groups=groups)
    again = split_images(content, SHARES, seed=seed, groups=groups)
    assert parts == again and list(parts) == list(SHARES)
    ids = [image["id"] for part in parts.values() for image in part["images"]]
    assert sorted(ids) == list(range(images))
    rows = [row["id"] for part in parts.values() for row in part["annotations"]]
    assert sorted(rows) == [row["id"] for row in content["annotations"]]
    for part in parts.values():
        inside = {image["id"] for image in part["images"]}
        assert inside and {row["image_id"] for row in part["annotations"]} <= inside
    if groups:
        part_of = {image["id"]: name for name, part in parts.items() for image in part["images"]}
        for group in set(groups):
            members = {part_of[image["id"]] for image, one in zip(content["images"], groups) if one == group}
            assert len(members) == 1


def test_every_class_is_shared_as_the_images_are() -> None:
    content = dataset(np.random.default_rng(0), 1000, 6)
    whole = Counter(row["category_id"] for row in content["annotations"])
    parts = split_images(content, SHARES)
    plain = np.random.default_rng(0).permutation(1000)[:700]
    chance = Counter(
        row["category_id"] for row in content["annotations"] if row["image_id"] in set(plain.tolist())
    )
    for name, share in SHARES.items():
        assert abs(len(parts[name]["images"]) - 1000 * share) <= 10
        counts = Counter(row["category_id"] for row in parts[name]["annotations"])
        for label, number in whole.items():
            assert abs(counts[label] - share * number) <= max(2, 0.03 * share * number), (name, label)
    # The bound means something: a split by chance breaks it.
    assert any(abs(chance[label] - 0.7 * n) > max(2, 0.03 * 0.7 * n) for label, n in whole.items())


def test_rows_of_a_rare_class_are_shared() -> None:
    counts = np.zeros((20, 2), int)
    counts[:, 0], counts[:4, 1] = 1, 1
    for seed in range(5):
        part_of = stratify(counts, np.array([0.5, 0.5]), seed=seed)
        assert sorted(np.bincount(part_of)) == [10, 10] and np.bincount(part_of[:4]).tolist() == [2, 2]


def test_folds_validate_every_image_once() -> None:
    content = dataset(np.random.default_rng(0), 53, 3)
    rounds = folds(content, 5, groups=group_names(content, "patient"))
    held = [image["id"] for one in rounds for image in one["val"]["images"]]
    assert len(rounds) == 5 and sorted(held) == list(range(53))
    for one in rounds:
        both = [{image["patient"] for image in one[part]["images"]} for part in ("train", "val")]
        assert not both[0] & both[1] and len(one["train"]["images"]) + len(one["val"]["images"]) == 53
    with pytest.raises(DataError, match="at least 2"):
        folds(content, 1)


def test_groups_by_name() -> None:
    names = [
        "a/cam1_0007.jpg",
        "a/cam1_0008.png",
        "a/cam2_0008.jpg",
        "b/cam1_0007.jpg",
        "7.jpg",
        "8.jpg",
        "x.jpg",
    ]
    content = {"images": [{"id": i, "file_name": name, "size": [1]} for i, name in enumerate(names)]}
    assert group_names(content, "folder") == ["a", "a", "a", "b", ".", ".", "."]
    prefix = group_names(content, "prefix")
    assert [prefix.index(one) for one in prefix] == [0, 0, 2, 3, 4, 4, 6]
    with pytest.raises(DataError, match=r"7 images have no 'video'.*id, file_name"):
        group_names(content, "video")


def test_shares_that_make_no_sense() -> None:
    content = dataset(np.random.default_rng(0), 2, 1)
    for shares in ({"train": 0.5, "val": 0.4}, {"train": 1.2, "val": -0.2}):
        with pytest.raises(DataError, match="1 together"):
            split_images(content, shares)
    with pytest.raises(DataError, match="2 images: too few for 3 parts"):
        split_images(content, SHARES)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path, coco_content(10))
    words = ["data", "split", str(tmp_path / "anno.json"), "--image_dir", str(tmp_path / "images")]
    out = tmp_path / "split"
    done = main(
        [*words, "--output_dir", str(out), "--shares", "train=rest,val=3", "--json", str(tmp_path / "c.json")]
    )
    assert done == 0
    shown = capsys.readouterr().out
    content = {
        part: json.loads((out / f"instances_{part}.json").read_text("utf-8")) for part in ("train", "val")
    }
    assert [len(content[part]["images"]) for part in ("train", "val")] == [7, 3]
    assert "7 images" in shown and "3 images" in shown
    counts = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert counts["parts"]["instances_val"]["images"] == 3
    assert main([*words, "--output_dir", str(tmp_path / "folds"), "--folds", "2"]) == 0
    assert (tmp_path / "folds" / "fold_1" / "instances_val.json").is_file()


@pytest.mark.parametrize(
    ("shares", "hint"),
    [
        ("train", "PART=SHARE"),
        ("train=x,val=1", "a number"),
        ("a=rest,b=rest", "one part"),
        ("a=0.5,b=0.2", "1 together"),
    ],
)
def test_wrong_shares_are_told(
    tmp_path: Path, shares: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path, coco_content(4))
    words = ["data", "split", str(tmp_path / "anno.json"), "--image_dir", str(tmp_path / "images")]
    assert main([*words, "--output_dir", str(tmp_path / "out"), "--shares", shares]) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
