"""What every dataset is: images by index, not decoded yet, and one category table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ppdet.data.datasets.packed import PackedAnnotations
from ppdet.data.ground_truth import truth_of_samples
from ppdet.data.image_files import image_size, nearest_file, resolve_file
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Categories, GroundTruth, Sample
from ppdet.utils.errors import DataError

#: What 2.x lets a dataset list in `data_fields`. Only ``gt_poly`` costs anything: it loads the masks.
DATA_FIELDS = frozenset({"image", "gt_bbox", "gt_class", "gt_score", "gt_poly", "is_crowd", "difficult"})

#: Images whose headers are compared with their annotations when a training starts; all would take minutes.
_SIZES_COMPARED = 200

#: Missing files that the nearest existing name is looked up for.
_HINTS = 20


class Dataset(ABC):
    """Images by index. An item is a `Sample` without pixels; the transform `Decode` reads them."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Image `index` in 0..len-1, not decoded."""

    @property
    @abstractmethod
    def categories(self) -> Categories:
        """The category table that labels refer to."""

    @property
    def has_masks(self) -> bool:
        """Whether samples carry masks."""
        return False

    @property
    def sizes(self) -> Optional[np.ndarray]:
        """``[I, 2]`` (height, width) of every image in pixels, 0 where unknown; None if nothing is known."""
        return None

    def ground_truth(self, *, with_masks: bool = False) -> GroundTruth:
        """Everything that detections are scored against; from the samples, unless a dataset knows better.

        Args:
            with_masks: Whether masks are scored.

        Raises:
            DataError: If a sample has no target, or has no masks and needs them.
        """
        samples = (self[index] for index in range(len(self)))
        return truth_of_samples(samples, self.categories, source=type(self).__name__, with_masks=with_masks)


class AnnotatedDataset(Dataset):
    """A dataset with ground truth, held in packed arrays.

    A subclass sets `packed` and `_categories`, and the files they come from.

    Attributes:
        packed: Images and objects in use.
        image_folder: Folder that their names are in.
        remarks: What is odd about single objects of the annotation file, or about its images.
    """

    packed: PackedAnnotations
    image_folder: str
    remarks: tuple[DatasetProblem, ...] = ()
    _categories: Categories
    _repeat: int = 1

    def __len__(self) -> int:
        return len(self.packed) * self._repeat

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        row = index % len(self.packed)
        return Sample(
            image_id=int(self.packed.image_ids[row]),
            path=str(Path(self.image_folder) / self.packed.name(row)),  # a name may be absolute
            original_size=self.packed.size(row),
            target=self.packed.target(row),
            given_id=self.packed.given_id(row),
        )

    @property
    def sizes(self) -> Optional[np.ndarray]:
        """As the annotations have them."""
        return np.tile(self.packed.sizes, (self._repeat, 1))

    @property
    def categories(self) -> Categories:
        """The table that labels refer to; ids are those of the training annotations."""
        return self._categories

    def ground_truth(self, *, with_masks: bool = False) -> GroundTruth:
        """As of `Dataset`; every image once, whatever `repeat` says."""
        samples = (self[index] for index in range(len(self.packed)))
        return truth_of_samples(samples, self.categories, source=type(self).__name__, with_masks=with_masks)

    def resolve_image_files(self, source: str) -> None:
        """Find every image file, by listing folders rather than asking for each file.

        Names that mean a file in another spelling (`resolve_file`) are replaced by the file's own.

        Raises:
            DatasetProblemsError: If some files do not exist; `source` is the annotation file.
        """
        folder = Path(self.image_folder)
        names = [self.packed.name(row) for row in range(len(self.packed))]
        files = [resolve_file(folder, name) for name in names]
        missing = [row for row, file in enumerate(files) if file is None]
        problems = []
        for count, row in enumerate(missing):
            hint = nearest_file(folder, names[row]) if count < _HINTS else ""
            text = f"image id {self._shown_id(row)}: {folder / names[row]} does not exist{hint}"
            problems.append(DatasetProblem("image-missing", text))
        if problems:
            raise DatasetProblemsError(source, problems)
        found = [str(file) for file in files]
        if found != names:
            self.packed = self.packed.renamed(found)

    def require_distinct_files(self, source: str) -> None:
        """Check that no file has two ids, which would give each of them a part of its objects.

        Raises:
            DatasetProblemsError: If one has; names both.
        """
        rows: dict[str, int] = {}
        problems = []
        for row in range(len(self.packed)):
            name = self.packed.name(row)
            first = rows.setdefault(name, row)
            if first != row:
                text = f"{name} has the image ids {self._shown_id(first)} and {self._shown_id(row)}"
                problems.append(DatasetProblem("image-file-repeated", text))
        if problems:
            raise DatasetProblemsError(source, problems)

    def header_problems(self) -> tuple[list[DatasetProblem], int]:
        """What the headers of 200 evenly spread images say: no image, or another size than its annotation.

        Returns:
            The problems, and how many headers were read.
        """
        count = min(len(self.packed), _SIZES_COMPARED)
        samples = [self[int(row)] for row in np.linspace(0, len(self.packed) - 1, count).round()]
        found = [header_problem(sample, image_size(sample.path)) for sample in samples]
        return [problem for problem in found if problem is not None], count

    def _shown_id(self, row: int) -> Union[int, str]:
        given = self.packed.given_id(row)
        return int(self.packed.image_ids[row]) if given is None else given

    @property
    def has_masks(self) -> bool:
        """Whether ``gt_poly`` was among the data fields."""
        return self.packed.masks is not None


