"""Splits a dataset by images: stratified by class, with groups that stay together, or into folds.

Iterative stratification: Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data (2011),
algorithm 1, with counts of objects in place of labels that are there or not.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ppdet.utils.errors import DataError

#: How images belong together by name: those of one folder, or those whose names differ in the last number.
GROUPINGS = ("folder", "prefix")


def split_images(
    content: Mapping[str, Any],
    shares: Mapping[str, float],
    *,
    seed: int = 0,
    groups: Sequence[Hashable] = (),
) -> dict[str, dict[str, Any]]:
    """Split an annotation file by images, so that every class is shared as the images are.

    Args:
        content: The content of a COCO annotation file.
        shares: Share of the images by the name of the part; together 1.
        seed: Of what is left to chance.
        groups: The group of each image, in the order of the images; none: each image by itself. A group is
            in one part only.

    Returns:
        The content of each part.

    Raises:
        DataError: If the shares are not 1 together, or one is negative; or if there are fewer groups than
            parts with a share.
    """
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise DataError(f"proportions {given}: they must be 0 or more, and 1 together")
    images = content["images"]
    names = list(groups) or [image["id"] for image in images]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group_of = np.array([numbers[name] for name in names], int)
    parts = [name for name, share in shares.items() if share > 0]
    if len(numbers) < len(parts):
        what = "groups of images" if groups else "images"
        raise DataError(f"{len(numbers)} {what}: too few for {len(parts)} parts ({', '.join(parts)})")
    counts = _counts(content, group_of, len(numbers))
    part_of_group = stratify(counts, np.array(list(shares.values())), seed=seed)
    part_of = part_of_group[group_of]
    return {name: _part(content, part_of == number) for number, name in enumerate(shares)}


def folds(
    content: Mapping[str, Any], count: int, *, seed: int = 0, groups: Sequence[Hashable] = ()
) -> list[dict[str, dict[str, Any]]]:
    """Folds for cross-validation: ``train`` and ``val`` of each; every image is in one ``val``.

    Args and errors as of `split_images`; `count` is 2 or more.
    """
    if count < 2:
        raise DataError(f"{count} folds: at least 2")
    shares = {str(number): 1 / count for number in range(count)}
    parts = split_images(content, shares, seed=seed, groups=groups)
    rounds = []
    for val in parts.values():
        held = {image["id"] for image in val["images"]}
        keep = np.array([image["id"] not in held for image in content["images"]])
        rounds.append({"train": _part(content, keep), "val": val})
    return rounds


def group_names(content: Mapping[str, Any], by: str) -> list[Hashable]:
    """The group of each image.

    Args:
        content: The content of a COCO annotation file.
        by: ``folder``; ``prefix``, the name without its last number (one for ``cam1_0007.jpg`` and
            ``cam1_0008.jpg``); or a key of the images (``patient_id``).

    Raises:
        DataError: If an image lacks the key.
    """
    if by == "folder":
        return [str(PurePosixPath(image["file_name"]).parent) for image in content["images"]]
    if by == "prefix":
        stems = (PurePosixPath(image["file_name"]).with_suffix("").as_posix() for image in content["images"])
        return [re.sub(r"\d+(?=\D*$)", "", stem) for stem in stems]
    lacking = [image["file_name"] for image in content["images"] if not _is_group(image.get(by))]
    if lacking:
        known = ", ".join(key for key in content["images"][0] if _is_group(content["images"][0][key]))
        raise DataError(
            f"{len(lacking)} images have no {by!r}, first {lacking[0]}; group by folder, prefix, or one "
            f"of {known}"
        )
    return [image[by] for image in content["images"]]


def stratify(counts: np.ndarray, shares: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Part of each row, so that every column is shared as the rows are.

    Args:
        counts: ``[N, C]`` what each row has of each column, 0 or more.
        shares: ``[P]`` share of each part; together 1.
        seed: Of the order of equals.

    Returns:
        ``[N]`` number of the part. A part with a share has at least one row where there are enough.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(counts))
    wanted = shares[:, None] * counts.sum(axis=0)  # [P, C]
    room = shares * len(counts)
    part_of = np.full(len(counts), -1)
    left = (counts > 0).sum(axis=0)
    rows_of = [order[counts[order, column] > 0] for column in range(counts.shape[1])]

    def place(row: int, part: int) -> None:
        part_of[row] = part
        wanted[part] -= counts[row]
        room[part] -= 1
        left[counts[row] > 0] -= 1

    while (left > 0).any():
        column = int(np.argmin(np.where(left > 0, left, np.iinfo(left.dtype).max)))  # the rarest first
        for row in rows_of[column]:
            if part_of[row] < 0:
                # Who lacks most of this column; of equals, who has most room.
                best = np.flatnonzero(wanted[:, column] >= wanted[:, column].max() - 1e-9)
                place(row, int(best[np.argmax(room[best])]))
    for row in order:
        if part_of[row] < 0:
            place(row, int(np.argmax(room)))
    _fill(part_of, shares, order)
    return part_of


def _fill(part_of: np.ndarray, shares: np.ndarray, order: np.ndarray) -> None:
    """A part that is empty though it has a share gets a row of the largest."""
    for part in np.flatnonzero(shares > 0):
        sizes = np.bincount(part_of, minlength=len(shares))
        if not sizes[part] and sizes.max() > 1:
            part_of[next(row for row in order if part_of[row] == sizes.argmax())] = part


def _counts(content: Mapping[str, Any], group_of: np.ndarray, groups: int) -> np.ndarray:
    """Objects of each class in each group, ``[groups, classes]``."""
    row_of = {image["id"]: number for image, number in zip(content["images"], group_of)}
    column_of = {category["id"]: number for number, category in enumerate(content["categories"])}
    counts = np.zeros((groups, len(column_of)), int)
    for annotation in content["annotations"]:
        counts[row_of[annotation["image_id"]], column_of[annotation["category_id"]]] += 1
    return counts


def _part(content: Mapping[str, Any], keep: Iterable[bool]) -> dict[str, Any]:
    images = [image for image, kept in zip(content["images"], keep) if kept]
    ids = {image["id"] for image in images}
    rows = [row for row in content["annotations"] if row["image_id"] in ids]
    return {**content, "images": images, "annotations": rows}


def _is_group(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)
