"""Which tensor of a file belongs to which tensor of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ppdet.utils.errors import WeightsError

#: How backbones are called in a detector's state dict.
BACKBONE = "backbone."


def match_keys(model_keys: Iterable[str], file_keys: Iterable[str]) -> dict[str, str]:
    """Map each model key that the file has a tensor for to that tensor's key.

    In this order: the same key; the longest file key that the model key ends with after a dot (a bare
    backbone file into a detector); with ``backbone.`` in front (a detector's file into a bare backbone);
    ``backbone.res5.*`` of a backbone file for the res5 head of a C4 model, which is the same stage.

    Raises:
        WeightsError: If one tensor of the file would go to two places.
    """
    model = list(model_keys)
    available = set(file_keys)
    matches: dict[str, str] = {}
    for key in model:
        found = next((name for name in _candidates(key) if name in available), None)
        if found is not None:
            matches[key] = found
    if not any(key.startswith(BACKBONE + "res5.") for key in model):
        for key in model:
            _, dot, tail = key.partition(".res5.")
            feed = f"{BACKBONE}res5.{tail}"
            if key not in matches and dot and feed in available:
                matches[key] = feed
    _check_one_to_one(matches)
    return matches


def _candidates(key: str) -> Iterable[str]:
    yield key
    rest = key
    while "." in rest:
        rest = rest.partition(".")[2]
        if "." in rest:  # a lone "weight" says nothing
            yield rest
    yield BACKBONE + key


def _check_one_to_one(matches: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for key, name in matches.items():
        if name in seen:
            raise WeightsError(
                f"the file's {name!r} fits two tensors of the model, {seen[name]!r} and {key!r}; "
                f"give the file's keys their full names"
            )
        seen[name] = key
