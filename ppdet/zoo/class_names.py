"""Class names of the labels of a model."""

from __future__ import annotations

from typing import Optional

from ppdet.utils.errors import WeightsError
from ppdet.utils.files import expanded
from ppdet.zoo.report import some
from ppdet.zoo.table import class_lists
from ppdet.zoo.weight_file import WeightFile


def class_names_of(
    file: Optional[WeightFile], *, classes: Optional[str] = None, num_classes: Optional[int] = None
) -> tuple[str, ...]:
    """Class names by label for inference and export.

    The first of: the checkpoint's own names; `classes`; the zoo entry of a published file. A model without
    names is an error; COCO's names are never assumed.

    Args:
        file: The weights, from `read_source`, which adds what the zoo table knows; None if there are none.
        classes: The user's names, see `parse_classes`.
        num_classes: Number of classes of the model, to check against.

    Raises:
        WeightsError: If there are no names, two sources disagree, or the number differs from `num_classes`.
    """
    stored = file.metadata.class_names if file is not None else ()
    own = bool(file and file.metadata.version)  # written by ppdet: the file itself knows
    given = parse_classes(classes) if classes else ()
    if own and stored and given and stored != given:
        source = file.path if file is not None else "the model"
        raise WeightsError(
            f"{source}: the checkpoint's classes are {some(stored)}, given were {some(given)}; "
            "leave out the class names (classes, --classes)"
        )
    names = stored if own and stored else given or stored
    if not names:
        where = file.path if file is not None else "the model"
        raise WeightsError(
            f"{where}: has no class names; give them (classes, --classes): a file with one name per line, a "
            f"list a,b,c, or one of {', '.join(class_lists())}"
        )
    if num_classes is not None and len(names) != num_classes:
        raise WeightsError(f"{len(names)} class names ({some(names)}) for a model of {num_classes} classes")
    return names


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names from a data set's name (``coco``), a file with one name a line, or ``a,b,c``.

    Raises:
        WeightsError: If a file has no names, or a name occurs twice.
    """
    if text in class_lists():
        return class_lists()[text]
    path = expanded(text)
    if path.is_file():
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise WeightsError(f"{path}: not a text file in UTF-8") from None
    elif "," not in text and path.suffix:
        raise WeightsError(f"{text}: there is no such file of class names")
    else:
        lines = text.split(",")
    names = tuple(line.strip() for line in lines if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise WeightsError(f"{text}: " + (f"{twice[0]!r} occurs twice" if twice else "no class names in it"))
    return names