def header_problem(sample: Sample, size: Optional[tuple[int, int]]) -> Optional[DatasetProblem]:
    """The problem of an image without a header, or of an annotation that gives another size than it.

    Args:
        sample: With the size of the annotation.
        size: (height, width) of the image; None if its header cannot be read.

    Returns:
        None if they agree, or the annotation gives no size.
    """
    own = sample.image_id if sample.given_id is None else sample.given_id
    if size is None:
        return DatasetProblem("image-corrupt", f"image id {own}: the header of {sample.path} cannot be read")
    if 0 in sample.original_size or size == sample.original_size:
        return None
    return DatasetProblem(
        "image-size",
        f"image id {own}: {sample.path} is {size[0]}x{size[1]} (height x width), its annotation says "
        f"{sample.original_size[0]}x{sample.original_size[1]}",
    )


def check_data_fields(data_fields: Sequence[str]) -> None:
    """Check names in `data_fields`.

    Raises:
        DataError: If one is unknown.
    """
    unknown = sorted(set(data_fields) - DATA_FIELDS)
    if unknown:
        raise DataError(
            f"data_fields: no field {', '.join(unknown)}; there are {', '.join(sorted(DATA_FIELDS))}"
        )


def choose_images(
    counts: np.ndarray, *, allow_empty: bool, empty_ratio: float, sample_num: int
) -> np.ndarray:
    """Which images stay in the dataset.

    Args:
        counts: ``[I]`` objects per image.
        allow_empty: Keep images without objects.
        empty_ratio: Most images without objects as a share of all that stay, in [0, 1); all of them if
            outside that range. Which of them stay is drawn with a fixed seed.
        sample_num: Keep only the first so many of the images that stay; all if <= 0.

    Returns:
        Rising int64 indices.
    """
    filled, empty = np.flatnonzero(counts > 0), np.flatnonzero(counts == 0)
    if not allow_empty:
        empty = empty[:0]
    elif 0 <= empty_ratio < 1:
        most = int(len(filled) * empty_ratio / (1 - empty_ratio))
        if most < len(empty):
            empty = np.random.default_rng(0).choice(empty, most, replace=False)
    rows = np.sort(np.concatenate([filled, empty]))
    return rows[:sample_num] if sample_num > 0 else rows


def summary_of(counts: np.ndarray, chosen: np.ndarray, dropped: Mapping[str, int]) -> str:
    """What was kept and what was dropped, in words.

    Args:
        counts: ``[I]`` objects per image.
        chosen: Indices of the images that stay.
        dropped: Objects dropped, by reason.
    """
    empty, kept = int((counts == 0).sum()), int((counts[chosen] == 0).sum())
    reasons = "".join(f"; {number} {what} dropped" for what, number in dropped.items() if number)
    images = f"{len(chosen)} of {len(counts)} images"
    return f"{images} ({kept} without objects kept, {empty - kept} dropped){reasons}"


def require_objects(source: str, counts: np.ndarray, chosen: np.ndarray, dropped: Mapping[str, int]) -> None:
    """Check that a dataset has something to learn from, or to score against.

    Args:
        source: The annotation file.
        counts: ``[I]`` objects per image.
        chosen: Indices of the images that stay.
        dropped: Objects dropped, by reason.

    Raises:
        DatasetProblemsError: If no object is left.
    """
    if counts[chosen].sum():
        return
    reasons = ", ".join(f"{number} {what}" for what, number in dropped.items() if number)
    text = f"no object is left in {len(chosen)} of {len(counts)} images"
    if counts.sum():
        text += f"; the others have {counts.sum()}, sample_num keeps the first images alone"
    elif reasons:
        text += f"; left out: {reasons}"
        text += " (load_crowd: true keeps crowd regions)" if dropped.get("crowd regions") else ""
    else:
        text += "; the annotation file has none"
    raise DatasetProblemsError(source, [DatasetProblem("no-objects", text)])
