"""What can be wrong with a dataset: each kind has a name that messages, tests and docs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ppdet.utils.errors import DataError

#: Kind -> what to do about it. `docs/data.md` lists them.
CURES = {
    "no-images": "the annotation file is empty; export it again",
    "no-categories": 'list every class once in "categories": {"id": 1, "name": "cat"}',
    "category-repeated": "give every class one name and one id",
    "category-unknown": "rename the class here, or add it to the training annotations",
    "num-classes": "set num_classes to the number of classes of the training annotations",
    "image-incomplete": "every image needs an id and a file_name",
    "image-repeated": "image ids must be unique; renumber them and the image_id of their annotations",
    "image-missing": "check image_dir, or finish the download",
    "image-corrupt": "restore or remove the file, or set skip_corrupt: true in the reader",
    "image-size": "boxes belong to an image of another size; correct width and height, or orientation",
    "annotation-repeated": "annotation ids must be unique; renumber them",
    "annotation-image": 'its image_id is not in "images"; remove it or add the image',
    "annotation-category": 'its category_id is not in "categories"; correct it or add the class',
    "box-invalid": "a box is [x, y, width, height]: four finite numbers",
    "box-inverted": "COCO boxes are [x, y, width, height] with sizes >= 0, not two corners",
    "box-corners": "most boxes leave their image: [x1, y1, x2, y2] in place of [x, y, width, height]?",
    "mask-missing": "the model needs masks: add a segmentation, or use a detector without masks",
    "mask-invalid": "a mask is polygons (6 or more numbers each) or run lengths of the size of its image",
}

#: Examples of each kind that a message shows.
_SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: A key of `CURES`.
        text: File, id and value.
    """

    kind: str
    text: str


class DatasetProblemsError(DataError):
    """All problems found in a dataset.

    Attributes:
        problems: Every one of them, in the order of the file.
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(describe(source, problems))


def describe(source: str, problems: Sequence[Problem]) -> str:
    """One screen of text: each kind with its count, some examples, and the cure."""
    lines = [f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    for kind, count in Counter(problem.kind for problem in problems).items():
        examples = [problem.text for problem in problems if problem.kind == kind][:_SHOWN]
        lines += [f"  {kind}: {example}" for example in examples]
        if count > len(examples):
            lines.append(f"  {kind}: and {count - len(examples)} more")
        lines.append(f"    -> {CURES[kind]}")
    return "\n".join(lines)
