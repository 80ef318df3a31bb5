"""The pre-flight check: everything that would stop a training later, found in seconds, on the CPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Optional

from ppdet.data.datasets.base import AnnotatedDataset, Dataset
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


def _image_problems(dataset: AnnotatedDataset, *, decode: bool) -> Iterator[DatasetProblem]:
    for row in range(len(dataset.packed)):
        sample = dataset[row]
        name = f"image id {sample.image_id if sample.given_id is None else sample.given_id}"
        size = image_size(sample.path)
        reason = None if size is not None else f"the header of {sample.path} cannot be read"
        if decode:
            try:
                image = read_image(sample.path)
                size = (image.shape[0], image.shape[1])
            except DataError as error:
                reason = str(error)
        if reason is not None:
            yield DatasetProblem("image-corrupt", f"{name}: {reason}")
        elif size is not None and 0 not in sample.original_size and size != sample.original_size:
            yield DatasetProblem(
                "image-size",
                f"{name}: {sample.path} is {size[0]}x{size[1]} (height x width), its "
                f"annotation says {sample.original_size[0]}x{sample.original_size[1]}",
            )


def _shared_images(train: AnnotatedDataset, val: AnnotatedDataset) -> Iterator[DatasetProblem]:
    """Image files that are in both sets, through links too."""
    known = {os.path.realpath(train[row].path) for row in range(len(train.packed))}
    for row in range(len(val.packed)):
        path = val[row].path
        if os.path.realpath(path) in known:
            yield DatasetProblem("train-val-overlap", f"{path} is in the training and the validation set")
