"""Whose names the labels of a model get."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from ppdet.utils.errors import WeightsError
from ppdet.zoo.report import some
from ppdet.zoo.table import class_lists
from ppdet.zoo.weight_file import WeightFile


def class_names_of(
    file: Optional[WeightFile], *, classes: Optional[str] = None, num_classes: Optional[int] = None
) -> tuple[str, ...]:
    """Class names by label for inference and export.

    In this order: the checkpoint's own names; `classes`; the zoo entry of a published file. There is no
    fourth: a model without names is an error, not COCO.

    Args:
        file: The weights, from `read_source`, which adds what the zoo table knows; None if there are none.
        classes: What the user says, see `parse_classes`.
        num_classes: Number of classes of the model, to check against.

    Raises:
        WeightsError: If nobody knows the names, if two sources disagree, or the number is another.
    """
    known = file.metadata.class_names if file is not None else ()
    own = bool(file and file.metadata.version)  # written by ppdet: the file itself knows
    given = parse_classes(classes) if classes else ()
    if own and known and given and known != given:
        raise WeightsError(
            f"{file.path if file else ''}: the checkpoint's classes are {some(known)}, --classes says "
            f"{some(given)}; leave out --classes"
        )
    names = known if own and known else given or known
    if not names:
        where = file.path if file is not None else "the model"
        raise WeightsError(
            f"{where}: nothing says what its classes are called; name them with --classes: a file with "
            f"one name a line, a list a,b,c, or one of {', '.join(class_lists())}"
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
    path = Path(text).expanduser()
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
