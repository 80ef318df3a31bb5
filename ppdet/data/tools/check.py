"""The pre-flight check: everything that would stop a training later, found in seconds, on the CPU."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ppdet.data.datasets.base import AnnotatedDataset, Dataset, header_problem
from ppdet.data.image_files import image_size
from ppdet.data.problems import REMARKS, DatasetProblem, DatasetProblemsError
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)


def check_dataset(
    train: Dataset,
    val: Optional[Dataset] = None,
    *,
    num_classes: Optional[int] = None,
    with_masks: bool = False,
    decode: bool = False,
) -> list[DatasetProblem]:
    """Check datasets against each other, the model and the files.

    What concerns one annotation file alone is checked while a dataset is built; that has passed by now.

    Args:
        train: The training set.
        val: The validation set, built with the categories of `train`.
        num_classes: What the model is built for.
        with_masks: Whether the model needs masks.
        decode: Decode every image too, not just its header; takes minutes for large datasets.

    Returns:
        Remarks: objects that are left out or cut at the border of their image.

    Raises:
        DatasetProblemsError: With every problem found, and the remarks after them.
    """
    problems: list[DatasetProblem] = []
    names = train.categories.names
    if num_classes is not None and num_classes != len(names):
        problems.append(
            DatasetProblem(
                "num-classes",
                f"num_classes is {num_classes}, the training annotations have {len(names)}: "
                f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}",
            )
        )
    if with_masks and not train.has_masks:
        problems.append(
            DatasetProblem("mask-missing", "the training set has no masks: add gt_poly to data_fields")
        )
    both = [dataset for dataset in (train, val) if isinstance(dataset, AnnotatedDataset)]
    for dataset in both:
        problems += _image_problems(dataset, decode=decode)
    if len(both) == 2:
        problems += _shared_images(*both)
    said = [remark for dataset in both for remark in dataset.remarks]
    problems += [remark for remark in said if remark.kind not in REMARKS]
    remarks = [remark for remark in said if remark.kind in REMARKS]
    if problems:
        raise DatasetProblemsError("dataset", problems + remarks)
    logger.info(
        "%d training images%s, %d classes",
        len(train),
        f", {len(val)} validation images" if val is not None else "",
        len(names),
    )
    return remarks


def _size(path: str, decode: bool) -> Optional[tuple[int, int]]:
    if not decode:
        return image_size(path)
    image = read_image(path)
    return image.shape[0], image.shape[1]


def _image_problems(dataset: AnnotatedDataset, *, decode: bool) -> Iterator[DatasetProblem]:
    for row in range(len(dataset.packed)):
        sample = dataset[row]
        try:
            problem = header_problem(sample, _size(sample.path, decode))
        except DataError as error:
            own = sample.image_id if sample.given_id is None else sample.given_id
            problem = DatasetProblem("image-corrupt", f"image id {own}: {error}")
        if problem is not None:
            yield problem


def _shared_images(train: AnnotatedDataset, val: AnnotatedDataset) -> Iterator[DatasetProblem]:
    """Images that are in both sets: one file, through links too, or copies of equal bytes.

    Only files of equal size are read.
    """
    known: set[str] = set()
    by_size: dict[int, list[str]] = {}
    for row in range(len(train.packed)):
        path = train[row].path
        known.add(os.path.realpath(path))
        by_size.setdefault(_bytes_of(path), []).append(path)
    digests: dict[int, dict[Optional[bytes], str]] = {}
    for row in range(len(val.packed)):
        path = val[row].path
        size = _bytes_of(path)
        if os.path.realpath(path) in known:
            yield DatasetProblem("train-val-overlap", f"{path} is in the training and the validation set")
        elif size in by_size:
            if size not in digests:
                digests[size] = {_digest(other): other for other in by_size[size]}
            digest = _digest(path)
            if digest is not None and digest in digests[size]:
                text = (
                    f"{path} of the validation set is a copy of {digests[size][digest]} of the training set"
                )
                yield DatasetProblem("train-val-overlap", text)


def _bytes_of(path: str) -> int:
    """Size of a file; -1 if there is none, which is a problem of its own."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def _digest(path: str) -> Optional[bytes]:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return None
