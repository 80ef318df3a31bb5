"""The pre-flight check: everything that would stop a training later, found in seconds, on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Optional

from ppdet.data.datasets.base import AnnotatedDataset, Dataset
from ppdet.data.problems import DatasetProblemsError, Problem
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
) -> None:
    """Check datasets against each other, the model and the files.

    What concerns one annotation file alone is checked while a dataset is built; that has passed by now.

    Args:
        train: The training set.
        val: The validation set, built with the categories of `train`.
        num_classes: What the model is built for.
        with_masks: Whether the model needs masks.
        decode: Read every image too; takes minutes for large datasets.

    Raises:
        DatasetProblemsError: With every problem found.
    """
    problems: list[Problem] = []
    names = train.categories.names
    if num_classes is not None and num_classes != len(names):
        problems.append(
            Problem(
                "num-classes",
                f"num_classes is {num_classes}, the training annotations have {len(names)}: "
                f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}",
            )
        )
    if with_masks and not train.has_masks:
        problems.append(
            Problem("mask-missing", "the training set is read without masks: add gt_poly to data_fields")
        )
    if decode:
        for dataset in (train, val):
            if isinstance(dataset, AnnotatedDataset):
                problems += _image_problems(dataset)
    if problems:
        raise DatasetProblemsError("dataset", problems)
    logger.info(
        "%d training images%s, %d classes",
        len(train),
        f", {len(val)} validation images" if val is not None else "",
        len(names),
    )


def _image_problems(dataset: AnnotatedDataset) -> Iterator[Problem]:
    for row in range(len(dataset.packed)):
        sample = dataset[row]
        try:
            image = read_image(sample.path)
        except DataError as error:
            yield Problem("image-corrupt", f"image id {sample.image_id}: {error}")
            continue
        size = (image.shape[0], image.shape[1])
        if 0 not in sample.original_size and size != sample.original_size:
            yield Problem(
                "image-size",
                f"image id {sample.image_id}: {sample.path} is {size[0]}x{size[1]} (height x width), its "
                f"annotation says {sample.original_size[0]}x{sample.original_size[1]}",
            )
