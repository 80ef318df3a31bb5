"""What can be wrong with a dataset: each kind has a name that messages, tests and docs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ppdet.utils.errors import DataError

#: Kind -> what to do about it. `docs/data.md` lists them.
CURES = {
    "list-invalid": '"images", "annotations" and "categories" are lists of objects in braces',
    "no-images": "the annotation file is empty; export it again",
    "no-objects": "check the annotation file, its folder, and what was left out of it",
    "no-categories": 'list every class once in "categories": {"id": 1, "name": "cat"}',
    "category-incomplete": "every category needs an integer id and a name",
    "category-repeated": "give every class one name and one id",
    "category-unknown": "rename the class here, or add it to the training annotations",
    "class-unlisted": "add the class to label_list, or correct its name in the annotation",
    "num-classes": "set num_classes to the number of classes of the training annotations",
    "image-incomplete": "every image needs an id (an integer or text) and a file_name",
    "image-repeated": "image ids must be unique; renumber them and the image_id of their annotations",
    "image-file-repeated": "list every file once, with all of its objects; `ppdet data merge` unites them",
    "image-missing": "check image_dir, or finish the download",
    "image-corrupt": "restore or remove the file, or set skip_corrupt: true in the reader",
    "image-size": "boxes belong to an image of another size; correct width and height, or orientation",
    "train-val-overlap": "take the images out of one of the two: a score on training images says nothing",
    "annotation-repeated": "annotation ids must be unique; renumber them",
    "annotation-image": 'its image_id is not in "images"; remove it or add the image',
    "annotation-category": 'its category_id is not in "categories"; correct it or add the class',
    "area-invalid": "an area is a number of square pixels; leave it out, and it is computed",
    "flag-invalid": "iscrowd, ignore and difficult are 0 or 1",
    "box-invalid": "a box is four finite numbers: [x, y, width, height] in COCO, xmin to ymax in VOC",
    "box-inverted": "COCO boxes are [x, y, width, height] with sizes >= 0, not two corners",
    "box-corners": "most boxes leave their image: [x1, y1, x2, y2] in place of [x, y, width, height]?",
    "box-empty": "boxes without area are left out; remove or redraw them",
    "box-outside": "boxes outside of their image are left out; remove or redraw them",
    "box-clipped": "boxes are cut at the border of their image; correct them if they belong to another",
    "box-tiny": "a side of one pixel is a click or a line; remove or redraw the box",
    "box-whole": "a box of the whole image teaches little; is it meant?",
    "box-repeated": "two boxes of one class at one place are one object; remove one",
    "box-overlapping": "two objects, or one that was drawn twice? remove what is not there",
    "class-rare": "collect more, or join it with another class (`ppdet data remap`)",
    "class-alike": "join them with `ppdet data remap`",
    "image-copied": "list one of the copies; both weigh twice",
    "image-alike": "frames of a video, or one picture twice? `ppdet data split --group-by` keeps them in one",
    "image-unlike": "is it part of this dataset? nearly all others have another size or other channels",
    "image-turned": "its boxes belong to the picture as it is shown; programs that ignore the tag turn it",
    "train-val-alike": "a score on such images says little; split again with `ppdet data split --group-by`",
    "mask-missing": "the model needs masks: add a segmentation, or use a detector without masks",
    "mask-invalid": "a mask is polygons (6 or more numbers each) or run lengths of the size of its image",
}
#: Kinds that a training can live with: `ppdet data check` lists them and still succeeds.
REMARKS = frozenset(
    {
        "box-empty",
        "box-outside",
        "box-clipped",
        "box-tiny",
        "box-whole",
        "box-repeated",
        "box-overlapping",
        "class-rare",
        "class-alike",
        "image-copied",
        "image-alike",
        "image-unlike",
        "image-turned",
        "train-val-alike",
    }
)

#: Examples of each kind that a message shows.
_SHOWN = 3


@dataclass(frozen=True)
class DatasetProblem:
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
        source: Where they are.
    """

    def __init__(self, source: str, problems: Sequence[DatasetProblem], shown: int = _SHOWN) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(describe(source, problems, shown))


def describe(source: str, problems: Sequence[DatasetProblem], shown: int = _SHOWN) -> str:
    """One screen of text: each kind with its count, the first so many examples, and the cure."""
    lines = [f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    for kind, count in Counter(problem.kind for problem in problems).items():
        examples = [problem.text for problem in problems if problem.kind == kind][:shown]
        lines += [f"  {kind}: {example}" for example in examples]
        if count > len(examples):
            lines.append(f"  {kind}: and {count - len(examples)} more")
        lines.append(f"    -> {CURES[kind]}")
    return "\n".join(lines)
