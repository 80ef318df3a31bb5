"""The one table of categories that training, evaluation and inference share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Categories:
    """Category names and the ids they have in the annotation file, by contiguous label.

    Label ``k`` (0..K-1) has the name ``names[k]`` and the annotation id ``ids[k]``.

    Attributes:
        names: K distinct names.
        ids: K distinct annotation ids; any integers, not necessarily contiguous.

    Raises:
        ValueError: If lengths differ, or a name or an id occurs twice.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ids):
            raise ValueError(f"{len(self.names)} category names but {len(self.ids)} ids")
        for what, values in (("name", self.names), ("id", self.ids)):
            twice = sorted({str(v) for v in values if list(values).count(v) > 1})
            if twice:
                raise ValueError(f"category {what} used more than once: {', '.join(twice)}")

    @classmethod
    def from_names(cls, names: Sequence[str]) -> Categories:
        """Categories without an annotation file; ids are 1..K, as COCO-style files count."""
        return cls(tuple(names), tuple(range(1, len(names) + 1)))

    def __len__(self) -> int:
        return len(self.names)

    def label_of_name(self, name: str) -> int:
        """Contiguous label of a name.

        Raises:
            KeyError: If there is no such name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"no category named {name!r}; there are: {', '.join(self.names)}") from None
